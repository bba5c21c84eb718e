/** From a seat in the room to two open lanes (mirrors `p2p/connect/transports.py`). */
import sodium from "libsodium-wrappers-sumo";

import { sleep } from "../clock";
import type { HttpsConnections } from "../lanes/https/connection";
import { LaneLost, type Pair } from "../lanes/lane";
import type { Connection, PeerConnections } from "../lanes/webrtc/connection";
import {
  SignalInbox,
  answer,
  offer,
  type Descriptions,
  type Nonces,
} from "../lanes/webrtc/negotiation";
import { same, sha256, type Bytes } from "../protocol/codec";
import { PeerError } from "../protocol/errors";
import { MAX_HANDSHAKE_MESSAGE, type ChannelBinding } from "../protocol/handshake";
import { isTurn, stunOf, type IceServer } from "../protocol/ice_server";
import type { LinkKeys } from "../protocol/link";
import {
  MAX_CANDIDATES,
  MAX_MESSAGE_SIZE,
  MAX_RELAYED_CANDIDATES,
  NONCE,
  Sealer,
  type Candidate,
  type Signal,
} from "../protocol/signal";
import type { Seat } from "./rendezvous";

const DIRECT_SECONDS = 2; // that the direct connection is given before relays are tried too
const MOST_EARLY = 8; // frames before anybody is proven

/** What both know of an attempt beside it. */
type Given = Pick<ChannelBinding, "passphrase" | "hostSends">;

/** What came through, and what the handshake is bound to then. */
export interface Opened {
  readonly connection: Pair;
  readonly binding: ChannelBinding;
  readonly frames: EarlyFrames;
  readonly relayOnly: boolean; // one of the sides keeps its addresses from the other
  readonly maxMessageSize: number; // bytes that the other side takes at once
}

/** A way that came through. */
interface Way {
  readonly connection: Pair;
  readonly frames: EarlyFrames;
  readonly nonceHost: Bytes;
  readonly fingerprints: readonly [own: Bytes, remote: Bytes];
  readonly maxMessageSize: number; // bytes that the other side takes at once
}

/**
 * The ways to the other side: HTTPS, where this page comes from its own server, WebRTC directly, and by way
 * of a relay. The host offers, and says when it is time for a relay; which of them it is, the guest decides
 * by the first message of the handshake.
 */
export class Transports {
  private readonly made = new Set<Pair>();
  private readonly https = new SignalInbox();
  private readonly direct = new SignalInbox();
  private readonly relayed = new SignalInbox();
  private stun: readonly IceServer[] = [];
  private told = new Set<Candidate["kind"]>(); // kinds of candidates of this side
  /** Whether a guest wanted to connect, rather than look whether a link is good. */
  knocked = false;
  onKnock: () => void = () => {};
  private withheld = false; // the browser gave a connection no candidate
  private offersRelay = false; // the server does, ...
  private needsRelay = false; // ... or its operator lets nothing else be used, ...
  private forbidsRelay = false; // ... or everything but that
  private relayDescribed = false; // the other side has: it reached one
  private directFailed: () => void = () => {};
  private closed = false; // no way is opened any more

  /** `httpsConnections`: null at a host, whose page comes from a server that is not its own. */
  constructor(
    private readonly peerConnections: PeerConnections,
    private readonly httpsConnections: HttpsConnections | null = null,
  ) {}

  /** What is known of why nothing came through, a code of the catalogue under `detail`. */
  get obstacle(): string {
    if (this.withheld && !this.told.size) return "no_candidates";
    if (this.forbidsRelay) return "relay_against_policy";
    if (!this.offersRelay) return "no_relay";
    if (!this.relayDescribed) return "relay_unused";
    return this.told.has("relay") ? "relay_answers" : "relay_silent";
  }

  /** A further direct connection. */
  open = (): Connection => this.peerConnections.open(this.stun);

  /** Close what was made, all or all `but` one. */
  close(but: Pair | null = null): void {
    this.closed = true;
    for (const connection of this.made) if (connection !== but) connection.close();
  }

  /**
   * Knock, and connect by what comes through first. Of the ways that there are, the direct one ends at
   * once where it fails, the relayed one with the attempt.
   *
   * Throws `LaneLost`, `PeerError`.
   */
  async connectGuest(seat: Seat, keys: LinkKeys, given: Given): Promise<Opened> {
    const { say, opening } = this.meet(seat, keys, { host: false });
    const nonceGuest = sodium.randombytes_buf(NONCE);
    const relayOnly = this.needsRelay;
    const ways: Promise<Way>[] = [];
    if (!relayOnly && this.httpsConnections) {
      ways.push(this.httpsWay(this.httpsConnections, nonceGuest));
    }
    if (!relayOnly) ways.push(this.answerWay(this.direct, this.stun, false, nonceGuest, say));
    if (this.offersRelay) {
      ways.push(this.answerWay(this.relayed, seat.ice, true, nonceGuest, say));
    }
    if (!ways.length) throw new LaneLost();
    say({ type: "knock", nonceGuest, kind: "browser", relayOnly });
    const way = await Promise.race([firstOf(ways), this.listen(seat, opening)]);
    this.close(way.connection);
    const { connection, frames, nonceHost, maxMessageSize } = way;
    const [fingerprintGuest, fingerprintHost] = way.fingerprints;
    const room = { room: keys.room, attempt: seat.attempt };
    const binding = {
      ...room,
      nonceGuest,
      nonceHost,
      fingerprintHost,
      fingerprintGuest,
      ...given,
    };
    return { connection, binding, frames, relayOnly, maxMessageSize };
  }

