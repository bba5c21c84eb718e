/** The handshake: what guest and host refuse of each other, whichever of the two sends. */
import { readFileSync } from "node:fs";

import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test } from "vitest";

import {
  concat,
  decodeJson,
  encodeBase64url,
  encodeJson,
  prefixed,
  utf8,
  type Bytes,
  type JsonObject,
} from "../../src/protocol/codec";
import { Failure, PeerError } from "../../src/protocol/errors";
import {
  MAX_HANDSHAKE_MESSAGE,
  VERSIONS,
  fingerprints,
  prologue,
  type GuestHandshake,
  type HostHandshake,
} from "../../src/protocol/handshake";
import { Initiator, SymmetricState } from "../../src/protocol/noise";
import { FIRST_SUITE } from "../../src/protocol/suite";
import { bindingOf, bytes, guestOf, hostOf, seeded, type Case } from "./parties";
import { broken, failure, refusal } from "./refusals";

beforeAll(() => sodium.ready);

const path = new URL("../../../tests/vectors/handshake.json", import.meta.url);
const CASES: Case[] = JSON.parse(readFileSync(path, "utf8"));
const [HOST_SENDS, HOST_RECEIVES] = [true, false].map((hostSends) =>
  CASES.find((one) => one["binding"].host_sends === hostSends)!,
) as [Case, Case];

/** A guest that has said message 3, and what it makes of a message 4 of any content. */
async function guestBefore4(one: Case): Promise<(message: JsonObject) => unknown> {
  const guest = guestOf(one);
  guest.message1();
  await guest.receive2(bytes(one.expect.messages[1]));
  const { noise } = guest as unknown as { noise: Initiator };
  const [, host] = noise.state.split();
  return (message) => guest.receive4(host.encrypt(encodeJson(message)));
}

const welcome = (sessionKey?: Uint8Array): JsonObject => ({
  type: "welcome",
  label: "",
  software: "",
  ...(sessionKey && { session_key: encodeBase64url(sessionKey) }),
});

describe("the session key", () => {
  const key = new Uint8Array(32).fill(9);

  test("is the host's where it is the recipient", async () => {
    const receive4 = await guestBefore4(HOST_RECEIVES);
    expect(receive4(welcome(key))).toMatchObject({ sessionKey: key });
  });

  test.each([
    ["where the guest is the recipient", HOST_SENDS, key, "session_key_not_allowed"],
    ["that is missing where the host is", HOST_RECEIVES, undefined, "session_key_not_allowed"],
    ["of low order", HOST_RECEIVES, new Uint8Array(32), "session_key_low_order"],
  ] as const)("of a host %s is refused", async (_, one, sent, why) => {
    const receive4 = await guestBefore4(one);
    expect(broken(() => receive4(welcome(sent)))).toMatch(why);
  });
});

test("the fingerprints of sender and recipient follow who sends", () => {
  const [sends, receives] = [bindingOf(HOST_SENDS), bindingOf(HOST_RECEIVES)];
  expect(fingerprints(sends).sender).toBe(sends.fingerprintHost);
  expect(fingerprints(receives).sender).toBe(receives.fingerprintGuest);
  expect(fingerprints(receives).recipient).toBe(receives.fingerprintHost);
});

test("a host that is not who made the link is not told who the guest is", async () => {
  const made = "00".repeat(32); // the link is of another host
  const one = { ...HOST_SENDS, host: { ...HOST_SENDS["host"], identity_seed: made } };
  const guest = guestOf(one);
  guest.message1();
  const message2 = bytes(HOST_SENDS.expect.messages[1]);
  await expect(guest.receive2(message2)).rejects.toMatchObject({ code: "host_unproven" });
});

test("a stolen public key is not enough to be the host", async () => {
  const { public: stolen } = seeded(bytes(HOST_SENDS["host"].identity_seed), "");
  const { sign } = seeded(new Uint8Array(32).fill(7), "");
  const [guest, host] = [
    guestOf(HOST_SENDS),
    hostOf(HOST_SENDS, { identity: { public: stolen, label: "", sign } }),
  ];
  const message2 = await host.receive1(guest.message1());
  await expect(guest.receive2(message2)).rejects.toThrow("handshake_signature_invalid");
});

