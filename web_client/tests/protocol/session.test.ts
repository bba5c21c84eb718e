/** The session: the whole line, every ending, every rule of the table and of the streams. */
import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test } from "vitest";

import {
  concat,
  decodeJson,
  encodeBase64url,
  encodeJson,
  fromUtf8,
  sha256,
  utf8,
  type Bytes,
  type JsonObject,
} from "../../src/protocol/codec";
import { CHANGED, NOT_PLACED, Results, UNREADABLE, tapeOf } from "../../src/protocol/manifest";
import * as receipt from "../../src/protocol/receipt";
import { HOLE, Stream } from "../../src/protocol/seal";
import {
  ACK_SECONDS,
  DONE_SECONDS,
  IDLE_SECONDS,
  INITIAL_LIMIT,
  LOST_SECONDS,
  MESSAGES,
  OutOfTurn,
  RECIPIENT_STATES,
  SUSPECT_SECONDS,
  WINDOW,
  type RecipientState,
} from "../../src/protocol/session";
import { STILL_SECONDS } from "../../src/protocol/session/machine";
import { MAX_PENDING } from "../../src/protocol/tape";
import { Pair, TIME, TRANSCRIPT, TRANSFER, sample, type Content } from "./pair";
import { broken, failure, refusal } from "./refusals";

beforeAll(() => sodium.ready);

const KIB = 1024;
const MIB = 1024 * KIB;
const filled = (length: number, value = 97): Bytes => new Uint8Array(length).fill(value);
const other = (length: number) => encodeBase64url(new Uint8Array(length).fill(99));

// --- the whole line --------------------------------------------------------------------------------

const LINES: [name: string, files: Content[]][] = [
  ["two files", [utf8("hello"), utf8("world")]],
  ["an empty file", [filled(0)]],
  ["a folder", [null]],
  ["folders and empty files between others", [null, filled(0), filled(100_000), filled(0), null]],
  ["a file of several windows' first limits", [filled(3_000_000)]],
  ["many files", Array.from({ length: 200 }, (_, i) => filled(i * 7, i))],
  ["a hole between data", [filled(10), 500_000, filled(10)]],
  ["nothing but a hole", [100_000_000]],
];

test.each(LINES)("everything arrives and it ends complete: %s", async (_, files) => {
  const pair = new Pair(files).offer();
  expect(pair.saw("offered")).toEqual([
    { type: "offered", entries: files.length, size: pair.tape.total },
  ]);
  expect(pair.session.state).toBe("reading");
  pair.sendManifest();
  expect(pair.session.state).toBe("deciding");
  expect(pair.saw("manifest_arrived")).toEqual([{ type: "manifest_arrived", data: pair.data }]);
  await pair.accept();
  pair.sendData().sync().readBack();
  expect(pair.saw("progressed").at(-1)).toEqual({
    type: "progressed",
    durable: pair.tape.total,
    verified: pair.tape.total,
    total: pair.tape.total,
  });
  pair.close();
  expect(pair.saw("delivered")).toEqual([]);
  pair.sendDigests();
  expect(pair.saw("delivered")).toEqual([{ type: "delivered", digests: pair.digests() }]);
  expect(pair.session.settling).toBe(true);
  pair.finish().countersign();
  expect(pair.saw("countersigned")).toHaveLength(1);
  expect(pair.session.over).toBe(false);
  pair.confirm();
  expect(pair.saw("ended")).toEqual([{ type: "ended", ending: "complete", code: "" }]);
  expect(pair.session.over).toBe(true);
  const order = pair.said.map((message) => message.type).filter((type) => type !== "ack");
  expect(order).toEqual(["accept", "receipt", "done"]);

  const [{ payload, signature }] = pair.receipts as [{ payload: Bytes; signature: Bytes }];
  expect(pair.heard("receipt")[0]).toEqual({
    type: "receipt",
    payload: fromUtf8(payload),
    signature: encodeBase64url(signature),
  });
  const whole = receipt.verify(
    receipt.assemble(payload, [
      [pair.recipient.public, signature],
      [pair.sender.public, pair.saw("countersigned")[0]!.signature],
    ]),
  );
  expect(whole.confirmed).toBe(true);
  expect(whole.payload).toMatchObject({
    transfer_id: TRANSFER,
    outcome: "complete",
    offer_sha256: sha256(utf8(pair.offered)),
    manifest_sha256: sha256(pair.data),
    closing_sha256: sha256(utf8(pair.closed)),
    content: {
      entries: files.length,
      bytes: pair.tape.total,
      delivered_entries: files.length,
      delivered_bytes: pair.tape.total,
    },
    times: { offered: TIME, accepted: TIME, closed: TIME, verified: TIME },
  });
});

test("the accept is signed, and names the offer, the session and where to begin", async () => {
  const pair = await Pair.at("receiving");
  const { body, signature } = pair.heard("accept")[0] as unknown as {
    body: string;
    signature: string;
  };
  expect(decodeJson(utf8(body), 4096)).toEqual({
    type: "accept",
    transfer_id: encodeBase64url(TRANSFER),
    transcript: encodeBase64url(TRANSCRIPT),
    offer_sha256: encodeBase64url(sha256(utf8(pair.offered))),
    offset: 0,
    time: TIME,
  });
  const signed = concat(utf8("handover/1 accept"), utf8(body));
  expect(encodeBase64url(pair.recipient.signNow(signed))).toBe(signature);
});

