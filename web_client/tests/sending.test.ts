/** A page that sends, against guests that come and go, servers that misbehave, reloads and quick clicks. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";

import { HostSeat, type ServerSocket } from "../src/connect/rendezvous";
import { Transports } from "../src/connect/transports";
import type { Event, RtcCall } from "../src/events";
import { HostInvitation } from "../src/invitation/host";
import { PeerConnections, type Connection } from "../src/lanes/webrtc/connection";
import { type Bytes } from "../src/protocol/codec";
import { Failure } from "../src/protocol/errors";
import { NO_POLICY } from "../src/protocol/policy";
import { deriveKeys, hostCommitment, linkText, pskSecrets } from "../src/protocol/link";
import { Results } from "../src/protocol/manifest";
import { CipherState } from "../src/protocol/noise";
import * as receipts from "../src/protocol/receipt";
import { RangeSealer, Stream } from "../src/protocol/seal";
import { RecipientSession } from "../src/protocol/session";
import { SendingLanes, OutgoingStream } from "../src/protocol/session/flow";
import { Sealer } from "../src/protocol/signal";
import { FIRST_SUITE } from "../src/protocol/suite";
import { Home } from "../src/state/home";
import { Selection, list } from "../src/storage/listing";
import type { Connected } from "../src/transfer/driver";
import { Send } from "../src/transfer/send";
import { SenderTransfer, prepareNew, newTransferId } from "../src/transfer/sender";
import { Sending } from "../src/sending";
import { MemoryConnection } from "./transfer/remote";
import { signer } from "./protocol/pair";

beforeAll(() => sodium.ready);
const breath = (ms = 30) => new Promise((go) => setTimeout(go, ms));
const of = (path: string, size = 3) => ({
  path,
  file: new File([new Uint8Array(size)], path.split("/").at(-1)!),
});

describe("selection", () => {
  test("what was left out does not come back with the next portion", () => {
    const selection = new Selection(() => {});
    selection.add([of("study/1"), of("study/2")], 1);
    selection.remove("study");
    selection.add([of("study/3")], 1);
    expect(selection.names).toEqual([]);
  });

  const folder = (name: string, children: () => any): any => ({
    kind: "directory",
    name,
    values: async function* () {
      yield* await children();
    },
  });
  const file = (name: string) => ({
    kind: "file",
    name,
    getFile: async () => new File([new Uint8Array(10)], name),
  });

  test("what was left out and chosen again is counted once", async () => {
    const selection = new Selection(() => {});
    let go!: () => void;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const slow = folder("study", async () => {
      await gate;
      return [file("a"), file("b")];
    });
    selection.add([{ handle: slow }], 1);
    selection.remove("study");
    selection.add([{ handle: slow }], 2);
    go();
    await selection.whole();
    expect([selection.files, selection.folders]).toEqual([2, 1]);
  });

  test("a folder that cannot be sent can be left out again", async () => {
    const selection = new Selection(() => {});
    let deep = folder("deepest", async () => []);
    for (let i = 0; i < 70; i++) {
      const inner = deep;
      deep = folder(`f${i}`, async () => [inner]);
    }
    selection.add([{ handle: deep }], 1);
    await breath();
    expect(selection.busy).toBe(false);
    selection.remove(deep.name);
    selection.add([of("a.txt")], 2);
    await expect(list(selection, () => {}, 0)).resolves.toBeDefined();
  });
});

describe("transports", () => {
  const ATTEMPT = new Uint8Array(16).fill(3);
  const TURN = { urls: "turn:192.0.2.9?transport=udp", username: "somebody", credential: "word" };
  test("nothing is opened once it was closed", async () => {
    vi.useFakeTimers();
    const calls: RtcCall[] = [];
    const transports = new Transports(new PeerConnections((call) => calls.push(call)));
    const keys = deriveKeys(new Uint8Array(32).fill(5));
    const guest = new Sealer(keys.signalToHost, keys.room, ATTEMPT, "to_host");
    const waiting: Bytes[] = [];
    let wake = () => {};
    const seat = {
      attempt: ATTEMPT,
      ice: [TURN],
      policy: NO_POLICY,
      send: () => {},
      recv: async () => {
        while (!waiting.length) await new Promise<void>((go) => (wake = go));
        return waiting.shift()!;
      },
    };
    const say = (signal: any) => {
      waiting.push(guest.seal(signal, sodium.randombytes_buf(24)));
      wake();
    };
    const connecting = transports.connectHost(seat, keys, { passphrase: false, hostSends: true });
    say({ type: "knock", nonceGuest: new Uint8Array(16), kind: "browser", relayOnly: false });
    say({ type: "knock", nonceGuest: new Uint8Array(16), kind: "browser", relayOnly: false }); // out of turn
    await expect(connecting).rejects.toThrow("signal_out_of_turn");
    transports.close();
    await vi.advanceTimersByTimeAsync(5000);
    vi.useRealTimers();
    const opened = calls.filter(({ op }) => op === "offer").length;
    const closed = calls.filter(({ op }) => op === "close").length;
    expect([opened, closed]).toEqual([1, 1]);
  });
});

test("a server that says `created` twice is only a server that misbehaves", async () => {
  let socket!: ServerSocket;
  const keys = deriveKeys(new Uint8Array(32).fill(5));
  const open = () =>
    (socket = { onopen: null, onmessage: null, onclose: null, send: () => {}, close: () => {} });
  const seat = new HostSeat("https://example.org", keys, 600, new Uint8Array(32), open, {
    onPolicy: () => {},
    onServer: () => {},
    onAttempt: () => {},
  });
  void seat.run();
  await breath();
  const created = { data: JSON.stringify({ type: "created" }) };
  socket.onmessage!(created);
  expect(() => socket.onmessage?.(created)).not.toThrow(); // in the worker: the page says `ended`
});

test("memory of a range that still waits to be sent is not used again", () => {
  const streams = new Map([[Stream.DATA as any, new OutgoingStream(1e9)]]);
  const lanes = new SendingLanes(65536, streams);
  for (let i = 0; i < 2; i++) lanes.add(lanes.number()!, 1);
  const sealer = new RangeSealer(FIRST_SUITE, sodium.crypto_box_keypair().publicKey);
  const header = {
    transferId: new Uint8Array(16),
    stream: Stream.DATA,
    flags: 0,
    offset: 0,
    length: 1000,
  };
  const message = sealer.seal(header, new Uint8Array(1000).fill(1));
  const before = message.slice();
  lanes.sent(1, header, message, 0);
  lanes.stall(5); // lane 1 brings nothing for 3 s: lent
  const [, taken] = lanes.reinjection.take()!; // lane 2 has it, and waits for room
  lanes.drop(1); // lane 1 is closed
  const again = lanes.reinjection.take()!; // lane 0 has it as well
  lanes.sent(0, again[0], again[1], 6);
  lanes.acknowledged([[0, 1]], 6.1);
  lanes.landed.splice(0).forEach((one) => sealer.release(one));
  sealer.seal({ ...header, offset: 1000 }, new Uint8Array(1000).fill(2)); // the next range
  expect(Buffer.from(taken).equals(Buffer.from(before))).toBe(true); // what lane 2 is about to send
});

async function sent(files = ["hello"], over: any = {}) {
  const home = await Home.open();
  const [me, guest] = [signer(1, "s"), signer(2, "r")];
  const secret = new Uint8Array(32).fill(5);
  const link = linkText({
    origin: "https://example.org",
    secret,
    commitment: hostCommitment(secret, me.public),
    passphrase: false,
  });
  const record: any = {
    transferId: newTransferId(),
    link,
    owner: new Uint8Array(32),
    secrets: pskSecrets(deriveKeys(secret), null),
    identity: me.public,
    label: "s",
    verify: false,
    to: null,
    expiresAt: Date.now() + 60_000,
    manifestHash: null,
    files: 1,
    total: 0,
    peer: null,
    peerLabel: "",
    confirmed: false,
    accepted: false,
    reached: 0,
    durable: 0,
    closings: [],
    ...over,
  };
  const selection = new Selection(() => {});
  selection.add(
    files.map((name) => ({ path: name, file: new File([name], name) })),
    1,
  );
  const told: Event[] = [];
  const transfer = new SenderTransfer(
    home,
    me,
    record,
    () => prepareNew(selection, () => {}),
    Boolean(over.accepted),
    (event) => told.push(event),
  );
  const asked: string[] = [];
  const around: any = {
    peerConnections: new PeerConnections(() => {}),
    tell: (event: Event) => told.push(event),
    ask: (kind: string) => {
      asked.push(kind);
      told.push({ event: "question", kind } as any);
      return new Promise((go) => (around.answer = go));
    },
    askToken: () => new Promise(() => {}),
    openSocket: () => ({
      onopen: null,
      onmessage: null,
      onclose: null,
      send: () => {},
      close: () => {},
    }),
  };
  return { home, me, guest, record, transfer, told, asked, around };
}

function link({ me, guest }: any, early: Bytes[] = []) {
  const [there, back] = [new Uint8Array(32).fill(3), new Uint8Array(32).fill(4)];
  const keys = sodium.crypto_box_keypair();
  const peer = (one: any, label: string) => ({
    identity: one.public,
    label,
    software: "t",
    verify: false,
    capabilities: ["resume"],
  });
  const secured = (of: any, label: string, send: Bytes, receive: Bytes) => ({
    peer: peer(of, label),
    digits: "0000-0000-0000",
    transcript: new Uint8Array(32),
    suite: FIRST_SUITE,
    send: new CipherState(send),
    receive: new CipherState(receive),
    sessionKey: keys.publicKey,
  });
  const connection = new MemoryConnection();
  const z = (n: number) => new Uint8Array(n);
  const connected: Connected = {
    binding: {
      room: z(16),
      attempt: z(16),
      nonceGuest: z(16),
      nonceHost: z(16),
      fingerprintHost: z(32),
      fingerprintGuest: z(32),
      passphrase: false,
      hostSends: true,
    },
    identity: me,
    verify: false,
    secured: secured(guest, "r", there, back) as any,
    sessionPrivate: z(0),
    connection: connection as unknown as Connection,
    open: () => new PeerConnections(() => {}).open(),
    relayOnly: false,
    maxMessageSize: 262_144,
    stayed: async () => {},
    early: () => early,
  };
  const recipient = new RecipientSession(secured(me, "s", back, there) as any, guest, 0, {
    verify: false,
  });
  return { connected, connection, recipient };
}

/** What an invitation has of a guest that has proved itself. */
const greet = (connected: Connected, connection: MemoryConnection): any => ({
  opened: {
    connection,
    binding: connected.binding,
    frames: { rest: () => [] },
    relayOnly: false,
    maxMessageSize: 262_144,
  },
  transports: { open: connected.open },
  secured: connected.secured,
  handshake: { message4: () => new Uint8Array(1) },
});