// --- the host ---------------------------------------------------------------------------------------

/** What a promise is rejected with, as far as it tells. */
const refused = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    (error: unknown) => error,
  );

/** Guest and host up to the host's turn: it has to read message 3. */
async function before3(guest: GuestHandshake, one = HOST_SENDS): Promise<[HostHandshake, Bytes]> {
  const host = hostOf(one);
  const message2 = await host.receive1(guest.message1());
  return [host, await guest.receive2(message2)];
}

/** A guest that says other members in message 3 than it should, and is committed to them. */
function guestSaying(one: Case, changes: JsonObject): GuestHandshake {
  const guest = guestOf(one);
  const body = decodeJson(guest["body"], MAX_HANDSHAKE_MESSAGE) as JsonObject;
  const said = Object.entries({ ...body, ...changes }).filter(([, value]) => value !== null);
  return Object.assign(guest, { body: encodeJson(Object.fromEntries(said)) });
}

describe("a host", () => {
  test("and its guest learn the same", async () => {
    for (const one of [HOST_SENDS, HOST_RECEIVES]) {
      const guest = guestOf(one);
      const [host, message3] = await before3(guest, one);
      const [met, found] = [host.receive3(message3), guest.receive4(host.message4())];
      expect(met.digits).toBe(found.digits);
      expect(met.transcript).toEqual(found.transcript);
      expect(met.sessionKey).toEqual(found.sessionKey);
      expect(met.receive.decrypt(found.send.encrypt(utf8("x")))).toEqual(utf8("x"));
      expect(found.receive.decrypt(met.send.encrypt(utf8("y")))).toEqual(utf8("y"));
    }
  });

  test.each([
    ["room", 16],
    ["attempt", 16],
    ["nonce_guest", 16],
    ["nonce_host", 16],
    ["fingerprint_host", 32],
    ["fingerprint_guest", 32],
  ])("does not talk past a middle with another %s", async (member, length) => {
    const binding = { ...HOST_SENDS["binding"], [member]: "00".repeat(length) };
    const between = guestOf({ ...HOST_SENDS, binding });
    const error = await refused(hostOf(HOST_SENDS).receive1(between.message1()));
    expect(error).toBeInstanceOf(PeerError);
  });

  test.each([
    ["passphrase", { passphrase: true }],
    ["who sends", { host_sends: false }],
  ])("and a guest have to think the same of the %s", async (_, changed) => {
    const binding = { ...HOST_SENDS["binding"], ...changed };
    const other = guestOf({ ...HOST_SENDS, binding });
    expect(await refused(hostOf(HOST_SENDS).receive1(other.message1()))).toBeInstanceOf(PeerError);
  });

  test("counts a guest without the whole secret as a guess", async () => {
    const secrets = { link: new Uint8Array(32), passphrase: new Uint8Array(0) };
    const [host, message3] = await before3(guestOf(HOST_SENDS, { secrets }));
    const error = refusal(() => host.receive3(message3));
    expect(error).toBeInstanceOf(PeerError);
    expect(error).toMatchObject({ code: "guest_unproven", detail: "" });
  });

  test("refuses a guest that changes what it committed to", async () => {
    const [guest, host] = [guestOf(HOST_SENDS), hostOf(HOST_SENDS)];
    const message2 = await host.receive1(guest.message1());
    Object.assign(guest, { body: guestSaying(HOST_SENDS, { label: "x" })["body"] });
    const message3 = await guest.receive2(message2);
    expect(broken(() => host.receive3(message3))).toBe("commitment_mismatch");
  });

  test("refuses a guest with another's key", async () => {
    const { public: public_, label } = seeded(bytes(HOST_SENDS["guest"].identity_seed), "r");
    const { sign } = seeded(new Uint8Array(32).fill(7), "r");
    const [host, message3] = await before3(
      guestOf(HOST_SENDS, { identity: { public: public_, label, sign } }),
    );
    expect(broken(() => host.receive3(message3))).toBe("handshake_signature_invalid");
  });

  test("refuses a guest whose key is none", async () => {
    const identity = { public: new Uint8Array(32).fill(255), label: "", sign: async () => ZEROS };
    const [host, message3] = await before3(guestOf(HOST_SENDS, { identity }));
    expect(broken(() => host.receive3(message3))).toBe("handshake_signature_invalid");
  });

  const key = encodeBase64url(new Uint8Array(32).fill(9));
  test.each([
    ["of low order", HOST_SENDS, encodeBase64url(new Uint8Array(32)), "session_key_low_order"],
    ["that is missing from the recipient", HOST_SENDS, null, "session_key_not_allowed"],
    ["of a guest that sends", HOST_RECEIVES, key, "session_key_not_allowed"],
  ])("refuses a session key %s", async (_, one, session_key, why) => {
    const [host, message3] = await before3(guestSaying(one, { session_key }), one);
    expect(broken(() => host.receive3(message3))).toMatch(why);
  });

  test.each([
    [{ identity: "AA" }],
    [{ nonce: null }],
    [{ label: "x".repeat(129) }],
    [{ verify: 1 }],
    [{ capabilities: [""] }],
    [{ more: 1 }],
  ] as [JsonObject][])("refuses a message 3 of another form: %j", async (changes) => {
    const [host, message3] = await before3(guestSaying(HOST_SENDS, changes));
    expect(broken(() => host.receive3(message3))).toBe("malformed: message 3");
  });

  test.each(["claimed", "not_for_you", "contact_changed"] as const)(
    "has a guest that it turns away end with the reason: %s",
    async (code) => {
      const guest = guestOf(HOST_SENDS);
      const [host, message3] = await before3(guest);
      host.receive3(message3);
      expect(failure(() => guest.receive4(host.refuse4(code)))).toBe(code);
    },
  );
});

