/** Anything at all into every decoder: a value, or the one error that its comment names. */
import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test, vi } from "vitest";

import * as audit from "../../src/protocol/audit";
import {
  concat,
  decodeBase64url,
  decodeJson,
  encodeBase64url,
  encodeJson,
  fromUtf8,
  utf8,
  type Bytes,
  type Json,
} from "../../src/protocol/codec";
import { Failure, PeerError } from "../../src/protocol/errors";
import { deriveKeys, linkText, parseLink } from "../../src/protocol/link";
import {
  Results,
  decodeManifest,
  decodeManifestInSteps,
  encodeManifest,
  tapeOf,
} from "../../src/protocol/manifest";
import * as paths from "../../src/protocol/paths";
import * as receipt from "../../src/protocol/receipt";
import {
  FLAGS,
  HEADER,
  HOLE,
  MAX_RANGE,
  Opener,
  Stream,
  TRANSFER_ID,
  endOf,
  isHole,
} from "../../src/protocol/seal";
import { MESSAGES, RECIPIENT_STATES, SENDER_STATES } from "../../src/protocol/session";
import { encodeBody } from "../../src/protocol/session/messages";
import {
  MAX_CANDIDATES,
  Sealer,
  decodeSignal,
  encodeSignal,
  isEligible,
} from "../../src/protocol/signal";
import * as signaling from "../../src/connect/signaling_messages";
import { FIRST_SUITE } from "../../src/protocol/suite";
import { Both, SAMPLES } from "./both";
import { Pair, TRANSFER, sample } from "./pair";

beforeAll(() => sodium.ready);

/** What a call gives; undefined for an error of the kind that is documented; any other is thrown on. */
function valueOr<T>(documented: new (...given: never[]) => Error, call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof documented) return undefined;
    throw error;
  }
}

/** Holds for all; of the inputs some must give a value (`call` says whether), and some an error. */
function holds<T>(inputs: fc.Arbitrary<T>, numRuns: number, call: (input: T) => boolean): void {
  const seen = new Set<boolean>();
  const note = (input: T) => void seen.add(call(input));
  fc.assert(fc.property(inputs, note), { numRuns });
  expect([...seen].sort()).toEqual([false, true]);
}

const anyBytes = fc.uint8Array({ maxLength: 300 });
const anyText = fc.string({ unit: "binary", maxLength: 60 });
const anyJson = fc.jsonValue({ stringUnit: "binary", maxDepth: 7 }) as fc.Arbitrary<Json>;
const anyDocument = anyJson.map((value) => utf8(JSON.stringify(value)));

/** A valid document of which some bytes were replaced, taken out, put in or cut off. */
const damaged = (document: Bytes): fc.Arbitrary<Bytes> =>
  fc
    .array(
      fc.record({
        at: fc.nat({ max: document.length - 1 }),
        remove: fc.integer({ min: 0, max: 3 }),
        insert: fc.oneof(
          fc.uint8Array({ maxLength: 3 }),
          fc.constantFrom('"', "{", "}", "[", "]", ",", ":", "0", "-", "null", "\\u0000").map(utf8),
        ),
      }),
      { minLength: 1, maxLength: 4 },
    )
    .map((edits) =>
      edits.reduce(
        (data, { at, remove, insert }) =>
          concat(data.subarray(0, at), insert, data.subarray(Math.min(at + remove, data.length))),
        document,
      ),
    );

/** The bytes with one of them another. */
const oneByteChanged = (document: Bytes): fc.Arbitrary<Bytes> =>
  fc
    .tuple(fc.nat({ max: document.length - 1 }), fc.integer({ min: 1, max: 255 }))
    .map(([at, change]) => document.map((octet, i) => (i === at ? octet ^ change : octet)));

/** An object of a form: members left out, replaced by anything or added. */
const misshapen = (value: { [name: string]: Json }): fc.Arbitrary<Json> =>
  fc
    .record({
      change: fc.dictionary(fc.constantFrom(...Object.keys(value)), anyJson, { maxKeys: 2 }),
      drop: fc.subarray(Object.keys(value), { maxLength: 1 }),
      add: fc.dictionary(fc.string({ maxLength: 8 }), anyJson, { maxKeys: 1 }),
    })
    .map(({ change, drop, add }) =>
      Object.fromEntries(
        Object.entries({ ...value, ...change, ...add }).filter(([name]) => !drop.includes(name)),
      ),
    );

// --- JSON ------------------------------------------------------------------------------------------

