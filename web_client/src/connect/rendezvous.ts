/**
 * A peer's seat at the signaling server: sealed envelopes in and out (mirrors `p2p/connect/seats.py`).
 *
 * The host keeps its seat: when the server is gone it tries again, for as long as the link lives, and takes
 * its room anew. What this module carries it cannot read; sealing is `protocol/signal`'s.
 */
import { clock, sleep } from "../clock";
import type { Staying } from "../events";
import { hex, sha256, type Bytes, type Json } from "../protocol/codec";
import { Failure, type Code } from "../protocol/errors";
import { readIce } from "../protocol/ice";
import { type IceServer } from "../protocol/ice_server";
import type { LinkKeys } from "../protocol/link";
import { NO_POLICY, readPolicy, type Policy } from "../protocol/policy";
import { isLoopback } from "../protocol/signal";
import {
  FROM_SERVER,
  MAX_TTL,
  OUTCOMES,
  PATH,
  SUBPROTOCOL,
  decode,
  encode,
  type Message,
  type Outcome,
} from "./signaling_messages";

const OPEN_SECONDS = 10;
const [FIRST_BACKOFF, LAST_BACKOFF] = [0.5, 5]; // seconds
const MAX_ATTEMPTS = 8; // that the host knows of
// What one attempt may bring: four times what a server passes on.
const [MAX_ENVELOPES, MAX_ENVELOPE_BYTES] = [256, 256 * 1024];
// What a server may say at once, and for each second (PROTOCOL.md, The signaling server).
const [BURST_FRAMES, FRAMES_A_SECOND] = [1024, 32];
const [BURST_BYTES, BYTES_A_SECOND] = [1024 * 1024, 32 * 1024];
const MAX_WAITING = 256; // messages from a server that nobody has read yet

const CODES: { [code: string]: Code } = {
  busy: "busy",
  expired: "expired",
  rate_limited: "server_refused",
  full: "server_refused",
  room_taken: "server_refused",
  bad_message: "server_refused",
};

/** Why nobody is there, as a server says it: a code of the catalogue under `detail`. */
const REASONS: { [reason: string]: string } = { expired: "link_expired", closed: "link_closed" };

/** What a server may still say; it fills up again with time. */
class Budget {
  private frames = BURST_FRAMES;
  private bytes = BURST_BYTES;
  private at = clock();

  /** Whether this was within it. */
  take(text: unknown): boolean {
    const now = clock();
    const since = now - this.at;
    this.at = now;
    this.frames = Math.min(BURST_FRAMES, this.frames + since * FRAMES_A_SECOND) - 1;
    const length = typeof text === "string" ? text.length : 0;
    this.bytes = Math.min(BURST_BYTES, this.bytes + since * BYTES_A_SECOND) - length;
    return this.frames >= 0 && this.bytes >= 0;
  }
}

/** Messages that wait to be read. Nothing follows `null`, or what the server did wrong. */
class Inbox {
  private readonly waiting: (Message | Failure | null)[] = [];
  private wake: (() => void) | null = null;

  put(message: Message | Failure | null): void {
    const flood = this.waiting.length >= MAX_WAITING;
    if (flood) this.waiting.length = 0;
    this.waiting.push(flood ? null : message);
    this.wake?.();
  }

  /** The next one. Throws `Failure` (server_refused) for one that is none. */
  async next(): Promise<Message | null> {
    while (!this.waiting.length) {
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
    const message = this.waiting[0]!;
    if (message instanceof Failure) throw message;
    if (message !== null) this.waiting.shift();
    return message;
  }
}

function read(text: unknown): Message | Failure {
  try {
    return decode(text, FROM_SERVER);
  } catch {
    return new Failure("server_refused", "unexpected_answer");
  }
}

/** Throws `Failure` (server_refused). */
function serversOf(answer: Message, origin: string): IceServer[] {
  const host = new URL(origin).hostname.replace(/^\[|\]$/g, "");
  try {
    return readIce(answer["ice"] as Json | null, {
      local: host === "localhost" || isLoopback(host),
    });
  } catch {
    throw new Failure("server_refused", "unexpected_answer");
  }
}

/** Throws `Failure` (server_refused). */
function policyOf(answer: Message): Policy {
  try {
    return readPolicy(answer["policy"] as Json | null);
  } catch {
    throw new Failure("server_refused", "unexpected_answer");
  }
}

/** One attempt's envelopes, at whichever end. */
export interface Seat {
  readonly attempt: Bytes;
  readonly ice: readonly IceServer[]; // that the server told of
  readonly policy: Policy; // of its operator
  /** The next envelope; null once the server says, in whatever way, that the attempt is over. */
  recv(): Promise<Bytes | null>;
  /** Pass an envelope to the other side. */
  send(envelope: Bytes): void;
}

/** What a socket to the server is, wherever the browser's own one is. */
export interface ServerSocket {
  onopen: (() => void) | null;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onclose: (() => void) | null;
  send(text: string): void;
  close(): void;
}
export type OpenSocket = (url: string, protocol: string) => ServerSocket;

/** What a page says to stay at the server of a link (PROTOCOL.md, The signaling server). */
export function stayingAt(origin: string, { room, join }: LinkKeys): Staying {
  const message = encode("stay", { room, join });
  return { url: addressOf(origin), protocol: SUBPROTOCOL, message };
}

const addressOf = (origin: string): string => `${origin.replace(/^http/, "ws")}${PATH}`;

/** A guest's attempt. */
export class GuestSeat implements Seat {
  over = false; // the server has said so

