/** The handshake: what a guest refuses of a host, whichever of the two sends. */
import { readFileSync } from "node:fs";

import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test } from "vitest";

import { encodeBase64url, encodeJson, type JsonObject } from "../../src/protocol/codec";
import { PeerError } from "../../src/protocol/errors";
import { fingerprints } from "../../src/protocol/handshake";
import type { Initiator } from "../../src/protocol/noise";
import { bindingOf, bytes, guestOf, type Case } from "./parties";

beforeAll(() => sodium.ready);

const path = new URL("../../../tests/vectors/handshake.json", import.meta.url);
const CASES: Case[] = JSON.parse(readFileSync(path, "utf8"));
const [HOST_SENDS, HOST_RECEIVES] = [true, false].map((hostSends) =>
  CASES.find((one) => one["binding"].host_sends === hostSends)!,
) as [Case, Case];

/** A guest that has said message 3, and what it makes of a message 4 of any content. */
async function guestBefore4(one: Case): Promise<(message: JsonObject) => unknown> {
  const guest = guestOf(one);
  guest.message1();
  await guest.receive2(bytes(one.expect.messages[1]));
  const { noise } = guest as unknown as { noise: Initiator };
  const [, host] = noise.state.split();
  return (message) => guest.receive4(host.encrypt(encodeJson(message)));
}

/** The detail of the protocol error that a call ends with. */
function refusal(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof PeerError) return error.detail;
    throw error;
  }
  throw new Error("nothing was thrown");
}

const welcome = (sessionKey?: Uint8Array): JsonObject => ({
  type: "welcome",
  label: "",
  software: "",
  ...(sessionKey && { session_key: encodeBase64url(sessionKey) }),
});

describe("the session key", () => {
  const key = new Uint8Array(32).fill(9);

  test("is the host's where it is the recipient", async () => {
    const receive4 = await guestBefore4(HOST_RECEIVES);
    expect(receive4(welcome(key))).toMatchObject({ sessionKey: key });
  });

  test.each([
    ["where the guest is the recipient", HOST_SENDS, key, "session_key_not_allowed"],
    ["that is missing where the host is", HOST_RECEIVES, undefined, "session_key_not_allowed"],
    ["of low order", HOST_RECEIVES, new Uint8Array(32), "low_order"],
  ] as const)("of a host %s is refused", async (_, one, sent, why) => {
    const receive4 = await guestBefore4(one);
    expect(refusal(() => receive4(welcome(sent)))).toMatch(why);
  });
});

test("the fingerprints of sender and recipient follow who sends", () => {
  const [sends, receives] = [bindingOf(HOST_SENDS), bindingOf(HOST_RECEIVES)];
  expect(fingerprints(sends).sender).toBe(sends.fingerprintHost);
  expect(fingerprints(receives).sender).toBe(receives.fingerprintGuest);
  expect(fingerprints(receives).recipient).toBe(receives.fingerprintHost);
});

test("a host that is not who made the link is not told who the guest is", async () => {
  const made = "00".repeat(32); // the link is of another host
  const one = { ...HOST_SENDS, host: { ...HOST_SENDS["host"], identity_seed: made } };
  const guest = guestOf(one);
  guest.message1();
  const message2 = bytes(HOST_SENDS.expect.messages[1]);
  await expect(guest.receive2(message2)).rejects.toMatchObject({ code: "host_unproven" });
});
