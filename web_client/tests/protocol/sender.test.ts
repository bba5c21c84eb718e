/** The sender's session against a real recipient's: the whole line, every ending, hostile recipients. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test } from "vitest";

import {
  decodeJson,
  encodeBase64url,
  encodeJson,
  fromUtf8,
  sha256,
  utf8,
  type Bytes,
  type JsonObject,
} from "../../src/protocol/codec";
import {
  CHANGED,
  NOT_PLACED,
  NOT_WRITTEN,
  Results,
  UNREADABLE,
  resultsRoot,
} from "../../src/protocol/manifest";
import * as receipt from "../../src/protocol/receipt";
import { Stream } from "../../src/protocol/seal";
import {
  DONE_SECONDS,
  IDLE_SECONDS,
  INITIAL_LIMIT,
  LOST_SECONDS,
  MESSAGES,
  OutOfTurn,
  RELAYED,
  SENDER_STATES,
  STALL_SECONDS,
  SUSPECT_SECONDS,
  WINDOW,
  type Plan,
  type Range,
  type SenderState,
} from "../../src/protocol/session";
import { REINJECT_LANE_SECONDS, REINJECT_RANGE_SECONDS } from "../../src/protocol/session/flow";
import { LONGEST_STILL_SECONDS } from "../../src/protocol/session/machine";
import {
  BATCH,
  LABEL_ACCEPT,
  LABEL_OFFER,
  MAX_LANES,
  MAX_LANE_NUMBER,
  type Fields,
  type MessageType,
} from "../../src/protocol/session/messages";
import { LONGEST_STALL_SECONDS } from "../../src/protocol/session/sender";
import { Both, OWN, SAMPLES, SECURITY, SIGNATURE } from "./both";
import { TIME, TRANSFER, signReceipt, type Content } from "./pair";
import { broken, failure, refusal } from "./refusals";

beforeAll(() => sodium.ready);

const filled = (length: number, value = 97): Bytes => new Uint8Array(length).fill(value);
const NONE = encodeBase64url(new Uint8Array(32));

/** A range that another lane holds up; the test fails where it is a stretch to read. */
const again = (plan: Plan | Range | null): Range => {
  if (!plan || "step" in plan) throw new Error("nothing to send again");
  return plan;
};

// --- the whole line --------------------------------------------------------------------------------

const LINES: [name: string, files: Content[]][] = [
  ["two files", [utf8("hello"), utf8("world")]],
  ["an empty file", [filled(0)]],
  ["a folder", [null]],
  ["folders and empty files between others", [null, filled(0), filled(100_000), filled(0), null]],
  ["a file of several windows' first limits", [filled(3_000_000)]],
  ["many files", Array.from({ length: 200 }, (_, i) => filled(i * 7, i + 1))],
  ["a hole between data", [filled(10), 500_000, filled(10)]],
  ["nothing but a hole", [10_000_000]],
];

test.each(LINES)("everything arrives and both end complete: %s", async (_, files) => {
  const both = await new Both(files, { largest: 60_000 }).offer();
  await both.run();
  expect(both.endings).toEqual(["complete", "complete"]);
  files.forEach((_, entry) => expect(both.arrived(entry)).toBe(true));
  const [{ payload, signature, countersignature }] = both.receipts as [(typeof both.receipts)[0]];
  expect(both.receipts).toHaveLength(1);
  const whole = receipt.verify(
    receipt.assemble(payload, [
      [both.people.recipient.public, signature],
      [both.people.sender.public, countersignature],
    ]),
  );
  expect(whole.confirmed).toBe(true);
  expect(whole.payload.content).toMatchObject({
    entries: files.length,
    bytes: both.tape.total,
    delivered_bytes: both.tape.total,
  });
  expect(both.saw("sender", "accepted")).toEqual([{ type: "accepted", offset: 0 }]);
});

test("a file of several windows arrives, on few ranges", async () => {
  const file = filled(WINDOW + 5_000_000);
  const both = await new Both([file], { largest: 250_000 }).offer();
  await both.run();
  expect(both.endings).toEqual(["complete", "complete"]);
  expect(both.arrived(0)).toBe(true);
  expect(both.disk.size).toBeLessThan(400);
});

test("the offer and the closing are signed, and name the session and what is in it", async () => {
  const both = await Both.at("sending");
  const sender = both.people.sender;
  expect(both.recipient["fields"]).toEqual({
    type: "offer",
    transfer_id: TRANSFER,
    transcript: both.sender["secured"].transcript,
    sender: sender.public,
    recipient: both.people.recipient.public,
    manifest_sha256: sha256(both.data),
    manifest_bytes: both.data.length,
    entries: 2,
    bytes: 5,
    time: TIME,
  });
  await both.run(() => both.recipient.state === "finishing" || both.over);
  expect(both.recipient["closingFields"]).toMatchObject({
    transfer_id: TRANSFER,
    manifest_sha256: sha256(both.data),
    digests_sha256: sha256(both.sender.results.encode()),
  });
});

test("progress is what is durable and read back", async () => {
  const both = await new Both([filled(500_000)], { largest: 60_000 }).offer();
  await both.run();
  const seen = both.saw("sender", "progressed");
  expect(seen.length).toBeGreaterThan(2);
  expect(seen.at(-1)).toEqual({
    type: "progressed",
    durable: 500_000,
    verified: 500_000,
    total: 500_000,
  });
  for (const { durable, verified } of seen) expect(verified).toBeLessThanOrEqual(durable);
});

test("nothing of the manifest is sent before the recipient has the offer", async () => {
  const both = await Both.at("offering");
  expect(both.sender.plan(0, both.now)).toBeNull();
  both.deliverControl("recipient");
  expect(both.sender.plan(0, both.now)).toBeNull();
  both.deliverControl("sender");
  expect(both.sender.plan(0, both.now)).toMatchObject({ stream: Stream.MANIFEST, offset: 0 });
});

// --- what is given up -------------------------------------------------------------------------------

test("a withdrawn entry leaves the others and makes it incomplete", async () => {
  const files = [filled(50_000, 1), filled(50_000, 2), filled(50_000, 3)];
  const both = await new Both(files).offer();
  both.withdrawAt.set(1, UNREADABLE);
  await both.run();
  expect(both.endings).toEqual(["incomplete", "incomplete"]);
  expect(both.saw("recipient", "withdrawn")).toEqual([
    { type: "withdrawn", entries: [[1, UNREADABLE]] },
  ]);
  const { content, outcome } = receipt.readPayload(both.receipts[0]!.payload);
  expect([outcome, content.delivered_entries, content.delivered_bytes]).toEqual([
    "incomplete",
    2,
    100_000,
  ]);
  expect([0, 1, 2].map((entry) => both.arrived(entry))).toEqual([true, false, true]);
});

