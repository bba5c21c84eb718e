/**
 * Flow control: how far a recipient lets a stream come (RFC 9000 4.1).
 *
 * What a sender needs beside it (congestion windows, reinjection) comes with the sender.
 */
import { PeerError } from "../errors";
import { endOf, isHole, type Header, type Stream } from "../seal";
import { Frontier } from "../tape";

export const WINDOW = 32 * 1024 * 1024; // bytes a recipient lets come beyond what it has written
export const INITIAL_LIMIT = 1024 * 1024; // of every stream, before the first ack

/** A stream as its recipient sees it. */
export class IncomingStream {
  readonly frontier: Frontier; // of what is written
  readonly admitted: Frontier; // of that and of what is being written
  limit: number;
  durable: number;
  verified = 0;
  acknowledged: number;
  changed: number | null = null; // since when an ack is owed
  private repeated = 0;

  constructor(
    readonly stream: Stream,
    readonly total: number,
    offset: number,
  ) {
    this.frontier = new Frontier(offset);
    this.admitted = new Frontier(offset);
    this.limit = offset + INITIAL_LIMIT;
    this.durable = this.acknowledged = offset;
  }

  /** Whether the range is new. Throws `PeerError` for one that may not come. */
  admit(header: Header): boolean {
    if (endOf(header) > this.total) throw new PeerError("range_past_end");
    if (header.offset >= this.limit || (!isHole(header) && endOf(header) > this.limit)) {
      throw new PeerError("range_beyond_limit");
    }
    if (!this.admitted.holds(header.offset, endOf(header))) {
      this.admitted.add(header.offset, endOf(header));
      return true;
    }
    this.repeated += header.length;
    if (this.repeated > 2 * this.total) throw new PeerError("too_many_repeated_ranges");
    return false;
  }
}
