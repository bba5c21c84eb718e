/** The page's words, in every language. */
import { describe, expect, test } from "vitest";

import { page_check, page_failure } from "../../../p2p/protocol/sentences/en.json";
import { FAILURES, type Code } from "../../src/protocol/errors";
import { STATUSES } from "../../src/protocol/manifest";
import { LANGUAGES, preferred, size } from "../../src/ui/messages";

test.each([
  [0, "0\u00a0B"],
  [999, "999\u00a0B"],
  [1000, "1\u00a0kB"],
  [1234, "1.2\u00a0kB"],
  [99_940, "99.9\u00a0kB"],
  [123_456, "123\u00a0kB"],
  [5_000_000_000, "5\u00a0GB"],
  [1.5e12, "1.5\u00a0TB"],
  [2 ** 53 - 1, "9,007\u00a0TB"],
])("a size of %i bytes reads %s", (bytes, text) => {
  expect(size(bytes, "en-GB")).toBe(text);
});

test("a size is written as the language does", () => {
  expect(size(1500, "de-DE")).toBe("1,5\u00a0kB");
});

test.each([
  [["de-AT", "en"], "de"],
  [["DE"], "de"],
  [["fr", "en-US", "de"], "en"],
  [["fr", "de"], "de"],
  [["fr"], "en"],
  [[], "en"],
  [["to-String"], "en"],
])("of %j the language is %s", (languages, expected) => {
  expect(preferred(languages)).toBe(expected);
});

/** Every text of a language by its path; a function's is what it says of examples. */
function texts(value: unknown, path = ""): [string, string][] {
  if (typeof value === "string") return [[path, value]];
  if (typeof value === "function") {
    const called = value as (...given: unknown[]) => string;
    return [
      [path, called("A", "B")],
      [`${path} of 1`, called(1)],
      [`${path} of 90`, called(90)],
      [`${path} of 7200`, called(7200)],
    ].filter((one): one is [string, string] => typeof one[1] === "string");
  }
  return Object.entries(value as object).flatMap(([name, one]) => texts(one, `${path}.${name}`));
}

/** The path and type of everything in it. */
function shape(value: unknown, path = ""): [string, string][] {
  if (typeof value !== "object" || value === null) return [[path, typeof value]];
  return Object.entries(value).flatMap(([name, one]) => shape(one, `${path}.${name}`));
}

test("German has every text that English has, of the same kind", () => {
  expect(shape(LANGUAGES.de)).toEqual(shape(LANGUAGES.en));
  expect(shape(LANGUAGES.en).length).toBeGreaterThan(100);
});

const SAME: RegExp[] = [
  /^\.name$/,
  /^\.rate/,
  /^\.inFolders/,
  /^\.reading\.text$/,
  /^\.stepsSender\.1$/,
];

/** Of the catalogue and not the page's own: whoever keeps it sees to its languages. */
const ofCatalogue = (path: string): boolean => {
  const [, group, code] = path.split(".") as [string, string, string];
  const checked = group === "check" && !["title", "text", "copy", "back"].includes(code);
  if (checked && !Object.hasOwn(page_check, path.split(".")[3] ?? "")) return true;
  if (["warnings", "failuresSender"].includes(group)) return true;
  return group === "statuses" || (group === "failures" && !Object.hasOwn(page_failure, code));
};

test("nothing is left in English by mistake", () => {
  const english = new Map(texts(LANGUAGES.en));
  const left = texts(LANGUAGES.de)
    .filter(([path]) => !ofCatalogue(path))
    .filter(([path, text]) => english.get(path) === text);
  expect(left.map(([path]) => path).filter((path) => !SAME.some((one) => one.test(path)))).toEqual(
    [],
  );
});

test.each(Object.keys(LANGUAGES) as (keyof typeof LANGUAGES)[])("%s has no empty text", (name) => {
  const empty = texts(LANGUAGES[name]).filter(([, text]) => !text.trim());
  expect(empty.map(([path]) => path)).toEqual([]);
});

