/**
 * A page with something to save keeps the server of its one transfer there (PROTOCOL.md, The signaling
 * server), so that it can be loaded anew. A server that outlives its transfers answers that it need not.
 *
 * The page does so, and not its worker: Firefox may crash when a worker ends that has a WebSocket open.
 */
import type { Staying } from "../events";

const PAUSES = [200, 500, 1000, 2000, 4000]; // milliseconds, after each connection that came to nothing
const LONG = 10_000; // milliseconds; one that lasted so long did not

export class Stay {
  private socket!: WebSocket;
  private over = false;
  private failures = 0;

  /**
   * `heard` is called when the server was told, or is not to be had: then a transfer that ends does not
   * take it away.
   */
  constructor(
    private readonly at: Staying,
    private readonly heard: () => void,
  ) {
    this.open();
  }

  private open(): void {
    const { url, protocol, message } = this.at;
    const began = performance.now();
    this.socket = new WebSocket(url, protocol);
    this.socket.onopen = () => {
      if (this.over) this.socket.close();
      else this.socket.send(message);
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
const isGoingAway = (data: unknown): boolean =>
  typeof data === "string" && /"code":\s*"going_away"/.test(data);