describe("strict JSON", () => {
  const read = (data: Bytes, limit = 1000) => valueOr(PeerError, () => decodeJson(data, limit));

  test("of any bytes is a value or a protocol error", () => {
    holds(fc.oneof(anyBytes, damaged(utf8('{"a":[1,-2,"x\\u00e9"],"b":null}'))), 2000, (data) => {
      const value = read(data);
      if (value === undefined) return false;
      expect(read(encodeJson(value))).toEqual(value);
      return true;
    });
  });

  test("takes nothing that an ordinary reader does not, and reads the same from it", () => {
    holds(anyDocument, 1000, (data) => {
      const value = read(data);
      if (value === undefined) return false;
      expect(JSON.stringify(value)).toBe(JSON.stringify(JSON.parse(fromUtf8(data))));
      return true;
    });
  });

  test("gives back what was encoded, as long as it is within its limits", () => {
    const leaf = fc.oneof(
      fc.maxSafeInteger().filter((number) => !Object.is(number, -0)),
      fc.string({ unit: "grapheme" }),
      fc.boolean(),
      fc.constant(null),
    );
    const name = fc.string({ unit: "grapheme", maxLength: 5 });
    const document = fc.array(fc.dictionary(name, fc.array(leaf)));
    fc.assert(
      fc.property(document, (value) => {
        expect(JSON.stringify(decodeJson(encodeJson(value), 1e6))).toBe(
          fromUtf8(encodeJson(value)),
        );
      }),
    );
  });

  test.each(["[", '{"a":', '["', "-", "1", " ", '"\\u0041', "\u0000", '{"":0,'])(
    "of a very long document of %s ends at once",
    (part) => {
      const data = utf8(part.repeat(200_000));
      expect(read(data, data.length)).toBeUndefined();
    },
  );

  test("takes a text as long as its limit", () => {
    const data = utf8(`"${"é".repeat(1_000_000)}"`);
    expect(decodeJson(data, data.length)).toHaveLength(1_000_000);
    expect(read(data, data.length - 1)).toBeUndefined();
  });
});

test("base64url of any text is bytes in their one spelling, or an error", () => {
  const text = fc.oneof(anyText, fc.base64String(), fc.stringMatching(/^[\w-]{0,9}={0,2}$/));
  holds(text, 1000, (one) => {
    const data = valueOr(Error, () => decodeBase64url(one));
    if (data === undefined) return false;
    expect(encodeBase64url(data)).toBe(one);
    return true;
  });
});

// --- the manifest and the results ------------------------------------------------------------------

const manifest = {
  entries: [
    { path: "d", kind: "directory", size: 0, modified: 0, data: null, original: null },
    { path: "d/a.dcm", kind: "file", size: 10, modified: -5, data: 4, original: null },
    { path: "d/b.dcm", kind: "file", size: 7, modified: 5, data: null, original: null },
  ],
  salt: new Uint8Array(32),
  skipped: {},
  purpose: null,
  reason: "",
} as const;

describe("a manifest", () => {
  const line = misshapen({ path: "a", kind: "file", size: 1, modified: 0, data: 1 }).map(
    encodeJson,
  );
  const path = fc.stringMatching(/^[aA./ :\\é]{1,5}$/);
  const entry = path.map((one) => encodeJson({ path: one, kind: "file", size: 1, modified: 0 }));
  const head = encodeJson({ salt: encodeBase64url(manifest.salt) });
  const lines = fc
    .array(fc.oneof(line, entry, anyDocument), { maxLength: 5 })
    .map((all) => concat(...[head, ...all].flatMap((one) => [one, utf8("\n")])));

  test("of anything is a safe one or a protocol error", () => {
    const whole = fc.constant(null).chain(() => damaged(encodeManifest(manifest)));
    holds(fc.oneof(anyBytes, lines, whole), 2000, (data) => {
      const found = valueOr(PeerError, () => decodeManifest(data));
      if (!found) return false;
      expect(decodeManifest(encodeManifest(found))).toEqual(found);
      for (const { path } of found.entries) expect(() => paths.checkTree([path])).not.toThrow();
      const keys = found.entries.map(({ path }) => paths.collisionKey(path));
      expect(new Set(keys).size).toBe(keys.length);
      valueOr(PeerError, () => tapeOf(found));
      return true;
    });
  });

  test("is read and checked by one name with each step", () => {
    const files = Array.from({ length: 1000 }, (_, i) => ({
      ...manifest.entries[2],
      path: `f${i}`,
    }));
    const data = encodeManifest({ ...manifest, entries: files });
    expect([...decodeManifestInSteps(data)]).toHaveLength(2 * files.length);
  });

  test("with sizes that add up too far has no tape", () => {
    const huge = { ...manifest.entries[1], size: Number.MAX_SAFE_INTEGER };
    expect(() => tapeOf({ ...manifest, entries: [huge, manifest.entries[2]] })).toThrow(PeerError);
  });
});

test("results of any bytes are the sender's or a protocol error", () => {
  const digest = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const none = fc.constant(new Uint8Array(32));
  const record = fc.oneof(
    { weight: 3, arbitrary: fc.tuple(fc.constant(0), digest) },
    { weight: 3, arbitrary: fc.tuple(fc.constantFrom(1, 2), none) },
    { weight: 1, arbitrary: fc.tuple(fc.nat({ max: 255 }), fc.oneof(digest, none)) },
  );
  const folder = fc.tuple(fc.constantFrom(0, 1, 2, 16), none);
  const encoded = fc
    .tuple(fc.oneof(folder, record), record, record)
    .map((all) => concat(...all.flatMap(([status, digest]) => [Uint8Array.of(status), digest])));
  holds(fc.oneof(anyBytes, encoded), 1000, (data) => {
    const found = valueOr(PeerError, () => Results.decode(data, manifest));
    if (!found) return false;
    expect(found.encode()).toEqual(data);
    for (const [, status] of found.failures()) expect([1, 2]).toContain(status);
    return true;
  });
});