test("the closing may come before the last data, and the digests before the closing", async () => {
  const pair = await Pair.at("receiving");
  pair.sendDigests().sendData().close();
  expect(pair.session.state).toBe("receiving");
  pair.sync();
  expect(pair.session.state).toBe("receiving");
  pair.readBack();
  expect(pair.session.state).toBe("finishing");
});

test("what was refused here is told in batches of 256 before the receipt", async () => {
  const files = Array.from({ length: 600 }, () => filled(1));
  const pair = await Pair.at("finishing", files);
  const refused = files.map((_, index): [number, number] => [index, NOT_PLACED]).slice(0, 300);
  pair.clear().finish(refused);
  expect(pair.said.map((message) => message.type)).toEqual(["failed", "failed", "receipt"]);
  const told = pair.heard("failed").map((message) => message["entries"] as [number, number][]);
  expect(told.map((batch) => batch.length)).toEqual([256, 44]);
  expect(told.flat()).toEqual(refused);
  const { content, outcome } = receipt.readPayload(pair.receipts[0]!.payload);
  expect([outcome, content.delivered_entries, content.delivered_bytes]).toEqual([
    "incomplete",
    300,
    300,
  ]);
  pair.countersign().confirm();
  expect(pair.saw("ended")).toEqual([{ type: "ended", ending: "incomplete", code: "" }]);
});

test("declining is said, and ends it", async () => {
  const pair = await Pair.at("deciding");
  pair.clear().session.decline(pair.now);
  pair.flush();
  expect(pair.said).toEqual([{ type: "decline" }]);
  expect(pair.saw("ended")).toEqual([{ type: "ended", ending: "declined", code: "declined" }]);
  expect(pair.session.over).toBe(true);
});

test.each([
  [true, false, true],
  [false, true, true],
  [false, false, false],
])("digits are confirmed where one side wants it (%s, %s)", (verify, peerVerifies, needed) => {
  const pair = new Pair(undefined, { verify, peerVerifies });
  expect(pair.session.needsConfirmation).toBe(needed);
  pair.session.confirmed(pair.now);
  pair.flush();
  expect(pair.said).toEqual([{ type: "confirmed" }]);
});

// --- a later session of the same transfer -----------------------------------------------------------

describe("a later session", () => {
  const files = [filled(10_000), filled(2 * MIB, 98), filled(10, 99)];

  const resumed = async (offset: number) => {
    const pair = new Pair(files).offer().sendManifest();
    return (await pair.accept(offset)).sync(offset);
  };

  test("begins where the recipient stands, and ends complete", async () => {
    const pair = await resumed(500_000);
    const { body } = pair.heard("accept")[0] as unknown as { body: string };
    expect(decodeJson(utf8(body), 4096)).toMatchObject({ offset: 500_000 });
    expect(pair.session.frontier).toBe(500_000);
    pair.sendData(500_000).sync().readBack().close().sendDigests();
    pair.finish().countersign().confirm();
    expect(pair.saw("ended")[0]!.ending).toBe("complete");
  });

  test("lets the first megabyte beyond its offset come before any acknowledgement", async () => {
    const pair = await resumed(500_000);
    const limit = 500_000 + INITIAL_LIMIT;
    expect(pair.admit({ offset: limit - 1, length: 1 })).toBe(true);
    expect(broken(() => pair.admit({ offset: limit, length: 1 }))).toMatch("range_beyond_limit");
    expect(broken(() => pair.admit({ offset: limit - 1, length: 2 }))).toMatch(
      "range_beyond_limit",
    );
  });

  test("drops what it has already and refuses what reaches into it", async () => {
    const pair = await resumed(500_000);
    expect(pair.admit({ offset: 499_000, length: 1000 })).toBe(false);
    expect(broken(() => pair.admit({ offset: 499_999, length: 2 }))).toMatch("ranges_overlap");
  });

  test("says at once how much of it is durable, and nothing of verified yet", async () => {
    const pair = await resumed(500_000);
    pair.tick(ACK_SECONDS);
    expect(pair.heard("ack").at(-1)).toEqual({
      type: "ack",
      stream: 1,
      written: 500_000,
      limit: 500_000 + INITIAL_LIMIT,
      durable: 500_000,
      verified: 0,
      lanes: [],
    });
  });

  test("needs no more data when everything was there", async () => {
    const pair = await resumed(tapeOf(new Pair(files).manifest).total);
    pair.close().sendDigests();
    expect(pair.session.state).toBe("receiving");
    pair.readBack();
    expect(pair.session.state).toBe("finishing");
  });

  test("hears again of what was given up before", async () => {
    const pair = await resumed(500_000);
    pair.withdraw([0, CHANGED, 10_000]);
    expect(pair.saw("withdrawn")[0]!.entries).toEqual([[0, CHANGED]]);
    expect(pair.session.frontier).toBe(500_000);
  });
});

// --- withdrawing ------------------------------------------------------------------------------------

