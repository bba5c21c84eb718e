/** Lanes over channels and ports, and the worker's proxy of connections that a page makes. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test, vi } from "vitest";

import type { RtcCall } from "../../src/events";
import { LaneLost } from "../../src/lanes/lane";
import { RecipientMultipath } from "../../src/lanes/multipath";
import { ChannelLane, PASSED_ON } from "../../src/lanes/channel";
import { PeerConnections } from "../../src/lanes/webrtc/connection";
import { answer } from "../../src/lanes/webrtc/negotiation";
import { utf8 } from "../../src/protocol/codec";
import { PeerError } from "../../src/protocol/errors";
import type { Description, Signal } from "../../src/protocol/signal";

beforeAll(() => sodium.ready);

const NONCE = new Uint8Array(16).fill(5);
const OFFER: Description = {
  type: "description",
  nonceGuest: NONCE,
  nonceHost: new Uint8Array(16).fill(6),
  ufrag: "ufra",
  password: "p".repeat(22),
  fingerprint: new Uint8Array(32).fill(7),
  setup: "actpass",
  maxMessageSize: 262_144,
  candidates: [],
  relayed: false,
};
const CANDIDATE = "candidate:1 1 udp 1 192.0.2.1 5000 typ host";
const SDP = [
  "a=ice-ufrag:abcd",
  `a=ice-pwd:${"q".repeat(22)}`,
  `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}`,
  "a=setup:active",
].join("\r\n");

/** A page that answers every description with lanes over ports, and opens them when told. */
class Page {
  readonly calls: RtcCall[] = [];
  readonly ports = new Map<number, MessagePort[]>();
  readonly connections = new PeerConnections((call) => this.take(call));

  private take(call: RtcCall): void {
    this.calls.push(call);
    if (call.op !== "answer") return;
    const { connection } = call;
    const [control, data] = [new MessageChannel(), new MessageChannel()];
    this.ports.set(connection, [control.port1, data.port1]);
    const lanes = { control: control.port2, data: data.port2 };
    this.connections.take({ connection, type: "lanes", ...lanes });
    this.connections.take({ connection, type: "candidate", line: CANDIDATE }); // before the answer
    this.connections.take({ connection, type: "described", sdp: SDP });
  }

  open(connection: number): void {
    for (const port of this.ports.get(connection)!) port.postMessage(PASSED_ON.open);
  }

  close(): void {
    for (const port of [...this.ports.values()].flat()) port.close();
  }
}

/** Signals as they are put in. */
function inbox(...signals: Signal[]) {
  return async (): Promise<Signal> => signals.shift() ?? new Promise<never>(() => {});
}

describe("a lane", () => {
  async function pair() {
    const { port1, port2 } = new MessageChannel();
    return { far: port1, lane: new ChannelLane(port2) };
  }

  test("hands on what came before anybody asked, in order", async () => {
    const { far, lane } = await pair();
    for (const text of ["a", "b"]) far.postMessage(utf8(text).buffer);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const got: string[] = [];
    lane.onMessage = (message) => got.push(new TextDecoder().decode(message));
    far.postMessage(utf8("c").buffer);
    await vi.waitFor(() => expect(got).toEqual(["a", "b", "c"]));
    far.close();
  });

  test("is lost when it is closed, floods before anybody asks, or carries text", async () => {
    for (const misdeed of [
      (far: MessagePort) => far.postMessage(PASSED_ON.closed),
      (far: MessagePort) => far.postMessage("text"),
      (far: MessagePort) => {
        for (let i = 0; i < 65; i++) far.postMessage(new ArrayBuffer(1));
      },
    ]) {
      const { far, lane } = await pair();
      const lost = vi.fn();
      lane.onLost = lost;
      misdeed(far);
      await vi.waitFor(() => expect(lost).toHaveBeenCalled());
      far.close();
    }
  });

  test("tells nothing more once it is closed here", async () => {
    const { far, lane } = await pair();
    const lost = vi.fn();
    lane.onLost = lost;
    lane.close();
    far.postMessage("text");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(lost).not.toHaveBeenCalled();
    far.close();
  });
});

