/** The ways to the host, as far as the first description: what the page is asked for, and what is refused. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test, vi } from "vitest";

import type { GuestSeat } from "../../src/connect/rendezvous";
import { Transports } from "../../src/connect/transports";
import type { HttpsCall, RtcCall } from "../../src/events";
import { PASSED_ON } from "../../src/lanes/channel";
import { HttpsConnections, laneUrl } from "../../src/lanes/https/connection";
import { LaneLost } from "../../src/lanes/lane";
import { PeerConnections } from "../../src/lanes/webrtc/connection";
import { sha256, type Bytes } from "../../src/protocol/codec";
import type { IceServer } from "../../src/protocol/ice_server";
import { NO_POLICY } from "../../src/protocol/policy";
import { deriveKeys } from "../../src/protocol/link";
import { Sealer, type Description, type Knock, type Signal } from "../../src/protocol/signal";

beforeAll(() => sodium.ready);

const ATTEMPT = new Uint8Array(16).fill(3);
const TURN = { urls: "turn:192.0.2.9?transport=udp", username: "somebody", credential: "word" };
const STUN = { urls: "stun:192.0.2.9" };

/** An attempt, whose host is the test. */
class Attempt {
  readonly calls: RtcCall[] = [];
  readonly opened: HttpsCall[] = []; // pairs of sockets that were asked for
  readonly https = new HttpsConnections((call) => this.opened.push(call));
  readonly transports = new Transports(
    new PeerConnections((call) => this.calls.push(call)),
    this.https,
  );
  private readonly keys = deriveKeys(new Uint8Array(32).fill(5));
  private readonly sealing = new Sealer(
    this.keys.signalToGuest,
    this.keys.room,
    ATTEMPT,
    "to_guest",
  );
  private readonly opening = new Sealer(this.keys.signalToHost, this.keys.room, ATTEMPT, "to_host");
  private readonly waiting: (Bytes | null)[] = [];
  private wake: () => void = () => {};
  readonly said: Signal[] = [];

  connect(...ice: IceServer[]) {
    const seat = {
      attempt: ATTEMPT,
      ice,
      policy: NO_POLICY,
      send: (envelope: Bytes) => this.said.push(this.opening.open(envelope)),
      recv: async () => {
        while (!this.waiting.length) await new Promise<void>((resolve) => (this.wake = resolve));
        return this.waiting.shift()!;
      },
    };
    const given = { passphrase: false, hostSends: true };
    return this.transports.connectGuest(seat as unknown as GuestSeat, this.keys, given);
  }

  /** Say a signal; null is the end of the attempt. */
  say(signal: Signal | null): void {
    const nonce = sodium.randombytes_buf(24);
    this.waiting.push(signal === null ? null : this.sealing.seal(signal, nonce));
    this.wake();
  }

  describe({ relayed, nonceHost = new Uint8Array(16).fill(6) }: Partial<Description>): void {
    const { nonceGuest } = this.said[0] as Knock;
    this.say({
      type: "description",
      nonceGuest,
      nonceHost,
      ufrag: "ufra",
      password: "p".repeat(22),
      fingerprint: new Uint8Array(32).fill(7),
      setup: "actpass",
      maxMessageSize: 262_144,
      candidates: [],
      relayed: relayed!,
    });
  }

  /** The host serves this page: by these tokens. */
  offerHttps({ nonceHost = new Uint8Array(16).fill(6), nonceGuest = this.nonceGuest } = {}): void {
    const [control, data] = [new Uint8Array(32).fill(8), new Uint8Array(32).fill(9)];
    this.say({ type: "https", nonceGuest, nonceHost, control, data });
  }

  private get nonceGuest(): Bytes {
    return (this.said[0] as Knock).nonceGuest;
  }

  /** The servers that a connection was asked for with, by the order in which it was. */
  get ice() {
    return this.calls.flatMap((call) => (call.op === "answer" ? [call.ice] : []));
  }
}

test("a direct connection asks for the outer address alone, a relayed one has the relay", async () => {
  const attempt = new Attempt();
  attempt.connect(TURN).catch(() => {});
  expect(attempt.said[0]).toMatchObject({ type: "knock", kind: "browser", relayOnly: false });
  attempt.describe({ relayed: false });
  await vi.waitFor(() => expect(attempt.ice.length).toBe(1));
  expect(attempt.transports.obstacle).toBe("relay_unused");
  attempt.describe({ relayed: true });
  await vi.waitFor(() => expect(attempt.ice.length).toBe(2));
  expect(attempt.ice).toEqual([[STUN], [TURN]]);
  expect(attempt.transports.obstacle).toBe("relay_silent");
  attempt.transports.open();
  attempt.transports.close();
  expect(attempt.calls.filter(({ op }) => op === "close").length).toBe(2);
});

