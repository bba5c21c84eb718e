/** Two real sessions back to back over a simulated network, with simulated disks and time (`Both`). */
import { expect } from "vitest";

import {
  encodeBase64url,
  encodeJson,
  sha256,
  type Bytes,
  type JsonObject,
} from "../../src/protocol/codec";
import type { Secured } from "../../src/protocol/handshake";
import {
  CHANGED,
  NOT_PLACED,
  Results,
  decodeManifest,
  encodeManifest,
  resultsRoot,
  tapeOf,
  type Manifest,
} from "../../src/protocol/manifest";
import { CipherState } from "../../src/protocol/noise";
import * as receipt from "../../src/protocol/receipt";
import { HOLE, Stream, endOf, isHole, type Header } from "../../src/protocol/seal";
import {
  INITIAL_LIMIT,
  RecipientSession,
  SenderSession,
  WEBRTC,
  type Event,
  type Range,
  type Receipted,
  type SenderState,
} from "../../src/protocol/session";
import type { IncomingStream } from "../../src/protocol/session/flow";
import { encodeBody, type Fields, type MessageType } from "../../src/protocol/session/messages";
import { FIRST_SUITE } from "../../src/protocol/suite";
import type { Tape } from "../../src/protocol/tape";
import { TIME, TRANSFER, manifestOf, signReceipt, signer, type Content, type Signer } from "./pair";

export type Role = "sender" | "recipient";
type Options = { largest?: number; verify?: boolean; senderVerifies?: boolean };

const filled = (octet: number) => new Uint8Array(32).fill(octet);

export const AUDIT_HEAD = "0".repeat(64);
export const OWN: JsonObject = { label: "s", software: "t" };
export const SECURITY: JsonObject = {
  fingerprint_sender: encodeBase64url(filled(102)),
  fingerprint_recipient: encodeBase64url(filled(103)),
  digits_confirmed: false,
  passphrase: false,
};

/** A receipt that the sender has signed, too. */
export interface Countersigned extends Receipted {
  readonly countersignature: Bytes;
}

export class Both {
  now = 128; // a power of two: differences of times near it are exact enough to compare
  sender!: SenderSession;
  recipient!: RecipientSession;
  readonly people: { readonly [role in Role]: Signer };
  readonly manifest: Manifest;
  readonly data: Bytes;
  readonly tape: Tape;
  readonly queues: { readonly [to in Role]: Bytes[] } = { sender: [], recipient: [] };
  readonly lanes = new Map<number, Range[]>();
  readonly writing: [Header, Bytes, number][] = []; // what the disk was given
  readonly disk = new Map<number, Bytes>(); // offset -> payload; empty for a hole
  readonly facts: { readonly [role in Role]: Event[] } = { sender: [], recipient: [] };
  readonly withdrawAt = new Map<number, number>(); // entry -> status, when its turn comes
  refuse: [number, number][] = []; // (entry, status) of the recipient
  readonly withdrawn = new Set<number>();
  noted: Bytes | null = null; // the results, in the sender's journal
  readonly closings: JsonObject[] = []; // likewise, of every session
  readonly receipts: Countersigned[] = []; // likewise
  confirmed = false; // the whole receipt is on the recipient's disk
  durable = 0; // what an earlier session left behind
  earlier: Results | null = null; // likewise
  answers = true; // the sender countersigns by itself
  slowDisk = false; // `write` is a step of its own
  private sessions = 0;
  private asked = false; // the person at the recipient
  private closing = false;
  private readonly jobs: Promise<void>[] = []; // what waits for a signature
  private keys = Promise.resolve();
  private openKeys: (() => void) | null = null;

  constructor(
    readonly files: readonly Content[] = [Uint8Array.of(1, 2, 3), Uint8Array.of(4, 5)],
    readonly options: Options = {},
  ) {
    this.people = { sender: this.slowly(signer(1, "s")), recipient: this.slowly(signer(2, "r")) };
    this.manifest = manifestOf(files);
    [this.data, this.tape] = [encodeManifest(this.manifest), tapeOf(this.manifest)];
    this.connect();
  }

