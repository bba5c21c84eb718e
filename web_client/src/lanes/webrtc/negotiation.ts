/** Describing a WebRTC connection to each other: descriptions, then candidates as they are found. */
import { same, type Bytes } from "../../protocol/codec";
import { PeerError } from "../../protocol/errors";
import { merge, type Description, type Signal } from "../../protocol/signal";
import { LaneLost } from "../lane";
import type { Connection } from "./connection";
import * as sdp from "./sdp";

/** Passes signals on, through the server or a control channel. */
export type Say = (signal: Signal) => void;
/** The next signal of the other side's. Throws `LaneLost` when none will come. */
export type Expect = () => Promise<Signal>;

/** Those of an attempt; each description has both. */
export interface Nonces {
  readonly guest: Bytes;
  readonly host: Bytes;
}

/** What both sides described. */
export interface Descriptions {
  readonly own: Description;
  readonly remote: Description;
}

/**
 * Offer a connection and wait for its lanes; with `relayOnly` by relays alone. Throws `PeerError`,
 * `LaneLost`.
 */
export async function offer(
  connection: Connection,
  nonces: Nonces,
  say: Say,
  expect: Expect,
  relayOnly = false,
): Promise<Descriptions> {
  const begin = collect(connection);
  const own = sdp.readOwn(await connection.offer(relayOnly), nonces.guest, nonces.host);
  say(own);
  begin(say);
  const remote = await expect();
  // One offers, the other answers (RFC 8842 5).
  if (remote.type !== "description" || remote.setup === "actpass") {
    throw new PeerError("description_wrong_kind");
  }
  if (!same(remote.nonceGuest, nonces.guest) || !same(remote.nonceHost, nonces.host)) {
    throw new PeerError("description_of_another_attempt");
  }
  connection.accept(remote);
  await Promise.race([connection.opened(), listen(connection, remote, expect)]);
  return { own, remote };
}

/**
 * Answer a description and wait for the lanes; with `relayOnly` by relays alone. Throws `PeerError`,
 * `LaneLost`.
 */
export async function answer(
  connection: Connection,
  remote: Signal,
  nonceGuest: Bytes,
  say: Say,
  expect: Expect,
  relayOnly = false,
): Promise<Descriptions> {
  if (
    remote.type !== "description" ||
    !same(remote.nonceGuest, nonceGuest) ||
    remote.setup !== "actpass"
  ) {
    throw new PeerError("description_of_another_attempt");
  }
  const begin = collect(connection);
  const own = sdp.readOwn(await connection.answer(remote, relayOnly), nonceGuest, remote.nonceHost);
  say(own);
  begin(say);
  await Promise.race([connection.opened(), listen(connection, remote, expect)]);
  return { own, remote };
}

/** Keep candidates, which may be found before the description is out; call what comes back then. */
function collect(connection: Connection): (say: Say) => void {
  const early: string[] = [];
  connection.onCandidate = (line) => early.push(line);
  return (say) => {
    const tell = (line: string) => {
      const candidate = sdp.readOwnCandidate(line);
      if (candidate) say({ type: "candidates", candidates: [candidate], relayed: false });
    };
    connection.onCandidate = tell;
    early.forEach(tell);
  };
}

/** The other side's further candidates, until the attempt is over. Only ever ends by an error. */
async function listen(
  connection: Connection,
  description: Description,
  expect: Expect,
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
