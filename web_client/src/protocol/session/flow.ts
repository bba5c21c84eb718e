/**
 * Flow control: how much may be under way, on a lane and of a stream, and what is sent twice.
 *
 * *Congestion window*: what a lane may have unacknowledged. *Reinjection*: giving a range that one lane
 * holds up to another as well (Raiciu et al., "How Hard Can It Be? Designing and Implementing a Deployable
 * Multipath TCP", NSDI 2012). *Limit*: how far a recipient lets a stream come (RFC 9000 4.1).
 */
import type { Bytes } from "../codec";
import { PeerError } from "../errors";
import { endOf, isHole, type Header, type Stream } from "../seal";
import { Frontier } from "../tape";
import { MAX_LANES, MAX_LANE_NUMBER } from "./messages";

export const WINDOW = 32 * 1024 * 1024; // bytes a recipient lets come beyond what it has written
export const INITIAL_LIMIT = 1024 * 1024; // of every stream, before the first ack
export const MIN_RANGE = 64 * 1024;
const MAX_UNACKNOWLEDGED = 512; // ranges
const STRETCH = 8; // ranges that one plan may hold
export const REINJECT_LANE_SECONDS = 3; // a lane that brings nothing for so long: all its ranges
export const REINJECT_RANGE_SECONDS = 1; // a single range that the other lanes wait for
// Ranks of lanes: those of a higher one rest while a lower one works. (0 are direct ones, of two programs.)
export const [WEBRTC, RELAYED] = [1, 2];
const [FAST_SECONDS, SLOW_SECONDS] = [0.5, 1]; // see CongestionWindow

/** A range as it was sealed: another lane can carry it as it is. */
export type Range = readonly [header: Header, message: Bytes];

/** A range that was handed to a lane and is not acknowledged. */
interface Flight {
  readonly header: Header;
  readonly message: Bytes;
  readonly when: number;
}

/** The next stretch to send, in ranges of `step`; a reader may stop early. */
export interface Plan {
  readonly stream: Stream;
  readonly offset: number;
  readonly length: number;
  readonly step: number;
}

const keyOf = ({ stream, offset }: Header): string => `${stream} ${offset}`;

/**
 * Keeps what is unacknowledged on a lane to about one second of its rate.
 *
 * Data and control share one association, so what is queued delays every ping. Each range remembers when it
 * was sent; an answer within half a second widens the window by what was answered (doubling per round trip,
 * as TCP's slow start), one after more than a second narrows it. On a path of 0.05 MB/s this settles at one
 * smallest range: it crawls, but lives.
 */
export class CongestionWindow {
  size = MIN_RANGE; // bytes that may be unacknowledged
  readonly flights: Flight[] = [];
  arrived = 0; // ranges that the recipient has taken in from this lane
  movedAt = Infinity; // when that last grew; never while nothing is under way
  stalled = false; // its ranges were given to other lanes
  retired = false; // it gets no more
  private inFlight = 0;
  private narrowedAt = -Infinity;

  constructor(
    private readonly largest: number,
    public rank: number,
  ) {}

  /** Whether it may get ranges. */
  get works(): boolean {
    return !(this.stalled || this.retired);
  }

  /** How much may be sent now, in whole ranges of `length`; one is allowed when idle. */
  headroom(): number {
    const length = this.length();
    let ranges = Math.min(Math.floor((this.size - this.inFlight) / length), STRETCH);
    ranges = Math.min(ranges, MAX_UNACKNOWLEDGED - this.flights.length);
    return Math.max(ranges, this.flights.length ? 0 : 1) * length;
  }

  /** Length of a range that suits the rate: an eighth of the window, page-aligned. */
  length(): number {
    const share = Math.floor(this.size / 8 / 4096) * 4096;
    return Math.max(Math.min(this.largest, MIN_RANGE), Math.min(this.largest, share));
  }

  /** A range was handed to the lane. */
  sent(flight: Flight): void {
    if (!this.flights.length) this.movedAt = flight.when;
    this.flights.push(flight);
    this.inFlight += flight.message.length;
  }

  /**
   * The recipient has taken in `count` ranges in all; those that are new, in the order in which they were
   * sent. Throws `PeerError`.
   */
  acknowledged(count: number, now: number): Flight[] {
    const fresh = count - this.arrived;
    if (fresh < 0 || fresh > this.flights.length) throw new PeerError("ack_of_unsent_range");
    const landed = this.flights.splice(0, fresh);
    for (const { message, when } of landed) {
      const took = now - when;
      this.inFlight -= message.length;
      if (took < FAST_SECONDS) this.size = Math.min(this.size + message.length, WINDOW);
      else if (took > SLOW_SECONDS && now - this.narrowedAt > SLOW_SECONDS) {
        this.size = Math.max(Math.floor((this.size * 7) / 10), MIN_RANGE);
        this.narrowedAt = now;
      }
    }
    if (fresh) [this.movedAt, this.stalled] = [this.flights.length ? now : Infinity, false];
    this.arrived = count;
    return landed;
  }
}

