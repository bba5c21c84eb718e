/** Every vector of `tests/vectors/`, the same files that the Python implementation runs. */
import { readFileSync } from "node:fs";

import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test } from "vitest";

import * as audit from "../src/protocol/audit";
import * as compression from "../src/compression";
import * as codec from "../src/protocol/codec";
import * as handshake from "../src/protocol/handshake";
import * as labels from "../src/protocol/labels";
import * as link from "../src/protocol/link";
import * as manifest from "../src/protocol/manifest";
import * as noise from "../src/protocol/noise";
import * as paths from "../src/protocol/paths";
import * as receipt from "../src/protocol/receipt";
import * as seal from "../src/protocol/seal";
import * as session from "../src/protocol/session";
import * as ice from "../src/protocol/ice";
import * as policy from "../src/protocol/policy";
import * as signal from "../src/protocol/signal";
import * as signaling from "../src/connect/signaling_messages";
import { FAILURES, HandoverError, type Code } from "../src/protocol/errors";
import { FIRST_SUITE } from "../src/protocol/suite";
import { CongestionWindow } from "../src/protocol/session/flow";
import { bindingOf, bytes, guestOf, hostOf, seeded, type Case } from "./protocol/parties";

beforeAll(() => sodium.ready);

const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");

const path = (file: string) => new URL(`../../tests/vectors/${file}.json`, import.meta.url);
const read = (file: string): Case[] => JSON.parse(readFileSync(path(file), "utf8"));

function vectors(file: string, check: (one: Case) => unknown) {
  const cases = read(file);
  describe(file, () => {
    test("there are cases", () => expect(cases.length).toBeGreaterThan(0));
    for (const one of cases) test(one.name, () => check(one));
  });
}

/** What a call gives, or the code of the error it ends with. */
function outcome(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    if (error instanceof HandoverError) return { error: error.code };
    throw error;
  }
}

const isError = (one: Case) =>
  typeof one.expect === "object" && one.expect && "error" in one.expect;

vectors("json", (one) => {
  const read = () => codec.decodeJson(bytes(one.data), one["limit"] ?? 100);
  if (isError(one)) expect(outcome(read)).toEqual({ error: "protocol" });
  else expect(read()).toEqual(one.expect);
});

vectors("base64url", (one) => {
  if (isError(one)) expect(() => codec.decodeBase64url(one.text)).toThrow();
  else expect(hex(codec.decodeBase64url(one.text))).toBe(one.expect);
});

vectors("link", (one) => {
  const read = () => {
    const found = link.parseLink(one.link);
    return {
      origin: found.origin,
      secret: hex(found.secret),
      commitment: hex(found.commitment),
      passphrase: found.passphrase,
      text: link.linkText(found),
    };
  };
  expect(outcome(read)).toEqual(one.expect);
});

vectors("found_links", (one) => {
  expect(outcome(() => link.linkText(link.findLink(one["text"])))).toEqual(one.expect);
});

vectors("kdf", (one) => {
  const keys = link.deriveKeys(bytes(one.secret));
  if (!("identity" in one)) {
    const read = () => {
      return { psk: hex(FIRST_SUITE.psk(link.pskSecrets(keys, one.passphrase))) };
    };
    return expect(outcome(read)).toEqual(one.expect);
  }
  return expect({
    commitment: hex(link.hostCommitment(bytes(one.secret), bytes(one.identity))),
    room: hex(keys.room),
    join: hex(keys.join),
    signal_to_guest: hex(keys.signalToGuest),
    signal_to_host: hex(keys.signalToHost),
    psk: hex(keys.psk),
    passphrase_salt: hex(keys.passphraseSalt),
  }).toEqual(one.expect);
});

vectors("signaling", (one) => {
  const read = () => signaling.decode(one.text, signaling.FROM_PEER);
  if (isError(one)) expect(read).toThrow(signaling.BadMessage);
  else expect(read()).toBeTruthy();
});

vectors("ice", (one) => {
  for (const [where, local] of [
    ["elsewhere", false],
    ["local", true],
  ] as const) {
    const found = () => ice.readIce(one.ice, { local }).length > 0;
    expect(outcome(found)).toEqual(one.expect[where]);
  }
});

