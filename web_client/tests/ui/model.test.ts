/** What the page makes of events. */
import { describe, expect, test } from "vitest";

import type { Delivered, Event, Offer, PeerMet, Progress, StateName } from "../../src/events";
import { START, reduce, unsaved, type Model } from "../../src/ui/model";

const after = (...events: Event[]): Model => events.reduce(reduce, START);
const state = (name: StateName): Event => ({ event: "state", state: name });

const READY: Event = {
  event: "ready",
  passphrase: true,
  label: "Radiology",
  earlier: null,
  delivered: null,
  erased: false,
  receipt: false,
  lasting: true,
};
const PEER: PeerMet = {
  event: "peer",
  label: "Dr. S",
  fingerprint: "0000",
  keyId: "k",
  contact: "",
  since: "",
  verified: false,
  changed: "",
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
  small: false,
  tight: false,
  hidden: 0,
  hiddenNames: [],
  skipped: {},
  purpose: null,
  reason: "",
  renamed: 0,
  renamedNames: [],
};
const PROGRESS: Progress = {
  event: "progress",
  durable: 5,
  verified: 3,
  total: 10,
  rate: 1,
  path: "direct",
  bottleneck: "",
};
const DELIVERED: Delivered = {
  name: "d.zip",
  where: "browser",
  size: 200,
  extents: [[0, 200]],
  entries: 4,
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

const CONNECTED = [READY, state("opened"), PEER, state("connected"), state("offered")];
const RUNNING = [
  ...CONNECTED,
  OFFER,
  { event: "question", kind: "accept", number: 1 } as const,
  state("accepted"),
  PROGRESS,
];

describe("the screen", () => {
  test.each([
    ["nothing yet", [], "blank"],
    ["a link", [READY], "welcome"],
    ["a link whose files wait to be saved", [{ ...READY, delivered: DELIVERED }], "done"],
    ["a link that another tab has", [{ event: "elsewhere" }], "elsewhere"],
    ["opened", [READY, state("opened")], "working"],
    ["waiting for the sender", [READY, state("opened"), PEER, state("connected")], "working"],
    [
      "digits to compare",
      [...CONNECTED, { event: "question", kind: "digits", number: 1 }],
      "digits",
    ],
    ["an offer", [...CONNECTED, OFFER, { event: "question", kind: "accept", number: 1 }], "offer"],
    ["accepted", RUNNING, "running"],
    ["verifying", [...RUNNING, state("verifying")], "running"],
    ["signing", [...RUNNING, state("verifying"), state("signing")], "running"],
    ["delivered", [...RUNNING, ended(DELIVERED)], "done"],
    ["delivered, but without the last word", [...RUNNING, ended(UNCONFIRMED)], "done"],
    ["failed", [...RUNNING, ended(null, "connection_lost")], "ended"],
  ] as [string, Event[], Model["screen"]][])("follows what happens: %s", (_, events, screen) => {
    expect(after(...events).screen).toBe(screen);
  });

  test.each(["opened", "connected", "offered"] as const)(
    "stays with the progress when it connects anew (%s)",
    (name) => {
      const model = after(...RUNNING, state("lost"), state(name));
      expect(model).toMatchObject({ screen: "running", state: "accepted", trouble: "lost" });
      expect(model.progress).toBe(PROGRESS);
    },
  );

  test("says no more of the loss once files come again", () => {
    const model = after(...RUNNING, state("lost"), state("connected"), SLOW, state("accepted"));
    expect(model).toMatchObject({ screen: "running", trouble: "", slow: false });
  });

  test("keeps the phase it was in while the connection is lost", () => {
    expect(after(...RUNNING, state("verifying"), state("lost"))).toMatchObject({
      state: "verifying",
      trouble: "lost",
    });
  });
});

describe("files that wait to be saved", () => {
  const done: Event[] = [...RUNNING, ended(DELIVERED)];
  const saving: Event = { event: "saving", done: 50, total: 200 };
  const saved: Event = { event: "saved", name: "mine.zip" };
  const file: Event = { event: "file", name: "d.zip", file: new Blob([]) };

  test.each([
    ["nothing is there yet", RUNNING, false],
    ["they are there", done, true],
    ["they are there after a reload", [{ ...READY, delivered: DELIVERED }], true],
    ["they are being saved", [...done, saving], true],
    ["they could not be saved", [...done, saving, { event: "unsaved" }], true],
    ["they are saved for certain", [...done, saving, saved], false],
    ["they were handed over as a download", [...done, saving, file], false],
    ["they were removed", [...done, { event: "discarded" }], false],
    ["none arrived", [...RUNNING, ended({ ...DELIVERED, entries: 0, files: 0 })], false],
    ["only folders arrived", [...RUNNING, ended({ ...DELIVERED, entries: 1, files: 0 })], true],
    ["they are in a folder", [...RUNNING, ended({ ...DELIVERED, where: "folder" })], false],
  ] as [string, Event[], boolean][])("are asked about before leaving: %s", (_, events, asked) => {
    expect(unsaved(after(...events))).toBe(asked);
  });

  test("are seen to be saved, and under which name", () => {
    expect(after(...done, saving)).toMatchObject({ saved: "saving", saving: 0.25 });
    const empty: Event = { event: "saving", done: 0, total: 0 };
    expect(after(...done, empty).saving).toBe(1);
    expect(after(...done, saving, saved)).toMatchObject({ saved: "saved", savedAs: "mine.zip" });
  });
});

test("silence is shown and taken back", () => {
  expect(after(...RUNNING, silence(true)).trouble).toBe("silent");
  expect(after(...RUNNING, silence(true), silence(false)).trouble).toBe("");
});

test("usual causes are shown until the sender is reached", () => {
  expect(after(READY, state("opened"), SLOW).slow).toBe(true);
  expect(after(READY, state("opened"), SLOW, state("opened")).slow).toBe(true);
  expect(after(READY, state("opened"), SLOW, state("connected")).slow).toBe(false);
});

test("what the browser promised is known at any time", () => {
  expect(after(READY).persisted).toBe(false);
  const granted: Event = { event: "persisted", granted: true };
  expect(after(READY, granted).persisted).toBe(true);
  expect(after(granted, READY).persisted).toBe(true);
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
  expect(reduce(model, { event: "leave" })).toBe(model);
});

test("a model is never changed, only replaced", () => {
  let model = Object.freeze({ ...START }) as Model;
  for (const event of [...RUNNING, silence(true), state("lost"), SLOW, ended(DELIVERED)]) {
    model = Object.freeze(reduce(model, event));
  }
  expect(START).toMatchObject({ screen: "blank", peer: null, offer: null, progress: null });
});
