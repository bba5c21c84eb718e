/**
 * What the worker and the page say to each other: past-tense events one way, commands the other. The
 * worker has the keys, the disk and the bytes; the page has the person and the peer connections.
 */
import type { Bytes } from "./protocol/codec";
import type { Code, Ending } from "./protocol/errors";
import type { IceServer } from "./protocol/ice";
import type { Skipped, StatusName } from "./protocol/manifest";
import type { Bottleneck } from "./protocol/session";

/** What carries a connection. A page makes none by TLS over TCP. */
export type PathKind = "direct" | "relayed";

// --- of a transfer

/** What is going on now. */
export type StateName =
  | "connecting"
  | "waiting" // for the sender to let this recipient in
  | "reading" // the list of files
  | "receiving"
  | "lost"
  | "verifying"
  | "signing";

/** Who is at the other end, proven. */
export interface PeerMet {
  readonly event: "peer";
  readonly label: string; // what it calls itself, safe to show between quotation marks
  readonly fingerprint: string;
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
  readonly tight: boolean; // whether space for the saved copy could not be established
  readonly hidden: number; // names that begin with a dot, each with all that is in it
  readonly hiddenNames: readonly string[]; // the first paths of these
  readonly skipped: Skipped; // what the sender leaves out on purpose
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
  readonly bottleneck: Bottleneck; // by what, as the sender sees it
}

/** Files that lie verified in this browser and wait to be saved, or in the folder that was chosen. */
export interface Delivered {
  readonly name: string; // to be saved under, or of the folder it is in
  readonly where: "browser" | "folder";
  readonly size: number; // of what is saved, in bytes
  readonly entries: number; // that arrived, folders among them
  readonly files: number; // likewise
  readonly failures: number; // entries that did not; the first ones are listed
  readonly failed: readonly (readonly [path: string, status: StatusName])[];
  readonly transferId: string; // base64url; names the receipt
  readonly confirmed: boolean; // whether the sender has signed it too
}

/** What the receipt says, checked, for people. Hashes are hex. */
export interface ReceiptSummary {
  readonly transferId: string;
  readonly sender: string;
  readonly senderKey: string;
  readonly recipient: string;
  readonly recipientKey: string;
  readonly entries: number;
  readonly deliveredEntries: number;
  readonly deliveredBytes: number;
  readonly root: string;
  readonly digitsConfirmed: boolean;
  readonly offered: string; // by the sender's clock
  readonly verified: string; // by this one
  readonly confirmed: boolean; // signed by both
}

export interface Ended {
  readonly event: "ended";
  readonly ending: Ending;
  readonly code: Code | "";
  readonly detail: string;
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
  readonly name: "server" | "room" | "storage" | "clock" | "outer_address" | "nat" | "relay";
  readonly verdict: "works" | "fails" | "note";
  readonly code: string;
  readonly values: { readonly [name: string]: string | number };
}

/** How a transfer would connect (as of `handover doctor`); "none": not at all. */
export type CheckPath = "direct" | "either" | "relayed" | "some" | "network" | "none";

/** Where a page stays: the server of a link, and what only its holders have. */
export interface Staying {
  readonly origin: string;
  readonly room: Bytes;
  readonly join: Bytes;
}

export type Event =
  | {
      readonly event: "ready";
      readonly passphrase: boolean;
      readonly label: string;
      readonly earlier: { readonly durable: number; readonly total: number } | null;
      readonly delivered: Delivered | null;
      readonly lasting: boolean;
    }
  | { readonly event: "elsewhere" } // open in another tab
  | { readonly event: "state"; readonly state: StateName }
  | { readonly event: "silence"; readonly silent: boolean } // nothing was heard for a while
  | { readonly event: "slow" } // no connection after a few seconds
  | { readonly event: "question"; readonly kind: "digits" | "accept" }
  | PeerMet
  | Offer
  | Progress
  | Ended
  | { readonly event: "rtc"; readonly call: RtcCall }
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

/** A person's answer: yes, no, or yes into this folder. */
export type Answer = boolean | FileSystemDirectoryHandle;

export type Command =
  | { readonly command: "open"; readonly link: string }
  | {
      readonly command: "start";
      readonly passphrase: string | null;
      readonly label: string;
      readonly folders: boolean; // whether the page can ask for a folder
    }
  | { readonly command: "answer"; readonly answer: Answer }
  | { readonly command: "rtc"; readonly event: RtcEvent }
  | { readonly command: "check"; readonly origin: string }
  | { readonly command: "stayed" } // the server was told
  | { readonly command: "persisted"; readonly granted: boolean }
  | { readonly command: "stop" }
  | { readonly command: "save"; readonly into: FileSystemFileHandle | null } // null: as a download
  | { readonly command: "receipt" }
  | { readonly command: "discard" };

/** The person in front of the page, as the worker meets them. */
export interface Person {
  tell(event: Event): void;
  ask(kind: "digits" | "accept"): Promise<Answer>;
  /** Ask the browser, which may ask the person, for storage that lasts. */
  persist(): Promise<boolean>;
  readonly folders: boolean; // whether a folder can be chosen
}

// --- of peer connections, which only a page can make

/** What the worker asks for. This side answers; the other side's description is the offer. */
export type RtcCall =
  | {
      readonly op: "answer";
      readonly connection: number;
      readonly ice: readonly IceServer[];
      readonly sdp: string;
    }
  | { readonly op: "candidate"; readonly connection: number; readonly line: string }
  | { readonly op: "close"; readonly connection: number };

/** One end of a data channel, or of a port beside it where a browser cannot transfer channels. */
export type Pipe = RTCDataChannel | MessagePort;

/** What happened to a connection. */
export type RtcEvent = { readonly connection: number } & (
  | { readonly type: "lanes"; readonly control: Pipe; readonly data: Pipe }
  | { readonly type: "answer"; readonly sdp: string }
  | { readonly type: "candidate"; readonly line: string }
  | { readonly type: "path"; readonly relayed: boolean }
  | { readonly type: "lost" }
);