vectors("policy", (one) => {
  expect(outcome(() => policy.readPolicy(one.policy) && "ok")).toEqual(one.expect);
});

const asJson = (found: signal.Signal) => JSON.parse(codec.fromUtf8(signal.encodeSignal(found)));

vectors("signal", (one) => {
  expect(outcome(() => asJson(signal.decodeSignal(bytes(one.data))))).toEqual(one.expect);
});

vectors("envelope", (one) => {
  const opener = new signal.Sealer(
    bytes(one.key),
    bytes(one.room),
    bytes(one.attempt),
    one.direction,
  );
  const read = () => one.envelopes.map((envelope: string) => asJson(opener.open(bytes(envelope))));
  expect(outcome(read)).toEqual(one.expect);
});

vectors("noise", (one) => {
  const messages = one.messages.map((m: any) => [bytes(m.payload), m.ciphertext]);
  const i = new noise.Initiator(
    FIRST_SUITE,
    bytes(one.init_prologue),
    bytes(one.init_static),
    bytes(one.init_ephemeral),
  );
  expect(hex(i.write1(messages[0][0]))).toBe(messages[0][1]);
  expect(hex(i.read2(bytes(messages[1][1]))[0])).toBe(hex(messages[1][0]));
  const [head] = i.begin3(bytes(one.init_psks[0]));
  expect(hex(i.finish3(head, messages[2][0]))).toBe(messages[2][1]);
  expect(hex(i.state.h)).toBe(one.handshake_hash);
  const [send, receive] = i.state.split();
  messages.slice(3).forEach(([payload, ciphertext]: [Uint8Array, string], number: number) => {
    if (number % 2 === 0) expect(hex(receive.decrypt(bytes(ciphertext)))).toBe(hex(payload));
    else expect(hex(send.encrypt(payload))).toBe(ciphertext);
  });

  const r = new noise.Responder(
    FIRST_SUITE,
    bytes(one.resp_prologue),
    bytes(one.resp_static),
    bytes(one.resp_ephemeral),
  );
  expect(hex(r.read1(bytes(messages[0][1])))).toBe(hex(messages[0][0]));
  const [head2] = r.begin2();
  expect(hex(r.finish2(head2, messages[1][0]))).toBe(messages[1][1]);
  expect(hex(r.read3(bytes(messages[2][1]), bytes(one.resp_psks[0]))[0])).toBe(hex(messages[2][0]));
  expect(hex(r.state.h)).toBe(one.handshake_hash);
  const [fromInitiator, toInitiator] = r.state.split();
  messages.slice(3).forEach(([payload, ciphertext]: [Uint8Array, string], number: number) => {
    if (number % 2 === 0) expect(hex(toInitiator.encrypt(payload))).toBe(ciphertext);
    else expect(hex(fromInitiator.decrypt(bytes(ciphertext)))).toBe(hex(payload));
  });
});

vectors("handshake", async (one) => {
  const guest = guestOf(one);
  expect(hex(handshake.prologue(bindingOf(one)))).toBe(one.expect.prologue);
  const [m1, m2, m3, m4] = one.expect.messages;
  expect(hex(guest.message1())).toBe(m1);
  expect(hex(await guest.receive2(bytes(m2)))).toBe(m3);
  const secured = guest.receive4(bytes(m4));
  expect(secured.digits).toBe(one.expect.digits);
  expect(hex(secured.transcript)).toBe(one.expect.transcript);
  expect(hex(secured.sessionKey)).toBe(one.expect.session_key);
  expect(secured.peer.label).toBe(one["host"].label);
  const { first_transport_to_host: toHost, first_transport_to_guest: toGuest } = one.expect;
  expect(hex(secured.send.encrypt(codec.utf8("guest says")))).toBe(toHost);
  expect(codec.fromUtf8(secured.receive.decrypt(bytes(toGuest)))).toBe("host says");

  const host = hostOf(one);
  expect(hex(await host.receive1(bytes(m1)))).toBe(m2);
  const met = host.receive3(bytes(m3));
  expect(hex(host.message4())).toBe(m4);
  expect(met.digits).toBe(one.expect.digits);
  expect(hex(met.transcript)).toBe(one.expect.transcript);
  expect(hex(met.sessionKey)).toBe(one.expect.session_key);
  expect(met.peer.label).toBe(one["guest"].label);
  expect(codec.fromUtf8(met.receive.decrypt(bytes(toHost)))).toBe("guest says");
  expect(hex(met.send.encrypt(codec.utf8("host says")))).toBe(toGuest);
});