  /**
   * Answer a knock, and connect by the way that message 1 of the handshake comes by, which waits in
   * `frames`. Throws `LaneLost`, `PeerError`.
   */
  async connectHost(seat: Seat, keys: LinkKeys, given: Given): Promise<Opened> {
    const { say, opening } = this.meet(seat, keys, { host: true });
    const envelope = await seat.recv();
    if (envelope === null) throw new LaneLost();
    const knock = opening.open(envelope);
    if (knock.type !== "knock") throw new PeerError("knock_missing");
    this.knocked = true;
    this.onKnock();
    const { nonceGuest } = knock;
    const relayOnly = knock.relayOnly || this.needsRelay;
    const nonces = { guest: nonceGuest, host: sodium.randombytes_buf(NONCE) };
    const late = relayOnly ? Promise.resolve() : this.late();
    const ways: Promise<Way>[] = [];
    if (!relayOnly) ways.push(this.offerWay(this.direct, this.stun, false, nonces, say));
    if (this.offersRelay) {
      ways.push(late.then(() => this.offerWay(this.relayed, seat.ice, true, nonces, say)));
    }
    if (!ways.length) throw new LaneLost();
    const way = await Promise.race([firstOf(ways), this.listen(seat, opening, nonces)]);
    this.close(way.connection);
    const { connection, frames, nonceHost, maxMessageSize } = way;
    const [fingerprintHost, fingerprintGuest] = way.fingerprints;
    const room = { room: keys.room, attempt: seat.attempt };
    const binding = {
      ...room,
      nonceGuest,
      nonceHost,
      fingerprintHost,
      fingerprintGuest,
      ...given,
    };
    return { connection, binding, frames, relayOnly, maxMessageSize };
  }

  /** How signals go by this seat. */
  private meet(
    seat: Seat,
    keys: LinkKeys,
    { host }: { host: boolean },
  ): { say: (signal: Signal) => void; opening: Sealer } {
    const { attempt, ice, policy } = seat;
    const toHost = new Sealer(keys.signalToHost, keys.room, attempt, "to_host");
    const toGuest = new Sealer(keys.signalToGuest, keys.room, attempt, "to_guest");
    const [sealing, opening] = host ? [toGuest, toHost] : [toHost, toGuest];
    this.stun = stunOf(ice);
    this.forbidsRelay = policy.relay === "forbidden";
    this.offersRelay = !this.forbidsRelay && ice.some(isTurn);
    this.needsRelay = policy.relay === "required";
    const say = (signal: Signal) => seat.send(sealing.seal(signal, sodium.randombytes_buf(24)));
    return { say, opening };
  }

  /** Until the direct connection has failed, or had its time. */
  private late(): Promise<void> {
    const failed = new Promise<void>((resolve) => (this.directFailed = resolve));
    return Promise.race([sleep(DIRECT_SECONDS), failed]);
  }

  /** The host's page, which this is, opens both lanes. */
  private async httpsWay(connections: HttpsConnections, nonceGuest: Bytes): Promise<Way> {
    const told = await this.https.next();
    if (told.type !== "https" || !same(told.nonceGuest, nonceGuest)) {
      throw new PeerError("description_of_another_attempt");
    }
    if (this.closed) throw new LaneLost();
    const connection = connections.open(told.control, told.data);
    this.made.add(connection);
    const lost = new Promise<never>((_, reject) => {
      connection.onLost = () => reject(new LaneLost());
    });
    lost.catch(() => {}); // nobody may be waiting
    await Promise.race([connection.opened, lost]);
    return {
      connection,
      frames: new EarlyFrames(connection),
      nonceHost: told.nonceHost,
      fingerprints: [sha256(told.data), sha256(told.control)],
      maxMessageSize: MAX_MESSAGE_SIZE,
    };
  }

  private async answerWay(
    inbox: SignalInbox,
    ice: readonly IceServer[],
    relayed: boolean,
    nonceGuest: Bytes,
    say: (signal: Signal) => void,
  ): Promise<Way> {
    const remote = await inbox.next();
    this.relayDescribed ||= relayed;
    const { connection, tell, lost } = this.make(ice, relayed, say);
    const next = () => inbox.next();
    const answered = answer(connection, remote, nonceGuest, tell, next, this.needsRelay);
    const descriptions = await Promise.race([answered, lost]);
    return wayOf(connection, new EarlyFrames(connection), descriptions);
  }