describe("a withdrawal", () => {
  const files = [filled(10), filled(20, 98), filled(5, 99)];

  test("counts what will not come as written", async () => {
    const pair = await Pair.at("receiving", files);
    pair.range(Stream.DATA, 0, filled(14));
    pair.withdraw([1, CHANGED, 14]);
    expect(pair.session.frontier).toBe(30);
    expect(pair.saw("withdrawn")).toEqual([{ type: "withdrawn", entries: [[1, CHANGED]] }]);
    pair.range(Stream.DATA, 30, filled(5, 99));
    const digests = pair.digests({ 1: CHANGED });
    pair.sync().readBack().close(digests).sendDigests(digests).finish([], digests);
    const { content } = receipt.readPayload(pair.receipts[0]!.payload);
    expect([content.delivered_entries, content.delivered_bytes]).toEqual([2, 15]);
    pair.countersign().confirm();
    expect(pair.saw("ended")[0]!.ending).toBe("incomplete");
  });

  test("of a whole entry leaves the others", async () => {
    const pair = await Pair.at("receiving", files);
    pair.withdraw([0, UNREADABLE, 0], [2, UNREADABLE, 30]);
    expect(pair.session.frontier).toBe(10);
    pair.range(Stream.DATA, 10, filled(20, 98));
    expect(pair.session.frontier).toBe(35);
  });

  test("at an entry's end moves nothing", async () => {
    const pair = await Pair.at("receiving", files);
    pair.range(Stream.DATA, 0, filled(10));
    pair.withdraw([0, CHANGED, 10]);
    expect(pair.session.frontier).toBe(10);
    expect(pair.saw("withdrawn")).toHaveLength(1);
  });

  test.each([
    ["an entry that is not there", [3, CHANGED, 0], "withdrawal_of_unknown_entry"],
    ["an unknown status", [0, 99, 0], "withdrawal_of_unknown_entry"],
    ["a status of the recipient's", [0, NOT_PLACED, 0], "withdrawal_of_unknown_entry"],
    ["delivered as status", [0, 0, 0], "withdrawal_of_unknown_entry"],
    ["an offset before its entry", [1, CHANGED, 9], "withdrawal_outside_entry"],
    ["an offset behind its entry", [0, CHANGED, 11], "withdrawal_outside_entry"],
  ] as [string, [number, number, number], string][])("of %s is refused", async (_, entry, why) => {
    const pair = await Pair.at("receiving", files);
    expect(broken(() => pair.withdraw(entry))).toMatch(why);
  });

  test("of what was sent is refused", async () => {
    const pair = await Pair.at("receiving", files);
    pair.range(Stream.DATA, 0, filled(10));
    expect(broken(() => pair.withdraw([0, CHANGED, 0]))).toMatch("withdrawal_of_sent_range");
  });

  test.each([[0], [7]])("that reaches into what was sent is refused (%i)", async (offset) => {
    const pair = await Pair.at("receiving", files);
    pair.range(Stream.DATA, 5, filled(4));
    expect(broken(() => pair.withdraw([0, CHANGED, offset]))).toMatch("ranges_overlap");
  });

  test("is refused the second time", async () => {
    const pair = await Pair.at("receiving", files);
    pair.withdraw([1, CHANGED, 12]);
    expect(broken(() => pair.withdraw([1, CHANGED, 12]))).toMatch("withdrawal_of_sent_range");
  });

  test("that ends the tape still waits for everything to be read back", async () => {
    const pair = await Pair.at("receiving", [filled(10)]);
    const digests = pair.digests({ 0: CHANGED });
    pair.withdraw([0, CHANGED, 0]);
    pair.close(digests).sendDigests(digests);
    expect(pair.session.state).toBe("receiving");
    pair.sync().readBack();
    expect(pair.session.state).toBe("finishing");
  });
});

// --- the table --------------------------------------------------------------------------------------

const STATES = RECIPIENT_STATES.filter((state) => state !== "confirmed"); // there it is over
const MAY_COME: { [state: string]: string[] } = {
  waiting: ["offer"],
  reading: ["lane", "https"],
  deciding: ["lane", "https"],
  receiving: ["withdraw", "closing", "lane", "https"],
  finishing: ["lane", "https"],
  signed: ["countersignature", "lane", "https"],
};
const OUT_OF_TURN = STATES.flatMap((state) =>
  Object.keys(MESSAGES)
    .filter((type) => !["ping", "abort", ...(MAY_COME[state] ?? [])].includes(type))
    .map((type): [string, RecipientState] => [type, state]),
);

test.each(OUT_OF_TURN)("%s may not come while %s", async (type, state) => {
  const pair = await Pair.at(state);
  expect(broken(() => pair.say(type, sample(pair)[type]))).toBe(`message_out_of_turn: ${type}`);
  expect(pair.session.state).toBe(state);
});

const CALLS: { [name: string]: (pair: Pair) => unknown } = {
  confirmed: ({ session, now }) => session.confirmed(now),
  read: ({ session, manifest, tape }) => session.read(manifest, tape),
  accept: ({ session, now }) => session.accept(TIME, 0, () => now),
  decline: ({ session, now }) => session.decline(now),
  synced: ({ session, now }) => session.synced(0, now),
  verified: ({ session, now }) => session.verified(0, now),
  finish: ({ session, now }) =>
    session.finish(Results.of(2), [], utf8("{}"), new Uint8Array(64), now),
  confirm: ({ session, now }) => session.confirm(now),
  signal: ({ session, now }) =>
    session.signal(1, { type: "candidates", candidates: [], relayed: false }, now),
};
const MAY_BE_CALLED: { [state in RecipientState]: string[] } = {
  waiting: ["confirmed"],
  reading: ["confirmed", "signal"],
  deciding: ["confirmed", "read", "accept", "decline", "finish", "signal"],
  receiving: ["synced", "verified", "signal"],
  finishing: ["finish", "signal"],
  signed: ["confirm", "signal"],
  confirmed: ["signal"],
};
const NOT_CALLED = RECIPIENT_STATES.flatMap((state) =>
  Object.keys(CALLS)
    .filter((name) => !MAY_BE_CALLED[state].includes(name))
    .map((name): [string, RecipientState] => [name, state]),
);