vectors("messages", (one) => {
  const [kind, isBody] = one.kind.split(" ");
  const shapes: { [kind: string]: codec.Reader<unknown> } = isBody
    ? session.BODIES
    : session.MESSAGES;
  const shape = shapes[kind]!;
  const data = codec.utf8(JSON.stringify(one.message));
  const read = () => codec.readAs(shape, codec.decodeJson(data, 1 << 20), "a message") && "ok";
  expect(outcome(read)).toEqual(one.expect);
});

vectors("seal", (one) => {
  const read = () => {
    const [header, payload] = new seal.Opener(FIRST_SUITE, bytes(one.private)).open(
      bytes(one.message),
    );
    return {
      transfer_id: hex(header.transferId),
      stream: header.stream,
      flags: header.flags,
      offset: header.offset,
      length: header.length,
      payload: hex(payload),
    };
  };
  expect(outcome(read)).toEqual(one.expect);
  if (isError(one)) return;
  // What is sealed here opens here, and says the same.
  const opener = new seal.Opener(FIRST_SUITE, bytes(one.private));
  const [header, payload] = opener.open(bytes(one.message));
  const sealer = new seal.RangeSealer(FIRST_SUITE, noise.publicKey(bytes(one.private)));
  const [again, same] = opener.open(sealer.seal(header, payload.slice()));
  expect(again).toEqual(header);
  expect(hex(same)).toBe(one.expect.payload);
});

vectors("compression", (one) => {
  const read = () => {
    const data = compression.decompress(one.flags, one.length, bytes(one.payload));
    if (data.length <= 64) return { data: hex(data) };
    return { sha256: hex(codec.sha256(data)) };
  };
  expect(outcome(read)).toEqual(one.expect);
});

/** Paths of 64 segments that have nothing in common, then files: too long to be written down. */
function deepTree(head: string, deep: number, files: number): Uint8Array {
  const paths = Array.from({ length: deep }, (_, i) => Array(64).fill(`${i}`).join("/"));
  for (let i = 0; i < files; i++) paths.push(`file ${i}`);
  const lines = paths.map((path) => JSON.stringify({ kind: "file", modified: 0, path, size: 1 }));
  return codec.utf8([head, ...lines, ""].join("\n"));
}

vectors("manifest", (one) => {
  const data = "data" in one ? bytes(one.data) : deepTree(one["head"], one["deep"], one["files"]);
  if ("sha256" in one) expect(hex(codec.sha256(data))).toBe(one["sha256"]);
  const read = () => {
    const found = manifest.decodeManifest(data);
    expect(manifest.decodeManifest(manifest.encodeManifest(found))).toEqual(found);
    return {
      entries: found.entries.length,
      total: manifest.tapeOf(found).total,
      space: manifest.spaceOf(found),
      salt: hex(found.salt),
      skipped: found.skipped,
      purpose: found.purpose ?? "",
      reason: found.reason,
      originals: found.entries.flatMap(({ original }) => (original ? [hex(original)] : [])),
    };
  };
  expect(outcome(read)).toEqual(one.expect);
});

vectors("manifest_lines", (one) => {
  const entries = one["entries"].map(
    ({ path, kind, size, modified, data = null, original }: any): manifest.Entry => ({
      path,
      kind,
      size,
      modified,
      data,
      original: original ? bytes(original) : null,
    }),
  );
  const { skipped, reason } = one as any;
  const purpose = one["purpose"] || null;
  const whole = { entries, salt: bytes(one["salt"]), skipped, purpose, reason };
  expect(outcome(() => codec.fromUtf8(manifest.encodeManifest(whole)))).toEqual(one.expect);
});