test("nobody is asked about a guest that is gone", async () => {
  const all = await sent();
  const { connected } = link(all, [new Uint8Array(40)]); // garbage right behind message 3
  const send = new Send(connected, all.transfer, all.around, async () => {
    await all.around.ask("admit");
  });
  await expect(send.ended).rejects.toThrow();
  await breath();
  expect(all.asked).toEqual([]);
});

test("a recipient's `decline` ends the transfer (PROTOCOL.md 7)", async () => {
  const all = await sent();
  const invitation: any = new HostInvitation(all.transfer, all.around);
  const running = invitation.run(() => {});
  const { connected, connection, recipient } = link(all);
  const greeted = greet(connected, connection);
  const serving = invitation.admitAndServe(greeted).catch(() => {});
  await breath();
  connection.control.sent.shift(); // message 4
  all.around.answer(true);
  await breath(200);
  const said = connection.control.sent.splice(0);
  for (const frame of said) recipient.receiveFrame(frame, 0);
  // the manifest by the data lane is not needed for a decline: say it by hand
  (recipient as any).say("decline", 0);
  for (const frame of recipient.frames()) connection.control.deliver(frame);
  await serving;
  await breath();
  expect(
    all.told.filter((one: any) => one.event === "warning").map((one: any) => one.code),
  ).toEqual([]);
  expect(invitation.over).toBe(true);
  invitation.stop();
  await running;
});

