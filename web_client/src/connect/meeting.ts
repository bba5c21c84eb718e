/**
 * The check of this computer, as far as a server is concerned: two peers that this page both is, which
 * meet there (mirrors `p2p/connect/doctor.py`).
 */
import sodium from "libsodium-wrappers-sumo";

import { sha256 } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import type { IceServer } from "../protocol/ice_server";
import { deriveKeys } from "../protocol/link";
import { GuestSeat } from "./rendezvous";
import { FROM_SERVER, PATH, SUBPROTOCOL, decode, encode } from "./signaling_messages";

const TTL_SECONDS = 60; // of the room
const OPEN_SECONDS = 10;

/** What peers are told of STUN and TURN servers there. Throws `Failure`. */
export async function meet(origin: string): Promise<readonly IceServer[]> {
  const keys = deriveKeys(sodium.randombytes_buf(32));
  const socket = new WebSocket(`${origin.replace(/^http/, "ws")}${PATH}`, SUBPROTOCOL);
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (code: "server_unreachable" | "server_refused", detail: string) =>
        reject(new Failure(code, detail));
      setTimeout(() => fail("server_unreachable", "no_answer"), OPEN_SECONDS * 1000);
      socket.onclose = () => fail("server_unreachable", "no_answer");
      socket.onopen = () =>
        socket.send(
          encode("create", {
            room: keys.room,
            join_hash: sha256(keys.join),
            owner: sodium.randombytes_buf(32),
            ttl: TTL_SECONDS,
          }),
        );
      socket.onmessage = ({ data }) => {
        try {
          const answer = decode(data, FROM_SERVER);
          if (answer.type === "created") resolve();
          else fail("server_refused", String(answer["code"] ?? "unexpected_answer"));
        } catch {
          fail("server_refused", "unexpected_answer");
        }
      };
    });
    const seat = await GuestSeat.join(origin, keys);
    seat.close();
    return seat.ice;
  } finally {
    socket.onclose = socket.onmessage = null;
    if (socket.readyState === WebSocket.OPEN) socket.send(encode("close", {}));
    socket.close();
  }
}
