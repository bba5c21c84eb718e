/** German. */
import {
  detail,
  doctor,
  doctor_name,
  failure,
  page_check,
  page_failure,
  page_sender_failure,
  policy,
  purpose,
  status,
  warning,
} from "../../../../p2p/protocol/sentences/de.json";
import type { Details, Failures, Messages, Purposes } from "./en";
import { checkOf } from "./check";
import { many } from "./numbers";
import { policyWords } from "./policy";

const failures: Failures = { ...failure, ...page_failure };
const failuresSender: Failures = { ...failure, ...page_sender_failure };

const details: Details = detail;

export const de: Messages = {
  language: "Deutsch",
  locale: "de-DE",
  name: "Handover",
  skip: "Zum Inhalt springen",
  stepsTitle: "Schritte",
  steps: ["Verbinden", "Prüfen", "Empfangen", "Speichern"],
  stepsSender: ["Auswählen", "Link", "Senden", "Quittung"],
  files: (count) => many(count, "Datei", "Dateien", "de-DE"),
  folders: (count) => many(count, "Ordner", "Ordnern", "de-DE"),
  inFolders: (files, folders) => `${files} in ${folders}`,
  more_: "Mehr",
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

  policy: policyWords(policy),
  welcome: {
    title: "Jemand sendet Ihnen Dateien",
    text: "Sie kommen direkt vom Computer des Absenders auf diesen, durchgehend verschlüsselt.",
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
    erased:
      "Was durch diesen Link angekommen war, ist nicht mehr in diesem Browser: Nicht gespeicherte Dateien werden nach sieben Tagen gelöscht.",
    receiptKept: "Die Quittung ist noch da, auf der Startseite unter „Frühere Übertragungen“.",
    unexpected: "Sie erwarten nichts? Schließen Sie die Seite, dann geschieht nichts.",
    trust:
      "Das Programm dieser Seite kommt vom Server in der Adresszeile. Wenn Sie diesem Server nicht trauen dürfen, empfangen Sie auf der Befehlszeile mit",
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
    to: "An",
    key: "Schlüssel",
    nameless: "(ohne Namen)",
    fresh: "Neu: Mit diesem Computer haben Sie noch nie Dateien ausgetauscht",
    known: (contact, since) =>
      `Bekannt als ${contact} seit ${since}; die Ziffern wurden nie verglichen`,
    checked: (contact, since) =>
      `Bekannt als ${contact} seit ${since}; die Ziffern wurden schon verglichen`,
    changed: (contact) =>
      `WARNUNG: Sie kennen ${contact}, und dieser Name ist gleich oder sieht gleich aus, aber der Schlüssel ist ein anderer. Es kann ein neuer Computer sein oder jemand anderes. Rufen Sie an und vergleichen Sie die Ziffern, bevor Sie weitermachen.`,
    digits: "Prüfziffern",
    compare:
      "Sie telefonieren mit dem Absender? Diese Ziffern müssen auf beiden Seiten gleich sein.",
    compareSender:
      "Sie telefonieren mit dem Empfänger? Diese Ziffern müssen auf beiden Seiten gleich sein.",
  },
  waiting: {
    title: "Warten, bis der Absender Sie einlässt",
    text: "Der Absender sieht jetzt Ihren Namen und entscheidet.",
  },
  digits: {
    title: "Sind die Ziffern auf beiden Seiten gleich?",
    text: "Der Absender verlangt diese Prüfung. Lesen Sie sich die Ziffern am Telefon vor.",
    textSender: "Rufen Sie den Empfänger an, und vergleichen Sie die Ziffern.",
    yes: "Sie sind gleich",
    no: "Sie sind verschieden",
  },
  reading: {
    title: "Die Liste der Dateien wird gelesen",
    text: "Wenn der Browser fragt, ob diese Seite Daten behalten darf, erlauben Sie es.",
  },
  purposes: purpose as Purposes,
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
    purpose: (what) => `Zweck: ${what}`,
    reason: (what) => `Begründung: ${what}`,
    list: "Die Dateien",
    saveSingle: (name, persisted) =>
      persisted
        ? `Sie bleibt in diesem Browser, bis Sie sie als ${name} speichern.`
        : `Speichern Sie sie als ${name}, sobald sie da ist. Bis dahin liegt sie in diesem Browser, und der löscht sie vielleicht, wenn Sie ihn schließen.`,
    saveArchive: (name, persisted) =>
      persisted
        ? `Sie bleiben in diesem Browser, bis Sie sie als ${name} speichern, mit allen Ordnern.`
        : `Speichern Sie sie mit allen Ordnern als ${name}, sobald sie da sind. Bis dahin liegen sie in diesem Browser, und der löscht sie vielleicht, wenn Sie ihn schließen.`,
    tight:
      "Im Browser ist Platz. Ob auch für die gespeicherte Kopie Platz ist, sagt der Browser nicht: Halten Sie noch einmal so viel frei.",
    private:
      "Dieses Fenster speichert nichts auf dem Datenträger (es ist privat, oder Websitedaten sind gesperrt).",
    small: "Der Browser hat dafür zu wenig Platz auf dem Datenträger.",
    memory:
      "Alles bleibt im Arbeitsspeicher: Schließen Sie diese Seite nicht und laden Sie sie nicht neu, bevor Sie gespeichert haben.",
    none: "Dieser Browser hat dafür keinen Platz. Sie können in einen Ordner dieses Computers empfangen, oder ablehnen und die Befehlszeile nehmen.",
    folder: "In einen Ordner empfangen…",
    folderHint:
      "In einem Ordner sind die Dateien sofort gespeichert, ohne ZIP. Aber die Übertragung kann nicht weitergehen, wenn diese Seite geschlossen oder neu geladen wurde.",
    folderRefused:
      "Der Browser lässt diese Seite nicht in diesen Ordner schreiben. Wählen Sie einen anderen, oder empfangen Sie ohne Ordner.",
    accept: "Empfangen",
    decline: "Ablehnen",
  },
  phases: { accepted: "Empfangen", verifying: "Prüfen", signing: "Quittung unterschreiben" },
  phasesSender: { accepted: "Senden", verifying: "Prüfen", signing: "Quittung unterschreiben" },
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
      other_disk: "Das Tempo bestimmt der Datenträger dieses Computers.",
      other_limit: "Das Tempo bestimmt dieser Computer.",
    },
    stop: "Abbrechen",
    stopSure: "Wirklich abbrechen? Was angekommen ist, wird gelöscht.",
    stopYes: "Abbrechen und löschen",
    stopNo: "Weiter empfangen",
    lost: "Die Verbindung ist abgebrochen. Neuer Versuch; nichts ist verloren.",
    silent: "Seit einigen Sekunden ist vom Absender nichts zu hören; es wird weiter gewartet.",
    paused:
      "Der Datenträger dieses Computers nimmt keine Daten mehr an. Es geht weiter, sobald er kann.",
    sender_paused:
      "Der Datenträger des Absenders liefert keine Daten mehr. Es geht weiter, sobald er kann.",
  },
  runningSender: {
    title: "Die Dateien werden gesendet",
    stay: "Lassen Sie diese Seite offen.",
    direct: "Die Dateien gehen direkt von Computer zu Computer.",
    relayed: "Die Dateien gehen über ein Relay, weiter durchgehend verschlüsselt.",
    bottleneck: {
      disk: "Das Tempo bestimmt der Datenträger dieses Computers.",
      limit: "Das Tempo bestimmt dieser Computer.",
      network: "Das Tempo bestimmt das Netz.",
      other_side: "Das Tempo bestimmt der Computer des Empfängers.",
      other_disk: "Das Tempo bestimmt der Datenträger des Empfängers.",
      other_limit: "Der Empfänger hat das Tempo begrenzt.",
    },
    stop: "Abbrechen",
    stopSure: "Wirklich abbrechen? Der Empfänger behält nichts von dem, was angekommen ist.",
    stopYes: "Senden abbrechen",
    stopNo: "Weiter senden",
    lost: "Die Verbindung ist abgebrochen. Der Empfänger kann über denselben Link zurückkommen; nichts ist verloren.",
    silent: "Seit einigen Sekunden ist vom Empfänger nichts zu hören; es wird weiter gewartet.",
    paused:
      "Der Datenträger des Empfängers nimmt keine Daten mehr an. Es geht weiter, sobald er kann; nichts ist verloren.",
    sender_paused:
      "Dieser Computer kann die Dateien gerade nicht lesen. Es geht weiter, sobald er kann.",
  },
  home: {
    title: "Dateien senden oder empfangen",
    text: "Direkt von Computer zu Computer, durchgehend verschlüsselt. Dazwischen wird nichts gespeichert, und niemand braucht ein Konto.",
    send: "Dateien senden",
    drop: "Ziehen Sie Dateien oder Ordner auf diese Seite, oder wählen Sie sie aus:",
    files: "Dateien auswählen",
    folder: "Ordner auswählen",
    private:
      "Dieser Browser vergisst alles, wenn das Fenster geschlossen wird (ein privates Fenster). Er kann senden, aber nach einem Neuladen nicht weitermachen.",
    receive: "Ich habe einen Link",
    link: "Der Link",
    linkHint:
      "Fügen Sie den ganzen Link ein, den der Absender Ihnen gegeben hat; der Teil hinter # ist der Schlüssel.",
    open: "Öffnen",
    history: "Frühere Übertragungen",
    trust:
      "Das Programm dieser Seite kommt vom Server in der Adresszeile. Wer diesem Server nicht trauen darf, sendet und empfängt auf der Befehlszeile.",
    gone: "Der Link dieser Seite gilt nicht mehr: Er ist abgelaufen, wurde zurückgezogen, oder die Seite wurde neu geladen, bevor die Liste der Dateien fertig war. Erstellen Sie zum Senden einen neuen.",
    unfinished: (what, peer) => `Nicht fertig: ${what} an ${peer}.`,
    unopened: (what) => `Der Link für ${what} gilt noch; niemand hat bisher angenommen.`,
    arrived: (part) => `${part} sind schon auf dem Datenträger des Empfängers.`,
    takeUp: "Weitermachen",
    drop_: "Nicht weitermachen",
    dropSure: {
      question:
        "Der Link gilt dann nicht mehr, und der Empfänger bekommt den Rest nicht. Wirklich aufgeben?",
      yes: "Aufgeben",
      no: "Behalten",
    },
  },
  choose: {
    title: (what) => `${what} senden`,
    reading: "Die Ordner werden gelesen. Sie müssen nicht darauf warten.",
    list: "Was gesendet wird",
    remove: (name) => `${name} weglassen`,
    refused: (names) =>
      `Nicht hinzugefügt, weil es etwas mit demselben Namen schon gibt: ${names}.`,
    more: "Dateien hinzufügen",
    moreFolder: "Ordner hinzufügen",
    label: "Ihr Name",
    labelHint:
      "Der Empfänger sieht ihn, und er steht in der Quittung. Zum Beispiel: Radiologie, Dr. Weber",
    options: "Weitere Optionen",
    passphrase: "Passwort",
    passphraseHint:
      "Lassen Sie es leer, wenn Sie keines brauchen. Sagen Sie es dem Empfänger am Telefon, nicht auf dem Weg, den der Link nimmt.",
    expires: "Der Link gilt",
    minutes: (count) => many(count, "Minute", "Minuten", "de-DE"),
    hours: (count) => many(count, "Stunde", "Stunden", "de-DE"),
    to: "Nur für diesen Kontakt",
    anybody: "Wer den Link hat, sobald Sie ihn einlassen",
    verify: "Prüfziffern am Telefon vergleichen, bevor etwas gesendet wird",
    purpose: "Zweck",
    noPurpose: "Nicht angegeben",
    reason: "Begründung",
    reasonHint:
      "Wenige Worte, die der Empfänger mit dem Angebot liest. Ein Notfall braucht sie. In der Quittung steht der Zweck, nicht die Begründung.",
    reasonMissing: "Ein Notfall braucht eine Begründung.",
    reasonLong: "Die Begründung ist zu lang.",
    go: "Link erstellen",
    unprotected:
      "Dieser Browser kann seinen Schlüssel nicht selbst schützen (kein Ed25519 in WebCrypto); er liegt im Speicher des Browsers.",
  },
  link: {
    making: "Der Link wird erstellt",
    makingText: "Das dauert einen Moment.",
    title: "Der Link ist fertig",
    came: "Jemand hat den Link geöffnet",
    letIn: "Der Empfänger ist eingelassen",
    again: "Link noch einmal zeigen",
    withdraw: "Link zurückziehen",
    copy: "Link kopieren",
    copied: "Kopiert",
    notCopied:
      "Der Browser erlaubt es nicht. Markieren Sie den Link und kopieren Sie ihn von Hand.",
    mail: "Per E-Mail senden",
    subject: "Dateien für Sie",
    body: (link) =>
      `Öffnen Sie diesen Link, um die Dateien zu empfangen. Lassen Sie die Seite offen, bis alles angekommen ist:\n\n${link}\n`,
    qr: "Als QR-Code zeigen",
    who: "Wer den Link hat, kann um Einlass bitten. Sie entscheiden, wer sie bekommt; wer zuerst annimmt, bleibt der Einzige.",
    contact: (contact) => `Nur ${contact} kann diesen Link verwenden.`,
    passphrase: "Dazu ist das Passwort nötig.",
    until: (time) =>
      `Lassen Sie diese Seite offen: Der Link gilt bis ${time}, und nur solange sie offen ist.`,
  },
  token: {
    title: "Dieser Server will wissen, wer einen Link erstellt",
    text: "Der Betreiber des Servers lässt nur bestimmte Personen Links erstellen.",
    signIn: "Anmelden",
    label: "Ihr Token",
    hint: "Sie bekommen es vom Betreiber des Servers oder nach dem Anmelden.",
    refused:
      "Der Server hat dieses Token nicht angenommen. Prüfen Sie es, oder lassen Sie sich ein anderes geben.",
    go: "Weiter",
    stop: "Nicht senden",
  },
  admit: {
    title: "Soll dieser Empfänger die Dateien bekommen?",
    text: "Erwarten Sie ihn? Im Zweifel rufen Sie an und vergleichen die Prüfziffern.",
    yes: "Zulassen",
    no: "Abweisen",
  },
  sent: {
    title: (what) => `Angekommen und geprüft: ${what}`,
    text: "Der Computer des Empfängers hat jedes Byte zurückgelesen und erklärt, dass es das ist, was Sie gesendet haben.",
    incompleteTitle: (count) => `Fertig, aber nicht angekommen: ${count}`,
    incomplete:
      "Der Rest wurde zurückgelesen und geprüft. In der Quittung steht, wie viele fehlen.",
    nothing: "Nichts ist angekommen. So steht es in der Quittung.",
    receipt: "Quittung speichern",
    more: "Etwas anderes senden",
    proves:
      "Die Quittung ist von beiden Computern unterschrieben. Darin erklärt der Computer des Empfängers, dass diese Bytes angekommen sind und zurückgelesen wurden; Ihre Unterschrift zeigt, dass Ihr Computer davon weiß. Sie beweist nicht, wer davor saß, ob jemand hingesehen hat oder ob die Zeiten stimmen.",
    what: "Was die Quittung beweist",
    stays: "Die Quittung bleibt in diesem Browser, unter „Frühere Übertragungen“.",
    mayGo:
      "Speichern Sie die Quittung: Dieser Browser löscht sie vielleicht, wenn Sie ihn schließen.",
  },
  again: {
    allowTitle: "Weiter, wo Sie waren",
    allow: (what) =>
      `Der Browser fragt noch einmal, ob diese Seite ${what} lesen darf. Nichts ist verloren; der Link ist derselbe.`,
    allowGo: "Erlauben und weitermachen",
    orChoose:
      "Wenn der Browser nicht fragt oder Sie abgelehnt haben, wählen Sie dieselben Dateien noch einmal:",
    title: "Wählen Sie dieselben Dateien noch einmal aus",
    text: (what) =>
      `Nach einem Neuladen kann dieser Browser Dateien nicht von selbst wieder öffnen. Wählen Sie dasselbe aus wie zuvor (${what}), dann geht es über denselben Link dort weiter, wo es war.`,
    chosen: (files, size) => `Ausgewählt: ${files}, ${size}.`,
    go: "Weitermachen",
    differ: (files) => `Anders als zuvor: ${files}`,
    missing: "Es fehlen:",
    changed: "Seither geändert:",
    differText:
      "Sie können ohne diese weitermachen: Sie werden weggelassen, und so steht es in der Quittung. Oder gehen Sie zurück und wählen Sie noch einmal aus.",
    goOn: "Ohne diese weitermachen",
    back: "Noch einmal auswählen",
  },
  history: {
    title: "Frühere Übertragungen",
    text: "Übertragungen, deren Quittungen dieser Browser aufbewahrt. Quittungen enthalten keine Dateinamen.",
    none: "Hier ist keine Quittung aufbewahrt.",
    sent: (peer) => `Gesendet an ${peer}`,
    received: (peer) => `Empfangen von ${peer}`,
    erase: "Diese Quittung löschen",
    eraseSure: {
      question:
        "Diese Quittung löschen? Das lässt sich nicht rückgängig machen. Das Audit-Log behält seine Einträge.",
      yes: "Löschen",
      no: "Behalten",
    },
    eraseAll: "Alle Quittungen löschen",
    eraseAllSure: (count) => ({
      question:
        count === 1
          ? "Die einzige Quittung löschen? Das lässt sich nicht rückgängig machen. Das Audit-Log behält seine Einträge."
          : `Alle ${count.toLocaleString("de-DE")} Quittungen löschen? Das lässt sich nicht rückgängig machen. Das Audit-Log behält seine Einträge.`,
      yes: "Alle löschen",
      no: "Behalten",
    }),
    audit: "Audit-Log speichern",
    page: "Als Seite speichern",
    pageTitle: "Quittungen von Übertragungen",
    made: (time) => `Was die Quittungen in diesem Browser sagen. Erstellt ${time} (UTC).`,
    shows:
      "Eine Quittung zeigt, dass die Inhaber dieser Schlüssel sie unterschrieben haben. Die Namen sind die, die sie sich selbst geben. Sie beweist nicht, wer davor saß, dass jemand die Dateien angesehen hat oder dass die Zeiten stimmen.",
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
    savedAs: (name) => `Gespeichert als ${name}; die Kopie in diesem Browser ist gelöscht.`,
    unsaved:
      "Das Speichern ist nicht gelungen. Reicht der Platz am Ziel? Nichts ist verloren: Versuchen Sie es noch einmal, oder wählen Sie einen anderen Ort.",
    savedTitle: "Gespeichert?",
    saved:
      "Dieser Browser sagt der Seite nicht, wann ein Download fertig ist. Sehen Sie nach, ob die Datei dort ist, wo Sie sie erwarten, bevor Sie die Seite verlassen. Was in diesem Browser übrig ist, kann niemand mehr lesen, sobald diese Seite geschlossen ist. Entfernen Sie es, um Platz zu schaffen.",
    remove: "Aus diesem Browser entfernen",
    removed: "Entfernt.",
    receiptStays: "Die Quittung bleibt in diesem Browser.",
    receiptMayGo:
      "Speichern Sie auch die Quittung: Dieser Browser löscht sie vielleicht, wenn Sie ihn schließen.",
    keepsNot:
      "Speichern Sie jetzt. Bis dahin liegt alles verschlüsselt in diesem Browser, und der löscht es vielleicht, wenn Sie ihn schließen.",
    keeps:
      "Bis Sie speichern, liegt alles verschlüsselt in diesem Browser, und nur der ganze Link öffnet es. Was nach sieben Tagen nicht gespeichert ist, löscht diese Seite, wenn sie das nächste Mal geöffnet wird.",
  },
  receipt: {
    show: "Was in der Quittung steht und was sie beweist",
    transfer: "Übertragung",
    sender: "Absender",
    recipient: "Empfänger",
    delivered: "Angekommen",
    entries: "Dateien und Ordner",
    root: "Prüfsumme",
    purpose: "Zweck",
    digits: "Ziffern",
    compared: "von beiden verglichen",
    notCompared: "nicht verglichen",
    offered: "Angeboten (Uhr des Absenders)",
    verified: "Geprüft (Uhr des Empfängers)",
    signed: "Unterschrieben von",
    byBoth: "Empfänger und Absender",
    byOne: "nur dem Empfänger",
    byOneAlone: "Der Absender hat diese Quittung nicht unterschrieben.",
  },
  ended: {
    again: "Noch einmal versuchen",
    commandLine: "Oder empfangen Sie auf der Befehlszeile, die diese Grenzen nicht hat:",
    home: "Zurück zum Anfang",
    because: {
      data_cleared:
        "Diese Seite kann nicht mehr lesen, was sie gespeichert hatte. Vielleicht hat jemand die Websitedaten gelöscht, oder der Browser ist so eingestellt. Bitten Sie den Absender, noch einmal zu senden.",
      enospc:
        "Der Datenträger ist voll. Schaffen Sie Platz, bitten Sie den Absender, die Übertragung fortzusetzen, und versuchen Sie es dann noch einmal.",
      private_window:
        "Dieses Fenster speichert nichts auf dem Datenträger, und für den Arbeitsspeicher ist das zu groß. Öffnen Sie den Link in einem normalen Fenster, das Websitedaten speichern darf.",
      declined_here: "Sie haben abgelehnt. Nichts wurde übertragen.",
    },
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
  unsupported: {
    title: "Dieser Browser kann keine Dateien übertragen",
    text: (missing) =>
      `Ihm fehlt, was eine Übertragung braucht (${missing}). Nehmen Sie ein aktuelles Chrome, Edge oder Firefox, oder die Befehlszeile:`,
  },
  states: {
    opened: "Verbindung wird aufgebaut",
    connected: "Warten, bis der Absender Sie einlässt",
    offered: "Die Liste der Dateien wird gelesen",
    accepted: "Empfang läuft",
    lost: "Verbindung abgebrochen; neuer Versuch",
    verifying: "Alles da; wird geprüft",
    signing: "Geprüft; die Quittung wird unterschrieben",
  },
  statesSender: {
    waiting: "Warten, bis der Empfänger den Link öffnet.",
    server_lost: "Der Server ist nicht erreichbar; neuer Versuch.",
    opened: "Jemand hat den Link geöffnet; Verbindung wird aufgebaut.",
    admitted: "Der Empfänger ist eingelassen.",
    offered: "Warten, bis der Empfänger annimmt.",
    accepted: "Die Dateien werden gesendet",
    lost: "Verbindung abgebrochen; der Empfänger wird erwartet",
    resumed: "Der Empfänger ist wieder da.",
    verifying: "Alles gesendet; der Empfänger prüft.",
    signing: "Geprüft; die Quittung wird unterschrieben",
  },
  warnings: {
    ...warning,
    unreadable: "lässt sich nicht lesen und steht in der Quittung als fehlend",
  },
  percent: (value) => `${value} Prozent`,
  statuses: status,
  failures,
  failuresSender,
  details,
};