test.each(NOT_CALLED)("%s may not be called while %s", async (name, state) => {
  const pair = (await Pair.at(state)).clear();
  expect(() => CALLS[name]!(pair)).toThrow(OutOfTurn);
  pair.flush();
  expect([pair.said, pair.events, pair.session.state]).toEqual([[], [], state]);
});

test.each(STATES)("a ping may come while %s, and is not answered", async (state) => {
  const pair = (await Pair.at(state)).clear();
  pair.say("ping", { bottleneck: "" });
  expect([pair.said, pair.events, pair.session.state]).toEqual([[], [], state]);
});

test("what holds the sender up is told when it changes", async () => {
  const pair = (await Pair.at("receiving")).clear();
  for (const bottleneck of ["", "disk", "disk", "network", ""]) pair.say("ping", { bottleneck });
  expect(pair.events).toEqual(
    ["disk", "network", ""].map((by) => ({ type: "bottleneck_reported", by })),
  );
});

test.each(Object.keys(MESSAGES))("%s is ignored once it is over", async (type) => {
  const pair = (await Pair.at("confirmed")).clear();
  pair.say(type, sample(pair)[type]);
  expect([pair.said, pair.events]).toEqual([[], []]);
});

test.each(["[]", "{}", "null", "7", '{"type":1}', '{"type":"hello"}', '{"type":"toString"}'])(
  "an unknown message is refused: %s",
  (text) => {
    expect(broken(() => new Pair().deliver(utf8(text)))).toBe("message_unknown");
  },
);

test.each([
  ['{"type":"ping"}', "malformed"],
  ['{"type":"ping","bottleneck":"x"}', "malformed"],
  ['{"type":"offer"}', "malformed"],
  ['{"type":"abort","code":1}', "malformed"],
  ['{"type":"ping"', "message_not_strict_json"],
  ['{"type":"ping","type":"ping"}', "message_not_strict_json"],
  ["\u00ff", "message_not_strict_json"],
])("a malformed message is refused: %s", (text, why) => {
  expect(broken(() => new Pair().deliver(utf8(text)))).toMatch(why);
});

test("a frame that does not authenticate is refused", () => {
  const pair = new Pair();
  expect(broken(() => pair.session.receiveFrame(filled(40), 0))).toMatch("message_not_authentic");
});

test("a frame that is replayed is refused", () => {
  const pair = new Pair();
  const frame = pair.frame(encodeJson({ type: "ping", bottleneck: "" }));
  pair.session.receiveFrame(frame, pair.now);
  expect(broken(() => pair.session.receiveFrame(frame, pair.now))).toMatch("message_not_authentic");
});

// --- the offer and the manifest ---------------------------------------------------------------------

test.each([["sender"], ["recipient"], ["transcript"]])(
  "an offer for another session is refused: %s",
  (member) => {
    const pair = new Pair();
    expect(broken(() => pair.offer({ [member]: other(32) }))).toMatch("offer_of_another_session");
    expect(pair.session.state).toBe("waiting");
  },
);

test("an offer that someone else signed is refused", () => {
  const pair = new Pair();
  expect(broken(() => pair.offer({}, pair.recipient))).toMatch("signature_invalid: offer");
});

test("an offer whose body was changed is refused", () => {
  const pair = new Pair();
  const { body, signature } = pair.offerMessage() as { body: string; signature: string };
  const changed = { body: body.replace('"entries":2', '"entries":3'), signature };
  expect(broken(() => pair.say("offer", changed))).toMatch("signature_invalid: offer");
});

test("a closing's signature is none for an offer", () => {
  const pair = new Pair();
  const { body } = pair.offerMessage() as { body: string };
  const signed = pair.sender.signNow(concat(utf8("handover/1 closing"), utf8(body)));
  const message = { body, signature: encodeBase64url(signed) };
  expect(broken(() => pair.say("offer", message))).toMatch("signature_invalid: offer");
});

test.each([
  [{ entries: 0 }],
  [{ entries: 200_001 }],
  [{ manifest_bytes: 64 * MIB + 1 }],
  [{ bytes: -1 }],
  [{ type: "closing" }],
  [{ more: 1 }],
])("an offer that cannot be is refused: %j", (change) => {
  expect(broken(() => new Pair().offer(change as JsonObject))).toMatch("malformed");
});

test("with the offer an acknowledgement opens the manifest's window", () => {
  expect(new Pair().offer().said).toEqual([
    {
      type: "ack",
      stream: 0,
      written: 0,
      limit: INITIAL_LIMIT,
      durable: 0,
      verified: 0,
      lanes: [],
    },
  ]);
});

test("the session names the transfer and the manifest of the offer", () => {
  const { session, data } = new Pair().offer();
  expect(session.transferId).toEqual(TRANSFER);
  expect(session.manifestHash).toEqual(sha256(data));
});

test("a manifest with another hash than the offer's is refused", () => {
  const pair = new Pair().offer();
  const changed = pair.data.slice();
  changed[changed.length - 2] = 32;
  expect(broken(() => pair.sendManifest(changed))).toMatch("manifest_mismatch");
  expect(pair.saw("manifest_arrived")).toEqual([]);
});