const CODES = Object.keys(FAILURES) as Code[];

// Those that a page's recipient cannot meet: of the command line, of a sender, or no failures but endings
// that have a screen of their own.
const NOT_MET: readonly Code[] = [
  "token_required",
  "address_invalid",
  "certificate_untrusted",
  "no_web_client",
  "certificate_unusable",
  "local_ca_unusable",
  "local_ca_uncovered",
  "host_invalid",
  "cannot_listen",
  "engine_missing",
  "guest_unproven",
  "contact_unknown",
  "needs_answer",
  "nothing_to_send",
  "not_readable",
  "same_name",
  "name_collision",
  "name_refused",
  "too_many_entries",
  "home_unwritable",
  "exposed",
  "descriptors_short",
  "source_away",
  "source_changed",
  "transfer_unknown",
  "transfer_running",
  "offer_changed",
  "journal_foreign",
  "parts_missing",
  "journal_damaged",
  "incomplete",
  "unconfirmed",
  "receipt_unconfirmed",
];

const OBSTACLES = ["no_relay", "relay_unused", "relay_silent", "relay_answers"] as const;
const WHY_NOT = ["link_unknown", "link_expired", "link_closed", "link_disabled"] as const;
const FILLED: { [code in Code]?: readonly (keyof typeof LANGUAGES.en.details)[] } = {
  no_connection: OBSTACLES,
  not_found: WHY_NOT,
  not_allowed: ["policy_passphrase", "policy_passphrase_link"],
};

describe.each(Object.entries(LANGUAGES))("in %s", (_, { failures, statuses, details }) => {
  test("every failure has a sentence, and nothing else has", () => {
    expect(Object.keys(failures).sort()).toEqual([...CODES].sort());
    expect(CODES.filter((code) => !failures[code].endsWith("."))).toEqual([]);
  });

  test.each(CODES.filter((code) => !NOT_MET.includes(code)))(
    "what %s says is for somebody at a page",
    (code) => {
      // What fills this one in is written for a page too.
      const fill = (detail: keyof typeof details) =>
        failures[code].replace("{detail}", details[detail]);
      const sentence = FILLED[code]?.map(fill).join(" ") ?? failures[code];
      expect(sentence).not.toMatch(/`|--|\bhandover [a-z]|\{detail\}/);
    },
  );

  test.each(OBSTACLES)("what no_connection says of %s is not cut off in its heading", (code) => {
    const sentence = failures.no_connection.replace("{detail}", details[code]);
    const [heading] = sentence.split(/[.:;] /); // as the screen makes it
    expect(heading!.split("(").length).toBe(heading!.split(")").length);
    expect(failures.no_connection.startsWith(heading!)).toBe(true);
    expect(sentence).toContain(details[code]);
  });

  test("every status has words", () => {
    expect(Object.keys(statuses).sort()).toEqual(Object.values(STATUSES).sort());
  });
});

/** A number stays with what it counts: the spaces do not break. */
function spaced(text: string): string {
  expect(text).not.toMatch(/\d /);
  return text.replaceAll("\u00a0", " ");
}

test.each([
  [1, "1 file", "1 Datei"],
  [2, "2 files", "2 Dateien"],
  [1234, "1,234 files", "1.234 Dateien"],
])("%i files are counted in both languages", (count, english, german) => {
  expect(spaced(LANGUAGES.en.files(count))).toBe(english);
  expect(spaced(LANGUAGES.de.files(count))).toBe(german);
});

test.each([
  [0, "less than a minute left"],
  [59, "less than a minute left"],
  [60, "about 1 minute left"],
  [600, "about 10 minutes left"],
  [3600, "about 1 hour left"],
  [36_000, "about 10 hours left"],
])("%i seconds are %s", (seconds, text) => {
  expect(spaced(LANGUAGES.en.left(seconds))).toBe(text);
});
