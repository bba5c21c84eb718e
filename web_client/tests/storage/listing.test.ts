/** What a person chose, as entries: in order, whole, and by names that every system takes. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test, vi } from "vitest";

import type { Picked } from "../../src/events";
import { Selection, UNREAD, list, type Warn } from "../../src/storage/listing";

beforeAll(() => sodium.ready);

const file = (path: string, content = "x", lastModified = 1_700_000_000_000): Picked => ({
  path,
  file: new File([content], path.split("/").at(-1)!, { lastModified }),
});
const NOW = 1_750_000_000_000;

/** A folder of handles. */
function folder(name: string, children: unknown[], fails = false): FileSystemDirectoryHandle {
  const values = async function* () {
    yield* children;
    if (fails) throw new DOMException("", "NotReadableError");
  };
  return { kind: "directory", name, values } as unknown as FileSystemDirectoryHandle;
}
const leaf = (name: string, content: string | null = "x") =>
  ({
    kind: "file",
    name,
    getFile: async () => {
      if (content === null) throw new DOMException("", "NotReadableError");
      return new File([content], name, { lastModified: 1 });
    },
  }) as unknown as FileSystemFileHandle;

async function listed(...choices: Picked[][]) {
  const selection = new Selection(() => {});
  const refused = choices.map((picked, choice) => selection.add(picked, choice)).flat();
  const warnings: string[] = [];
  const warn: Warn = (code, path, detail) => warnings.push(`${code} ${path} ${detail}`.trim());
  const { entries, sources, roots } = await list(selection, warn, NOW);
  return { selection, refused, warnings, entries, sources, roots };
}
const code = async (...choices: Picked[][]) =>
  listed(...choices).then(
    () => "",
    (error) => `${error.code} ${error.detail}`.trim(),
  );

test("entries come in one order, folders before what is in them, however they were chosen", async () => {
  const paths = ["b/2.dcm", "b/1.dcm", "a.txt", "b/x/y/z", "b.txt"];
  const orders = [paths, paths.toReversed()];
  for (const order of orders) {
    const { entries } = await listed(order.map((path) => file(path)));
    expect(entries.map(({ path, kind }) => `${path}${kind === "directory" ? "/" : ""}`)).toEqual([
      "a.txt",
      "b/",
      "b/1.dcm",
      "b/2.dcm",
      "b/x/",
      "b/x/y/",
      "b/x/y/z",
      "b.txt",
    ]);
  }
});

test("sizes and times are the files'; a folder has the time of the list", async () => {
  const { entries } = await listed([file("a/f", "four", 1_700_000_000_123)]);
  expect(entries).toEqual([
    { path: "a", kind: "directory", size: 0, modified: NOW * 1000, data: null, original: null },
    {
      path: "a/f",
      kind: "file",
      size: 4,
      modified: 1_700_000_000_123_000,
      data: null,
      original: null,
    },
  ]);
});

test("handles are walked, empty folders too, and kept for after a reload", async () => {
  const root = folder("study", [leaf("b"), folder("empty", []), leaf("a"), leaf("gone", null)]);
  const { entries, sources, roots, warnings, selection } = await listed([{ handle: root }]);
  expect(entries.map(({ path }) => path)).toEqual([
    "study",
    "study/a",
    "study/b",
    "study/empty",
    "study/gone",
  ]);
  expect(sources.map((source) => source && (source === UNREAD ? source : source.path))).toEqual([
    null,
    "study/a",
    "study/b",
    null,
    UNREAD,
  ]);
  expect(roots).toEqual([root]);
  expect(warnings).toEqual(["unreadable study/gone"]);
  expect([selection.files, selection.folders, selection.size]).toEqual([3, 2, 2]);
});

test("a folder that breaks off is an entry that cannot be read, with what was found", async () => {
  const broken = folder("half", [leaf("a")], true);
  const { entries, sources, warnings } = await listed([{ handle: broken }]);
  expect(entries.map(({ path }) => path)).toEqual(["half", "half/a"]);
  expect(sources[0]).toBe(UNREAD);
  expect(warnings).toEqual(["unreadable half"]);
});

test("nothing is kept for after a reload where something has no handle", async () => {
  const { roots } = await listed([{ handle: leaf("a") }], [file("b")]);
  expect(roots).toEqual([]);
});

test("of two with one name the second is left out and named; portions of one choice are one", async () => {
  const { refused, entries } = await listed([file("a/1")], [file("a/2"), file("b")]);
  expect(refused).toEqual(["a"]);
  expect(entries.map(({ path }) => path)).toEqual(["a", "a/1", "b"]);
  const selection = new Selection(() => {});
  expect(selection.add([file("a/1")], 7)).toEqual([]);
  expect(selection.add([file("a/2")], 7)).toEqual([]);
  expect(selection.files).toBe(2);
});

test("what is left out again is gone, while it is read as well", async () => {
  let go = () => {};
  const gate = new Promise<void>((resolve) => (go = resolve));
  const values = async function* () {
    yield leaf("1");
    await gate;
    yield leaf("2");
  };
  const slow = { kind: "directory", name: "slow", values } as unknown as FileSystemDirectoryHandle;
  const selection = new Selection(() => {});
  selection.add([{ handle: slow }, file("kept")], 1);
  await vi.waitFor(() => expect(selection.busy).toBe(true));
  selection.remove("slow");
  go();
  await selection.whole();
  expect(selection.names).toEqual(["kept"]);
  expect([selection.files, selection.folders]).toEqual([1, 0]);
});

test("names that another system could not hold are changed, told, and kept as they were", async () => {
  const { entries, warnings } = await listed([file("a:b"), file("NUL"), file("Grüße é")]);
  expect(
    entries.map(({ path, original }) => [path, original && Buffer.from(original).toString()]),
  ).toEqual([
    ["Grüße é", null],
    ["_NUL", "NUL"],
    ["a_b", "a:b"],
  ]);
  expect(warnings.length).toBe(2);
});

test("names that some systems take for one are kept apart", async () => {
  const picked = ["A/x", "a/y", "d/a:b", "d/a?b", "d/scan.dcm", "d/Scan.dcm"].map((one) =>
    file(one),
  );
  const { entries } = await listed(picked);
  const kept = entries.map(({ path, original }) => [
    path,
    original && Buffer.from(original).toString(),
  ]);
  expect(kept).toEqual([
    ["A", null],
    ["A/x", null],
    ["a~2", "a"],
    ["a~2/y", null],
    ["d", null],
    ["d/Scan.dcm", null],
    ["d/a_b", "a:b"],
    ["d/a_b~2", "a?b"],
    ["d/scan~2.dcm", "scan.dcm"],
  ]);
});

test.each([
  ["nothing", [], "nothing_to_send nothing_readable"],
  ["a part of dots", [file("a/../b")], "name_refused because"],
  ["too deep a path", [file(Array(70).fill("d").join("/"))], "name_refused because"],
] as [string, Picked[], string][])("%s is refused", async (_, picked, why) => {
  expect(await code(picked)).toBe(why);
});

test("more than 200,000 entries are refused", async () => {
  const one = new File(["x"], "f");
  const many = Array.from({ length: 200_001 }, (_, i) => ({ path: `f${i}`, file: one }));
  expect(await code(many)).toBe("too_many_entries");
});
