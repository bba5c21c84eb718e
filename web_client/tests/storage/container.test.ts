/** Where the bytes go: a container, memory, the browser's disk, a chosen folder. */
import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";

import {
  Container,
  MAX_IN_MEMORY,
  MemoryStore,
  containerFile,
  containers,
  diskFailure,
  erase,
  reopen,
  reserve,
  type Store,
} from "../../src/storage/container";
import { FolderDestination } from "../../src/storage/folder";
import { sha256, utf8, type Bytes } from "../../src/protocol/codec";
import { Failure } from "../../src/protocol/errors";
import {
  CHANGED,
  NOT_WRITTEN,
  Results,
  UNREADABLE,
  tapeOf,
  type Entry,
  type Manifest,
} from "../../src/protocol/manifest";
import { MemoryDirectory } from "./directory";

beforeAll(() => sodium.ready);
afterEach(() => vi.unstubAllGlobals());

const PAGE = 1024 * 1024;

type Source = [path: string, content: Bytes | null];

function manifestOf(sources: readonly Source[]): Manifest {
  const entries = sources.map(([path, content]): Entry => ({
    path,
    kind: content === null ? "directory" : "file",
    size: content?.length ?? 0,
    modified: 0,
    data: null,
  }));
  return { entries, salt: new Uint8Array(32) };
}

const tapeBytes = (sources: readonly Source[]): Bytes =>
  Uint8Array.from(Buffer.concat(sources.map(([, content]) => content ?? new Uint8Array(0))));

/** The sender's records; `failed` is what it gave up. */
function claim(sources: readonly Source[], failed: { [index: number]: number } = {}): Results {
  const results = Results.of(sources.length);
  sources.forEach(([, content], index) => {
    if (failed[index]) results.failed(index, failed[index]);
    else if (content) results.delivered(index, sha256(content));
  });
  return results;
}

async function failure(call: () => unknown): Promise<Failure> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(Failure);
    return error as Failure;
  }
  throw new Error("nothing was thrown");
}

// --- memory ----------------------------------------------------------------------------------------

const place = fc.oneof(
  fc.integer({ min: 0, max: 200 }),
  fc.integer({ min: PAGE - 100, max: PAGE + 100 }),
  fc.integer({ min: 2 * PAGE - 100, max: 2 * PAGE + 100 }),
);
const length = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constantFrom(PAGE, PAGE + 1));
const action = fc.oneof(
  fc.record({
    do: fc.constant("write"),
    at: place,
    length,
    value: fc.integer({ min: 1, max: 255 }),
  }),
  fc.record({ do: fc.constant("read"), at: place, length, value: fc.constant(0) }),
  fc.record({
    do: fc.constant("truncate"),
    at: place,
    length: fc.constant(0),
    value: fc.constant(0),
  }),
);

test("a store in memory reads and writes as one array would", { timeout: 30_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 12 }), async (actions) => {
      const store = new MemoryStore();
      const plain = new Uint8Array(4 * PAGE);
      let size = 0;
      for (const { do: what, at, length, value } of actions) {
        if (what === "write") {
          const data = new Uint8Array(length).fill(value);
          expect(store.write(data, { at })).toBe(length);
          plain.set(data, at);
          size = Math.max(size, at + length); // of no bytes, too: as an access handle does
        } else if (what === "truncate") {
          store.truncate(at);
          plain.fill(0, at);
          size = at;
        } else {
          const [buffer, expected] = [
            new Uint8Array(length).fill(9),
            new Uint8Array(length).fill(9),
          ];
          const end = Math.max(Math.min(at + length, size), at);
          expected.set(plain.subarray(at, end));
          expect(store.read(buffer, { at })).toBe(end - at);
          expect(Buffer.compare(buffer, expected)).toBe(0);
        }
        expect(store.getSize()).toBe(size);
      }
      const whole = Buffer.from(await store.blob().arrayBuffer());
      expect(whole.length).toBe(size);
      expect(Buffer.compare(whole, plain.subarray(0, size))).toBe(0);
    }),
    { numRuns: 60 },
  );
});

// --- the container ---------------------------------------------------------------------------------

