/** Sealing: what one side seals, the other opens; and what it does not seal. */
import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test } from "vitest";

import { utf8, type Bytes } from "../../src/protocol/codec";
import {
  FLAGS,
  HEADER,
  HOLE,
  MAX_RANGE,
  Opener,
  RangeSealer,
  Stream,
  type Header,
} from "../../src/protocol/seal";
import { MAX_MESSAGE_SIZE } from "../../src/protocol/signal";
import { FIRST_SUITE } from "../../src/protocol/suite";
import { TRANSFER } from "./pair";
import { broken } from "./refusals";

beforeAll(() => sodium.ready);

const PRIVATE = new Uint8Array(32).fill(68);
const sealer = () => new RangeSealer(FIRST_SUITE, sodium.crypto_scalarmult_base(PRIVATE));
const opener = () => new Opener(FIRST_SUITE, PRIVATE);
const ofLength = (length: number, flags = 0): Header => ({
  transferId: TRANSFER,
  stream: Stream.DATA,
  flags,
  offset: 7,
  length,
});

/** What libsodium's own function makes of a sealed range. */
const plainOf = (message: Bytes) =>
  sodium.crypto_box_seal_open(message, sodium.crypto_scalarmult_base(PRIVATE), PRIVATE);

test("what is sealed opens, whatever its header says", () => {
  const header = fc.record({
    transferId: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    stream: fc.constantFrom(...Object.values(Stream)),
    offset: fc.maxSafeInteger().map(Math.abs),
  });
  fc.assert(
    fc.property(header, fc.uint8Array({ minLength: 1, maxLength: 100 }), (fields, payload) => {
      const whole = { ...fields, flags: 0, length: payload.length };
      const message = sealer().seal(whole, payload);
      expect(message).toHaveLength(FIRST_SUITE.overhead + HEADER + payload.length);
      expect(plainOf(message).subarray(HEADER)).toEqual(payload);
      const [found, opened] = opener().open(message);
      expect([found, opened.slice()]).toEqual([whole, payload]);
    }),
  );
});

test.each([1, 63, 64, 65, 4096, MAX_RANGE])("a range of %i bytes is one like any other", (size) => {
  const payload = Uint8Array.from({ length: size }, (_, i) => (i * 31) & 255);
  const message = sealer().seal(ofLength(size), payload);
  expect(message.length).toBeLessThanOrEqual(MAX_MESSAGE_SIZE);
  expect(Buffer.compare(plainOf(message).subarray(HEADER), payload)).toBe(0);
  expect(Buffer.compare(opener().open(message)[1], payload)).toBe(0);
});

test("a hole has no payload, and every other kind of range has one", () => {
  for (const flags of FLAGS) {
    const payload = flags === HOLE ? new Uint8Array(0) : utf8("data");
    const header = ofLength(flags === HOLE ? 10 ** 12 : 4, flags);
    const [found, opened] = opener().open(sealer().seal(header, payload));
    expect([found, opened.slice()]).toEqual([header, payload]);
  }
});

test("no range is sealed twice to the same bytes, and none changes what was sealed before", () => {
  const one = sealer();
  const messages = ["one", "two", "one"].map((text) => one.seal(ofLength(3), utf8(text)));
  const opened = messages.map((message) => opener().open(message)[1].slice());
  expect(opened).toEqual(["one", "two", "one"].map(utf8));
  expect(messages[0]).not.toEqual(messages[2]);
});

test("what was opened can be sealed as it lies there", () => {
  const there = opener().open(sealer().seal(ofLength(4), utf8("data")))[1];
  expect(
    opener()
      .open(sealer().seal(ofLength(4), there))[1]
      .slice(),
  ).toEqual(utf8("data"));
});

test("a key that is no point seals nothing", () => {
  const none = new RangeSealer(FIRST_SUITE, new Uint8Array(32));
  expect(broken(() => none.seal(ofLength(1), utf8("x")))).toBe("public_key_low_order");
});