// --- signaling -------------------------------------------------------------------------------------

const candidate = { foundation: "1", priority: 1, address: "10.0.0.1", port: 5000, kind: "host" };
const id = encodeBase64url(new Uint8Array(16));
const SIGNALS = [
  { type: "knock", nonce_guest: id, kind: "browser", relay_only: false },
  { type: "candidates", candidates: [candidate], relayed: true },
  {
    type: "description",
    nonce_guest: id,
    nonce_host: id,
    ufrag: "abcd",
    password: "a".repeat(22),
    fingerprint: encodeBase64url(new Uint8Array(32)),
    setup: "actpass",
    max_message_size: 262_144,
    candidates: [candidate],
    relayed: false,
  },
];
const address = fc.oneof(
  fc.ipV4(),
  fc.ipV6(),
  fc.ipV4Extended(),
  fc.domain(),
  fc.stringMatching(/^[0-9a-f:.]{1,40}$/),
  fc.uuid().map((uuid) => `${uuid}.local`),
);
const anySignal = fc.oneof(
  anyDocument,
  ...SIGNALS.map((one) => misshapen(one).map(encodeJson)),
  misshapen(candidate).map((one) => encodeJson({ type: "candidates", candidates: [one] })),
  fc
    .array(address, { maxLength: MAX_CANDIDATES + 1 })
    .map((all) => all.map((one) => ({ ...candidate, address: one })))
    .map((candidates) => encodeJson({ type: "candidates", candidates })),
);

test("a signal of anything is one whose candidates an engine may see, or a protocol error", () => {
  const damagedSignal = fc.constantFrom(...SIGNALS).chain((one) => damaged(encodeJson(one)));
  holds(fc.oneof(anyBytes, anySignal, damagedSignal), 2000, (data) => {
    const found = valueOr(PeerError, () => decodeSignal(data));
    if (!found) return false;
    expect(decodeSignal(encodeSignal(found))).toEqual(found);
    if ("candidates" in found) expect(found.candidates.every(isEligible)).toBe(true);
    return true;
  });
});

test("an envelope of anything is a protocol error, unless it was sealed for this place", () => {
  const [key, room] = [new Uint8Array(32), new Uint8Array(16)];
  const nonce = new Uint8Array(24);
  const sealer = () => new Sealer(key, room, room, "to_guest");
  const knock = { type: "knock", nonceGuest: room, kind: "browser", relayOnly: false } as const;
  const whole = fc.constant(null).chain(() => oneByteChanged(sealer().seal(knock, nonce)));
  fc.assert(
    fc.property(fc.oneof(anyBytes, whole), (data) => {
      expect(valueOr(PeerError, () => sealer().open(data))).toBeUndefined();
    }),
  );
  expect(sealer().open(sealer().seal(knock, nonce))).toEqual(knock);
});

test("what is sealed rightly but holds anything is a signal or a protocol error", () => {
  const [key, room] = [new Uint8Array(32), new Uint8Array(16)];
  const head = concat(
    ...[utf8("handover/1 signal"), room, room].flatMap((part) => [
      Uint8Array.of(0, 0, 0, part.length),
      part,
    ]),
    Uint8Array.of(1, 0, 0, 0, 0),
  );
  const plain = fc.oneof(
    fc.uint8Array({ minLength: 1024, maxLength: 1024 }),
    fc.tuple(fc.nat({ max: 0xffff }), anyBytes).map(([length, data]) => {
      const padded = new Uint8Array(1024);
      padded.set([length >> 8, length & 255]);
      padded.set(data, 2);
      return padded;
    }),
    fc
      .oneof(
        anyBytes,
        anySignal.filter((data) => data.length < 1000),
      )
      .map((data) => {
        const padded = new Uint8Array(1024);
        padded.set([data.length >> 8, data.length & 255]);
        padded.set(data, 2);
        return padded;
      }),
  );
  holds(plain, 500, (padded) => {
    const nonce = new Uint8Array(24);
    const sealed = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
      padded,
      head,
      null,
      nonce,
      key,
    );
    const opener = new Sealer(key, room, room, "to_host");
    return valueOr(PeerError, () => opener.open(concat(nonce, sealed))) !== undefined;
  });
});

