/** The tape as a page reads it: every byte once and in order, and what has changed is given up by name. */
import { createHash } from "node:crypto";

import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test } from "vitest";

import type { Bytes } from "../../src/protocol/codec";
import { CHANGED, UNREADABLE } from "../../src/protocol/manifest";
import { Tape } from "../../src/protocol/tape";
import { UNREAD, type EntrySource } from "../../src/storage/listing";
import { FileSource } from "../../src/storage/source";

beforeAll(() => sodium.ready);

const sha256 = (data: Bytes) => new Uint8Array(createHash("sha256").update(data).digest());
const never = () => false;
const filled = (length: number, seed: number) =>
  new Uint8Array(length).map((_, i) => (i * 31 + seed * 7 + (i >> 8)) & 0xff);
const fileOf = (data: Bytes): EntrySource => ({
  path: "f",
  file: new File([data as BlobPart], "f", { lastModified: 5 }),
  handle: null,
});

/** A file that gives other bytes than it had when it was chosen. */
function changing(claimed: number, given: Bytes | Error): EntrySource {
  const file = new File([], "f");
  const stream = () =>
    new ReadableStream({
      type: "bytes",
      pull(controller) {
        if (given instanceof Error) throw given;
        controller.enqueue(given.slice());
        controller.close();
        controller.byobRequest?.respond(0);
      },
    });
  Object.defineProperty(file, "size", { value: claimed });
  return { path: "f", file: Object.assign(file, { stream }), handle: null };
}

const sourceOf = (sources: EntrySource[]) => {
  const sizes = sources.map((one) => (one && one !== UNREAD ? one.file.size : 0));
  const tape = new Tape(sizes);
  const found = new FileSource({ entries: [], sources, roots: [] }, tape);
  return { tape, source: found };
};

/** Read all of it in steps; what came, and what became of the entries. */
async function readAll(source: FileSource, total: number, step: number) {
  const parts: Bytes[] = [];
  const finished: [number, Bytes][] = [];
  const withdrawn: [number, number][] = [];
  let at = 0;
  for (;;) {
    const block = await source.read(at, Math.min(step, total - at));
    parts.push(block.payload.slice());
    finished.push(...(block.finished as [number, Bytes][]));
    withdrawn.push(...(block.withdrawn as [number, number][]));
    at += block.length;
    if (!block.length && !block.finished.length && !block.withdrawn.length) break;
  }
  return { data: new Uint8Array(Buffer.concat(parts)), finished, withdrawn };
}

const sizes = fc.array(
  fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 700_000 })),
  {
    minLength: 1,
    maxLength: 12,
  },
);

test("every file comes whole and in order, with its digest, in steps of any length", async () => {
  await fc.assert(
    fc.asyncProperty(sizes, fc.integer({ min: 20_000, max: 300_000 }), async (lengths, step) => {
      const contents = lengths.map((length, index) => filled(length, index));
      const { source, tape } = sourceOf([null, ...contents.map(fileOf), null]);
      const { data, finished, withdrawn } = await readAll(source, tape.total, step);
      expect(Buffer.compare(data, Buffer.concat(contents))).toBe(0);
      expect(finished).toEqual(contents.map((content, index) => [index + 1, sha256(content)]));
      expect(withdrawn).toEqual([]);
      source.close();
    }),
    { numRuns: 40 },
  );
});

