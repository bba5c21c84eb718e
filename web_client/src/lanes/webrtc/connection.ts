/** The worker's part of WebRTC: a proxy for each peer connection that the page makes for it. */
import type { PathKind, RtcCall, RtcEvent } from "../../events";
import type { IceServer } from "../../protocol/ice_server";
import { MAX_CANDIDATES, type Description } from "../../protocol/signal";
import { ChannelLane } from "../channel";
import type { Lane } from "../lane";
import * as sdp from "./sdp";

/** Makes connections, and brings what happens to them where it belongs. */
export class PeerConnections {
  private readonly known = new Map<number, Connection>();
  private count = 0;

  /** `ask` brings a call to the page. */
  constructor(private readonly ask: (call: RtcCall) => void) {}

  /** A new one that finds its outer addresses, and relays, by the servers `ice`. */
  open(ice: readonly IceServer[] = []): Connection {
    const number = ++this.count;
    const forget = () => this.known.delete(number);
    const connection = new Connection(number, ice, this.ask, forget);
    this.known.set(number, connection);
    return connection;
  }

  /** What the page tells. */
  take(event: RtcEvent): void {
    this.known.get(event.connection)?.take(event);
  }
}

/** Two lanes over one association. */
export class Connection {
  private readonly waiting = new Map<string, (event: any) => void>();
  private told = 0;
  control!: Lane;
  data!: Lane;
  path: PathKind = "direct"; // as whoever made it knows, until the browser says so
  /** Called with each of this side's candidates. */
  onCandidate: (line: string) => void = () => {};
  /** Called once the browser has given it none, so that it cannot open. */
  onNoCandidates: () => void = () => {};
  onLost: () => void = () => {};

  constructor(
    private readonly number: number,
    private readonly ice: readonly IceServer[],
    private readonly ask: (call: RtcCall) => void,
    private readonly forget: () => void,
  ) {}

  /** What happened to it. */
  take(event: RtcEvent): void {
    if (event.type === "candidate" && this.told++ < MAX_CANDIDATES) this.onCandidate(event.line);
    if (event.type === "path" && event.relayed) this.path = "relayed";
    if (event.type === "no_candidates") this.onNoCandidates();
    if (event.type === "lost") this.onLost();
    if (event.type === "lanes") {
      [this.control, this.data] = [new ChannelLane(event.control), new ChannelLane(event.data)];
      this.control.onLost = this.data.onLost = () => this.onLost();
    }
    this.waiting.get(event.type)?.(event);
  }

  /** This side's SDP, for the other to answer; with `relayOnly` by relays alone. */
  offer(relayOnly: boolean): Promise<string> {
    const { number: connection, ice } = this;
    return this.described({ op: "offer", connection, ice, relayOnly });
  }

  /** Take the answerer's description. */
  accept(description: Description): void {
    this.ask({ op: "accept", connection: this.number, sdp: sdp.build(description) });
  }

  /** Take the offerer's description; this side's SDP, with `relayOnly` by relays alone. */
  answer(description: Description, relayOnly: boolean): Promise<string> {
    const { number: connection, ice } = this;
    const call = { op: "answer", connection, ice, relayOnly } as const;
    return this.described({ ...call, sdp: sdp.build(description) });
  }

  private async described(call: RtcCall): Promise<string> {
    const described = new Promise<{ sdp: string }>((resolve) =>
      this.waiting.set("described", resolve),
    );
    this.ask(call);
    return (await described).sdp;
  }

  /** Take a further candidate of the other side's. */
  add(line: string): void {
    this.ask({ op: "candidate", connection: this.number, line });
  }

  /** Wait until both lanes are open. */
  async opened(): Promise<void> {
    await Promise.all([this.control.opened, this.data.opened]);
  }

  close(): void {
    this.onLost = this.onCandidate = this.onNoCandidates = () => {};
    this.ask({ op: "close", connection: this.number });
    this.forget();
  }
}
