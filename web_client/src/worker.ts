/** The worker's edge: commands of the page in, events out. One transfer at a time. Or it hashes for another. */
import sodium from "libsodium-wrappers-sumo";

import { meet } from "./connect/meeting";
import { policyHere } from "./connect/policy";
import { WorkerSockets } from "./connect/sockets";
import { decodeBase64url, hex } from "./protocol/codec";
import type { Answer, Command, Event, Question } from "./events";
import { policyTold } from "./invitation/policy";
import { HttpsConnections } from "./lanes/https/connection";
import { PeerConnections } from "./lanes/webrtc/connection";
import { allowOwnScripts } from "./own_scripts";
import { Receiving } from "./receiving";
import { Sending, eraseExpired } from "./sending";
import { Home } from "./state/home";
import { serveHashing } from "./storage/hash_worker";
import { HASHER } from "./storage/hashing";
import { roomOnDisk } from "./storage/opfs";
import { failed } from "./transfer/outcome";
import { pastTransfers } from "./transfer/summary";

allowOwnScripts(); // a hasher's

let home: Promise<Home> | null = null;
let receiving: Receiving | null = null;
let sending: Sending | null = null;
let asked = 0; // questions so far
let answer: ((answer: Answer) => void) | null = null; // to the last one
let persisted: ((granted: boolean) => void) | null = null;

const tell = (event: Event): void => {
  if (receiving) receiving.hear(event);
  postMessage(event);
};
const peerConnections = new PeerConnections((call) => tell({ event: "rtc", call }));
const httpsConnections = new HttpsConnections((call) => tell({ event: "https", call }));
const sockets = new WorkerSockets((call) => tell({ event: "socket", call }));

function ask(kind: Question, signIn = ""): Promise<Answer> {
  tell({ event: "question", kind, number: ++asked, signIn });
  return new Promise((resolve) => (answer = resolve));
}

const person = {
  tell,
  folders: false,
  ask: (kind: Question): Promise<Answer> => ask(kind),
  askToken: (signIn: string): Promise<Answer> => ask("token", signIn),
  persist(): Promise<boolean> {
    tell({ event: "persist" });
    return new Promise((resolve) => (persisted = resolve));
  },
};

/** What this browser keeps, opened once. */
async function opened(): Promise<Home> {
  await sodium.ready;
  return (home ??= Home.open().then(async (kept) => {
    const granted = await navigator.storage?.persisted().catch(() => false);
    tell({ event: "persisted", granted: granted ?? false });
    await eraseExpired(kept);
    return kept;
  }));
}

async function forSending(): Promise<Sending> {
  const { openSocket } = sockets;
  const kept = await opened();
  return (sending ??= new Sending(kept, { ...person, peerConnections, openSocket }));
}

/** What this server's operator asks, for a page that has no link yet. */
async function tellPolicy(): Promise<void> {
  const policy = await policyHere(self.location.origin);
  if (policy) tell(policyTold(policy));
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

/** Save the receipt of a transfer that is kept. */
async function exportReceipt(transferId: string): Promise<void> {
  const { receipts, audit } = await opened();
  const document = await receipts.read(transferId);
  const name = `${hex(decodeBase64url(transferId))}.receipt.json`; // as on the command line
  if (!document) return;
  tell({ event: "receipt", name, document });
  await audit.note("exported", { format: "receipt", count: 1, transfer_id: transferId });
}

/** Save the audit log, which notes that from its next entry on. */
async function exportAudit(): Promise<void> {
  const { audit } = await opened();
  tell({ event: "audit", document: await audit.text() });
  await audit.note("exported", { format: "jsonl" });
}

async function tellHistory(): Promise<void> {
  tell({ event: "history", entries: await pastTransfers(await opened()) });
}

/** Erase one receipt, or with "" all of them. */
async function forget(transferId: string): Promise<void> {
  const { receipts, audit } = await opened();
  if (transferId) await receipts.drop(transferId);
  else await receipts.clear();
  const details = transferId ? { transfer_id: transferId } : {};
  await audit.append("receipts_erased", details);
  await tellHistory();
}

async function obey(data: Command): Promise<void> {
  switch (data.command) {
    case "open":
      await sodium.ready;
      void tellPolicy();
      receiving = new Receiving(await opened(), { ...person, peerConnections, httpsConnections });
      return receiving.open(data.link);
    case "start":
      return receiving!.start(data);
    case "save":
      return receiving!.save(data.into);
    case "stayed":
      return receiving!.stayed();
    case "discard":
      return receiving!.discard();
    case "home":
      void tellPolicy(); // nobody waits for it
      return (await forSending()).home();
    case "pick":
      return (await forSending()).pick(data.picked, data.choice, data.last);
    case "unpick":
      return sending!.unpick(data.number);
    case "send":
      return sending!.send(data.options);
    case "take_up":
      return (await forSending()).takeUp(data.transferId, data.granted);
    case "go_on":
      return sending!.goOn();
    case "drop":
      return (await forSending()).drop(data.transferId);
    case "renew":
      return sending?.renew();
    case "answer":
      return data.question === asked ? answer?.(data.answer) : undefined;
    case "persisted":
      tell({ event: "persisted", granted: data.granted });
      return persisted?.(data.granted);
    case "check":
      return check(data.origin);
    case "stop":
      receiving?.stop();
      return sending?.stop();
    case "receipt":
      return exportReceipt(data.transferId);
    case "history":
      await (await opened()).audit.note("log_read", { command: "history" });
      return tellHistory();
    case "forget":
      return forget(data.transferId);
    case "audit":
      return exportAudit();
    case "exported":
      return (await opened()).audit.note("exported", { format: "html", count: data.count });
  }
}

function listen({ data }: MessageEvent<Command>): void {
  // What these bring belongs to what runs, which ends by its own errors.
  if (data.command === "rtc") return peerConnections.take(data.event);
  if (data.command === "https") return httpsConnections.take(data.event);
  if (data.command === "socket") return sockets.take(data.event);
  obey(data).catch((error) => tell({ event: "ended", ...failed(error) }));
}

if (self.name === HASHER) void serveHashing();
else onmessage = listen;
