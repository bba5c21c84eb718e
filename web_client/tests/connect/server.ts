/** A WebSocket whose server is the test. */
import { encodeBase64url } from "../../src/protocol/codec";

export class ServedSocket {
  static readonly OPEN = 1;
  static made: ServedSocket[] = [];
  /** What the server does with each message. */
  static answer: (socket: ServedSocket, message: { [name: string]: unknown }) => unknown = () => {};
  /** Whether there is a server at all. */
  static reachable = true;

  readyState = 0;
  onopen: () => void = () => {};
  onclose: (() => void) | null = () => {};
  onmessage: ((event: { data: unknown }) => void) | null = () => {};
  readonly madeAt = performance.now();
  readonly sent: { [name: string]: unknown }[] = [];

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {
    ServedSocket.made.push(this);
    queueMicrotask(() => {
      if (!ServedSocket.reachable) return this.close();
      this.readyState = ServedSocket.OPEN;
      this.onopen();
    });
  }

  send(text: string): void {
    const message = JSON.parse(text);
    this.sent.push(message);
    ServedSocket.answer(this, message);
  }

  /** The server says something. */
  say(data: unknown): void {
    this.onmessage?.({ data: typeof data === "string" ? data : JSON.stringify(data) });
  }

  close(): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.();
  }

  static reset(): void {
    [ServedSocket.made, ServedSocket.answer, ServedSocket.reachable] = [[], () => {}, true];
  }
}

export const ATTEMPT = new Uint8Array(16).fill(9);
export const JOINED = { type: "joined", attempt: encodeBase64url(ATTEMPT) };
