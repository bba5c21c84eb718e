/** What the worker and the page say to each other: frozen facts one way, commands the other. */
import type { Delivered } from "./state/home";
import type { RtcCall, RtcEvent } from "./lanes/webrtc/page";
import type { Code, Ending } from "./protocol/errors";
import type { Bottleneck } from "./protocol/session";

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
  readonly label: string;
  readonly fingerprint: string;
  readonly known: boolean;
  readonly verified: boolean; // check digits were compared with it before
  readonly changed: boolean; // the name is known, but with another key
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
  readonly tight: boolean; // whether room for the saved copy could not be established
}

/** True bytes on this computer's disk for good (`durable`), and read back from it. */
export interface Progress {
  readonly event: "progress";
  readonly durable: number;
  readonly verified: number;
  readonly total: number;
  readonly rate: number; // bytes a second, over the last few seconds
  readonly relayed: boolean | null;
  readonly bottleneck: Bottleneck; // by what, as the sender sees it
}

/** What the receipt says, checked, for people. Hashes are hex. */
export interface ReceiptFacts {
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
  | { readonly event: "persist" }
  | { readonly event: "receipt"; readonly name: string; readonly document: Uint8Array }
  | { readonly event: "receipted"; readonly facts: ReceiptFacts }
  | { readonly event: "file"; readonly name: string; readonly file: Blob }
  | { readonly event: "discarded" };

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
  | { readonly command: "persisted"; readonly granted: boolean }
  | { readonly command: "stop" }
  | { readonly command: "save" }
  | { readonly command: "receipt" }
  | { readonly command: "discard" };
