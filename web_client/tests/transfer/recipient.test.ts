/** A transfer across sessions: what a cut, a failure, a reload and a person leave of it. */
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";

import { breathe } from "../../src/clock";
import { FAILURES, Failure, Next, PeerError, type Code } from "../../src/protocol/errors";
import type { Bytes } from "../../src/protocol/codec";
import { journalKey, storeKey } from "../../src/protocol/link";
import * as receipts from "../../src/protocol/receipt";
import { Home } from "../../src/state/home";
import { openDelivered } from "../../src/state/journal";
import { containers } from "../../src/storage/opfs";
import { failed } from "../../src/transfer/outcome";
import { RecipientTransfer } from "../../src/transfer/recipient";
import { MemoryDirectory, MemoryFile } from "../storage/directory";
import { Remote, Visitor } from "./remote";

beforeAll(() => sodium.ready);

const ROOM = "ab12";
const FILES = [new Uint8Array(200_000).fill(1), new Uint8Array(100_000).fill(2)];
const HALF = 200_000;
const SECRET = new Uint8Array(32).fill(3);
const keysOf = (salt: Bytes, share: Bytes) => ({
  salt,
  store: storeKey(SECRET, share, salt),
  journal: journalKey(SECRET, salt),
});
let home: Home;

beforeEach(async () => {
  const root = new MemoryDirectory("root");
  vi.stubGlobal("navigator", { storage: { getDirectory: async () => root } });
  home = await Home.open();
});
afterEach(() => vi.unstubAllGlobals());

/** A session up to its accept; `ended` is what it comes to. */
async function accepted(transfer: RecipientTransfer, remote = new Remote(FILES)) {
  const ended = transfer.session(remote.connected);
  ended.catch(() => {});
  remote.offer().sendManifest();
  const [accept] = await remote.until("accept");
  const { offset } = JSON.parse(String(accept!["body"]));
  return { remote, ended, offset: offset as number };
}

/** A transfer of which the first half has come, and its session. */
async function begun(visitor = new Visitor()) {
  const transfer = new RecipientTransfer(home, visitor, ROOM, keysOf);
  const { remote, ended } = await accepted(transfer);
  remote.range(1, 0, FILES[0]!);
  return { transfer, remote, ended, visitor };
}

/** The same, and the half is durable. */
async function halfway() {
  const one = await begun();
  await one.remote.untilDurable(HALF);
  return one;
}

/** Whether another session may follow one that ended so. */
function goesOn(transfer: RecipientTransfer, failure: unknown, proven: boolean): boolean {
  try {
    return transfer.brokeOff(failure, proven, 0, 0) === null;
  } catch (error) {
    expect(error).toBe(failure);
    return false;
  }
}

/** The rest of it, from `offset` on, up to the last word. */
async function complete(remote: Remote, offset: number): Promise<void> {
  remote.sendData(offset).close().sendDigests();
  await remote.sign();
  await remote.until("done");
}

