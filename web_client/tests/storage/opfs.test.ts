/** Space on the browser's own disk, or in memory where there is too little of it. */
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";

import { utf8 } from "../../src/protocol/codec";
import type { MemoryStore } from "../../src/storage/memory";
import { MAX_IN_MEMORY, containers, erase, reopen, reserve } from "../../src/storage/opfs";
import { MemoryDirectory, MemoryFile } from "./directory";
import { failure } from "./sources";

beforeAll(() => sodium.ready);
afterEach(() => vi.unstubAllGlobals());

describe("space", () => {
  const NAME = "ab12";
  const KEY = new Uint8Array(32).fill(7);
  const asked = (granted: boolean, then = () => {}) => {
    const ask = vi.fn(async () => {
      then();
      return granted;
    });
    return ask;
  };

  function disk(space?: number): MemoryDirectory {
    const root = new MemoryDirectory("root", space === undefined ? {} : { space });
    vi.stubGlobal("navigator", { storage: { getDirectory: async () => root } });
    return root;
  }

  /** Of the container, on the disk: whole blocks. */
  const size = (root: MemoryDirectory) =>
    ((root.entries.get("handover") as MemoryDirectory).entries.get(NAME) as MemoryFile).content
      .length;

  test("is on the disk where twice the size fits, and nobody is asked", async () => {
    const root = disk(2048);
    const ask = asked(false);
    const space = await reserve(NAME, 1000, KEY, ask);
    expect([space.where, space.tight, size(root)]).toEqual(["disk", false, 1024]);
    expect(ask).not.toHaveBeenCalled();
    expect(await containers()).toEqual([NAME]);
  });

  test("is asked for where it is short", async () => {
    const root = disk(1500);
    const space = await reserve(
      NAME,
      1000,
      KEY,
      asked(true, () => (root.manners.space = 2000)),
    );
    expect([space.where, space.tight]).toEqual(["disk", false]);
  });

  test("is tight where the copy to be saved may not fit", async () => {
    const root = disk(1500);
    const space = await reserve(NAME, 1000, KEY, asked(false));
    expect([space.where, space.tight, size(root)]).toEqual(["disk", true, 1024]);
  });

  test("holds nothing of what was there before", async () => {
    const root = disk(2000);
    (await root.getDirectoryHandle("handover", { create: true })).put(NAME, "of an earlier one");
    const { store } = await reserve(NAME, 20, KEY, asked(false));
    const found = new Uint8Array(20).fill(9);
    expect(store.read(found, { at: 0 })).toBe(20);
    expect(found).toEqual(new Uint8Array(20));
  });

  test("is in memory where the disk has too little, and leaves nothing there", async () => {
    disk(500);
    const space = await reserve(NAME, 1000, KEY, asked(false));
    expect([space.where, space.tight, (space.store as MemoryStore).getSize()]).toEqual([
      "memory",
      false,
      1000,
    ]);
    expect(await containers()).toEqual([]);
  });

  test("is in memory where there is no disk", async () => {
    vi.stubGlobal("navigator", {});
    expect((await reserve(NAME, 1000, KEY, asked(true))).where).toBe("memory");
    expect(await containers()).toEqual([]);
  });

  test.each([
    [500, ""],
    [0, "private_window"],
  ])("of more than memory takes is refused (%i bytes of disk)", async (space, detail) => {
    disk(space);
    const error = await failure(() => reserve(NAME, MAX_IN_MEMORY + 1, KEY, asked(false)));
    expect([error.code, error.detail]).toEqual(["no_space", detail]);
  });

  test("is given back by erasing, more than once if need be", async () => {
    disk(2000);
    await reserve(NAME, 1000, KEY, asked(false));
    await erase(NAME);
    await erase(NAME);
    expect(await containers()).toEqual([]);
    await expect(reopen(NAME, KEY)).rejects.toThrow();
  });

  test("is found again after a reload", async () => {
    disk(2000);
    const { store } = await reserve(NAME, 1000, KEY, asked(false));
    store.write(utf8("there"), { at: 500 });
    store.close();
    const found = new Uint8Array(5);
    (await reopen(NAME, KEY)).store.read(found, { at: 500 });
    expect(found).toEqual(utf8("there"));
  });
});