/**
 * Ranges that wait for another lane, and which range is under way on how many.
 *
 * A range is given to a second lane once, and of each stream no more bytes than it has: a recipient counts
 * what it gets twice, and bears so much.
 */
export class Reinjection {
  private readonly waiting = new Map<string, Range>();
  private readonly copies = new Map<string, number>(); // lanes that a range is under way on
  private readonly given = new Set<string>(); // those that were given to a second lane
  private readonly got = new Set<string>(); // that came by one lane, under way on another
  private readonly repeated = new Map<Stream, number>(); // bytes that were given
  private readonly shared = new WeakSet<Bytes>(); // messages that more than one lane may hold

  /** Whether any waits. */
  get any(): boolean {
    return this.waiting.size > 0;
  }

  /** The next range that waits, if there is one. */
  take(): Range | null {
    const [next] = this.waiting;
    if (!next) return null;
    this.waiting.delete(next[0]);
    return next[1];
  }

  /** A range whose lane went before it was sent. */
  put(header: Header, message: Bytes): void {
    this.shared.add(message);
    this.waiting.set(keyOf(header), [header, message]);
  }

  /** One more lane carries it. */
  sent(header: Header): void {
    const key = keyOf(header);
    this.copies.set(key, (this.copies.get(key) ?? 0) + 1);
  }

  /** It came by one of its lanes; whether no other was ever given it, so that its memory is free. */
  arrived({ header, message }: Flight): boolean {
    const key = keyOf(header);
    this.waiting.delete(key);
    if (this.landed(key)) this.got.add(key);
    return !this.shared.has(message);
  }

  /** The lane it was under way on is gone: another has to carry it, if none does. */
  dropped({ header, message }: Flight): void {
    const key = keyOf(header);
    const arrived = this.got.has(key);
    if (!this.landed(key) && !arrived) this.put(header, message);
  }

  /** Let another lane carry it too; whether it may. `total`: the length of its stream. */
  give({ header, message }: Flight, total: number): boolean {
    const key = keyOf(header);
    const repeated = (this.repeated.get(header.stream) ?? 0) + header.length;
    if (this.given.has(key) || this.got.has(key) || repeated > total) return false;
    this.given.add(key);
    this.repeated.set(header.stream, repeated);
    this.put(header, message);
    return true;
  }

  /** What the recipient has written needs no other lane: it came by one that is gone. */
  written(stream: Stream, offset: number): void {
    for (const [key, [header]] of this.waiting) {
      if (header.stream === stream && endOf(header) <= offset) this.waiting.delete(key);
    }
  }

  /** One copy of a range is not under way any more; whether another is. */
  private landed(key: string): boolean {
    const left = this.copies.get(key)! - 1;
    this.copies.set(key, left);
    if (left) return true;
    this.copies.delete(key);
    this.given.delete(key);
    this.got.delete(key);
    return false;
  }
}

/** The numbers of an ack. */
export interface Acknowledged {
  readonly written: number;
  readonly limit: number;
  readonly durable: number;
  readonly verified: number;
}

/** A stream as its sender sees it. */
export class OutgoingStream {
  next = 0; // behind what was read
  written = 0;
  durable = 0;
  verified = 0;
  limit = INITIAL_LIMIT;

  constructor(readonly total: number) {}

  /** Everything before `offset` is there from an earlier session. */
  begin(offset: number): void {
    this.next = this.written = this.durable = offset;
    this.limit = offset + INITIAL_LIMIT;
  }

  /** Take the numbers of an ack; whether any is new. Throws `PeerError`. */
  acknowledge({ written, limit, durable, verified }: Acknowledged): boolean {
    if (!(verified <= durable && durable <= written && written <= this.next)) {
      throw new PeerError("ack_of_unsent_range");
    }
    if (written < this.written || limit < this.limit || durable < this.durable) {
      throw new PeerError("ack_goes_back");
    }
    const fresh =
      written !== this.written || durable !== this.durable || verified !== this.verified;
    [this.written, this.limit] = [written, limit];
    [this.durable, this.verified] = [durable, verified];
    return fresh;
  }

