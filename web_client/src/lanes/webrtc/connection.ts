/**
 * The worker's part of WebRTC: a proxy for each peer connection that the page makes for it, and the
 * answer to a description.
 */
import type { PathKind, RtcCall, RtcEvent } from "../../events";
import type { IceServer } from "../../protocol/ice";
import { same, type Bytes } from "../../protocol/codec";
import { PeerError } from "../../protocol/errors";
import { MAX_CANDIDATES, merge, type Description, type Signal } from "../../protocol/signal";
import { LaneLost, type Lane } from "../lane";
import { ChannelLane } from "./channel";
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
    if (event.type === "lost") this.onLost();
    if (event.type === "lanes") {
      [this.control, this.data] = [new ChannelLane(event.control), new ChannelLane(event.data)];
      this.control.onLost = this.data.onLost = () => this.onLost();
    }
    this.waiting.get(event.type)?.(event);
  }

  /** Take the offerer's description; this side's SDP. */
  async answer(description: Description): Promise<string> {
    const answered = new Promise<{ sdp: string }>((resolve) => this.waiting.set("answer", resolve));
    const { number: connection, ice } = this;
    this.ask({ op: "answer", connection, ice, sdp: sdp.build(description) });
    return (await answered).sdp;
  }

  /** Take a further candidate of the offerer's. */
  add(line: string): void {
    this.ask({ op: "candidate", connection: this.number, line });
  }

  /** Wait until both lanes are open. */
  async opened(): Promise<void> {
    await Promise.all([this.control.opened, this.data.opened]);
  }

  close(): void {
    this.onLost = this.onCandidate = () => {};
    this.ask({ op: "close", connection: this.number });
    this.forget();
  }
}

/**
 * Answer a description and wait for the lanes: this side's description.
 *
 * `say` and `expect` pass signals, through the server or a control channel. Throws `PeerError`.
 */
export async function answer(
  connection: Connection,
  remote: Signal,
  nonceGuest: Bytes,
  say: (signal: Signal) => void,
  expect: () => Promise<Signal>,
): Promise<Description> {
  if (
    remote.type !== "description" ||
    !same(remote.nonceGuest, nonceGuest) ||
    remote.setup !== "actpass"
  ) {
    throw new PeerError("description_of_another_attempt");
  }
  const early: string[] = []; // candidates may be found before the description is out
  connection.onCandidate = (line) => early.push(line);
  const own = sdp.readOwn(await connection.answer(remote), nonceGuest, remote.nonceHost);
  say(own);
  const tell = (line: string) => {
    const candidate = sdp.readOwnCandidate(line);
    if (candidate) say({ type: "candidates", candidates: [candidate], relayed: false });
  };
  connection.onCandidate = tell;
  early.forEach(tell);
  await Promise.race([connection.opened(), listen(connection, remote, expect)]);
  return own;
}

/** The offerer's further candidates, until the attempt is over. Only ever ends by an error. */
async function listen(
  connection: Connection,
  description: Description,
  expect: () => Promise<Signal>,
): Promise<never> {
  let known = description;
  for (;;) {
    let more: Signal;
    try {
      more = await expect();
    } catch (error) {
      if (!(error instanceof LaneLost)) throw error;
      return new Promise(() => {}); // the server has said all; the lanes may still open
    }
    if (more.type !== "candidates") throw new PeerError("signal_out_of_turn");
    known = merge(known, more.candidates);
    more.candidates.forEach((candidate) => connection.add(sdp.candidateLine(candidate)));
  }
}

/** The signals about one connection that wait to be read. */
export class SignalInbox {
  private readonly signals: Signal[] = [];
  private ended = false;
  private wake: () => void = () => {};

  put(signal: Signal): void {
    this.signals.push(signal);
    this.wake();
  }

  /** No more will come. */
  end(): void {
    this.ended = true;
    this.wake();
  }

  /** The next one. Throws `LaneLost` when none will come. */
  async next(): Promise<Signal> {
    while (!this.signals.length) {
      if (this.ended) throw new LaneLost();
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
    return this.signals.shift()!;
  }
}
