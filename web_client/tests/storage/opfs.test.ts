/** Space on the browser's own disk, or in memory where there is too little of it. */
import { afterEach, describe, expect, test, vi } from "vitest";

import {
  MAX_IN_MEMORY,
  containerFile,
  containers,
  erase,
  reopen,
  reserve,
} from "../../src/storage/opfs";
import { MemoryDirectory } from "./directory";
import { failure } from "./sources";

afterEach(() => vi.unstubAllGlobals());

describe("space", () => {
  const NAME = "ab12";
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

  test("is on the disk where twice the size fits, and nobody is asked", async () => {
    disk(2000);
    const ask = asked(false);
    const space = await reserve(NAME, 1000, ask);
    expect([space.where, space.tight, space.store.getSize()]).toEqual(["disk", false, 1000]);
    expect(ask).not.toHaveBeenCalled();
    expect(await containers()).toEqual([NAME]);
  });

  test("is asked for where it is short", async () => {
    const root = disk(1500);
    const space = await reserve(
      NAME,
      1000,
      asked(true, () => (root.manners.space = 2000)),
    );
    expect([space.where, space.tight]).toEqual(["disk", false]);
  });

  test("is tight where the copy to be saved may not fit", async () => {
    disk(1500);
    const space = await reserve(NAME, 1000, asked(false));
    expect([space.where, space.tight, space.store.getSize()]).toEqual(["disk", true, 1000]);
  });

  test("holds nothing of what was there before", async () => {
    const root = disk(2000);
    (await root.getDirectoryHandle("handover", { create: true })).put(NAME, "of an earlier one");
    await reserve(NAME, 20, asked(false));
    expect(await (await containerFile(NAME)).text()).toBe("\0".repeat(20));
  });

  test("is in memory where the disk has too little, and leaves nothing there", async () => {
    disk(500);
    const space = await reserve(NAME, 1000, asked(false));
    expect([space.where, space.tight, space.store.getSize()]).toEqual(["memory", false, 1000]);
    expect(await containers()).toEqual([]);
  });

  test("is in memory where there is no disk", async () => {
    vi.stubGlobal("navigator", {});
    expect((await reserve(NAME, 1000, asked(true))).where).toBe("memory");
    expect(await containers()).toEqual([]);
  });

  test.each([
    [500, ""],
    [0, "private_window"],
  ])("of more than memory takes is refused (%i bytes of disk)", async (space, detail) => {
    disk(space);
    const error = await failure(() => reserve(NAME, MAX_IN_MEMORY + 1, asked(false)));
    expect([error.code, error.detail]).toEqual(["no_space", detail]);
  });

  test("is given back by erasing, more than once if need be", async () => {
    disk(2000);
    await reserve(NAME, 1000, asked(false));
    await erase(NAME);
    await erase(NAME);
    expect(await containers()).toEqual([]);
    await expect(reopen(NAME)).rejects.toThrow();
  });

  test("is found again after a reload", async () => {
    disk(2000);
    await reserve(NAME, 1000, asked(false));
    expect((await reopen(NAME)).store.getSize()).toBe(1000);
  });
});
