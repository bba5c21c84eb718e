/** Hashing what was read back: natively, here, or in a worker, which gives each part's memory back. */
import { createHash, randomBytes } from "node:crypto";

import CRC32 from "crc-32";
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, expect, test, vi } from "vitest";

import type { Bytes } from "../../src/protocol/codec";
import { Container } from "../../src/storage/container";
import { FolderDestination } from "../../src/storage/folder";
import {
  HasherLost,
  InlineHasher,
  MAX_WHOLE,
  PART,
  hashWhole,
  openHasher,
  type HashAnswer,
  type HashCall,
  type Hasher,
} from "../../src/storage/hashing";
import { MemoryStore } from "../../src/storage/memory";
import { EncryptedStore } from "../../src/storage/encrypted";
import type { Store, Stored } from "../../src/storage/ports";
import { MemoryDirectory, MemoryFile } from "./directory";
import { claim, manifestOf, tapeBytes, type Source } from "./sources";

beforeAll(() => sodium.ready);
afterEach(() => vi.unstubAllGlobals());

/** A worker in this thread that takes messages as one does: what is transferred is gone here. */
class FakeWorker {
  static made: FakeWorker[] = [];
  static fails = false; // whatever it is asked
  onmessage: (event: { data: HashAnswer }) => void = () => {};
  onerror: () => void = () => {};
  terminated = false;
  private readonly hasher = new InlineHasher(true);
  private busy: Promise<void> = Promise.resolve();

  constructor() {
    FakeWorker.made.push(this);
    setTimeout(() => this.onmessage({ data: {} }));
  }

  postMessage(call: HashCall, transfer: Transferable[]): void {
    const copy = structuredClone(call, { transfer });
    this.busy = this.busy.then(async () => {
      await new Promise((resolve) => setTimeout(resolve));
      this.onmessage({ data: await this.answer(copy) });
    });
  }

  private async answer(call: HashCall): Promise<HashAnswer> {
    if (call.call === "begin") return {};
    if (FakeWorker.fails) return { failed: true };
    if (call.call === "finish") return { hashed: await this.hasher.finish() };
    if (call.call === "forget") this.hasher.forget();
    else this.hasher.update(call.part);
    return call.call === "update" ? { part: call.part.bytes.buffer as ArrayBuffer } : {};
  }

  terminate(): void {
    this.terminated = true;
  }
}

const noise = (length: number): Bytes => new Uint8Array(randomBytes(length));
const right = (content: Bytes) => ({
  digest: new Uint8Array(createHash("sha256").update(content).digest()),
  crc: CRC32.buf(content) >>> 0,
});

const nothing = (hasher: Hasher): Stored => ({
  bytes: hasher.part(),
  skip: 0,
  length: 10,
  encrypted: null,
});

async function hash(hasher: Hasher, content: Bytes) {
  for (let at = 0; at < content.length;) {
    const bytes = hasher.part();
    const length = Math.min(PART, content.length - at);
    bytes.set(content.subarray(at, at + length));
    at += length;
    hasher.update({ bytes, skip: 0, length, encrypted: null });
  }
  return hasher.finish();
}

test.each(["inline", "worker"])(
  "%s: one file after the other, also after one was given up",
  async (kind) => {
    if (kind === "worker") vi.stubGlobal("Worker", FakeWorker);
    const hasher = await openHasher(true);
    expect(hasher instanceof InlineHasher).toBe(kind === "inline");
    for (const length of [0, 1, PART, PART + 1, 3 * PART + 7]) {
      const content = noise(length);
      expect(await hash(hasher, content)).toEqual(right(content));
      hasher.update(nothing(hasher));
      hasher.forget();
      await hasher.settled();
    }
    hasher.close();
  },
);

test("a whole file is hashed natively", async () => {
  for (const length of [0, 1, 100_000]) {
    const content = noise(length);
    expect(await hashWhole(content, true)).toEqual(right(content));
  }
});