test("a manifest in pieces, out of order, is put together", () => {
  const pair = new Pair().offer();
  for (const at of [90, 0, 60, 30].filter((start) => start < pair.data.length)) {
    const end = at === 90 ? pair.data.length : at + 30;
    pair.range(Stream.MANIFEST, at, pair.data.subarray(at, end));
  }
  expect(pair.saw("manifest_arrived")).toEqual([{ type: "manifest_arrived", data: pair.data }]);
});

test.each([
  ["entries", [utf8("helloworld")]],
  ["bytes", [utf8("hello"), utf8("world!")]],
])("a manifest with other %s than the offer's is refused", async (_, files) => {
  const pair = await Pair.at("deciding");
  const { manifest } = new Pair(files);
  expect(broken(() => pair.session.read(manifest, tapeOf(manifest)))).toMatch("manifest_mismatch");
});

// --- ranges -----------------------------------------------------------------------------------------

test.each([
  [{ transferId: new Uint8Array(16) }, "range_of_another_transfer"],
  [{ offset: 3_000_000, length: 1 }, "range_past_end"],
  [{ length: 3_000_001 }, "range_past_end"],
  [{ flags: HOLE, length: 3_000_001 }, "range_past_end"],
  [{ stream: Stream.DIGESTS, offset: 33, length: 1 }, "range_past_end"],
  [{ offset: Number.MAX_SAFE_INTEGER, length: Number.MAX_SAFE_INTEGER }, "range_past_end"],
  [{ offset: INITIAL_LIMIT, length: 1 }, "range_beyond_limit"],
  [{ offset: INITIAL_LIMIT - 5, length: 10 }, "range_beyond_limit"],
  [{ offset: INITIAL_LIMIT, length: 10, flags: HOLE }, "range_beyond_limit"],
])("a range that may not come is refused: %j", async (range, why) => {
  const pair = await Pair.at("receiving", [filled(3_000_000)]);
  expect(broken(() => pair.admit(range))).toMatch(why);
});

test.each([
  ["before the offer", "waiting", Stream.MANIFEST, "range_out_of_turn"],
  ["of data before the manifest", "reading", Stream.DATA, "range_out_of_turn"],
  ["of data before the accept", "deciding", Stream.DATA, "range_out_of_turn"],
  ["of digests before the accept", "deciding", Stream.DIGESTS, "range_out_of_turn"],
] as const)("a range %s is refused", async (_, state, stream, why) => {
  const pair = await Pair.at(state);
  expect(broken(() => pair.admit({ stream }))).toMatch(why);
});

test("a hole may reach beyond the limit, and moves it", async () => {
  const pair = await Pair.at("receiving", [10 ** 12, filled(10)]);
  expect(pair.hole(0, 10 ** 12)).toBe(true);
  expect(pair.session.frontier).toBe(10 ** 12);
  expect(pair.heard("ack").at(-1)).toMatchObject({ written: 10 ** 12, limit: 10 ** 12 + WINDOW });
  expect(pair.range(Stream.DATA, 10 ** 12, filled(10))).toBe(true);
});

test("a range that overlaps is refused, wherever it does", async () => {
  for (const [offset, length] of [
    [5, 10],
    [25, 10],
    [29, 2],
    [15, 10],
    [10, 30],
    [0, 100],
  ] as const) {
    const pair = await Pair.at("receiving", [filled(100)]);
    pair.range(Stream.DATA, 0, filled(10));
    pair.range(Stream.DATA, 20, filled(10));
    expect(broken(() => pair.admit({ offset, length }))).toMatch("ranges_overlap");
  }
});

test("repeated ranges are dropped until they make more than twice the stream", async () => {
  const pair = await Pair.at("receiving", [filled(100)]);
  expect(pair.range(Stream.DATA, 0, filled(100))).toBe(true);
  expect(pair.range(Stream.DATA, 0, filled(100))).toBe(false);
  expect(pair.range(Stream.DATA, 0, filled(99))).toBe(false);
  expect(pair.range(Stream.DATA, 99, filled(1))).toBe(false);
  expect(broken(() => pair.admit({ length: 1 }))).toMatch("too_many_repeated_ranges");
});

test("a repeated range that waits for a gap is dropped as well", async () => {
  const pair = await Pair.at("receiving", [filled(100)]);
  pair.range(Stream.DATA, 50, filled(10));
  expect(pair.range(Stream.DATA, 50, filled(10))).toBe(false);
  expect(pair.session.frontier).toBe(0);
});

test("thousands that are withdrawn while one range is on its way are no crime", async () => {
  const count = 5000;
  const files = [filled(50), ...Array.from({ length: count }, () => filled(1))];
  const pair = await Pair.at("receiving", files);
  for (let i = 1; i <= count; i++) pair.withdraw([i, CHANGED, 49 + i]);
  pair.range(Stream.DATA, 0, filled(50));
  expect(pair.session.frontier).toBe(50 + count);
});

test("no more than 16,384 gaps may be open", async () => {
  const pair = await Pair.at("receiving", [filled(40_000)]);
  for (let i = 1; i <= MAX_PENDING; i++) pair.range(Stream.DATA, 2 * i, filled(1));
  const next = 2 * (MAX_PENDING + 1);
  expect(broken(() => pair.range(Stream.DATA, next, filled(1)))).toMatch(
    "too_many_ranges_out_of_order",
  );
});

test("a sender that says it is alive and brings nothing is given up", async () => {
  const pair = await Pair.at("receiving", [filled(10)]);
  pair.range(Stream.DATA, 0, filled(10));
  pair.sync().readBack(); // and its digests never come
  const began = pair.now;
  const wait = () => {
    while (pair.now - began < 2 * STILL_SECONDS) {
      pair.session.heard(pair.now);
      pair.tick(5);
    }
  };
  expect(failure(wait)).toBe("connection_lost");
  expect(pair.now - began).toBeLessThan(STILL_SECONDS + 10);
});

