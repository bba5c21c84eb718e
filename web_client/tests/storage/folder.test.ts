/** What a chosen folder does beyond the contract: names, open files, permissions. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test } from "vitest";

import { utf8 } from "../../src/protocol/codec";
import { CHANGED, NOT_WRITTEN } from "../../src/protocol/manifest";
import { FolderDestination } from "../../src/storage/folder";
import { MemoryDirectory } from "./directory";
import { claim, manifestOf, tapeBytes, type Source } from "./sources";

beforeAll(() => sodium.ready);

describe("a chosen folder", () => {
  /** Write, sync, read back and settle, as a transfer does. */
  async function receive(
    sources: readonly Source[],
    root: MemoryDirectory,
    { tape = tapeBytes(sources), failed = {} as { [index: number]: number }, step = 7 } = {},
  ) {
    const manifest = manifestOf(sources);
    const folder = new FolderDestination(manifest, root.handle);
    for (let at = 0; at < tape.length; at += step) {
      await folder.write(at, tape.subarray(at, Math.min(at + step, tape.length)));
      await folder.sync(Math.min(at + step, tape.length));
      await folder.readBack(Math.min(at + step, tape.length));
    }
    for (const index of Object.keys(failed)) folder.withdraw(Number(index));
    await folder.sync(tape.length);
    await folder.readBack(tape.length);
    const settled = await folder.settle(claim(sources, failed));
    return { folder, results: settled[0], refused: settled[1] };
  }

  const SOURCES: Source[] = [
    ["Befunde", null],
    ["Befunde/Müller.txt", utf8("first of all")],
    ["Befunde/Bilder/1.dcm", utf8("pixels")],
    ["Befunde/leer.txt", new Uint8Array(0)],
    ["Befunde/leer", null],
    ["note.txt", utf8("a note")],
  ];

  test("gets every file in its place", async () => {
    const root = new MemoryDirectory();
    const { folder, results, refused } = await receive(SOURCES, root);
    expect(root.tree()).toEqual({
      Befunde: null,
      "Befunde/Müller.txt": "first of all",
      "Befunde/Bilder": null,
      "Befunde/Bilder/1.dcm": "pixels",
      "Befunde/leer.txt": "",
      "Befunde/leer": null,
      "note.txt": "a note",
    });
    expect([results.failures(), refused, folder.size]).toEqual([[], [], 24]);
    expect(folder.name).toBe("chosen");
    expect(root.openWriters).toBe(0);
  });

  test("says of a file that it is hashed only once all of it is there", async () => {
    const folder = new FolderDestination(manifestOf(SOURCES), new MemoryDirectory().handle);
    await folder.write(0, tapeBytes(SOURCES).subarray(0, 14));
    await folder.sync(14);
    await folder.readBack(14);
    expect(folder.hashed).toBe(12);
  });

  test("keeps what is there: a new file or folder of that name gets a number", async () => {
    const root = new MemoryDirectory().put("note.txt", "old").put("note (1).txt", "older");
    root.put("Befunde", "a file with the folder's name").put(".profile", "old");
    const sources: Source[] = [...SOURCES, ["note (1).txt", utf8("x")], [".profile", utf8("y")]];
    const { refused } = await receive(sources, root);
    expect(refused).toEqual([]);
    expect(root.tree()).toEqual({
      "note.txt": "old",
      "note (1).txt": "older",
      "note (2).txt": "a note",
      "note (1) (1).txt": "x",
      ".profile": "old",
      ".profile (1)": "y",
      Befunde: "a file with the folder's name",
      "Befunde (1)": null,
      "Befunde (1)/Müller.txt": "first of all",
      "Befunde (1)/Bilder": null,
      "Befunde (1)/Bilder/1.dcm": "pixels",
      "Befunde (1)/leer.txt": "",
      "Befunde (1)/leer": null,
    });
  });

  test("gives two files two names, though both are looked for at once", async () => {
    const root = new MemoryDirectory().put("a.txt", "old");
    const sources: Source[] = [
      ["a.txt", utf8("first")],
      ["a (1).txt", utf8("second")],
    ];
    const folder = new FolderDestination(manifestOf(sources), root.handle);
    await Promise.all([folder.write(0, utf8("first")), folder.write(5, utf8("second"))]);
    await folder.sync(11);
    await folder.readBack(11);
    expect((await folder.settle(claim(sources)))[1]).toEqual([]);
    expect(root.tree()["a.txt"]).toBe("old");
    expect(Object.values(root.tree()).sort()).toEqual(["first", "old", "second"]);
  });

  test("does not write into a folder that is there", async () => {
    const root = new MemoryDirectory();
    (await root.getDirectoryHandle("Befunde", { create: true })).put("Müller.txt", "old");
    await receive(SOURCES, root);
    expect(root.tree()["Befunde/Müller.txt"]).toBe("old");
    expect(root.tree()["Befunde (1)/Müller.txt"]).toBe("first of all");
  });

  test.each([
    ["in a folder", /^Müller/, 1],
    ["at the top, with any number", /^note/, 5],
    ["of an empty file", /^leer.txt$/, 3],
    ["of a folder", /^leer$/, 4],
  ])("a name that this computer refuses fails that entry only: %s", async (_, bad, index) => {
    const root = new MemoryDirectory("chosen", { refuses: (name) => bad.test(name) });
    const { results, refused } = await receive(SOURCES, root);
    expect(refused).toEqual([[index, NOT_WRITTEN]]);
    expect(results.failures()).toEqual([[index, NOT_WRITTEN]]);
    const delivered = SOURCES.filter((_, i) => i !== index).map(([path]) => path);
    expect(Object.keys(root.tree()).sort()).toEqual([...delivered, "Befunde/Bilder"].sort());
  });

  test("a folder that this computer refuses fails everything in it", async () => {
    const root = new MemoryDirectory("chosen", { refuses: (name) => name === "Bilder" });
    const { refused } = await receive(SOURCES, root);
    expect(refused).toEqual([[2, NOT_WRITTEN]]);
  });

  test("a file that is not what the sender says is removed", async () => {
    const root = new MemoryDirectory();
    const tape = tapeBytes(SOURCES);
    tape[0]! ^= 1;
    const { folder, results, refused } = await receive(SOURCES, root, { tape });
    expect(refused).toEqual([[1, CHANGED]]);
    expect(results.failures()).toEqual([[1, CHANGED]]);
    expect(root.tree()).not.toHaveProperty("Befunde/Müller.txt");
    expect(root.tree()).toHaveProperty("Befunde/Bilder/1.dcm");
    expect(folder.size).toBe(12);
  });

  test("has no more than 256 files open, and says beforehand when it has many", async () => {
    const sources = Array.from({ length: 300 }, (_, i): Source => [`f${i}`, utf8("x")]);
    const root = new MemoryDirectory();
    const folder = new FolderDestination(manifestOf(sources), root.handle);
    const writing: Promise<void>[] = [];
    for (let at = 0; at < 100; at++) writing.push(folder.write(at, utf8("x")));
    await Promise.all(writing);
    expect(folder.crowded).toBe(false);
    for (let at = 100; at < 300; at++) writing.push(folder.write(at, utf8("x")));
    await Promise.all(writing.slice(0, 256));
    expect(root.openWriters).toBe(256);
    expect(folder.crowded).toBe(true);
    await folder.sync(100);
    await Promise.all(writing);
    expect(root.openWriters).toBe(200);
    await folder.sync(300);
    await folder.readBack(300);
    expect((await folder.settle(claim(sources)))[1]).toEqual([]);
    expect([root.openWriters, folder.crowded]).toEqual([0, false]);
  });

  test("a permission that was taken back fails the files it concerns", async () => {
    const root = new MemoryDirectory("chosen", {
      beforeWrite: (name) => {
        if (name === "note.txt") throw new DOMException("", "NotAllowedError");
      },
    });
    const { refused } = await receive(SOURCES, root);
    expect(refused).toEqual([[5, NOT_WRITTEN]]);
    expect(root.tree()).not.toHaveProperty("note.txt");
    expect(root.openWriters).toBe(0);
  });

  test("discarding removes what it made and leaves what was there", async () => {
    const root = new MemoryDirectory().put("note.txt", "old").put("mine.txt", "mine");
    const folder = new FolderDestination(manifestOf(SOURCES), root.handle);
    const tape = tapeBytes(SOURCES);
    await folder.write(0, tape.subarray(0, 15));
    await folder.sync(12);
    await folder.write(18, tape.subarray(18));
    await folder.discard();
    expect(root.tree()).toEqual({ "note.txt": "old", "mine.txt": "mine" });
    expect(root.openWriters).toBe(0);
  });

  test("discarding leaves what someone else put into its folders meanwhile", async () => {
    const root = new MemoryDirectory();
    const folder = new FolderDestination(manifestOf(SOURCES), root.handle);
    await folder.write(0, tapeBytes(SOURCES));
    (await root.getDirectoryHandle("Befunde")).put("theirs.txt", "theirs");
    await folder.discard();
    expect(root.tree()).toEqual({ Befunde: null, "Befunde/theirs.txt": "theirs" });
  });
});
