/** The worker's edge: commands of the page in, facts out. One transfer at a time. */
import sodium from "libsodium-wrappers-sumo";

import type { Answer, Command, Event } from "./events";
import { containerFile, containers, erase } from "./storage/opfs";
import { Home, type Delivered } from "./state/home";
import { hex } from "./protocol/codec";
import { HandoverError } from "./protocol/errors";
import { deriveKeys, parseLink, type Link } from "./protocol/link";
import { shown } from "./protocol/paths";
import * as receipts from "./protocol/receipt";
import { LINK_SECONDS, Receiving } from "./transfer/receive";

const DELIVERED_SECONDS = 7 * 24 * 3600; // what was not saved by then is erased

let home: Home;
let link: Link | null = null;
let room = "";
let receiving: Receiving | null = null;
let delivered: Delivered | null = null;
let answer: ((answer: Answer) => void) | null = null;
let persisted: ((granted: boolean) => void) | null = null;

const tell = (event: Event): void => {
  if (event.event === "ended") delivered = event.delivered;
  postMessage(event);
};

const people = {
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
async function tidy(): Promise<void> {
  const known = new Set<string>();
  for (const journal of await home.journals()) {
    const seconds = journal.delivered ? DELIVERED_SECONDS : LINK_SECONDS;
    if (Date.now() - journal.startedAt < seconds * 1000) known.add(journal.room);
    else if (await idle(journal.room)) {
      await home.dropJournal(journal.room);
      await home.appendAudit("erased", {});
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
    link = parseLink(text);
  } catch (error) {
    const { code, detail, ending } = error as HandoverError;
    return tell({ event: "ended", ending, code, detail, delivered: null });
  }
  room = hex(deriveKeys(link.secret).room);
  if (!(await claim(room))) return tell({ event: "elsewhere" });
  home = await Home.open();
  await tidy();
  const journal = await home.journal(room);
  delivered = journal?.delivered ?? null;
  const earlier = journal && { durable: journal.durable, total: journal.total };
  tell({
    event: "ready",
    passphrase: link.passphrase,
    label: await home.label(),
    earlier: earlier ?? null,
    delivered,
    lasting: home.lasting,
  });
  await tellReceipt();
}

async function save(): Promise<void> {
  if (!delivered) return;
  const kept = receiving?.progress?.kept;
  try {
    const file = kept?.where === "memory" ? kept.store.blob() : await containerFile(room);
    tell({ event: "file", name: delivered.name, file });
  } catch {
    const ended = { ending: "failed", code: "disk_error", detail: "" } as const;
    tell({ event: "ended", ...ended, delivered: null });
  }
}

/** What the kept receipt says, once its signatures are checked again. */
async function tellReceipt(): Promise<void> {
  const document = delivered && (await home.receipt(delivered.transferId));
  if (!document) return;
  const { payload, sender, recipient, confirmed } = receipts.verify(document);
  const { content, times, security } = payload;
  const facts = {
    transferId: delivered!.transferId,
    sender: shown(payload.sender.label),
    senderKey: receipts.fingerprint(sender),
    recipient: shown(payload.recipient.label),
    recipientKey: receipts.fingerprint(recipient),
    entries: content.entries,
    deliveredEntries: content.delivered_entries,
    deliveredBytes: content.delivered_bytes,
    root: hex(content.root),
    digitsConfirmed: security.digits_confirmed,
    offered: shown(times.offered),
    verified: shown(times.verified),
    confirmed,
  };
  tell({ event: "receipted", facts });
}

async function exportReceipt(): Promise<void> {
  const document = delivered && (await home.receipt(delivered.transferId));
  if (document) {
    const name = `handover-${delivered!.transferId}.receipt.json`;
    tell({ event: "receipt", name, document });
  }
}

async function discard(): Promise<void> {
  await home.dropJournal(room);
  await erase(room);
  tell({ event: "discarded" });
}

onmessage = async ({ data }: MessageEvent<Command>) => {
  switch (data.command) {
    case "open":
      return open(data.link);
    case "start":
      people.folders = data.folders;
      receiving = new Receiving(link!, home, people);
      await receiving.receive(data.label, data.passphrase);
      return tellReceipt();
    case "answer":
      return answer?.(data.answer);
    case "rtc":
      return receiving?.takeRtc(data.event);
    case "persisted":
      return persisted?.(data.granted);
    case "stop":
      return receiving?.stop();
    case "save":
      return save();
    case "receipt":
      return exportReceipt();
    case "discard":
      return discard();
  }
};
