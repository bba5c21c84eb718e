/** The guest's seat in the server's room (mirrors `p2p/connect/rendezvous.py`). */
import type { Bytes } from "../protocol/codec";
import { Failure, type Code } from "../protocol/errors";
import type { LinkKeys } from "../protocol/link";
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

/** Messages that wait to be read; `null` once there will be no more. */
class Inbox {
  private readonly waiting: (Message | null)[] = [];
  private wake: (() => void) | null = null;

  put(message: Message | null): void {
    const flood = this.waiting.length >= MAX_WAITING;
    if (flood) this.waiting.length = 0;
    this.waiting.push(flood ? null : message);
    this.wake?.();
  }

  async next(): Promise<Message | null> {
    while (!this.waiting.length) {
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
    const message = this.waiting[0]!;
    if (message !== null) this.waiting.shift();
    return message;
  }
}

/** One attempt's envelopes. `recv` gives null once the server says that it is over. */
export class GuestSeat {
  private constructor(
    private readonly socket: WebSocket,
    private readonly inbox: Inbox,
    readonly attempt: Bytes,
  ) {}

  /** Join. Throws `Failure`. */
  static async join(origin: string, keys: LinkKeys): Promise<GuestSeat> {
    const socket = new WebSocket(`${origin.replace(/^http/, "ws")}${PATH}`, SUBPROTOCOL);
    const inbox = new Inbox();
    socket.onmessage = ({ data }) => {
      try {
        inbox.put(decode(data, FROM_SERVER));
      } catch {
        inbox.put(null);
      }
    };
    socket.onclose = () => inbox.put(null);
    socket.onopen = () => socket.send(encode("join", { room: keys.room, join: keys.join }));
    const timer = setTimeout(() => socket.close(), OPEN_SECONDS * 1000);
    const answer = await inbox.next();
    clearTimeout(timer);
    if (answer?.type === "joined") {
      return new GuestSeat(socket, inbox, answer["attempt"] as Bytes);
    }
    socket.close();
    if (answer === null) throw new Failure("server_unreachable", "no answer");
    const code = answer.type === "error" ? String(answer["code"]) : "bad_message";
    throw new Failure(CODES[code] ?? "server_unreachable", code.replaceAll("_", " "));
  }

  /** The next envelope. */
  async recv(): Promise<Bytes | null> {
    const message = await this.inbox.next();
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
