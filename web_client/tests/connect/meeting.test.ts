/** A page that meets itself, to learn what peers are told. */
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";

import { meet } from "../../src/connect/meeting";
import { different, natOf } from "../../src/connect/probe";
import { pathOf } from "../../src/connect/checking";
import { JOINED, ServedSocket } from "./server";

beforeAll(() => sodium.ready);
beforeEach(() => {
  ServedSocket.reset();
  vi.stubGlobal("WebSocket", ServedSocket);
});
afterEach(() => vi.unstubAllGlobals());

const ORIGIN = "https://example.org";
const STUN = { url: "stun:stun.example" };

test("it makes a room, comes to it, and gives the room back", async () => {
  ServedSocket.answer = (socket, { type }) => {
    if (type === "create") socket.say({ type: "created" });
    if (type === "join") socket.say({ ...JOINED, ice: { servers: [STUN], ttl: 60 } });
  };
  expect(await meet(ORIGIN)).toEqual([{ urls: STUN.url }]);
  const [host, guest] = ServedSocket.made;
  expect(host!.sent.map(({ type }) => type)).toEqual(["create", "close"]);
  expect(host!.sent[0]!["ttl"]).toBe(60);
  expect(guest!.sent[0]!["room"]).toBe(host!.sent[0]!["room"]);
  expect([host!.readyState, guest!.readyState]).toEqual([3, 3]);
});

test("a server that has no room says so", async () => {
  ServedSocket.answer = (socket) => socket.say({ type: "error", code: "room_taken" });
  await expect(meet(ORIGIN)).rejects.toMatchObject({
    code: "server_refused",
    detail: "room_taken",
  });
  ServedSocket.answer = (socket) => socket.say("nonsense");
  await expect(meet(ORIGIN)).rejects.toMatchObject({ detail: "unexpected_answer" });
});

test("a server that is not there is not reached", async () => {
  ServedSocket.reachable = false;
  await expect(meet(ORIGIN)).rejects.toMatchObject({ code: "server_unreachable" });
});

test.each([
  [[], 2, "blocked"],
  [["192.0.2.1 4000"], 1, "unknown"],
  [["192.0.2.1 4000"], 2, "cone"],
  [["192.0.2.1 4000", "192.0.2.1 4001"], 2, "symmetric"],
  [["192.0.2.1 4000", "2001:db8::1 4000"], 2, "cone"],
] as const)("what servers saw, %j of %i, is NAT: %s", (seen, servers, nat) => {
  expect(natOf(seen, servers)).toBe(nat);
});

test("how a transfer would connect, by the NAT and the relays", () => {
  const all = (["none", "cone", "symmetric", "unknown", "blocked", "unasked"] as const).map(
    (nat) => [pathOf(nat, false), pathOf(nat, true)],
  );
  expect(all).toEqual([
    ["direct", "direct"],
    ["direct", "direct"],
    ["some", "relayed"],
    ["some", "either"],
    ["network", "relayed"],
    ["network", "relayed"],
  ]);
});

test("two names of one port are one server", () => {
  const urls = ["stun:a.example", "stun:a.example:3478", "stun:a.example:3479", "stun:b.example"];
  expect(different(urls.map((one) => ({ urls: one }))).length).toBe(3);
});
