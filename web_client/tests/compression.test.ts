/** Compressed ranges: frames by Node's own zstd and by hand; whatever comes, no harm is done. */
import { constants, zstdCompressSync } from "node:zlib";

import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";

import { concat, type Bytes } from "../src/protocol/codec";
import { PeerError } from "../src/protocol/errors";
import {
  COMPRESSED,
  Compressor,
  Decompressor,
  STORED,
  decompress,
  phaseOf,
  type Compression,
} from "../src/compression";
import { FILTER, HEADER, HOLE, MAX_RANGE, PHASE, ZSTD } from "../src/protocol/seal";
import { MAX_MESSAGE_SIZE } from "../src/protocol/signal";
import { FIRST_SUITE } from "../src/protocol/suite";

afterEach(() => vi.restoreAllMocks());

/** As Python sends it: one frame with its size, and a checksum only where one is asked for. */
function frame(data: Bytes, checksum = 0): Bytes {
  const params = {
    [constants.ZSTD_c_compressionLevel]: 1,
    [constants.ZSTD_c_contentSizeFlag]: 1,
    [constants.ZSTD_c_checksumFlag]: checksum,
  };
  return new Uint8Array(zstdCompressSync(data, { params, pledgedSrcSize: data.length }));
}

/** The filter, sample by sample. */
function filtered(data: Bytes, phase: number): Bytes {
  const count = (data.length - phase) >> 1;
  const found = data.slice();
  for (let i = 0, before = 0; i < count; i++) {
    const sample = data[phase + 2 * i]! | (data[phase + 2 * i + 1]! << 8);
    const delta = ((sample - before) << 16) >> 16;
    const folded = (delta << 1) ^ (delta >> 15);
    found[phase + i] = folded;
    found[phase + count + i] = folded >> 8;
    before = sample;
  }
  return found;
}

/** Of a PeerError undefined; any other error is thrown on. */
function decompressed(flags: number, length: number, payload: Bytes): Bytes | undefined {
  try {
    const data = decompress(flags, length, payload);
    expect(data.length).toBe(flags === HOLE ? 0 : length);
    return data;
  } catch (error) {
    if (error instanceof PeerError) return undefined;
    throw error;
  }
}

const u32 = (value: number): Bytes => new Uint8Array(new Uint32Array([value]).buffer);
/** A single-segment frame of any blocks that declares `length`. */
const handmade = (length: number, blocks: Bytes): Bytes =>
  concat(Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0xa0), u32(length), blocks);

const modes = [ZSTD, ZSTD | FILTER, ZSTD | FILTER | PHASE] as const;
const data = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 300 }),
  fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 9 }), fc.integer({ min: 1, max: 500 }))
    .map(([one, times]) => concat(...Array<Bytes>(times).fill(one))),
);
const pixels = new Uint8Array(
  Int16Array.from({ length: 1000 }, (_, i) => 900 * Math.sin(i / 40) + ((i * 7919) % 23)).buffer,
);
const sound = filtered(pixels, 0);

describe("a range", () => {
  test("comes out as it went in, in every mode", () => {
    const mode = fc.constantFrom(...modes);
    fc.assert(
      fc.property(data, mode, fc.nat({ max: 3 }), (given, flags, shift) => {
        const plain = flags & FILTER ? filtered(given, flags & PHASE ? 1 : 0) : given;
        // Wherever it lies in memory.
        const payload = concat(new Uint8Array(shift), frame(plain)).subarray(shift);
        expect(decompressed(flags, given.length, payload)).toEqual(given);
      }),
      { numRuns: 1000 },
    );
  });

  test("may be of every length near the edges", () => {
    const random = new Uint16Array(MAX_RANGE / 2).map((_, i) => (i * 40503) ^ (i >> 3));
    const all = new Uint8Array(random.buffer);
    const same = (found: Bytes | undefined, given: Bytes) => Buffer.from(found!).equals(given);
    for (const length of [1, 2, 3, 4, 5, 255, 256, 257, 65_791, 65_792, MAX_RANGE - 1, MAX_RANGE]) {
      const given = all.subarray(0, length);
      for (const flags of modes) {
        const plain = flags & FILTER ? filtered(given, flags & PHASE ? 1 : 0) : given;
        expect(same(decompressed(flags, length, frame(plain)), given)).toBe(true);
      }
    }
    expect(MAX_RANGE).toBe(MAX_MESSAGE_SIZE - FIRST_SUITE.overhead - HEADER);
  });

  test("is its own and stays what it is when the next one comes", () => {
    const first = decompress(ZSTD, pixels.length, frame(pixels));
    decompress(ZSTD, pixels.length, frame(new Uint8Array(pixels.length)));
    expect(first).toEqual(pixels);
  });

  test("of a checksum that holds is taken, of one that does not refused", () => {
    const payload = frame(pixels, 1);
    expect(decompressed(ZSTD, pixels.length, payload)).toEqual(pixels);
    payload[payload.length - 1]! ^= 1;
    expect(decompressed(ZSTD, pixels.length, payload)).toBeUndefined();
  });
});