test("a message of the server of anything is one of its form, or a bad one", () => {
  const messages: { [name: string]: Json }[] = [
    { type: "joined", attempt: id },
    { type: "envelope", attempt: id, body: id },
    { type: "error", code: "busy" },
    { type: "create", room: id, join_hash: id, owner: id, ttl: 5 },
    { type: "created" },
  ];
  const text = fc.oneof(
    anyText,
    anyDocument.map(fromUtf8),
    ...messages.map((one) => misshapen(one).map((value) => JSON.stringify(value))),
  );
  const shapes = fc.constantFrom(signaling.FROM_SERVER, signaling.FROM_PEER);
  holds(fc.tuple(fc.oneof(text, fc.anything()), shapes), 2000, ([one, form]) => {
    const found = valueOr(signaling.BadMessage, () => signaling.decode(one, form));
    if (!found) return false;
    expect(Object.keys(found).sort()).toEqual(["type", ...Object.keys(form[found.type]!)].sort());
    return true;
  });
  expect(() => signaling.decode("[".repeat(16_000), signaling.FROM_SERVER)).toThrow(
    signaling.BadMessage,
  );
});

// --- the link --------------------------------------------------------------------------------------

describe("a link", () => {
  const whole = () =>
    linkText({
      origin: "https://example.org:8443",
      secret: new Uint8Array(32).fill(5),
      commitment: new Uint8Array(16).fill(6),
      passphrase: true,
    });

  test("of any text is one that reads the same again, or a failure of two kinds", () => {
    const damagedLink = fc
      .constant(null)
      .chain(() => damaged(utf8(whole())))
      .map((data) => new TextDecoder().decode(data));
    const pieces = fc
      .array(
        fc.constantFrom(
          "https://",
          "http://",
          "h",
          ":",
          "1",
          "/",
          "?",
          "#",
          ".",
          "p",
          "[::1]",
          " ",
        ),
        { maxLength: 12 },
      )
      .map((all) => all.join(""));
    const fragment = fc
      .array(fc.oneof(fc.constantFrom("1", "p", "", id), fc.base64String()), { maxLength: 5 })
      .map((parts) => `https://h/#${parts.join(".")}`);
    holds(fc.oneof(anyText, damagedLink, pieces, fragment), 3000, (pasted) => {
      let found;
      try {
        found = parseLink(pasted);
      } catch (error) {
        expect(error).toBeInstanceOf(Failure);
        expect(["link_invalid", "link_unsupported"]).toContain((error as Failure).code);
        return false;
      }
      expect(parseLink(linkText(found))).toEqual(found);
      expect(found.origin).toMatch(/^https?:\/\/(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?$/i);
      return true;
    });
  });

  test("of a million characters is refused at once", () => {
    for (const part of ["https://", "a", " ", "/", "#."]) {
      expect(() => parseLink(`https://h${part.repeat(1_000_000)}`)).toThrow(Failure);
    }
  });

  test("shows nothing of its secret in the keys that others learn", () => {
    const secret = new Uint8Array(32).fill(5);
    for (const key of Object.values(deriveKeys(secret))) {
      expect(Buffer.from(secret).includes(Buffer.from(key.subarray(0, 16)))).toBe(false);
    }
  });
});

// --- sealed ranges ---------------------------------------------------------------------------------

describe("a range", () => {
  const private_ = new Uint8Array(32).fill(9);
  const seal = (plain: Bytes) =>
    FIRST_SUITE.sealer(sodium.crypto_scalarmult_base(private_))(plain.length, (space) =>
      space.set(plain),
    );
  const open = (message: Bytes) =>
    valueOr(PeerError, () => new Opener(FIRST_SUITE, private_).open(message));

  test("of any bytes does not open", () => {
    fc.assert(
      fc.property(anyBytes, (message) => {
        expect(open(message)).toBeUndefined();
      }),
    );
  });

  test("with one byte changed does not open", () => {
    const header = new Uint8Array(HEADER);
    header[16] = 1;
    header[33] = 4;
    const message = seal(concat(header, utf8("data")));
    expect(open(message)).toBeDefined();
    fc.assert(
      fc.property(oneByteChanged(message), (changed) => {
        expect(open(changed)).toBeUndefined();
      }),
    );
  });

  test("that opens but holds anything is within bounds, or a protocol error", () => {
    const number = fc.oneof(
      fc.bigInt({ min: 0n, max: 20n }),
      fc.bigInt({ min: 2n ** 53n - 2n, max: 2n ** 53n + 2n }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    );
    const plain = fc
      .record({
        stream: fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 255 })),
        flags: fc.oneof(fc.nat({ max: 2 }), fc.nat({ max: 255 })),
        offset: number,
        length: number,
        payload: fc.uint8Array({ maxLength: 20 }),
        fits: fc.boolean(),
      })
      .map(({ stream, flags, offset, length, payload, fits }) => {
        const header = new Uint8Array(HEADER);
        const view = new DataView(header.buffer);
        view.setUint8(TRANSFER_ID, stream);
        view.setUint8(TRANSFER_ID + 1, flags);
        view.setBigUint64(TRANSFER_ID + 2, offset);
        view.setBigUint64(TRANSFER_ID + 10, fits ? BigInt(payload.length) : length);
        return concat(header, payload);
      });
    holds(fc.oneof(anyBytes, plain), 1000, (one) => {
      const found = open(seal(one));
      if (!found) return false;
      const [header, payload] = found;
      expect(header.length).toBeGreaterThan(0);
      expect([0, 1, 2]).toContain(header.stream);
      if (!header.flags || isHole(header)) {
        expect(payload).toHaveLength(isHole(header) ? 0 : header.length);
      } else {
        expect([payload.length > 0, header.length <= MAX_RANGE]).toEqual([true, true]);
      }
      expect(Number.isSafeInteger(header.offset) && header.offset >= 0).toBe(true);
      expect(endOf(header)).toBeGreaterThan(header.offset);
      return true;
    });
  });
});