test("without a relay of the server none is used, whatever the host describes", async () => {
  const attempt = new Attempt();
  const connecting = attempt.connect(STUN);
  attempt.describe({ relayed: true });
  attempt.say(null);
  await expect(connecting).rejects.toBeInstanceOf(LaneLost);
  expect(attempt.ice).toEqual([]);
  expect(attempt.transports.obstacle).toBe("no_relay");
});

test("an attempt that ends before anything was described is lost", async () => {
  const attempt = new Attempt();
  const connecting = attempt.connect(STUN, TURN);
  attempt.say(null);
  await expect(connecting).rejects.toBeInstanceOf(LaneLost);
});

test("a second description with another nonce is refused", async () => {
  const attempt = new Attempt();
  const connecting = attempt.connect(TURN);
  attempt.describe({ relayed: false });
  attempt.describe({ relayed: true, nonceHost: new Uint8Array(16) });
  await expect(connecting).rejects.toThrow("description_of_another_attempt");
});

test.each<Signal>([
  { type: "knock", nonceGuest: new Uint8Array(16), kind: "native", relayOnly: false },
  { type: "direct", addresses: [], port: 4000, certificate: new Uint8Array(9), outer: null },
])("$type may not come from the host", async (signal) => {
  const attempt = new Attempt();
  const connecting = attempt.connect();
  attempt.say(signal);
  await expect(connecting).rejects.toThrow("signal_out_of_turn");
});

test("a page of the host's own comes by HTTPS, bound to the tokens of its lanes", async () => {
  const attempt = new Attempt();
  const connecting = attempt.connect();
  attempt.offerHttps();
  await vi.waitFor(() => expect(attempt.opened.length).toBe(1));
  const [control, data] = [new MessageChannel(), new MessageChannel()];
  attempt.https.take({ connection: 1, control: control.port1, data: data.port1 });
  for (const { port2 } of [control, data]) port2.postMessage(PASSED_ON.open);
  const { connection, binding, maxMessageSize } = await connecting;
  const tokens = [new Uint8Array(32).fill(8), new Uint8Array(32).fill(9)];
  expect([attempt.opened[0]!.control, attempt.opened[0]!.data]).toEqual(tokens.map(laneUrl));
  expect(connection.path).toBe("https");
  expect(binding.fingerprintHost).toEqual(sha256(tokens[0]!));
  expect(binding.fingerprintGuest).toEqual(sha256(tokens[1]!));
  expect(binding.nonceHost).toEqual(new Uint8Array(16).fill(6));
  expect(maxMessageSize).toBe(262_144);
  connection.close();
  for (const { port2 } of [control, data]) port2.close();
});

test("where its lanes do not open, it goes on by WebRTC", async () => {
  const attempt = new Attempt();
  attempt.connect(STUN).catch(() => {});
  attempt.offerHttps();
  await vi.waitFor(() => expect(attempt.opened.length).toBe(1));
  const [control, data] = [new MessageChannel(), new MessageChannel()];
  attempt.https.take({ connection: 1, control: control.port1, data: data.port1 });
  data.port2.postMessage(PASSED_ON.closed);
  attempt.describe({ relayed: false });
  await vi.waitFor(() => expect(attempt.ice).toEqual([[STUN]]));
  for (const { port2 } of [control, data]) port2.close();
});

test("HTTPS that comes behind a description is of no use and does no harm", async () => {
  const attempt = new Attempt();
  attempt.connect(STUN).catch(() => {});
  attempt.describe({ relayed: false });
  attempt.offerHttps();
  attempt.describe({ relayed: false });
  await vi.waitFor(() => expect(attempt.ice.length).toBe(1));
  expect(attempt.opened).toEqual([]);
});

test.each([
  ["twice", (one: Attempt) => one.offerHttps(), "signal_out_of_turn"],
  [
    "for another attempt",
    (one: Attempt) => one.describe({ relayed: false, nonceHost: new Uint8Array(16) }),
    "description_of_another_attempt",
  ],
])("HTTPS %s is refused", async (_, follow, error) => {
  const attempt = new Attempt();
  const connecting = attempt.connect(STUN);
  attempt.offerHttps();
  follow(attempt);
  await expect(connecting).rejects.toThrow(error);
});

test("HTTPS that echoes another nonce is refused", async () => {
  const attempt = new Attempt();
  const connecting = attempt.connect(STUN);
  attempt.offerHttps({ nonceGuest: new Uint8Array(16) });
  await expect(connecting).rejects.toThrow("description_of_another_attempt");
  expect(attempt.opened).toEqual([]);
});
