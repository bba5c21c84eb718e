/**
 * Two sessions under a scheduler that hates them: lanes run apart, disks and keys lag, ranges reorder.
 *
 * Whatever the order, nothing is sent beyond the limit (`Both.write` checks), neither side throws, both end
 * with the same bytes and one receipt.
 */
import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test } from "vitest";

import { HandoverError } from "../../src/protocol/errors";
import { CHANGED } from "../../src/protocol/manifest";
import { Stream } from "../../src/protocol/seal";
import { RELAYED, WEBRTC, WINDOW } from "../../src/protocol/session";
import { Both, type Role } from "./both";
import type { Content } from "./pair";

beforeAll(() => sodium.ready);

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);
const content: fc.Arbitrary<Content> = fc.oneof(
  fc.constant(null),
  fc.uint8Array({ maxLength: 30 }),
  fc.integer({ min: 100, max: 300_000 }).map((length) => filled(length, 1 + (length % 251))),
  fc.integer({ min: 100_000, max: 10 ** 7 }), // a hole
);
const tiny = fc.integer({ min: 100, max: 600 }).map((count) => {
  return Array.from({ length: count }, (_, i) => filled(i % 4, 1 + (i % 251)));
});
const files = fc.oneof(
  { weight: 4, arbitrary: fc.array(content, { minLength: 1, maxLength: 6 }) },
  { weight: 1, arbitrary: tiny },
);

const laneOf = (both: Both, number: number) => [...both.lanes.keys()][number % both.lanes.size]!;

/** Entries one after the other, from where the tape stands: they vanished after they were listed. */
function withdrawMany(both: Both, count: number): void {
  const { next, total } = both.sender["streams"].get(Stream.DATA)!;
  if (both.sender.state !== "sending" || next === total) return;
  const first = both.tape.entryAt(next);
  const gone = both.files.map((file, entry) => [file, entry] as const).slice(first, first + count);
  const entries = gone.filter(([file]) => file !== null);
  both.withdraw(...entries.map(([, entry]): [number, number] => [entry, CHANGED]));
}

/** Seconds, on a network that is alive: what was said arrives, and ranges before anyone despairs. */
async function wait(both: Both, seconds: number): Promise<void> {
  await both.releaseKeys();
  if (both.now - both.sender.lanes.movedAt > 20) {
    for (const lane of both.lanes.keys()) while (both.deliverData(lane));
    while (both.write());
  }
  both.tick(seconds);
  for (let said = true; said;) {
    said = [both.deliverControl("recipient"), both.deliverControl("sender")].some(Boolean);
    await both.settled();
  }
}

/** What may happen next; `n` is any number below 1,000. */
const STEPS: { readonly [name: string]: (both: Both, n: number) => unknown } = {
  "tell the sender": (both) => both.deliverControl("sender"),
  "tell the recipient": (both) => both.deliverControl("recipient"),
  send: (both, n) => both.send(laneOf(both, n)),
  "send much": (both, n) => {
    for (let i = 0; i < 40; i++) both.send(laneOf(both, n + i));
  },
  deliver: (both, n) => {
    for (let i = 0; i <= n % 8; i++) both.deliverData(laneOf(both, n)); // they overtake those of others
  },
  "slow disk": (both) => (both.slowDisk = true),
  "fast disk": (both) => (both.slowDisk = false),
  write: (both, n) => both.write(n),
  sync: (both) => both.sync(),
  "read back": (both) => both.readBack(),
  accept: (both) => both.accept(),
  "add a lane": (both, n) => {
    if (both.mayAddLane && both.lanes.size < 6) both.addLane(n % 2 ? WEBRTC : RELAYED);
  },
  "drop a lane": (both, n) => {
    const lane = laneOf(both, n); // what was on its way is lost, or arrived and nobody knows
    if (lane) both.dropLane(lane);
  },
  withdraw: (both, n) => {
    if (n % 4 === 0) withdrawMany(both, n % 100);
  },
  "hold keys": (both) => both.holdKeys(),
  "release keys": (both) => both.releaseKeys(),
  tick: (both, n) => {
    both.tick(n / 20_000);
    both.deliverControl(n % 2 ? "sender" : "recipient");
  },
  wait: (both, n) => wait(both, n / 400),
};
const step = fc.tuple(fc.constantFrom(...Object.keys(STEPS)), fc.nat({ max: 999 }));
const schedule = fc.array(step, { minLength: 30, maxLength: 120, size: "max" });

function memoryIsBounded(both: Both): void {
  for (const stream of both.recipient["streams"].values()) {
    expect(stream.admitted["starts"].length).toBeLessThanOrEqual(6 * 512);
  }
  const flights = [...both.sender.lanes.windows.values()].flatMap((window) => window.flights);
  const underWay = flights.reduce((sum, { message }) => sum + message.length, 0);
  expect(underWay).toBeLessThanOrEqual(2 * (WINDOW + 10 ** 6));
}

test("whatever the order, both end with the same bytes and one receipt", async () => {
  await fc.assert(
    fc.asyncProperty(
      files,
      fc.constantFrom(4096, 60_000, 250_000),
      fc.uniqueArray(fc.nat({ max: 5 }), { maxLength: 2 }),
      schedule,
      async (contents, largest, vanishing, steps) => {
        const both = new Both(contents, { largest });
        for (const entry of vanishing) if (contents[entry]) both.withdrawAt.set(entry, CHANGED);
        await both.offer();
        for (const [name, n] of steps) {
          await STEPS[name]!(both, n);
          await both.settled();
          memoryIsBounded(both);
        }
        both.slowDisk = false;
        await both.run();
        const ending = both.withdrawn.size ? "incomplete" : "complete";
        expect(both.endings).toEqual([ending, ending]);
        expect(both.receipts).toHaveLength(1);
        contents.forEach((_, entry) => {
          if (!both.withdrawn.has(entry)) expect(both.arrived(entry)).toBe(true);
        });
        const repeated = both.sender.lanes.reinjection["repeated"].get(Stream.DATA) ?? 0;
        expect(repeated).toBeLessThanOrEqual(both.tape.total);
      },
    ),
    { numRuns: 120 },
  );
});

test.each(
  (["sender", "recipient"] as const).flatMap((to) =>
    (["drop", "repeat", "swap", "forge"] as const).map((attack) => [attack, to] as const),
  ),
)(
  "a network that tampers with control frames can only end it: %s, to the %s",
  async (attack, to) => {
    const both = await new Both([filled(100_000, 1)]).offer();
    const queue = both.queues[to];
    const other: Role = to === "sender" ? "recipient" : "sender";
    const tampered = async () => {
      for (let i = 0; i < 200; i++) {
        if (queue.length >= 2) {
          const first = queue.shift()!;
          if (attack === "repeat") queue.unshift(first, first);
          else if (attack === "swap") queue.splice(1, 0, first);
          else if (attack === "forge") queue.unshift(first.map((octet, at) => octet ^ +(at === 9)));
        }
        both.tick(2.1);
        both.accept();
        for (const one of [() => both.send(), () => both.deliverData(), () => both.sync()]) one();
        both.readBack();
        if (queue.length >= 2 || both.over) both.deliverControl(to);
        both.deliverControl(other);
        await both.settled();
      }
    };
    await expect(tampered()).rejects.toThrow(HandoverError);
    expect(both.receipts).toEqual([]);
  },
);