test("it goes on where a recipient stands: known files are not read, others hashed from their start", async () => {
  await fc.assert(
    fc.asyncProperty(sizes, fc.nat(), fc.boolean(), async (lengths, point, knows) => {
      const contents = lengths.map((length, index) => filled(length, index));
      const { source, tape } = sourceOf(contents.map(fileOf));
      const offset = tape.total ? point % tape.total : 0;
      const known = (entry: number) => (knows ? sha256(contents[entry]!) : null);
      const skipped = await source.skip(offset, known, never);
      const before = contents.filter(
        (_, i) => tape.end(i) <= offset && tape.start(i) < offset,
      ).length;
      expect(skipped.finished.length).toBe(knows ? 0 : before);
      const whole = new Uint8Array(Buffer.concat(contents));
      const { data, finished } = await readAll(source, tape.total - offset, 100_000);
      expect(Buffer.compare(data, whole.subarray(offset))).toBe(0);
      const all = [...skipped.finished, ...finished].map(([entry]) => entry);
      expect(all).toEqual([...contents.keys()].filter((i) => !knows || all.includes(i)));
      for (const [entry, digest] of finished) expect(digest).toEqual(sha256(contents[entry]!));
    }),
    { numRuns: 40 },
  );
});

test.each([
  ["shrank", changing(1000, filled(400, 1)), CHANGED, 400],
  ["cannot be read any more", changing(1000, new Error("NotReadableError")), UNREADABLE, 0],
  ["could not be read when it was listed", UNREAD, UNREADABLE, 0],
] as const)(
  "a file that %s is given up by name, and the next one comes whole",
  async (_, odd, status, came) => {
    const [first, last] = [filled(10, 1), filled(300_000, 2)];
    const { source } = sourceOf([fileOf(first), odd, fileOf(last)]);
    const parts: Bytes[] = [];
    const withdrawn: unknown[] = [];
    const finished: unknown[] = [];
    for (let at = 0; at < 100; at++) {
      const block = await source.read(at, 65_536);
      parts.push(block.payload.slice());
      withdrawn.push(...block.withdrawn);
      finished.push(...block.finished.map(([entry]) => entry));
      if (!block.length && !block.withdrawn.length) break;
    }
    expect(withdrawn).toEqual([[1, status]]);
    expect(finished).toEqual([0, 2]);
    const data = Buffer.concat(parts);
    expect(data.length).toBe(10 + came + 300_000);
    expect(Buffer.compare(data.subarray(10 + came), last)).toBe(0);
  },
);

test("a file whose handle leads to another version is given up at its end, or when all is read", async () => {
  const before = new File([filled(100, 1) as BlobPart], "f", { lastModified: 5 });
  let now = new File([filled(100, 2) as BlobPart], "f", { lastModified: 6 });
  const handle = { getFile: async () => now } as unknown as FileSystemFileHandle;
  const at = (file: File): EntrySource => ({ path: "f", file, handle });
  const changed = sourceOf([at(before)]).source;
  expect((await changed.read(0, 1000)).withdrawn).toEqual([[0, CHANGED]]);

  now = before;
  const { source } = sourceOf([at(before)]);
  expect((await source.read(0, 1000)).withdrawn).toEqual([]);
  expect(await source.changed(() => true, never)).toEqual([]);
  now = new File([filled(101, 1) as BlobPart], "f", { lastModified: 5 });
  expect(await source.changed(() => true, never)).toEqual([0]);
  expect(await source.changed(() => false, never)).toEqual([]);
});

test("ten thousand entries that cannot be read are given up in portions, and none twice", async () => {
  const { source } = sourceOf(Array<EntrySource>(10_000).fill(UNREAD));
  const withdrawn: number[] = [];
  for (;;) {
    const block = await source.read(0, 65_536);
    if (!block.withdrawn.length) break;
    expect(block.withdrawn.length).toBeLessThanOrEqual(256);
    withdrawn.push(...block.withdrawn.map(([entry]) => entry));
  }
  expect(withdrawn).toEqual([...Array(10_000).keys()]);
});

test("a file that has become shorter is given up before anybody chooses how to compress it", async () => {
  const { source, tape } = sourceOf([changing(10_000_000, new Uint8Array(5))]);
  const choose = () => {
    throw new Error("too little to choose by");
  };
  const { withdrawn } = await source.read(0, Math.min(65_536, tape.total), { choose } as never);
  expect(withdrawn).toEqual([[0, UNREADABLE]]);
});
