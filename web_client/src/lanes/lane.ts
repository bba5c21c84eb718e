/** What a lane is, whatever carries it: the comments are the contract. */
import type { PathKind } from "../events";
import type { Bytes } from "../protocol/codec";

/** What a session runs over: a control lane and its first data lane. */
export interface Pair {
  readonly control: Lane;
  readonly data: Lane;
  readonly path: PathKind;
  onLost: () => void;
  close(): void;
}

/** The lane is gone; whatever was not acknowledged may not have arrived. */
export class LaneLost extends Error {}

/** An authenticated pipe of whole messages, which arrive in order. */
export interface Lane {
  /** Until both ends can send. Of a lane that is lost before, it never settles: `onLost` says so. */
  readonly opened: Promise<void>;
  /** Who gets every message; those that came before it was set too, as long as they are few. */
  set onMessage(handler: (message: Bytes) => void);
  /** Called when nothing more can come, unless it was closed here. */
  onLost: () => void;
  /** Queue a message. One that no longer goes out is noticed by its missing answer. */
  send(message: Bytes): void;
  /** Until there is room for more; of a lane that is lost, at once. */
  room(): Promise<void>;
  /** Nothing is told any more. What is queued may be lost. */
  close(): void;
}
