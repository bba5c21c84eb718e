/**
 * What the worker and the page say to each other: past-tense events one way, commands the other. The
 * worker has the keys, the disk and the bytes; the page has the person and the peer connections.
 */
import type { state } from "../../p2p/protocol/sentences/en.json";
import type { Code, Ending, Values } from "./protocol/errors";
import type { IceServer } from "./protocol/ice_server";
import type { Skipped, StatusName } from "./protocol/manifest";
import type { Policy } from "./protocol/policy";
import type { PurposeCode, PurposeName } from "./protocol/purposes";
import type { Bottleneck } from "./protocol/session";

/** What carries a connection. A page makes none by TLS over TCP. */
export type PathKind = "direct" | "https" | "relayed";

// --- of what is to be sent

/**
 * Something that a person chose to send: a file or a folder with its path, `/` between the names, or a
 * handle of either kind, which the platform lets us keep.
 */
export type Picked =
  | { readonly path: string; readonly file: File }
  | { readonly path: string; readonly directory: true }
  | { readonly path: string; readonly unread: true } // it is there; with `/` at its end: some of what is in it
  | { readonly handle: FileSystemHandle };

// --- of a transfer

/** What is going on now, by the names that the command line has as well. */
export type StateName = keyof typeof state;

/** What is said of something that is not the end. */
export type WarningCode = Code | "unreadable" | "renamed" | "guesses_left";

/** What holds a transfer up: this side, the other one, or the network. */
export type HeldUpBy = Bottleneck | "other_disk" | "other_limit";

/** Who is at the other end, proven. */
export interface PeerMet {
  readonly event: "peer";
  readonly label: string; // what it calls itself, safe to show between quotation marks
  readonly fingerprint: string;
  readonly keyId: string; // as the audit log names it
  readonly contact: string; // the name it is known by, or ""
  readonly since: string; // when it was first met, RFC 3339, or ""
  readonly verified: boolean; // check digits were compared with it before
  readonly changed: string; // the contact whose name this looks like, with another key, or ""
  readonly digits: string;
}

/** What is offered. `entries` are the first ones, in order, safe to show. */
export interface Offer {
  readonly event: "offer";
  readonly files: number;
  readonly folders: number;
  readonly size: number;
  readonly entries: readonly (readonly [path: string, size: number, directory: boolean])[];
  readonly name: string; // what it will be saved under
  readonly single: boolean; // one file, saved as itself; else an archive
  readonly where: "disk" | "memory" | "none"; // what the browser has for it
  readonly small: boolean; // in memory, since its disk is too small for it
  readonly tight: boolean; // whether space for the saved copy could not be established
  readonly hidden: number; // names that begin with a dot, each with all that is in it
  readonly hiddenNames: readonly string[]; // the first paths of these
  readonly skipped: Skipped; // what the sender leaves out on purpose
  readonly purpose: PurposeName | null; // what the sender says it is for
  readonly reason: string; // why it is sent, safe to show, or ""
  readonly renamed: number; // names that could not be kept
  readonly renamedNames: readonly (readonly [path: string, original: string])[]; // the first of these
}

/** True bytes on this computer's disk for good (`durable`), and read back from it. */
export interface Progress {
  readonly event: "progress";
  readonly durable: number;
  readonly verified: number;
  readonly total: number;
  readonly rate: number; // bytes a second, over the last few seconds
  readonly path: PathKind; // what carries it now
  readonly bottleneck: HeldUpBy; // by what, as the sender sees it
}

/** Files that lie verified in this browser and wait to be saved, or in the folder that was chosen. */
export interface Delivered {
  readonly name: string; // to be saved under, or of the folder it is in
  readonly where: "browser" | "folder";
  readonly size: number; // of what is saved, in bytes
  readonly extents: readonly (readonly [offset: number, length: number])[]; // of the store, where it lies in one
  readonly entries: number; // that arrived, folders among them
  readonly files: number; // likewise
  readonly failures: number; // entries that did not; the first ones are listed
  readonly failed: readonly (readonly [path: string, status: StatusName])[];
  readonly transferId: string; // base64url; names the receipt
  readonly confirmed: boolean; // whether the sender has signed it too
}

