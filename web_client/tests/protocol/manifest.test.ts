/** The manifest as its sender makes it, and what it notes of the entries. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test } from "vitest";

import {
  MAX_ENTRIES,
  MAX_HOLES,
  NOT_PLACED,
  Results,
  decodeManifest,
  encodeManifest,
  holesOf,
  resultsRoot,
  type Entry,
} from "../../src/protocol/manifest";
import { broken, failure } from "./refusals";

beforeAll(() => sodium.ready);

const salt = new Uint8Array(32);
const file = (path: string, more: Partial<Entry> = {}): Entry => ({
  path,
  kind: "file",
  size: 0,
  modified: 0,
  data: null,
  original: null,
  ...more,
});
const encode = (entries: Entry[]) =>
  encodeManifest({ entries, salt, skipped: {}, purpose: null, reason: "" });

test("as many entries as a recipient takes are encoded, and not one more", () => {
  const many = Array.from({ length: MAX_ENTRIES }, (_, i) => file(String(i)));
  expect(decodeManifest(encode(many)).entries).toHaveLength(MAX_ENTRIES);
  expect(failure(() => encode([...many, file("x")]))).toBe("too_many_entries");
});

test("no more bytes are encoded than a recipient takes", () => {
  const long = Array.from({ length: 60_000 }, (_, i) => file(`${"\u0001".repeat(200)}${i}`));
  expect(failure(() => encode(long))).toBe("too_many_entries");
});

test("holes that would take days to hash are refused", () => {
  const sparse = file("a", { size: MAX_HOLES + 10, data: 10 });
  expect(holesOf(decodeManifest(encode([sparse])).entries)).toBe(MAX_HOLES);
  const more = () => encode([sparse, file("b", { size: 1, data: 0 })]);
  expect(failure(more)).toBe("too_many_holes");
});

test("results that are cleared or forgotten tell of no entry", () => {
  const results = Results.of(2);
  results.delivered(0, salt.slice().fill(1));
  results.failed(1, NOT_PLACED);
  results.forget(1);
  expect([0, 1].map((entry) => results.known(entry))).toEqual([true, false]);
  expect(results.failures()).toEqual([]);
  results.clear();
  expect(results.encode()).toEqual(Results.of(2).encode());
});

test("kept results read back, and nothing else; what was kept is not changed by it", () => {
  const results = Results.of(2);
  results.failed(1, NOT_PLACED);
  const kept = results.encode();
  const again = Results.recall(kept, 2);
  again.forget(1);
  expect(Results.recall(kept, 2).failures()).toEqual([[1, NOT_PLACED]]);
  expect(results.failures()).toEqual([[1, NOT_PLACED]]);
  expect(broken(() => Results.recall(kept, 3))).toBe("results_length");
});

test("an empty file that was read is known, and a leaf tells nothing without its salt", () => {
  const results = Results.of(1);
  expect(results.known(0)).toBe(false);
  results.delivered(0, salt.slice().fill(7));
  expect(results.known(0)).toBe(true);
  const roots = [salt, salt.slice().fill(1)].map((one) =>
    resultsRoot(
      { entries: [file("name")], salt: one, skipped: {}, purpose: null, reason: "" },
      results,
    ),
  );
  expect(roots[0]).not.toEqual(roots[1]);
});