describe("in one session", () => {
  test("it is delivered, and the receipt is kept with both signatures", async () => {
    const visitor = new Visitor();
    const transfer = new RecipientTransfer(home, visitor, ROOM, keysOf);
    const { remote, ended, offset } = await accepted(transfer);
    expect(offset).toBe(0);
    await complete(remote, 0);
    const outcome = await ended;
    expect(outcome).toMatchObject({ ending: "complete", code: "" });
    const { delivered } = outcome;
    expect(delivered).toMatchObject({ files: 2, failures: 0, where: "browser", confirmed: true });
    const receipt = receipts.verify((await home.receipts.read(delivered!.transferId))!);
    expect(receipt.confirmed).toBe(true);
    await transfer.end(outcome);
    expect(visitor.last("ended").delivered).toEqual(delivered);
    const journal = (await home.journals.read(ROOM))!;
    expect(openDelivered(journal.delivered!, journalKey(SECRET, journal.salt)).delivered).toEqual(
      delivered,
    );
    expect(Buffer.from(journal.delivered!).includes("handover.zip")).toBe(false);
    expect(await containers()).toEqual([ROOM]);
  });

  test("the sender is heard while a long list of files is read", async () => {
    const remote = new Remote(new Array(30_000).fill(new Uint8Array(0)));
    const ended = new RecipientTransfer(home, new Visitor(), ROOM, keysOf).session(
      remote.connected,
    );
    remote.data[remote.data.lastIndexOf("f".charCodeAt(0))] = "/".charCodeAt(0); // at its very end
    void breathe().then(() => remote.say("abort", { code: "cancelled" }));
    remote.offer().sendManifest();
    await expect(ended).rejects.toMatchObject({ code: "peer_cancelled" });
  });

  test("nothing is signed before the server knows that the page stays", async () => {
    const transfer = new RecipientTransfer(home, new Visitor(), ROOM, keysOf);
    const remote = new Remote(FILES);
    let know!: () => void;
    remote.stayed = new Promise<void>((resolve) => (know = resolve));
    const { ended } = await accepted(transfer, remote);
    remote.sendData(0).close().sendDigests();
    await new Promise((resolve) => setTimeout(resolve, 300));
    remote.flush();
    expect(remote.heard("receipt")).toEqual([]);
    know();
    await remote.sign();
    await remote.until("done");
    expect(await ended).toMatchObject({ ending: "complete" });
  });

  test("it is declined, and nothing is left", async () => {
    const transfer = new RecipientTransfer(home, new Visitor(false), ROOM, keysOf);
    const remote = new Remote(FILES);
    const ended = transfer.session(remote.connected);
    const refused = expect(ended).rejects.toMatchObject({ code: "declined" });
    remote.offer().sendManifest();
    await remote.until("decline");
    await refused;
    expect(transfer.underway).toBeNull();
    expect(await containers()).toEqual([]);
  });

  test("what cannot be kept in the browser goes to a folder, if there is one", async () => {
    vi.stubGlobal("navigator", {});
    const root = new MemoryDirectory();
    const visitor = new Visitor(root.handle);
    visitor.folders = true;
    const transfer = new RecipientTransfer(home, visitor, ROOM, keysOf);
    const { remote, ended } = await accepted(transfer);
    await complete(remote, 0);
    expect((await ended).delivered).toMatchObject({ where: "folder", name: "chosen" });
    expect(Object.keys(root.tree())).toEqual(["f0", "f1"]);
  });

  test("a transfer id that was used before is refused", async () => {
    const first = await accepted(new RecipientTransfer(home, new Visitor(), ROOM, keysOf));
    await complete(first.remote, 0);
    await first.ended;
    const remote = new Remote(FILES);
    const ended = new RecipientTransfer(home, new Visitor(), "cd34", keysOf).session(
      remote.connected,
    );
    const refused = expect(ended).rejects.toThrow("transfer_id_reused");
    remote.offer().sendManifest();
    await refused;
  });

  test("what the sender gave up is told, and the rest is delivered", async () => {
    const transfer = new RecipientTransfer(home, new Visitor(), ROOM, keysOf);
    const { remote, ended } = await accepted(transfer);
    remote.range(1, 0, FILES[0]!);
    remote.withdraw([1, 2, HALF]);
    const digests = remote.digests({ 1: 2 });
    remote.close(digests).sendDigests(digests);
    await remote.sign();
    const outcome = await ended;
    expect(outcome.ending).toBe("incomplete");
    expect(outcome.delivered).toMatchObject({
      files: 1,
      failures: 1,
      failed: [["f1", "unreadable"]],
    });
  });

  test("where nothing arrived nothing is left to be saved, and the receipt is kept", async () => {
    const transfer = new RecipientTransfer(home, new Visitor(), ROOM, keysOf);
    const { remote, ended } = await accepted(transfer);
    remote.withdraw([0, 2, 0], [1, 2, HALF]);
    const digests = remote.digests({ 0: 2, 1: 2 });
    remote.close(digests).sendDigests(digests);
    await remote.sign();
    const outcome = await ended;
    await transfer.end(outcome);
    expect(outcome.delivered).toMatchObject({ entries: 0, failures: 2 });
    expect(await home.journals.read(ROOM)).toBeUndefined();
    expect(await home.receipts.read(outcome.delivered!.transferId)).toBeDefined();
  });
});

