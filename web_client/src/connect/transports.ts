/** From an attempt at the signaling server to two open lanes (mirrors `p2p/meeting.py`). */
import sodium from "libsodium-wrappers-sumo";

import { Lane, type RtcCall, type RtcEvent } from "../lanes/webrtc/page";
import { same, type Bytes } from "../protocol/codec";
import { PeerError } from "../protocol/errors";
import type { Attempt } from "../protocol/handshake";
import type { LinkKeys } from "../protocol/link";
import {
  MAX_CANDIDATES,
  NONCE,
  Sealer,
  merge,
  type Description,
  type Signal,
} from "../protocol/signal";
import * as sdp from "../lanes/webrtc/sdp";
import type { RecipientSeat } from "./rendezvous";

/** The connection is gone; whatever was not acknowledged may not have arrived. */
export class LaneLost extends Error {}

/** One WebRTC connection: two lanes over one association, made by the page. */
export class Connection {
  private static count = 0;
  private readonly number = ++Connection.count;
  private readonly waiting = new Map<string, (event: any) => void>();
  private told = 0;
  control!: Lane;
  data!: Lane;
  relayed: boolean | null = null;
  /** Called with each of this side's candidates. */
  onCandidate: (line: string) => void = () => {};
  onLost: () => void = () => {};

  /** `ask` brings a call to the page. */
  constructor(private readonly ask: (call: RtcCall) => void) {}

  /** What the page tells; of other connections too. */
  take(event: RtcEvent): void {
    if (event.connection !== this.number) return;
    if (event.fact === "candidate" && this.told++ < MAX_CANDIDATES) this.onCandidate(event.line);
    if (event.fact === "path") this.relayed = event.relayed;
    if (event.fact === "lost") this.onLost();
    if (event.fact === "lanes") {
      [this.control, this.data] = [new Lane(event.control), new Lane(event.data)];
      this.control.onLost = this.data.onLost = () => this.onLost();
    }
    this.waiting.get(event.fact)?.(event);
  }

  /** Take the sender's description; this side's SDP. */
  async answer(description: Description): Promise<string> {
    const answered = new Promise<{ sdp: string }>((resolve) => this.waiting.set("answer", resolve));
    this.ask({ op: "answer", connection: this.number, sdp: sdp.build(description) });
    return (await answered).sdp;
  }

  /** Take a further candidate of the sender's. */
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
  }
}

/** Knock, exchange descriptions, wait for the lanes. Throws `LaneLost`, `PeerError`. */
export async function connectRecipient(
  connection: Connection,
  seat: RecipientSeat,
  keys: LinkKeys,
  passphrase: boolean,
): Promise<Attempt> {
  const sealing = new Sealer(keys.signalR2s, keys.room, seat.attempt, "r2s");
  const opening = new Sealer(keys.signalS2r, keys.room, seat.attempt, "s2r");
  const say = (signal: Signal) => seat.send(sealing.seal(signal, sodium.randombytes_buf(24)));
  const expect = async (): Promise<Signal> => {
    const envelope = await seat.recv();
    if (envelope === null) throw new LaneLost();
    return opening.open(envelope);
  };
  const nonceR = sodium.randombytes_buf(NONCE);
  say({ type: "knock", nonceR, kind: "browser" });
  const remote = await expect();
  const own = await answer(connection, remote, nonceR, say, expect);
  const { nonceS, fingerprint } = remote as Description;
  const fingerprints = { fingerprintS: fingerprint, fingerprintR: own.fingerprint };
  return { room: keys.room, attempt: seat.attempt, nonceR, nonceS, ...fingerprints, passphrase };
}

/**
 * Answer a description and wait for the lanes: this side's description.
 *
 * `say` and `expect` pass signals, through the server or a control channel. Throws `PeerError`.
 */
export async function answer(
  connection: Connection,
  remote: Signal,
  nonceR: Bytes,
  say: (signal: Signal) => void,
  expect: () => Promise<Signal>,
): Promise<Description> {
  if (remote.type !== "description" || !same(remote.nonceR, nonceR) || remote.setup !== "actpass") {
    throw new PeerError("a description of another attempt");
  }
  const early: string[] = []; // candidates may be found before the description is out
  connection.onCandidate = (line) => early.push(line);
  const own = sdp.readOwn(await connection.answer(remote), nonceR, remote.nonceS);
  say(own);
  const tell = (line: string) => {
    const candidate = sdp.readOwnCandidate(line);
    if (candidate) say({ type: "candidates", candidates: [candidate] });
  };
  connection.onCandidate = tell;
  early.forEach(tell);
  await Promise.race([connection.opened(), listen(connection, remote, expect)]);
  return own;
}

/** The sender's further candidates, until the attempt is over. Only ever ends by an error. */
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
    if (more.type !== "candidates") throw new PeerError("a signal out of turn");
    known = merge(known, more.candidates);
    more.candidates.forEach((candidate) => connection.add(sdp.candidateLine(candidate)));
  }
}
