/** A connection by HTTPS to the sender's own process, where this page comes from it: two WebSockets. */
import type { HttpsCall, HttpsEvent, PathKind } from "../../events";
import { encodeBase64url, type Bytes } from "../../protocol/codec";
import { ChannelLane } from "../channel";
import type { Lane } from "../lane";

/** Where a lane is, at the page's own origin. */
export const laneUrl = (token: Bytes): string => `/lanes/${encodeBase64url(token)}`;

/** Makes connections, whose sockets the page has (see `connect/sockets`), and brings what happens to them. */
export class HttpsConnections {
  private readonly known = new Map<number, HttpsConnection>();
  private count = 0;

  /** `ask` brings a call to the page. */
  constructor(private readonly ask: (call: HttpsCall) => void) {}

  /** A new one, by the tokens of its lanes. */
  open(control: Bytes, data: Bytes): HttpsConnection {
    const connection = ++this.count;
    const made = new HttpsConnection();
    this.known.set(connection, made);
    this.ask({ connection, control: laneUrl(control), data: laneUrl(data) });
    return made;
  }

  /** What the page tells. */
  take(event: HttpsEvent): void {
    this.known.get(event.connection)?.take(event);
    this.known.delete(event.connection);
  }
}

/** Its two lanes. */
export class HttpsConnection {
  readonly path: PathKind = "https";
  control!: Lane;
  data!: Lane; // both once the page has their sockets
  onLost: () => void = () => {};
  /** Until both lanes are open; of a connection that is lost before, it never settles. */
  readonly opened: Promise<void>;
  private arrived!: (opened: Promise<unknown>) => void;
  private closed = false;

  constructor() {
    this.opened = new Promise<Promise<unknown>>((resolve) => (this.arrived = resolve)).then();
  }

  take({ control, data }: HttpsEvent): void {
    [this.control, this.data] = [new ChannelLane(control), new ChannelLane(data)];
    if (this.closed) return this.close();
    this.control.onLost = this.data.onLost = () => this.onLost();
    const opened = Promise.all([this.control.opened, this.data.opened]);
    // They end in whatever order; what the sender said last comes by the other one, before it ends.
    this.arrived(opened.then(() => (this.data.onLost = () => {})));
  }

  /** What is queued is sent before. */
  close(): void {
    this.onLost = () => {};
    this.closed = true;
    this.control?.close();
    this.data?.close();
  }
}
