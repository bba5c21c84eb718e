/** From a seat in the room to two open lanes (mirrors `p2p/connect/transports.py`). */
import sodium from "libsodium-wrappers-sumo";

import { LaneLost } from "../lanes/lane";
import { answer, type Connection } from "../lanes/webrtc/connection";
import type { ChannelBinding } from "../protocol/handshake";
import type { LinkKeys } from "../protocol/link";
import { NONCE, Sealer, type Description, type Signal } from "../protocol/signal";
import type { GuestSeat } from "./rendezvous";

/**
 * Knock, exchange descriptions, wait for the lanes: what the handshake is bound to then.
 *
 * Throws `LaneLost`, `PeerError`.
 */
export async function connectAsGuest(
  connection: Connection,
  seat: GuestSeat,
  keys: LinkKeys,
  { passphrase, hostSends }: Pick<ChannelBinding, "passphrase" | "hostSends">,
): Promise<ChannelBinding> {
  const sealing = new Sealer(keys.signalToHost, keys.room, seat.attempt, "to_host");
  const opening = new Sealer(keys.signalToGuest, keys.room, seat.attempt, "to_guest");
  const say = (signal: Signal) => seat.send(sealing.seal(signal, sodium.randombytes_buf(24)));
  const expect = async (): Promise<Signal> => {
    const envelope = await seat.recv();
    if (envelope === null) throw new LaneLost();
    return opening.open(envelope);
  };
  const nonceGuest = sodium.randombytes_buf(NONCE);
  say({ type: "knock", nonceGuest, kind: "browser" });
  const remote = await expect();
  const own = await answer(connection, remote, nonceGuest, say, expect);
  const { nonceHost, fingerprint } = remote as Description;
  return {
    room: keys.room,
    attempt: seat.attempt,
    nonceGuest,
    nonceHost,
    fingerprintHost: fingerprint,
    fingerprintGuest: own.fingerprint,
    passphrase,
    hostSends,
  };
}
