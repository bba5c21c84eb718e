/** From a seat in the room to two open lanes (mirrors `p2p/connect/transports.py`). */
import sodium from "libsodium-wrappers-sumo";

import { LaneLost } from "../lanes/lane";
import { answer, type Connection } from "../lanes/webrtc/connection";
import type { Attempt } from "../protocol/handshake";
import type { LinkKeys } from "../protocol/link";
import { NONCE, Sealer, type Description, type Signal } from "../protocol/signal";
import type { GuestSeat } from "./rendezvous";

/**
 * Knock, exchange descriptions, wait for the lanes: what both sides know of the attempt then.
 *
 * Throws `LaneLost`, `PeerError`.
 */
export async function connectAsGuest(
  connection: Connection,
  seat: GuestSeat,
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