describe("a hostile sender", () => {
  test("gets any bytes taken or refused", () => {
    const flags = fc.nat({ max: 255 });
    const length = fc.oneof(fc.integer({ min: -1, max: 400 }), fc.maxSafeInteger());
    fc.assert(
      fc.property(flags, length, fc.uint8Array({ maxLength: 300 }), (some, most, payload) => {
        const sane = [0, HOLE, ...modes].includes(some);
        if (decompressed(some, most, payload)) expect(sane).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  test("gets any blocks behind a sound header taken or refused", () => {
    const kind = fc.constantFrom(0, 1, 2, 3);
    const block = fc
      .tuple(kind, fc.boolean(), fc.nat({ max: 40 }), fc.uint8Array({ maxLength: 40 }))
      .map(([one, last, size, body]) => {
        const head = Number(last) | (one << 1) | ((one === 1 ? size : body.length) << 3);
        const content = one === 1 ? Uint8Array.of(7) : body;
        return concat(u32(head).subarray(0, 3), content);
      });
    const length = fc.integer({ min: 1, max: 60 });
    fc.assert(
      fc.property(length, fc.array(block, { maxLength: 4 }), (most, blocks) => {
        decompressed(ZSTD | FILTER, most, handmade(most, concat(...blocks)));
      }),
      { numRuns: 3000 },
    );
  });

  test("gets a frame refused that is cut off anywhere", () => {
    const payload = frame(sound, 1);
    expect(decompressed(ZSTD | FILTER, sound.length, payload)).toEqual(pixels);
    for (let end = 0; end < payload.length; end++) {
      expect(decompressed(ZSTD | FILTER, sound.length, payload.slice(0, end))).toBeUndefined();
    }
  });

  test("gets a frame with any bit flipped taken or refused", () => {
    for (const payload of [frame(sound), frame(pixels), frame(new Uint8Array(2000), 1)]) {
      for (let bit = 0; bit < 8 * payload.length; bit++) {
        const flipped = payload.slice();
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        decompressed(ZSTD | FILTER, 2000, flipped);
      }
    }
  });

  test("gets anything behind a frame refused", () => {
    const payload = frame(pixels);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 50 }), (rest) => {
        expect(decompressed(ZSTD, pixels.length, concat(payload, rest))).toBeUndefined();
      }),
    );
    expect(decompressed(ZSTD, 2 * pixels.length, concat(payload, payload))).toBeUndefined();
  });

  test("gets a wrong size refused before anything is decompressed", () => {
    const called = vi.spyOn(Decompressor.prototype, "decompress");
    const bomb = frame(new Uint8Array(50_000_000));
    for (const length of [1, 1999, 2001, MAX_RANGE]) {
      expect(decompressed(ZSTD, length, bomb)).toBeUndefined();
      expect(decompressed(ZSTD, length, frame(pixels))).toBeUndefined();
    }
    expect(decompressed(ZSTD, MAX_RANGE + 1, frame(new Uint8Array(MAX_RANGE + 1)))).toBeUndefined();
    expect(
      decompressed(ZSTD, 2000, concat(frame(pixels), new Uint8Array(300_000))),
    ).toBeUndefined();
    expect(called).not.toHaveBeenCalled();
  });

  test("gets no more than the range's length out of a frame that goes on", () => {
    const more = Uint8Array.of(0x02, 0x00, 0x10, 0x00); // 128 KiB of zeros, and not the last
    const last = Uint8Array.of(0x03, 0x00, 0x10, 0x00);
    const blocks = concat(...Array<Bytes>(60_000).fill(more), last);
    expect(decompressed(ZSTD, MAX_RANGE, handmade(MAX_RANGE, blocks))).toBeUndefined();
  });

  test("finds nothing broken afterwards, and the memory no larger", () => {
    const grown = vi.spyOn(WebAssembly.Memory.prototype, "buffer", "get");
    const payload = frame(sound);
    for (let round = 0; round < 3000; round++) {
      const flipped = payload.slice();
      flipped[round % payload.length]! ^= 1 + (round % 255);
      decompressed(ZSTD, sound.length, flipped);
      if (round % 100 === 0) {
        expect(decompressed(ZSTD | FILTER, sound.length, payload)).toEqual(pixels);
      }
    }
    const sizes = grown.mock.results.map(({ value }) => (value as ArrayBuffer).byteLength);
    expect(new Set(sizes).size).toBe(1);
  });
});

test("a decoder that stops half way is not used again", () => {
  const call = vi.spyOn(Decompressor.prototype, "decompress");
  call.mockImplementationOnce(() => {
    throw new WebAssembly.RuntimeError("unreachable");
  });
  expect(decompressed(ZSTD, pixels.length, frame(pixels))).toBeUndefined();
  expect(decompressed(ZSTD, pixels.length, frame(pixels))).toEqual(pixels);
  expect(call.mock.contexts[1]).not.toBe(call.mock.contexts[0]);
});

describe("what is compressed here", () => {
  const methods: Compression[] = [
    COMPRESSED,
    { method: "filtered", parity: 0 },
    { method: "filtered", parity: 1 },
  ];
  const smooth = fc
    .tuple(fc.integer({ min: 100, max: 9000 }), fc.integer({ min: 0, max: 1 }))
    .map(([length, odd]) => {
      const samples = Uint16Array.from(
        { length },
        (_, i) => 1000 + Math.round(400 * Math.sin(i / 50)),
      );
      return new Uint8Array(samples.buffer).slice(odd, 2 * length);
    });

  test("is read back as it was, at any phase", async () => {
    const compressor = await Compressor.load();
    fc.assert(
      fc.property(
        fc.oneof(smooth, data),
        fc.constantFrom(...methods),
        fc.nat(9),
        (bytes, how, at) => {
          const phase = phaseOf(how, at);
          const packed = compressor.compress(bytes, how, phase);
          if (packed) {
            expect(packed[1].length).toBeLessThan(bytes.length);
            expect(decompressed(packed[0], bytes.length, packed[1])).toEqual(bytes);
          }
        },
      ),
    );
  });

  test("is what gets smaller by it, and no other", async () => {
    const compressor = await Compressor.load();
    const noise = crypto.getRandomValues(new Uint8Array(65_536));
    const image = new Uint8Array(
      Uint16Array.from({ length: 32_768 }, (_, i) => 1000 + (noise[i]! & 7) + ((i / 9) & 1023))
        .buffer,
    );
    const text = new Uint8Array(65_536).map((_, i) => 65 + ((i * i) % 7));
    expect(compressor.choose([[0, noise]])).toEqual(STORED);
    expect(compressor.choose([[0, image]])).toEqual({ method: "filtered", parity: 0 });
    expect(compressor.choose([[1, image]])).toEqual({ method: "filtered", parity: 1 });
    expect(compressor.choose([[0, text]])).toEqual(COMPRESSED);
    expect(compressor.compress(noise, COMPRESSED, 0)).toBeNull();
    expect(compressor.compress(text, STORED, 0)).toBeNull();
  });

  test("of samples is a good deal smaller than without the filter", async () => {
    const compressor = await Compressor.load();
    let level = 1000;
    const samples = Uint16Array.from(
      { length: 65_536 },
      (_, i) => (level += ((i * 7919) % 31) - 15) & 0xfff,
    );
    const bytes = new Uint8Array(samples.buffer);
    const [plain, filtered] = [COMPRESSED, methods[1]!].map((how) => {
      return compressor.compress(bytes, how, 0)?.[1].length ?? bytes.length;
    });
    expect(filtered).toBeLessThan(0.8 * plain!);
  });
});