  private constructor(
    private readonly socket: WebSocket,
    private readonly inbox: Inbox,
    readonly attempt: Bytes,
    readonly ice: readonly IceServer[], // that the server told of
    readonly policy: Policy,
  ) {}

  /** Join. Throws `Failure`. */
  static async join(origin: string, keys: LinkKeys): Promise<GuestSeat> {
    const socket = new WebSocket(addressOf(origin), SUBPROTOCOL);
    const inbox = new Inbox();
    socket.onmessage = ({ data }) => inbox.put(read(data));
    socket.onclose = () => inbox.put(null);
    socket.onopen = () => socket.send(encode("join", { room: keys.room, join: keys.join }));
    const timer = setTimeout(() => socket.close(), OPEN_SECONDS * 1000);
    try {
      const answer = await inbox.next();
      if (answer?.type === "joined") {
        const [ice, policy] = [serversOf(answer, origin), policyOf(answer)];
        return new GuestSeat(socket, inbox, answer["attempt"] as Bytes, ice, policy);
      }
      if (answer === null) throw new Failure("server_unreachable", "no_answer");
      throw refusal(answer.type === "error" ? answer : { type: "error", code: "bad_message" });
    } catch (error) {
      socket.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async recv(): Promise<Bytes | null> {
    const message = await this.inbox.next().catch(() => null);
    this.over ||= message?.type !== "envelope";
    return message?.type === "envelope" ? (message["body"] as Bytes) : null;
  }

  send(envelope: Bytes): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(encode("envelope", { attempt: this.attempt, body: envelope }));
  }

  /** The attempt is over: the server is told how, if there was one. */
  close(outcome?: Outcome): void {
    this.socket.onclose = this.socket.onmessage = null;
    this.inbox.put(null);
    if (outcome) this.socket.close(OUTCOMES[outcome]);
    else this.socket.close();
  }
}

/** An attempt of a guest's, as the host has it. */
export class Attempt implements Seat {
  private readonly waiting: (Bytes | null)[] = [];
  private wake: () => void = () => {};
  private envelopes = 0;
  private bytes = 0;
  over = false;

  constructor(
    readonly attempt: Bytes,
    readonly ice: readonly IceServer[],
    readonly policy: Policy,
    private readonly say: (text: string) => void,
  ) {}

  async recv(): Promise<Bytes | null> {
    while (!this.waiting.length) await new Promise<void>((resolve) => (this.wake = resolve));
    return this.waiting.shift()!;
  }

  send(envelope: Bytes): void {
    this.say(encode("envelope", { attempt: this.attempt, body: envelope }));
  }

  /** The attempt is over: it failed, or the peers have met. */
  leave(): void {
    this.say(encode("leave", { attempt: this.attempt }));
  }

  /** From the server; null, and a flood, end it. */
  put(envelope: Bytes | null): void {
    if (this.over) return;
    if (envelope !== null) {
      this.envelopes++;
      this.bytes += envelope.length;
      if (this.envelopes > MAX_ENVELOPES || this.bytes > MAX_ENVELOPE_BYTES) {
        envelope = null;
        this.leave();
      }
    }
    this.over = envelope === null;
    this.waiting.push(envelope);
    this.wake();
  }
}

/** What a host is told of its seat. */
export interface SeatEvents {
  /** What its operator asks, before it comes. May throw `Failure`. */
  onPolicy(policy: Policy): void;
  /** The server comes and goes. */
  onServer(there: boolean): void;
  onAttempt(attempt: Attempt): void;
}

/** The host's seat. `run` keeps it. */
export class HostSeat {
  private readonly attempts = new Map<string, Attempt>();
  private socket: ServerSocket | null = null; // once it has the room
  private hangUp: () => void = () => {};
  private closed = false;
  private taken = false; // the room was, at least once
  private endsAt: number;
  private policy = NO_POLICY;
  /** What lets this host create rooms, where the server wants that. */
  token = "";

  /** `ttl`: seconds. `owner`: the token (32 bytes) that the room is taken again with. */
  constructor(
    private readonly origin: string,
    private readonly keys: LinkKeys,
    ttl: number,
    private readonly owner: Bytes,
    private readonly openSocket: OpenSocket,
    private readonly events: SeatEvents,
  ) {
    this.endsAt = clock() + ttl;
  }

