/** The guest's seat: what a server may say, and what is made of it. */
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";

import { GuestSeat } from "../../src/connect/rendezvous";
import { encodeBase64url, utf8 } from "../../src/protocol/codec";
import { deriveKeys, type LinkKeys } from "../../src/protocol/link";
import { ATTEMPT, JOINED, ServedSocket } from "./server";

let keys: LinkKeys;
beforeAll(async () => {
  await sodium.ready;
  keys = deriveKeys(new Uint8Array(32).fill(1));
});
beforeEach(() => {
  ServedSocket.reset();
  vi.stubGlobal("WebSocket", ServedSocket);
});
afterEach(() => vi.unstubAllGlobals());

const join = () => GuestSeat.join("https://example.org", keys);
const serve = (answer: unknown) => {
  ServedSocket.answer = (socket) => socket.say(answer);
};

test("joins the link's room over the address of the link, and nothing else is said", async () => {
  serve(JOINED);
  const seat = await join();
  expect(seat.attempt).toEqual(ATTEMPT);
  const [socket] = ServedSocket.made;
  expect([socket!.url, socket!.protocol]).toEqual([
    "wss://example.org/signal",
    "handover.signal.1",
  ]);
  const { room, join: token } = keys;
  expect(socket!.sent).toEqual([
    { type: "join", room: encodeBase64url(room), join: encodeBase64url(token) },
  ]);
});

test.each([
  ["not_found", "not_found"],
  ["busy", "busy"],
  ["expired", "expired"],
  ["rate_limited", "server_refused"],
  ["full", "server_refused"],
  ["of_a_later_version", "server_unreachable"],
])("a refusal has a sentence: %s", async (said, code) => {
  serve({ type: "error", code: said });
  await expect(join()).rejects.toMatchObject({ code });
  expect(ServedSocket.made[0]!.readyState).toBe(3);
});

test.each([
  ["expired", "link_expired"],
  ["closed", "link_closed"],
  [undefined, "link_unknown"],
  ["of a later version", "link_unknown"],
])("why nobody is behind a link is told: %s", async (reason, detail) => {
  serve({ type: "error", code: "not_found", ...(reason && { reason }) });
  await expect(join()).rejects.toMatchObject({ code: "not_found", detail });
});

test.each(["{", '{"type":"joined","attempt":"AA"}', '{"type":"unknown"}'])(
  "an answer that is none is a refusal: %s",
  async (text) => {
    serve(text);
    await expect(join()).rejects.toMatchObject({ code: "server_refused" });
    expect(ServedSocket.made[0]!.readyState).toBe(3);
  },
);

test("a server that is not there, or says nothing, cannot be reached", async () => {
  ServedSocket.reachable = false;
  await expect(join()).rejects.toMatchObject({ code: "server_unreachable" });
  ServedSocket.reachable = true;
  vi.useFakeTimers();
  const waiting = expect(join()).rejects.toMatchObject({ code: "server_unreachable" });
  await vi.advanceTimersByTimeAsync(10_000);
  await waiting;
  vi.useRealTimers();
});

test("envelopes come in order until the attempt is over, in whatever way", async () => {
  const body = (text: string) => encodeBase64url(utf8(text));
  const attempt = encodeBase64url(ATTEMPT);
  for (const end of [{ type: "left", attempt }, { type: "error", code: "expired" }, "nonsense"]) {
    serve(JOINED);
    const seat = await join();
    const socket = ServedSocket.made.at(-1)!;
    for (const text of ["a", "b"]) socket.say({ type: "envelope", attempt, body: body(text) });
    socket.say(end);
    expect([await seat.recv(), await seat.recv()]).toEqual([utf8("a"), utf8("b")]);
    expect(await seat.recv()).toBeNull();
  }
});

test("a flood ends the attempt instead of filling the memory", async () => {
  serve(JOINED);
  const seat = await join();
  const attempt = encodeBase64url(ATTEMPT);
  for (let i = 0; i < 300; i++) {
    ServedSocket.made[0]!.say({ type: "envelope", attempt, body: "AA" });
  }
  expect(await seat.recv()).toBeNull();
});
