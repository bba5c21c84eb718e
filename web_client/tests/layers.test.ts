/** Imports run downwards only, floor by floor, and never in a circle. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

const SRC = fileURLToPath(new URL("../src", import.meta.url));

/** From the top. What stands on one floor does not know each other. */
const FLOORS = [
  ["main", "worker"],
  ["receiving", "sending"],
  ["ui"],
  ["invitation"],
  ["transfer"],
  ["connect", "state"],
  ["storage", "lanes"],
  ["compression", "events", "clock", "version", "own_scripts"],
  ["protocol"],
];

/** Path without `.ts` -> text. */
const SOURCES = new Map(
  (readdirSync(SRC, { recursive: true }) as string[])
    .filter((path) => path.endsWith(".ts") && !path.endsWith(".d.ts"))
    .map((path) => [path.slice(0, -3), readFileSync(join(SRC, path), "utf8")] as const),
);
const nameOf = (path: string) => path.replace(/\/index$/, "");

/** Module, a folder's `index` being the folder -> the modules it imports; types count too. The catalogue of sentences is data, and not here. */
const IMPORTS = new Map(
  [...SOURCES].map(([path, text]) => {
    const targets = [...text.matchAll(/\bfrom "(\.[^"]*)"/g)].map(([, target]) => target!);
    const modules = targets.filter((target) => !target.endsWith(".json"));
    return [nameOf(path), modules.map((target) => normalize(join(dirname(path), target)))] as const;
  }),
);

const part = (module: string) => module.split("/")[0]!;
const floor = (module: string) => FLOORS.findIndex((parts) => parts.includes(part(module)));

test("every module stands on a floor, and what it imports is there", () => {
  const modules = [...IMPORTS.keys()];
  expect(modules.length).toBeGreaterThan(40);
  expect(modules.filter((module) => floor(module) < 0)).toEqual([]);
  const missing = [...IMPORTS.values()].flat().filter((target) => !IMPORTS.has(target));
  expect(missing).toEqual([]);
});

test("nothing imports what is above it or beside it", () => {
  const wrong = [...IMPORTS].flatMap(([module, targets]) =>
    targets
      .filter((target) => part(target) !== part(module) && floor(target) <= floor(module))
      .map((target) => `${module} -> ${target}`),
  );
  expect(wrong).toEqual([]);
});

test("there is no circle", () => {
  const done = new Set<string>();
  const walk = (module: string, way: readonly string[]): void => {
    if (way.includes(module)) throw new Error([...way, module].join(" -> "));
    if (done.has(module)) return;
    IMPORTS.get(module)!.forEach((target) => walk(target, [...way, module]));
    done.add(module);
  };
  for (const module of IMPORTS.keys()) walk(module, []);
});

test("the pure core has no clock, no platform and no chance", () => {
  const impure =
    /\b(Date\.now|new Date\(\)|performance|navigator|indexedDB|setTimeout|Math\.random|randombytes)\b/;
  const wrong = [...SOURCES].filter(
    ([module, text]) => part(module) === "protocol" && impure.test(text),
  );
  expect(wrong.map(([module]) => module)).toEqual([]);
});

test("only the user interface touches the document", () => {
  const wrong = [...SOURCES].filter(
    ([module, text]) => !["ui", "main"].includes(part(module)) && /\bdocument\./.test(text),
  );
  expect(wrong.map(([module]) => module)).toEqual([]);
});

test("the page takes the link out of the address bar before anything that can fail", () => {
  const [first] = /^import .*$/m.exec(SOURCES.get("main")!)!;
  expect(first).toMatch(/from "\.\/ui\/address";/);
  expect(IMPORTS.get("ui/address")).toEqual([]);
});

test("the page leaves keys and bytes to the worker: it loads nothing of the core but names of servers and purposes", () => {
  // All that the page's own script takes in, types aside.
  const loaded = new Set<string>();
  const load = (module: string): void => {
    if (loaded.has(module)) return;
    loaded.add(module);
    const text = SOURCES.get(module) ?? SOURCES.get(`${module}/index`)!;
    for (const [, target] of text.matchAll(
      /\b(?:import|export) (?!type\b)[^;]*? from "(\.[^"]*)"/g,
    )) {
      if (!target!.endsWith(".json")) load(normalize(join(dirname(module), target!)));
    }
  };
  load("main");
  const core = [...loaded].filter((module) => part(module) === "protocol");
  expect(core.sort()).toEqual(["protocol/ice_server", "protocol/purposes"]);
});
