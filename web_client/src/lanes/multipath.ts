/**
 * Further WebRTC connections of a session, when the sender asks for them (mirrors
 * `RecipientMultipath` of `p2p/multipath.py`). One that comes to nothing is no more than a lane less.
 */
import type { RtcCall, RtcEvent } from "./webrtc/page";
import { Connection, LaneLost, answer } from "../connect/transports";
import type { Bytes } from "../protocol/codec";
import type { Attempt } from "../protocol/handshake";
import type { Signal } from "../protocol/signal";

const MOST = 8; // at once: the browser's processor is the limit, not the network
const OPEN_SECONDS = 15; // for a connection

/** What a session does with its lanes. */
export interface Lanes {
  /** Say how this side's end of a lane is reached. */
  signal(number: number, signal: Signal): void;
  /** A lane is open. */
  opened(number: number): void;
  /** A message came by it. */
  takeIn(message: Bytes, number: number): void;
  /** The sender broke the protocol. */
  failed(error: unknown): void;
}

/** The lanes beside the connection's own. */
export class Multipath {
  private readonly invited = new Map<number, Further>();
  private readonly connections = new Set<Connection>();

  constructor(
    private readonly ask: (call: RtcCall) => void,
    private readonly attempt: Attempt,
    private readonly lanes: Lanes,
  ) {}

  /** What the page tells of connections. */
  take(event: RtcEvent): void {
    this.connections.forEach((connection) => connection.take(event));
  }

  /** What the sender says of a lane. */
  signalled(number: number, signal: Signal): void {
    const known = this.invited.get(number);
    if (known) known.put(signal);
    else if (signal.type === "description" && this.connections.size < MOST) {
      const further = new Further();
      this.invited.set(number, further);
      this.open(number, signal, further).catch((error) => {
        if (!(error instanceof LaneLost)) this.lanes.failed(error);
      });
    }
  }

  close(): void {
    this.connections.forEach((connection) => connection.close());
    this.connections.clear();
  }

  private async open(number: number, remote: Signal, signals: Further): Promise<void> {
    const connection = new Connection(this.ask);
    this.connections.add(connection);
    const lost = new Promise<never>((_, reject) => {
      connection.onLost = () => reject(new LaneLost());
      setTimeout(() => reject(new LaneLost()), OPEN_SECONDS * 1000);
    });
    const drop = () => {
      this.connections.delete(connection);
      connection.close();
    };
    try {
      const say = (signal: Signal) => this.lanes.signal(number, signal);
      const work = answer(connection, remote, this.attempt.nonceR, say, () => signals.next());
      await Promise.race([work, lost]);
    } catch (error) {
      drop();
      throw error;
    }
    connection.onLost = drop;
    this.lanes.opened(number);
    connection.data.onMessage = (message) => this.lanes.takeIn(message, number);
  }
}

/** Further signals of one lane, as they come. */
class Further {
  private readonly signals: Signal[] = [];
  private wake: () => void = () => {};

  put(signal: Signal): void {
    this.signals.push(signal);
    this.wake();
  }

  async next(): Promise<Signal> {
    if (!this.signals.length) await new Promise<void>((resolve) => (this.wake = resolve));
    return this.signals.shift()!;
  }
}
