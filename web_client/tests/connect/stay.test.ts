/** A page that keeps its transfer's own server there. */
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";

import { stayingAt } from "../../src/connect/rendezvous";
import { Stay } from "../../src/connect/stay";
import type { Staying } from "../../src/events";
import { encodeBase64url } from "../../src/protocol/codec";
import { deriveKeys } from "../../src/protocol/link";
import { ServedSocket } from "./server";

let at: Staying;
const KEYS = () => deriveKeys(new Uint8Array(32).fill(1));
beforeAll(async () => {
  await sodium.ready;
  at = stayingAt("https://example.org", KEYS());
});
beforeEach(() => {
  ServedSocket.reset();
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", ServedSocket);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const HOUR = 3_600_000;
const stay = async () => {
  const made = new Stay(at, () => {});
  await vi.advanceTimersByTimeAsync(0);
  return made;
};
const refuse = (code: string) => {
  ServedSocket.answer = (socket) => {
    socket.say({ type: "error", code });
    socket.close();
  };
};

test("asks once, by what only the link's holders have, and hangs up when all is saved", async () => {
  const staying = await stay();
  await vi.advanceTimersByTimeAsync(HOUR);
  const [socket] = ServedSocket.made;
  expect(ServedSocket.made.length).toBe(1);
  expect(socket!.url).toBe("wss://example.org/signal");
  const { room, join } = KEYS();
  const [named, token] = [encodeBase64url(room), encodeBase64url(join)];
  expect(socket!.sent).toEqual([{ type: "stay", room: named, join: token }]);
  staying.close();
  await vi.advanceTimersByTimeAsync(HOUR);
  expect([socket!.readyState, ServedSocket.made.length]).toEqual([3, 1]);
});

test("says when the server was told, or is not to be had", async () => {
  for (const answer of [null, () => refuse("not_found")]) {
    answer?.();
    const told = vi.fn();
    const staying = new Stay(at, told);
    expect(told).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(0);
    expect(told).toHaveBeenCalled();
    staying.close();
  }
});

test("leaves a server alone that outlives its transfers", async () => {
  refuse("not_found");
  await stay();
  await vi.advanceTimersByTimeAsync(HOUR);
  expect(ServedSocket.made.length).toBe(1);
});

test("goes on with the server that takes the place of one that goes", async () => {
  refuse("going_away");
  await stay();
  ServedSocket.answer = () => {};
  await vi.advanceTimersByTimeAsync(HOUR);
  expect(ServedSocket.made.length).toBe(2);
  expect(ServedSocket.made[1]!.sent.length).toBe(1);
});

test("gives up a server that is gone, and not one that was there for long", async () => {
  await stay();
  for (let times = 0; times < 20; times++) {
    await vi.advanceTimersByTimeAsync(60_000);
    ServedSocket.made.at(-1)!.close();
  }
  expect(ServedSocket.made.length).toBeGreaterThan(15);
  ServedSocket.reachable = false;
  const before = ServedSocket.made.length;
  await vi.advanceTimersByTimeAsync(HOUR);
  const after = ServedSocket.made.length;
  expect(after - before).toBeLessThan(10);
  await vi.advanceTimersByTimeAsync(HOUR);
  expect(ServedSocket.made.length).toBe(after);
});

test("says nothing more when all is saved before there is a connection", async () => {
  new Stay(at, () => {}).close();
  await vi.advanceTimersByTimeAsync(HOUR);
  const [socket] = ServedSocket.made;
  expect([socket!.readyState, socket!.sent, ServedSocket.made.length]).toEqual([3, [], 1]);
});