  private slowly(by: Signer): Signer {
    const sign = async (data: Bytes) => {
      await this.keys;
      return by.signNow(data);
    };
    return { ...by, sign };
  }

  private connect(): void {
    const { largest = 4096, verify = false, senderVerifies = false } = this.options;
    const key = (seed: number) => filled(seed).fill(this.sessions, 28);
    const end = (of: Role, says: Bytes, hears: Bytes): Secured => ({
      peer: {
        identity: this.people[of === "sender" ? "recipient" : "sender"].public,
        label: of === "sender" ? "r" : "s",
        software: "t",
        verify: of === "sender" ? verify : senderVerifies,
        capabilities: [],
      },
      digits: "0000-0000-0000",
      transcript: key(8),
      suite: FIRST_SUITE,
      send: new CipherState(says),
      receive: new CipherState(hears),
      sessionKey: new Uint8Array(32),
    });
    const { sender, recipient } = this.people;
    const there = end("sender", key(3), key(4));
    const back = end("recipient", key(4), key(3));
    const wants = { verify: senderVerifies };
    this.sender = new SenderSession(there, sender, TRANSFER, largest, this.now, wants);
    this.recipient = new RecipientSession(back, recipient, this.now, { verify });
    for (const queue of Object.values(this.queues)) queue.length = 0;
    this.lanes.clear();
    this.lanes.set(0, []);
    this.writing.length = this.jobs.length = 0;
    this.asked = this.closing = false;
  }

  // --- plumbing

  flush(): void {
    this.queues.recipient.push(...this.sender.frames());
    this.queues.sender.push(...this.recipient.frames());
    for (const event of this.sender.events()) {
      this.facts.sender.push(event);
      this.atSender(event);
    }
    for (const event of this.recipient.events()) {
      this.facts.recipient.push(event);
      this.atRecipient(event);
    }
  }

  protected atSender(event: Event): void {
    if (event.type === "receipted" && this.answers) this.job(() => this.countersign(event));
  }

  protected atRecipient(event: Event): void {
    if (event.type === "manifest_arrived") {
      expect(decodeManifest(event.data)).toEqual(this.manifest);
    } else if (event.type === "delivered") {
      this.finish(event.digests);
    } else if (event.type === "countersigned") {
      this.durably("recipient", () => (this.confirmed = true));
      this.recipient.confirm(this.now);
      this.flush();
    }
  }

  /** What a side writes is on its disk before it goes on. */
  protected durably(_role: Role, write: () => void): void {
    write();
  }

  /** What a call that signs does; `settled` waits for it, and throws what it threw. */
  protected job(call: () => Promise<void>): void {
    const promise = call();
    promise.catch(() => {}); // not unhandled: `settled` comes to it
    this.jobs.push(promise);
  }

  /** Until everything is signed, unless the platform takes its time. */
  async settled(): Promise<void> {
    while (this.jobs.length && !this.openKeys) await this.jobs.shift();
    this.flush();
  }

  /** Nothing is signed from now on ... */
  holdKeys(): void {
    if (!this.openKeys) this.keys = new Promise((resolve) => (this.openKeys = resolve));
  }

  /** ... until now. */
  releaseKeys(): Promise<void> {
    this.openKeys?.();
    this.openKeys = null;
    return this.settled();
  }

  saw<T extends Event["type"]>(role: Role, type: T): Extract<Event, { type: T }>[] {
    return this.facts[role].filter(
      (event): event is Extract<Event, { type: T }> => event.type === type,
    );
  }

  /** Have a side say what it would not. */
  say(role: Role, type: MessageType, fields: Fields = {}): void {
    const one = this[role] as SenderSession; // what both have
    one["say"](type, this.now, fields);
    this.flush();
  }

