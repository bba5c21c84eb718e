/** Every statement of `storage/ports.ts`, held against each destination there is. */
import { createDecipheriv } from "node:crypto";

import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";

import { sha256, utf8, type Bytes } from "../../src/protocol/codec";
import { CHANGED, NOT_WRITTEN, UNREADABLE, type Manifest } from "../../src/protocol/manifest";
import { Container } from "../../src/storage/container";
import { FolderDestination } from "../../src/storage/folder";
import type { MemoryStore } from "../../src/storage/memory";
import { containers, reserve } from "../../src/storage/opfs";
import type { Destination, Settled } from "../../src/storage/ports";
import { Layout } from "../../src/storage/zip";
import { MemoryDirectory, MemoryFile, type Manners } from "./directory";
import { claim, failure, manifestOf, tapeBytes, wholeOf, type Source } from "./sources";

beforeAll(() => sodium.ready);
afterEach(() => vi.unstubAllGlobals());

/** A destination, and a look at what lies there that does not go through it. */
interface Place {
  readonly destination: Destination;
  /** An entry's content; undefined where there is none. Of a container zeros count as none. */
  content(entry: number): Bytes | undefined;
  /** Whether what was made is gone. */
  erased(): Promise<boolean>;
}

type Make = (manifest: Manifest, manners?: Manners) => Promise<Place>;

function inside(manifest: Manifest, all: () => Bytes) {
  const layout = new Layout(manifest);
  return (entry: number) => {
    const start = layout.start(entry);
    const found = all().slice(start, start + manifest.entries[entry]!.size);
    return found.some((octet) => octet) ? found : undefined;
  };
}

const KEY = new Uint8Array(32).fill(7);

/** By another implementation: Node's. */
function decrypted(content: Bytes): Bytes {
  const cipher = createDecipheriv("chacha20", KEY, new Uint8Array(16));
  const plain = Uint8Array.from(cipher.update(content));
  for (let at = 0; at < plain.length; at += 64) {
    if (!content.subarray(at, at + 64).some((octet) => octet)) plain.fill(0, at, at + 64); // a hole
  }
  return plain;
}

async function onDisk(manifest: Manifest, manners: Manners = {}): Promise<Place> {
  const { beforeWrite, ...rest } = manners;
  const now: Manners = rest; // the disk fails once space is reserved
  const root = new MemoryDirectory("root", now);
  vi.stubGlobal("navigator", { storage: { getDirectory: async () => root } });
  const { store } = await reserve("ab12", new Layout(manifest).size, KEY, async () => true);
  const folder = await root.getDirectoryHandle("handover");
  const file = folder.entries.get("ab12") as MemoryFile;
  if (beforeWrite) now.beforeWrite = beforeWrite;
  return {
    destination: new Container(manifest, "ab12", store),
    content: inside(manifest, () => decrypted(file.content)),
    erased: async () => !(await containers()).length,
  };
}

async function inMemory(manifest: Manifest, { beforeWrite }: Manners = {}): Promise<Place> {
  vi.stubGlobal("navigator", {}); // no disk for pages
  const { where, store } = await reserve("ab12", new Layout(manifest).size, KEY, async () => true);
  expect(where).toBe("memory");
  const write = store.write.bind(store);
  store.write = (data, options) => {
    beforeWrite?.("");
    return write(data, options);
  };
  const all = () => wholeOf(store as MemoryStore);
  return {
    destination: new Container(manifest, "ab12", store),
    content: inside(manifest, all),
    erased: async () => true, // with the page
  };
}

async function inFolder(manifest: Manifest, manners: Manners = {}): Promise<Place> {
  const root = new MemoryDirectory("chosen", manners).put("theirs.txt", "theirs");
  return {
    destination: new FolderDestination(manifest, root.handle),
    content(entry) {
      const { path } = manifest.entries[entry]!;
      const text = root.tree()[path];
      return typeof text === "string" ? utf8(text) : undefined;
    },
    async erased() {
      expect(root.openWriters).toBe(0);
      return Object.keys(root.tree()).join() === "theirs.txt";
    },
  };
}

const SOURCES: Source[] = [
  ["a", utf8("first")],
  ["d", null],
  ["d/b", utf8("second")],
  ["empty", new Uint8Array(0)],
  ["c", utf8("third")],
];
const [A, B, EMPTY, C] = [0, 2, 3, 4];
const TOTAL = 16;

/** Write it all, in ranges of `step`; it is not durable yet. */
async function write(to: Destination, tape: Bytes, step = 7): Promise<void> {
  for (let at = 0; at < tape.length; at += step) {
    await to.write(at, tape.subarray(at, Math.min(at + step, tape.length)));
  }
}