// --- acknowledgements -------------------------------------------------------------------------------

test("each lane's ranges are counted, repeated ones too", async () => {
  const pair = (await Pair.at("receiving")).clear();
  pair.session.addLane(3);
  expect(broken(() => pair.session.addLane(3))).toMatch("lane_number_reused");
  const header = { transferId: TRANSFER, stream: Stream.DATA, flags: 0, offset: 0, length: 10 };
  expect(pair.session.admit(header, pair.now, 3)).toBe(true);
  expect(pair.session.admit(header, pair.now, 0)).toBe(false); // it is still being written
  pair.session.written(header, filled(10), pair.now, 3);
  pair.tick(ACK_SECONDS);
  expect(pair.heard("ack").at(-1)).toMatchObject({
    written: 10,
    lanes: [
      [0, 2],
      [3, 1],
    ],
  });
});

test("the sender's signals about lanes are told", async () => {
  const pair = (await Pair.at("receiving")).clear();
  const { lane } = sample(pair);
  pair.say("lane", lane);
  expect(pair.saw("lane_signalled")).toEqual([
    {
      type: "lane_signalled",
      number: 1,
      signal: { type: "candidates", candidates: [], relayed: false },
    },
  ]);
});

test("an acknowledgement is owed after 50 ms", async () => {
  const pair = (await Pair.at("receiving", [filled(3 * MIB)])).clear();
  pair.range(Stream.DATA, 0, filled(10));
  expect(pair.session.deadline()).toBe(pair.now + ACK_SECONDS);
  pair.tick(0.9 * ACK_SECONDS);
  expect(pair.said).toEqual([]);
  pair.range(Stream.DATA, 10, filled(10)); // the first change counts
  pair.tick(0.11 * ACK_SECONDS);
  expect(pair.said).toEqual([
    {
      type: "ack",
      stream: 1,
      written: 20,
      limit: 20 + WINDOW,
      durable: 0,
      verified: 0,
      lanes: [[0, 3]],
    },
  ]);
  pair.tick(1);
  expect(pair.said).toHaveLength(1);
});

test("an acknowledgement is owed at once after an eighth, at least 64 KiB", async () => {
  const pair = (await Pair.at("receiving", [filled(8 * MIB)])).clear();
  const step = 32 * KIB;
  const at: number[] = [];
  for (let offset = 0; offset < 2 * MIB; offset += step) {
    const before = pair.said.length;
    pair.range(Stream.DATA, offset, filled(step));
    if (pair.said.length > before) at.push((offset + step) / step);
  }
  const expected: number[] = [];
  for (let n = 1, last = 0; n <= 64; n++) {
    if (n - last >= Math.max(n / 8, 2)) expected.push((last = n));
  }
  expect(at).toEqual(expected);
  expect(at.slice(0, 3)).toEqual([2, 4, 6]);
});

test("an acknowledgement is owed at the latest after 4 MiB", async () => {
  const pair = await Pair.at("receiving", [10 ** 9, filled(8 * MIB)]);
  pair.hole(0, 10 ** 9);
  pair.clear();
  pair.range(Stream.DATA, 10 ** 9, filled(4 * MIB - 1));
  expect(pair.said).toEqual([]);
  pair.range(Stream.DATA, 10 ** 9 + 4 * MIB - 1, filled(1));
  expect(pair.heard("ack")).toHaveLength(1);
});

test("what became durable or verified is acknowledged after 50 ms", async () => {
  const pair = await Pair.at("receiving", [filled(100)]);
  pair.range(Stream.DATA, 0, filled(60));
  pair.tick(0.06);
  pair.clear().sync(50).readBack(40);
  expect(pair.said).toEqual([]);
  pair.tick(0.06);
  expect(pair.heard("ack")).toEqual([
    {
      type: "ack",
      stream: 1,
      written: 60,
      limit: 60 + WINDOW,
      durable: 50,
      verified: 40,
      lanes: [],
    },
  ]);
});

test("both streams are acknowledged as whole when everything is delivered", async () => {
  const pair = await Pair.at("receiving");
  pair.sendData().sync().readBack().close();
  pair.clear().sendDigests();
  const [data, digests] = pair.heard("ack");
  expect(data).toMatchObject({ stream: 1, written: 10, durable: 10, verified: 10 });
  expect(digests).toMatchObject({ stream: 2, written: 66, durable: 66, verified: 66 });
});

/** Ranges of 1,000 bytes in any order, with syncs, readings and time in between. */
const script = fc
  .tuple(
    fc.shuffledSubarray([...Array(30).keys()], { minLength: 30 }),
    fc.array(fc.constantFrom("sync", "read", "wait"), { minLength: 60, maxLength: 60 }),
  )
  .map(([order, between]) =>
    order.flatMap((range, i) => [range, between[2 * i]!, between[2 * i + 1]!]),
  );