test.each([
  ["before its first byte", 0],
  ["in the middle of it", 1],
  ["after its last byte", 3],
  ["when the next one is under way", 4],
])("an entry withdrawn %s counts as well", async (_, ranges) => {
  const both = await Both.at("sending", [filled(10_000, 1), filled(10, 2)]);
  both.sender.lanes.windows.get(0)!.size = WINDOW;
  for (let i = 0; i < ranges; i++) both.send();
  while (both.deliverData());
  const { reached } = both.sender;
  expect(reached).toBe([0, 4096, 8192, 10_000, 10_010][ranges]);
  both.withdraw([0, CHANGED]);
  expect(both.sender.reached).toBe(Math.max(reached, 10_000));
  await both.run();
  expect(both.endings).toEqual(["incomplete", "incomplete"]);
  expect(both.arrived(1)).toBe(true);
});

test("thousands withdrawn while one write takes long are no crime", async () => {
  const count = 5000;
  const both = await Both.at("sending", [filled(4000), ...Array<Bytes>(count).fill(filled(1))]);
  both.send(); // and it stays on its way
  both.withdraw(...Array.from({ length: count }, (_, i): [number, number] => [i + 1, CHANGED]));
  both.hear("recipient");
  await both.run();
  expect(both.endings).toEqual(["incomplete", "incomplete"]);
  expect(both.sender.results.failures()).toHaveLength(count);
});

test.each([[1], [BATCH], [BATCH + 1], [300]])(
  "entries that the recipient could not place are told and receipted: %i",
  async (count) => {
    const both = await new Both(Array.from({ length: 600 }, () => filled(1))).offer();
    both.refuse = Array.from({ length: count }, (_, i) => [i, i % 2 ? NOT_PLACED : NOT_WRITTEN]);
    await both.run();
    expect(both.endings).toEqual(["incomplete", "incomplete"]);
    expect(both.sender.results.failures()).toEqual(both.refuse);
  },
);

test("nothing is closed over a file without a digest", async () => {
  const both = await Both.at("sending", [filled(10), filled(0)]);
  both.send();
  both.sender.hashed(0, sha256(filled(10)));
  expect(both.sender.allSent).toBe(true);
  expect(() => both.sender.drawUp(TIME, "")).toThrow(RangeError);
  both.sender.hashed(1, sha256(filled(0)));
  both.sender.drawUp(TIME, "");
});

// --- people -----------------------------------------------------------------------------------------

test("declining ends it on both sides", async () => {
  const both = await new Both().offer();
  await both.run(() => both.recipient.state === "deciding");
  both.recipient.decline(both.now);
  both.flush();
  both.hear("sender");
  expect(both.endings).toEqual(["declined", "declined"]);
  expect(both.saw("sender", "ended")).toEqual([
    { type: "ended", ending: "declined", code: "declined" },
  ]);
});

test.each([
  ["the sender", { senderVerifies: true }],
  ["the recipient", { verify: true }],
  ["both", { senderVerifies: true, verify: true }],
])("digits have to be confirmed by both where %s wants it", async (_, options) => {
  const both = new Both(undefined, options);
  expect([both.sender.needsConfirmation, both.recipient.needsConfirmation]).toEqual([true, true]);
  await expect(both.offer()).rejects.toThrow("digits");
  both.sender.confirmDigits();
  expect(both.sender.mayOffer).toBe(false);
  both.recipient.confirmed(both.now);
  both.flush();
  both.hear("sender");
  expect(both.saw("sender", "confirmed")).toHaveLength(1);
  expect(both.sender.mayOffer).toBe(true);
  await both.offer();
  await both.run();
  expect(both.endings).toEqual(["complete", "complete"]);
});

test("the recipient may confirm them first", async () => {
  const both = new Both(undefined, { verify: true });
  both.recipient.confirmed(both.now);
  both.flush();
  both.hear("sender");
  expect(both.sender.mayOffer).toBe(false);
  both.sender.confirmDigits();
  expect(both.sender.mayOffer).toBe(true);
});

test.each([true, false])("digits that are confirmed again are no news (%s)", (wanted) => {
  const both = new Both(undefined, { verify: wanted });
  for (let i = 0; i < 3; i++) both.recipient.confirmed(both.now);
  both.flush();
  both.hear("sender");
  expect(both.saw("sender", "confirmed")).toHaveLength(wanted ? 1 : 0);
});

// --- aborts and losses ------------------------------------------------------------------------------

test.each([
  ["cancelled", "peer_cancelled"],
  ["no_space", "no_space"],
  ["internal", "peer_failed"],
  ["nonsense", "peer_failed"],
])("an abort is told in this side's words: %s is %s", async (said, heard) => {
  const both = await Both.at("sending");
  both.say("recipient", "abort", { code: said });
  expect(failure(() => both.hear("sender"))).toBe(heard);
  expect(both.sender.over).toBe(true);
});

test("a sender that cancels tells the recipient", async () => {
  const both = await Both.at("sending");
  both.sender.abort("cancelled", both.now);
  both.flush();
  expect(failure(() => both.hear("recipient"))).toBe("peer_cancelled");
});

test("an abort is said once, and what follows is ignored", async () => {
  const both = await Both.at("offering");
  both.sender.frames();
  both.sender.abort("cancelled", both.now);
  both.sender.abort("cancelled", both.now);
  expect(both.sender.frames()).toHaveLength(1);
  both.say("recipient", "decline");
  both.hear("sender");
  both.sender.tick(both.now + 100);
  both.sender.lost();
  expect(both.saw("sender", "ended")).toEqual([]);
  expect(both.sender.plan(0, both.now)).toBeNull();
});

test.each(["offer", "close"])(
  "an %s whose signature comes after the end is not said",
  async (what) => {
    const both = await Both.at(what === "offer" ? "admitting" : "sending");
    if (what === "close") await both.run(() => both.sender.allSent);
    both.holdKeys();
    void (what === "offer" ? both.offer() : both.send());
    both.sender.abort("cancelled", both.now);
    both.queues.recipient.length = 0;
    await both.releaseKeys();
    expect(both.sender.state).toBe(what === "offer" ? "admitting" : "sending");
    expect(both.sender.frames()).toEqual([]);
  },
);

