/** A lane that is fetched from the sender's own process: its messages are the body of a response. */
import { breathe } from "../../clock";
import type { Bytes } from "../../protocol/codec";
import { MAX_MESSAGE_SIZE } from "../../protocol/signal";
import { laneUrl } from "./connection";

const LENGTH = 4; // bytes of a message's length, big-endian
const BREATH = 1024 * 1024; // bytes, after which other messages are let in

/**
 * Fetch a lane: every message goes to `take`, until the body ends, `signal` aborts or `take` throws.
 * Throws `TypeError` where it is not to be had, `RangeError` for a message that is too long.
 */
export async function fetchLane(
  token: Bytes,
  signal: AbortSignal,
  take: (message: Bytes) => void,
): Promise<void> {
  const response = await fetch(laneUrl(token), { signal, cache: "no-store", redirect: "error" });
  if (!response.ok || !response.body) throw new TypeError("no lane");
  const messages = new Messages(take);
  const reader = response.body.getReader();
  let before = 0; // bytes since others were let in
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    messages.feed(value);
    before += value.length;
    if (before >= BREATH) {
      await breathe();
      before = 0;
    }
  }
}

/** Cuts bytes into messages, each behind its length. */
export class Messages {
  private part: Bytes = new Uint8Array(LENGTH); // a length, or a message, as far as it came
  private filled = 0;
  private inLength = true;

  constructor(private readonly take: (message: Bytes) => void) {}

  /** The next bytes. Throws `RangeError` for a message that is too long. */
  feed(bytes: Bytes): void {
    for (let at = 0; at < bytes.length;) {
      const some = bytes.subarray(at, at + this.part.length - this.filled);
      this.part.set(some, this.filled);
      this.filled += some.length;
      at += some.length;
      if (this.filled === this.part.length) this.whole();
    }
  }

  private whole(): void {
    const { part } = this;
    this.filled = 0;
    if (this.inLength) {
      const length = new DataView(part.buffer).getUint32(0);
      if (length > MAX_MESSAGE_SIZE) throw new RangeError("message too long for the lane");
      this.part = new Uint8Array(length);
      this.inLength = length === 0;
      if (!length) this.part = new Uint8Array(LENGTH);
    } else {
      this.part = new Uint8Array(LENGTH);
      this.inLength = true;
      this.take(part);
    }
  }
}
