/**
 * A page with something to save keeps the server of its one transfer there (PROTOCOL.md, The signaling
 * server), so that it can be loaded anew. A server that outlives its transfers answers that it need not.
 */
import type { LinkKeys } from "../protocol/link";
import { FROM_SERVER, PATH, SUBPROTOCOL, decode, encode } from "./signaling_messages";

const PAUSES = [200, 500, 1000, 2000, 4000]; // milliseconds, after each connection that came to nothing
const LONG = 10_000; // milliseconds; one that lasted so long did not

export class Stay {
  private socket!: WebSocket;
  private over = false;
  private failures = 0;
  private heard: () => void = () => {};
  /** Until the server was told, or is not to be had: then a transfer that ends does not take it away. */
  readonly told = new Promise<void>((resolve) => (this.heard = resolve));

  constructor(
    private readonly origin: string,
    private readonly keys: LinkKeys,
  ) {
    this.open();
  }

  private open(): void {
    const { room, join } = this.keys;
    const began = performance.now();
    this.socket = new WebSocket(`${this.origin.replace(/^http/, "ws")}${PATH}`, SUBPROTOCOL);
    this.socket.onopen = () => {
      if (this.over) this.socket.close();
      else this.socket.send(encode("stay", { room, join }));
      this.heard();
    };
    this.socket.onmessage = ({ data }) => {
      if (!isGoingAway(data)) this.close();
    };
    this.socket.onclose = () => {
      this.heard();
      if (performance.now() - began > LONG) this.failures = 0;
      const pause = PAUSES[this.failures++];
      if (!this.over && pause !== undefined) setTimeout(() => this.over || this.open(), pause);
    };
  }

  /** There is nothing to save any more. */
  close(): void {
    this.over = true;
    if (this.socket.readyState === WebSocket.OPEN) this.socket.close(); // else browsers call it an error
  }
}

/** Whether another server takes its place. */
function isGoingAway(data: unknown): boolean {
  try {
    return decode(data, FROM_SERVER)["code"] === "going_away";
  } catch {
    return false;
  }
}