test("a link that three guesses disarmed while somebody was looked at ends when that one has left", async () => {
  const all = await sent();
  const invitation: any = new HostInvitation(all.transfer, all.around);
  const running = invitation.run(() => {});
  const { connected, connection } = link(all);
  const greeted = greet(connected, connection);
  invitation.greet = async () => greeted;
  const left: number[] = [];
  invitation.onAttempt({ leave: () => left.push(1) });
  await breath();
  for (let i = 0; i < 3; i++) invitation.count(Object.assign(new Failure("guest_unproven")));
  connection.lose();
  await breath(100);
  const last: any = all.told.at(-1);
  expect([invitation.over, last.event === "state" && last.state]).toEqual([true, false]);
  invitation.stop();
  await running;
});

test("stop between two sessions is not lost", async () => {
  const all = await sent();
  const invitation: any = new HostInvitation(all.transfer, all.around);
  const running = invitation.run(() => {});
  const { connected, connection } = link(all);
  const greeted = greet(connected, connection);
  invitation.greet = async () => greeted;
  const outlives = all.transfer.outlives.bind(all.transfer);
  all.transfer.outlives = async (...args) => {
    const on = await outlives(...args);
    await breath(50);
    return on;
  }; // a slow disk
  invitation.onAttempt({ leave: () => {} });
  await breath();
  connection.lose();
  await breath(10);
  invitation.stop();
  await breath(150);
  expect(invitation.over).toBe(true);
  invitation.stop();
  await running;
});

