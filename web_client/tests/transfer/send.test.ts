/** The page's sender and recipient end to end in one process, over lanes in memory. */
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";

import { PeerConnections, type Connection } from "../../src/lanes/webrtc/connection";
import { same, type Bytes } from "../../src/protocol/codec";
import { Failure } from "../../src/protocol/errors";
import { RESUME, type Secured } from "../../src/protocol/handshake";
import { journalKey, storeKey } from "../../src/protocol/link";
import { CipherState } from "../../src/protocol/noise";
import * as receipts from "../../src/protocol/receipt";
import { FIRST_SUITE } from "../../src/protocol/suite";
import { Home } from "../../src/state/home";
import { Selection } from "../../src/storage/listing";
import type { SenderRecord } from "../../src/state/sender_journal";
import type { Connected } from "../../src/transfer/driver";
import { asFailure, type Outcome } from "../../src/transfer/outcome";
import { RecipientTransfer } from "../../src/transfer/recipient";
import { Send } from "../../src/transfer/send";
import { SenderTransfer, newTransferId, prepareNew, recall } from "../../src/transfer/sender";
import { SOFTWARE } from "../../src/version";
import { signer, type Signer } from "../protocol/pair";
import { MemoryDirectory } from "../storage/directory";
import { MemoryConnection, Visitor, type MemoryLane } from "./remote";

beforeAll(() => sodium.ready);
beforeEach(() => {
  const root = new MemoryDirectory("root");
  vi.stubGlobal("navigator", { storage: { getDirectory: async () => root } });
});
afterEach(() => vi.unstubAllGlobals());

const ROOM = "ab12";
const SECRET = new Uint8Array(32).fill(3);
const keysOf = (salt: Bytes, share: Bytes) => ({
  salt,
  store: storeKey(SECRET, share, salt),
  journal: journalKey(SECRET, salt),
});
const SIZE = 3_000_000;

const file = (name: string, byte: number, { size = SIZE, lastModified = 1 } = {}) => ({
  path: name,
  file: new File([new Uint8Array(size).fill(byte)], name, { lastModified }),
});
const FILES = () => [file("a", 1), file("b", 2), file("c", 3, { size: 0 })];

/** A lane's messages go over to its other end until the cable is cut, `most` bytes at most. */
class Cable {
  readonly ends = [new MemoryConnection(), new MemoryConnection()] as const;
  carried = 0;

  constructor(
    private readonly most = Infinity,
    private readonly still = 0, // milliseconds in which nothing comes through, before it is seen to be cut
  ) {
    for (const side of [0, 1] as const) {
      const [from, to] = [this.ends[side], this.ends[1 - side]!];
      this.wire(from.control, to.control);
      this.wire(from.data, to.data);
      from.close = () => setTimeout(() => to.onLost());
    }
  }

  private wire(from: MemoryLane, to: MemoryLane): void {
    from.send = (message) => {
      this.carried += message.length;
      const copy = message.slice();
      if (this.carried <= this.most) setTimeout(() => to.deliver(copy));
      else setTimeout(() => this.ends.forEach((end) => end.lose()), this.still);
    };
  }
}

/** Two homes and what is sent from one to the other. */
class Parties {
  readonly sender = signer(1, "Radiology");
  readonly recipient = signer(2, "Neurosurgery");
  readonly page = new Visitor();
  readonly peer = new Visitor();
  admit = (): Promise<void> => Promise.resolve(); // lets the recipient in

  private constructor(
    readonly from: Home,
    readonly to: Home,
    readonly record: SenderRecord,
  ) {}

  static async meet(): Promise<Parties> {
    const { public: identity } = signer(1, "");
    const record = {
      transferId: newTransferId(),
      ...{ link: "", owner: new Uint8Array(32), secrets: {}, identity, label: "Radiology" },
      ...{ verify: false, to: null, expiresAt: Date.now() + 3_600_000 },
      ...{ manifestHash: null, files: 0, total: 0, peer: null, peerLabel: "", confirmed: false },
      ...{ accepted: false, reached: 0, durable: 0, closings: [] },
    } as unknown as SenderRecord;
    return new Parties(await Home.open(), await Home.open(), record);
  }

  /** The sender's side of files that were chosen. */
  sending(files = FILES()): SenderTransfer {
    const selection = new Selection(() => {});
    selection.add(files, 0);
    const prepare = () => prepareNew(selection, () => {});
    const tell = this.page.tell.bind(this.page);
    return new SenderTransfer(this.from, this.sender, this.record, prepare, false, tell);
  }

  /** The same after a reload, with the files that are there now. */
  async again(files = FILES()) {
    const record = (await this.from.sending.read(this.record.transferId))!;
    const there = new Map(files.map((one) => [one.path, one.file]));
    const found = await recall(this.from, record, async ({ path }) => there.get(path!) ?? null);
    const tell = this.page.tell.bind(this.page);
    const prepare = () => Promise.resolve(found.prepared);
    const transfer = new SenderTransfer(this.from, this.sender, record, prepare, true, tell);
    return { transfer, differences: found.differences };
  }