  /** Have the recipient sign and say what it would not. */
  saySigned(type: "accept", label: Bytes, fields: Fields, by = this.people.recipient): void {
    const body = encodeBody(fields);
    const signature = by.signNow(Uint8Array.of(...label, ...body));
    this.say("recipient", type, { body: new TextDecoder().decode(body), signature });
  }

  /** Everything that was said to a side. */
  hear(to: Role): void {
    while (this.deliverControl(to));
  }

  // --- receipts

  /** The sender keeps the receipt and answers it. */
  protected async countersign(event: Receipted): Promise<void> {
    const { sender } = this;
    const root = resultsRoot(this.manifest, sender.results);
    const countersignature = await sender.countersign(event, root, this.closings);
    this.durably("sender", () => this.receipts.push({ ...event, countersignature }));
    sender.countersigned(countersignature, this.now);
    this.flush();
  }

  /** What the recipient makes of the sender's digests. */
  protected finish(digests: Bytes): void {
    const results = Results.decode(digests, this.manifest);
    for (const [entry, status] of this.refuse) results.failed(entry, status);
    const payload = this.payload(results);
    const signature = signReceipt(this.people.recipient, payload);
    this.recipient.finish(results, this.refuse, payload, signature, this.now);
    this.flush();
  }

  payload(results: Results): Bytes {
    const { sender, recipient } = this.people;
    const root = resultsRoot(this.manifest, results);
    return encodeJson({
      type: receipt.TYPE,
      sender: receipt.party(sender.public, "s", "t", this.recipient.senderAuditHead),
      recipient: receipt.party(recipient.public, "r", "t", AUDIT_HEAD),
      stored: "browser",
      security: {
        suite: "x",
        transcript: encodeBase64url(this.recipient["secured"].transcript),
        path: "direct",
        ...SECURITY,
      },
      ...this.recipient.receiptMembers(results, root, TIME),
    });
  }

  // --- one step each; true when it did something

  async offer(): Promise<this> {
    const { manifest, data, tape } = this;
    const results = this.earlier ?? Results.of(this.files.length);
    const offering = { manifest, data, tape, results };
    this.job(() => this.sender.offer(offering, TIME, () => this.now, this.durable));
    await this.settled();
    return this;
  }

  /** The person at the recipient says yes. */
  accept(offset = this.durable): boolean {
    if (this.recipient.state !== "deciding" || this.asked) return false;
    this.asked = true;
    this.recipient.read(this.manifest, this.tape);
    this.job(() => this.recipient.accept(TIME, offset, () => this.now));
    return true;
  }

  /** Cut, and there again: new sessions, and the recipient has what was durable. */
  reconnect(durable = this.known.durable, earlier: Results | null = this.sender.results): this {
    [this.durable, this.earlier] = [durable, earlier];
    this.sender.abort("connection_lost", this.now);
    this.recipient.abort("connection_lost", this.now);
    this.sessions++;
    this.connect();
    for (const at of this.disk.keys()) if (at >= this.durable) this.disk.delete(at);
    return this;
  }

  /** A lane opens once both have told how it is reached, the recipient in its table's states. */
  get mayAddLane(): boolean {
    return this.recipient.state !== "waiting";
  }

  addLane(rank = WEBRTC): number {
    const number = this.sender.lanes.number()!;
    this.sender.lanes.add(number, rank);
    this.recipient.addLane(number);
    this.lanes.set(number, []);
    return number;
  }

  dropLane(number: number): void {
    this.sender.lanes.drop(number);
    this.lanes.delete(number);
  }