test("silence is told after 6 s and ends it after 10", async () => {
  const { sender, now } = await Both.at("sending");
  sender.events();
  sender.tick(now + SUSPECT_SECONDS + 0.1);
  expect(sender.events()).toEqual([{ type: "suspected", silent: true }]);
  sender.heard(now + 7);
  expect(sender.events()).toEqual([{ type: "suspected", silent: false }]);
  expect(failure(() => sender.tick(now + 7 + LOST_SECONDS))).toBe("connection_lost");
});

test.each([
  ["admitting", "connection_lost_early"],
  ["offering", "connection_lost_early"],
  ["sending", "connection_lost"],
  ["closing", "connection_lost"],
] as const)("while %s, a lost connection is %s", async (state, code) => {
  const { sender, now } = await Both.at(state);
  expect(failure(() => sender.lost())).toBe(code);
  expect(failure(() => sender.tick(now + LOST_SECONDS))).toBe(code);
});

test("a connection lost while countersigning leaves it complete, and says so at the end", async () => {
  const both = await Both.at("countersigning");
  both.holdKeys();
  both["job"](() => both["countersign"](both.saw("sender", "receipted")[0]!));
  both.sender.tick(both.now + LOST_SECONDS);
  both.flush();
  expect(both.saw("sender", "ended")).toEqual([]);
  await both.releaseKeys();
  expect(both.saw("sender", "ended")).toEqual([
    { type: "ended", ending: "complete", code: "receipt_unconfirmed" },
  ]);
});

test.each(["countersigning", "signed"] as const)(
  "an abort of the recipient after its receipt, while %s, is a missing last word",
  async (state) => {
    const both = await Both.at(state);
    both.say("recipient", "abort", { code: "cancelled" });
    both.hear("sender");
    expect(both.sender.settling).toBe(true);
    if (state === "countersigning") {
      both["job"](() => both["countersign"](both.saw("sender", "receipted")[0]!));
      await both.settled();
    }
    expect(both.saw("sender", "ended")).toEqual([
      { type: "ended", ending: "complete", code: "receipt_unconfirmed" },
    ]);
  },
);

test.each(["lost", "timeout"])(
  "a last word that does not come leaves it complete: %s",
  async (how) => {
    const both = await Both.at("signed");
    expect(both.sender.deadline()).toBeLessThanOrEqual(both.now + DONE_SECONDS);
    if (how === "lost") both.sender.lost();
    else {
      for (let i = 0; i < 6; i++) {
        expect(both.sender.over).toBe(false);
        both.now += 1.9;
        both.sender.heard(both.now);
        both.sender.tick(both.now);
      }
    }
    both.flush();
    expect(both.saw("sender", "ended")).toEqual([
      { type: "ended", ending: "complete", code: "receipt_unconfirmed" },
    ]);
  },
);

test("so does one of a transfer that is incomplete", async () => {
  const both = await new Both().offer();
  both.withdrawAt.set(0, CHANGED);
  await both.run(() => both.sender.state === "signed");
  both.sender.lost();
  both.flush();
  expect(both.saw("sender", "ended")).toEqual([
    { type: "ended", ending: "incomplete", code: "receipt_unconfirmed" },
  ]);
});

test("a side that lost the connection does not end the other: it can be taken up again", async () => {
  const both = await Both.at("sending");
  both.sender.frames();
  both.sender.abort("connection_lost", both.now);
  expect(both.sender.frames()).toEqual([]);
  const other = await Both.at("sending");
  other.say("recipient", "abort", { code: "connection_lost" }); // as an older version would
  expect(failure(() => other.hear("sender"))).toBe("connection_lost");
});

test("both sides ping when idle, and so stay alive for hours", async () => {
  const both = await Both.at("offering");
  await both.run(() => both.recipient.state === "deciding");
  for (let i = 0; i < 3000; i++) {
    both.tick(IDLE_SECONDS);
    both.hear("sender");
    both.hear("recipient");
  }
  expect(both.saw("sender", "suspected")).toEqual([]);
  expect(both.over).toBe(false);
});

test("ranges that nobody acknowledges are a lost connection, though the peer is heard", async () => {
  const both = await Both.at("sending", [filled(300_000)]);
  while (both.send());
  const { sender, now } = both;
  for (let second = 1; second < STALL_SECONDS; second++) {
    sender.heard(now + second);
    sender.tick(now + second);
  }
  sender.heard(now + STALL_SECONDS);
  sender.signal(1, { type: "candidates", candidates: [], relayed: false }, now + STALL_SECONDS - 1);
  expect(sender.deadline()).toBe(now + STALL_SECONDS); // no ping is due before
  expect(failure(() => sender.tick(now + STALL_SECONDS))).toBe("connection_lost");
});

test("one acknowledgement in time keeps a crawling path alive", async () => {
  const both = await Both.at("sending", [filled(300_000)]);
  for (let i = 0; i < 5; i++) {
    both.send();
    both.deliverData();
    both.now += STALL_SECONDS - 1;
    both.sender.heard(both.now);
    both.recipient.heard(both.now);
    for (const step of [() => both.send(), () => both.sync(), () => both.deliverData()]) {
      both.tick(0.1);
      both.hear("sender");
      both.hear("recipient");
      step();
    }
  }
  expect(both.sender.state).toBe("sending");
});

test("a recipient whose disk stalls keeps its connection for as long as it says so", async () => {
  const both = await Both.at("sending", [filled(50_000)]);
  both.send();
  both.recipient.reportBottleneck("disk", both.now);
  both.flush();
  const wait = () => {
    both.hear("sender");
    both.hear("recipient");
    both.tick(1);
  };
  const began = both.now;
  for (let i = 0; i < 2 * STALL_SECONDS; i++) wait();
  expect(both.saw("sender", "bottleneck_reported").at(-1)).toMatchObject({ by: "disk" });
  expect(both.sender.over).toBe(false);
  const forEver = () => {
    while (both.now < began + 2 * LONGEST_STALL_SECONDS) wait();
  };
  expect(failure(forEver)).toBe("connection_lost");
  expect(both.now - began).toBeGreaterThanOrEqual(LONGEST_STALL_SECONDS - 1);
});

test.each(["offering", "sending", "closing"] as const)(
  "a recipient that never comes to an end while %s is given up after a day",
  async (state) => {
    const both = await Both.at(state);
    both.say("recipient", "ping", { bottleneck: "disk" });
    both.hear("sender");
    const { sender } = both;
    sender.lanes.drop(0); // whatever was under way
    const began = both.now;
    const forEver = () => {
      while (both.now < began + 2 * LONGEST_STILL_SECONDS) {
        both.now += 900;
        sender.heard(both.now);
        sender.tick(both.now);
      }
    };
    expect(failure(forEver)).toMatch("connection_lost");
    expect(both.now - began).toBeGreaterThanOrEqual(LONGEST_STILL_SECONDS);
    expect(both.now - began).toBeLessThan(LONGEST_STILL_SECONDS + 1000);
  },
);