/** What a side notes of entries: a status, or a digest. */
function noted(one: Case) {
  const results = manifest.Results.of(one["count"]);
  for (const [entry, what] of one["noted"]) {
    if (typeof what === "number") results.failed(entry, what);
    else results.delivered(entry, bytes(what));
  }
  return {
    results: hex(results.encode()),
    failures: results.failures(),
    known: Array.from({ length: results.length }, (_, entry) => results.known(entry)),
  };
}

vectors("results", (one) => {
  if ("leaves" in one) {
    return expect(hex(manifest.merkleRoot(one["leaves"].map(bytes)))).toBe(one.expect);
  }
  if ("noted" in one) return expect(noted(one)).toEqual(one.expect);
  if ("kept" in one) {
    const recall = () => manifest.Results.recall(bytes(one["kept"]), one["count"]).failures();
    return expect(outcome(recall)).toEqual(one.expect);
  }
  const read = () => {
    const whole = manifest.decodeManifest(bytes(one.manifest));
    const found = manifest.Results.decode(bytes(one.results), whole);
    expect(hex(found.encode())).toBe(one.results);
    return {
      failures: found.failures(),
      leaves: whole.entries.map((_, index) => hex(manifest.leaf(whole, found, index))),
      root: hex(manifest.resultsRoot(whole, found)),
    };
  };
  return expect(outcome(read)).toEqual(one.expect);
});

vectors("paths", (one) => {
  if ("text" in one) expect(paths.shown(one["text"])).toBe(one.expect);
  else if ("pair" in one) {
    const [first, second] = one["pair"].map(paths.collisionKey);
    expect(first === second).toBe(one.expect);
  } else if ("found" in one) {
    const names = new paths.FolderNames();
    const add = (name: string) => names.add(name.replace("/", ""), name.endsWith("/"));
    expect(one["found"].map(add)).toEqual(one.expect);
  } else if (isError(one)) expect(() => paths.escapeSegment(one.segment)).toThrow(paths.UnsafePath);
  else expect(paths.escapeSegment(one.segment)).toBe(one.expect);
});

vectors("labels", (one) => {
  if ("text" in one) expect(labels.shownLabel(one["text"])).toBe(one.expect);
  else if ("pair" in one) {
    const [first, second] = one["pair"];
    expect(labels.alike(first, second)).toBe(one.expect);
  } else expect(labels.skeletons(one.label)).toEqual(one.expect);
});

vectors("receipt", (one) => {
  const data = Uint8Array.from(Buffer.from(one.receipt, "latin1"));
  const why = isError(one) && new receipt.BadReceipt(one.expect.error);
  if (why) return expect(() => receipt.verify(data)).toThrow(why);
  const found = receipt.verify(data);
  return expect({
    sender: hex(found.sender),
    recipient: hex(found.recipient),
    confirmed: found.confirmed,
    outcome: found.payload.outcome,
  }).toEqual(one.expect);
});

vectors("same", (one) => {
  const compare = () => receipt.requireSame(one["said"], Object.fromEntries(one["expected"]));
  if (one.expect === null) return compare();
  expect(compare).toThrow(new receipt.BadReceipt(`member_differs: ${one.expect}`));
});