// --- receipts and the audit log --------------------------------------------------------------------

describe("a receipt", () => {
  let signed: Bytes;
  beforeAll(async () => {
    const pair = await Pair.at("signed");
    const { payload, signature } = pair.receipts[0]!;
    signed = receipt.assemble(payload, [
      [pair.recipient.public, signature],
      [pair.sender.public, pair.countersignature()],
    ]);
  });

  test("of anything is a bad one", () => {
    expect(receipt.verify(signed).confirmed).toBe(true);
    const shape = misshapen(JSON.parse(fromUtf8(signed))).map(encodeJson);
    const dropped = ({ payload, signatures }: any) => [
      { payload, signatures: [signatures[1]] },
      { payload, signatures: [signatures[1], signatures[0]] },
      { payload, signatures: [signatures[0], signatures[0]] },
      { payload, signatures: [] },
    ];
    for (const one of dropped(JSON.parse(fromUtf8(signed)))) {
      expect(() => receipt.verify(encodeJson(one))).toThrow(receipt.BadReceipt);
    }
    fc.assert(
      fc.property(fc.oneof(anyBytes, anyDocument, shape), (data) => {
        const found = valueOr(receipt.BadReceipt, () => receipt.verify(data));
        if (found) expect(data).toEqual(signed);
      }),
      { numRuns: 500 },
    );
  });

  test("with any one byte changed is a bad one", () => {
    fc.assert(
      fc.property(oneByteChanged(signed), (data) => {
        expect(() => receipt.verify(data)).toThrow(receipt.BadReceipt);
      }),
      { numRuns: 300 },
    );
  });

  test("with anything for a payload is a bad one", () => {
    const parts = fc.record({
      payload: fc.oneof(anyBytes, anyDocument).map(encodeBase64url),
      signatures: fc.array(
        fc.record({
          protected: fc.oneof(anyBytes, anyDocument).map(encodeBase64url),
          signature: fc.constant(encodeBase64url(new Uint8Array(64))),
        }),
        { maxLength: 3 },
      ),
    });
    fc.assert(
      fc.property(parts, (value) => {
        expect(() => receipt.verify(encodeJson(value))).toThrow(receipt.BadReceipt);
      }),
    );
  });
});

describe("an audit log", () => {
  const log = () => {
    const lines: Bytes[] = [];
    let head = audit.GENESIS;
    for (let number = 1; number <= 5; number++) {
      lines.push(audit.entry(head, number, "2026-01-02T03:04:05Z", "transfer", { n: number }));
      head = audit.lineHash(lines.at(-1)!.subarray(0, -1));
    }
    return { lines, head };
  };

  test("of anything is verified, or its first bad line is told", () => {
    const { lines, head } = log();
    expect(audit.verify(lines)).toEqual({ lines: 5, head });
    const line = fc.oneof(
      anyBytes,
      anyDocument.map((data) => concat(data, utf8("\n"))),
      fc.constantFrom(...lines),
      misshapen({ seq: 1, time: "", event: "recovered", prev: audit.GENESIS }).map((one) =>
        concat(encodeJson(one), utf8("\n")),
      ),
    );
    holds(fc.array(line, { maxLength: 6 }), 1000, (all) => {
      const found = valueOr(audit.BadLine, () => audit.verify(all));
      if (!found) return false;
      expect(found.lines).toBe(all.length);
      return true;
    });
  });

  test("with one byte changed before its last line is found out", () => {
    const { lines } = log();
    const changed = fc
      .nat({ max: lines.length - 2 })
      .chain((index) =>
        oneByteChanged(lines[index]!).map((line) =>
          lines.map((one, i) => (i === index ? line : one)),
        ),
      );
    fc.assert(
      fc.property(changed, (all) => {
        expect(() => audit.verify(all)).toThrow(audit.BadLine);
      }),
    );
  });

  test("with a line removed or two exchanged is found out", () => {
    const { lines } = log();
    const removed = fc.nat({ max: 3 }).map((index) => lines.filter((_, i) => i !== index));
    const exchanged = fc
      .shuffledSubarray(lines, { minLength: 5, maxLength: 5 })
      .filter((all) => all.some((line, i) => line !== lines[i]));
    fc.assert(
      fc.property(fc.oneof(removed, exchanged), (all) => {
        expect(() => audit.verify(all)).toThrow(audit.BadLine);
      }),
    );
  });
});

// --- the session -----------------------------------------------------------------------------------