/** What the receipt says, checked, for people. Hashes are hex. */
export interface ReceiptSummary {
  readonly transferId: string; // base64url
  readonly id: string; // the same as people see it: hex
  readonly sender: string;
  readonly senderKey: string;
  readonly recipient: string;
  readonly recipientKey: string;
  readonly entries: number;
  readonly deliveredEntries: number;
  readonly deliveredBytes: number;
  readonly root: string;
  readonly purpose: PurposeName | null;
  readonly digitsConfirmed: boolean;
  readonly offered: string; // by the sender's clock
  readonly verified: string; // by this one
  readonly confirmed: boolean; // signed by both
}

/** What was chosen to be sent, as far as it is looked through. */
export interface Selected {
  readonly event: "selected";
  readonly files: number;
  readonly folders: number;
  readonly size: number;
  readonly names: readonly { readonly name: string; readonly number: number }[]; // the first top ones, safe to show
  readonly count: number; // of top names
  readonly busy: boolean; // folders are still being read
  readonly refused: readonly string[]; // names that were chosen already, safe to show
}

/** What the server's operator asks of transfers; `operator` is safe to show. */
export interface PolicyTold extends Policy {
  readonly event: "policy";
}

/** The link stands. */
export interface LinkMade {
  readonly event: "link";
  readonly transferId: string; // base64url
  readonly link: string;
  readonly expiresAt: number; // milliseconds since 1970
  readonly passphrase: boolean; // whether it takes one
  readonly contact: string; // the only one it is for, or ""
  readonly qr: string; // the modules, row by row, "1" being dark; rows separated by "\n"
}

/** Something was left out or done otherwise; not the end. `path` and `detail` are safe to show. */
export interface Warned {
  readonly event: "warning";
  readonly code: WarningCode;
  readonly path?: string;
  readonly detail: string;
}

/** Files that were sent from here, with a receipt of both. */
export interface Sent {
  readonly event: "sent";
  readonly ending: Ending;
  readonly code: Code | "";
  readonly detail: string;
  readonly files: number; // that arrived
  readonly size: number; // of these, in bytes
  readonly failures: number; // entries that did not; the first ones are listed
  readonly failed: readonly (readonly [path: string, status: StatusName])[];
  readonly transferId: string; // base64url; names the receipt
}

/** A transfer that a reload or a crash has cut, to be taken up. */
export interface Unfinished {
  readonly transferId: string; // base64url
  readonly files: number;
  readonly size: number;
  readonly durable: number; // bytes on the recipient's disk
  readonly peer: string; // the recipient that was let in, or "", safe to show
  readonly expiresAt: number; // milliseconds since 1970
}

export interface Ended {
  readonly event: "ended";
  readonly ending: Ending;
  readonly code: Code | "";
  readonly detail: string;
  readonly values?: Values; // that fill the detail in
  readonly delivered: Delivered | null;
}

// --- of a check of this computer

/** What stands between, by how STUN servers see this computer (RFC 4787). */
export type Nat = "none" | "cone" | "symmetric" | "unknown" | "blocked" | "unasked";

/** What a TURN server did: milliseconds to a relayed address, and bytes a second; 0: not known. */
export interface Relayed {
  readonly took: number;
  readonly rate: number;
}

/** How two peers met at the server, which this page both was. */
export interface Met {
  readonly event: "met";
  readonly servers: readonly IceServer[];
  readonly took: number; // milliseconds
  readonly code: Code | ""; // of the failure
  readonly detail: string;
}

/** One thing that was tried. `code` names its sentence, which `values` fill in. */
export interface Finding {
  readonly name:
    "server" | "room" | "storage" | "clock" | "candidates" | "outer_address" | "nat" | "relay";
  readonly verdict: "works" | "fails" | "note";
  readonly code: string;
  readonly values: { readonly [name: string]: string | number };
}

/** How a transfer would connect (as of `handover doctor`); "none": not at all. */
export type CheckPath = "direct" | "either" | "relayed" | "some" | "network" | "none";

/** Where a page stays, the server of a link, and what it says there. */
export interface Staying {
  readonly url: string;
  readonly protocol: string;
  readonly message: string;
}