test("what cannot be sent ends it: the guest that waits at the door is told", async () => {
  const all = await sent();
  let fail!: (error: unknown) => void;
  (all.transfer as any).prepareSources = () => new Promise((_, reject) => (fail = reject));
  const invitation: any = new HostInvitation(all.transfer, all.around);
  const running = invitation.run(() => {});
  const { connected, connection } = link(all);
  const greeted = greet(connected, connection);
  greeted.transports.close = () => {};
  invitation.greet = async () => greeted;
  invitation.onAttempt({ leave: () => {} });
  await breath();
  fail(new Failure("nothing_to_send", "nothing_readable"));
  await running;
  await breath(2500);
  expect(connection.closed).toBe(true);
});

test("the link's new end is noted where a transfer gets further", async () => {
  const all = await sent(["hello"], {
    accepted: true,
    peer: signer(2, "r").public,
    durable: 5,
    expiresAt: Date.now() + 1000,
  });
  const invitation: any = new HostInvitation(all.transfer, all.around);
  all.transfer.durable = 1e9;
  invitation.keepTime();
  expect(invitation.seat.left).toBeGreaterThan(80_000);
  expect(all.transfer.record.expiresAt).toBeGreaterThan(Date.now() + 80_000_000);
});

test("a recipient that was let in has as long to come back as the operator lets links live", async () => {
  const all = await sent(["hello"], { peer: signer(2, "r").public, expiresAt: Date.now() + 1000 });
  const invitation: any = new HostInvitation(all.transfer, all.around);
  invitation.onPolicy({ operator: null, max_expires: 600, require: null, relay: null });
  await all.transfer.accepted();
  const left = all.transfer.record.expiresAt - Date.now();
  expect(left).toBeGreaterThan(590_000);
  expect(left).toBeLessThanOrEqual(600_000);
});

test("what both have signed before a reload is not called lost", async () => {
  const all = await sent(["hello"], { accepted: true, peer: signer(2, "r").public });
  await all.transfer.recallReceipt();
  expect(() => all.transfer.giveUp()).toThrow("connection_lost");
  vi.spyOn(receipts, "verify").mockReturnValue({ confirmed: true } as never);
  await all.home.receipts.store(all.record.transferId, new Uint8Array(9), null);
  await all.transfer.recallReceipt();
  expect(all.transfer.cut).toBe("signing");
  expect(all.transfer.giveUp()).toMatchObject({ ending: "complete", code: "receipt_unconfirmed" });
});

