/** What is saved: layouts and containers, read by an archive reader that is not ours. */
import { execFileSync } from "node:child_process";
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";

import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";

import { Container } from "../../src/storage/container";
import { MemoryStore } from "../../src/storage/memory";
import { contentOf } from "../../src/storage/saving";
import type { Store, Stored } from "../../src/storage/ports";
import { sha256, utf8, type Bytes } from "../../src/protocol/codec";
import { CHANGED, Results, tapeOf, type Entry, type Manifest } from "../../src/protocol/manifest";
import { Layout } from "../../src/storage/zip";
import { wholeOf } from "./sources";

vi.setConfig({ testTimeout: 60_000 }); // another program is started for each archive

let folder: string;
beforeAll(() => sodium.ready);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zip-"));
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

/** One entry as Python's zipfile sees it; `content` only where it is not too long. */
interface Member {
  name: string;
  size: number;
  crc: number;
  directory: boolean;
  date: [number, number, number, number, number, number];
  offset: number;
  mode: number;
  compression: number;
  seconds: number | null; // of the extended timestamp
  zip64: boolean; // whether its record has the extra for what 32 bits do not hold
  content: string;
}

const READER = `
import json, struct, sys, zipfile
path, most = sys.argv[1], int(sys.argv[2])
found = []
with zipfile.ZipFile(path) as archive:
    bad = archive.testzip() if most < 0 else None
    members = archive.infolist()
    for number, info in enumerate(members):
        seconds, zip64, extra = None, False, info.extra
        while len(extra) >= 4:
            kind, length = struct.unpack("<HH", extra[:4])
            if kind == 0x5455:
                seconds = struct.unpack("<i", extra[5:9])[0]
            zip64 = zip64 or kind == 1
            extra = extra[4 + length:]
        content = b""
        if most < 0 or number % 999 == 0 or number == len(members) - 1 or len(members) < 10:
            with archive.open(info) as file:
                content = file.read(None if most < 0 else most)
        found.append(dict(name=info.filename, size=info.file_size, crc=info.CRC,
            directory=info.is_dir(), date=info.date_time, offset=info.header_offset,
            mode=info.external_attr >> 16, compression=info.compress_type, seconds=seconds, zip64=zip64,
            content=content.hex()))
print(json.dumps(dict(bad=bad, members=found)))
`;

/** Read an archive; with `most` no more than so many bytes of some entries, and untested. */
function unzip(path: string, most = -1): { bad: string | null; members: Member[] } {
  const options = { maxBuffer: 1 << 28, encoding: "utf8" } as const;
  return JSON.parse(execFileSync("python3", ["-c", READER, path, String(most)], options));
}

/** A store that is a sparse file: what is not written takes no room. */
class FileStore implements Store {
  private readonly file: number;
  constructor(path: string) {
    this.file = openSync(path, "w+");
  }
  read(buffer: Bytes, { at }: { at: number }): number {
    return readSync(this.file, buffer, 0, buffer.length, at);
  }
  readStored(buffer: Bytes, options: { at: number }): Stored {
    return { bytes: buffer, skip: 0, length: this.read(buffer, options), encrypted: null };
  }
  write(data: Bytes, { at }: { at: number }): number {
    return writeSync(this.file, data, 0, data.length, at);
  }
  clear(at: number, length: number): void {
    writeSync(this.file, new Uint8Array(length), 0, length, at);
  }
  truncate(size: number): void {
    ftruncateSync(this.file, size);
  }
  getSize(): number {
    return fstatSync(this.file).size;
  }
  flush(): void {}
  close(): void {
    closeSync(this.file);
  }
}

const MODIFIED = Date.UTC(2024, 1, 29, 12, 34, 56) * 1000;

/** A path and its content; null is a directory. */
type Source = [path: string, content: Bytes | null, modified?: number];

function manifestOf(sources: readonly Source[]): Manifest {
  const entries = sources.map(([path, content, modified = MODIFIED]): Entry => ({
    path,
    kind: content === null ? "directory" : "file",
    size: content?.length ?? 0,
    modified,
    data: null,
    original: null,
  }));
  return { entries, salt: new Uint8Array(32), skipped: {}, purpose: null, reason: "" };
}

