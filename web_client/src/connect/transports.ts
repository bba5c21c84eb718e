/** From a seat in the room to two open lanes (mirrors `p2p/connect/transports.py`). */
import sodium from "libsodium-wrappers-sumo";

import { LaneLost } from "../lanes/lane";
import {
  answer,
  SignalInbox,
  type Connection,
  type PeerConnections,
} from "../lanes/webrtc/connection";
import { same, type Bytes } from "../protocol/codec";
import { PeerError } from "../protocol/errors";
import type { ChannelBinding } from "../protocol/handshake";
import { isTurn, stunOf, type IceServer } from "../protocol/ice";
import type { LinkKeys } from "../protocol/link";
import {
  MAX_CANDIDATES,
  MAX_RELAYED_CANDIDATES,
  NONCE,
  Sealer,
  type Candidate,
  type Description,
  type Signal,
} from "../protocol/signal";
import type { GuestSeat } from "./rendezvous";

/** What came through, and what the handshake is bound to then. */
interface Opened {
  readonly connection: Connection;
  readonly binding: ChannelBinding;
}

/** The ways to the host: WebRTC directly, and by way of a relay when the host says that it is time. */
export class Transports {
  private readonly made = new Set<Connection>();
  private readonly direct = new SignalInbox();
  private readonly relayed = new SignalInbox();
  private stun: readonly IceServer[] = [];
  private told = new Set<Candidate["kind"]>(); // kinds of candidates of this side
  private offersRelay = false; // the server does
  private relayDescribed = false; // the host has: it reached one

  constructor(private readonly peerConnections: PeerConnections) {}

  /** What is known of why nothing came through, a code of the catalogue under `detail`. */
  get obstacle(): string {
    if (!this.offersRelay) return "no_relay";
    if (!this.relayDescribed) return "relay_unused";
    return this.told.has("relay") ? "relay_answers" : "relay_silent";
  }

  /** A further direct connection. */
  open = (): Connection => this.peerConnections.open(this.stun);

  /** Close what was made, all or all `but` one. */
  close(but: Connection | null = null): void {
    for (const connection of this.made) if (connection !== but) connection.close();
  }

  /**
   * Knock, and connect by what comes through first. Of the ways that there are, the direct one ends at
   * once where it fails, the relayed one with the attempt.
   *
   * Throws `LaneLost`, `PeerError`.
   */
  async connectGuest(
    seat: GuestSeat,
    keys: LinkKeys,
    given: Pick<ChannelBinding, "passphrase" | "hostSends">,
  ): Promise<Opened> {
    const sealing = new Sealer(keys.signalToHost, keys.room, seat.attempt, "to_host");
    const opening = new Sealer(keys.signalToGuest, keys.room, seat.attempt, "to_guest");
    const say = (signal: Signal) => seat.send(sealing.seal(signal, sodium.randombytes_buf(24)));
    const nonceGuest = sodium.randombytes_buf(NONCE);
    this.stun = stunOf(seat.ice);
    const ways = [this.way(this.direct, this.stun, false, nonceGuest, say)];
    this.offersRelay = seat.ice.some(isTurn);
    if (this.offersRelay) {
      ways.push(this.way(this.relayed, seat.ice, true, nonceGuest, say));
    }
    say({ type: "knock", nonceGuest, kind: "browser", relayOnly: false });
    const { connection, remote, own } = await Promise.race([
      firstOf(ways),
      this.listen(seat, opening),
    ]);
    this.close(connection);
    const binding = {
      room: keys.room,
      attempt: seat.attempt,
      nonceGuest,
      nonceHost: remote.nonceHost,
      fingerprintHost: remote.fingerprint,
      fingerprintGuest: own.fingerprint,
      ...given,
    };
    return { connection, binding };
  }

  private async way(
    inbox: SignalInbox,
    ice: readonly IceServer[],
    relayed: boolean,
    nonceGuest: Bytes,
    say: (signal: Signal) => void,
  ): Promise<{ connection: Connection; remote: Description; own: Description }> {
    const remote = await inbox.next();
    this.relayDescribed ||= relayed;
    const connection = this.peerConnections.open(ice);
    this.made.add(connection);
    connection.path = relayed ? "relayed" : "direct";
    const lost = new Promise<never>((_, reject) => {
      connection.onLost = () => reject(new LaneLost());
    });
    let left = relayed ? MAX_RELAYED_CANDIDATES : MAX_CANDIDATES;
    const tell = (signal: Signal) => {
      if (!("candidates" in signal)) return say(signal);
      signal.candidates.forEach(({ kind }) => this.told.add(kind));
      if (signal.type === "description" || left-- > 0) say({ ...signal, relayed });
    };
    const answered = answer(connection, remote, nonceGuest, tell, () => inbox.next());
    const own = await Promise.race([answered, lost]);
    return { connection, remote: remote as Description, own };
  }

  /** Each signal to the way that it is about. Only ever ends by an error. */
  private async listen(seat: GuestSeat, opening: Sealer): Promise<never> {
    let nonceHost: Bytes | null = null;
    for (;;) {
      const envelope = await seat.recv();
      if (envelope === null) {
        this.direct.end();
        this.relayed.end();
        return new Promise(() => {}); // the server has said all; the lanes may still open
      }
      const signal = opening.open(envelope);
      if (signal.type === "description") {
        nonceHost ??= signal.nonceHost;
        if (!same(nonceHost, signal.nonceHost))
          throw new PeerError("description_of_another_attempt");
      }
      if (!("candidates" in signal)) throw new PeerError("signal_out_of_turn");
      (signal.relayed ? this.relayed : this.direct).put(signal);
    }
  }
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