vectors("sender", async (one) => {
  const [own, other] = [one["sender_seed"], one["recipient_seed"]].map((seed) =>
    seeded(bytes(seed), ""),
  ) as [handshake.Identity, handshake.Identity];
  const [says, hears, tells, listens] = Array.from(
    { length: 4 },
    () => new noise.CipherState(new Uint8Array(32)),
  ) as [noise.CipherState, noise.CipherState, noise.CipherState, noise.CipherState];
  const peer = { identity: other.public, ...one["recipient"], verify: false, capabilities: [] };
  const secured: handshake.Secured = {
    peer,
    digits: "",
    transcript: bytes(one["transcript"]),
    suite: FIRST_SUITE,
    send: says,
    receive: hears,
    sessionKey: new Uint8Array(32),
  };
  const wants = { verify: false };
  const id = bytes(one["transfer_id"]);
  const sender = new session.SenderSession(secured, own, id, 4096, 0, wants);
  const said = () => {
    const [frame, more] = sender.frames();
    expect(more).toBeUndefined();
    return JSON.parse(codec.fromUtf8(listens.decrypt(frame!)));
  };

  const data = bytes(one["manifest"]);
  const whole = manifest.decodeManifest(data);
  const kept = manifest.Results.recall(bytes(one["results"]), whole.entries.length);
  const [tape, results] = [manifest.tapeOf(whole), manifest.Results.of(kept.length)];
  const { offered, closed } = one["times"];
  await sender.offer({ manifest: whole, data, tape, results }, offered, () => 0);
  expect(said()).toEqual(one.expect.offer);
  sender.receiveFrame(tells.encrypt(codec.utf8(one["accept"])), 0);
  for (let entry = 0; entry < kept.length; entry++) {
    const [status, digest] = kept.at(entry);
    if (status) sender.results.failed(entry, status);
    else if (kept.known(entry)) sender.hashed(entry, digest);
  }
  sender.drawUp(closed, one["audit_head"]);
  await sender.close(() => 0);
  expect(said()).toEqual(one.expect.closing);
  expect(sender.closed(one["own"], one["security"])).toEqual(one.expect.closed);
  expect(hex(manifest.resultsRoot(whole, sender.results))).toBe(one.expect.root);
});

vectors("window", (one) => {
  const window = new CongestionWindow(one["largest"], session.WEBRTC);
  const happen = (event: string): string => {
    const [when, what, count, length] = event.split(" ");
    if (what === "sends") {
      const message = new Uint8Array(Number(length));
      const header: seal.Header = {
        transferId: new Uint8Array(16),
        stream: seal.Stream.DATA,
        flags: 0,
        offset: 0,
        length: message.length,
      };
      for (let i = 0; i < Number(count); i++) window.sent({ header, message, when: Number(when) });
    } else window.acknowledged(Number(count), Number(when));
    return `${window.size} ${window.headroom()} ${window.length()}`;
  };
  expect(outcome(() => one["events"].map(happen))).toEqual(one.expect);
});

vectors("audit", (one) => {
  const lines = one.lines.map(codec.utf8);
  if (!("bad_line" in one.expect)) return expect(audit.verify(lines)).toEqual(one.expect);
  let found: unknown;
  try {
    audit.verify(lines);
  } catch (error) {
    found = error;
  }
  expect(found).toBeInstanceOf(audit.BadLine);
  return expect((found as audit.BadLine).number).toBe(one.expect.bad_line);
});

vectors("failures", (one) => {
  const { ending, next, shared } = FAILURES[one["code"] as Code];
  expect({ ending, next, shared }).toEqual({
    ending: one["ending"],
    next: one["next"],
    shared: one["shared"],
  });
});

test("the failures are those of the vectors, in their order", () => {
  expect(Object.keys(FAILURES)).toEqual(read("failures").map((one) => one["code"]));
});

/** The lists that both languages hold, by their name in the vectors. */
const CATALOGUES: { [name: string]: readonly string[] } = {
  outcomes: Object.entries(signaling.OUTCOMES).map(([name, code]) => `${code} ${name}`),
  "recipient states": session.RECIPIENT_STATES,
  "sender states": session.SENDER_STATES,
  bottlenecks: session.BOTTLENECKS,
  statuses: Object.entries(manifest.STATUSES).map(([status, name]) => `${status} ${name}`),
  ...membersOf(session.MESSAGES, (type) => `members of ${type}`),
  ...membersOf(session.BODIES, (type) => `members of the ${type} body`),
};

function membersOf(
  shapes: { readonly [type: string]: { readonly members: readonly string[] } },
  name: (type: string) => string,
): { [name: string]: string[] } {
  return Object.fromEntries(
    Object.entries(shapes).map(([type, { members }]) => [name(type), [...members].sort()]),
  );
}

vectors("catalogues", (one) => {
  expect(CATALOGUES[one.name]).toEqual(one.expect);
});

test("every list of this side is in the vectors", () => {
  const names = read("catalogues").map((one) => one.name);
  expect(Object.keys(CATALOGUES).sort()).toEqual(names.sort());
});