describe("sending", () => {
  beforeEach(() => {
    const locks = {
      held: new Set<string>(),
      request: async (name: string, options: any, work: any) => {
        if (typeof options === "function") return options({});
        if (locks.held.has(name)) return work(null);
        locks.held.add(name);
        return work({});
      },
      query: async () => ({ held: [...locks.held].map((name) => ({ name })) }),
    };
    vi.stubGlobal("navigator", { locks });
  });

  async function made() {
    const told: any[] = [];
    const sockets: string[] = [];
    const home = await Home.open();
    const around: any = {
      tell: (event: any) => told.push(event),
      persist: async () => true,
      ask: () => new Promise(() => {}),
      askToken: () => new Promise(() => {}),
      peerConnections: new PeerConnections(() => {}),
      openSocket: (url: string) => (
        sockets.push(url),
        { onopen: null, onmessage: null, onclose: null, send: () => {}, close: () => {} }
      ),
    };
    return { told, sockets, home, sending: new Sending(home, around) };
  }

  test("a transfer that is not there any more is not open in another tab", async () => {
    const { told, sending } = await made();
    await sending.takeUp(newTransferId(), false);
    expect(told.map(({ event }) => event)).toEqual(["gone", "home"]);
  });

  test("one that ended while the page was loaded anew is shown among those that are past", async () => {
    const { told, home, sending } = await made();
    const id = newTransferId();
    await home.receipts.store(id, new Uint8Array(9), null); // and its journal is dropped
    await sending.takeUp(id, false);
    expect(told.map(({ event }) => event)).toEqual(["gone", "history"]);
  });

  test("two clicks make one link", async () => {
    const { sockets, sending } = await made();
    sending.pick([of("a.txt")], 1, true);
    const options = {
      origin: "https://example.org",
      label: "me",
      passphrase: null,
      expires: 3600,
      verify: false,
      to: "",
      purpose: null,
      reason: "",
    };
    void sending.send(options);
    void sending.send(options);
    await breath(200);
    expect(sockets.length).toBe(1);
  });

  test("two clicks take it up once", async () => {
    const { sockets, sending, home, told } = await made();
    const one = of("a.txt");
    sending.pick([one], 1, true);
    const all = await sent(["a.txt"]);
    const identity = await home.identity.under("me");
    const selection = new Selection(() => {});
    selection.add([one], 1);
    const prepared = await prepareNew(selection, () => {});
    const { sha256 } = await import("../src/protocol/codec");
    const record = {
      ...all.record,
      identity: identity.public,
      manifestHash: sha256(prepared.data),
      label: "me",
    };
    const { kept } = await import("../src/state/sender_journal");
    await home.sending.begin(record, {
      manifest: prepared.data,
      kept: prepared.listing.sources.map(kept),
      roots: [],
    });
    const quick = home.sending.sources.bind(home.sending);
    home.sending.sources = async (id) => (await breath(100), quick(id)); // a long list
    void sending.takeUp(record.transferId, true); // by itself, after the reload
    await breath(30);
    void sending.takeUp(record.transferId, true); // a click on "Continue"
    await breath(400);
    expect([sockets.length, told.filter(({ event }) => event === "elsewhere").length]).toEqual([
      1, 0,
    ]);
  });

  test("... nor while it is looked what has changed", async () => {
    const { sockets, sending, home } = await made();
    const one = of("a.txt");
    sending.pick([one], 1, true);
    const all = await sent(["a.txt"]);
    const identity = await home.identity.under("me");
    const selection = new Selection(() => {});
    selection.add([one], 1);
    const prepared = await prepareNew(selection, () => {});
    const { sha256 } = await import("../src/protocol/codec");
    const record = {
      ...all.record,
      identity: identity.public,
      manifestHash: sha256(prepared.data),
      label: "me",
    };
    const { kept } = await import("../src/state/sender_journal");
    await home.sending.begin(record, {
      manifest: prepared.data,
      kept: prepared.listing.sources.map(kept),
      roots: [],
    });
    home.sending.results = async () => (await breath(100), undefined); // 200,000 files take their time
    void sending.takeUp(record.transferId, true);
    await breath(30);
    void sending.takeUp(record.transferId, true);
    await breath(400);
    expect(sockets.length).toBe(1);
  });

  test("what the recipient could not write is not called unreadable here after a reload", async () => {
    const { home } = await made();
    const one = of("a.txt");
    const all = await sent(["a.txt"]);
    const selection = new Selection(() => {});
    selection.add([one], 1);
    const prepared = await prepareNew(selection, () => {});
    const { sha256 } = await import("../src/protocol/codec");
    const { kept } = await import("../src/state/sender_journal");
    const { recall } = await import("../src/transfer/sender");
    const record = { ...all.record, manifestHash: sha256(prepared.data) };
    await home.sending.begin(record, {
      manifest: prepared.data,
      kept: prepared.listing.sources.map(kept),
      roots: [],
    });
    const results = Results.of(1);
    results.failed(0, 16); // of the recipient's; `offer` forgets it
    await home.sending.storeResults(record.transferId, results.encode());
    const again = await recall(home, record, async () => one.file);
    expect(again.prepared.listing.sources).not.toContain("unread");
  });
});

test("an entry that was withdrawn and is open again is not called changed (PROTOCOL.md 17)", async () => {
  const all = await sent();
  const { connected } = link(all);
  const send: any = new Send(connected, all.transfer, all.around, async () => {});
  const ended = send.ended.catch(() => {});
  send.prepared = await all.transfer.prepare();
  send.prepared.results.failed(0, 2); // in an earlier session it could not be read
  const seen: unknown[] = [];
  send.session.hashed = (entry: number) => seen.push(["hashed", entry]);
  send.session.withdraw = (entries: unknown) => seen.push(["withdraw", entries]);
  send.noteEnds({ finished: [[0, new Uint8Array(32).fill(9)]], withdrawn: [] }); // now it can
  send.stop();
  await ended;
  expect(seen).toEqual([["hashed", 0]]);
});
