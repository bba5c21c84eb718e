/** The worker's edge: commands of the page in, events out. One transfer at a time. */
import sodium from "libsodium-wrappers-sumo";

import type { Answer, Command, Delivered, Event } from "./events";
import { meet } from "./connect/meeting";
import { Invitation } from "./invitation";
import { PeerConnections } from "./lanes/webrtc/connection";
import type { Bytes } from "./protocol/codec";
import { findLink } from "./protocol/link";
import { Home } from "./state/home";
import { openDelivered } from "./state/journal";
import { containers, erase, reopen, roomOnDisk } from "./storage/opfs";
import type { Store } from "./storage/ports";
import { blobOf, contentOf } from "./storage/saving";
import { failed } from "./transfer/outcome";
import { summaryOf } from "./transfer/summary";
import { LINK_SECONDS, Transfer } from "./transfer/transfer";

const DELIVERED_SECONDS = 7 * 24 * 3600; // what was not saved by then is erased
const SAVING_MS = 500; // between two events of how far it is

let home: Home;
let invitation: Invitation;
let transfer: Transfer | null = null;
let delivered: Delivered | null = null;
let storeKey: Bytes; // of what was delivered before a reload
let answer: ((answer: Answer) => void) | null = null;
let persisted: ((granted: boolean) => void) | null = null;

const tell = (event: Event): void => {
  if (event.event === "state" && event.state === "receiving") invitation.stay();
  if (event.event === "ended") delivered = event.delivered;
  const toSave = delivered?.where === "browser" && delivered.entries > 0;
  if (event.event === "ended" && !toSave) invitation?.leave();
  postMessage(event);
};
const peerConnections = new PeerConnections((call) => tell({ event: "rtc", call }));

const person = {
  tell,
  folders: false,
  ask(kind: "digits" | "accept"): Promise<Answer> {
    tell({ event: "question", kind });
    return new Promise((resolve) => (answer = resolve));
  },
  persist(): Promise<boolean> {
    tell({ event: "persist" });
    return new Promise((resolve) => (persisted = resolve));
  },
};