describe("a session", () => {
  const kinds = fc.constantFrom(...Object.keys(MESSAGES));
  const message = fc.oneof(
    anyJson,
    fc
      .tuple(kinds, fc.dictionary(fc.string({ maxLength: 8 }), anyJson, { maxKeys: 3 }))
      .map(([type, fields]): Json => ({ ...fields, type })),
  );
  const number = fc.oneof(fc.nat({ max: 12 }), fc.maxSafeInteger().map(Math.abs));
  const header = fc.record({
    transferId: fc.oneof(
      { weight: 4, arbitrary: fc.constant(TRANSFER) },
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
    ),
    stream: fc.constantFrom(0, 1, 2),
    flags: fc.constantFrom(...FLAGS),
    offset: number,
    length: number.map((length) => length || 1),
  });

  test.each(RECIPIENT_STATES)(
    "while %s takes any message or refuses it, and no more",
    async (state) => {
      await fc.assert(
        fc.asyncProperty(message, kinds, async (one, kind) => {
          const pair = await Pair.at(state);
          for (const value of [{ ...sample(pair)[kind], type: kind, x: one }, one]) {
            try {
              pair.deliver(encodeJson(value));
            } catch (error) {
              expect(error).toBeInstanceOf(PeerError);
            }
          }
        }),
        { numRuns: 40 },
      );
    },
  );

  test.each(RECIPIENT_STATES)(
    "while %s takes any misshapen message or refuses it",
    async (state) => {
      const forms = Object.entries(sample(await Pair.at(state)));
      const misshapenMessage = fc
        .constantFrom(...forms)
        .chain(([type, fields]) => misshapen({ ...fields, type }));
      await fc.assert(
        fc.asyncProperty(misshapenMessage, async (value) => {
          const pair = await Pair.at(state);
          try {
            pair.deliver(encodeJson(value));
          } catch (error) {
            if (error instanceof PeerError) return;
            expect(error).toBeInstanceOf(Failure);
            expect((value as { type?: Json }).type).toBe("abort");
          }
        }),
        { numRuns: 80 },
      );
    },
  );

  test.each(RECIPIENT_STATES)(
    "while %s takes no frame that was not encrypted for it",
    async (state) => {
      const pair = await Pair.at(state);
      fc.assert(
        fc.property(anyBytes, (frame) => {
          expect(() => pair.session.receiveFrame(frame, pair.now)).toThrow(PeerError);
        }),
      );
    },
  );

  test("takes any ranges or refuses them, and counts none twice", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(header, { maxLength: 12 }), async (headers) => {
        const pair = await Pair.at("receiving");
        const taken = new Set<number>();
        for (const one of headers) {
          let fresh = false;
          try {
            fresh = pair.admit(one as Parameters<Pair["admit"]>[0]);
          } catch (error) {
            expect(error).toBeInstanceOf(PeerError);
            return;
          }
          if (!fresh) continue;
          const payload = new Uint8Array(one.flags === HOLE ? 0 : one.length);
          pair.session.written(
            one as Parameters<typeof pair.session.written>[0],
            payload,
            pair.now,
          );
          if (one.stream !== 1) continue;
          for (let at = one.offset; at < one.offset + one.length; at++) {
            expect(taken.has(at)).toBe(false);
            taken.add(at);
          }
        }
        let frontier = 0;
        while (taken.has(frontier)) frontier++;
        expect(pair.session.frontier).toBe(frontier);
        expect(frontier).toBeLessThanOrEqual(pair.tape.total);
      }),
      { numRuns: 300 },
    );
  });
});