/** The sender's records, some entries given up. */
function claim(sources: readonly Source[], failed: ReadonlySet<number> = new Set()): Results {
  const results = Results.of(sources.length);
  sources.forEach(([, content], index) => {
    if (failed.has(index)) results.failed(index, CHANGED);
    else if (content) results.delivered(index, sha256(content));
  });
  return results;
}

function tapeBytes(sources: readonly Source[]): Bytes {
  return Uint8Array.from(Buffer.concat(sources.map(([, content]) => content ?? new Uint8Array(0))));
}

/** Receive everything into a store and settle. */
async function receive(
  sources: readonly Source[],
  store: Store,
  failed = new Set<number>(),
): Promise<Container> {
  const manifest = manifestOf(sources);
  const container = new Container(manifest, "room", store);
  container.write(0, tapeBytes(sources));
  failed.forEach((index) => container.withdraw(index));
  container.sync();
  await container.readBack(tapeOf(manifest).total);
  const [results] = container.settle(claim(sources, failed));
  expect(new Set(results.failures().map(([index]) => index))).toEqual(failed);
  return container;
}

let counter = 0;
const fresh = () => join(folder, `${counter++}.zip`);

/** Receive in memory, and write it where another program can read it. */
async function saved(
  sources: readonly Source[],
  failed?: Set<number>,
): Promise<[string, Container]> {
  const store = new MemoryStore();
  const container = await receive(sources, store, failed);
  const path = fresh();
  const content = await new Response(contentOf(store, container.extents)).arrayBuffer();
  writeFileSync(path, Buffer.from(content));
  expect(statSync(path).size).toBe(container.size);
  return [path, container];
}

const hex = (data: Bytes) => Buffer.from(data).toString("hex");

const SOURCES: Source[] = [
  ["Befunde", null],
  ["Befunde/Müller, Jörg – Röntgen.dcm", utf8("pixels")],
  ["Befunde/日本語/検査.txt", utf8("x".repeat(70_000))],
  ["Befunde/leer.txt", new Uint8Array(0)],
  ["Befunde/leer", null],
  ["e\u0301 zerlegt", utf8("decomposed")],
  ["😀.bin", Uint8Array.from({ length: 3000 }, (_, i) => i * 7)],
];

test("another reader finds every name, kind and byte as they were sent", async () => {
  const [path, container] = await saved(SOURCES);
  const { bad, members } = unzip(path);
  expect(bad).toBeNull();
  expect(members.map(({ name, directory, content }) => [name, directory, content])).toEqual(
    SOURCES.map(([name, content]) => [
      content ? name : `${name}/`,
      content === null,
      hex(content ?? new Uint8Array(0)),
    ]),
  );
  for (const [index, { crc, size, compression, mode }] of members.entries()) {
    const content = SOURCES[index]![1];
    expect([crc, size, compression]).toEqual([
      crc32(content ?? new Uint8Array(0)),
      content?.length ?? 0,
      0,
    ]);
    expect(mode).toBe(content === null ? 0o040755 : 0o100644);
  }
  expect(container.size).toBe(container.layout.size);
});

test("nothing lies between the entries: each header is where the one before ended", async () => {
  const [path, { layout }] = await saved(SOURCES);
  const { members } = unzip(path);
  expect(members[0]!.offset).toBe(0);
  members
    .slice(1)
    .forEach(({ offset }, i) => expect(offset).toBe(layout.start(i) + members[i]!.size));
});

test.each(["Europe/Berlin", "America/New_York", "Asia/Kathmandu"])(
  "times are this computer's in the old fields and exact beside them (%s)",
  async (zone) => {
    vi.stubEnv("TZ", zone);
    const instants = [
      Date.UTC(2024, 1, 29, 12, 34, 57, 999),
      Date.UTC(2026, 6, 31, 23, 59, 58),
      Date.UTC(1999, 11, 31, 23, 59, 59),
      Date.UTC(1995, 0, 15, 8, 0, 0),
    ];
    const sources = instants.map((at, i): Source => [`f${i}`, utf8("x"), at * 1000]);
    const [path] = await saved(sources);
    const parts = ["year", "month", "day", "hour", "minute", "second"] as const;
    const format = new Intl.DateTimeFormat("en", {
      timeZone: zone,
      hourCycle: "h23",
      ...Object.fromEntries(parts.map((part) => [part, "numeric"])),
    });
    unzip(path).members.forEach(({ date, seconds }, i) => {
      const local = Object.fromEntries(
        format.formatToParts(instants[i]).map(({ type, value }) => [type, Number(value)]),
      );
      const expected = parts.map((part) => local[part]!);
      expected[5]! -= expected[5]! % 2; // the old field counts in twos
      expect(date).toEqual(expected);
      expect(seconds).toBe(Math.floor(instants[i]! / 1000));
    });
  },
);

