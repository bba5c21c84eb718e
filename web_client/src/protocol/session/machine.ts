/** What both roles share: frames in and out, liveness, the table, aborts, further lanes. */
import { concat, decodeJson, fromUtf8, readAs, utf8, type Bytes, type Json } from "../codec";
import { FAILURES, Failure, LOST_CODES, PeerError, type Code, type Ending } from "../errors";
import { isSigned, type Identity, type Secured } from "../handshake";
import { decodeSignal, encodeSignal, type Signal } from "../signal";
import type { Event } from "./events";
import {
  MAX_BODY,
  MAX_CONTROL,
  MESSAGES,
  encodeBody,
  type Bottleneck,
  type Fields,
  type Message,
  type MessageType,
} from "./messages";
import { LOST, OutOfTurn, type Entry, type Method, type Table } from "./table";

export const IDLE_SECONDS = 2; // then a ping
export const SUSPECT_SECONDS = 6; // silence after which people are told
export const LOST_SECONDS = 10; // silence after which the connection is given up
// A transfer that gets no further though the peer is heard, and one that a disk or a limit holds up.
export const [STILL_SECONDS, LONGEST_STILL_SECONDS] = [600, 86_400];
export const DONE_SECONDS = 10; // how long a side waits for the last word after the signatures
export const AT_PEER = "at_peer"; // detail of a failure that the peer told

/**
 * A role's machine. `frames`, `events`, `deadline`, `receiveFrame`, `tick`, `lost` and `abort` are for
 * every state, as are the messages `ping` and `abort`; all else is in `table`.
 */
export abstract class Session<State extends string> {
  abstract state: State;
  over = false;
  protected abstract readonly table: Table<State>;
  protected abstract readonly settlingStates: readonly State[]; // see `settling`
  protected doneBy: number | null = null;
  protected gone = false; // the peer is, while this side finishes what it alone can
  private outgoing: Bytes[] = [];
  private happened: Event[] = [];
  private heardAt: number;
  protected spokeAt: number;
  protected movedAt: number; // the transfer, whichever way
  private silent = false;
  private bottleneck: Bottleneck = "";
  private peerBottleneck: Bottleneck = "";
  private bottleneckToldAt = -Infinity;

  constructor(
    readonly secured: Secured,
    protected readonly identity: Identity,
    now: number,
  ) {
    this.heardAt = this.spokeAt = this.movedAt = now;
  }

  // -- outputs

  /** Control frames to send now, in order. */
  frames(): Bytes[] {
    const frames = this.outgoing;
    this.outgoing = [];
    return frames;
  }

  /** What happened since the last call. */
  events(): Event[] {
    const events = this.happened;
    this.happened = [];
    return events;
  }

  /** When to call `tick` at the latest. */
  deadline(): number {
    const moments = [this.spokeAt + IDLE_SECONDS, this.heardAt + LOST_SECONDS];
    moments.push(this.movedAt + this.patience());
    if (!this.silent) moments.push(this.heardAt + SUSPECT_SECONDS);
    if (this.doneBy !== null) moments.push(this.doneBy);
    return Math.min(...moments);
  }

  // -- inputs

  /** An authenticated message came (data counts as well). */
  heard(now: number): void {
    this.heardAt = now;
    if (this.silent) {
      this.silent = false;
      this.tell({ type: "suspected", silent: false });
    }
  }

  /** A control frame. Throws `PeerError`, or `Failure` when the peer aborted. */
  receiveFrame(frame: Bytes, now: number): void {
    const value = decodeJson(this.secured.receive.decrypt(frame), MAX_CONTROL);
    const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
    const named = isObject ? value["type"] : null;
    if (typeof named !== "string" || !Object.hasOwn(MESSAGES, named)) {
      throw new PeerError("message_unknown");
    }
    const type = named as MessageType;
    const shape = MESSAGES[type] as (value: Json) => unknown;
    const message = readAs(shape, value, type);
    this.heard(now);
    if (this.over) return;
    if (type === "ping") return this.onPing(message as Message<"ping">);
    if (type === "abort") return this.onAbort(message as Message<"abort">);
    const row = this.table.row(this.state, type);
    if (!row) throw new PeerError("message_out_of_turn", type);
    row.handler.call(this, message, now);
    this.state = row.follows ?? this.state;
  }

  /** Time has passed. Throws `Failure` (connection_lost). */
  tick(now: number): void {
    if (this.over) return;
    const still = now - this.movedAt >= this.patience();
    if (now - this.heardAt >= LOST_SECONDS || still) return this.lost();
    if (now - this.heardAt >= SUSPECT_SECONDS && !this.silent) {
      this.silent = true;
      this.tell({ type: "suspected", silent: true });
    }
    if (this.doneBy !== null && now >= this.doneBy) this.giveUpWaiting();
    if (now - this.spokeAt >= IDLE_SECONDS && !this.over) this.ping(now);
  }