export type Event =
  | {
      readonly event: "ready";
      readonly passphrase: boolean;
      readonly label: string;
      readonly earlier: { readonly durable: number; readonly total: number } | null;
      readonly delivered: Delivered | null;
      readonly erased: boolean; // what was delivered is not there any more, ...
      readonly receipt: boolean; // ... but its receipt is
      readonly lasting: boolean;
    }
  | { readonly event: "persisted"; readonly granted: boolean } // the browser will keep what it has
  | { readonly event: "elsewhere" } // open in another tab
  | { readonly event: "gone" } // what was to be taken up is not there any more
  | { readonly event: "state"; readonly state: StateName }
  | { readonly event: "silence"; readonly silent: boolean } // nothing was heard for a while
  | { readonly event: "slow" } // no connection after a few seconds
  | {
      readonly event: "question";
      readonly kind: Question;
      readonly number: number; // that its answer names: whoever it was about may be gone by then
      readonly signIn?: string;
    }
  | PeerMet
  | Offer
  | Progress
  | Ended
  | {
      // a page for somebody who has no link yet
      readonly event: "home";
      readonly label: string;
      readonly lasting: boolean;
      readonly protected: boolean; // whether the platform keeps the key, which no script can take out
      readonly contacts: readonly { readonly name: string; readonly fingerprint: string }[];
      readonly unfinished: readonly Unfinished[];
    }
  | Selected
  | PolicyTold
  | LinkMade
  | Warned
  | Sent
  | {
      // of what is taken up: what is not as it was
      readonly event: "differences";
      readonly missing: readonly string[];
      readonly changed: readonly string[];
    }
  | {
      // the same files are to be chosen again, or reading them by these handles to be allowed
      readonly event: "choose_again";
      readonly transferId: string;
      readonly files: number;
      readonly size: number;
      readonly handles: readonly FileSystemHandle[];
    }
  | { readonly event: "history"; readonly entries: readonly HistoryEntry[] }
  | { readonly event: "audit"; readonly document: Uint8Array }
  | { readonly event: "socket"; readonly call: SocketCall }
  | { readonly event: "rtc"; readonly call: RtcCall }
  | { readonly event: "https"; readonly call: HttpsCall }
  | Met
  | { readonly event: "room_for"; readonly free: number | null } // bytes on the disk; null: none for pages
  | { readonly event: "stay"; readonly at: Staying } // the page keeps the link's server there ...
  | { readonly event: "leave" } // ... until there is nothing to save any more
  | { readonly event: "persist" }
  | { readonly event: "receipt"; readonly name: string; readonly document: Uint8Array }
  | { readonly event: "receipted"; readonly receipt: ReceiptSummary }
  | { readonly event: "file"; readonly name: string; readonly file: Blob }
  | { readonly event: "saving"; readonly done: number; readonly total: number } // bytes
  | { readonly event: "saved"; readonly name: string } // for certain, and erased here
  | { readonly event: "unsaved" } // it could not be; nothing is lost
  | { readonly event: "discarded" };

// --- of a person

/** A person's answer: yes, no, yes into this folder, or a token. */
export type Answer = boolean | FileSystemDirectoryHandle | string;

/** How a link is made. */
export interface SendOptions {
  readonly origin: string;
  readonly label: string;
  readonly passphrase: string | null;
  readonly expires: number; // seconds
  readonly verify: boolean; // compare the digits
  readonly to: string; // the fingerprint of the only contact it is for, or ""
  readonly purpose: PurposeCode | null; // what the data is for
  readonly reason: string; // why it is sent, at most 256 bytes, or ""
}