describe("a sender's session", () => {
  /** What becomes of a message, which is what the recipient says next. */
  function deliver(both: Both, value: Json): void {
    try {
      both.hear("sender");
      const frame = both.recipient["secured"].send.encrypt(encodeJson(value));
      both.sender.receiveFrame(frame, both.now);
    } catch (error) {
      if (error instanceof PeerError) return;
      expect(error).toBeInstanceOf(Failure);
      expect((value as { type?: Json }).type).toBe("abort");
    }
  }
  const forms = Object.entries(SAMPLES).map(
    ([type, fields]): [string, { [name: string]: Json }] => {
      const body = decodeJson(encodeBody({ ...fields, type }), 4096) as { [name: string]: Json };
      return [type, body];
    },
  );

  test.each(SENDER_STATES)(
    "while %s takes any message or refuses it, and no more",
    async (state) => {
      const message = fc.constantFrom(...forms).chain(([, fields]) => misshapen(fields));
      await fc.assert(
        fc.asyncProperty(fc.oneof(message, anyJson), async (value) => {
          deliver(await Both.at(state), value);
        }),
        { numRuns: 80 },
      );
    },
  );

  test.each(SENDER_STATES)(
    "while %s takes no frame that was not encrypted for it",
    async (state) => {
      const both = await Both.at(state);
      fc.assert(
        fc.property(anyBytes, (frame) => {
          expect(() => both.sender.receiveFrame(frame, both.now)).toThrow(PeerError);
        }),
      );
    },
  );

  test("takes any acknowledgements or refuses them, and believes in no more than it sent", async () => {
    const number = fc.oneof(fc.nat({ max: 6 }), fc.constantFrom(4096, 8192, 10_000, 2 ** 53 - 1));
    const ack = fc.record({
      stream: fc.nat({ max: 2 }),
      written: number,
      limit: fc.constantFrom(0, 2 ** 20, 2 ** 25, 2 ** 53 - 1),
      durable: number,
      verified: number,
      lanes: fc.array(fc.tuple(fc.nat({ max: 2 }), fc.nat({ max: 6 })), { maxLength: 3 }),
    });
    const seen = new Set<boolean>();
    await fc.assert(
      fc.asyncProperty(fc.array(ack, { minLength: 1, maxLength: 6 }), async (acks) => {
        const both = await Both.at("sending", [new Uint8Array(10_000).fill(1)]);
        const { sender } = both;
        both.hear("sender");
        both.hear("recipient");
        both.addLane();
        for (const lane of [0, 1, 0, 1]) both.send(lane);
        for (const one of acks) {
          try {
            both.say("recipient", "ack", one);
            both.hear("sender");
            seen.add(true);
          } catch (error) {
            expect(error).toBeInstanceOf(PeerError);
            return void seen.add(false);
          }
          const { next, written, durable, verified } = sender["streams"].get(Stream.DATA)!;
          expect([verified, durable, written, next]).toEqual(
            [verified, durable, written, next].sort((a, b) => a - b),
          );
          expect(next).toBeLessThanOrEqual(sender.total);
          expect(sender.lanes.carried).toBeLessThanOrEqual(next + both.data.length);
        }
      }),
      { numRuns: 300 },
    );
    expect(seen.size).toBe(2);
  });
});

// --- names -----------------------------------------------------------------------------------------