test.each(["[]", "{}", '{"type":"welcome"}', '{"type":"refuse","code":"internal"}', "no"])(
  "a malformed message 4 is refused: %s",
  async (text) => {
    const guest = guestOf(HOST_SENDS);
    const [host, message3] = await before3(guest);
    const { send } = host.receive3(message3);
    expect(() => guest.receive4(send.encrypt(utf8(text)))).toThrow(PeerError);
  },
);

// --- anything at all --------------------------------------------------------------------------------

const ZEROS = new Uint8Array(64);
const HELLO = { versions: [1], suites: [1], commit: encodeBase64url(new Uint8Array(32)) };

/** Message 1 of anybody who knows the room, with any payload. */
const message1 = (payload: Bytes): Bytes => {
  const keys = [1, 2].map((octet) => new Uint8Array(32).fill(octet)) as [Bytes, Bytes];
  return new Initiator(FIRST_SUITE, prologue(bindingOf(HOST_SENDS)), ...keys).write1(payload);
};
const hello = (payload: Bytes) => refused(hostOf(HOST_SENDS).receive1(message1(payload)));

describe("message 1", () => {
  test("of its form is answered", async () => {
    expect(await hello(encodeJson(HELLO))).toBeNull();
  });

  test.each([
    ["versions", { ...HELLO, versions: [2] }],
    ["suites", { ...HELLO, suites: [2, 3] }],
  ])("of a guest that has none of these %s is told so", async (_, fields) => {
    const error = await hello(encodeJson(fields));
    expect(error).toBeInstanceOf(Failure);
    expect(error).toMatchObject({ code: "version_unsupported" });
  });

  test("may know of newer versions and suites", async () => {
    expect(await hello(encodeJson({ ...HELLO, versions: [9, 1, 2], suites: [1, 9] }))).toBeNull();
  });

  test.each([
    "",
    "{}",
    JSON.stringify({ ...HELLO, versions: [] }),
    JSON.stringify({ ...HELLO, versions: Array(17).fill(1) }),
    JSON.stringify({ ...HELLO, suites: [0] }),
    JSON.stringify({ ...HELLO, commit: undefined }),
    JSON.stringify({ ...HELLO, more: 1 }),
  ])("of another form is refused: %s", async (text) => {
    expect(await hello(utf8(text))).toBeInstanceOf(PeerError);
  });

  test("with an ephemeral key of low order is refused", async () => {
    const state = new SymmetricState(FIRST_SUITE, prologue(bindingOf(HOST_SENDS)));
    const none = new Uint8Array(32);
    state.mixHash(none);
    state.mixKey(none);
    const message = concat(none, state.encryptAndHash(encodeJson(HELLO)));
    const error = await refused(hostOf(HOST_SENDS).receive1(message));
    expect(error).toMatchObject({ detail: "public_key_low_order" });
  });

  test("of any bytes is a protocol error", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (message) => {
        const error = await refused(hostOf(HOST_SENDS).receive1(message));
        expect(error).toBeInstanceOf(PeerError);
        expect(error).toMatchObject({ code: "protocol" });
      }),
    );
  });

  test("that holds anything is answered, or an error of its kind", async () => {
    const some = fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      fc
        .dictionary(fc.constantFrom(...Object.keys(HELLO)), fc.jsonValue(), { maxKeys: 1 })
        .map((changes) => encodeJson({ ...HELLO, ...(changes as JsonObject) })),
    );
    await fc.assert(
      fc.asyncProperty(some, async (payload) => {
        const error = await hello(payload);
        if (error instanceof Failure) expect(error.code).toBe("version_unsupported");
        else if (error) expect(error).toBeInstanceOf(PeerError);
      }),
    );
  });
});