  private async offerWay(
    inbox: SignalInbox,
    ice: readonly IceServer[],
    relayed: boolean,
    nonces: Nonces,
    say: (signal: Signal) => void,
  ): Promise<Way> {
    const { connection, tell, lost } = this.make(ice, relayed, say);
    const next = async () => {
      const signal = await inbox.next();
      this.relayDescribed ||= relayed;
      return signal;
    };
    try {
      const offered = offer(connection, nonces, tell, next, relayed);
      const descriptions = await Promise.race([offered, lost]);
      const frames = new EarlyFrames(connection);
      connection.data.onMessage = () => connection.onLost(); // nothing comes by it
      await Promise.race([frames.arrived(), lost]);
      return wayOf(connection, frames, descriptions);
    } catch (error) {
      if (!relayed && error instanceof LaneLost) this.directFailed();
      throw error;
    }
  }

  /** A connection of this attempt, and how its signals go. */
  private make(
    ice: readonly IceServer[],
    relayed: boolean,
    say: (signal: Signal) => void,
  ): { connection: Connection; tell: (signal: Signal) => void; lost: Promise<never> } {
    if (this.closed) throw new LaneLost();
    const connection = this.peerConnections.open(ice);
    this.made.add(connection);
    connection.path = relayed ? "relayed" : "direct";
    const lost = new Promise<never>((_, reject) => {
      connection.onLost = () => reject(new LaneLost());
      connection.onNoCandidates = () => {
        this.withheld = true;
        reject(new LaneLost());
      };
    });
    lost.catch(() => {}); // nobody may be waiting
    let left = relayed ? MAX_RELAYED_CANDIDATES : MAX_CANDIDATES;
    const tell = (signal: Signal) => {
      if (!("candidates" in signal)) return say(signal);
      signal.candidates.forEach(({ kind }) => this.told.add(kind));
      if (signal.type === "description" || left-- > 0) say({ ...signal, relayed });
    };
    return { connection, tell, lost };
  }

  /**
   * Each signal to the way that it is about; `nonces` are the attempt's, where this side drew the host's.
   * Only ever ends by an error.
   */
  private async listen(seat: Seat, opening: Sealer, nonces?: Nonces): Promise<never> {
    let nonceHost = nonces?.host ?? null;
    let told = false; // of HTTPS
    for (;;) {
      const envelope = await seat.recv();
      if (envelope === null) {
        for (const inbox of [this.https, this.direct, this.relayed]) inbox.end();
        return new Promise(() => {}); // the server has said all; the lanes may still open
      }
      const signal = opening.open(envelope);
      const https = signal.type === "https" && !nonces && !told;
      if (https) told = true;
      else this.https.end(); // it comes first, or is of no use
      if (https || signal.type === "description") {
        nonceHost ??= signal.nonceHost;
        if (!same(nonceHost, signal.nonceHost))
          throw new PeerError("description_of_another_attempt");
      }
      if (https) this.https.put(signal);
      else if (!("candidates" in signal)) throw new PeerError("signal_out_of_turn");
      else (signal.relayed ? this.relayed : this.direct).put(signal);
    }
  }
}

function wayOf(connection: Connection, frames: EarlyFrames, { own, remote }: Descriptions): Way {
  const { nonceHost, maxMessageSize } = remote;
  const fingerprints = [own.fingerprint, remote.fingerprint] as const;
  return { connection, frames, nonceHost, fingerprints, maxMessageSize };
}

/** The first that comes through. Throws `LaneLost` when none does, and whatever else one throws. */
function firstOf<T>(ways: readonly Promise<T>[]): Promise<T> {
  let left = ways.length;
  return new Promise((resolve, reject) => {
    for (const way of ways) {
      way.then(resolve, (error) => {
        if (!(error instanceof LaneLost) || --left === 0) reject(error);
      });
    }
  });
}

/** Frames of the control lane as they come; few and small, before anybody is proven. */
export class EarlyFrames {
  private readonly frames: Bytes[] = [];
  private wake: () => void = () => {};

  constructor(connection: Pair) {
    connection.control.onMessage = (message) => {
      if (this.frames.length < MOST_EARLY && message.length <= MAX_HANDSHAKE_MESSAGE) {
        this.frames.push(message);
        this.wake();
      } else connection.onLost();
    };
  }

  /** What is there already, beyond the handshake. */
  rest(): Bytes[] {
    return this.frames.splice(0);
  }

  /** Until there is one. */
  async arrived(): Promise<void> {
    if (!this.frames.length) await new Promise<void>((resolve) => (this.wake = resolve));
  }

  async next(): Promise<Bytes> {
    await this.arrived();
    return this.frames.shift()!;
  }
}