test("acknowledgements never go back, whatever the order of things", async () => {
  await fc.assert(
    fc.asyncProperty(script, async (steps) => {
      const pair = await Pair.at("receiving", [filled(30_000)]);
      let durable = 0;
      for (const step of steps) {
        if (typeof step === "number") pair.range(Stream.DATA, 1000 * step, filled(1000));
        else if (step === "sync") pair.sync((durable = pair.session.frontier));
        else if (step === "read") pair.readBack(durable);
        else pair.tick(0.06);
      }
      pair.tick(0.06);
      const acks = pair.heard("ack").filter((ack) => ack["stream"] === 1);
      let before = { written: 0, durable: 0, verified: 0, limit: 0 };
      for (const ack of acks as unknown as (typeof before)[]) {
        expect(ack.verified).toBeLessThanOrEqual(ack.durable);
        expect(ack.durable).toBeLessThanOrEqual(ack.written);
        expect(ack.written).toBeLessThanOrEqual(ack.limit);
        for (const name of ["written", "durable", "verified", "limit"] as const) {
          expect(ack[name]).toBeGreaterThanOrEqual(before[name]);
        }
        before = ack;
      }
      expect(before.written).toBe(30_000);
    }),
    { numRuns: 60 },
  );
});

// --- the closing, the digests, the countersignature -------------------------------------------------

test.each([["transfer_id", 16] as const, ["manifest_sha256", 32] as const])(
  "a closing of another transfer is refused: %s",
  async (member, length) => {
    const pair = await Pair.at("receiving");
    const close = () => pair.close(pair.digests(), { [member]: other(length) });
    expect(broken(close)).toMatch("closing_of_another_transfer");
  },
);

test("a closing that someone else signed is refused", async () => {
  const pair = await Pair.at("receiving");
  const close = () => pair.close(pair.digests(), {}, pair.recipient);
  expect(broken(close)).toMatch("signature_invalid: closing");
});

test("an offer's signature is none for a closing", async () => {
  const pair = await Pair.at("receiving");
  const { body } = pair.closingMessage(pair.digests()) as { body: string };
  const signed = pair.sender.signNow(concat(utf8("handover/1 offer"), utf8(body)));
  const message = { body, signature: encodeBase64url(signed) };
  expect(broken(() => pair.say("closing", message))).toMatch("signature_invalid: closing");
});

test("a second closing is refused", async () => {
  const pair = (await Pair.at("receiving")).close();
  expect(broken(() => pair.close())).toMatch("closing_repeated");
});

test("digests that are not the closing's are refused, and nothing is delivered", async () => {
  const pair = (await Pair.at("receiving")).sendData().sync().readBack();
  pair.close(pair.digests({ 0: CHANGED }));
  expect(broken(() => pair.sendDigests())).toMatch("digests_mismatch");
  expect(pair.saw("delivered")).toEqual([]);
});

test("a countersignature that does not fit is refused", async () => {
  for (const by of ["recipient", "nobody", "another receipt"]) {
    const pair = await Pair.at("signed");
    const signature =
      by === "recipient"
        ? pair.countersignature(pair.recipient)
        : by === "nobody"
          ? new Uint8Array(64)
          : pair.sender.signNow(utf8("another receipt"));
    const message = { signature: encodeBase64url(signature) };
    expect(broken(() => pair.say("countersignature", message))).toMatch("countersignature_invalid");
    expect(pair.saw("countersigned")).toEqual([]);
  }
});

// --- aborts and losses ------------------------------------------------------------------------------

test.each([
  ["cancelled", "peer_cancelled"],
  ["declined", "declined"],
  ["digits_rejected", "digits_rejected"],
  ["no_space", "no_space"],
  ["not_writable", "not_writable"],
  ["disk_error", "disk_error"],
  ["internal", "peer_failed"],
  ["protocol", "peer_failed"],
  ["nonsense", "peer_failed"],
  ["toString", "peer_failed"],
])("an abort is told in this side's words: %s is %s", async (said, heard) => {
  const pair = await Pair.at("receiving");
  expect(failure(() => pair.say("abort", { code: said }))).toBe(heard);
  expect(pair.session.over).toBe(true);
});

test("the reason of an abort is shown only where it is a known code", () => {
  const detail = (code: string) => refusal(() => new Pair().say("abort", { code })).detail;
  expect(detail("not_readable")).toBe("not_readable");
  expect(detail("\u202eevil")).toBe("unknown");
});

test("an abort of this side is said once, and what follows is ignored", async () => {
  const pair = (await Pair.at("receiving")).clear();
  pair.session.abort("cancelled", pair.now);
  pair.session.abort("cancelled", pair.now);
  pair.session.lost();
  pair.tick(100);
  pair.say("closing", pair.closingMessage(pair.digests()));
  expect(pair.said).toEqual([{ type: "abort", code: "cancelled" }]);
  expect(pair.events).toEqual([]);
});

test("an accept whose signature comes after the end is not said", async () => {
  const pair = (await Pair.at("deciding")).clear();
  pair.session.read(pair.manifest, pair.tape);
  const accepting = pair.session.accept(TIME, 0, () => pair.now);
  pair.session.abort("cancelled", pair.now);
  await accepting;
  pair.flush();
  expect(pair.said.map((message) => message.type)).toEqual(["abort"]);
  expect(pair.session.state).toBe("deciding");
});

test("an abort while the files are being placed is no more than a lost connection", async () => {
  const pair = await Pair.at("finishing");
  pair.say("abort", { code: "cancelled" });
  expect(pair.session.over).toBe(false);
  pair.finish();
  expect(pair.saw("ended")).toEqual([
    { type: "ended", ending: "delivered_unconfirmed", code: "unconfirmed" },
  ]);
});

test("an abort after the signature is no more than a missing last word", async () => {
  const pair = await Pair.at("signed");
  pair.say("abort", { code: "cancelled" });
  expect(pair.saw("ended")).toEqual([
    { type: "ended", ending: "delivered_unconfirmed", code: "unconfirmed" },
  ]);
});