/** On the disk for good, read back as far as `upto`, and settled. */
async function settle(
  to: Destination,
  sources: readonly Source[],
  failed: { [index: number]: number } = {},
  upto = tapeBytes(sources).length,
): Promise<Settled> {
  await to.sync(tapeBytes(sources).length);
  await to.readBack(upto);
  return to.settle(claim(sources, failed));
}

describe.each([
  ["a container on the browser's disk", onDisk],
  ["a container in memory", inMemory],
  ["a chosen folder", inFolder],
] as [string, Make][])("%s", (_, make) => {
  const open = (manners?: Manners) => make(manifestOf(SOURCES), manners);

  test("holds what was sent, and its records say so", async () => {
    const { destination, content } = await open();
    await write(destination, tapeBytes(SOURCES));
    const [results, refused] = await settle(destination, SOURCES);
    expect(results.encode()).toEqual(claim(SOURCES).encode());
    expect(refused).toEqual([]);
    for (const entry of [A, B, C]) expect(content(entry)).toEqual(SOURCES[entry]![1]);
  });

  test("has a name, knows what it stores, and in the end its size", async () => {
    const { destination } = await open();
    expect(destination.name).toBeTruthy();
    expect(["file", "browser"]).toContain(destination.stored);
    expect(destination.readBackStep).toBeGreaterThan(0);
    expect(destination.crowded).toBe(false);
    await write(destination, tapeBytes(SOURCES));
    await settle(destination, SOURCES);
    expect(destination.size).toBeGreaterThanOrEqual(TOTAL);
  });

  test("takes ranges in any order, several at once, that straddle entries", async () => {
    const { destination } = await open();
    const tape = tapeBytes(SOURCES);
    const ranges = [
      [14, 16],
      [3, 12],
      [12, 14],
      [0, 3],
    ] as const;
    const writing = ranges.map(([from, to]) => destination.write(from, tape.subarray(from, to)));
    await Promise.all(writing);
    expect((await settle(destination, SOURCES))[1]).toEqual([]);
  });

  test("takes ranges while it syncs and reads back what came before", async () => {
    const { destination } = await open();
    const tape = tapeBytes(SOURCES);
    await destination.write(0, tape.subarray(0, 8));
    await destination.sync(8);
    await Promise.all([
      destination.readBack(8),
      destination.write(8, tape.subarray(8, 12)),
      destination.write(12, tape.subarray(12)),
      destination.sync(8),
    ]);
    expect(destination.hashed).toBeLessThanOrEqual(8);
    expect((await settle(destination, SOURCES))[1]).toEqual([]);
  });

  test("keeps nothing of a payload once the call has returned", async () => {
    const { destination } = await open();
    const payload = tapeBytes(SOURCES);
    const writing = destination.write(0, payload);
    payload.fill(0xff);
    await writing;
    expect((await settle(destination, SOURCES))[1]).toEqual([]);
  });

  test("reads zeros where no range came: holes are never written", async () => {
    const sources: Source[] = [
      ["sparse", utf8(`${"\0".repeat(20)}middle${"\0".repeat(20)}`)],
      ["d/hole", utf8("\0".repeat(40))],
    ];
    const { destination } = await make(manifestOf(sources));
    await destination.write(20, utf8("middle"));
    expect((await settle(destination, sources))[1]).toEqual([]);
  });

  test("reads back no further than it is told, and never goes back", async () => {
    const { destination } = await open();
    await write(destination, tapeBytes(SOURCES));
    await destination.sync(TOTAL);
    let before = 0;
    for (let upto = 1; upto <= TOTAL; upto++) {
      await destination.readBack(upto);
      expect(destination.hashed).toBeGreaterThanOrEqual(before);
      expect(destination.hashed).toBeLessThanOrEqual(upto);
      before = destination.hashed;
    }
    expect(before).toBe(TOTAL);
    expect((await destination.settle(claim(SOURCES)))[1]).toEqual([]);
  });

  test("reads back in steps of any length, which end within entries", async () => {
    for (let step = 1; step <= TOTAL; step++) {
      const { destination } = await open();
      await write(destination, tapeBytes(SOURCES));
      await destination.sync(TOTAL);
      for (let at = step; at < TOTAL + step; at += step) {
        await destination.readBack(Math.min(at, TOTAL));
      }
      expect((await destination.settle(claim(SOURCES)))[1]).toEqual([]);
    }
  });

  test("finds what is not as the sender says, and leaves nothing of it", async () => {
    const { destination, content } = await open();
    const tape = tapeBytes(SOURCES);
    tape[6]! ^= 1;
    await write(destination, tape);
    const [results, refused] = await settle(destination, SOURCES);
    expect([results.failures(), refused]).toEqual([[[B, CHANGED]], [[B, CHANGED]]]);
    expect(content(B)).toBeUndefined();
    expect(content(C)).toEqual(utf8("third"));
  });

  test("finds an empty file whose digest is that of something else", async () => {
    const { destination } = await open();
    await write(destination, tapeBytes(SOURCES));
    await destination.sync(TOTAL);
    await destination.readBack(TOTAL);
    const claimed = claim(SOURCES);
    claimed.delivered(EMPTY, sha256(utf8("x")));
    expect((await destination.settle(claimed))[1]).toEqual([[EMPTY, CHANGED]]);
  });

  test("does not count as delivered what was never read back", async () => {
    const { destination, content } = await open();
    await write(destination, tapeBytes(SOURCES));
    expect((await settle(destination, SOURCES, {}, 11))[1]).toEqual([[C, NOT_WRITTEN]]);
    expect(content(C)).toBeUndefined();
  });

  test("leaves out what was withdrawn, which is no failure of this side", async () => {
    const { destination, content } = await open();
    await destination.write(0, utf8("firstse"));
    destination.withdraw(B);
    await destination.write(11, utf8("third"));
    const [results, refused] = await settle(destination, SOURCES, { [B]: CHANGED });
    expect([results.failures(), refused]).toEqual([[[B, CHANGED]], []]);
    expect(content(B)).toBeUndefined();
  });

  test("leaves out what is withdrawn after some or all of it is read back", async () => {
    for (const upto of [8, TOTAL]) {
      const { destination, content } = await open();
      await write(destination, tapeBytes(SOURCES));
      await destination.sync(TOTAL);
      await destination.readBack(upto);
      destination.withdraw(B);
      const [results, refused] = await settle(destination, SOURCES, { [B]: UNREADABLE });
      expect([results.failures(), refused]).toEqual([[[B, UNREADABLE]], []]);
      expect(content(B)).toBeUndefined();
    }
  });

  test("takes in what was withdrawn when a later session begins before its end", async () => {
    const { destination, content } = await open();
    await destination.write(0, utf8("firstse"));
    destination.withdraw(A);
    destination.withdraw(B);
    destination.begin(7);
    await destination.write(7, utf8("condthird"));
    const [results, refused] = await settle(destination, SOURCES, { [A]: CHANGED });
    expect([results.failures(), refused]).toEqual([[[A, CHANGED]], []]);
    expect(content(B)).toEqual(utf8("second"));
  });

  test.each([
    ["QuotaExceededError", make === inFolder ? "disk_error" : "disk_paused", "enospc"],
    ["InvalidStateError", "disk_error", "store_failed"],
  ])("says of a disk that fails that it did, and no more (%s)", async (name, ...expected) => {
    const beforeWrite = () => {
      throw new DOMException("", name);
    };
    const { destination } = await open({ beforeWrite });
    const { code, detail } = await failure(async () => {
      await write(destination, tapeBytes(SOURCES));
      await settle(destination, SOURCES);
    });
    expect([code, detail]).toEqual(expected);
  });

  test("erases what it made and nothing else, at any time, more than once if need be", async () => {
    for (const upto of [0, 8, TOTAL]) {
      const { destination, erased } = await open();
      if (upto) await destination.write(0, tapeBytes(SOURCES).subarray(0, upto));
      await destination.sync(upto);
      if (upto === TOTAL) await settle(destination, SOURCES);
      await destination.discard();
      await destination.discard();
      expect(await erased()).toBe(true);
    }
  });

  test("gives the files of any manifest back", async () => {
    const content = fc.uint8Array({ maxLength: 40 });
    const any = fc
      .array(fc.tuple(fc.integer({ min: 0, max: 3 }), content), { minLength: 1, maxLength: 8 })
      .map((all) => all.map(([depth, data], i): Source => [`${"d/".repeat(depth)}${i}`, data]));
    await fc.assert(
      fc.asyncProperty(any, fc.integer({ min: 1, max: 50 }), async (sources, step) => {
        const { destination } = await make(manifestOf(sources));
        await write(destination, tapeBytes(sources), step);
        const [results, refused] = await settle(destination, sources);
        expect(refused).toEqual([]);
        expect(results.encode()).toEqual(claim(sources).encode());
      }),
      { numRuns: 30 },
    );
  });
});

test("a container that was closed is there for a reload, as far as it was durable", async () => {
  const { destination, content } = await onDisk(manifestOf(SOURCES));
  await destination.write(0, utf8("firstse"));
  await destination.sync(7);
  destination.close();
  expect(await containers()).toEqual(["ab12"]);
  expect(content(A)).toEqual(utf8("first"));
});