test("a person may confirm the digits as late as they like", () => {
  const both = new Both(undefined, { verify: true });
  for (let i = 0; i < 100; i++) {
    both.now += 5000;
    both.sender.heard(both.now);
    both.sender.tick(both.now);
  }
  expect(both.sender.over).toBe(false);
});

test("each side learns what holds the other up when it changes, and not too often", async () => {
  const both = await Both.at("sending");
  for (const by of ["", "disk", "disk", "network", ""] as const) {
    both.sender.reportBottleneck(by, both.now);
    both.recipient.reportBottleneck(by, both.now);
    both.now += IDLE_SECONDS;
  }
  both.sender.reportBottleneck("limit", both.now);
  both.sender.reportBottleneck("disk", both.now + IDLE_SECONDS - 0.1); // so soon is not worth a word
  both.flush();
  both.hear("recipient");
  both.hear("sender");
  const by = (role: "sender" | "recipient") =>
    both.saw(role, "bottleneck_reported").map((event) => event.by);
  expect(by("sender")).toEqual(["disk", "network", ""]);
  expect(by("recipient")).toEqual(["disk", "network", "", "limit"]);
  both.sender.reportBottleneck("disk", both.now + IDLE_SECONDS); // it is not forgotten
  both.flush();
  both.hear("recipient");
  expect(by("recipient").at(-1)).toBe("disk");
  both.sender.abort("cancelled", both.now);
  both.sender.frames();
  both.sender.reportBottleneck("", both.now + 100);
  expect(both.sender.frames()).toEqual([]);
});

test("what has not changed is not said again, but with the next ping", async () => {
  const { sender, now } = await Both.at("sending");
  sender.frames();
  for (const seconds of [0, 3, 6]) sender.reportBottleneck("disk", now + seconds);
  expect(sender.frames()).toHaveLength(1);
});

test("a range that is handed over counts as said, so that no ping follows it", async () => {
  const both = await Both.at("sending");
  const { sender } = both;
  sender.tick((both.now += IDLE_SECONDS - 0.5));
  both.send();
  sender.tick((both.now += IDLE_SECONDS - 0.5));
  expect(sender.frames()).toEqual([]);
  sender.tick((both.now += 0.5));
  expect(sender.frames()).toHaveLength(1);
});

test("the deadline is the next thing to do", async () => {
  const { sender, now } = await Both.at("offering");
  expect(sender.deadline()).toBe(now + IDLE_SECONDS);
  sender.tick(now + SUSPECT_SECONDS - 0.5);
  expect(sender.deadline()).toBe(now + SUSPECT_SECONDS);
  sender.tick(now + SUSPECT_SECONDS);
  sender.tick(now + LOST_SECONDS - 1);
  expect(sender.deadline()).toBe(now + LOST_SECONDS);
});

// --- the table --------------------------------------------------------------------------------------

const MAY_COME: { [state in SenderState]: MessageType[] } = {
  admitting: ["confirmed"],
  offering: ["ack", "accept", "decline", "failed", "receipt", "lane"],
  sending: ["ack", "lane"],
  closing: ["ack", "failed", "receipt", "lane"],
  countersigning: ["ack", "lane"],
  signed: ["ack", "done", "lane"],
};
/** Say something to the sender, past what is still on its way to it. */
function hostile(both: Both, type: MessageType, fields: Fields = SAMPLES[type]): void {
  both.hear("sender");
  both.say("recipient", type, fields);
  both.hear("sender");
}

/** A sender in a state, with nothing on its way to it. */
async function quiet(state: SenderState, files?: Content[]): Promise<Both> {
  const both = await Both.at(state, files);
  both.hear("sender");
  expect(both.sender.state).toBe(state);
  return both;
}

const CASES = SENDER_STATES.flatMap((state) =>
  (Object.keys(MESSAGES) as MessageType[]).map((type) => [type, state] as const),
);
const always = ["ping", "abort", "accept", "receipt"]; // the last two have tests of their own

test.each(CASES.filter(([type, state]) => !["ping", "abort", ...MAY_COME[state]].includes(type)))(
  "%s may not come while %s",
  async (type, state) => {
    const both = await quiet(state);
    expect(broken(() => hostile(both, type))).toBe(`message_out_of_turn: ${type}`);
    expect(both.sender.state).toBe(state);
  },
);

test.each(
  CASES.filter(([type, state]) => !always.includes(type) && MAY_COME[state].includes(type)),
)("%s may come while %s", async (type, state) => {
  const both = await quiet(state);
  hostile(both, type); // the ack is of the manifest, and late but while offering
});

test.each(SENDER_STATES)("a ping may come while %s, and is not answered", async (state) => {
  const both = await quiet(state);
  both.queues.recipient.length = 0;
  hostile(both, "ping");
  expect([both.queues.recipient, both.sender.state]).toEqual([[], state]);
});

test("whatever comes once it is over is ignored", async () => {
  const both = await Both.at("sending");
  both.sender.abort("cancelled", both.now);
  both.flush();
  const { length } = both.facts.sender;
  for (const type of Object.keys(MESSAGES) as MessageType[]) hostile(both, type);
  expect(both.facts.sender).toHaveLength(length);
});

const CALLS: { [name: string]: (both: Both) => unknown } = {
  confirmDigits: ({ sender }) => sender.confirmDigits(),
  offer: ({ sender, manifest, data, tape, now }) =>
    sender.offer({ manifest, data, tape, results: Results.of(2) }, TIME, () => now),
  withdraw: ({ sender, now }) => sender.withdraw([[0, CHANGED]], now),
  drawUp: (both) => {
    both.hash();
    both.sender.drawUp(TIME, "");
  },
  close: ({ sender, now }) => sender.close(() => now),
  countersign: ({ sender }) =>
    sender.countersign(
      { type: "receipted", payload: utf8("{}"), signature: SIGNATURE },
      new Uint8Array(32),
      [],
    ),
  countersigned: ({ sender, now }) => sender.countersigned(SIGNATURE, now),
  taken: ({ sender }) => sender.taken(header(0, 0)),
  sent: ({ sender, now }) => sender.sent(9, header(0, 1), filled(1), now),
  hashed: ({ sender }) => sender.hashed(0, new Uint8Array(32)),
  signal: ({ sender, now }) =>
    sender.signal(1, { type: "candidates", candidates: [], relayed: false }, now),
};
const header = (offset: number, length: number) => ({
  transferId: TRANSFER,
  stream: Stream.DATA,
  flags: 0,
  offset,
  length,
});
const ON_THE_WAY = ["taken", "sent", "hashed", "signal"];
const MAY_BE_CALLED: { [state in SenderState]: string[] } = {
  admitting: ["confirmDigits", "offer"],
  offering: ON_THE_WAY,
  sending: [...ON_THE_WAY, "withdraw", "drawUp", "close"],
  closing: ON_THE_WAY,
  countersigning: [...ON_THE_WAY, "countersign", "countersigned"],
  signed: ON_THE_WAY,
};

