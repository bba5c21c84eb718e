/**
 * Further lanes of a session (mirrors `p2p/lanes/multipath.py`): WebRTC connections, of which the sender
 * decides how many there are and the recipient answers, and those that a recipient fetches from the
 * sender's own process. One that comes to nothing is no more than a lane less.
 */
import { clock } from "../clock";
import type { PathKind } from "../events";
import { LANES } from "../protocol/handshake";
import { RELAYED, WEBRTC, type SenderSession } from "../protocol/session";
import type { Bytes } from "../protocol/codec";
import type { Signal } from "../protocol/signal";
import { ConnectionCount } from "./connection_count";
import { fetchLane } from "./https/fetched";
import { LaneLost, type Lane } from "./lane";
import type { Connection } from "./webrtc/connection";
import { SignalInbox, answer, offer, type Nonces } from "./webrtc/negotiation";

const MOST_FETCHED = 4; // lanes at once; a browser makes six such connections to one origin
const MOST = 8; // at once: the browser's processor is the limit, not the network
const OPEN_SECONDS = 15; // for a connection
const DEAD_SECONDS = 10; // a lane that brings nothing for so long is closed
const LOOK_SECONDS = 0.25; // between two looks at the rate
const RETIRE_SECONDS = 3; // for what is under way on a lane that is wanted no more
const [AGAIN_SECONDS, LONGEST_AGAIN_SECONDS] = [2, 60]; // beside a relay, before a direct one is tried again

/** What a session is told of its further lanes. */
export interface Lanes {
  /** Say how this side's end of a lane is reached. */
  signal(number: number, signal: Signal): void;
  /** A lane is open. */
  opened(number: number): void;
  /** The other side broke the protocol. */
  failed(error: unknown): void;
}

/** The lanes beside the connection's own. */
abstract class Multipath {
  protected readonly signals = new Map<number, SignalInbox>(); // of lanes that are being opened
  protected readonly connections = new Map<number, Connection>(); // those, and the open ones
  protected readonly carrying = new Set<number>(); // those that are open

  constructor(
    private readonly openConnection: () => Connection, // a direct one
    protected readonly lanes: Lanes,
  ) {}

  /** What the other side says of a lane. */
  signalled(number: number, signal: Signal): void {
    const known = this.signals.get(number);
    if (known) known.put(signal);
    else this.invited(number, signal);
  }

  /** A signal of a lane that is not known here, or not any more. */
  protected invited(_number: number, _signal: Signal): void {}

  /** What carries the ranges now, if it is not the connection's own lane. */
  get carriedBy(): PathKind | null {
    return this.carrying.size ? "direct" : null;
  }

  close(): void {
    this.connections.forEach((connection) => connection.close());
    this.connections.clear();
    this.carrying.clear();
  }

  /** Connect, and say so. Where it comes to nothing, it is as if it had never been. */
  protected async open(
    number: number,
    connect: (
      connection: Connection,
      say: (signal: Signal) => void,
      expect: () => Promise<Signal>,
    ) => Promise<unknown>,
  ): Promise<void> {
    const inbox = new SignalInbox();
    const connection = this.openConnection();
    this.signals.set(number, inbox);
    this.connections.set(number, connection);
    const lost = new Promise<never>((_, reject) => {
      connection.onLost = () => reject(new LaneLost());
      setTimeout(() => reject(new LaneLost()), OPEN_SECONDS * 1000);
    });
    try {
      const say = (signal: Signal) => this.lanes.signal(number, signal);
      await Promise.race([connect(connection, say, () => inbox.next()), lost]);
      if (!this.connections.has(number)) return; // it is over
      connection.onLost = () => this.drop(number);
      connection.control.onMessage = () => this.drop(number); // nothing comes by it
      this.carrying.add(number);
      this.lanes.opened(number);
      this.carry(number, connection.data);
    } catch (error) {
      this.drop(number);
      if (!(error instanceof LaneLost)) this.lanes.failed(error);
    } finally {
      this.signals.delete(number); // what comes now comes too late
    }
  }

  /** Take an open lane into use. */
  protected abstract carry(number: number, lane: Lane): void;

  /** It is gone, or not wanted any more. */
  protected drop(number: number): void {
    const connection = this.connections.get(number);
    this.connections.delete(number);
    this.carrying.delete(number);
    connection?.close();
  }
}

/** The recipient takes what comes. */
export class RecipientMultipath extends Multipath {
  private readonly fetching = new Set<AbortController>();
  private fetched = 0; // lanes that bring something

  constructor(
    openConnection: () => Connection,
    private readonly nonceGuest: Bytes, // of the attempt; each description echoes it
    private readonly mayAdd: boolean, // whether there may be direct connections
    lanes: Lanes,
    /** A message came by a lane. */
    private readonly takeIn: (message: Bytes, number: number) => void,
  ) {
    super(openConnection, lanes);
  }

