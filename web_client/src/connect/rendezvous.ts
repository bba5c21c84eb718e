/** The guest's seat in the server's room (mirrors `p2p/connect/rendezvous.py`). */
import type { Bytes, Json } from "../protocol/codec";
import { Failure, type Code } from "../protocol/errors";
import { readIce, type IceServer } from "../protocol/ice";
import type { LinkKeys } from "../protocol/link";
import { isLoopback } from "../protocol/signal";
import { FROM_SERVER, PATH, SUBPROTOCOL, decode, encode, type Message } from "./signaling_messages";

const OPEN_SECONDS = 10;
const MAX_WAITING = 256; // messages from a server that nobody has read yet

const CODES: { [code: string]: Code } = {
  not_found: "not_found",
  busy: "busy",
  expired: "expired",
  rate_limited: "server_refused",
  full: "server_refused",
  room_taken: "server_refused",
  bad_message: "server_refused",
};

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

/** One attempt's envelopes. */
export class GuestSeat {
  private constructor(
    private readonly socket: WebSocket,
    private readonly inbox: Inbox,
    readonly attempt: Bytes,
    readonly ice: readonly IceServer[], // that the server told of
  ) {}

  /** Join. Throws `Failure`. */
  static async join(origin: string, keys: LinkKeys): Promise<GuestSeat> {
    const socket = new WebSocket(`${origin.replace(/^http/, "ws")}${PATH}`, SUBPROTOCOL);
    const inbox = new Inbox();
    socket.onmessage = ({ data }) => inbox.put(read(data));
    socket.onclose = () => inbox.put(null);
    socket.onopen = () => socket.send(encode("join", { room: keys.room, join: keys.join }));
    const timer = setTimeout(() => socket.close(), OPEN_SECONDS * 1000);
    try {
      const answer = await inbox.next();
      if (answer?.type === "joined") {
        return new GuestSeat(socket, inbox, answer["attempt"] as Bytes, serversOf(answer, origin));
      }
      if (answer === null) throw new Failure("server_unreachable", "no_answer");
      const code = answer.type === "error" ? String(answer["code"]) : "bad_message";
      throw new Failure(CODES[code] ?? "server_unreachable", code);
    } catch (error) {
      socket.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The next envelope; null once the server says, in whatever way, that the attempt is over. */
  async recv(): Promise<Bytes | null> {
    const message = await this.inbox.next().catch(() => null);
    return message?.type === "envelope" ? (message["body"] as Bytes) : null;
  }

  /** Pass an envelope to the other side. */
  send(envelope: Bytes): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(encode("envelope", { attempt: this.attempt, body: envelope }));
  }

  /** The attempt is over. */
  close(): void {
    this.socket.onclose = this.socket.onmessage = null;
    this.inbox.put(null);
    this.socket.close();
  }
}
