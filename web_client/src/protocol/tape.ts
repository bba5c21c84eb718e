/**
 * The tape: a manifest's files laid end to end, one address space (mirrors `p2p/protocol/tape.py`).
 *
 * `Tape` maps offsets to entries; `Frontier` turns ranges that arrive in any order into one number.
 */
import { MAX_INTEGER } from "./codec";
import { PeerError } from "./errors";

export const MAX_PENDING = 16_384; // runs beyond the frontier: 512 ranges under way on each of 32 lanes

/** The part of a range that lies in one entry; `offset` is in the entry. */
export interface Piece {
  readonly entry: number;
  readonly offset: number;
  readonly length: number;
}

/** Offsets of every entry; entries of size 0 (directories too) take no space. */
export class Tape {
  private readonly starts: Float64Array; // exact up to 2^53

  constructor(sizes: readonly number[]) {
    this.starts = new Float64Array(sizes.length + 1);
    let total = 0;
    sizes.forEach((size, i) => {
      total += size;
      if (total > MAX_INTEGER) throw new PeerError("manifest_sizes_too_large");
      this.starts[i + 1] = total;
    });
  }

  /** Length of the tape in bytes. */
  get total(): number {
    return this.starts[this.starts.length - 1]!;
  }

  /** Where an entry begins. */
  start(entry: number): number {
    return this.starts[entry]!;
  }

  /** Where it ends. */
  end(entry: number): number {
    return this.starts[entry + 1]!;
  }

  /** The entry that owns the byte at `offset`, which is below `total`. */
  entryAt(offset: number): number {
    let [low, high] = [0, this.starts.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The pieces of a range, in order; entries of size 0 are passed over. */
  *pieces(offset: number, length: number): Generator<Piece> {
    const end = offset + length;
    let entry = length ? this.entryAt(offset) : 0;
    for (; offset < end; entry++) {
      const stop = Math.min(end, this.end(entry));
      if (stop > offset) {
        yield { entry, offset: offset - this.start(entry), length: stop - offset };
        offset = stop;
      }
    }
  }
}

/**
 * How far everything is there, when ranges arrive in any order.
 *
 * Ranges that touch are one run, so the runs beyond the frontier are as many as the gaps: what is still
 * under way. What is withdrawn takes no room.
 */
export class Frontier {
  // Runs beyond the frontier, which do not touch, in order.
  private readonly starts: number[] = [];
  private readonly ends: number[] = [];

  constructor(public offset = 0) {}

  /** True when the whole range is already there; a partial overlap throws `PeerError`. */
  holds(start: number, end: number): boolean {
    if (end <= this.offset) return true;
    const at = this.place(start + 1); // the first run that begins behind `start`
    if (this.ends[at - 1]! >= end) return true;
    const overlaps = this.starts[at]! < end || this.ends[at - 1]! > start;
    if (start < this.offset || overlaps) throw new PeerError("ranges_overlap");
    return false;
  }

  /** Take in a range that `holds` said false for. */
  add(start: number, end: number): void {
    if (start === this.offset) {
      this.offset = end;
      if (this.starts[0] === end) {
        this.starts.shift();
        this.offset = this.ends.shift()!;
      }
      return;
    }
    const at = this.place(start);
    const [before, behind] = [this.ends[at - 1] === start, this.starts[at] === end];
    if (before && behind) {
      this.ends[at - 1] = this.ends[at]!;
      this.starts.splice(at, 1);
      this.ends.splice(at, 1);
    } else if (before) {
      this.ends[at - 1] = end;
    } else if (behind) {
      this.starts[at] = start;
    } else if (this.starts.length >= MAX_PENDING) {
      throw new PeerError("too_many_ranges_out_of_order");
    } else {
      this.starts.splice(at, 0, start);
      this.ends.splice(at, 0, end);
    }
  }

  /** Where the first run lies that does not begin before `start`. */
  private place(start: number): number {
    let [low, high] = [0, this.starts.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle]! < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