  send(lane = 0): boolean {
    if (this.sender.allSent && !this.closing) return this.close();
    const plan = this.sender.plan(lane, this.now);
    if (!plan) return false;
    if (!("step" in plan)) {
      this.put(lane, ...plan); // another lane holds it up
      return true;
    }
    const { stream, offset } = plan;
    const header = { transferId: TRANSFER, stream, flags: 0, offset };
    if (stream !== Stream.DATA) {
      const payload = this.sender.bytesOf(stream, offset, Math.min(plan.step, plan.length));
      return this.take(lane, { ...header, length: payload.length }, payload);
    }
    const entry = this.tape.entryAt(offset);
    const status = this.withdrawAt.get(entry);
    if (status !== undefined) return this.withdraw([entry, status]);
    const [content, start, end] = [
      this.files[entry]!,
      this.tape.start(entry),
      this.tape.end(entry),
    ];
    if (typeof content === "number") {
      return this.take(lane, { ...header, flags: HOLE, length: end - offset }, new Uint8Array(0));
    }
    const length = Math.min(plan.step, plan.length, end - offset);
    const payload = content.subarray(offset - start, offset - start + length);
    return this.take(lane, { ...header, length }, payload);
  }

  withdraw(...entries: [number, number][]): boolean {
    this.sender.withdraw(entries, this.now);
    for (const [entry] of entries) {
      this.withdrawAt.delete(entry);
      this.withdrawn.add(entry);
    }
    this.flush();
    return true;
  }

  private take(lane: number, header: Header, payload: Bytes): boolean {
    this.sender.taken(header);
    this.put(lane, header, payload);
    return true;
  }

  put(lane: number, header: Header, payload: Bytes): void {
    this.sender.sent(lane, header, payload, this.now);
    this.lanes.get(lane)?.push([header, payload]);
    this.flush();
  }

  /** The digest of every file that was not given up. */
  hash(): void {
    this.files.forEach((content, entry) => {
      if (content === null || this.withdrawn.has(entry)) return;
      this.sender.hashed(
        entry,
        sha256(typeof content === "number" ? new Uint8Array(content) : content),
      );
    });
  }

  protected close(): boolean {
    this.closing = true;
    this.hash();
    this.sender.drawUp(TIME, AUDIT_HEAD);
    const [closed, results] = [this.sender.closed(OWN, SECURITY), this.sender.results.encode()];
    this.durably("sender", () => (this.noted = results));
    this.durably("sender", () => this.closings.push(closed));
    this.job(() => this.sender.close(() => this.now));
    return true;
  }

  deliverControl(to: Role): boolean {
    const frame = this.queues[to].shift();
    if (!frame) return false;
    this[to].receiveFrame(frame, this.now);
    this.flush();
    return true;
  }

  deliverData(lane = 0): boolean {
    const range = this.lanes.get(lane)?.shift();
    if (!range) return false;
    const [header, payload] = range;
    if (this.recipient.admit(header, this.now, lane)) {
      this.writing.push([header, payload, lane]);
      if (!this.slowDisk) this.write();
    }
    this.flush();
    return true;
  }

  /** The disk is done with one of the ranges that it was given. */
  write(which = 0): boolean {
    const { length } = this.writing;
    if (!length) return false;
    const [[header, payload, lane]] = this.writing.splice(which % length, 1) as [
      [Header, Bytes, number],
    ];
    if (header.stream === Stream.DATA) {
      expect(isHole(header) || endOf(header) <= this.known.limit).toBe(true);
      this.disk.set(header.offset, payload);
    }
    this.recipient.written(header, payload, this.now, lane);
    this.flush();
    return true;
  }

  /** What the recipient knows of the tape on its disk. */
  private get known(): Pick<IncomingStream, "durable" | "verified" | "total" | "limit"> {
    const nothing = { durable: 0, verified: 0, total: this.tape.total, limit: 0 };
    return this.recipient["streams"].get(Stream.DATA) ?? nothing;
  }

  sync(): boolean {
    const { frontier, state } = this.recipient;
    if (state !== "receiving" || frontier === this.known.durable) return false;
    this.recipient.synced(frontier, this.now);
    this.flush();
    return true;
  }