test("a host that chooses what was not offered is refused", async () => {
  const [guest, host] = [guestOf(HOST_SENDS), hostOf(HOST_SENDS)];
  let message2: Bytes;
  VERSIONS.push(2);
  try {
    message2 = await host.receive1(guest.message1());
  } finally {
    VERSIONS.pop();
  }
  expect(await refused(guest.receive2(message2))).toMatchObject({ code: "version_unsupported" });
});

describe("message 3", () => {
  const vector = () => bytes(HOST_SENDS.expect.messages[2]);
  const waiting = async (): Promise<HostHandshake> => {
    const host = hostOf(HOST_SENDS);
    await host.receive1(bytes(HOST_SENDS.expect.messages[0]));
    return host;
  };

  /** What a host makes of message 3: nothing, or an error. */
  const reading = (host: HostHandshake, message: Bytes): unknown => {
    try {
      host.receive3(message);
      return null;
    } catch (error) {
      return error;
    }
  };

  test("of any bytes proves nobody, and says no more", async () => {
    const changed = fc
      .tuple(fc.nat({ max: vector().length - 1 }), fc.integer({ min: 1, max: 255 }))
      .map(([place, change]) => vector().map((octet, at) => octet ^ (at === place ? change : 0)));
    const short = fc.nat({ max: vector().length - 1 }).map((end) => vector().subarray(0, end));
    const some = fc.oneof(fc.uint8Array({ maxLength: 300 }), changed, short);
    await fc.assert(
      fc.asyncProperty(some, async (message) => {
        const error = reading(await waiting(), message);
        expect(error).toBeInstanceOf(PeerError);
        expect(error).toMatchObject({ code: "guest_unproven", detail: "" });
      }),
    );
  });

  test("of who has the link, that holds anything, is a protocol error", async () => {
    const cut = fc.constantFrom(prefixed(utf8("{}")), concat(prefixed(utf8("{}")), ZEROS));
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 200 }), cut), async (payload) => {
        const guest = guestOf(HOST_SENDS);
        const [noise, { secrets }] = [guest["noise"], guest["input"]];
        guest.message1();
        noise.read2(bytes(HOST_SENDS.expect.messages[1]));
        const [head] = noise.begin3(FIRST_SUITE.psk(secrets));
        const error = reading(await waiting(), noise.finish3(head, payload));
        expect(error).toBeInstanceOf(PeerError);
        expect(error).toMatchObject({ code: "protocol" });
      }),
    );
  });
});