test.each(
  SENDER_STATES.flatMap((state) => Object.keys(CALLS).map((name) => [name, state] as const)),
)("%s is called in its turn alone: %s", async (name, state) => {
  const both = await quiet(state);
  const call = () => CALLS[name]!(both);
  if (!MAY_BE_CALLED[state].includes(name)) {
    expect(call).toThrow(OutOfTurn);
    expect(both.sender.state).toBe(state);
  } else if (name === "countersign") expect(broken(call)).toMatch("receipt_mismatch");
  else if (name === "close")
    await expect(call()).rejects.toThrow(TypeError); // nothing drawn up
  else await call();
});

// --- hostile acknowledgements -----------------------------------------------------------------------

const ACK = { ...SAMPLES.ack, stream: 1, written: 10 };

test.each([
  ["more than was sent", { written: 11 }, "ack_of_unsent_range"],
  ["more durable than written", { durable: 11 }, "ack_of_unsent_range"],
  ["more verified than durable", { verified: 6, durable: 5 }, "ack_of_unsent_range"],
  ["a stream that is not there", { stream: 2, written: 0 }, "ack_of_unsent_range"],
  ["more ranges than a lane carried", { lanes: [[0, 1000]] }, "ack_of_unsent_range"],
  ["a lane that never was", { lanes: [[1, 0]] }, "ack_of_unknown_lane"],
  ["a limit that goes back", { limit: 1 }, "ack_goes_back"],
])("an acknowledgement of %s is refused", async (_, change, why) => {
  const both = await quiet("sending", [filled(10)]);
  both.send();
  expect(broken(() => hostile(both, "ack", { ...ACK, ...change }))).toBe(why);
});

test.each([
  ["written", { written: 9 }],
  ["durable", { durable: 4, verified: 4 }],
])("an acknowledgement that goes back is refused: %s", async (_, back) => {
  const both = await quiet("sending", [filled(10)]);
  both.send();
  const good = { ...ACK, durable: 5, verified: 5 };
  hostile(both, "ack", good);
  expect(broken(() => hostile(both, "ack", { ...good, ...back }))).toBe("ack_goes_back");
});

test("a lane's count that goes back is refused", async () => {
  const both = await quiet("sending", [filled(10_000)]);
  both.send();
  both.deliverData();
  both.tick(0.06);
  both.hear("sender");
  const carried = both.sender.lanes.windows.get(0)!.arrived;
  const back = { ...ACK, written: 0, limit: WINDOW + 4096, lanes: [[0, carried - 1]] };
  expect(broken(() => hostile(both, "ack", back))).toBe("ack_of_unsent_range");
});

test("a late acknowledgement of the manifest says nothing, whatever is in it", async () => {
  const both = await quiet("sending");
  hostile(both, "ack", { ...ACK, stream: 0, written: 10 ** 6, durable: 7 });
  expect(both.sender.state).toBe("sending");
  expect(both.saw("sender", "progressed")).toEqual([]);
});

// --- what counts as progress ------------------------------------------------------------------------

test.each(["the offer", "the accept", "an acknowledgement"])(
  "with %s the day begins anew",
  async (what) => {
    const state = { "the offer": "admitting", "the accept": "offering" }[what] ?? "sending";
    const both = await Both.at(state as SenderState, [filled(10_000)]);
    const later = (seconds: number) => {
      both.now += seconds;
      both.sender.heard(both.now);
      both.recipient.heard(both.now);
    };
    if (what === "the accept") await both.run(() => both.recipient.state === "deciding");
    both.hear("sender");
    later(LONGEST_STILL_SECONDS - 10);
    if (what === "the offer") await both.offer();
    else if (what === "the accept") {
      both.accept();
      await both.settled();
      both.hear("sender");
    } else {
      both.send();
      const { arrived } = both.sender.lanes.windows.get(0)!;
      hostile(both, "ack", { ...ACK, written: 4096, lanes: [[0, arrived + 1]] });
    }
    later(20);
    both.sender.tick(both.now);
    later(LONGEST_STILL_SECONDS - 20);
    expect(failure(() => both.sender.tick(both.now))).toMatch("connection_lost");
  },
);

// --- hostile answers --------------------------------------------------------------------------------

/** A sender whose recipient is asked, and the accept it would say. */
async function asked(files?: Content[]): Promise<[Both, Fields]> {
  const both = await new Both(files).offer();
  await both.run(() => both.recipient.state === "deciding");
  both.hear("sender");
  const fields = {
    type: "accept",
    transfer_id: TRANSFER,
    transcript: both.sender["secured"].transcript,
    offer_sha256: sha256(both.sender["offerBody"]),
    offset: 0,
    time: TIME,
  };
  return [both, fields];
}

test("an accept as it should be is taken", async () => {
  const [both, fields] = await asked();
  both.saySigned("accept", LABEL_ACCEPT, fields);
  both.hear("sender");
  expect(both.sender.state).toBe("sending");
});

test.each([
  ["transfer_id", new Uint8Array(16)],
  ["transcript", new Uint8Array(32)],
  ["offer_sha256", new Uint8Array(32)],
])("an accept of another offer is refused: %s", async (member, value) => {
  const [both, fields] = await asked();
  both.saySigned("accept", LABEL_ACCEPT, { ...fields, [member]: value });
  expect(broken(() => both.hear("sender"))).toBe("accept_of_another_offer");
  expect(both.sender.state).toBe("offering");
});

test.each([
  ["another key", LABEL_ACCEPT, "sender"],
  ["another label", LABEL_OFFER, "recipient"],
] as const)("an accept signed with %s is refused", async (_, label, by) => {
  const [both, fields] = await asked();
  both.saySigned("accept", label, fields, both.people[by]);
  expect(broken(() => both.hear("sender"))).toBe("signature_invalid: accept");
});

test.each([{ offset: -1 }, { time: "now" }, { type: "offer" }, { more: 1 }])(
  "an accept that cannot be is refused: %j",
  async (change) => {
    const [both, fields] = await asked();
    both.saySigned("accept", LABEL_ACCEPT, { ...fields, ...(change as Fields) });
    expect(broken(() => both.hear("sender"))).toMatch("malformed");
  },
);