  /**
   * Tell the peer what now holds this side up, if that is new; not often, for what is said makes data
   * wait.
   */
  reportBottleneck(by: Bottleneck, now: number): void {
    const due = now - this.bottleneckToldAt >= IDLE_SECONDS;
    if (by === this.bottleneck || !due || this.over) return;
    [this.bottleneck, this.bottleneckToldAt] = [by, now];
    this.ping(now);
  }

  private ping(now: number): void {
    this.say("ping", now, { bottleneck: this.bottleneck });
  }

  /** Seconds that nothing may move for in this state; a person may think as long as they like. */
  protected patience(): number {
    return Infinity;
  }

  /** Whether the peer says that its disk or its limit holds it up. */
  get peerIsSlow(): boolean {
    return this.peerBottleneck === "disk" || this.peerBottleneck === "limit";
  }

  /** The connection is gone. Throws `Failure`, unless only the last word is missing. */
  lost(): void {
    if (!this.over) this.table.row(this.state, LOST)!.handler.call(this);
  }

  /** The files are delivered and only signatures are under way: no time to stop. */
  get settling(): boolean {
    return this.settlingStates.includes(this.state);
  }

  /** End it, and tell the peer why; a lost connection tells itself. */
  abort(code: Code, now: number): void {
    if (this.over) return;
    if (!LOST_CODES.includes(code)) this.say("abort", now, { code });
    this.over = true;
  }

  /** The last word did not come. */
  protected abstract giveUpWaiting(): void;

  protected lostEarly(): void {
    throw new Failure("connection_lost_early");
  }

  protected lostUnderWay(): void {
    throw new Failure("connection_lost");
  }

  protected lostWhileFinishing(): void {
    this.gone = true; // the end is for the call to tell that finishes
  }

  private onPing({ bottleneck }: Message<"ping">): void {
    if (bottleneck === this.peerBottleneck) return;
    this.peerBottleneck = bottleneck;
    this.tell({ type: "bottleneck_reported", by: bottleneck });
  }

  private onAbort({ code }: Message<"abort">): void {
    // When the files are delivered, an abort is no more than a missing last word.
    if (this.settling || LOST_CODES.includes(code)) return this.lost();
    this.over = true;
    if (code === "cancelled") throw new Failure("peer_cancelled");
    const known = Object.hasOwn(FAILURES, code);
    if (known && FAILURES[code as Code].shared) throw new Failure(code as Code, AT_PEER);
    throw new Failure("peer_failed", known ? code : "unknown");
  }

  // -- further lanes

  /** Say how this side's end of the lane `number` is reached. */
  signal(number: number, signal: Signal, now: number): void {
    this.inTurn(this.signal, () => {
      this.say("lane", now, { lane: number, signal: fromUtf8(encodeSignal(signal)) });
    });
  }

  private onLane(message: Message<"lane">): void {
    const signal = decodeSignal(utf8(message.signal));
    this.tell({ type: "lane_signalled", number: message.lane, signal });
  }

  /**
   * Entries of both tables: lanes come and go from the offer on. Nothing is said of direct ones, which are
   * for two command lines; only a sender that is one offers lanes to fetch.
   */
  protected static aboutLanes<State extends string>(states: readonly State[]): Entry<State>[] {
    const { prototype: session } = this;
    return states.flatMap((state): Entry<State>[] => [
      [state, "lane", session.onLane],
      [state, session.signal],
    ]);
  }

  // -- for the roles

  /**
   * Let the table decide whether a method may be called now, and what state follows once it has returned.
   * Throws `OutOfTurn`.
   */
  protected inTurn<T>(method: Method, call: () => T): T {
    const row = this.table.row(this.state, method);
    if (!row) throw new OutOfTurn(`${method.name} while ${this.state}`);
    const result = call();
    this.state = row.follows ?? this.state;
    return result;
  }

  protected tell(event: Event): void {
    this.happened.push(event);
  }

  protected say(type: MessageType, now: number, fields: Fields = {}): void {
    this.outgoing.push(this.secured.send.encrypt(encodeBody({ type, ...fields })));
    this.spokeAt = now;
  }

  /** A body as a signed message carries it. */
  protected async signed(label: Bytes, body: Bytes): Promise<Fields> {
    return { body: fromUtf8(body), signature: await this.identity.sign(concat(label, body)) };
  }

  protected readSigned<T>(
    message: Message<"offer" | "accept" | "closing">,
    label: Bytes,
    shape: (value: Json) => T,
  ): T {
    const [body, what] = [utf8(message.body), message.type];
    if (!isSigned(label, this.secured.peer.identity, body, message.signature)) {
      throw new PeerError("signature_invalid", what);
    }
    return readAs(shape, decodeJson(body, MAX_BODY), what);
  }

  protected end(ending: Ending, code: Code | "" = ""): void {
    this.over = true;
    this.tell({ type: "ended", ending, code });
  }
}
