/**
 * Further WebRTC connections of a session, when the other side asks for them (mirrors the answering
 * half of `p2p/lanes/multipath.py`). One that comes to nothing is no more than a lane less.
 */
import type { Bytes } from "../protocol/codec";
import type { Signal } from "../protocol/signal";
import { LaneLost } from "./lane";
import { SignalInbox, answer, type Connection } from "./webrtc/connection";

const MOST = 8; // at once: the browser's processor is the limit, not the network
const OPEN_SECONDS = 15; // for a connection

/** What a session is told of its further lanes. */
export interface Lanes {
  /** Say how this side's end of a lane is reached. */
  signal(number: number, signal: Signal): void;
  /** A lane is open. */
  opened(number: number): void;
  /** A message came by it. */
  takeIn(message: Bytes, number: number): void;
  /** The other side broke the protocol. */
  failed(error: unknown): void;
}

/** The lanes beside the connection's own. */
export class Multipath {
  private readonly invited = new Map<number, SignalInbox>();
  private readonly connections = new Set<Connection>();
  private readonly carrying = new Set<Connection>(); // those of them that are open

  constructor(
    private readonly openConnection: () => Connection, // a direct one
    private readonly nonceGuest: Bytes, // of the attempt; each description echoes it
    private readonly lanes: Lanes,
  ) {}

  /** What the other side says of a lane. */
  signalled(number: number, signal: Signal): void {
    const known = this.invited.get(number);
    if (known) known.put(signal);
    else if (signal.type === "description" && this.connections.size < MOST) {
      const signals = new SignalInbox();
      this.invited.set(number, signals);
      this.open(number, signal, signals).catch((error) => {
        if (!(error instanceof LaneLost)) this.lanes.failed(error);
      });
    }
  }

  /** Whether any is open. */
  get any(): boolean {
    return this.carrying.size > 0;
  }

  close(): void {
    this.connections.forEach((connection) => connection.close());
    this.connections.clear();
  }

  private async open(number: number, remote: Signal, signals: SignalInbox): Promise<void> {
    const connection = this.openConnection();
    this.connections.add(connection);
    const lost = new Promise<never>((_, reject) => {
      connection.onLost = () => reject(new LaneLost());
      setTimeout(() => reject(new LaneLost()), OPEN_SECONDS * 1000);
    });
    const drop = () => {
      this.connections.delete(connection);
      this.carrying.delete(connection);
      connection.close();
    };
    try {
      const say = (signal: Signal) => this.lanes.signal(number, signal);
      const work = answer(connection, remote, this.nonceGuest, say, () => signals.next());
      await Promise.race([work, lost]);
    } catch (error) {
      drop();
      throw error;
    }
    connection.onLost = drop;
    this.carrying.add(connection);
    this.lanes.opened(number);
    connection.data.onMessage = (message) => this.lanes.takeIn(message, number);
  }
}
