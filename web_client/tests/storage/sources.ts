/** Files to be received, and what the sender says of them. */
import { expect } from "vitest";

import { sha256, type Bytes } from "../../src/protocol/codec";
import { Failure } from "../../src/protocol/errors";
import { Results, type Entry, type Manifest } from "../../src/protocol/manifest";
import type { MemoryStore } from "../../src/storage/memory";

/** Null is a directory. */
export type Source = [path: string, content: Bytes | null];

export function manifestOf(sources: readonly Source[]): Manifest {
  const entries = sources.map(([path, content]): Entry => ({
    path,
    kind: content === null ? "directory" : "file",
    size: content?.length ?? 0,
    modified: 0,
    data: null,
    original: null,
  }));
  return { entries, salt: new Uint8Array(32), skipped: {}, purpose: null, reason: "" };
}

export const tapeBytes = (sources: readonly Source[]): Bytes =>
  Uint8Array.from(Buffer.concat(sources.map(([, content]) => content ?? new Uint8Array(0))));

/** The sender's records; `failed` is what it gave up. */
export function claim(
  sources: readonly Source[],
  failed: { [index: number]: number } = {},
): Results {
  const results = Results.of(sources.length);
  sources.forEach(([, content], index) => {
    if (failed[index]) results.failed(index, failed[index]);
    else if (content) results.delivered(index, sha256(content));
  });
  return results;
}

/** All that a store holds. */
export function wholeOf(store: MemoryStore): Bytes {
  const whole = new Uint8Array(store.getSize());
  expect(store.read(whole, { at: 0 })).toBe(whole.length);
  return whole;
}

export async function failure(call: () => unknown): Promise<Failure> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(Failure);
    return error as Failure;
  }
  throw new Error("nothing was thrown");
}
