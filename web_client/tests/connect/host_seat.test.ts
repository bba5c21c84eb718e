/** The host's seat: what a server may say, and coming back. */
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";

import { HostSeat, type Attempt } from "../../src/connect/rendezvous";
import { WorkerSockets, PageSockets } from "../../src/connect/sockets";
import type { SocketCall } from "../../src/events";
import { encodeBase64url, sha256, utf8 } from "../../src/protocol/codec";
import { deriveKeys, type LinkKeys } from "../../src/protocol/link";
import { Failure } from "../../src/protocol/errors";
import { NO_POLICY, type Policy } from "../../src/protocol/policy";
import { ATTEMPT, ServedSocket } from "./server";

const OWNER = new Uint8Array(32).fill(5);
let keys: LinkKeys;
beforeAll(async () => {
  await sodium.ready;
  keys = deriveKeys(new Uint8Array(32).fill(1));
});
beforeEach(() => {
  ServedSocket.reset();
  vi.useFakeTimers();
  ServedSocket.answer = (socket, { type }) => type === "create" && socket.say({ type: "created" });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function seated(
  ttl = 3600,
  openSocket = (url: string, protocol: string) => new ServedSocket(url, protocol),
  asked: (policy: Policy) => void = () => {},
) {
  const [servers, attempts]: [boolean[], Attempt[]] = [[], []];
  const seat = new HostSeat("https://example.org", keys, ttl, OWNER, openSocket as never, {
    onPolicy: (policy) => asked(policy),
    onServer: (there) => servers.push(there),
    onAttempt: (attempt) => attempts.push(attempt),
  });
  const ended = seat.run().then(
    () => "closed",
    (error) => `${error.code} ${error.detail}`.trim(),
  );
  return { seat, servers, attempts, ended };
}
const soon = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const last = () => ServedSocket.made.at(-1)!;
const attempt = { type: "attempt", attempt: encodeBase64url(ATTEMPT) };
const envelope = (text: string) => ({
  ...attempt,
  type: "envelope",
  body: encodeBase64url(utf8(text)),
});

test("takes the room, and no more is said of the link than its hashes", async () => {
  const { seat, servers, ended } = seated();
  await soon();
  expect(servers).toEqual([true]);
  expect([last().url, last().protocol]).toEqual(["wss://example.org/signal", "handover.signal.1"]);
  expect(last().sent).toEqual([
    {
      type: "create",
      room: encodeBase64url(keys.room),
      join_hash: encodeBase64url(sha256(keys.join)),
      owner: encodeBase64url(OWNER),
      ttl: 3600,
    },
  ]);
  seat.close();
  expect(await ended).toBe("closed");
  expect(last().sent.at(-1)).toEqual({ type: "close" });
});

const saying = (policy: unknown) => {
  ServedSocket.answer = (socket, { type }) =>
    type === "create" && socket.say({ type: "created", policy });
};

test("what the operator asks is told before the server is there", async () => {
  saying({ max_expires: 600 });
  const order: unknown[] = [];
  const { seat, servers } = seated(3600, undefined, (policy) => order.push(policy, servers.length));
  await soon();
  expect(order).toEqual([{ ...NO_POLICY, max_expires: 600 }, 0]);
  seat.shorten(600);
  expect(seat.left).toBe(600);
  seat.extend(3600); // no longer than that
  expect(seat.left).toBe(600);
});

test("what the operator asks and this side cannot do ends it, whenever it is said", async () => {
  const refuse = (policy: Policy) => {
    if (policy.require) throw new Failure("not_allowed", "policy_passphrase");
  };
  const { servers, ended } = seated(3600, undefined, refuse);
  await soon();
  saying({ require: "passphrase" }); // it was restarted, with other rules
  last().close();
  await soon(1000);
  expect(servers).toEqual([true, false]);
  expect(await ended).toBe("not_allowed policy_passphrase");
  expect(last().sent.at(-1)).toEqual({ type: "close" });
});

test("a policy that is none is refused, as is one that asks for what nobody knows", async () => {
  for (const policy of [[], { require: "iris scan" }, { operator: 1 }]) {
    saying(policy);
    expect(await seated().ended).toBe("server_refused unexpected_answer");
  }
});

test("brings each attempt its envelopes, and its end", async () => {
  const { attempts } = seated();
  await soon();
  last().say(attempt);
  last().say(envelope("one"));
  expect(await attempts[0]!.recv()).toEqual(utf8("one"));
  attempts[0]!.send(utf8("back"));
  attempts[0]!.leave();
  expect(last().sent.slice(1)).toEqual([envelope("back"), { ...attempt, type: "leave" }]);
  last().say({ ...attempt, type: "left" });
  expect(await attempts[0]!.recv()).toBeNull();
});

test("ends an attempt that floods, and no other", async () => {
  const { attempts } = seated();
  await soon();
  const other = { ...attempt, attempt: encodeBase64url(new Uint8Array(16)) };
  last().say(attempt);
  last().say(other);
  for (let i = 0; i < 300; i++) last().say(envelope("x"));
  expect([attempts[0]!.over, attempts[1]!.over]).toEqual([true, false]);
  for (let i = 0; i < 20; i++) {
    const more = new Uint8Array(16).fill(i + 10);
    last().say({ ...attempt, attempt: encodeBase64url(more) });
  }
  expect(attempts.length).toBe(9); // eight at once, and one that is over
});

test("comes back when the server is gone, with the same owner, and says so", async () => {
  const { servers, attempts } = seated();
  await soon();
  last().say(attempt);
  last().close();
  expect(await attempts[0]!.recv()).toBeNull();
  await soon();
  expect(servers).toEqual([true, false]);
  await soon(600);
  expect(servers).toEqual([true, false, true]);
  expect(last().sent[0]).toMatchObject({ owner: encodeBase64url(OWNER), ttl: 3599 });
});

test("comes back by itself where the network may be another", async () => {
  const { seat, servers } = seated();
  await soon();
  seat.renew();
  await soon(600);
  expect(servers).toEqual([true, false, true]);
  expect(ServedSocket.made.map(({ readyState }) => readyState)).toEqual([3, 1]);
});

test.each([
  [{ type: "error", code: "full" }, "server_refused full"],
  [{ type: "error", code: "room_taken" }, "server_refused one_transfer"],
  [{ type: "error", code: "token_required" }, "token_required"],
  [{ type: "error", code: "token_required", sign_in: "/login" }, "token_required /login"],
  [{ type: "joined", attempt: encodeBase64url(ATTEMPT) }, "server_refused unexpected_answer"],
  ["no message", "server_refused unexpected_answer"],
])("ends where the first answer is %j", async (answer, why) => {
  ServedSocket.answer = (socket) => socket.say(answer);
  const { ended } = seated();
  await soon();
  expect(await ended).toBe(why);
});

test("ends where there is no server, or none that answers", async () => {
  ServedSocket.reachable = false;
  expect(await seated().ended).toBe("server_unreachable no_answer");
  ServedSocket.reachable = true;
  ServedSocket.answer = () => {};
  const { ended } = seated();
  await soon(10_000);
  expect(await ended).toBe("server_unreachable no_answer");
});

test("bears a server that refuses once it was there, until the link has expired", async () => {
  const { ended, servers } = seated(60);
  await soon();
  ServedSocket.answer = (socket) => socket.say({ type: "error", code: "rate_limited" });
  last().close();
  await soon(30_000);
  expect(servers.includes(false)).toBe(true);
  await soon(60_000);
  expect(await ended).toBe("expired");
});

test("gives a token where it has one", async () => {
  const { seat } = seated();
  seat.token = "of the hospital";
  await soon();
  seat.renew();
  await soon(600);
  expect(last().sent[0]).toMatchObject({ type: "create", token: "of the hospital" });
});

test("has its socket in the page", async () => {
  vi.stubGlobal("WebSocket", ServedSocket);
  const calls: SocketCall[] = [];
  const page = new PageSockets((event) => worker.take(event));
  const worker = new WorkerSockets((call) => {
    calls.push(call);
    page.call(call);
  });
  const { seat, servers, ended } = seated(3600, worker.openSocket as never);
  await soon();
  expect(servers).toEqual([true]);
  last().close();
  await soon(600);
  expect(servers).toEqual([true, false, true]);
  seat.close();
  expect(await ended).toBe("closed");
  expect(last().readyState).toBe(3);
  expect(calls.map(({ op }) => op)).toEqual([
    "open",
    "send",
    "close",
    "open",
    "send",
    "send",
    "close",
  ]);
});