test("where no worker can be had it is done here", async () => {
  class Refused {
    constructor() {
      throw new DOMException("", "SecurityError");
    }
  }
  vi.stubGlobal("Worker", Refused);
  expect(await openHasher(true)).toBeInstanceOf(InlineHasher);
  class Broken {
    onerror: () => void = () => {};
    constructor() {
      setTimeout(() => this.onerror());
    }
    terminate(): void {}
  }
  vi.stubGlobal("Worker", Broken);
  expect(await openHasher(true)).toBeInstanceOf(InlineHasher);
});

const SOURCES: Source[] = [
  ["small", noise(1000)],
  ["whole", noise(MAX_WHOLE)],
  ["large", noise(MAX_WHOLE + 1)],
  ["empty", new Uint8Array(0)],
  ["larger", noise(MAX_WHOLE + 2 * PART + 3)],
  ["holes", new Uint8Array(MAX_WHOLE + PART + 1).fill(1, MAX_WHOLE)],
  ["last", noise(5)],
];

/** Write it all, read it back step by step, and see that it is what was sent. */
async function readBack(store: Store, between = (_step: number) => {}): Promise<void> {
  const tape = tapeBytes(SOURCES);
  const container = new Container(manifestOf(SOURCES), "room", store);
  for (let at = 0; at < tape.length; at += PART) container.write(at, tape.slice(at, at + PART));
  container.sync();
  let steps = 0;
  while (container.hashed < tape.length) {
    between(steps);
    const before = container.hashed;
    await container.readBack(Math.min(tape.length, before + container.readBackStep));
    expect(container.hashed).toBeGreaterThan(before);
    expect(steps++).toBeLessThan(100);
  }
  expect(container.settle(claim(SOURCES))[1]).toEqual([]);
  container.close();
}

const encrypted = async () =>
  new EncryptedStore(await new MemoryFile("ab", {}).createSyncAccessHandle(), randomBytes(32));

test.each(["plain", "encrypted"])(
  "large and small files of one %s container, read back in any steps, are what was sent",
  async (kind) => {
    vi.stubGlobal("Worker", FakeWorker);
    await readBack(kind === "plain" ? new MemoryStore() : await encrypted());
    await vi.waitFor(() => expect(FakeWorker.made.at(-1)!.terminated).toBe(true));
  },
);

test("a worker that fails lets nobody wait: what it had is lost", async () => {
  vi.stubGlobal("Worker", FakeWorker);
  const hasher = await openHasher(false);
  await hasher.settled();
  FakeWorker.fails = true;
  try {
    hasher.update(nothing(hasher));
    await expect(hasher.finish()).rejects.toThrow(HasherLost);
    await expect(hasher.finish()).rejects.toThrow(HasherLost);
    await expect(hasher.settled()).rejects.toThrow(HasherLost);
    expect(FakeWorker.made.at(-1)!.terminated).toBe(true);
  } finally {
    FakeWorker.fails = false;
  }
});

test.each([0, 1, 2, 3, 4, 5])(
  "a worker that fails before step %i costs time and nothing else",
  async (fatal) => {
    vi.stubGlobal("Worker", FakeWorker);
    try {
      await readBack(await encrypted(), (step) => (FakeWorker.fails ||= step === fatal));
    } finally {
      FakeWorker.fails = false;
    }
  },
);

test.each([false, true])("a large file in a chosen folder; its worker fails: %s", async (fails) => {
  vi.stubGlobal("Worker", FakeWorker);
  FakeWorker.fails = fails;
  try {
    const sources: Source[] = [
      ["large", noise(MAX_WHOLE + PART + 5)],
      ["another", noise(MAX_WHOLE + 1)],
    ];
    const tape = tapeBytes(sources);
    const folder = new FolderDestination(manifestOf(sources), new MemoryDirectory().handle);
    await folder.write(0, tape);
    await folder.sync(tape.length);
    await folder.readBack(tape.length);
    expect((await folder.settle(claim(sources)))[1]).toEqual([]);
    folder.close();
  } finally {
    FakeWorker.fails = false;
  }
});
