/** Hashing what was read back: natively, here, or in a worker, which gives each part's memory back. */
import { createHash, randomBytes } from "node:crypto";

import CRC32 from "crc-32";
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, expect, test, vi } from "vitest";

import type { Bytes } from "../../src/protocol/codec";
import { Container } from "../../src/storage/container";
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
    return call.call === "update" ? { part: call.part } : {};
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

async function hash(hasher: Hasher, content: Bytes) {
  for (let at = 0; at < content.length;) {
    const part = hasher.part(content.length - at);
    expect(part.length).toBeLessThanOrEqual(PART);
    part.set(content.subarray(at, at + part.length));
    at += part.length;
    hasher.update(part);
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
      hasher.update(hasher.part(100));
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

test("large and small files of one container, read back in any steps, are what was sent", async () => {
  vi.stubGlobal("Worker", FakeWorker);
  const sources: Source[] = [
    ["small", noise(1000)],
    ["whole", noise(MAX_WHOLE)],
    ["large", noise(MAX_WHOLE + 1)],
    ["empty", new Uint8Array(0)],
    ["larger", noise(MAX_WHOLE + 2 * PART + 3)],
    ["last", noise(5)],
  ];
  const tape = tapeBytes(sources);
  const container = new Container(manifestOf(sources), "room", new MemoryStore());
  container.write(0, tape);
  container.sync();
  let steps = 0;
  while (container.hashed < tape.length) {
    const before = container.hashed;
    await container.readBack(Math.min(tape.length, before + container.readBackStep));
    expect(container.hashed).toBeGreaterThan(before);
    expect(steps++).toBeLessThan(100);
  }
  expect(container.settle(claim(sources))[1]).toEqual([]);
  container.close();
  await vi.waitFor(() => expect(FakeWorker.made.at(-1)!.terminated).toBe(true));
});

test("a worker that fails lets nobody wait: what it had is lost", async () => {
  vi.stubGlobal("Worker", FakeWorker);
  const hasher = await openHasher(false);
  await hasher.settled();
  FakeWorker.fails = true;
  try {
    hasher.update(hasher.part(10));
    await expect(hasher.finish()).rejects.toThrow(HasherLost);
    await expect(hasher.finish()).rejects.toThrow(HasherLost);
    await expect(hasher.settled()).rejects.toThrow(HasherLost);
    expect(FakeWorker.made.at(-1)!.terminated).toBe(true);
    const sources: Source[] = [["large", noise(MAX_WHOLE + 1)]];
    const container = new Container(manifestOf(sources), "room", new MemoryStore());
    container.write(0, tapeBytes(sources));
    container.sync();
    await expect(container.readBack(MAX_WHOLE)).rejects.toThrow(HasherLost);
  } finally {
    FakeWorker.fails = false;
  }
});
