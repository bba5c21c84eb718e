/** What happened in a session, as facts in the past tense. */
import type { Bytes } from "../codec";
import type { Code, Ending } from "../errors";
import type { Signal } from "../signal";
import type { Bottleneck } from "./messages";

/** The peer said that the check digits are the same. */
export interface Confirmed {
  readonly type: "confirmed";
}

/** Recipient: the signed offer is there; its manifest is being fetched. */
export interface Offered {
  readonly type: "offered";
  readonly entries: number;
  readonly size: number;
}

/** Recipient: the manifest's bytes are whole and what the offer says; decode and decide. */
export interface ManifestArrived {
  readonly type: "manifest_arrived";
  readonly data: Bytes;
}

/** Sender: the recipient's signed accept is there; it holds the tape up to `offset` already. */
export interface Accepted {
  readonly type: "accepted";
  readonly offset: number;
}

/** True bytes on the recipient's disk for good (`durable`), and read back from it. */
export interface Progressed {
  readonly type: "progressed";
  readonly durable: number;
  readonly verified: number;
  readonly total: number;
}

/** Recipient: the sender gave up these entries: (entry, status). */
export interface Withdrawn {
  readonly type: "withdrawn";
  readonly entries: readonly (readonly [number, number])[];
}

/** Recipient: closing and digests are there and every byte is durable and read back. */
export interface Delivered {
  readonly type: "delivered";
  readonly digests: Bytes;
}

/** Sender: the recipient's signed receipt; check it with `countersign`. */
export interface Receipted {
  readonly type: "receipted";
  readonly payload: Bytes;
  readonly signature: Bytes;
}

/** Recipient: the sender's signature of the receipt. */
export interface Countersigned {
  readonly type: "countersigned";
  readonly signature: Bytes;
}

/** The peer says how a further WebRTC connection, the lane `number`, is to be reached. */
export interface LaneSignalled {
  readonly type: "lane_signalled";
  readonly number: number;
  readonly signal: Signal;
}

/** Recipient: by this token a further lane may be fetched, once. */
export interface HttpsOffered {
  readonly type: "https_offered";
  readonly token: Bytes;
}

/** What the peer says holds it up. */
export interface BottleneckReported {
  readonly type: "bottleneck_reported";
  readonly by: Bottleneck;
}

/** Nothing was heard for a while (true), or the peer is back (false). */
export interface Suspected {
  readonly type: "suspected";
  readonly silent: boolean;
}

/** The session is over as agreed by both. */
export interface Ended {
  readonly type: "ended";
  readonly ending: Ending;
  readonly code: Code | "";
}

export type Event =
  | Confirmed
  | Offered
  | ManifestArrived
  | Accepted
  | Progressed
  | Withdrawn
  | Delivered
  | Receipted
  | Countersigned
  | LaneSignalled
  | HttpsOffered
  | BottleneckReported
  | Suspected
  | Ended;
