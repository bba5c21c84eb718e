/** A store in memory. */
import fc from "fast-check";
import { expect, test } from "vitest";

import { MemoryStore } from "../../src/storage/memory";
import { wholeOf } from "./sources";

const PAGE = 1024 * 1024;

const place = fc.oneof(
  fc.integer({ min: 0, max: 200 }),
  fc.integer({ min: PAGE - 100, max: PAGE + 100 }),
  fc.integer({ min: 2 * PAGE - 100, max: 2 * PAGE + 100 }),
);
const length = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constantFrom(PAGE, PAGE + 1));
const action = fc.oneof(
  fc.record({
    do: fc.constant("write"),
    at: place,
    length,
    value: fc.integer({ min: 1, max: 255 }),
  }),
  fc.record({ do: fc.constant("read"), at: place, length, value: fc.constant(0) }),
  fc.record({ do: fc.constant("clear"), at: place, length, value: fc.constant(0) }),
  fc.record({
    do: fc.constant("truncate"),
    at: place,
    length: fc.constant(0),
    value: fc.constant(0),
  }),
);

test("a store in memory reads and writes as one array would", { timeout: 30_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 12 }), async (actions) => {
      const store = new MemoryStore();
      const plain = new Uint8Array(4 * PAGE);
      let size = 0;
      for (const { do: what, at, length, value } of actions) {
        if (what === "write") {
          const data = new Uint8Array(length).fill(value);
          expect(store.write(data, { at })).toBe(length);
          plain.set(data, at);
          size = Math.max(size, at + length); // of no bytes, too: as an access handle does
        } else if (what === "clear") {
          store.clear(at, length);
          plain.fill(0, at, Math.min(at + length, size));
        } else if (what === "truncate") {
          store.truncate(at);
          plain.fill(0, at);
          size = at;
        } else {
          const [buffer, expected] = [
            new Uint8Array(length).fill(9),
            new Uint8Array(length).fill(9),
          ];
          const end = Math.max(Math.min(at + length, size), at);
          expected.set(plain.subarray(at, end));
          expect(store.read(buffer, { at })).toBe(end - at);
          expect(Buffer.compare(buffer, expected)).toBe(0);
        }
        expect(store.getSize()).toBe(size);
      }
      const whole = Buffer.from(wholeOf(store));
      expect(whole.length).toBe(size);
      expect(Buffer.compare(whole, plain.subarray(0, size))).toBe(0);
    }),
    { numRuns: 60 },
  );
});