  readBack(): boolean {
    if (this.recipient.state !== "receiving" || this.recipient["whole"]) return false;
    const { verified, durable, total } = this.known;
    if (verified === durable && durable < total) return false;
    this.recipient.verified(durable, this.now);
    this.flush();
    return true;
  }

  tick(seconds = 0.05): void {
    this.now += seconds;
    for (const one of [this.sender, this.recipient]) {
      one.tick(this.now);
      this.flush();
    }
  }

  // --- many steps

  get over(): boolean {
    return this.sender.over && this.recipient.over;
  }

  get endings(): (string | undefined)[] {
    return (["sender", "recipient"] as const).map((role) => this.saw(role, "ended").at(-1)?.ending);
  }

  /** What can be done, in the obvious order. */
  steps(): (() => boolean)[] {
    const lanes = [...this.lanes.keys()];
    return [
      () => this.accept(),
      () => this.deliverControl("recipient"),
      () => this.deliverControl("sender"),
      ...lanes.map((lane) => () => this.send(lane)),
      ...lanes.map((lane) => () => this.deliverData(lane)),
      () => this.write(),
      () => this.sync(),
      () => this.readBack(),
    ];
  }

  /** One step after the other, until it is enough; whether anything was done. */
  private async round(enough: () => boolean): Promise<boolean> {
    let any = false;
    for (const step of this.steps()) {
      if (enough()) return true;
      any = step() || any;
      await this.settled();
    }
    return any;
  }

  /** Everything in the obvious order until both are over, or it is enough. */
  async run(enough = () => this.over): Promise<this> {
    await this.releaseKeys();
    for (let rounds = 0; rounds < 20_000; rounds++) {
      if (enough()) return this;
      if (!(await this.round(enough))) this.tick();
    }
    throw new Error("it does not end");
  }

  /** Whether an entry lies on the recipient's disk, byte for byte (a hole: whether it was said). */
  arrived(entry: number, disk: ReadonlyMap<number, Bytes> = this.disk): boolean {
    const [start, end] = [this.tape.start(entry), this.tape.end(entry)];
    const content = this.files[entry]!;
    if (typeof content === "number") return !content || disk.has(start);
    const parts = [...disk].filter(([at]) => start <= at && at < end).sort(([a], [b]) => a - b);
    const found = Buffer.concat(parts.map(([, payload]) => payload));
    return found.equals(content ?? new Uint8Array(0));
  }

  /** Sessions that have come to a state of the sender in the ordinary way. */
  static async at(state: SenderState, files?: readonly Content[], options?: Options) {
    const both = new Both(files, options);
    if (state === "admitting") return both;
    both.answers = state !== "countersigning";
    await both.offer();
    return both.run(() => both.sender.state === state);
  }
}

export const SIGNATURE = new Uint8Array(64);
/** A message of every type that has the right form, whether or not it is right. */
export const SAMPLES: { [type in MessageType]: Fields } = {
  confirmed: {},
  offer: { body: "{}", signature: SIGNATURE },
  accept: { body: "{}", signature: SIGNATURE },
  decline: {},
  ack: { stream: 0, written: 0, limit: INITIAL_LIMIT, durable: 0, verified: 0, lanes: [] },
  withdraw: { entries: [[0, CHANGED, 0]] },
  failed: { entries: [[0, NOT_PLACED]] },
  closing: { body: "{}", signature: SIGNATURE },
  receipt: { payload: "{}", signature: SIGNATURE },
  countersignature: { signature: SIGNATURE },
  done: {},
  https: { token: new Uint8Array(32) },
  direct: { addresses: ["192.0.2.1"], port: 4000, certificate: "AAAA" },
  lane: { lane: 1, signal: '{"type":"candidates","candidates":[],"relayed":false}' },
  ping: { bottleneck: "" },
  abort: { code: "cancelled" },
};
