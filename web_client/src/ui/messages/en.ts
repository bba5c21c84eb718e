/** Everything a person reads, in every language. No other file holds a sentence. */
import type { StateName } from "../../events";
import type { Code } from "../../protocol/errors";

const many = (count: number, one: string, more: string, locale: string): string =>
  `${count.toLocaleString(locale)} ${count === 1 ? one : more}`;

/** Sizes in decimal units, as download dialogs and the command line show them. */
export function size(bytes: number, locale: string): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit++) bytes /= 1000;
  const digits = unit === 0 ? 0 : bytes < 100 ? 1 : 0;
  return `${format(locale, digits).format(bytes)}\u00a0${units[unit]}`;
}

const formats = new Map<string, Intl.NumberFormat>(); // making one takes longer than a row of a list

function format(locale: string, maximumFractionDigits: number): Intl.NumberFormat {
  const key = `${locale} ${maximumFractionDigits}`;
  const known = formats.get(key) ?? new Intl.NumberFormat(locale, { maximumFractionDigits });
  formats.set(key, known);
  return known;
}

const en = {
  language: "English",
  locale: "en-GB",
  name: "Handover",
  skip: "Skip to the content",
  stepsTitle: "Steps",
  steps: ["Connect", "Check", "Receive", "Save"],
  files: (count: number) => many(count, "file", "files", "en-GB"),
  folders: (count: number) => many(count, "folder", "folders", "en-GB"),
  inFolders: (files: string, folders: string) => `${files} in ${folders}`,
  more: (count: number) => `and ${count.toLocaleString("en-GB")} more`,
  of: (part: string, whole: string) => `${part} of ${whole}`,
  rate: (text: string) => `${text}/s`,
  left: (seconds: number): string =>
    seconds < 60
      ? "less than a minute left"
      : seconds < 3600
        ? `about ${many(Math.round(seconds / 60), "minute", "minutes", "en-GB")} left`
        : `about ${many(Math.round(seconds / 3600), "hour", "hours", "en-GB")} left`,

  welcome: {
    title: "Someone is sending you files",
    text: "They come straight from the sender’s computer to this one, encrypted from end to end. Nothing has been used up by opening this page.",
    label: "Your name",
    labelHint:
      "The sender sees it, and it stands in the receipt. For example: Radiology, reading room 2",
    passphrase: "Passphrase",
    passphraseHint: "The sender has it. Ask for it by phone, not by the way the link came.",
    go: "Continue",
    earlierTitle: "Carry on where you were",
    earlier: (part: string) => `${part} are on this computer already. Nothing is lost.`,
    private:
      "This browser forgets everything when the window closes (a private window). It can receive, but not go on after a reload.",
    unexpected: "Not expecting anything? Close this page, and nothing happens.",
    trust:
      "The program in this page comes from the server in the address bar. If you must not trust that server, receive on the command line with",
  },
  connecting: {
    title: "Connecting to the sender",
    text: "This takes a few seconds.",
    slow: "It is taking longer than usual. These are the common causes:",
    causes: [
      "The sender closed the program, or their computer sleeps.",
      "A firewall on one side blocks UDP.",
      "The two networks are kept apart, and no path leads from one to the other.",
    ],
  },
  peer: {
    from: "From",
    key: "Key",
    nameless: "(no name)",
    fresh: "Not checked yet: the first transfer from this key",
    known: "Known from earlier",
    checked: "Known, and the digits were compared before",
    changed:
      "Warning: you know this name with a different key. It may be a new computer, or someone else. Call them and compare the digits before you go on.",
    digits: "Check digits",
    compare: "On the phone with the sender? These digits must be the same on both sides.",
  },
  waiting: {
    title: "Waiting for the sender to let you in",
    text: "The sender now sees your name and decides.",
  },
  digits: {
    title: "Are the digits the same on both sides?",
    text: "The sender asks for this check. Read the digits to each other on the phone.",
    yes: "They are the same",
    no: "They differ",
  },
  reading: {
    title: "Reading the list of files",
    text: "If the browser asks whether this page may keep data, allow it.",
  },
  offer: {
    title: (what: string) => `You are offered ${what}`,
    list: "Show the list",
    saveSingle: (name: string) => `It will be kept in this browser until you save it as ${name}.`,
    saveArchive: (name: string) =>
      `They will be kept in this browser until you save them as ${name}, folders and all.`,
    fits: "There is room for it.",
    tight:
      "There is room in this browser. Whether there is room for the saved copy as well, the browser does not tell: have as much again free.",
    memory:
      "This window keeps nothing on the disk (a private window), so it is held in memory. Do not close or reload the page before you have saved.",
    none: "This browser has no room for it. You can receive into a folder of this computer, or decline and use the command line.",
    folder: "Receive into a folder…",
    folderHint:
      "Straight into a folder, it needs the room only once and files stay files. But it cannot go on after this page was closed or reloaded.",
    accept: "Receive",
    decline: "Decline",
  },
  phases: { receiving: "Receiving", verifying: "Verifying", signing: "Signing the receipt" },
  running: {
    title: "Receiving",
    stay: "Leave this page open.",
    direct: "The files come straight from computer to computer.",
    relayed: "They come through a relay, still encrypted from end to end.",
    bottleneck: {
      disk: "The sender’s disk sets the pace.",
      limit: "The sender has set a limit to the pace.",
      network: "The network sets the pace.",
      other_side: "This computer sets the pace.",
    },
    stop: "Stop",
    stopSure: "Really stop? What has arrived is erased.",
    stopYes: "Stop and erase",
    stopNo: "Go on receiving",
    lost: "The connection was lost. Trying again; nothing is lost.",
    silent: "Nothing heard from the sender for a few seconds; still waiting.",
  },
  done: {
    title: (files: string) => `Delivered and verified: ${files}`,
    text: "Every byte was read back from this browser’s store and is what the sender sent.",
    textFolder: (name: string) =>
      `The files are in the folder “${name}”. Every byte was read back from there and is what the sender sent.`,
    incompleteTitle: (count: string) => `Finished, but ${count} did not arrive`,
    incomplete: "The rest was read back and verified. The receipt says how many are missing.",
    nothing: "Nothing arrived. The receipt says so.",
    unconfirmed:
      "The sender’s signature on the receipt did not come. The files are complete; the receipt carries your signature only.",
    save: (name: string, bytes: string) => `Save ${name} (${bytes})`,
    receipt: "Save the receipt",
    proves:
      "The receipt is signed by both computers. It proves that software holding these two keys sent and received exactly these bytes, and when; not who sat there, nor that anybody looked.",
    savedTitle: "Saved?",
    saved:
      "Look whether the file is where you expect it. Then remove the copy from this browser to free the space.",
    remove: "Remove from this browser",
    removed: "Removed. The receipt stays in this browser.",
    keeps: "Not saved within seven days, it is erased.",
    status: {
      1: "changed while it was sent",
      2: "could not be read by the sender",
      16: "could not be written here",
      17: "could not be put in its place",
    } as { [status: number]: string },
  },
  receipt: {
    show: "What the receipt says",
    transfer: "Transfer",
    sender: "Sender",
    recipient: "Recipient",
    delivered: "Delivered",
    root: "Hash of all",
    digits: "Digits",
    compared: "compared by both",
    notCompared: "not compared",
    offered: "Offered (sender’s clock)",
    verified: "Verified (this clock)",
    signed: "Signed by",
    byBoth: "recipient and sender",
    byOne: "the recipient only",
  },
  ended: {
    again: "Try again",
    commandLine: "Or receive on the command line, which has no such limits:",
  },
  elsewhere: {
    title: "This link is open in another tab",
    text: "Go on there, or close that tab and reload this page.",
  },
  noLink: {
    title: "Here you receive files that someone sends you",
    text: "Open the whole link that the sender gave you; the part behind # is the key.",
  },
  unsupported: {
    title: "This browser cannot receive",
    text: "It lacks what a direct transfer needs (WebRTC and WebAssembly, over https). Use a current Chrome, Edge or Firefox, or receive on the command line:",
  },
  states: {
    connecting: "Connecting",
    waiting: "Waiting for the sender to let you in",
    reading: "Reading the list of files",
    receiving: "Receiving",
    lost: "Connection lost; trying again",
    verifying: "All here; verifying",
    signing: "Verified; signing the receipt",
  } as { [state in StateName]: string },
  percent: (value: number) => `${value} percent`,
  failures: {
    link_invalid: "This is not a whole Handover link. Copy the whole link and open it again.",
    link_unsupported:
      "This link was made by a newer version. Ask for the page of that version, or use a current command line.",
    server_unreachable:
      "The server of this page cannot be reached. Check the network, then try again.",
    server_refused: "The server refused the attempt. Try again in a minute.",
    not_found:
      "Nobody is waiting behind this link: it is finished, expired or mistyped. Ask the sender for a new one.",
    busy: "Someone else is using this link right now. Ask the sender, then try again in a minute.",
    expired: "The link has expired. Ask the sender for a new one.",
    no_connection:
      "The two computers found no path to each other. Usual causes: the sender closed the program, a firewall blocks UDP, or the two networks are kept apart.",
    sender_unproven:
      "The other side is not the sender who made this link. Nothing was revealed. Tell the sender, and ask for a new link by another way.",
    passphrase_wrong:
      "The passphrase is wrong. Nothing was revealed. Ask the sender for it and try again.",
    disarmed: "The link was disabled after three failed attempts. Ask the sender for a new one.",
    not_for_you: "This transfer is meant for someone else’s key. Ask the sender.",
    claimed: "This link is in use by another recipient. Ask the sender.",
    contact_changed: "The sender knows your name with another key and refused. Call them.",
    digits_rejected:
      "The digits were said to differ: someone may be in between. Nothing was transferred. Use another network, or another way to pass on the link.",
    version_unsupported:
      "The two versions do not understand each other. The older one needs an update.",
    declined: "Declined. Nothing was transferred.",
    cancelled: "Stopped on this side. What had arrived is erased.",
    peer_cancelled: "The sender stopped the transfer.",
    no_space:
      "There is not enough room for this in the browser. Make room on this computer, or use a normal window instead of a private one.",
    not_writable: "The browser’s store cannot be written to.",
    disk_error: "The disk failed or is full. Free some space, then ask the sender to send again.",
    disk_paused: "The sender’s disk takes no more. Tell the sender, then try again.",
    connection_lost: "The connection was lost and did not come back. Ask the sender to send again.",
    connection_lost_early: "The connection was lost before any file came. Try again.",
    peer_failed: "The sender’s side could not go on.",
    protocol:
      "The other side broke the protocol; nothing was damaged. If both versions are current, report this.",
    internal:
      "This page itself failed. Please report this, and receive on the command line meanwhile.",
  } as { [code in Code]?: string },
};

