/** What the page makes of events, and its words: everything of it that needs no page. */
import { describe, expect, test } from "vitest";

import type { Event, Offer, PeerMet, Progress, StateName } from "../../src/events";
import type { Delivered } from "../../src/state/home";
import { LANGUAGES, preferred, size } from "../../src/ui/messages/en";
import { FAILURES } from "../../src/protocol/errors";
import { START, reduce, type Model } from "../../src/ui/view";

const after = (...events: Event[]): Model => events.reduce(reduce, START);
const state = (name: StateName): Event => ({ event: "state", state: name });

const READY: Event = {
  event: "ready",
  passphrase: true,
  label: "Radiology",
  earlier: null,
  delivered: null,
  lasting: true,
};
const PEER: PeerMet = {
  event: "peer",
  label: "Dr. S",
  fingerprint: "0000",
  known: false,
  verified: false,
  changed: false,
  digits: "1234-5678-9012",
};
const OFFER: Offer = {
  event: "offer",
  files: 2,
  folders: 1,
  size: 10,
  entries: [["d/a", 10, false]],
  name: "d.zip",
  single: false,
  where: "disk",
  tight: false,
};
const PROGRESS: Progress = {
  event: "progress",
  durable: 5,
  verified: 3,
  total: 10,
  rate: 1,
  relayed: null,
  bottleneck: "",
};
const DELIVERED: Delivered = {
  name: "d.zip",
  where: "browser",
  size: 200,
  files: 3,
  failures: 0,
  failed: [],
  transferId: "AA",
  confirmed: true,
};
const UNCONFIRMED: Delivered = { ...DELIVERED, confirmed: false };
const SLOW: Event = { event: "slow" };
const silence = (silent: boolean): Event => ({ event: "silence", silent });
const ended = (delivered: Delivered | null, code: "" | "connection_lost" = ""): Event => ({
  event: "ended",
  ending: delivered ? "complete" : "failed",
  code,
  detail: "",
  delivered,
});

const CONNECTED = [READY, state("connecting"), PEER, state("waiting"), state("reading")];
const RUNNING = [
  ...CONNECTED,
  OFFER,
  { event: "question", kind: "accept" } as const,
  state("receiving"),
  PROGRESS,
];

describe("the screen", () => {
  test.each([
    ["nothing yet", [], "blank"],
    ["a link", [READY], "welcome"],
    ["a link whose files wait to be saved", [{ ...READY, delivered: DELIVERED }], "done"],
    ["a link that another tab has", [{ event: "elsewhere" }], "elsewhere"],
    ["connecting", [READY, state("connecting")], "working"],
    ["waiting for the sender", [READY, state("connecting"), PEER, state("waiting")], "working"],
    ["digits to compare", [...CONNECTED, { event: "question", kind: "digits" }], "digits"],
    ["an offer", [...CONNECTED, OFFER, { event: "question", kind: "accept" }], "offer"],
    ["receiving", RUNNING, "running"],
    ["verifying", [...RUNNING, state("verifying")], "running"],
    ["signing", [...RUNNING, state("verifying"), state("signing")], "running"],
    ["delivered", [...RUNNING, ended(DELIVERED)], "done"],
    ["delivered, but without the last word", [...RUNNING, ended(UNCONFIRMED)], "done"],
    ["failed", [...RUNNING, ended(null, "connection_lost")], "ended"],
  ] as [string, Event[], Model["screen"]][])("follows what happens: %s", (_, events, screen) => {
    expect(after(...events).screen).toBe(screen);
  });

  test.each(["connecting", "waiting", "reading"] as const)(
    "stays with the progress when it connects anew (%s)",
    (name) => {
      const model = after(...RUNNING, state("lost"), state(name));
      expect(model).toMatchObject({ screen: "running", state: "receiving", trouble: "lost" });
      expect(model.progress).toBe(PROGRESS);
    },
  );

  test("says no more of the loss once files come again", () => {
    const model = after(...RUNNING, state("lost"), state("waiting"), SLOW, state("receiving"));
    expect(model).toMatchObject({ screen: "running", trouble: "", slow: false });
  });

  test("keeps the phase it was in while the connection is lost", () => {
    expect(after(...RUNNING, state("verifying"), state("lost"))).toMatchObject({
      state: "verifying",
      trouble: "lost",
    });
  });
});

test("silence is shown and taken back", () => {
  expect(after(...RUNNING, silence(true)).trouble).toBe("silent");
  expect(after(...RUNNING, silence(true), silence(false)).trouble).toBe("");
});

