/** The ways to the host, as far as the first description: what the page is asked for, and what is refused. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test, vi } from "vitest";

import type { GuestSeat } from "../../src/connect/rendezvous";
import { Transports } from "../../src/connect/transports";
import type { RtcCall } from "../../src/events";
import { LaneLost } from "../../src/lanes/lane";
import { PeerConnections } from "../../src/lanes/webrtc/connection";
import type { Bytes } from "../../src/protocol/codec";
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
  readonly transports = new Transports(new PeerConnections((call) => this.calls.push(call)));
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