test.each([
  [0, 0],
  [0, 1],
  [5000, 5000],
  [5000, 5001],
  [200_000, 100_000],
  [200_000, 100_001],
])(
  "of a tape that was handed over up to %i, an accept from %i on is held against that",
  async (reached, claimed) => {
    const both = new Both([filled(100_000)]);
    both.durable = reached;
    await both.offer();
    expect(both.sender.reached).toBe(reached);
    await both.run(() => both.recipient.state === "deciding");
    both.accept(claimed);
    await both.settled();
    if (claimed <= Math.min(reached, 100_000)) {
      both.hear("sender");
      expect([both.sender.begins, both.sender.reached]).toEqual([claimed, reached]);
    } else expect(broken(() => both.hear("sender"))).toBe("accept_of_unsent_range");
  },
);

test("what was handed over counts also as long as nothing acknowledged it", async () => {
  const both = new Both([filled(100_000)]);
  await both.offer();
  expect([both.sender.reached, both.sender.total]).toEqual([0, 100_000]);
  await both.run(() => both.sender.state === "sending");
  expect(both.sender.reached).toBe(0);
  both.send();
  expect(both.sender.reached).toBe(4096);
});

test.each([
  ["an entry that is not there", [2, NOT_PLACED]],
  ["a status of the sender's", [0, UNREADABLE]],
  ["delivered as status", [0, 0]],
  ["an unknown status", [0, 99]],
])("a failure of %s is refused", async (_, entry) => {
  for (const state of ["offering", "closing"] as const) {
    const both = await Both.at(state);
    const failed = () => hostile(both, "failed", { entries: [[1, NOT_PLACED], entry] });
    expect(broken(failed)).toBe("failure_of_unknown_entry");
  }
});

// --- hostile receipts -------------------------------------------------------------------------------

/** A sender that has to answer a receipt, and what it makes of one that says something else. */
async function answering(
  changed: (said: any) => void = () => {},
  by: "sender" | "recipient" = "recipient",
) {
  const both = await Both.at("countersigning");
  const { payload } = both.saw("sender", "receipted")[0]!;
  const said = decodeJson(payload, receipt.MAX_RECEIPT) as JsonObject;
  changed(said);
  const octets = encodeJson(said);
  const signature = signReceipt(both.people[by], octets);
  const root = resultsRoot(both.manifest, both.sender.results);
  const countersign = (closings = both.closings) =>
    both.sender.countersign({ type: "receipted", payload: octets, signature }, root, closings);
  return { both, countersign, octets };
}

test("a receipt of what happened is countersigned, over its very bytes", async () => {
  const { both, countersign, octets } = await answering();
  expect(await countersign()).toEqual(signReceipt(both.people.sender, octets));
});

const stranger = encodeBase64url(new Uint8Array(32).fill(5));
const LATER = "2026-01-02T03:04:06.000Z";
const someone = (label: string) =>
  receipt.party(new Uint8Array(32).fill(5), label, "t", "0".repeat(64));

const CHANGES: [member: string, changed: (said: any) => void][] = [
  ["transfer_id", (said) => (said.transfer_id = encodeBase64url(new Uint8Array(16)))],
  ["outcome", (said) => (said.outcome = "incomplete")],
  ["purpose", (said) => (said.purpose = "TREAT")],
  ["manifest_sha256", (said) => (said.manifest_sha256 = NONE)],
  ["content.root", (said) => (said.content.root = NONE)],
  ["content.entries", (said) => said.content.entries++],
  ["content.bytes", (said) => said.content.bytes++],
  ["content.delivered_entries", (said) => said.content.delivered_entries--],
  ["content.delivered_bytes", (said) => said.content.delivered_bytes--],
  ["content.skipped", (said) => (said.content.skipped = 1)],
  ["content.skipped", (said) => delete said.content.skipped],
  ["sender.jwk.x", (said) => (said.sender = someone("s"))],
  ["sender.audit_head", (said) => (said.sender.audit_head = "")],
  ["sender.label", (said) => (said.sender.label = "x")],
  ["sender.software", (said) => (said.sender.software = "x")],
  ["recipient.jwk.x", (said) => (said.recipient = someone("r"))],
  ["recipient.label", (said) => (said.recipient.label = "x")],
  ["recipient.software", (said) => (said.recipient.software = "x")],
  ["offer_sha256", (said) => (said.offer_sha256 = NONE)],
  ["closing_sha256", (said) => (said.closing_sha256 = NONE)],
  ["security.transcript", (said) => (said.security.transcript = stranger)],
  ["security.fingerprint_sender", (said) => (said.security.fingerprint_sender = NONE)],
  ["security.fingerprint_recipient", (said) => (said.security.fingerprint_recipient = NONE)],
  ["security.digits_confirmed", (said) => (said.security.digits_confirmed = true)],
  ["security.passphrase", (said) => (said.security.passphrase = true)],
  ["times.offered", (said) => (said.times.offered = LATER)],
  ["times.accepted", (said) => (said.times.accepted = LATER)],
  ["times.closed", (said) => (said.times.closed = LATER)],
];

test.each(CHANGES)(
  "a receipt that says something else of %s is not countersigned",
  async (member, changed) => {
    const { countersign } = await answering(changed);
    expect(broken(() => void countersign())).toBe(`receipt_mismatch: member_differs: ${member}`);
  },
);

test("what the recipient alone can know is its own to state", async () => {
  const { countersign } = await answering((said) => {
    said.recipient.audit_head = "1".repeat(64);
    said.times.verified = LATER;
    said.stored = "file";
    said.security.path = "relayed";
    said.security.suite = "y";
  });
  expect(await countersign()).toHaveLength(64);
});

test("a receipt that another key signed is not countersigned", async () => {
  const { countersign } = await answering(() => {}, "sender");
  expect(broken(() => void countersign())).toBe("receipt_mismatch: signature_mismatch");
});

test("a receipt whose form is none is refused", async () => {
  const { countersign } = await answering((said) => (said.more = 1));
  expect(broken(() => void countersign())).toMatch("malformed");
});

test("a receipt whose key has another's thumbprint is refused", async () => {
  const { countersign } = await answering((said) => (said.sender.kid = said.recipient.kid));
  expect(broken(() => void countersign())).toBe("receipt_key_mismatch");
});

test("a receipt of a session that was never closed is not countersigned", async () => {
  const { both, countersign } = await answering();
  const [closed] = both.closings as [JsonObject];
  const other = { ...closed, security: { ...SECURITY, transcript: stranger } };
  for (const closings of [[], [other]]) {
    expect(broken(() => void countersign(closings))).toMatch("security.transcript");
  }
  expect(await countersign([other, closed])).toHaveLength(64);
});