  receiving(): RecipientTransfer {
    return new RecipientTransfer(this.to, this.peer, ROOM, keysOf);
  }

  /** One session, and how it ended on either side. */
  async session(
    sending: SenderTransfer,
    receiving: RecipientTransfer,
    cable = new Cable(),
  ): Promise<[sender: Outcome | Failure, recipient: Outcome | Failure]> {
    const [own, theirs] = this.connected(cable);
    const send = new Send(own, sending, { ask: async () => true }, this.admit);
    const ended = await Promise.all([
      send.ended.catch(asFailure),
      receiving.session(theirs).catch(asFailure),
    ]);
    void send.hangUp();
    return ended as [Outcome | Failure, Outcome | Failure];
  }

  private connected({ ends }: Cable): [Connected, Connected] {
    const keys = sodium.crypto_box_keypair();
    const transcript = sodium.randombytes_buf(32);
    const [there, back] = [new Uint8Array(32).fill(3), new Uint8Array(32).fill(4)];
    const side = (own: Signer, peer: Signer, number: 0 | 1): Connected => {
      const [send, receive] = number ? [back, there] : [there, back];
      const secured: Secured = {
        peer: {
          identity: peer.public,
          label: peer.label,
          software: SOFTWARE,
          verify: false,
          capabilities: [RESUME],
        },
        digits: "0000-0000-0000",
        transcript,
        suite: FIRST_SUITE,
        send: new CipherState(send),
        receive: new CipherState(receive),
        sessionKey: keys.publicKey,
      };
      return {
        binding: {
          room: new Uint8Array(16),
          attempt: new Uint8Array(16),
          nonceGuest: new Uint8Array(16),
          nonceHost: new Uint8Array(16),
          fingerprintHost: new Uint8Array(32),
          fingerprintGuest: new Uint8Array(32),
          passphrase: false,
          hostSends: true,
        },
        verify: false,
        identity: own,
        secured,
        sessionPrivate: number ? keys.privateKey : new Uint8Array(0),
        connection: ends[number] as unknown as Connection,
        open: () => new PeerConnections(() => {}).open(),
        relayOnly: false,
        maxMessageSize: 262_144,
        stayed: () => Promise.resolve(),
        early: () => [],
      };
    };
    return [side(this.sender, this.recipient, 0), side(this.recipient, this.sender, 1)];
  }
}

/** The documents that both sides keep of a transfer. */
async function documents({ from, to, record }: Parties): Promise<[Bytes, Bytes]> {
  const { transferId } = record;
  return [(await from.receipts.read(transferId))!, (await to.receipts.read(transferId))!];
}

describe("in one session", () => {
  test("what was chosen is delivered, and both sides keep the same receipt", async () => {
    const parties = await Parties.meet();
    const [sending, receiving] = [parties.sending(), parties.receiving()];
    const [sent, received] = (await parties.session(sending, receiving)) as [Outcome, Outcome];
    expect(sent).toMatchObject({ ending: "complete", code: "" });
    expect(received.delivered).toMatchObject({ files: 3, failures: 0 });
    const [own, theirs] = await documents(parties);
    expect(same(own, theirs)).toBe(true);
    expect(receipts.verify(own).confirmed).toBe(true);
    await sending.end(sent);
    expect(parties.page.last("sent")).toMatchObject({ files: 3, size: 2 * SIZE, failures: 0 });
    expect(await parties.from.sending.all()).toEqual([]);
    const log = new TextDecoder().decode(await parties.from.audit.text());
    const last = log.trimEnd().split("\n").at(-1)!;
    expect(JSON.parse(last)).toMatchObject({ event: "transfer", role: "sender", bytes: 2 * SIZE });
  });

  test("nothing is offered to whom is not let in", async () => {
    const parties = await Parties.meet();
    parties.admit = () => Promise.reject(new Failure("declined"));
    const ended = await parties.session(parties.sending(), parties.receiving());
    expect(ended).toMatchObject([{ code: "declined" }, { code: "declined", detail: "at_peer" }]);
    expect(parties.peer.told.some(({ event }) => event === "offer")).toBe(false);
  });

  test("a recipient that declines ends it", async () => {
    const parties = await Parties.meet();
    const sending = parties.sending();
    const no = new RecipientTransfer(parties.to, new Visitor(false), ROOM, keysOf);
    const [sent] = (await parties.session(sending, no)) as [Outcome, Failure];
    expect(sent).toMatchObject({ ending: "declined", code: "declined" });
    await sending.end(sent);
    expect(parties.page.last("ended")).toMatchObject({ code: "declined" });
    expect(await parties.from.sending.all()).toEqual([]);
  });

  test("a visitor that leaves costs nothing: the link waits for the next", async () => {
    const parties = await Parties.meet();
    const sending = parties.sending();
    const away = new Visitor();
    away.ask = () => new Promise(() => {}); // it looks at the offer, and is cut off
    const cable = new Cable();
    setTimeout(() => cable.ends.forEach((end) => end.lose()), 500);
    const visit = new RecipientTransfer(parties.to, away, ROOM, keysOf);
    const [lost] = (await parties.session(sending, visit, cable)) as [Failure, Failure];
    expect(sending.peer).not.toBeNull();
    expect(await sending.outlives(lost, true)).toBe(true);
    expect(sending.peer).toBeNull();
    const [next] = await parties.session(sending, parties.receiving());
    expect(next).toMatchObject({ ending: "complete" });
  });
});