export type Command =
  | { readonly command: "open"; readonly link: string }
  | { readonly command: "home" }
  | {
      readonly command: "pick";
      readonly picked: readonly Picked[];
      readonly choice: number;
      readonly last: boolean; // else more of the same choice comes
    }
  | { readonly command: "unpick"; readonly number: number } // of a top name
  | { readonly command: "send"; readonly options: SendOptions }
  | {
      readonly command: "take_up";
      readonly transferId: string;
      readonly granted: boolean; // the platform lets us read by the handles again
    }
  | { readonly command: "go_on" } // without what is missing or changed
  | { readonly command: "drop"; readonly transferId: string } // do not take it up
  | { readonly command: "renew" } // the network may be another
  | { readonly command: "socket"; readonly event: SocketEvent }
  | { readonly command: "history" }
  | { readonly command: "forget"; readonly transferId: string } // "": all
  | { readonly command: "audit" }
  | { readonly command: "exported"; readonly count: number } // receipts as a page
  | {
      readonly command: "start";
      readonly passphrase: string | null;
      readonly label: string;
      readonly folders: boolean; // whether the page can ask for a folder
    }
  | { readonly command: "answer"; readonly question: number; readonly answer: Answer }
  | { readonly command: "rtc"; readonly event: RtcEvent }
  | { readonly command: "https"; readonly event: HttpsEvent }
  | { readonly command: "check"; readonly origin: string }
  | { readonly command: "stayed" } // the server was told
  | { readonly command: "persisted"; readonly granted: boolean }
  | { readonly command: "stop" }
  | { readonly command: "save"; readonly into: FileSystemFileHandle | null } // null: as a download
  | { readonly command: "receipt"; readonly transferId: string }
  | { readonly command: "discard" };

/**
 * What a person is asked: whether the digits are the same, to take what is offered, to let somebody in, or for
 * the token that a server wants.
 */
export type Question = "digits" | "accept" | "admit" | "token";

/** A transfer of this browser's that came to a receipt. */
export interface HistoryEntry {
  readonly sent: boolean; // else received
  readonly receipt: ReceiptSummary;
}

/** The person in front of the page, as the worker meets them. */
export interface Person {
  tell(event: Event): void;
  ask(kind: Question): Promise<Answer>;
  /** Ask the browser, which may ask the person, for storage that lasts. */
  persist(): Promise<boolean>;
  readonly folders: boolean; // whether a folder can be chosen
}

// --- of the server's socket, which the page has: Firefox may crash when a worker ends that has one open

export type SocketCall =
  | {
      readonly op: "open";
      readonly socket: number;
      readonly url: string;
      readonly protocol: string;
    }
  | { readonly op: "send"; readonly socket: number; readonly text: string }
  | { readonly op: "close"; readonly socket: number };

export type SocketEvent = { readonly socket: number } & (
  | { readonly type: "open" }
  | { readonly type: "message"; readonly data: unknown }
  | { readonly type: "close" }
);

// --- of peer connections, which only a page can make

/** What the worker asks for: to offer and then accept an answer, or to answer an offer. */
export type RtcCall =
  | {
      readonly op: "offer";
      readonly connection: number;
      readonly ice: readonly IceServer[];
      readonly relayOnly: boolean; // by relays alone
    }
  | { readonly op: "accept"; readonly connection: number; readonly sdp: string }
  | {
      readonly op: "answer";
      readonly connection: number;
      readonly ice: readonly IceServer[];
      readonly relayOnly: boolean;
      readonly sdp: string;
    }
  | { readonly op: "candidate"; readonly connection: number; readonly line: string }
  | { readonly op: "close"; readonly connection: number };

/** One end of a data channel, or of a port beside it where a browser cannot transfer channels. */
export type Pipe = RTCDataChannel | MessagePort;

/** What happened to a connection. */
export type RtcEvent = { readonly connection: number } & (
  | { readonly type: "lanes"; readonly control: Pipe; readonly data: Pipe }
  | { readonly type: "described"; readonly sdp: string } // this side, by an offer or an answer
  | { readonly type: "candidate"; readonly line: string }
  | { readonly type: "path"; readonly relayed: boolean }
  | { readonly type: "no_candidates" } // the browser withholds all
  | { readonly type: "lost" }
);

// --- of connections by HTTPS, whose WebSockets the page has

/** Open both lanes of a connection, each by its path. */
export interface HttpsCall {
  readonly connection: number;
  readonly control: string;
  readonly data: string;
}

/** Its lanes, which may yet have to open. */
export interface HttpsEvent {
  readonly connection: number;
  readonly control: MessagePort;
  readonly data: MessagePort;
}