describe("a cut", () => {
  test("is gone on from where the disk stands", async () => {
    const { transfer, remote, ended } = await halfway();
    remote.connection.lose();
    await expect(ended).rejects.toMatchObject({ code: "connection_lost" });
    expect(transfer.moved).toBe(true);
    expect(goesOn(transfer, new Failure("connection_lost"), true)).toBe(true);
    const next = await accepted(transfer);
    expect(next.offset).toBe(HALF);
    await complete(next.remote, HALF);
    expect((await next.ended).ending).toBe("complete");
  });

  test("is gone on from the journal after a reload", async () => {
    const { transfer, remote, ended } = await halfway();
    remote.connection.lose();
    await expect(ended).rejects.toThrow();
    transfer.underway!.destination.close(); // as a page that is left does
    const again = new RecipientTransfer(home, new Visitor(), ROOM, keysOf);
    await again.recall();
    expect(goesOn(again, new Failure("busy"), false)).toBe(true);
    const next = await accepted(again);
    expect(next.offset).toBe(HALF);
    // What was read back before the reload is read back again.
    await complete(next.remote, HALF);
    expect((await next.ended).ending).toBe("complete");
  });

  test("after which something else is offered begins anew", async () => {
    const { transfer, remote, ended } = await halfway();
    remote.connection.lose();
    await expect(ended).rejects.toThrow();
    const other = new Remote([new Uint8Array(10).fill(3)]);
    const next = await accepted(transfer, other);
    expect(next.offset).toBe(0);
    await complete(other, 0);
    expect((await next.ended).delivered).toMatchObject({ files: 1 });
  });
});

describe("a disk that is full", () => {
  let full: boolean;

  beforeEach(() => {
    full = false;
    const refuse = () => {
      if (full) throw new DOMException("", "QuotaExceededError");
    };
    const root = new MemoryDirectory("root", { beforeWrite: refuse });
    vi.stubGlobal("navigator", { storage: { getDirectory: async () => root } });
  });

  /** The session of a transfer ends for it: the sender hears why, and another may follow. */
  async function paused(one: Awaited<ReturnType<typeof accepted>>, transfer: RecipientTransfer) {
    await expect(one.ended).rejects.toMatchObject({ code: "disk_paused", detail: "enospc" });
    expect((await one.remote.until("abort"))[0]!["code"]).toBe("disk_paused");
    expect(goesOn(transfer, new Failure("disk_paused", "enospc"), true)).toBe(true);
    expect(transfer.cut).toBe("paused");
    let waits = true;
    const ready = transfer.ready(() => false).then(() => (waits = false));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(waits).toBe(true);
    full = false;
    await ready;
    expect(await containers()).toEqual([ROOM]); // and nothing of what was tried
  }

  test("is waited for, and what had arrived is kept", { timeout: 60_000 }, async () => {
    const { transfer, remote, ended } = await halfway();
    full = true;
    remote.range(1, HALF, FILES[1]!);
    await paused({ remote, ended, offset: 0 }, transfer);
    const next = await accepted(transfer);
    expect(next.offset).toBe(HALF);
    await complete(next.remote, HALF);
    expect((await next.ended).ending).toBe("complete");
  });

  test("is waited for at the very end too", { timeout: 60_000 }, async () => {
    const { transfer, remote, ended } = await halfway();
    remote.range(1, HALF, FILES[1]!);
    await remote.untilDurable(HALF + FILES[1]!.length);
    full = true;
    remote.close().sendDigests();
    await paused({ remote, ended, offset: 0 }, transfer);
    const next = await accepted(transfer);
    expect(next.offset).toBe(HALF + FILES[1]!.length);
    next.remote.close().sendDigests();
    await next.remote.sign();
    await next.remote.until("done");
    expect(await next.ended).toMatchObject({ ending: "complete", delivered: { files: 2 } });
  });

  test("gets nothing written to the database before it takes data again", async () => {
    const { transfer, remote, ended } = await halfway();
    full = true;
    remote.range(1, HALF, FILES[1]!);
    await expect(ended).rejects.toMatchObject({ code: "disk_paused" });
    expect(goesOn(transfer, new Failure("disk_paused", "enospc"), true)).toBe(true);
    const write = vi.spyOn(home.journals, "write");
    let stopped = false;
    const ready = transfer.ready(() => stopped);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(write).not.toHaveBeenCalled();
    stopped = true;
    await ready;
  });

  test("that has cost the browser its database is said", async () => {
    const { transfer, remote, ended, visitor } = await halfway();
    full = true;
    remote.range(1, HALF, FILES[1]!);
    await expect(ended).rejects.toMatchObject({ code: "disk_paused" });
    expect(goesOn(transfer, new Failure("disk_paused", "enospc"), true)).toBe(true);
    full = false;
    const gone = new Failure("disk_error", "data_cleared");
    vi.spyOn(home.journals, "write").mockRejectedValue(gone);
    vi.spyOn(home.journals, "read").mockRejectedValue(gone);
    await expect(transfer.ready(() => false)).rejects.toBe(gone);
    await transfer.end(failed(gone));
    expect(visitor.last("ended")).toMatchObject({ code: "disk_error", detail: "data_cleared" });
    vi.restoreAllMocks();
  });

  test("of the sender's is not looked at here", async () => {
    const { transfer, remote, ended } = await halfway();
    remote.say("abort", { code: "disk_paused" });
    await expect(ended).rejects.toMatchObject({ code: "disk_paused", detail: "at_peer" });
    expect(goesOn(transfer, new Failure("disk_paused", "at_peer"), true)).toBe(true);
    expect(transfer.cut).toBe("sender_paused");
    full = true;
    await transfer.ready(() => false);
  });

  test("erases nothing that cannot be opened for now", { timeout: 60_000 }, async () => {
    const { transfer, remote, ended } = await halfway();
    remote.connection.lose();
    await expect(ended).rejects.toThrow();
    transfer.underway!.destination.close();
    const again = new RecipientTransfer(home, new Visitor(), ROOM, keysOf);
    await again.recall();
    const open = vi.spyOn(MemoryFile.prototype, "createSyncAccessHandle");
    open.mockRejectedValue(new DOMException("", "NoModificationAllowedError"));
    const held = new Remote(FILES);
    const refused = again.session(held.connected);
    refused.catch(() => {});
    held.offer().sendManifest();
    await expect(refused).rejects.toMatchObject({ code: "disk_error", detail: "store_failed" });
    open.mockRestore();
    await again.end(failed(new Failure("disk_error", "store_failed")));
    const later = new RecipientTransfer(home, new Visitor(), ROOM, keysOf); // after "Try again"
    await later.recall();
    expect((await accepted(later)).offset).toBe(HALF);
  });
});