describe("a cut", () => {
  /** Cut after one of two files. */
  async function cut(cable = new Cable(1.5 * SIZE)) {
    const parties = await Parties.meet();
    const [sending, receiving] = [parties.sending(), parties.receiving()];
    const ended = await parties.session(sending, receiving, cable);
    expect(ended).toMatchObject([{ code: "connection_lost" }, { code: "connection_lost" }]);
    return { parties, sending, receiving, failure: ended[0] as Failure };
  }

  test("is gone on from where the recipient's disk stands", async () => {
    const { parties, sending, receiving, failure } = await cut(new Cable(1.5 * SIZE, 1500));
    expect(await sending.outlives(failure, true)).toBe(true);
    expect(sending.cut).toBe("lost");
    const cable = new Cable();
    const [sent, received] = await parties.session(sending, receiving, cable);
    expect(received).toMatchObject({ ending: "complete", delivered: { files: 3, failures: 0 } });
    expect(sent).toMatchObject({ ending: "complete" });
    expect(cable.carried).toBeLessThan(SIZE); // and not all of it again
  });

  test("is gone on after the sender's reload, with the files that are chosen again", async () => {
    const { parties, receiving } = await cut();
    const { transfer, differences } = await parties.again();
    expect(differences).toEqual({ missing: [], changed: [] });
    expect(transfer.cut).toBe("lost");
    const ended = await parties.session(transfer, receiving);
    expect(ended).toMatchObject([{ ending: "complete" }, { delivered: { failures: 0 } }]);
    const [own, theirs] = await documents(parties);
    expect(same(own, theirs)).toBe(true);
  });

  test("a file that looks the same and is another is given up by its name", async () => {
    const { parties, receiving } = await cut();
    const { transfer, differences } = await parties.again([file("a", 9), ...FILES().slice(1)]);
    expect(differences).toEqual({ missing: [], changed: [] }); // by size and time it is the same
    const [sent, received] = (await parties.session(transfer, receiving)) as [Outcome, Outcome];
    expect(received.ending).toBe("incomplete");
    expect(received.delivered).toMatchObject({ files: 2, failed: [["a", "changed"]] });
    expect(sent.ending).toBe("incomplete");
  });

  test("what is missing or changed is named beforehand, and the rest is delivered", async () => {
    const { parties, receiving } = await cut();
    const now = [file("b", 2, { lastModified: 2 }), file("c", 3, { size: 0 })];
    const { transfer, differences } = await parties.again(now);
    expect(differences).toEqual({ missing: ["a"], changed: ["b"] });
    const [sent, received] = (await parties.session(transfer, receiving)) as [Outcome, Outcome];
    expect(sent.ending).toBe("incomplete");
    expect(received.delivered).toMatchObject({ files: 1, failures: 2 });
    const [own] = await documents(parties);
    expect(receipts.verify(own).confirmed).toBe(true);
  });

  test("a journal that does not fit its manifest is refused", async () => {
    const { parties } = await cut();
    const record = (await parties.from.sending.read(parties.record.transferId))!;
    const other = { ...record, manifestHash: new Uint8Array(32) };
    await expect(recall(parties.from, other, async () => null)).rejects.toMatchObject({
      code: "journal_damaged",
    });
  });

  test("is this recipient's to come back from, and nobody else's", async () => {
    const { parties, sending } = await cut();
    expect(same(sending.peer!, parties.recipient.public)).toBe(true);
  });
});

describe("when nobody comes", () => {
  test("the link expires", async () => {
    const sending = (await Parties.meet()).sending();
    expect(() => sending.giveUp()).toThrow("expired");
  });

  test("a recipient that does not come back has lost the connection", async () => {
    const parties = await Parties.meet();
    const sending = parties.sending();
    const cable = new Cable(1.5 * SIZE);
    const [failure] = await parties.session(sending, parties.receiving(), cable);
    await sending.outlives(failure as Failure, true);
    expect(() => sending.giveUp()).toThrow("connection_lost");
  });

  test("what both have signed is complete all the same", async () => {
    const parties = await Parties.meet();
    const sending = parties.sending();
    await parties.session(sending, parties.receiving());
    expect(sending.giveUp()).toMatchObject({ ending: "complete", code: "receipt_unconfirmed" });
  });
});