  override get carriedBy(): PathKind | null {
    return this.fetched ? "https" : super.carriedBy;
  }

  override close(): void {
    super.close();
    this.fetching.forEach((fetched) => fetched.abort());
  }

  /** The sender's own process has a lane to fetch. */
  async offered(token: Bytes): Promise<void> {
    if (this.fetching.size >= MOST_FETCHED) return;
    const stop = new AbortController();
    this.fetching.add(stop);
    let number = -1; // the first message says it
    try {
      await fetchLane(token, stop.signal, (message) => {
        if (number >= 0) return this.takeIn(message, number);
        if (message.length !== 2) throw new LaneLost();
        number = (message[0]! << 8) | message[1]!;
        this.fetched++;
        this.lanes.opened(number);
      });
    } catch {
      // The sender has others.
    } finally {
      stop.abort();
      this.fetching.delete(stop);
      if (number >= 0) this.fetched--;
    }
  }

  protected override invited(number: number, signal: Signal): void {
    const room = this.mayAdd && this.connections.size < MOST;
    if (signal.type !== "description" || !room) return;
    void this.open(number, (connection, say, expect) =>
      answer(connection, signal, this.nonceGuest, say, expect),
    );
  }

  protected carry(number: number, lane: Lane): void {
    lane.onMessage = (message) => this.takeIn(message, number);
  }
}

/** The sender decides which lanes there are. */
export class SenderMultipath extends Multipath {
  private readonly count = new ConnectionCount();
  private readonly own: number; // direct connections without further ones
  private readonly timer: ReturnType<typeof setInterval>;
  private due = Infinity; // beside a relay alone: when a direct one is tried
  private again = AGAIN_SECONDS;

  constructor(
    openConnection: () => Connection,
    private readonly nonces: Nonces, // of the attempt
    lanes: Lanes,
    private readonly session: SenderSession,
    path: PathKind, // of the connection's own lane
    private readonly mayAdd: boolean, // whether there may be direct connections
    /** Carry ranges over a lane until it is dropped. */
    private readonly carryRanges: (number: number, lane: Lane) => Promise<void>,
  ) {
    super(openConnection, lanes);
    if (path === "relayed") session.lanes.rankOwn(RELAYED);
    this.own = path === "relayed" ? 0 : 1;
    this.timer = setInterval(() => this.look(), LOOK_SECONDS * 1000);
  }

  override close(): void {
    clearInterval(this.timer);
    super.close();
  }

  protected carry(number: number, lane: Lane): void {
    lane.onMessage = () => this.drop(number); // a sender takes nothing by it
    this.session.lanes.add(number, WEBRTC);
    void this.carryRanges(number, lane);
  }

  protected override drop(number: number): void {
    super.drop(number);
    if (this.session.lanes.windows.has(number)) this.session.lanes.drop(number);
  }

  private look(): void {
    const { session } = this;
    const now = clock();
    for (const [number, { movedAt }] of session.lanes.windows) {
      const dead = now - movedAt > DEAD_SECONDS && !session.peerIsSlow;
      if (number && dead) this.drop(number);
    }
    const able = this.mayAdd && session.secured.peer.capabilities.includes(LANES);
    if (able && session.state === "sending") this.keep(now);
  }

  /**
   * More connections while that raises the rate. Beside a relayed one a direct connection is tried again
   * and again.
   */
  private keep(now: number): void {
    const there = this.own + this.carrying.size;
    if (this.due === Infinity) this.due = now + AGAIN_SECONDS;
    const { carried } = this.session.lanes;
    const further = there
      ? this.count.look(now, carried, there) - this.own
      : Number(now >= this.due || this.connections.size > 0);
    for (let missing = further - this.connections.size; missing > 0; missing--) {
      const number = this.session.lanes.number();
      if (number === null) break;
      void this.open(number, (connection, say, expect) =>
        offer(connection, this.nonces, say, expect),
      );
      this.due = now + this.again;
      this.again = Math.min(2 * this.again, LONGEST_AGAIN_SECONDS);
    }
    const open = [...this.carrying].sort((a, b) => a - b);
    for (const number of open.slice(Math.max(further, 0))) this.retire(number, now);
  }

  /** Let what is under way arrive, and then drop the lane. */
  private retire(number: number, now: number): void {
    const window = this.session.lanes.windows.get(number);
    if (!window || window.retired) return;
    window.retired = true;
    const wait = () => {
      if (!this.connections.has(number)) return;
      if (!window.flights.length || clock() - now > RETIRE_SECONDS) this.drop(number);
      else setTimeout(wait, LOOK_SECONDS * 1000);
    };
    wait();
  }
}