/** Hold the link for this tab until the page is gone; false when another tab has it. */
function claim(name: string): Promise<boolean> {
  return new Promise((resolve) => {
    const claimed = navigator.locks.request(`handover ${name}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => {});
    });
    claimed.catch(() => resolve(true)); // a browser without locks
  });
}

/** Erase what nobody came back for, and containers that no journal knows. */
async function tidy(room: string): Promise<void> {
  const known = new Set<string>();
  for (const journal of await home.journals.all()) {
    const seconds = journal.delivered ? DELIVERED_SECONDS : LINK_SECONDS;
    const fresh = Date.now() - journal.startedAt < seconds * 1000;
    if (fresh && journal.salt)
      known.add(journal.room); // without a salt: of an earlier version, readable
    else if (journal.room === room || (await idle(journal.room))) {
      await home.journals.drop(journal.room);
      await home.audit.append("erased", {});
    }
  }
  for (const name of await containers()) {
    if (!known.has(name) && (name === room || (await idle(name)))) await erase(name);
  }
}

/** Whether no tab has this link open. */
async function idle(name: string): Promise<boolean> {
  const { held } = await navigator.locks.query();
  return !held?.some((lock) => lock.name === `handover ${name}`);
}

async function open(text: string): Promise<void> {
  await sodium.ready;
  try {
    const link = findLink(text);
    invitation = new Invitation(link, peerConnections, tell);
  } catch (error) {
    return tell({ event: "ended", ...failed(error) });
  }
  const { room } = invitation;
  if (!(await claim(room))) return tell({ event: "elsewhere" });
  home = await Home.open();
  await tidy(room);
  const journal = await home.journals.read(room);
  if (journal?.delivered) {
    const key = invitation.journalKey(journal.salt);
    ({ delivered, key: storeKey } = openDelivered(journal.delivered, key));
    invitation.stay();
  }
  const earlier = journal && { durable: journal.durable, total: journal.total };
  tell({
    event: "ready",
    passphrase: invitation.passphrase,
    label: await home.identity.label(),
    earlier: earlier ?? null,
    delivered,
    lasting: home.lasting,
  });
  await tellReceipt();
}

async function start(command: Extract<Command, { command: "start" }>): Promise<void> {
  person.folders = command.folders;
  const keysOf = (salt: Bytes, share: Bytes) => invitation.storageKeys(salt, share);
  transfer = new Transfer(home, person, invitation.room, keysOf);
  await invitation.receive(transfer, home.identity.under(command.label), command.passphrase);
  await tellReceipt();
}

/** Where what arrived lies. Throws when it is not there any more. */
async function container(): Promise<Store> {
  const underway = transfer?.underway;
  if (underway?.space?.where === "memory") return underway.space.store;
  return (await reopen(invitation.room, underway?.keys.store ?? storeKey)).store;
}

/**
 * Into the file that was chosen: then it is known when it is there, and the copy here is erased. Else
 * as a download, of which a page never hears the end: from then on this page alone has the key.
 */
async function save(into: FileSystemFileHandle | null): Promise<void> {
  if (!delivered) return;
  const { name, size } = delivered;
  let store: Store;
  try {
    store = await container();
  } catch {
    return tell({
      event: "ended",
      ending: "failed",
      code: "disk_error",
      detail: "",
      delivered: null,
    });
  }
  let toldAt = -Infinity;
  const content = contentOf(store, size, (done) => {
    if (performance.now() - toldAt < SAVING_MS) return;
    toldAt = performance.now();
    tell({ event: "saving", done, total: size });
  });
  try {
    tell({ event: "saving", done: 0, total: size });
    if (into)
      await content.pipeTo(await into.createWritable()); // closes it, and waits for that
    else {
      const file = await blobOf(content);
      await home.journals.drop(invitation.room);
      invitation.leave(); // nothing to be loaded anew for
      tell({ event: "file", name, file });
    }
  } catch {
    return tell({ event: "unsaved" });
  } finally {
    store.close();
  }
  if (into) {
    await forget();
    tell({ event: "saved", name: into.name });
  }
}

/** Erase what arrived, and its names. */
async function forget(): Promise<void> {
  const space = transfer?.underway?.space;
  if (space?.where === "memory") space.store.truncate(0);
  invitation.leave();
  await home.journals.drop(invitation.room);
  await erase(invitation.room);
}

/** What the kept receipt says, once its signatures are checked again. */
async function tellReceipt(): Promise<void> {
  const document = delivered && (await home.receipts.read(delivered.transferId));
  if (!document) return;
  tell({ event: "receipted", receipt: summaryOf(document) });
}

async function exportReceipt(): Promise<void> {
  const document = delivered && (await home.receipts.read(delivered.transferId));
  if (document) {
    const name = `handover-${delivered!.transferId}.receipt.json`;
    tell({ event: "receipt", name, document });
  }
}

/** What a page cannot find out itself: whether peers would meet, and what there is room for. */
async function check(origin: string): Promise<void> {
  const began = performance.now();
  const took = () => Math.round(performance.now() - began);
  try {
    await sodium.ready;
    const servers = await meet(origin);
    tell({ event: "met", servers, took: took(), code: "", detail: "" });
  } catch (error) {
    const { code, detail } = failed(error);
    tell({ event: "met", servers: [], took: took(), code, detail });
  }
  tell({ event: "room_for", free: await roomOnDisk() });
}

async function discard(): Promise<void> {
  await forget();
  tell({ event: "discarded" });
}

onmessage = async ({ data }: MessageEvent<Command>) => {
  switch (data.command) {
    case "open":
      return open(data.link);
    case "start":
      return start(data);
    case "answer":
      return answer?.(data.answer);
    case "rtc":
      return peerConnections.take(data.event);
    case "persisted":
      return persisted?.(data.granted);
    case "check":
      return check(data.origin);
    case "stayed":
      return invitation.stayed();
    case "stop":
      return invitation.stop();
    case "save":
      return save(data.into);
    case "receipt":
      return exportReceipt();
    case "discard":
      return discard();
  }
};
