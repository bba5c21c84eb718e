/**
 * English. Every other language has exactly these members.
 *
 * Failures and what became of an entry stand in the catalogue that the command line has as well; where
 * the page must say something else, its group `page_failure` does.
 */
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
} from "../../../../p2p/protocol/sentences/en.json";
import type { StateName } from "../../events";
import type { Code } from "../../protocol/errors";
import type { PurposeName } from "../../protocol/purposes";
import { checkOf } from "./check";
import { many } from "./numbers";
import { policyWords } from "./policy";

/** Every failure's sentence. */
export type Failures = { readonly [code in Code]: string };

const failures: Failures = { ...failure, ...page_failure };
const failuresSender: Failures = { ...failure, ...page_sender_failure };

/** What fills a sentence in, by its code. */
export type Details = { readonly [code in keyof typeof detail]: string };

const details: Details = detail;

/** What data is sent for. */
export type Purposes = { readonly [name in PurposeName]: string };

export const en = {
  language: "English",
  locale: "en-GB",
  name: "Handover",
  skip: "Skip to the content",
  stepsTitle: "Steps",
  steps: ["Connect", "Check", "Receive", "Save"],
  stepsSender: ["Choose", "Link", "Send", "Receipt"],
  files: (count: number) => many(count, "file", "files", "en-GB"),
  folders: (count: number) => many(count, "folder", "folders", "en-GB"),
  inFolders: (files: string, folders: string) => `${files} in ${folders}`,
  more_: "More",
  more: (count: number) => `and ${count.toLocaleString("en-GB")} more`,
  of: (part: string, whole: string) => `${part} of ${whole}`,
  quoted: (label: string) => `“${label}”`,
  rate: (text: string) => `${text}/s`,
  left: (seconds: number): string =>
    seconds < 60
      ? "less than a minute left"
      : seconds < 3600
        ? `about ${many(Math.round(seconds / 60), "minute", "minutes", "en-GB")} left`
        : `about ${many(Math.round(seconds / 3600), "hour", "hours", "en-GB")} left`,

  policy: policyWords(policy),
  welcome: {
    title: "Someone is sending you files",
    text: "They come straight from the sender’s computer to this one, encrypted from end to end.",
    label: "Your name",
    labelHint:
      "The sender sees it, and the receipt records it. For example: Radiology, reading room 2",
    passphrase: "Passphrase",
    passphraseHint: "The sender has it. Ask for it by phone, not in the channel the link came by.",
    go: "Continue",
    earlierTitle: "Carry on where you were",
    earlier: (part: string) => `${part} are on this computer already. Nothing is lost.`,
    private:
      "This browser forgets everything when the window closes (a private window). It can receive, but not go on after a reload.",
    erased:
      "What had arrived by this link is no longer in this browser: unsaved files are erased after seven days.",
    receiptKept: "The receipt is still here, under “Past transfers” on the start page.",
    unexpected: "Not expecting anything? Close this page, and nothing happens.",
    trust:
      "The program in this page comes from the server in the address bar. If you cannot trust that server, receive on the command line with",
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
    to: "To",
    key: "Key",
    nameless: "(no name)",
    fresh: "New: you have never exchanged files with this computer",
    known: (contact: string, since: string) =>
      `Known as ${contact} since ${since}; the digits were never compared`,
    checked: (contact: string, since: string) =>
      `Known as ${contact} since ${since}; the digits were compared before`,
    changed: (contact: string) =>
      `WARNING: You know ${contact}, and this name is the same or looks the same, but the key is different. It may be a new computer, or someone else. Call them and compare the digits before you go on.`,
    digits: "Check digits",
    compare: "On the phone with the sender? These digits must be the same on both sides.",
    compareSender: "On the phone with the recipient? These digits must be the same on both sides.",
  },
  waiting: {
    title: "Waiting for the sender to let you in",
    text: "The sender now sees your name and decides.",
  },
  digits: {
    title: "Are the digits the same on both sides?",
    text: "The sender asks for this check. Read the digits to each other on the phone.",
    textSender: "Call the recipient, and read the digits to each other.",
    yes: "They are the same",
    no: "They differ",
  },
  reading: {
    title: "Reading the list of files",
    text: "If the browser asks whether this page may keep data, allow it.",
  },
  purposes: purpose as Purposes,
  skipped: (what: string) => `The sender left out: ${what}.`,
  skippedKinds: {
    links: (count: number) => many(count, "symbolic link", "symbolic links", "en-GB"),
    special: (count: number) =>
      many(count, "device, pipe or socket", "devices, pipes or sockets", "en-GB"),
  },
  offer: {
    hidden: (count: number) => `Contains ${many(count, "hidden name", "hidden names", "en-GB")}:`,
    renamed: (count: number) =>
      `${many(count, "name was", "names were", "en-GB")} changed by the sender:`,
    before: (path: string, original: string) => `${path} (before: ${original})`,
    title: (what: string) => `You are offered ${what}`,
    purpose: (what: string) => `Purpose: ${what}`,
    reason: (what: string) => `Reason: ${what}`,
    list: "The files",
    saveSingle: (name: string, persisted: boolean) =>
      persisted
        ? `It stays in this browser until you save it as ${name}.`
        : `Save it as ${name} once it is here. Until then it is in this browser, which may delete it when you close it.`,
    saveArchive: (name: string, persisted: boolean) =>
      persisted
        ? `They stay in this browser until you save them, with their folders, as ${name}.`
        : `Save them, with their folders, as ${name} once they are here. Until then they are in this browser, which may delete them when you close it.`,
    tight:
      "There is space in this browser. Whether there is space for the saved copy as well, the browser does not tell: have as much again free.",
    private: "This window stores nothing on the disk (it is private, or site data is blocked).",
    small: "The browser has too little disk space for it.",
    memory: "Everything is held in memory: do not close or reload this page before you have saved.",
    none: "This browser has no space for it. You can receive into a folder of this computer, or decline and use the command line.",
    folder: "Receive into a folder…",
    folderHint:
      "In a folder the files are saved at once, and not zipped. But the transfer cannot go on once this page was closed or reloaded.",
    folderRefused:
      "The browser does not let this page write to that folder. Choose another folder, or receive without one.",
    accept: "Receive",
    decline: "Decline",
  },
  phases: { accepted: "Receiving", verifying: "Verifying", signing: "Signing the receipt" },
  phasesSender: { accepted: "Sending", verifying: "Verifying", signing: "Signing the receipt" },
  running: {
    title: "Receiving",
    stay: "Leave this page open.",
    direct: "The files come straight from computer to computer.",
    relayed: "The files come through a relay, still encrypted from end to end.",
    bottleneck: {
      disk: "The sender’s disk sets the pace.",
      limit: "The sender has set a limit to the pace.",
      network: "The network sets the pace.",
      other_side: "This computer sets the pace.",
      other_disk: "This computer’s disk sets the pace.",
      other_limit: "This computer sets the pace.",
    },
    stop: "Stop",
    stopSure: "Really stop? What has arrived is erased.",
    stopYes: "Stop and erase",
    stopNo: "Keep receiving",
    lost: "The connection was lost. Trying again; nothing is lost.",
    silent: "Nothing heard from the sender for a few seconds; still waiting.",
    paused: "This computer’s disk takes no more data. It continues as soon as it can.",
    sender_paused: "The sender’s disk gives no more data. It continues as soon as it can.",
  },
  runningSender: {
    title: "Sending",
    stay: "Leave this page open.",
    direct: "The files go straight from computer to computer.",
    relayed: "The files go through a relay, still encrypted from end to end.",
    bottleneck: {
      disk: "This computer’s disk sets the pace.",
      limit: "This computer sets the pace.",
      network: "The network sets the pace.",
      other_side: "The recipient’s computer sets the pace.",
      other_disk: "The recipient’s disk sets the pace.",
      other_limit: "The recipient has set a limit to the pace.",
    },
    stop: "Stop",
    stopSure: "Really stop? The recipient keeps nothing of what has arrived.",
    stopYes: "Stop sending",
    stopNo: "Keep sending",
    lost: "The connection was lost. Waiting for the recipient to come back by the same link; nothing is lost.",
    silent: "Nothing heard from the recipient for a few seconds; still waiting.",
    paused:
      "The recipient’s disk takes no more data. It continues as soon as it can; nothing is lost.",
    sender_paused:
      "This computer cannot read the files at the moment. It continues as soon as it can.",
  },
  home: {
    title: "Send or receive files",
    text: "Straight from computer to computer, encrypted from end to end. Nothing is stored in between, and nobody needs an account.",
    send: "Send files",
    drop: "Drop files or folders anywhere on this page, or choose them:",
    files: "Choose files",
    folder: "Choose a folder",
    private:
      "This browser forgets everything when the window closes (a private window). It can send, but not go on after a reload.",
    receive: "I have a link",
    link: "Link",
    linkHint: "Paste the whole link that the sender gave you; the part behind # is the key.",
    open: "Open",
    history: "Past transfers",
    trust:
      "The program in this page comes from the server in the address bar. If you cannot trust that server, use the command line to send and receive.",
    gone: "The link of this page is not good any more: it has expired, was withdrawn, or the page was loaded anew before the list of files was ready. To send, create another one.",
    unfinished: (what: string, peer: string) => `Not finished: ${what} to ${peer}.`,
    unopened: (what: string) => `The link for ${what} still stands; nobody has accepted yet.`,
    arrived: (part: string) => `${part} are on the recipient’s disk already.`,
    takeUp: "Continue",
    drop_: "Do not continue",
    dropSure: {
      question: "The link stops working, and the recipient cannot get the rest. Really give it up?",
      yes: "Give it up",
      no: "Keep it",
    },
  },
  choose: {
    title: (what: string) => `Send ${what}`,
    reading: "Reading the folders. You need not wait for it.",
    list: "What is sent",
    remove: (name: string) => `Leave out ${name}`,
    refused: (names: string) =>
      `Not added, for something of the same name is there already: ${names}.`,
    more: "Add files",
    moreFolder: "Add a folder",
    label: "Your name",
    labelHint:
      "The recipient sees it, and the receipt records it. For example: Radiology, Dr Weber",
    options: "More options",
    passphrase: "Passphrase",
    passphraseHint:
      "Leave it empty for none. Tell it to the recipient by phone, not by the way the link goes.",
    expires: "The link is good for",
    minutes: (count: number) => many(count, "minute", "minutes", "en-GB"),
    hours: (count: number) => many(count, "hour", "hours", "en-GB"),
    to: "Only for this contact",
    anybody: "Whoever has the link, once you let them in",
    verify: "Compare check digits by phone before anything is sent",
    purpose: "What it is for",
    noPurpose: "Not stated",
    reason: "Reason",
    reasonHint:
      "A few words that the recipient reads with the offer. An emergency needs them. The receipt records the purpose, not the reason.",
    reasonMissing: "An emergency needs a reason.",
    reasonLong: "The reason is too long.",
    go: "Create the link",
    unprotected:
      "This browser cannot protect its key by itself (no Ed25519 in WebCrypto), so it is kept in the browser’s storage.",
  },
  link: {
    making: "Creating the link",
    makingText: "This takes a moment.",
    title: "The link is ready",
    came: "Somebody opened the link",
    letIn: "The recipient has been let in",
    again: "Show the link again",
    withdraw: "Withdraw the link",
    copy: "Copy the link",
    copied: "Copied",
    notCopied: "The browser does not allow it. Select the link and copy it by hand.",
    mail: "Send by e-mail",
    subject: "Files for you",
    body: (link: string) =>
      `Open this link to receive the files. Keep the page open until all has arrived:\n\n${link}\n`,
    qr: "Show as a QR code",
    who: "Whoever has the link can ask to be let in. You decide who comes in; the first to accept is the only one.",
    contact: (contact: string) => `Only ${contact} can use this link.`,
    passphrase: "They also need the passphrase.",
    until: (time: string) =>
      `Keep this page open: the link works until ${time}, and only while it is open.`,
  },
  token: {
    title: "This server wants to know who creates a link",
    text: "Whoever runs the server lets only some people create links.",
    signIn: "Sign in",
    label: "Token",
    hint: "You get it from whoever runs the server, or after signing in.",
    refused: "The server did not accept that token. Check it, or ask for another one.",
    go: "Continue",
    stop: "Do not send",
  },
  admit: {
    title: "Let this recipient have the files?",
    text: "Are you expecting them? If in doubt, call them and compare the check digits.",
    yes: "Let them in",
    no: "Turn them away",
  },
  sent: {
    title: (what: string) => `Delivered and verified: ${what}`,
    text: "The recipient’s computer has read back every byte and says that it is what you sent.",
    incompleteTitle: (count: string) => `Finished, but ${count} did not arrive`,
    incomplete: "The rest was read back and verified. The receipt says how many are missing.",
    nothing: "Nothing arrived. The receipt says so.",
    receipt: "Save the receipt",
    more: "Send something else",
    proves:
      "The receipt is signed by both computers. In it the recipient’s computer states that these bytes arrived and were read back; your signature shows that yours knows of this. It does not prove who sat there, that anybody looked, or that the times are right.",
    what: "What the receipt proves",
    stays: "The receipt stays in this browser, under Past transfers.",
    mayGo: "Save the receipt: this browser may delete it when you close it.",
  },
  again: {
    allowTitle: "Continue where you were",
    allow: (what: string) =>
      `The browser asks once more whether this page may read ${what}. Nothing is lost; the link is the same.`,
    allowGo: "Allow and continue",
    orChoose: "If the browser does not ask, or if you refused, choose the same files again:",
    title: "Choose the same files again",
    text: (what: string) =>
      `This browser cannot open files again by itself after a reload. Choose the same as before (${what}), and it continues where it was, with the same link.`,
    chosen: (files: string, size: string) => `Chosen: ${files}, ${size}.`,
    go: "Continue",
    differ: (files: string) => `Not as you chose before: ${files}`,
    missing: "Missing:",
    changed: "Changed since then:",
    differText:
      "You can continue without these: they are left out, and the receipt says so. Or go back and choose again.",
    goOn: "Continue without these",
    back: "Choose again",
  },
  history: {
    title: "Past transfers",
    text: "Transfers whose receipts are kept in this browser. Receipts contain no file names.",
    none: "No receipts are kept here.",
    sent: (peer: string) => `Sent to ${peer}`,
    received: (peer: string) => `Received from ${peer}`,
    erase: "Erase this receipt",
    eraseSure: {
      question: "Erase this receipt? It cannot be undone. The audit log keeps its entries.",
      yes: "Erase",
      no: "Keep it",
    },
    eraseAll: "Erase all receipts",
    eraseAllSure: (count: number) => ({
      question: `Erase ${count === 1 ? "the only receipt" : `all ${many(count, "receipt", "receipts", "en-GB")}`}? It cannot be undone. The audit log keeps its entries.`,
      yes: "Erase all",
      no: "Keep them",
    }),
    audit: "Save the audit log",
    page: "Save as a page",
    pageTitle: "Receipts of transfers",
    made: (time: string) => `What the receipts in this browser say. Made ${time} (UTC).`,
    shows:
      "A receipt shows that the holders of these keys signed it. The names are what they call themselves. It does not prove who sat there, that anybody looked at the files, or that the times are right.",
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
      "The sender’s signature on the receipt did not arrive. The receipt carries your signature only.",
    save: (name: string, bytes: string) => `Save ${name} (${bytes})`,
    receipt: "Save the receipt",
    proves:
      "The receipt is signed by both computers. In it this computer states that these bytes arrived and were read back, and the sender’s signature shows that it knows of this. It does not prove who sat there, that anybody looked, or that the times are right.",
    saving: "Saving. Leave this page open.",
    savedAs: (name: string) => `Saved as ${name}, and the copy in this browser is erased.`,
    unsaved:
      "It could not be saved. Is there enough space where it should go? Nothing is lost: try again, or choose another place.",
    savedTitle: "Saved?",
    saved:
      "This browser does not tell the page when a download has ended. Look whether the file is where you expect it before you leave. What is left in this browser cannot be read any more once this page is closed. Remove it to free the space.",
    remove: "Remove from this browser",
    removed: "Removed.",
    receiptStays: "The receipt stays in this browser.",
    receiptMayGo: "Save the receipt too: this browser may delete it when you close it.",
    keepsNot:
      "Save it now. Until you do, it lies encrypted in this browser, which may delete it when you close it.",
    keeps:
      "Until you save it, it lies encrypted in this browser, and only the whole link opens it. If you do not save it within seven days, this page erases it when it is next opened.",
  },
  receipt: {
    show: "What the receipt says and proves",
    transfer: "Transfer",
    sender: "Sender",
    recipient: "Recipient",
    delivered: "Delivered",
    entries: "files and folders",
    root: "Hash of all",
    purpose: "Purpose",
    digits: "Digits",
    compared: "compared by both",
    notCompared: "not compared",
    offered: "Offered (sender’s clock)",
    verified: "Verified (recipient’s clock)",
    signed: "Signed by",
    byBoth: "recipient and sender",
    byOne: "the recipient only",
    byOneAlone: "The sender has not signed this receipt.",
  },
  ended: {
    again: "Try again",
    commandLine: "Or receive on the command line, which has no such limits:",
    home: "Back to the start",
    /** Where the detail of a failure says more than its code. */
    because: {
      data_cleared:
        "This page can no longer read what it had stored. Perhaps someone deleted the site data, or the browser is set to do so. Ask the sender to send again.",
      enospc: "The disk is full. Free some space, ask the sender to resume, then try again.",
      private_window:
        "This window stores nothing on the disk, and this is too large for its memory. Open the link in a normal window, with site data allowed.",
      declined_here: "You declined. Nothing was transferred.",
    },
  },
  elsewhere: {
    title: "This link is open in another tab",
    text: "Go on there, or close that tab and reload this page.",
  },
  check: {
    title: "Check this computer",
    text: "This takes a few seconds. Nothing is sent to anybody.",
    copy: "Copy for IT",
    back: "Back",
    ...checkOf({ doctor, doctor_name, page_check }),
  },
  unsupported: {
    title: "This browser cannot transfer files",
    text: (missing: string) =>
      `It lacks what a transfer needs (${missing}). Use a current Chrome, Edge or Firefox, or the command line:`,
  },
  states: {
    opened: "Connecting",
    connected: "Waiting for the sender to let you in",
    offered: "Reading the list of files",
    accepted: "Receiving",
    lost: "Connection lost; trying again",
    verifying: "All here; verifying",
    signing: "Verified; signing the receipt",
  } as { readonly [state in StateName]?: string },
  statesSender: {
    waiting: "Waiting for the recipient to open the link.",
    server_lost: "The server cannot be reached; trying again.",
    opened: "Somebody opened the link; connecting.",
    admitted: "The recipient has been let in.",
    offered: "Waiting for the recipient to accept.",
    accepted: "Sending",
    lost: "Connection lost; waiting for the recipient",
    resumed: "The recipient is back.",
    verifying: "All sent; the recipient is verifying.",
    signing: "Verified; signing the receipt",
  } as { readonly [state in StateName]?: string },
  warnings: {
    ...warning,
    unreadable: "cannot be read, and is listed as missing in the receipt",
  },
  percent: (value: number) => `${value} percent`,
  statuses: status,
  failures,
  failuresSender,
  details,
};

export type Messages = typeof en;
