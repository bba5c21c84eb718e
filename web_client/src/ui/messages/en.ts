/** English. Every other language has exactly these members. */
import type { StateName } from "../../events";
import type { Code } from "../../protocol/errors";
import { many } from "./numbers";

export const en = {
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
    host_unproven:
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
    disk_error:
      "The disk failed or is full. Free some space, ask the sender to resume, then try again.",
    disk_paused: "The sender’s disk takes no more. Tell the sender, then try again.",
    connection_lost: "The connection was lost and did not come back. Ask the sender to send again.",
    connection_lost_early: "The connection was lost before any file came. Try again.",
    peer_failed: "The sender’s side could not go on.",
    protocol:
      "The other side broke the protocol. What had arrived is erased. If both versions are current, report this.",
    internal:
      "This page itself failed. Please report this, and receive on the command line meanwhile.",
  } as { [code in Code]?: string },
};

export type Messages = typeof en;