test("usual causes are shown until the sender is reached", () => {
  expect(after(READY, state("connecting"), SLOW).slow).toBe(true);
  expect(after(READY, state("connecting"), SLOW, state("connecting")).slow).toBe(true);
  expect(after(READY, state("connecting"), SLOW, state("waiting")).slow).toBe(false);
});

test("what is ready says who, whether a passphrase is needed and what is here already", () => {
  const earlier = { durable: 5, total: 10 };
  expect(after({ ...READY, earlier, lasting: false } as Event)).toMatchObject({
    passphrase: true,
    label: "Radiology",
    lasting: false,
    earlier,
  });
  const none = { ...READY, earlier: { durable: 0, total: 10 } } as Event;
  expect(after(none).earlier).toBeNull();
});

test("the peer and the offer are kept as they were told", () => {
  const model = after(...RUNNING);
  expect(model.peer).toBe(PEER);
  expect(model.offer).toBe(OFFER);
});

test("an end takes back the question whether to stop, and says why", () => {
  const asked: Model = { ...after(...RUNNING), stopping: true };
  expect(reduce(asked, ended(null, "connection_lost"))).toMatchObject({
    screen: "ended",
    stopping: false,
    code: "connection_lost",
    delivered: null,
  });
  expect(reduce(asked, ended(DELIVERED)).delivered).toBe(DELIVERED);
});

test("a file that was handed over may be removed, and then is", () => {
  const done = [...RUNNING, ended(DELIVERED)];
  const file: Event = { event: "file", name: "d.zip", file: new Blob([]) };
  expect(after(...done).saved).toBe("no");
  expect(after(...done, file).saved).toBe("offered");
  expect(after(...done, file, { event: "discarded" })).toMatchObject({
    saved: "removed",
    screen: "done",
  });
});

test("what is meant for the page's other parts changes nothing", () => {
  const model = after(...RUNNING);
  expect(reduce(model, { event: "persist" })).toBe(model);
});

test("a model is never changed, only replaced", () => {
  let model = Object.freeze({ ...START }) as Model;
  for (const event of [...RUNNING, silence(true), state("lost"), SLOW, ended(DELIVERED)]) {
    model = Object.freeze(reduce(model, event));
  }
  expect(START).toMatchObject({ screen: "blank", peer: null, offer: null, progress: null });
});

// --- words -----------------------------------------------------------------------------------------

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

const SAME: RegExp[] = [/^\.name$/, /^\.rate/, /^\.inFolders/, /^\.reading\.text$/];

test("nothing is left in English by mistake", () => {
  const english = new Map(texts(LANGUAGES.en));
  const left = texts(LANGUAGES.de).filter(([path, text]) => english.get(path) === text);
  expect(left.map(([path]) => path).filter((path) => !SAME.some((one) => one.test(path)))).toEqual(
    [],
  );
});

test.each(Object.keys(LANGUAGES) as (keyof typeof LANGUAGES)[])("%s has no empty text", (name) => {
  const empty = texts(LANGUAGES[name]).filter(([, text]) => !text.trim());
  expect(empty.map(([path]) => path)).toEqual([]);
});

test("every failure that has a sentence is one, and what a recipient can meet has one", () => {
  const told = Object.keys(LANGUAGES.en.failures);
  expect(told.filter((code) => !Object.hasOwn(FAILURES, code))).toEqual([]);
  const notHere = [
    "engine_missing", // of the command line
    "contact_unknown",
    "home_unwritable",
    "recipient_unproven", // of a sender
    "needs_answer",
    "nothing_to_send",
    "not_readable",
    "same_name",
    "name_collision",
    "name_refused",
    "too_many_entries",
    "receipt_unconfirmed",
    "source_changed", // of taking up again on the command line
    "transfer_unknown",
    "transfer_running",
    "offer_changed",
    "journal_foreign",
    "parts_missing",
    "journal_damaged",
    "incomplete", // no failures, but endings that have a page of their own
    "unconfirmed",
  ];
  expect([...told, ...notHere].sort()).toEqual(Object.keys(FAILURES).sort());
});

test.each([
  [1, "1 file", "1 Datei"],
  [2, "2 files", "2 Dateien"],
  [1234, "1,234 files", "1.234 Dateien"],
])("%i files are counted in both languages", (count, english, german) => {
  expect(LANGUAGES.en.files(count)).toBe(english);
  expect(LANGUAGES.de.files(count)).toBe(german);
});

test.each([
  [0, "less than a minute left"],
  [59, "less than a minute left"],
  [60, "about 1 minute left"],
  [600, "about 10 minutes left"],
  [3600, "about 1 hour left"],
  [36_000, "about 10 hours left"],
])("%i seconds are %s", (seconds, text) => {
  expect(LANGUAGES.en.left(seconds)).toBe(text);
});