describe("a receipt that the sender has not signed", () => {
  /** Delivered and signed here; then the connection is cut. */
  async function signed() {
    const transfer = new RecipientTransfer(home, new Visitor(), ROOM, keysOf);
    const { remote, ended } = await accepted(transfer);
    remote.sendData(0).close().sendDigests();
    const [receipt] = await remote.until("receipt");
    remote.connection.lose();
    expect(await ended).toMatchObject({ ending: "delivered_unconfirmed" });
    return { transfer, receipt: receipt! };
  }

  test("is presented in the next session, the very same, and completed there", async () => {
    const { transfer, receipt } = await signed();
    expect(transfer.brokeOff(null, true, 0, 0)).toBeNull();
    expect(goesOn(transfer, new Failure("server_unreachable"), false)).toBe(true);
    const remote = new Remote(FILES);
    const ended = transfer.session(remote.connected);
    remote.offer().sendManifest();
    const [again] = await remote.until("receipt");
    expect(again!["payload"]).toBe(receipt["payload"]);
    expect(again!["signature"]).toBe(receipt["signature"]);
    expect(remote.heard("accept")).toEqual([]);
    await remote.sign();
    await remote.until("done");
    const { ending, delivered } = await ended;
    expect(ending).toBe("complete");
    expect(delivered).toMatchObject({ files: 2, confirmed: true });
    const kept = receipts.verify((await home.receipts.read(delivered!.transferId))!);
    expect(kept.confirmed).toBe(true);
  });

  test("is waited for until the sender is gone, or for ten minutes", async () => {
    const { transfer } = await signed();
    const gone = new Failure("not_found");
    expect(transfer.brokeOff(gone, false, 100, 14)).toBeNull();
    for (const [silence, away] of [
      [16, 16],
      [601, 0],
    ] as const) {
      const outcome = transfer.brokeOff(gone, false, silence, away);
      expect(outcome).toMatchObject({ ending: "delivered_unconfirmed", code: "unconfirmed" });
      expect(outcome!.delivered).toMatchObject({ files: 2, confirmed: false });
    }
  });

  test("leaves what is delivered alone, whatever else is offered then", async () => {
    const { transfer } = await signed();
    const other = new Remote([new Uint8Array(10).fill(3)]);
    const ended = transfer.session(other.connected);
    const refused = expect(ended).rejects.toMatchObject({ code: "offer_changed" });
    other.offer().sendManifest();
    await refused;
    expect(await containers()).toEqual([ROOM]);
  });
});