describe("a name", () => {
  const some = fc.oneof(
    fc.string({ unit: "binary", maxLength: 40 }),
    fc.stringMatching(/^(con|NUL|aux|COM1|lpt¹)?[. ]{0,3}[a.:/\\\u0001\u202e]{0,4}[. ]{0,3}$/),
    fc.array(fc.nat({ max: 0xffff }), { maxLength: 20 }).map((all) => String.fromCharCode(...all)),
  );

  const isSafe = (path: string) =>
    valueOr(paths.UnsafePath, () => {
      paths.checkTree([path]);
      return true;
    }) ?? false;

  test("that was escaped is safe, and escaping it again changes nothing", () => {
    holds(some, 2000, (name) => {
      const safe = valueOr(paths.UnsafePath, () => paths.escapeSegment(name));
      if (safe === undefined) return false;
      expect(() => paths.checkSegment(safe)).not.toThrow();
      expect(paths.escapeSegment(safe)).toBe(safe);
      return true;
    });
  });

  test("that is safe is left as it is", () => {
    holds(some, 1000, (name) => {
      if (name.endsWith("/") || !isSafe(name)) return false;
      expect(name.split("/").map(paths.escapeSegment).join("/")).toBe(name);
      return true;
    });
  });

  test("that is a safe path stays below its root", () => {
    holds(some, 2000, (path) => {
      if (path.endsWith("/") || !isSafe(path)) return false;
      const segments = path.split("/");
      expect(path.startsWith("/")).toBe(false);
      for (const part of segments) {
        expect(["", ".", ".."]).not.toContain(part);
        expect(part).not.toMatch(/[/\\:]/);
      }
      return true;
    });
  });

  test.each([
    ["too deep", Array(65).fill("a").join("/")],
    ["too long", Array(6).fill("x".repeat(200)).join("/")],
    ["with a part that is too long", "é".repeat(128)],
    ["with half a character", "\ud800"],
    ["with an empty part", "a//b"],
    ["empty", ""],
    ["with more marks than fit", "e" + "\u0301".repeat(31)],
    ["far longer when taken apart", "\ufdfa".repeat(24)],
  ])("that is %s is refused", (_, path) => {
    expect(isSafe(path)).toBe(false);
  });

  test("that is just not too deep or too long is taken", () => {
    const longest = [..."abcd"].map((letter) => letter.repeat(255)).join("/");
    const deepest = Array(64).fill("a").join("/");
    const marked = ("e" + "\u0301".repeat(30)).repeat(4);
    for (const path of [deepest, "é".repeat(127), longest, marked, "\ufdfa".repeat(23)]) {
      expect(isSafe(path)).toBe(true);
    }
  });

  test("is refused with others that are slow to normalize", () => {
    const tree = (length: number) =>
      Array.from({ length }, (_, at) => `${at % 4}${"一".repeat(84)}/${at}${"ä".repeat(124)}`);
    const most = Math.floor((paths.MAX_NON_ASCII - 4 * 3 * 84) / 248);
    paths.checkTree(tree(most));
    expect(() => paths.checkTree(tree(most + 1))).toThrow(paths.TooManyNames);
  });

  test("that is shown can neither move the cursor nor turn the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 100 }), some, (one, other) => {
        for (const text of [one, other]) {
          const shown = paths.shown(text);
          expect(Array.from(shown).length).toBeLessThanOrEqual(paths.MAX_SHOWN);
          expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
        }
      }),
      { numRuns: 2000 },
    );
  });

  const collision = (tree: readonly string[]) => {
    try {
      paths.checkTree(tree);
      return null;
    } catch (error) {
      if (error instanceof paths.NamesCollide) return error.pair;
      throw error;
    }
  };

  test.each<[string, [string, string] | null]>([
    ["a b", null],
    ["d/ d/a d/b e/x", null],
    ["d/a d/", null],
    ["d/ d! d/a d- d/b", null],
    ["a A", ["A", "a"]],
    ["A/x a/y", ["A", "a"]],
    ["a a/b", ["a", "a"]],
    ["a/b a", ["a", "a"]],
    ["a a! a/b", ["a", "a"]],
    ["a a", ["a", "a"]],
    ["a a/", ["a", "a"]],
    ["d/ d/", ["d", "d"]],
    ["d/e/F/x d/e/f", ["d/e/F", "d/e/f"]],
    ["\u00e9 e\u0301", ["e\u0301", "\u00e9"]],
    ["\ufb01le file", ["file", "\ufb01le"]],
    ["a\uff0fb a/b", null], // no file system takes the one for the other
  ])("collides where it must: %j", (tree, pair) => {
    expect(collision(tree.split(" "))).toEqual(pair);
  });

  /** The rule of PROTOCOL.md, word for word: every parent and path, each by its own whole key. */
  function wholePathsCollide(tree: readonly string[]): boolean {
    const kinds = new Map<string, Set<string>>();
    const kindsOf = (path: string) => {
      if (!kinds.has(path)) kinds.set(path, new Set());
      return kinds.get(path)!;
    };
    for (const path of tree) {
      const named = path.replace(/\/$/, "");
      const parts = named.split("/");
      for (let end = 1; end < parts.length; end++) {
        kindsOf(parts.slice(0, end).join("/")).add("implied directory");
      }
      const kind = path.endsWith("/") ? "directory" : "file";
      if (kindsOf(named).has(kind)) return true; // listed twice
      kindsOf(named).add(kind);
    }
    if ([...kinds.values()].some((all) => all.has("file") && all.size > 1)) return true;
    const keys = [...kinds.keys()].map((path) => path.split("/").map(paths.collisionKey).join("/"));
    return new Set(keys).size < keys.length;
  }

  test("collides in a tree as whole paths do", () => {
    const segment = fc.constantFrom(
      "a",
      "A",
      "b",
      "a!",
      "\u00e9",
      "e\u0301",
      "\ufb01",
      "Fi",
      "\uff21",
    );
    const path = fc
      .tuple(fc.array(segment, { minLength: 1, maxLength: 4 }), fc.constantFrom("", "/"))
      .map(([segments, end]) => segments.join("/") + end);
    fc.assert(
      fc.property(fc.array(path, { maxLength: 7 }), (tree) => {
        const pair = collision(tree);
        expect(pair !== null).toBe(wholePathsCollide(tree));
        if (pair) expect(paths.collisionKey(pair[0])).toBe(paths.collisionKey(pair[1]));
      }),
      { numRuns: 2000 },
    );
  });

  test("is looked at once, however many paths lead through it, in whatever order", () => {
    const normalize = vi.spyOn(String.prototype, "normalize");
    try {
      const deep = ["a", "b"].map((top) =>
        Array.from({ length: 60 }, (_, depth) => `${top}${depth}`).join("/"),
      );
      paths.checkTree(Array.from({ length: 1000 }, (_, i) => `${deep[i % 2]}/${i}`));
      expect(normalize).toHaveBeenCalledTimes(2 * (2 * 60 + 1000)); // before folding and after it
    } finally {
      normalize.mockRestore();
    }
  });

  test("is folded as each of its characters is", () => {
    const letter = fc.constantFrom(
      "\u03a3",
      "\u03c2",
      "\u0131",
      "I",
      "\u0130",
      "\u00df",
      "\u0390",
      " ",
    );
    const fold = (character: string) =>
      character === "\u0131" ? character : character.toLowerCase().toUpperCase().toLowerCase();
    const name = fc.array(
      fc.oneof(letter, fc.string({ unit: "binary", minLength: 1, maxLength: 1 })),
    );
    fc.assert(
      fc.property(name, (letters) => {
        const decomposed = letters.join("").normalize("NFKD");
        const folded = Array.from(decomposed, fold).join("").normalize("NFKD");
        expect(paths.collisionKey(letters.join(""))).toBe(folded);
      }),
      { numRuns: 2000 },
    );
  });

  test("collides with itself however it is normalised", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 10 }), (name) => {
        const key = paths.collisionKey(name);
        for (const form of ["NFC", "NFD", "NFKC", "NFKD"]) {
          expect(paths.collisionKey(name.normalize(form))).toBe(key);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
