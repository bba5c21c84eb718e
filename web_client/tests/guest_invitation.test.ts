/** When a guest tries again, and when not. */
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";

import type { Event } from "../src/events";
import { GuestInvitation } from "../src/invitation/guest";
import { HttpsConnections } from "../src/lanes/https/connection";
import { PeerConnections } from "../src/lanes/webrtc/connection";
import { decodeBase64url } from "../src/protocol/codec";
import { deriveKeys, type Link } from "../src/protocol/link";
import { Sealer } from "../src/protocol/signal";
import type { Outcome } from "../src/transfer/outcome";
import type { RecipientTransfer } from "../src/transfer/recipient";
import { ATTEMPT, JOINED, ServedSocket } from "./connect/server";
import { signer } from "./protocol/pair";

beforeAll(() => sodium.ready);
beforeEach(() => {
  ServedSocket.reset();
  ServedSocket.reachable = false;
  vi.stubGlobal("WebSocket", ServedSocket);
  vi.useFakeTimers();
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

const LINK: Link = {
  origin: "https://example.org",
  secret: new Uint8Array(32).fill(1),
  commitment: new Uint8Array(16),
  passphrase: false,
};

/** A transfer as far as an invitation asks. */
class Asked {
  outcome: Outcome | null = null;
  recalled = false;
  underway: object | null = null;
  readonly moved = false;
  readonly cut = "lost";
  readonly unconfirmed = null;
  constructor(readonly goesOn = false) {}

  async recall(): Promise<void> {
    this.recalled = true;
  }
  brokeOff(failure: unknown): null {
    if (!this.goesOn) throw failure;
    return null;
  }
  async ready(): Promise<void> {}
  stop(): void {}
  async end(outcome: Outcome): Promise<void> {
    this.outcome = outcome;
  }
}

const connections = () => ({
  peerConnections: new PeerConnections(() => {}),
  httpsConnections: new HttpsConnections(() => {}),
});

function guest(transfer: Asked, { link = LINK, passphrase = null as string | null } = {}) {
  const told: Event[] = [];
  const invitation = new GuestInvitation(link, connections(), (event) => told.push(event));
  const identity = Promise.resolve(signer(1, "r"));
  const over = invitation.receive(transfer as unknown as RecipientTransfer, identity, passphrase);
  return { invitation, told, over };
}

test("a server that cannot be reached ends it where nothing was under way", async () => {
  const transfer = new Asked();
  const { over, told } = guest(transfer);
  await over;
  expect(transfer.recalled).toBe(true);
  expect(transfer.outcome).toMatchObject({ ending: "failed", code: "server_unreachable" });
  expect(told).toContainEqual({ event: "state", state: "opened" });
});

test("what is under way is tried again, after pauses that grow to five seconds", async () => {
  const transfer = new Asked(true);
  transfer.underway = {};
  const { invitation, told, over } = guest(transfer);
  await vi.advanceTimersByTimeAsync(18_000);
  const times = ServedSocket.made.map((socket) => socket.madeAt);
  expect(times.slice(1).map((time, i) => time - times[i]!)).toEqual([
    500, 1000, 2000, 4000, 5000, 5000,
  ]);
  expect(told).toContainEqual({ event: "state", state: "lost" });
  expect(told).toContainEqual({ event: "slow" });
  expect(told).not.toContainEqual({ event: "state", state: "opened" });
  invitation.stop();
  await over;
  expect(transfer.outcome?.code).toBe("cancelled");
});

test("a person who stops it while it connects is not kept waiting", async () => {
  ServedSocket.reachable = true; // and silent
  const transfer = new Asked(true);
  const { invitation, over } = guest(transfer);
  await vi.advanceTimersByTimeAsync(100);
  invitation.stop();
  await over;
  expect(transfer.outcome?.code).toBe("cancelled");
});

test("a server that says nothing is slow, and in the end there was no connection", async () => {
  ServedSocket.answer = (socket, { type }) => type === "join" && socket.say(JOINED);
  ServedSocket.reachable = true;
  const transfer = new Asked();
  const { told, over } = guest(transfer);
  await vi.advanceTimersByTimeAsync(6000);
  expect(told).toContainEqual({ event: "slow" });
  await vi.advanceTimersByTimeAsync(15_000);
  await over;
  expect(transfer.outcome?.code).toBe("no_connection");
});

const joinedUnder = (policy: unknown) => {
  ServedSocket.answer = (socket, { type }) => type === "join" && socket.say({ ...JOINED, policy });
  ServedSocket.reachable = true;
};

test("a link without a passphrase is not opened where one is required, and it is told", async () => {
  joinedUnder({ require: "passphrase", operator: "Example\u202e Hospital" });
  const transfer = new Asked();
  const { over, told } = guest(transfer);
  await over;
  expect(transfer.outcome).toMatchObject({ code: "not_allowed", detail: "policy_passphrase_link" });
  expect(told).toContainEqual({
    event: "policy",
    operator: "Example Hospital",
    max_expires: null,
    require: "passphrase",
    relay: null,
  });
});

test("what is under way goes on under rules that came later", async () => {
  joinedUnder({ require: "passphrase" });
  const transfer = new Asked(true);
  transfer.underway = {};
  const { invitation, over } = guest(transfer);
  await vi.advanceTimersByTimeAsync(3000);
  expect(transfer.outcome).toBe(null);
  invitation.stop();
  await over;
});

test("a relay that is required is asked for, and one that is forbidden is not used", async () => {
  const ice = { servers: [{ url: "turn:192.0.2.1", username: "u", credential: "c" }], ttl: 60 };
  const answer = (policy: unknown) => {
    ServedSocket.answer = (socket, { type }) =>
      type === "join" && socket.say({ ...JOINED, ice, policy });
  };
  ServedSocket.reachable = true;
  const keys = deriveKeys(LINK.secret);
  for (const [relay, relayOnly] of [
    ["required", true],
    ["forbidden", false],
  ] as const) {
    ServedSocket.reset();
    answer({ relay });
    const transfer = new Asked();
    const { over } = guest(transfer);
    await vi.advanceTimersByTimeAsync(10);
    const host = new Sealer(keys.signalToHost, keys.room, ATTEMPT, "to_host");
    const { body } = ServedSocket.made[0]!.sent[1] as { body: string };
    expect(host.open(decodeBase64url(body))).toMatchObject({ type: "knock", relayOnly });
    await vi.advanceTimersByTimeAsync(25_000);
    await over;
    const why = relay === "forbidden" ? "relay_against_policy" : "relay_unused";
    expect(transfer.outcome).toMatchObject({ code: "no_connection", detail: why });
  }
});

const left =
  (after: number) =>
  (socket: ServedSocket, { type }: { [name: string]: unknown }) => {
    if (type !== "join") return;
    socket.say(JOINED);
    setTimeout(() => socket.say({ type: "left", attempt: JOINED.attempt }), after);
  };

test("an introduction that broke off is tried again: a server may have gone", async () => {
  ServedSocket.answer = left(2000);
  ServedSocket.reachable = true;
  const transfer = new Asked();
  const { over } = guest(transfer);
  await vi.advanceTimersByTimeAsync(20_000);
  await over;
  expect(transfer.outcome?.code).toBe("no_connection");
  expect(ServedSocket.made.map((socket) => socket.madeAt)).toHaveLength(3);
});

test("one that broke off late is not: both sides have tried what they could", async () => {
  ServedSocket.answer = left(11_000);
  ServedSocket.reachable = true;
  const transfer = new Asked();
  const { over } = guest(transfer);
  await vi.advanceTimersByTimeAsync(12_000);
  await over;
  expect(transfer.outcome?.code).toBe("no_connection");
  expect(ServedSocket.made).toHaveLength(1);
});

test("a passphrase that cannot be one is refused before anybody is asked", async () => {
  const transfer = new Asked();
  const { over } = guest(transfer, { link: { ...LINK, passphrase: true }, passphrase: "" });
  await over;
  expect(transfer.outcome).toMatchObject({ code: "passphrase_wrong", delivered: null });
  expect(ServedSocket.made).toEqual([]);
});

test("an identity that cannot be had is an ending as any other", async () => {
  const transfer = new Asked();
  const invitation = new GuestInvitation(LINK, connections(), () => {});
  const refused = Promise.reject(new DOMException("", "QuotaExceededError"));
  await invitation.receive(transfer as unknown as RecipientTransfer, refused, null);
  expect(transfer.outcome).toMatchObject({ code: "internal", detail: "QuotaExceededError" });
});