  /**
   * Hold the seat until it is closed. Throws `Failure` when the room cannot be had in the first place, or
   * has expired.
   */
  async run(): Promise<void> {
    let backoff = FIRST_BACKOFF;
    while (!this.closed) {
      try {
        if (await this.hold()) backoff = FIRST_BACKOFF;
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        // Once it was there, a server that refuses may be a proxy whose server restarts.
        if (error.code === "expired" || error.code === "not_allowed") throw error;
        // No room that was just drawn is another's: the server has room for one transfer alone.
        if (!this.taken) throw error.detail === "room_taken" ? serverOfOne() : error;
      }
      this.attempts.forEach((attempt) => attempt.put(null));
      this.attempts.clear();
      if (this.closed) return;
      this.events.onServer(false);
      // Half of it to all: those whom a server lost at once are not all back at once.
      const wait = backoff * (0.5 + Math.random() / 2);
      await Promise.race([sleep(wait), new Promise<void>((wake) => (this.hangUp = wake))]);
      backoff = Math.min(2 * backoff, LAST_BACKOFF);
    }
  }

  /** Seconds that the room is to live yet. */
  get left(): number {
    return Math.max(0, this.endsAt - clock());
  }

  /** The room is to live so long from now on, or as long as the operator lets it. */
  extend(ttl: number): void {
    this.endsAt = clock() + Math.min(ttl, this.policy.max_expires ?? ttl);
  }

  /** The room is to live no longer than that from now on. */
  shorten(ttl: number): void {
    this.endsAt = Math.min(this.endsAt, clock() + ttl);
  }

  /** The network may be another: the server would not be missed before long. */
  renew(): void {
    this.hangUp();
  }

  /** The room is finished: tell the server, if it is there, and forget it. */
  close(): void {
    this.closed = true;
    this.say(encode("close"));
    this.hangUp();
  }

  /** Take the room, and listen until the server is gone; whether the room was had. Throws `Failure`. */
  private async hold(): Promise<boolean> {
    const left = Math.floor(this.endsAt - clock());
    if (left < 1) throw new Failure("expired");
    const socket = this.openSocket(addressOf(this.origin), SUBPROTOCOL);
    const budget = new Budget();
    let had = false;
    try {
      await new Promise<void>((resolve, reject) => {
        const give = (error: Failure | null) => (error ? reject(error) : resolve());
        const late = setTimeout(() => give(unanswered(had)), OPEN_SECONDS * 1000);
        this.hangUp = () => give(null);
        socket.onclose = () => give(unanswered(had));
        socket.onopen = () => socket.send(this.creation(left));
        socket.onmessage = ({ data }) => {
          const message = read(data);
          if (message instanceof Failure) return give(message);
          if (!budget.take(data)) return give(new Failure("server_refused", "unexpected_answer"));
          if (message.type === "error") return give(refusal(message));
          if (had) return this.takeIn(message, give);
          if (message.type !== "created") {
            return give(new Failure("server_refused", "unexpected_answer"));
          }
          try {
            this.policy = policyOf(message);
            this.events.onPolicy(this.policy);
          } catch (error) {
            socket.send(encode("close")); // nobody will wait there
            return give(error as Failure);
          }
          clearTimeout(late);
          had = this.taken = true;
          this.socket = socket;
          this.events.onServer(true);
        };
      });
      return had;
    } finally {
      this.socket = null;
      this.hangUp = () => {};
      socket.onclose = socket.onmessage = null;
      socket.close();
    }
  }

  private creation(ttl: number): string {
    return encode("create", {
      room: this.keys.room,
      join_hash: sha256(this.keys.join),
      owner: this.owner,
      ttl: Math.min(ttl, MAX_TTL),
      ...(this.token && { token: this.token }),
    });
  }

  private say(text: string): void {
    this.socket?.send(text);
  }

  private takeIn(message: Message, give: (error: Failure) => void): void {
    if (!("attempt" in message)) return; // said twice, or another seat's
    const key = hex(message["attempt"] as Bytes);
    if (message.type === "attempt") {
      if (this.attempts.size >= MAX_ATTEMPTS) return;
      let ice: IceServer[];
      try {
        ice = serversOf(message, this.origin);
      } catch (error) {
        return give(error as Failure);
      }
      const say = (text: string) => this.say(text);
      const attempt = new Attempt(message["attempt"] as Bytes, ice, this.policy, say);
      this.attempts.set(key, attempt);
      return this.events.onAttempt(attempt);
    }
    const attempt = this.attempts.get(key);
    if (message.type === "envelope") attempt?.put(message["body"] as Bytes);
    else if (message.type === "left") attempt?.put(null);
    if (attempt?.over) this.attempts.delete(key); // it ended, or flooded; the others go on
  }
}

/** A server that is gone; null where it was there and is missed. */
const unanswered = (had: boolean): Failure | null =>
  had ? null : new Failure("server_unreachable", "no_answer");

const serverOfOne = () => new Failure("server_refused", "one_transfer");

/** What an error of the server's means; `sign_in`, where it names one, is the detail. */
function refusal(message: Message): Failure {
  const code = String(message["code"]);
  if (code === "token_required") return new Failure(code, String(message["sign_in"] ?? ""));
  if (code === "not_found") {
    return new Failure(code, REASONS[String(message["reason"] ?? "")] ?? "link_unknown");
  }
  return new Failure(CODES[code] ?? "server_unreachable", code);
}