test("what is kept of a closed session is plain JSON, and names both and the session", async () => {
  const { both } = await answering();
  const closed = both.sender.closed(OWN, SECURITY);
  expect(decodeJson(encodeJson(closed), 4096)).toEqual(closed);
  expect(closed).toEqual(both.closings[0]);
});

test("a sender that was deceived countersigns nothing and stays where it was", async () => {
  const { both, countersign } = await answering((said) => (said.outcome = "incomplete"));
  expect(refusal(() => void countersign()).code).toBe("protocol");
  expect(both.sender.state).toBe("countersigning");
});

test("a receipt with refused entries that were not told is not countersigned", async () => {
  const both = await Both.at("closing");
  both.answers = false;
  await both.run(() => both.sender.state === "countersigning");
  both.sender.results.failed(0, NOT_PLACED);
  const [event] = both.saw("sender", "receipted");
  const root = resultsRoot(both.manifest, both.sender.results);
  expect(broken(() => void both.sender.countersign(event!, root, both.closings))).toMatch(
    "outcome",
  );
});

// --- a later session of the same transfer -----------------------------------------------------------

describe("a later session", () => {
  const files = [filled(10_000, 1), filled(90_000, 2), filled(10, 3)];

  /** Some ranges of a first session; then the second one's offer. */
  const cut = async (ranges: number, withdrawn: [number, number][] = []) => {
    const both = await Both.at("sending", files);
    withdrawn.forEach(([entry, status]) => both.withdrawAt.set(entry, status));
    both.sender.lanes.windows.get(0)!.size = WINDOW;
    for (let i = 0; i < ranges; i++) {
      both.send();
      both.hear("recipient");
      both.deliverData();
    }
    both.sync();
    return both.reconnect();
  };

  test("begins where the recipient stands", async () => {
    const both = await cut(12);
    expect(both.durable).toBeGreaterThan(10_000);
    expect(both.durable).toBeLessThan(100_000);
    await both.offer();
    await both.run();
    expect(both.saw("sender", "accepted").at(-1)!.offset).toBe(both.durable);
    expect(both.endings).toEqual(["complete", "complete"]);
    files.forEach((_, entry) => expect(both.arrived(entry)).toBe(true));
    expect(both.receipts).toHaveLength(1);
  });

  test("tells again what was given up before where the recipient begins", async () => {
    const both = await cut(5, [[0, CHANGED]]);
    await both.offer();
    const { length } = both.saw("recipient", "withdrawn");
    await both.run();
    expect(both.saw("recipient", "withdrawn").slice(length)).toEqual([
      { type: "withdrawn", entries: [[0, CHANGED]] },
    ]);
    expect(both.endings).toEqual(["incomplete", "incomplete"]);
    expect(both.sender.results.failures()).toEqual([[0, CHANGED]]);
  });

  test("tells it in batches", async () => {
    const count = 2 * BATCH + 1;
    const both = await Both.at(
      "sending",
      Array.from({ length: count + 1 }, () => filled(1)),
    );
    both.withdraw(...Array.from({ length: count }, (_, i): [number, number] => [i, CHANGED]));
    both.hear("recipient");
    both.sync();
    expect(both.reconnect().durable).toBe(count);
    await both.offer();
    const { length } = both.saw("recipient", "withdrawn");
    await both.run();
    const told = both.saw("recipient", "withdrawn").slice(length);
    expect(told.map(({ entries }) => entries.length)).toEqual([BATCH, BATCH, 1]);
  });

  test("tries again what was given up beyond where the recipient begins", async () => {
    const both = await cut(1);
    both.earlier!.failed(1, CHANGED);
    await both.offer();
    await both.run();
    expect(both.saw("recipient", "withdrawn")).toEqual([]);
    expect(both.endings).toEqual(["complete", "complete"]);
  });

  test("opens again what the earlier recipient refused, not what this side gave up", async () => {
    const both = await cut(1);
    both.earlier!.failed(0, NOT_PLACED);
    both.earlier!.failed(1, UNREADABLE);
    await both.offer();
    expect([0, 1].map((entry) => both.sender.results.known(entry))).toEqual([false, true]);
  });

  test("takes the first session's receipt, which had not come", async () => {
    const both = await new Both(files).offer();
    await both.run(() => both.recipient.state === "signed");
    const kept = both.recipient["payload"]; // and the connection breaks
    const signature = signReceipt(both.people.recipient, kept);
    both.reconnect();
    await both.offer();
    await both.run(() => both.recipient.state === "deciding");
    both.recipient.read(both.manifest, both.tape);
    both.recipient.finish(both.sender.results, [], kept, signature, both.now);
    both.flush();
    await both.run();
    expect(both.endings).toEqual(["complete", "complete"]);
    expect(both.receipts.map(({ payload }) => fromUtf8(payload))).toEqual([fromUtf8(kept)]);
  });

  test("takes the first session's refusals with its receipt", async () => {
    const both = new Both(files);
    both.refuse = [[2, NOT_PLACED]];
    await both.offer();
    await both.run(() => both.recipient.state === "signed");
    const kept = both.recipient["payload"];
    const results = both.recipient["results"];
    const signature = signReceipt(both.people.recipient, kept);
    await both.reconnect().offer();
    await both.run(() => both.recipient.state === "deciding");
    both.recipient.read(both.manifest, both.tape);
    both.recipient.finish(results, both.refuse, kept, signature, both.now);
    both.flush();
    await both.run();
    expect(both.endings).toEqual(["incomplete", "incomplete"]);
    expect(both.receipts).toHaveLength(1);
  });
});

// --- several lanes ----------------------------------------------------------------------------------