test("times that the old fields cannot say become their first or last", async () => {
  vi.stubEnv("TZ", "UTC");
  const [before, after] = [
    [1980, 1, 1, 0, 0, 0],
    [2107, 12, 31, 23, 59, 58],
  ];
  const cases: [at: number, date: number[], seconds: number | null][] = [
    [-1, before!, null],
    [0, before!, 0],
    [-9007199254740991 / 1000, before!, null],
    [Date.UTC(1979, 11, 31, 23, 59, 59), before!, Date.UTC(1979, 11, 31, 23, 59, 59) / 1000],
    [Date.UTC(2038, 0, 19, 3, 14, 7), [2038, 1, 19, 3, 14, 6], 2 ** 31 - 1],
    [Date.UTC(2038, 0, 19, 3, 14, 8), [2038, 1, 19, 3, 14, 8], null],
    [Date.UTC(2107, 11, 31, 23, 59, 59), after!, null],
    [Date.UTC(2108, 0, 1), after!, null],
    [9007199254740991 / 1000, after!, null],
  ];
  const [path, container] = await saved(
    cases.map(([at], i): Source => [`f${i}`, utf8("x"), Math.trunc(at * 1000)]),
  );
  const { members } = unzip(path);
  expect(members.map(({ date, seconds }) => [date, seconds])).toEqual(
    cases.map(([, date, seconds]) => [date, seconds]),
  );
  expect(container.size).toBe(container.layout.size);
});

test("what failed is in no directory, and its bytes are zeros in the store", async () => {
  const secret = utf8("the secret that was withdrawn");
  const store = new MemoryStore();
  const container = await receive(
    [
      ["a", utf8("first")],
      ["b", secret],
    ],
    store,
    new Set([1]),
  );
  const bytes = Buffer.from(wholeOf(store));
  expect(bytes.includes(Buffer.from(secret.subarray(0, 6)))).toBe(false);
  const start = container.layout.start(1);
  expect(bytes.subarray(start, start + secret.length).every((octet) => octet === 0)).toBe(true);
});

test("whatever failed, an archive is that of the others: nothing before it, nothing between", async () => {
  const failing = fc.subarray(
    SOURCES.map((_, index) => index),
    { maxLength: SOURCES.length - 1 },
  );
  await fc.assert(
    fc.asyncProperty(failing, async (failed) => {
      const files = failed.filter((index) => SOURCES[index]![1] !== null);
      const rest = SOURCES.filter((_, index) => !files.includes(index));
      // One file alone is saved as itself, and such an archive is not made of it.
      if (rest.length < 2) return;
      const [whole, part] = [await saved(rest), await saved(SOURCES, new Set(files))];
      expect(readFileSync(part[0]).equals(readFileSync(whole[0]))).toBe(true);
    }),
    { numRuns: 30, examples: [[[1]], [[1, 2]], [[6]]] },
  );
});

test("an archive of which nothing arrived is empty", async () => {
  const sources: Source[] = [
    ["a", utf8("first")],
    ["b", utf8("second")],
  ];
  const [path] = await saved(sources, new Set([0, 1]));
  expect(unzip(path)).toEqual({ bad: null, members: [] });
});

test("a single file is itself", async () => {
  const store = new MemoryStore();
  const content = utf8("a single file");
  const container = await receive([["Befund/Röntgen.dcm", content]], store);
  expect(container.layout.single).toBe(true);
  expect(container.size).toBe(content.length);
  expect(container.layout.name).toBe("Röntgen.dcm");
  expect(wholeOf(store)).toEqual(content);
});