describe("a failure", () => {
  const codes = Object.keys(FAILURES) as Code[];

  test.each(codes)("leaves what the catalogue says: %s", async (code) => {
    const { transfer, remote, ended, visitor } = await begun();
    remote.connection.lose();
    await expect(ended).rejects.toThrow();
    const failure = new Failure(code);
    expect(goesOn(transfer, failure, true)).toBe(failure.next >= Next.RETRY);
    await transfer.end(failed(failure));
    const left = failure.next >= Next.RESUME ? [ROOM] : [];
    expect(await containers()).toEqual(left);
    expect((await home.journals.all()).map((journal) => journal.room)).toEqual(left);
    expect(visitor.last("ended")).toMatchObject({ code, ending: failure.ending, delivered: null });
  });

  test("before the sender is proven is no reason to give up", async () => {
    const { transfer, remote, ended } = await begun();
    remote.connection.lose();
    await expect(ended).rejects.toThrow();
    expect(goesOn(transfer, new PeerError("of whom?"), false)).toBe(true);
    expect(goesOn(transfer, new TypeError("ours"), false)).toBe(false);
  });

  test("is final where nothing was under way, or the link is too old", async () => {
    const fresh = new RecipientTransfer(home, new Visitor(), ROOM, keysOf);
    await fresh.recall();
    expect(goesOn(fresh, new Failure("busy"), false)).toBe(false);
    const { transfer, remote, ended } = await begun();
    remote.connection.lose();
    await expect(ended).rejects.toThrow();
    const later = performance.now() + 25 * 3600 * 1000;
    vi.spyOn(performance, "now").mockReturnValueOnce(later);
    expect(goesOn(transfer, new Failure("busy"), true)).toBe(false);
  });

  test("leaves nothing where no reload could take it up", async () => {
    vi.stubGlobal("navigator", {}); // in memory, then
    const { transfer, remote, ended } = await begun();
    remote.connection.lose();
    await expect(ended).rejects.toThrow();
    await transfer.end(failed(new Failure("connection_lost")));
    expect(await home.journals.all()).toEqual([]);
  });

  test("of the sender's doing is told to it, and then the connection is closed", async () => {
    const { remote, ended } = await begun();
    const refused = expect(ended).rejects.toBeInstanceOf(PeerError);
    remote.connection.data.deliver(new Uint8Array(200));
    await refused;
    const [abort] = await remote.until("abort");
    expect(abort!["code"]).toBe("protocol");
    expect(remote.connection.closed).toBe(false);
    remote.connection.lose(); // it has heard, and hangs up
    await vi.waitFor(() => expect(remote.connection.closed).toBe(true));
  });
});

describe("a person", () => {
  test("who stops it is heard by the sender, and what had arrived is erased", async () => {
    const { transfer, remote, ended, visitor } = await begun();
    const refused = expect(ended).rejects.toMatchObject({ code: "cancelled" });
    transfer.stop();
    await refused;
    expect((await remote.until("abort"))[0]!["code"]).toBe("cancelled");
    await transfer.end(failed(new Failure("cancelled")));
    expect(await containers()).toEqual([]);
    expect(visitor.last("ended").code).toBe("cancelled");
  });

  test("cannot stop what is delivered and only being signed", async () => {
    const transfer = new RecipientTransfer(home, new Visitor(), ROOM, keysOf);
    const { remote, ended } = await accepted(transfer);
    remote.sendData().close().sendDigests();
    await remote.until("receipt");
    transfer.stop();
    remote.connection.lose();
    const outcome = await ended;
    expect(outcome).toMatchObject({ ending: "delivered_unconfirmed", code: "unconfirmed" });
    expect(outcome.delivered).toMatchObject({ files: 2, confirmed: false });
  });
});