describe("an answer", () => {
  test("comes with candidates that were found before it, and waits for both lanes", async () => {
    const page = new Page();
    const said: Signal[] = [];
    const connection = page.connections.open();
    const more: Signal = {
      type: "candidates",
      candidates: [
        { foundation: "2", priority: 1, address: "192.0.2.2", port: 4000, kind: "host" },
      ],
      relayed: false,
    };
    const answering = answer(connection, OFFER, NONCE, (one) => said.push(one), inbox(more));
    await vi.waitFor(() => expect(said.length).toBe(2));
    expect(said.map((one) => one.type)).toEqual(["description", "candidates"]);
    expect(page.calls.map((call) => call.op)).toEqual(["answer", "candidate"]);
    page.open(1);
    expect((await answering).own.ufrag).toBe("abcd");
    page.close();
  });

  test("is refused to a description of another attempt, and to signals out of turn", async () => {
    const page = new Page();
    const mute = () => {};
    const other = { ...OFFER, nonceGuest: new Uint8Array(16) };
    await expect(
      answer(page.connections.open(), other, NONCE, mute, inbox()),
    ).rejects.toBeInstanceOf(PeerError);
    const knock: Signal = { type: "knock", nonceGuest: NONCE, kind: "native", relayOnly: false };
    await expect(
      answer(page.connections.open(), OFFER, NONCE, mute, inbox(knock)),
    ).rejects.toBeInstanceOf(PeerError);
    page.close();
  });

  test("waits on when the server has said all", async () => {
    const page = new Page();
    const silent = async () => {
      throw new LaneLost();
    };
    const answering = answer(page.connections.open(), OFFER, NONCE, () => {}, silent);
    await new Promise((resolve) => setTimeout(resolve, 20));
    page.open(1);
    expect((await answering).own.ufrag).toBe("abcd");
    page.close();
  });
});

test("what happens to a connection reaches it alone, and nothing once it is closed", () => {
  const page = new Page();
  const [one, other] = [page.connections.open(), page.connections.open()];
  const lost = [vi.fn(), vi.fn()];
  [one.onLost, other.onLost] = lost as unknown as [() => void, () => void];
  page.connections.take({ connection: 2, type: "path", relayed: true });
  expect([one.path, other.path]).toEqual(["direct", "relayed"]);
  page.connections.take({ connection: 2, type: "lost" });
  one.close();
  page.connections.take({ connection: 1, type: "lost" });
  expect(lost.map((one) => one.mock.calls.length)).toEqual([0, 1]);
});

describe("further connections", () => {
  function multipath(mayAdd = true) {
    const page = new Page();
    const lanes = { signal: vi.fn(), opened: vi.fn(), takeIn: vi.fn(), failed: vi.fn() };
    const open = () => page.connections.open();
    const multipath = new RecipientMultipath(open, NONCE, mayAdd, lanes, lanes.takeIn);
    return { page, lanes, multipath };
  }

  test("open when they are asked for, and carry messages under their number", async () => {
    const { page, lanes, multipath: paths } = multipath();
    paths.signalled(7, OFFER);
    await vi.waitFor(() => expect(lanes.signal).toHaveBeenCalledTimes(2));
    page.open(1);
    await vi.waitFor(() => expect(lanes.opened).toHaveBeenCalledWith(7));
    page.ports.get(1)![1]!.postMessage(utf8("range").buffer);
    await vi.waitFor(() => expect(lanes.takeIn).toHaveBeenCalledWith(utf8("range"), 7));
    paths.close();
    expect(page.calls.at(-1)).toEqual({ op: "close", connection: 1 });
    page.close();
  });

  test("are not made where a relay must carry everything, whatever the sender says", async () => {
    const { page, multipath: paths } = multipath(false);
    paths.signalled(7, OFFER);
    expect(page.calls).toEqual([]);
    page.close();
  });

  test("are no more than eight, and one that is lost leaves its place", async () => {
    const { page, multipath: paths } = multipath();
    for (let number = 1; number <= 9; number++) paths.signalled(number, OFFER);
    expect(page.calls.filter((call) => call.op === "answer").length).toBe(8);
    page.connections.take({ connection: 3, type: "lost" });
    await vi.waitFor(() => expect(page.calls.at(-1)).toEqual({ op: "close", connection: 3 }));
    paths.signalled(10, OFFER);
    expect(page.calls.at(-1)).toMatchObject({ op: "answer", connection: 9 });
    page.close();
  });

  test("of a sender that breaks the protocol end the session", async () => {
    const { page, lanes, multipath: paths } = multipath();
    paths.signalled(1, { ...OFFER, nonceGuest: new Uint8Array(16) });
    await vi.waitFor(() => expect(lanes.failed).toHaveBeenCalledWith(expect.any(PeerError)));
    page.close();
  });
});