test("a single file that failed leaves nothing", async () => {
  const store = new MemoryStore();
  const container = await receive([["a", utf8("a single file")]], store, new Set([0]));
  expect([container.size, store.getSize()]).toEqual([0, 0]);
});

test("a single folder is an archive", async () => {
  const [path] = await saved([["leer", null]]);
  expect(unzip(path).members.map(({ name }) => name)).toEqual(["leer/"]);
});

test.each([
  [[["a.txt", utf8("x")]], "a.txt"],
  [[["d/a.txt", utf8("x")]], "a.txt"],
  [[["d", null]], "d.zip"],
  [
    [
      ["d/a", utf8("x")],
      ["d/b", utf8("x")],
    ],
    "d.zip",
  ],
  [
    [
      ["d/a", utf8("x")],
      ["e/b", utf8("x")],
    ],
    "handover.zip",
  ],
] as [Source[], string][])(
  "it is saved under a name that says what it is (%#)",
  (sources, name) => {
    expect(new Layout(manifestOf(sources)).name).toBe(name);
  },
);

// --- ZIP64 -----------------------------------------------------------------------------------------

/** Entries of these sizes in a sparse file: a few bytes at both ends of each, zeros between. */
function sparse(sizes: readonly number[]): { path: string; layout: Layout } {
  const entries = sizes.map((size, i): Entry => ({
    path: `f${i}`,
    kind: "file",
    size,
    modified: MODIFIED,
    data: null,
    original: null,
  }));
  const layout = new Layout({
    entries,
    salt: new Uint8Array(32),
    skipped: {},
    purpose: null,
    reason: "",
  });
  const path = fresh();
  const store = new FileStore(path);
  const crcs = new Map<number, number>();
  sizes.forEach((size, i) => {
    const content = utf8(`begin ${i}`);
    store.write(content, { at: layout.start(i) });
    if (size === content.length) crcs.set(i, crc32(content));
    else {
      store.write(utf8(`end ${i}`), { at: layout.start(i) + size - 5 });
      crcs.set(i, 0x1234_5678);
    }
  });
  for (const [at, data] of layout.frame(crcs)) store.write(data, { at });
  store.close();
  return { path, layout };
}

const SMALL = 7; // the length of "begin 0"
const GIB4 = 2 ** 32;

test.each([GIB4 - 2, GIB4 - 1, GIB4, GIB4 + 1, 5 * 2 ** 30, 2 ** 40])(
  "an entry of %i bytes and what lies behind it are found",
  (size) => {
    const { path, layout } = sparse([SMALL, size, SMALL]);
    try {
      expect(statSync(path).size).toBe(layout.size);
      expect(statSync(path).blocks * 512).toBeLessThan(1024 * 1024); // it costs no disk
      const { members } = unzip(path, SMALL);
      expect(members.map(({ name, size, content }) => [name, size, content])).toEqual([
        ["f0", SMALL, hex(utf8("begin 0"))],
        ["f1", size, hex(utf8("begin 1"))],
        ["f2", SMALL, hex(utf8("begin 2"))],
      ]);
      expect(members[1]!.crc).toBe(0x1234_5678);
      const file = openSync(path, "r");
      const end = Buffer.alloc(5);
      readSync(file, end, 0, 5, layout.start(1) + size - 5);
      closeSync(file);
      expect(end.toString()).toBe("end 1");
      expect(members[2]!.offset).toBe(layout.start(1) + size);
      // 4.4.8: all ones stand for "see the extra", so that this size itself needs one.
      const large = size >= GIB4 - 1;
      expect(members.map(({ zip64 }) => zip64)).toEqual([false, large, true]);
      const head = 30 + 2 + 9 + (large ? 20 : 0);
      expect(layout.start(1) - members[1]!.offset).toBe(head);
    } finally {
      rmSync(path);
    }
  },
);