describe("with several lanes", () => {
  const acked = (both: Both) => {
    both.tick(0.06);
    both.hear("sender");
  };

  test("what is said does not wait behind data", async () => {
    const both = await Both.at("sending", [filled(500_000)]);
    both.hear("recipient");
    both.send();
    both.sender.signal(1, { type: "candidates", candidates: [], relayed: false }, both.now);
    expect(both.sender.plan(0, both.now)).toBeNull();
    const other = both.addLane();
    expect(both.sender.plan(other, both.now)).not.toBeNull();
    while (both.deliverData());
    acked(both);
    expect(both.sender.plan(0, both.now)).not.toBeNull();
    await both.run();
    expect(both.saw("recipient", "lane_signalled")).toHaveLength(1);
  });

  test("each carries other ranges", async () => {
    const both = await Both.at("sending", [filled(500_000)]);
    const other = both.addLane();
    for (let more = true; more;) more = [both.send(0), both.send(other)].some(Boolean);
    const offsets = [0, other].map((lane) => both.lanes.get(lane)!.map(([{ offset }]) => offset));
    expect(offsets.map((some) => some.length > 1)).toEqual([true, true]);
    expect(new Set(offsets.flat()).size).toBe(offsets.flat().length);
    await both.run();
    expect(both.arrived(0)).toBe(true);
  });

  test("what a dropped one held goes to the others once", async () => {
    const both = await Both.at("sending", [filled(500_000)]);
    const other = both.addLane();
    both.send(other);
    both.send(other);
    const held = both.lanes.get(other)!.map(([header]) => header);
    both.dropLane(other);
    expect(again(both.sender.plan(0, both.now))[0]).toBe(held[0]);
    both.sender.sent(other, held[0]!, filled(4096), both.now); // it was being sealed meanwhile
    await both.run();
    expect(both.arrived(0)).toBe(true);
  });

  test("one that brings nothing lends its ranges to the others", async () => {
    const both = await Both.at("sending", [filled(300_000)]);
    const other = both.addLane();
    both.send(other);
    const [[stuck]] = both.lanes.get(other) as [Range];
    const due = both.now + REINJECT_LANE_SECONDS;
    both.sender.reportBottleneck("network", due - 1);
    expect(both.sender.deadline()).toBe(due); // no ping is due before
    for (let i = 0; i < 62; i++) {
      both.tick();
      both.hear("sender");
      both.hear("recipient");
    }
    expect(both.sender.plan(other, both.now)).toBeNull();
    expect(again(both.sender.plan(0, both.now))[0]).toBe(stuck);
    expect(both.sender.lanes.windows.get(other)!.stalled).toBe(true);
    both.deliverData(other); // there it is, after all
    await both.run();
    expect(both.endings).toEqual(["complete", "complete"]);
  });

  test("none lends while the recipient says that its disk holds it up", async () => {
    const both = await Both.at("sending", [filled(300_000)]);
    const other = both.addLane();
    both.send(other);
    both.recipient.reportBottleneck("disk", both.now);
    both.flush();
    both.hear("sender");
    for (let i = 0; i < 5; i++) {
      both.tick(1);
      both.hear("sender");
      both.hear("recipient");
    }
    expect(both.sender.lanes.windows.get(other)!.stalled).toBe(false);
    expect(both.sender.deadline()).toBeGreaterThan(both.now); // nor is it due
  });

  test("an idle one helps with what the others wait for, once", async () => {
    const both = await Both.at("sending", [filled(60_000)]);
    both.hear("recipient");
    both.sender.lanes.windows.get(0)!.size = WINDOW;
    while (!both.sender.allSent) both.send();
    const other = both.addLane();
    expect(both.sender.plan(other, both.now)).toBeNull();
    const taken = new Set<number>();
    for (let second = 0; second < 20; second++) {
      both.now += REINJECT_RANGE_SECONDS;
      both.sender.heard(both.now);
      const plan = both.sender.plan(other, both.now);
      if (!plan) continue;
      const range = again(plan);
      expect(taken.has(range[0].offset)).toBe(false);
      taken.add(range[0].offset);
      both.put(other, ...range);
      both.deliverData(other);
      acked(both);
    }
    expect(taken.size).toBe(both.lanes.get(0)!.length);
    await both.run();
    expect(both.arrived(0)).toBe(true);
  });

  test("what a gone one brought after all is not sent again", async () => {
    const both = await Both.at("sending", [filled(60_000)]);
    const other = both.addLane();
    both.send(other);
    const late = [...both.lanes.get(other)!];
    both.dropLane(other);
    for (const [header, payload] of late) {
      expect(both.recipient.admit(header, both.now, other)).toBe(true);
      both.recipient.written(header, payload, both.now, other);
      both.disk.set(header.offset, payload);
    }
    both.flush();
    acked(both);
    expect(both.sender.lanes.reinjection.any).toBe(false);
    await both.run();
  });

  test("one by a relay rests until the better one fails", async () => {
    const both = await Both.at("sending", [filled(300_000)]);
    both.hear("recipient");
    both.sender.lanes.rankOwn(RELAYED);
    const better = both.addLane();
    expect(both.sender.plan(0, both.now)).not.toBeNull(); // it has brought nothing yet
    both.send(better);
    both.deliverData(better);
    acked(both);
    expect(both.sender.plan(0, both.now)).toBeNull();
    both.send(better);
    for (let i = 0; i < 62; i++) {
      both.tick();
      both.hear("sender");
      both.hear("recipient");
    }
    expect(both.sender.plan(0, both.now)).not.toBeNull();
  });

  test("a retired one gets nothing new", async () => {
    const both = await Both.at("sending", [filled(300_000)]);
    const other = both.addLane();
    both.sender.lanes.retire(other);
    expect(both.sender.plan(other, both.now)).toBeNull();
    expect(both.sender.plan(0, both.now)).not.toBeNull();
  });

  test("they are numbered once and not without end", async () => {
    const both = await Both.at("sending");
    both.hear("sender");
    const numbers = Array.from({ length: MAX_LANES - 1 }, () => both.addLane());
    expect(both.sender.lanes.number()).toBeNull();
    for (const number of numbers) both.dropLane(number);
    const limit = both.sender["streams"].get(Stream.DATA)!.limit;
    const late = { ...ACK, written: 0, limit, lanes: [[numbers.at(-1)!, 5]] };
    hostile(both, "ack", late); // of a lane that is gone
    for (let next: number | null = 0; next !== null && next < MAX_LANE_NUMBER;) {
      next = both.sender.lanes.number();
    }
    expect(both.sender.lanes.number()).toBeNull();
  });
});

test("a sender knows whether the recipient holds it up", async () => {
  const both = await Both.at("sending", [filled(3_000_000)], { largest: 250_000 });
  both.hear("recipient");
  expect(both.sender.atLimit).toBe(false);
  expect(new Both().sender.atLimit).toBe(false);
  both.sender.lanes.windows.get(0)!.size = WINDOW;
  while (both.send());
  expect(both.sender.atLimit).toBe(true);
  expect(both.sender.reached).toBeLessThanOrEqual(INITIAL_LIMIT);
  const last = await Both.at("sending", [filled(INITIAL_LIMIT + 1)], { largest: 250_000 });
  last.hear("recipient");
  last.sender.lanes.windows.get(0)!.size = WINDOW;
  while (last.send());
  expect(last.sender.reached).toBe(1_000_000);
  expect(last.sender.atLimit).toBe(false); // the rest is less than a range
});