describe("a container", () => {
  const SOURCES: Source[] = [
    ["a", utf8("first")],
    ["d", null],
    ["b", utf8("second")],
    ["empty", new Uint8Array(0)],
    ["c", utf8("third")],
  ];
  const TOTAL = 16;

  function container(sources = SOURCES, store: Store = new MemoryStore()) {
    return new Container(manifestOf(sources), "room", store);
  }

  function filled(sources = SOURCES, store?: Store) {
    const made = container(sources, store);
    made.write(0, tapeBytes(sources));
    made.sync();
    return made;
  }

  test("finds everything as it was sent", () => {
    const made = filled();
    made.readBack(TOTAL);
    const [results, refused] = made.settle(claim(SOURCES));
    expect(results.failures()).toEqual([]);
    expect(refused).toEqual([]);
    expect(results.encode()).toEqual(claim(SOURCES).encode());
  });

  test("reads back in steps of any length, which end within entries", () => {
    for (let step = 1; step <= TOTAL; step++) {
      const made = filled();
      while (made.hashed < TOTAL) made.readBack(Math.min(made.hashed + step, TOTAL));
      expect(made.settle(claim(SOURCES))[1]).toEqual([]);
    }
  });

  test("finds what is not what the sender says", () => {
    const made = container();
    const tape = tapeBytes(SOURCES);
    tape[6]! ^= 1;
    made.write(0, tape);
    made.readBack(TOTAL);
    const [results, refused] = made.settle(claim(SOURCES));
    expect(refused).toEqual([[2, CHANGED]]);
    expect(results.failures()).toEqual([[2, CHANGED]]);
  });

  test("finds an empty file whose digest is that of something else", () => {
    const made = filled();
    made.readBack(TOTAL);
    const claimed = claim(SOURCES);
    claimed.delivered(3, sha256(utf8("x")));
    expect(made.settle(claimed)[1]).toEqual([[3, CHANGED]]);
  });

  test("does not count as delivered what was never read back", () => {
    const made = filled();
    made.readBack(11);
    expect(made.settle(claim(SOURCES))[1]).toEqual([[4, NOT_WRITTEN]]);
  });

  test("fails only the entry that cannot be read back", () => {
    class Failing extends MemoryStore {
      override read(buffer: Bytes, options: { at: number }): number {
        if (options.at === broken) throw new DOMException("", "InvalidStateError");
        return super.read(buffer, options);
      }
    }
    const broken = container().layout.start(2);
    const made = filled(SOURCES, new Failing());
    for (const upto of [3, 8, TOTAL]) made.readBack(upto);
    expect(made.settle(claim(SOURCES))[1]).toEqual([[2, NOT_WRITTEN]]);
  });

  test("fails an entry of which the store has less than was written", () => {
    class Short extends MemoryStore {
      override read(buffer: Bytes, options: { at: number }): number {
        return options.at === last ? 0 : super.read(buffer, options);
      }
    }
    const last = container().layout.start(4);
    const made = filled(SOURCES, new Short());
    made.readBack(TOTAL);
    expect(made.settle(claim(SOURCES))[1]).toEqual([[4, NOT_WRITTEN]]);
  });

  test("leaves out what was withdrawn, which is no failure of this side", () => {
    const made = container();
    made.write(0, utf8("firstse"));
    made.withdraw(2);
    made.write(11, utf8("third"));
    made.readBack(TOTAL);
    const [results, refused] = made.settle(claim(SOURCES, { 2: CHANGED }));
    expect(refused).toEqual([]);
    expect(results.failures()).toEqual([[2, CHANGED]]);
  });

  test("leaves out what is withdrawn when half of it is read back", () => {
    const made = filled();
    made.readBack(8);
    made.withdraw(2);
    made.readBack(TOTAL);
    const [results, refused] = made.settle(claim(SOURCES, { 2: UNREADABLE }));
    expect([results.failures(), refused]).toEqual([[[2, UNREADABLE]], []]);
  });

  test("takes in what was withdrawn when a later session begins before its end", () => {
    const made = container();
    made.write(0, utf8("firstse"));
    made.withdraw(0);
    made.withdraw(2);
    made.begin(7);
    made.write(7, utf8("condthird"));
    made.readBack(TOTAL);
    const [results, refused] = made.settle(claim(SOURCES, { 0: CHANGED }));
    expect([results.failures(), refused]).toEqual([[[0, CHANGED]], []]);
  });

  test("writes on when the store takes only a part", () => {
    class Slow extends MemoryStore {
      override write(data: Bytes, options: { at: number }): number {
        return super.write(data.subarray(0, 2), options);
      }
    }
    const made = filled(SOURCES, new Slow());
    made.readBack(TOTAL);
    expect(made.settle(claim(SOURCES))[1]).toEqual([]);
  });

  test.each(["write", "flush", "truncate"] as const)(
    "says that the disk failed when the store does (%s)",
    async (method) => {
      const store = new MemoryStore();
      store[method] = () => {
        throw new DOMException("", "QuotaExceededError");
      };
      const work = () => {
        const made = filled(SOURCES, store);
        made.readBack(TOTAL);
        made.settle(claim(SOURCES));
      };
      const { code, detail } = await failure(work);
      expect([code, detail]).toEqual(["disk_error", "no room is left"]);
    },
  );

  test("says that the disk failed when nothing is written any more", async () => {
    const store = new MemoryStore();
    store.write = () => 0;
    expect((await failure(() => filled(SOURCES, store))).code).toBe("disk_error");
  });
});