test.each([-2, -1, 0, 1])(
  "an entry whose header begins %i bytes from 4 GiB is found",
  (distance) => {
    const head = sparse([SMALL, SMALL]).layout.start(0);
    const { path, layout } = sparse([GIB4 - head + distance, SMALL]);
    try {
      const { members } = unzip(path, SMALL);
      expect(members[1]!.offset).toBe(GIB4 + distance);
      expect(members.map(({ zip64 }) => zip64)).toEqual([false, distance >= -1]);
      expect(members[1]!.content).toBe(hex(utf8("begin 1")));
      expect(statSync(path).size).toBe(layout.size);
    } finally {
      rmSync(path);
    }
  },
);

test.each([65_534, 65_535, 65_536])("%i entries are found", async (count) => {
  const sources = Array.from({ length: count }, (_, i): Source => [`d/${i}`, utf8(String(i))]);
  const [path, container] = await saved(sources);
  expect(container.size).toBe(container.layout.size);
  const { members } = unzip(path, 5);
  expect(members).toHaveLength(count);
  const end = readFileSync(path).subarray(-200);
  expect(end.includes("PK\x06\x06")).toBe(count >= 65_535); // 4.4.21: all ones, again
  for (const index of [0, 999, 1998, 64_935, count - 1]) {
    expect(members[index]).toMatchObject({
      name: `d/${index}`,
      content: hex(utf8(String(index))),
      crc: crc32(String(index)),
    });
  }
});

// --- any archive -----------------------------------------------------------------------------------

const name = fc
  .string({ unit: fc.constantFrom("a", "B", "ü", "ß", "字", "😀", "-", "1"), maxLength: 12 })
  .map((text) => `n${text}`);

const sources: fc.Arbitrary<Source[]> = fc
  .array(
    fc.tuple(
      fc.array(name, { minLength: 1, maxLength: 4 }),
      fc.oneof(
        { weight: 1, arbitrary: fc.constant(null) },
        { weight: 5, arbitrary: fc.uint8Array({ maxLength: 3000 }) },
      ),
      fc.integer({ min: -(2 ** 52), max: 2 ** 52 }),
    ),
    { minLength: 2, maxLength: 12 },
  )
  .map((all) => all.map(([parts, ...rest], i): Source => [`${i}/${parts.join("/")}`, ...rest]));

/** The tape in ranges of random lengths, in random order. */
const inAnyOrder = (total: number) =>
  fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 40 }).chain((lengths) => {
    const ranges: [number, number][] = [];
    for (let at = 0, i = 0; at < total; i++) {
      const end = Math.min(at + lengths[i % lengths.length]!, total);
      ranges.push([at, end]);
      at = end;
    }
    const count = ranges.length;
    return fc.shuffledSubarray(ranges, { minLength: count, maxLength: count });
  });

const arrivals = sources.chain((all) =>
  fc.record({
    all: fc.constant(all),
    ranges: inAnyOrder(tapeOf(manifestOf(all)).total),
    failed: fc.subarray(all.map((_, index) => index)).map((some) => new Set(some)),
  }),
);

test("any manifest in any order of ranges gives the source bytes back", async () => {
  await fc.assert(
    fc.asyncProperty(arrivals, fc.boolean(), async ({ all, ranges, failed }, failing) => {
      const manifest = manifestOf(all);
      const store = new MemoryStore();
      const container = new Container(manifest, "room", store);
      const gone = failing ? failed : new Set<number>();
      const tape = tapeBytes(all);
      for (const [from, to] of ranges) container.write(from, tape.subarray(from, to));
      gone.forEach((index) => container.withdraw(index));
      container.sync();
      for (let at = 0; at < tape.length; at += 2500) {
        await container.readBack(Math.min(at + 2500, tape.length));
      }
      container.settle(claim(all, gone));
      if (!gone.size) expect(container.size).toBe(container.layout.size);
      const path = fresh();
      const content = await new Response(contentOf(store, container.extents)).arrayBuffer();
      writeFileSync(path, Buffer.from(content));
      const { bad, members } = unzip(path);
      rmSync(path);
      expect(bad).toBeNull();
      expect(members.map(({ name, content }) => [name, content])).toEqual(
        all
          .filter((_, index) => !gone.has(index))
          .map(([path, content]) => [
            content ? path : `${path}/`,
            hex(content ?? new Uint8Array(0)),
          ]),
      );
    }),
    { numRuns: 30 },
  );
});
