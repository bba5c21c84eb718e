/** German. */
import {
  detail,
  doctor,
  doctor_name,
  failure,
  page_check,
  page_failure,
  status,
} from "../../../../p2p/protocol/sentences/de.json";
import type { Details, Failures, Messages } from "./en";
import { checkOf } from "./check";
import { many } from "./numbers";

const failures: Failures = { ...failure, ...page_failure };

const details: Details = detail;

export const de: Messages = {
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
  quoted: (label) => `„${label}“`,
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
    fresh: "Neu: die erste Übertragung mit diesem Schlüssel",
    known: (contact, since) =>
      `Bekannt als ${contact} seit ${since}; die Ziffern wurden nie verglichen`,
    checked: (contact, since) =>
      `Bekannt als ${contact} seit ${since}; die Ziffern wurden schon verglichen`,
    changed: (contact) =>
      `WARNUNG: Sie kennen ${contact}, und dieser Name ist gleich oder sieht gleich aus, aber der Schlüssel ist ein anderer. Es kann ein neuer Computer sein oder jemand anderes. Rufen Sie an und vergleichen Sie die Ziffern, bevor Sie weitermachen.`,
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
  skipped: (what) => `Der Absender hat weggelassen: ${what}.`,
  skippedKinds: {
    links: (count) => many(count, "symbolischer Link", "symbolische Links", "de-DE"),
    special: (count) =>
      many(count, "Gerät, Pipe oder Socket", "Geräte, Pipes oder Sockets", "de-DE"),
  },
  offer: {
    hidden: (count) => `Darunter ${many(count, "verborgener Name", "verborgene Namen", "de-DE")}:`,
    renamed: (count) => `Vom Absender geändert: ${many(count, "Name", "Namen", "de-DE")}:`,
    before: (path, original) => `${path} (vorher: ${original})`,
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
    relayed: "Die Dateien kommen über ein Relay, weiter durchgehend verschlüsselt.",
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
      "Die Unterschrift des Absenders auf der Quittung kam nicht an. Die Quittung trägt nur Ihre Unterschrift.",
    save: (name, bytes) => `${name} speichern (${bytes})`,
    receipt: "Quittung speichern",
    proves:
      "Die Quittung ist von beiden Computern unterschrieben. Darin erklärt dieser Computer, dass diese Bytes angekommen sind und zurückgelesen wurden; die Unterschrift des Absenders zeigt, dass er davon weiß. Sie beweist nicht, wer davor saß, ob jemand hingesehen hat oder ob die Zeiten stimmen.",
    saving: "Wird gespeichert. Lassen Sie diese Seite offen.",
    savedAs: (name) =>
      `Gespeichert als ${name}; die Kopie in diesem Browser ist gelöscht. Die Quittung bleibt in diesem Browser.`,
    unsaved:
      "Das Speichern ist nicht gelungen. Reicht der Platz am Ziel? Nichts ist verloren: Versuchen Sie es noch einmal, oder wählen Sie einen anderen Ort.",
    savedTitle: "Gespeichert?",
    saved:
      "Dieser Browser sagt der Seite nicht, wann ein Download fertig ist. Sehen Sie nach, ob die Datei dort ist, wo Sie sie erwarten, bevor Sie die Seite verlassen. Was in diesem Browser übrig ist, kann niemand mehr lesen, sobald diese Seite geschlossen ist. Entfernen Sie es, um Platz zu schaffen.",
    remove: "Aus diesem Browser entfernen",
    removed: "Entfernt. Die Quittung bleibt in diesem Browser.",
    keeps:
      "Bis Sie speichern, liegt alles verschlüsselt in diesem Browser, und nur der ganze Link öffnet es. Was nach sieben Tagen nicht gespeichert ist, löscht diese Seite, wenn sie das nächste Mal geöffnet wird.",
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
  check: {
    title: "Diesen Computer prüfen",
    text: "Das dauert einige Sekunden. Niemand bekommt etwas geschickt.",
    copy: "Für die IT kopieren",
    back: "Zurück",
    ...checkOf({ doctor, doctor_name, page_check }),
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
  statuses: status,
  failures,
  details,
};