test("who has said nothing for 2 s says ping, and only then", async () => {
  const pair = (await Pair.at("receiving")).clear();
  pair.tick(IDLE_SECONDS - 0.01);
  expect(pair.said).toEqual([]);
  pair.tick(0.02);
  expect(pair.said).toEqual([{ type: "ping", bottleneck: "" }]);
  pair.tick(IDLE_SECONDS - 0.01);
  expect(pair.said).toHaveLength(1);
});

test("whatever is said counts, so that no ping follows it", async () => {
  const pair = (await Pair.at("receiving")).clear();
  pair.tick(1.5);
  pair.range(Stream.DATA, 0, utf8("hello"));
  pair.tick(0.1);
  pair.tick(1.5);
  expect(pair.said.map((message) => message.type)).toEqual(["ack"]);
});

test("two sides that ping when idle stay alive for hours", async () => {
  const pair = (await Pair.at("deciding")).clear();
  for (let i = 0; i < 3000; i++) {
    pair.tick(IDLE_SECONDS);
    pair.say("ping", { bottleneck: "" });
  }
  expect(pair.events).toEqual([]);
  expect(pair.heard("ping")).toHaveLength(3000);
});

test("silence is told once after 6 s, taken back by a message or a range", async () => {
  const pair = (await Pair.at("receiving")).clear();
  pair.tick(SUSPECT_SECONDS - 0.01);
  expect(pair.events).toEqual([]);
  pair.tick(0.02);
  pair.tick(1);
  expect(pair.events).toEqual([{ type: "suspected", silent: true }]);
  pair.range(Stream.DATA, 0, utf8("hello"));
  expect(pair.events.at(-1)).toEqual({ type: "suspected", silent: false });
  pair.tick(SUSPECT_SECONDS);
  pair.say("ping", { bottleneck: "" });
  expect(pair.saw("suspected").map((event) => event.silent)).toEqual([true, false, true, false]);
});

test.each([
  ["waiting", "connection_lost_early"],
  ["reading", "connection_lost_early"],
  ["deciding", "connection_lost_early"],
  ["receiving", "connection_lost"],
] as const)("while %s, 10 s of silence are %s", async (state, code) => {
  const pair = await Pair.at(state);
  pair.tick(LOST_SECONDS - 0.01);
  expect(failure(() => pair.tick(0.02))).toBe(code);
  const another = await Pair.at(state);
  expect(failure(() => another.session.lost())).toBe(code);
});

test("a connection lost while the files are being placed is told at their end", async () => {
  const pair = await Pair.at("finishing");
  pair.tick(LOST_SECONDS);
  expect(pair.saw("ended")).toEqual([]);
  pair.finish();
  expect(pair.saw("ended")).toEqual([
    { type: "ended", ending: "delivered_unconfirmed", code: "unconfirmed" },
  ]);
});

test("a connection lost after the signature leaves it delivered but unconfirmed", async () => {
  const pair = await Pair.at("signed");
  pair.session.lost();
  pair.session.lost();
  pair.flush();
  expect(pair.saw("ended")).toEqual([
    { type: "ended", ending: "delivered_unconfirmed", code: "unconfirmed" },
  ]);
});

test("so does a sender that lives on but does not sign within 10 s", async () => {
  const pair = await Pair.at("signed");
  expect(pair.session.deadline()).toBeLessThanOrEqual(pair.now + DONE_SECONDS);
  for (let i = 0; i < 9; i++) {
    pair.tick(1.1);
    pair.say("ping", { bottleneck: "" });
  }
  expect(pair.saw("ended")).toEqual([]);
  pair.tick(0.2);
  expect(pair.saw("ended")).toEqual([
    { type: "ended", ending: "delivered_unconfirmed", code: "unconfirmed" },
  ]);
});

test("a countersignature that came stops that clock", async () => {
  const pair = (await Pair.at("signed")).countersign();
  for (let i = 0; i < 15; i++) {
    pair.tick(1);
    pair.say("ping", { bottleneck: "" });
  }
  expect(pair.saw("ended")).toEqual([]);
  pair.confirm();
  expect(pair.saw("ended")).toEqual([{ type: "ended", ending: "complete", code: "" }]);
});

test("the deadline is the next thing to do", async () => {
  const pair = (await Pair.at("receiving", [filled(100)])).clear();
  const { session, now } = pair;
  expect(session.deadline()).toBe(now + IDLE_SECONDS);
  pair.sync(0);
  expect(session.deadline()).toBe(now + ACK_SECONDS);
  pair.tick(5);
  expect(session.deadline()).toBe(now + SUSPECT_SECONDS);
  pair.tick(1);
  expect(session.deadline()).toBe(now + 7); // a ping; the suspicion was told
  pair.tick(3);
  expect(session.deadline()).toBe(now + LOST_SECONDS);
});

test("without an accept nothing is written", () => {
  expect(new Pair().session.frontier).toBe(0);
});

test("the results of a receipt are the recipient's, not the sender's alone", async () => {
  const pair = await Pair.at("finishing");
  const results = Results.decode(pair.digests(), pair.manifest);
  results.failed(1, NOT_PLACED);
  expect(pair.session.receiptMembers(results, new Uint8Array(32), TIME)).toMatchObject({
    outcome: "incomplete",
    content: { entries: 2, bytes: 10, delivered_entries: 1, delivered_bytes: 5 },
  });
});