export type Messages = typeof en;

const de: Messages = {
  language: "Deutsch",
  locale: "de-DE",
  name: "Handover",
  skip: "Zum Inhalt springen",
  stepsTitle: "Schritte",
  steps: ["Verbinden", "Prüfen", "Empfangen", "Speichern"],
  files: (count) => many(count, "Datei", "Dateien", "de-DE"),
  folders: (count) => many(count, "Ordner", "Ordnern", "de-DE"),
  inFolders: (files, folders) => `${files} in ${folders}`,
  more: (count) => `und ${count.toLocaleString("de-DE")} weitere`,
  of: (part, whole) => `${part} von ${whole}`,
  rate: (text) => `${text}/s`,
  left: (seconds) =>
    seconds < 60
      ? "noch weniger als eine Minute"
      : seconds < 3600
        ? `noch etwa ${many(Math.round(seconds / 60), "Minute", "Minuten", "de-DE")}`
        : `noch etwa ${many(Math.round(seconds / 3600), "Stunde", "Stunden", "de-DE")}`,

  welcome: {
    title: "Jemand sendet Ihnen Dateien",
    text: "Sie kommen direkt vom Computer des Absenders auf diesen, durchgehend verschlüsselt. Durch das Öffnen dieser Seite ist noch nichts geschehen.",
    label: "Ihr Name",
    labelHint:
      "Der Absender sieht ihn, und er steht in der Quittung. Zum Beispiel: Radiologie, Befundraum 2",
    passphrase: "Passwort",
    passphraseHint:
      "Der Absender kennt es. Fragen Sie am Telefon danach, nicht auf dem Weg, auf dem der Link kam.",
    go: "Weiter",
    earlierTitle: "Weiter, wo Sie waren",
    earlier: (part) => `${part} sind schon auf diesem Computer. Nichts ist verloren.`,
    private:
      "Dieser Browser vergisst alles, wenn das Fenster geschlossen wird (ein privates Fenster). Er kann empfangen, aber nach einem Neuladen nicht weitermachen.",
    unexpected: "Sie erwarten nichts? Schließen Sie die Seite, dann geschieht nichts.",
    trust:
      "Das Programm dieser Seite kommt vom Server in der Adresszeile. Wenn Sie diesem Server nicht trauen dürfen, empfangen Sie auf der Kommandozeile mit",
  },
  connecting: {
    title: "Verbindung zum Absender",
    text: "Das dauert ein paar Sekunden.",
    slow: "Es dauert länger als üblich. Die häufigsten Gründe:",
    causes: [
      "Der Absender hat das Programm geschlossen, oder sein Computer schläft.",
      "Eine Firewall auf einer Seite sperrt UDP.",
      "Die beiden Netze sind getrennt, und kein Weg führt vom einen ins andere.",
    ],
  },
  peer: {
    from: "Von",
    key: "Schlüssel",
    nameless: "(ohne Namen)",
    fresh: "Noch nicht geprüft: die erste Übertragung mit diesem Schlüssel",
    known: "Von früher bekannt",
    checked: "Bekannt, und die Ziffern wurden schon verglichen",
    changed:
      "Warnung: Sie kennen diesen Namen mit einem anderen Schlüssel. Es kann ein neuer Computer sein oder jemand anderes. Rufen Sie an und vergleichen Sie die Ziffern, bevor Sie weitermachen.",
    digits: "Prüfziffern",
    compare:
      "Sie telefonieren mit dem Absender? Diese Ziffern müssen auf beiden Seiten gleich sein.",
  },
  waiting: {
    title: "Warten, bis der Absender Sie einlässt",
    text: "Der Absender sieht jetzt Ihren Namen und entscheidet.",
  },
  digits: {
    title: "Sind die Ziffern auf beiden Seiten gleich?",
    text: "Der Absender verlangt diese Prüfung. Lesen Sie sich die Ziffern am Telefon vor.",
    yes: "Sie sind gleich",
    no: "Sie sind verschieden",
  },
  reading: {
    title: "Die Liste der Dateien wird gelesen",
    text: "Wenn der Browser fragt, ob diese Seite Daten behalten darf, erlauben Sie es.",
  },
  offer: {
    title: (what) => `Ihnen angeboten: ${what}`,
    list: "Liste zeigen",
    saveSingle: (name) => `Sie bleibt in diesem Browser, bis Sie sie als ${name} speichern.`,
    saveArchive: (name) =>
      `Sie bleiben in diesem Browser, bis Sie sie als ${name} speichern, mit allen Ordnern.`,
    fits: "Der Platz reicht.",
    tight:
      "Im Browser ist Platz. Ob auch für die gespeicherte Kopie Platz ist, sagt der Browser nicht: Halten Sie noch einmal so viel frei.",
    memory:
      "Dieses Fenster legt nichts auf die Platte (ein privates Fenster), also liegt alles im Arbeitsspeicher. Schließen oder laden Sie die Seite nicht neu, bevor Sie gespeichert haben.",
    none: "Dieser Browser hat dafür keinen Platz. Sie können in einen Ordner dieses Computers empfangen, oder ablehnen und die Kommandozeile nehmen.",
    folder: "In einen Ordner empfangen…",
    folderHint:
      "Direkt in einen Ordner braucht es den Platz nur einmal, und Dateien bleiben Dateien. Aber es kann nicht weitergehen, wenn diese Seite geschlossen oder neu geladen wurde.",
    accept: "Empfangen",
    decline: "Ablehnen",
  },
  phases: { receiving: "Empfangen", verifying: "Prüfen", signing: "Quittung unterschreiben" },
  running: {
    title: "Empfang läuft",
    stay: "Lassen Sie diese Seite offen.",
    direct: "Die Dateien kommen direkt von Computer zu Computer.",
    relayed: "Sie kommen über eine Zwischenstation, weiter durchgehend verschlüsselt.",
    bottleneck: {
      disk: "Das Tempo bestimmt der Datenträger des Absenders.",
      limit: "Der Absender hat das Tempo begrenzt.",
      network: "Das Tempo bestimmt das Netz.",
      other_side: "Das Tempo bestimmt dieser Computer.",
    },
    stop: "Abbrechen",
    stopSure: "Wirklich abbrechen? Was angekommen ist, wird gelöscht.",
    stopYes: "Abbrechen und löschen",
    stopNo: "Weiter empfangen",
    lost: "Die Verbindung ist abgebrochen. Neuer Versuch; nichts ist verloren.",
    silent: "Seit einigen Sekunden ist vom Absender nichts zu hören; es wird weiter gewartet.",
  },
  done: {
    title: (files) => `Angekommen und geprüft: ${files}`,
    text: "Jedes Byte wurde aus dem Speicher dieses Browsers zurückgelesen und ist das, was der Absender gesendet hat.",
    textFolder: (name) =>
      `Die Dateien sind im Ordner „${name}“. Jedes Byte wurde von dort zurückgelesen und ist das, was der Absender gesendet hat.`,
    incompleteTitle: (count) => `Fertig, aber nicht angekommen: ${count}`,
    incomplete:
      "Der Rest wurde zurückgelesen und geprüft. In der Quittung steht, wie viele fehlen.",
    nothing: "Nichts ist angekommen. So steht es in der Quittung.",
    unconfirmed:
      "Die Unterschrift des Absenders auf der Quittung kam nicht. Die Dateien sind vollständig; die Quittung trägt nur Ihre Unterschrift.",
    save: (name, bytes) => `${name} speichern (${bytes})`,
    receipt: "Quittung speichern",
    proves:
      "Die Quittung ist von beiden Computern unterschrieben. Sie beweist, dass Programme mit diesen beiden Schlüsseln genau diese Bytes gesendet und empfangen haben, und wann; nicht, wer davor saß oder ob jemand hingesehen hat.",
    savedTitle: "Gespeichert?",
    saved:
      "Sehen Sie nach, ob die Datei dort ist, wo Sie sie erwarten. Entfernen Sie dann die Kopie aus diesem Browser, um Platz zu schaffen.",
    remove: "Aus diesem Browser entfernen",
    removed: "Entfernt. Die Quittung bleibt in diesem Browser.",
    keeps: "Was nach sieben Tagen nicht gespeichert ist, wird gelöscht.",
    status: {
      1: "hat sich beim Senden geändert",
      2: "konnte der Absender nicht lesen",
      16: "konnte hier nicht geschrieben werden",
      17: "konnte nicht an seinen Platz",
    },
  },
  receipt: {
    show: "Was in der Quittung steht",
    transfer: "Übertragung",
    sender: "Absender",
    recipient: "Empfänger",
    delivered: "Angekommen",
    root: "Prüfsumme",
    digits: "Ziffern",
    compared: "von beiden verglichen",
    notCompared: "nicht verglichen",
    offered: "Angeboten (Uhr des Absenders)",
    verified: "Geprüft (diese Uhr)",
    signed: "Unterschrieben von",
    byBoth: "Empfänger und Absender",
    byOne: "nur dem Empfänger",
  },
  ended: {
    again: "Noch einmal versuchen",
    commandLine: "Oder empfangen Sie auf der Kommandozeile, die diese Grenzen nicht hat:",
  },
  elsewhere: {
    title: "Dieser Link ist in einem anderen Tab offen",
    text: "Machen Sie dort weiter, oder schließen Sie jenen Tab und laden Sie diese Seite neu.",
  },
  noLink: {
    title: "Hier empfangen Sie Dateien, die Ihnen jemand sendet",
    text: "Öffnen Sie den ganzen Link, den der Absender Ihnen gegeben hat; der Teil hinter # ist der Schlüssel.",
  },
  unsupported: {
    title: "Dieser Browser kann nicht empfangen",
    text: "Ihm fehlt, was eine direkte Übertragung braucht (WebRTC und WebAssembly, über https). Nehmen Sie ein aktuelles Chrome, Edge oder Firefox, oder empfangen Sie auf der Kommandozeile:",
  },
  states: {
    connecting: "Verbindung wird aufgebaut",
    waiting: "Warten, bis der Absender Sie einlässt",
    reading: "Die Liste der Dateien wird gelesen",
    receiving: "Empfang läuft",
    lost: "Verbindung abgebrochen; neuer Versuch",
    verifying: "Alles da; wird geprüft",
    signing: "Geprüft; die Quittung wird unterschrieben",
  },
  percent: (value) => `${value} Prozent`,
  failures: {
    link_invalid:
      "Das ist kein ganzer Handover-Link. Kopieren Sie den ganzen Link und öffnen Sie ihn noch einmal.",
    link_unsupported:
      "Dieser Link stammt von einer neueren Version. Fragen Sie nach deren Seite, oder nehmen Sie eine aktuelle Kommandozeile.",
    server_unreachable:
      "Der Server dieser Seite ist nicht erreichbar. Prüfen Sie das Netz, dann versuchen Sie es noch einmal.",
    server_refused:
      "Der Server hat den Versuch abgelehnt. Versuchen Sie es in einer Minute noch einmal.",
    not_found:
      "Hinter diesem Link wartet niemand: Er ist benutzt, abgelaufen oder falsch abgeschrieben. Bitten Sie den Absender um einen neuen.",
    busy: "Diesen Link benutzt gerade jemand anderes. Fragen Sie den Absender, dann versuchen Sie es in einer Minute noch einmal.",
    expired: "Der Link ist abgelaufen. Bitten Sie den Absender um einen neuen.",
    no_connection:
      "Die beiden Computer fanden keinen Weg zueinander. Häufige Gründe: Der Absender hat das Programm geschlossen, eine Firewall sperrt UDP, oder die beiden Netze sind getrennt.",
    sender_unproven:
      "Die andere Seite ist nicht der Absender, der diesen Link gemacht hat. Nichts wurde preisgegeben. Sagen Sie es dem Absender, und bitten Sie auf anderem Weg um einen neuen Link.",
    passphrase_wrong:
      "Das Passwort ist falsch. Nichts wurde preisgegeben. Fragen Sie den Absender danach und versuchen Sie es noch einmal.",
    disarmed:
      "Der Link wurde nach drei Fehlversuchen gesperrt. Bitten Sie den Absender um einen neuen.",
    not_for_you:
      "Diese Übertragung ist für einen anderen Schlüssel bestimmt. Fragen Sie den Absender.",
    claimed: "Diesen Link benutzt ein anderer Empfänger. Fragen Sie den Absender.",
    contact_changed:
      "Der Absender kennt Ihren Namen mit einem anderen Schlüssel und hat abgelehnt. Rufen Sie an.",
    digits_rejected:
      "Die Ziffern wurden als verschieden gemeldet: Vielleicht ist jemand dazwischen. Nichts wurde übertragen. Nehmen Sie ein anderes Netz oder einen anderen Weg für den Link.",
    version_unsupported:
      "Die beiden Versionen verstehen einander nicht. Die ältere braucht eine Aktualisierung.",
    declined: "Abgelehnt. Nichts wurde übertragen.",
    cancelled: "Auf dieser Seite abgebrochen. Was angekommen war, ist gelöscht.",
    peer_cancelled: "Der Absender hat die Übertragung abgebrochen.",
    no_space:
      "Im Browser ist dafür nicht genug Platz. Schaffen Sie Platz auf diesem Computer, oder nehmen Sie ein gewöhnliches statt eines privaten Fensters.",
    not_writable: "In den Speicher des Browsers kann nicht geschrieben werden.",
    disk_error:
      "Die Platte ist voll oder fehlerhaft. Schaffen Sie Platz, dann bitten Sie den Absender, noch einmal zu senden.",
    disk_paused:
      "Die Festplatte der absendenden Seite nimmt nichts mehr an. Sagen Sie dort Bescheid und versuchen Sie es dann noch einmal.",
    connection_lost:
      "Die Verbindung ist abgebrochen und kam nicht wieder. Bitten Sie den Absender, noch einmal zu senden.",
    connection_lost_early:
      "Die Verbindung ist abgebrochen, bevor eine Datei kam. Versuchen Sie es noch einmal.",
    peer_failed: "Die Seite des Absenders konnte nicht weitermachen.",
    protocol:
      "Die andere Seite hat das Protokoll verletzt; nichts wurde beschädigt. Wenn beide Versionen aktuell sind, melden Sie es bitte.",
    internal:
      "Diese Seite selbst ist gescheitert. Bitte melden Sie es, und empfangen Sie solange auf der Kommandozeile.",
  },
};

export const LANGUAGES = { en, de };
export type Language = keyof typeof LANGUAGES;

/** The language of the browser, where it is one of ours; English otherwise. */
export function preferred(languages: readonly string[]): Language {
  for (const tag of languages) {
    const found = tag.slice(0, 2).toLowerCase();
    if (found in LANGUAGES) return found as Language;
  }
  return "en";
}