  /** What may be sent next, at most `headroom` bytes in ranges of `step`. */
  stretch(stream: Stream, headroom: number, step: number): Plan | null {
    let length = Math.min(headroom, this.total - this.next);
    const allowed = this.limit - this.next;
    // Whole ranges only: no dribbling at the limit.
    if (length > allowed) length = Math.floor(allowed / step) * step;
    return length > 0 ? { stream, offset: this.next, length, step } : null;
  }
}

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

/**
 * The lanes of a sender by number, 0 being the connection's own, and what is under way on them.
 *
 * `largest` is the longest range in bytes that every lane takes, `streams` what they carry.
 */
export class SendingLanes {
  readonly windows: Map<number, CongestionWindow>;
  readonly reinjection = new Reinjection();
  carried = 0; // bytes of messages that have arrived
  readonly landed: Bytes[] = []; // messages that nobody needs any more, for whoever made them to take
  movedAt = Infinity; // when anything last arrived; never while nothing is under way
  private numbered = 1; // lanes there were so far

  constructor(
    readonly largest: number,
    private readonly streams: ReadonlyMap<Stream, OutgoingStream>,
  ) {
    this.windows = new Map([[0, new CongestionWindow(largest, WEBRTC)]]);
  }

  /** A number for a lane that is to be opened; null when there are too many. */
  number(): number | null {
    const free = this.windows.size < MAX_LANES && this.numbered <= MAX_LANE_NUMBER;
    return free ? this.numbered++ : null;
  }

  /** A numbered lane is open. Those of a higher rank rest while one of a lower rank brings something. */
  add(number: number, rank: number): void {
    this.windows.set(number, new CongestionWindow(this.largest, rank));
  }

  /** The connection's own lane is of another kind than `WEBRTC`. */
  rankOwn(rank: number): void {
    this.windows.get(0)!.rank = rank;
  }

  /** A lane is wanted no more: it gets nothing new, and is to be dropped when it is empty. */
  retire(number: number): void {
    this.windows.get(number)!.retired = true;
  }

  /** A lane is gone, or not wanted any more; what is under way on it goes to the others. */
  drop(number: number): void {
    const { flights } = this.windows.get(number)!;
    this.windows.delete(number);
    for (const flight of flights) this.reinjection.dropped(flight);
    this.rest();
  }

  /** A range was handed to a lane. */
  sent(number: number, header: Header, message: Bytes, now: number): void {
    const window = this.windows.get(number);
    if (!window) return this.reinjection.put(header, message); // it was dropped meanwhile
    this.movedAt = Math.min(this.movedAt, now);
    window.sent({ header, message, when: now });
    this.reinjection.sent(header);
  }

  /** What the recipient says it has taken in from each lane. Throws `PeerError`. */
  acknowledged(counts: readonly (readonly [number, number])[], now: number): void {
    for (const [number, count] of counts) {
      if (number >= this.numbered) throw new PeerError("ack_of_unknown_lane");
      const window = this.windows.get(number); // of a dropped one it may be late
      for (const flight of window?.acknowledged(count, now) ?? []) {
        if (this.reinjection.arrived(flight)) this.landed.push(flight.message);
        this.movedAt = now;
        this.carried += flight.message.length;
      }
    }
    this.rest();
  }

  /** Whether a better lane does the work. */
  rests(window: CongestionWindow): boolean {
    const others = [...this.windows.values()];
    return others.some((one) => one.rank < window.rank && one.arrived > 0 && one.works);
  }

  /** Give what stalls on one lane to the others. */
  stall(now: number): void {
    if (this.windows.size < 2) return;
    for (const window of this.windows.values()) {
      if (now - window.movedAt < REINJECT_LANE_SECONDS || window.stalled) continue;
      window.stalled = true;
      for (const flight of window.flights) this.reinject(flight);
    }
  }

  /** Let an idle lane carry one range for each lane that keeps others waiting. */
  help(idle: CongestionWindow, now: number): void {
    for (const window of this.windows.values()) {
      if (window === idle) continue;
      const old = window.flights.filter(({ when }) => now - when >= REINJECT_RANGE_SECONDS);
      old.some((flight) => this.reinject(flight)); // the first that was not yet
    }
  }

  /** When `stall` finds something at the earliest. */
  deadline(): number {
    if (this.windows.size < 2) return Infinity;
    const working = [...this.windows.values()].filter(({ stalled }) => !stalled);
    return Math.min(...working.map(({ movedAt }) => movedAt + REINJECT_LANE_SECONDS));
  }

  private reinject(flight: Flight): boolean {
    return this.reinjection.give(flight, this.streams.get(flight.header.stream)!.total);
  }

  private rest(): void {
    const idle = [...this.windows.values()].every(({ flights }) => !flights.length);
    if (idle) this.movedAt = Infinity;
  }
}