test("a full disk is told from a broken one", () => {
  expect(diskFailure(new DOMException("", "QuotaExceededError")).detail).toBe("no room is left");
  expect(diskFailure(new DOMException("", "InvalidStateError")).detail).toMatch("store failed");
  expect(diskFailure(new Error("x")).detail).toMatch("store failed");
});

// --- the browser's own disk ------------------------------------------------------------------------

describe("room", () => {
  const NAME = "ab12";
  const asked = (granted: boolean, then = () => {}) => {
    const ask = vi.fn(async () => {
      then();
      return granted;
    });
    return ask;
  };

  function disk(room?: number): MemoryDirectory {
    const root = new MemoryDirectory("root", room === undefined ? {} : { room });
    vi.stubGlobal("navigator", { storage: { getDirectory: async () => root } });
    return root;
  }

  test("is on the disk where twice the size fits, and nobody is asked", async () => {
    disk(2000);
    const ask = asked(false);
    const kept = await reserve(NAME, 1000, ask);
    expect([kept.where, kept.tight, kept.store.getSize()]).toEqual(["disk", false, 1000]);
    expect(ask).not.toHaveBeenCalled();
    expect(await containers()).toEqual([NAME]);
  });

  test("is asked for where it is short", async () => {
    const root = disk(1500);
    const kept = await reserve(
      NAME,
      1000,
      asked(true, () => (root.manners.room = 2000)),
    );
    expect([kept.where, kept.tight]).toEqual(["disk", false]);
  });

  test("is tight where the copy to be saved may not fit", async () => {
    disk(1500);
    const kept = await reserve(NAME, 1000, asked(false));
    expect([kept.where, kept.tight, kept.store.getSize()]).toEqual(["disk", true, 1000]);
  });

  test("holds nothing of what was there before", async () => {
    const root = disk(2000);
    (await root.getDirectoryHandle("handover", { create: true })).put(NAME, "of an earlier one");
    await reserve(NAME, 20, asked(false));
    expect(await (await containerFile(NAME)).text()).toBe("\0".repeat(20));
  });

  test("is in memory where the disk has too little, and leaves nothing there", async () => {
    disk(500);
    const kept = await reserve(NAME, 1000, asked(false));
    expect([kept.where, kept.tight]).toEqual(["memory", false]);
    expect(await containers()).toEqual([]);
  });

  test("is in memory where there is no disk", async () => {
    vi.stubGlobal("navigator", {});
    expect((await reserve(NAME, 1000, asked(true))).where).toBe("memory");
    expect(await containers()).toEqual([]);
  });

  test.each([
    [500, ""],
    [0, "private window"],
  ])("of more than memory takes is refused (%i bytes of disk)", async (room, detail) => {
    disk(room);
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

// --- a chosen folder -------------------------------------------------------------------------------

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

  test("gets ranges that arrive in any order", async () => {
    const root = new MemoryDirectory();
    const manifest = manifestOf(SOURCES);
    const folder = new FolderDestination(manifest, root.handle);
    const tape = tapeBytes(SOURCES);
    for (const [from, to] of [
      [20, 24],
      [5, 14],
      [14, 20],
      [0, 5],
    ] as const) {
      await folder.write(from, tape.subarray(from, to));
    }
    await folder.sync(tape.length);
    await folder.readBack(tape.length);
    expect(folder.hashed).toBe(tape.length);
    expect((await folder.settle(claim(SOURCES)))[1]).toEqual([]);
    expect(root.tree()["Befunde/Müller.txt"]).toBe("first of all");
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

  test("what the sender gave up is removed, whether or not it was whole", async () => {
    const root = new MemoryDirectory();
    const folder = new FolderDestination(manifestOf(SOURCES), root.handle);
    await folder.write(0, utf8("first of allpix"));
    folder.withdraw(2);
    await folder.write(18, utf8("a note"));
    folder.withdraw(1);
    await folder.sync(24);
    await folder.readBack(24);
    const failed = { 1: CHANGED, 2: UNREADABLE };
    const [results, refused] = await folder.settle(claim(SOURCES, failed));
    expect(refused).toEqual([]);
    expect(results.failures()).toEqual([
      [1, CHANGED],
      [2, UNREADABLE],
    ]);
    expect(root.tree()).not.toHaveProperty("Befunde/Müller.txt");
    expect(root.tree()).not.toHaveProperty("Befunde/Bilder/1.dcm");
    expect(root.tree()).toHaveProperty("note.txt");
    expect(root.openWriters).toBe(0);
  });

  test.each([
    ["all of it", utf8("\0".repeat(40)), []],
    ["at its ends", utf8(`${"\0".repeat(20)}middle${"\0".repeat(20)}`), [[20, 26]]],
  ] as [string, Bytes, [number, number][]][])(
    "holes of a file are zeros, though nothing is written there: %s",
    async (_, content, ranges) => {
      const sources: Source[] = [
        ["sparse", content],
        ["d/sparse", content],
      ];
      const root = new MemoryDirectory();
      const folder = new FolderDestination(manifestOf(sources), root.handle);
      for (const start of [0, content.length]) {
        for (const [from, to] of ranges) {
          await folder.write(start + from, content.subarray(from, to));
        }
      }
      await folder.sync(2 * content.length);
      await folder.readBack(2 * content.length);
      expect((await folder.settle(claim(sources)))[1]).toEqual([]);
      const text = new TextDecoder().decode(content);
      expect(root.tree()).toEqual({ sparse: text, d: null, "d/sparse": text });
    },
  );

  test("takes in what was withdrawn when a later session begins before its end", async () => {
    const root = new MemoryDirectory();
    const folder = new FolderDestination(manifestOf(SOURCES), root.handle);
    const tape = tapeBytes(SOURCES);
    await folder.write(0, tape.subarray(0, 12));
    folder.withdraw(1);
    folder.withdraw(2);
    folder.begin(12);
    await folder.write(12, tape.subarray(12));
    await folder.sync(tape.length);
    await folder.readBack(tape.length);
    const [results, refused] = await folder.settle(claim(SOURCES, { 1: CHANGED }));
    expect([results.failures(), refused]).toEqual([[[1, CHANGED]], []]);
    expect(root.tree()).not.toHaveProperty("Befunde/Müller.txt");
    expect(root.tree()["Befunde/Bilder/1.dcm"]).toBe("pixels");
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

  test("a full disk ends it", async () => {
    const error = () => new DOMException("", "QuotaExceededError");
    const root = new MemoryDirectory("chosen", {
      beforeWrite: () => {
        throw error();
      },
    });
    const { code, detail } = await failure(() => receive(SOURCES, root));
    expect([code, detail]).toEqual(["disk_error", "no room is left"]);
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

  test("any manifest gives its files back", async () => {
    const content = fc.uint8Array({ maxLength: 40 });
    const sources = fc
      .array(fc.tuple(fc.integer({ min: 0, max: 3 }), content), { minLength: 1, maxLength: 8 })
      .map((all) => all.map(([depth, data], i): Source => [`${"d/".repeat(depth)}${i}`, data]));
    await fc.assert(
      fc.asyncProperty(sources, fc.integer({ min: 1, max: 50 }), async (all, step) => {
        const root = new MemoryDirectory();
        const { refused } = await receive(all, root, { step });
        expect(refused).toEqual([]);
        const tree = root.tree();
        for (const [path, data] of all) expect(tree[path]).toBe(new TextDecoder().decode(data!));
        expect(root.openWriters).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});

test("the tape of a manifest is as long as its files", () => {
  expect(
    tapeOf(
      manifestOf([
        ["a", utf8("12")],
        ["d", null],
        ["b", utf8("345")],
      ]),
    ).total,
  ).toBe(5);
});
