/**
 * The session of a recipient (mirrors `RecipientSession` of `p2p/protocol/session.py`).
 *
 * In go control frames, headers of ranges, answers of the disk, decisions of people and the time;
 * out come control frames (`frames`), past-tense facts (`events`) and the next moment to call `tick`
 * (`deadline`). No I/O and no clock; only signing may wait, for the platform keeps the key.
 *
 * **The one invariant: after every call, send all `frames` and handle all `events` before the next.**
 */
import {
  MAX_INTEGER,
  base64url,
  concat,
  decodeJson,
  encodeBase64url,
  encodeJson,
  fromUtf8,
  integer,
  listOf,
  members,
  oneOf,
  readAs,
  same,
  sha256,
  text,
  tupleOf,
  utf8,
  type Bytes,
  type Json,
  type JsonObject,
} from "./codec";
import { FAILURES, Failure, PeerError, type Code, type Ending } from "./errors";
import { checkSigned, type Identity, type Secured } from "./handshake";
import {
  MAX_ENTRIES,
  MAX_MANIFEST,
  RESULT,
  WITHDRAWN,
  type Manifest,
  type Results,
} from "./manifest";
import { MAX_MESSAGE, TAG } from "./noise";
import { BadReceipt, MAX_RECEIPT, checkSignature } from "./receipt";
import { Stream, endOf, isHole, type Header } from "./seal";
import { MAX_PLAINTEXT, decodeSignal, directShape, encodeSignal, type Signal } from "./signal";
import { Frontier, type Tape } from "./tape";

const LABEL_OFFER = utf8("handover/1 offer");
const LABEL_ACCEPT = utf8("handover/1 accept");
const LABEL_CLOSING = utf8("handover/1 closing");

export const WINDOW = 32 * 1024 * 1024; // bytes a recipient lets come beyond what it has written
export const INITIAL_LIMIT = 1024 * 1024; // of data and digests, before the first ack
const ACK_SHARE = 8; // an ack at the latest after an eighth of what was written so far ...
const [MIN_ACK, MAX_ACK] = [64 * 1024, 4 * 1024 * 1024]; // ... within these ...
export const ACK_SECONDS = 0.05; // ... or after so long
export const IDLE_SECONDS = 2; // then a ping
export const SUSPECT_SECONDS = 6; // silence after which people are told
export const LOST_SECONDS = 10; // silence after which the connection is given up
export const DONE_SECONDS = 10; // how long a side waits for the last word after the signatures
const [MAX_LANES, MAX_LANE_NUMBER] = [32, 65535]; // at once; a number is used once
const BATCH = 256; // entries in one `withdraw` or `failed`
const MAX_BODY = 4096;
const MAX_CONTROL = MAX_MESSAGE - TAG;

// An abort with one of these reads the same on both sides; any other becomes `peer_failed`.
const SHARED_FAILURES = [
  "declined",
  "digits_rejected",
  "no_space",
  "not_writable",
  "disk_error",
  "disk_paused",
];

const LOST = ["connection_lost", "connection_lost_early"]; // nothing that a side ends

// --- events: what happened, as facts --------------------------------------------------------------

export type Event =
  | { readonly type: "offered"; readonly entries: number; readonly size: number }
  | { readonly type: "manifest_arrived"; readonly data: Bytes }
  | {
      readonly type: "progressed";
      readonly durable: number;
      readonly verified: number;
      readonly total: number;
    }
  | { readonly type: "withdrawn"; readonly entries: readonly (readonly [number, number])[] }
  | { readonly type: "delivered"; readonly digests: Bytes }
  | { readonly type: "countersigned"; readonly signature: Bytes }
  | { readonly type: "lane_signalled"; readonly number: number; readonly signal: Signal }
  | { readonly type: "bottleneck_reported"; readonly by: Bottleneck }
  | { readonly type: "suspected"; readonly silent: boolean }
  | { readonly type: "ended"; readonly ending: Ending; readonly code: Code | "" };

// --- messages -------------------------------------------------------------------------------------

const type = text(32);
const body = text(MAX_BODY, { empty: false });
const offset = integer(0, MAX_INTEGER);
const entry = integer(0, MAX_ENTRIES - 1);
const status = integer(0, 255);
const laneNumber = integer(0, MAX_LANE_NUMBER);
const signed = { type, body, signature: base64url(64) };

export const MESSAGES = {
  confirmed: members({ type }),
  offer: members(signed),
  accept: members(signed),
  decline: members({ type }),
  ack: members({
    type,
    stream: integer(0, 2),
    written: offset,
    limit: offset,
    durable: offset,
    verified: offset,
    lanes: listOf(tupleOf<[number, number]>(laneNumber, offset), MAX_LANES),
  }),
  withdraw: members({
    type,
    entries: listOf(tupleOf<[number, number, number]>(entry, status, offset), BATCH, { least: 1 }),
  }),
  failed: members({
    type,
    entries: listOf(tupleOf<[number, number]>(entry, status), BATCH, { least: 1 }),
  }),
  closing: members(signed),
  receipt: members({
    type,
    payload: text(MAX_RECEIPT, { empty: false }),
    signature: base64url(64),
  }),
  countersignature: members({ type, signature: base64url(64) }),
  done: members({ type }),
  direct: directShape,
  lane: members({ type, lane: integer(1, MAX_LANE_NUMBER), signal: text(MAX_PLAINTEXT) }),
  ping: members({ type, bottleneck: oneOf("", "disk", "limit", "network", "other_side") }),
  abort: members({ type, code: text(32) }),
};
type Kind = keyof typeof MESSAGES;
type Message<K extends Kind> = ReturnType<(typeof MESSAGES)[K]>;

const id = base64url(32);
const time = text(40, { empty: false });
const offerBody = members({
  type: oneOf("offer"),
  transfer_id: base64url(16),
  transcript: id,
  sender: id,
  recipient: id,
  manifest_sha256: id,
  manifest_bytes: integer(1, MAX_MANIFEST),
  entries: integer(1, MAX_ENTRIES),
  bytes: offset,
  time,
});
const acceptBody = members({
  type: oneOf("accept"),
  transfer_id: base64url(16),
  transcript: id,
  offer_sha256: id,
  offset,
  time,
});
const closingBody = members({
  type: oneOf("closing"),
  transfer_id: base64url(16),
  manifest_sha256: id,
  digests_sha256: id,
  audit_head: text(64),
  time,
});

/** The signed documents by name. */
export const BODIES = { offer: offerBody, accept: acceptBody, closing: closingBody };

// --- the machine ----------------------------------------------------------------------------------

/** A stream as its recipient sees it. */
class Incoming {
  readonly frontier: Frontier; // of what is written
  readonly admitted: Frontier; // of that and of what is being written
  limit: number;
  durable: number;
  verified = 0;
  acknowledged: number;
  changed: number | null = null; // since when an ack is owed
  private repeated = 0;

  constructor(
    readonly stream: Stream,
    readonly total: number,
    from: number,
  ) {
    this.frontier = new Frontier(from);
    this.admitted = new Frontier(from);
    this.limit = from + INITIAL_LIMIT;
    this.durable = this.acknowledged = from;
  }

  /** Whether the range is new. Throws `PeerError` for one that may not come. */
  admit(header: Header): boolean {
    if (endOf(header) > this.total) throw new PeerError("a range past the end");
    if (header.offset >= this.limit || (!isHole(header) && endOf(header) > this.limit)) {
      throw new PeerError("a range beyond the limit");
    }
    if (!this.admitted.holds(header.offset, endOf(header))) {
      this.admitted.add(header.offset, endOf(header));
      return true;
    }
    this.repeated += header.length;
    if (this.repeated > 2 * this.total) throw new PeerError("too many repeated ranges");
    return false;
  }
}

/** What holds the sender up, as it sees it: its disk or limit, the network, or this side. */
export type Bottleneck = "" | "disk" | "limit" | "network" | "other_side";

export type RecipientState =
  "waiting" | "reading" | "deciding" | "receiving" | "finishing" | "signed" | "confirmed";

// Which message may come in which state; what is not here is a protocol error (PROTOCOL.md 10).
// Direct lanes are for two command lines: nothing is said of them here.
const TABLE: { readonly [state in RecipientState]?: readonly Kind[] } = {
  waiting: ["offer"],
  reading: ["lane"],
  deciding: ["lane"],
  receiving: ["withdraw", "closing", "lane"],
  finishing: ["lane"],
  signed: ["countersignature", "lane"],
};

/** The recipient. In order: `read`, `accept`, `admit` and `written`, `finish`, `confirm`. */
export class RecipientSession {
  state: RecipientState = "waiting";
  over = false;
  readonly needsConfirmation: boolean;
  private bottleneck: Bottleneck = "";

  private outgoing: Bytes[] = [];
  private happened: Event[] = [];
  private heardAt: number;
  private spokeAt: number;
  private silent = false;
  private doneBy: number | null = null;
  private gone = false;
  private countersigned = false;

  private readonly streams = new Map<Stream, Incoming>();
  private readonly bytes = new Map<Stream, Bytes>();
  private readonly lanes = new Map([[0, 0]]); // ranges taken in from each
  private readonly counted = new Set<number>(); // lanes whose number the sender does not know yet
  private fields!: ReturnType<typeof offerBody>;
  private offer!: Bytes;
  private manifest!: Manifest;
  private tape!: Tape;
  private accepted = "";
  private closing: Bytes | null = null;
  private closingFields!: ReturnType<typeof closingBody>;
  private payload!: Bytes;
  private results!: Results;

  constructor(
    private readonly secured: Secured,
    private readonly identity: Identity,
    now: number,
    { verify }: { verify: boolean },
  ) {
    this.heardAt = this.spokeAt = now;
    this.needsConfirmation = verify || secured.peer.verify;
  }

  // -- outputs

  /** Control frames to send now, in order. */
  frames(): Bytes[] {
    const frames = this.outgoing;
    this.outgoing = [];
    return frames;
  }

  /** What happened since the last call. */
  events(): Event[] {
    const events = this.happened;
    this.happened = [];
    return events;
  }

  /** When to call `tick` at the latest. */
  deadline(): number {
    const moments = [this.spokeAt + IDLE_SECONDS, this.heardAt + LOST_SECONDS];
    if (!this.silent) moments.push(this.heardAt + SUSPECT_SECONDS);
    if (this.doneBy !== null) moments.push(this.doneBy);
    for (const { changed } of this.streams.values()) {
      if (changed !== null) moments.push(changed + ACK_SECONDS);
    }
    return Math.min(...moments);
  }

  // -- inputs

  /** An authenticated message came (data counts as well). */
  heard(now: number): void {
    this.heardAt = now;
    if (this.silent) {
      this.silent = false;
      this.happened.push({ type: "suspected", silent: false });
    }
  }

  /** A control frame. Throws `PeerError`, or `Failure` when the peer aborted. */
  receiveFrame(frame: Bytes, now: number): void {
    const value = decodeJson(this.secured.receive.decrypt(frame), MAX_CONTROL);
    const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
    const kind = isObject ? value["type"] : null;
    if (typeof kind !== "string" || !Object.hasOwn(MESSAGES, kind)) {
      throw new PeerError("an unknown message");
    }
    const message = readAs(
      MESSAGES[kind as Kind] as (value: Json) => unknown,
      value,
      `a message of type ${kind}`,
    );
    this.heard(now);
    if (this.over) return;
    if (kind === "ping") return this.onPing((message as Message<"ping">).bottleneck);
    if (kind === "abort") return this.onAbort((message as Message<"abort">).code);
    if (!TABLE[this.state]?.includes(kind as Kind)) {
      throw new PeerError(`a message of type ${kind} out of turn`);
    }
    switch (kind) {
      case "offer":
        return this.onOffer(message as Message<"offer">, now);
      case "withdraw":
        return this.onWithdraw(message as Message<"withdraw">, now);
      case "closing":
        return this.onClosing(message as Message<"closing">, now);
      case "countersignature":
        return this.onCountersignature(message as Message<"countersignature">);
      case "lane":
        return this.onLane(message as Message<"lane">);
    }
  }

  private onPing(by: Bottleneck): void {
    if (by === this.bottleneck) return;
    this.bottleneck = by;
    this.happened.push({ type: "bottleneck_reported", by });
  }

  /** Time has passed. Throws `Failure` (connection_lost). */
  tick(now: number): void {
    if (this.over) return;
    if (now - this.heardAt >= LOST_SECONDS) return this.lost();
    if (now - this.heardAt >= SUSPECT_SECONDS && !this.silent) {
      this.silent = true;
      this.happened.push({ type: "suspected", silent: true });
    }
    if (this.doneBy !== null && now >= this.doneBy) this.giveUpWaiting();
    if (this.over) return;
    if (now - this.spokeAt >= IDLE_SECONDS) this.say("ping", now, { bottleneck: "" });
    for (const stream of this.streams.values()) {
      if (stream.changed !== null && now - stream.changed >= ACK_SECONDS) {
        this.acknowledge(stream, now);
      }
    }
  }

  /** The connection is gone. Throws `Failure`, unless only the last word is missing. */
  lost(): void {
    if (this.over) return;
    if (this.state === "finishing") {
      this.gone = true; // the files are being placed; the end is `finish`'s to tell
    } else if (this.state === "signed") {
      if (!this.countersigned) this.giveUpWaiting(); // else the end is `confirm`'s to tell
    } else {
      const early = ["waiting", "reading", "deciding"].includes(this.state);
      throw new Failure(early ? "connection_lost_early" : "connection_lost");
    }
  }

  /** The files are delivered and only signatures are under way: no time to stop. */
  get settling(): boolean {
    return this.state === "finishing" || this.state === "signed";
  }

  /** End it, and tell the peer why; a lost connection tells itself. */
  abort(code: Code, now: number): void {
    if (this.over) return;
    if (!LOST.includes(code)) this.say("abort", now, { code });
    this.over = true;
  }

  // -- decisions and answers

  /** A person said that the digits are the same. */
  confirmed(now: number): void {
    this.say("confirmed", now);
  }

  /** Say no, kindly. */
  decline(now: number): void {
    this.say("decline", now);
    this.end("declined", "declined");
  }

  /** The transfer's id, from the offer (16 bytes). */
  get transferId(): Bytes {
    return this.fields.transfer_id;
  }

  /** SHA-256 of the manifest, from the offer. */
  get manifestHash(): Bytes {
    return this.fields.manifest_sha256;
  }

  /** The manifest, decoded. Throws `PeerError` when it is not what the offer said of it. */
  read(manifest: Manifest, tape: Tape): void {
    if (manifest.entries.length !== this.fields.entries || tape.total !== this.fields.bytes) {
      throw new PeerError("the manifest is not what the offer says");
    }
    [this.manifest, this.tape] = [manifest, tape];
  }

  /**
   * Say yes to the manifest that was read; signed, before any byte of data.
   *
   * `offset` is how much of the tape is durable here from an earlier session; 0 for a new transfer.
   */
  async accept(time: string, offset: number, clock: () => number): Promise<void> {
    const body = encodeJson({
      type: "accept",
      transfer_id: encodeBase64url(this.fields.transfer_id),
      transcript: encodeBase64url(this.secured.transcript),
      offer_sha256: encodeBase64url(sha256(this.offer)),
      offset,
      time,
    });
    const signature = await this.identity.sign(concat(LABEL_ACCEPT, body));
    if (this.over) return;
    this.open(Stream.DATA, this.tape.total, offset);
    this.open(Stream.DIGESTS, this.manifest.entries.length * RESULT, 0);
    this.accepted = time;
    this.say("accept", clock(), { body: fromUtf8(body), signature: encodeBase64url(signature) });
    this.state = "receiving";
  }

  /** A further lane is open. Throws `PeerError` for a number that cannot be. */
  addLane(number: number): void {
    if (this.lanes.has(number)) throw new PeerError("a lane that was there before");
    this.lanes.set(number, 0);
  }

  /** Say how this side's end of the lane `number` is reached. */
  signal(number: number, signal: Signal, now: number): void {
    this.say("lane", now, { lane: number, signal: fromUtf8(encodeSignal(signal)) });
  }

  /** Whether to take in a range: true to write it, false for a repeated one. Throws `PeerError`. */
  admit(header: Header, now: number, lane = 0): boolean {
    this.heard(now);
    if (this.streams.size && !same(header.transferId, this.fields.transfer_id)) {
      throw new PeerError("a range of another transfer");
    }
    const stream = this.streams.get(header.stream);
    if (!stream) throw new PeerError("a range out of turn");
    if (stream.admit(header)) return true;
    this.count(stream, lane, now);
    return false;
  }

  /** A range was taken in (data: written to disk; other streams keep `payload` here). */
  written(header: Header, payload: Bytes, now: number, lane = 0): void {
    const stream = this.streams.get(header.stream)!;
    this.count(stream, lane, now);
    this.bytes.get(header.stream)?.set(payload, header.offset);
    stream.frontier.add(header.offset, endOf(header));
    this.advanced(stream, now);
    if (header.stream === Stream.MANIFEST && stream.durable === stream.total) {
      const data = this.bytes.get(Stream.MANIFEST)!;
      this.bytes.delete(Stream.MANIFEST);
      if (!same(sha256(data), this.fields.manifest_sha256)) {
        throw new PeerError("the manifest is not what the offer says");
      }
      this.acknowledge(stream, now);
      this.state = "deciding";
      this.happened.push({ type: "manifest_arrived", data });
    }
    this.deliverIfWhole(now);
  }

  /** How far the tape is written without a gap. */
  get frontier(): number {
    return this.streams.get(Stream.DATA)?.frontier.offset ?? 0;
  }

  /** The tape is on the disk for good up to `durable`. */
  synced(durable: number, now: number): void {
    const stream = this.streams.get(Stream.DATA)!;
    stream.durable = durable;
    stream.changed ??= now;
    this.progressed(stream);
  }

  /** The tape was read back from the disk and hashed up to `offset`. */
  verified(offset: number, now: number): void {
    const stream = this.streams.get(Stream.DATA)!;
    stream.verified = offset;
    stream.changed ??= now;
    this.progressed(stream);
    this.deliverIfWhole(now);
  }

  /**
   * Everything that could be is in its place: say what failed here, send the receipt.
   *
   * `payload` was signed with `receipt.sign` and is kept on this side already.
   */
  finish(
    results: Results,
    refused: readonly (readonly [number, number])[],
    payload: Bytes,
    signature: Bytes,
    now: number,
  ): void {
    for (let at = 0; at < refused.length; at += BATCH) {
      this.say("failed", now, { entries: refused.slice(at, at + BATCH).map((one) => [...one]) });
    }
    [this.results, this.payload] = [results, payload];
    this.say("receipt", now, {
      payload: fromUtf8(payload),
      signature: encodeBase64url(signature),
    });
    this.state = "signed";
    this.doneBy = now + DONE_SECONDS;
    if (this.gone) this.giveUpWaiting();
  }

  /** The members of the receipt that this session knows; binary ones as base64url. */
  facts(results: Results, root: Bytes, time: string): JsonObject {
    const failed = results.failures();
    const { entries } = this.manifest;
    const lost = failed.reduce((sum, [index]) => sum + entries[index]!.size, 0);
    return {
      transfer_id: encodeBase64url(this.fields.transfer_id),
      outcome: failed.length ? "incomplete" : "complete",
      offer_sha256: encodeBase64url(sha256(this.offer)),
      manifest_sha256: encodeBase64url(this.fields.manifest_sha256),
      closing_sha256: encodeBase64url(sha256(this.closing!)),
      content: {
        hash: "sha-256",
        tree: "rfc9162-salted",
        root: encodeBase64url(root),
        entries: entries.length,
        bytes: this.tape.total,
        delivered_entries: entries.length - failed.length,
        delivered_bytes: this.tape.total - lost,
      },
      times: {
        offered: this.fields.time,
        accepted: this.accepted,
        closed: this.closingFields.time,
        verified: time,
      },
    };
  }

  /** The head of the sender's audit log, from the closing. */
  get senderAuditHead(): string {
    return this.closingFields.audit_head;
  }

  /** The countersigned receipt is kept on this side: the last word. */
  confirm(now: number): void {
    this.say("done", now);
    this.state = "confirmed";
    this.end(this.results.failures().length ? "incomplete" : "complete");
  }

  // -- messages

  private onAbort(code: string): void {
    // When the files are delivered, an abort is no more than a missing last word.
    if (this.settling || LOST.includes(code)) return this.lost();
    this.over = true;
    if (code === "cancelled") throw new Failure("peer_cancelled");
    if (SHARED_FAILURES.includes(code)) throw new Failure(code as Code, "at the other side");
    const known = Object.hasOwn(FAILURES, code);
    throw new Failure("peer_failed", known ? code.replaceAll("_", " ") : "unknown");
  }

  private onOffer(message: Message<"offer">, now: number): void {
    const fields = this.readSigned(message, LABEL_OFFER, offerBody, "the offer");
    const ours =
      same(fields.sender, this.secured.peer.identity) &&
      same(fields.recipient, this.identity.public) &&
      same(fields.transcript, this.secured.transcript);
    if (!ours) throw new PeerError("the offer is not for this session");
    [this.fields, this.offer] = [fields, utf8(message.body)];
    this.open(Stream.MANIFEST, fields.manifest_bytes, 0);
    this.acknowledge(this.streams.get(Stream.MANIFEST)!, now);
    this.state = "reading";
    this.happened.push({ type: "offered", entries: fields.entries, size: fields.bytes });
  }

  private onWithdraw(message: Message<"withdraw">, now: number): void {
    const stream = this.streams.get(Stream.DATA)!;
    for (const [entry, status, offset] of message.entries) {
      if (entry >= this.manifest.entries.length || !WITHDRAWN.includes(status)) {
        throw new PeerError("a withdrawal of what does not exist");
      }
      const end = this.tape.end(entry);
      if (!(this.tape.start(entry) <= offset && offset <= end)) {
        throw new PeerError("a withdrawal outside its entry");
      }
      if (offset < end) {
        if (stream.admitted.holds(offset, end)) {
          throw new PeerError("a withdrawal of what was sent");
        }
        stream.admitted.add(offset, end);
        stream.frontier.add(offset, end);
        this.advanced(stream, now);
      }
    }
    const entries = message.entries.map(([entry, status]) => [entry, status] as const);
    this.happened.push({ type: "withdrawn", entries });
  }

  private onClosing(message: Message<"closing">, now: number): void {
    const fields = this.readSigned(message, LABEL_CLOSING, closingBody, "the closing");
    const ours =
      same(fields.transfer_id, this.fields.transfer_id) &&
      same(fields.manifest_sha256, this.fields.manifest_sha256);
    if (!ours) throw new PeerError("the closing is of another transfer");
    if (this.closing) throw new PeerError("a second closing");
    [this.closing, this.closingFields] = [utf8(message.body), fields];
    this.deliverIfWhole(now);
  }

  private onLane(message: Message<"lane">): void {
    const signal = decodeSignal(utf8(message.signal));
    this.happened.push({ type: "lane_signalled", number: message.lane, signal });
  }

  private onCountersignature(message: Message<"countersignature">): void {
    try {
      checkSignature(this.secured.peer.identity, this.payload, message.signature);
    } catch (error) {
      if (!(error instanceof BadReceipt)) throw error;
      throw new PeerError("the countersignature does not fit");
    }
    [this.doneBy, this.countersigned] = [null, true];
    this.happened.push({ type: "countersigned", signature: message.signature });
  }

  private readSigned<T>(
    message: Message<"offer">,
    label: Bytes,
    shape: (value: Json) => T,
    what: string,
  ): T {
    const body = utf8(message.body);
    checkSigned(label, this.secured.peer.identity, body, message.signature, what);
    return readAs(shape, decodeJson(body, MAX_BODY), what);
  }

  // -- streams

  private open(stream: Stream, total: number, from: number): void {
    this.streams.set(stream, new Incoming(stream, total, from));
    if (stream !== Stream.DATA) this.bytes.set(stream, new Uint8Array(total));
  }

  private advanced(stream: Incoming, now: number): void {
    const { offset } = stream.frontier;
    stream.limit = Math.max(stream.limit, offset + WINDOW);
    if (stream.stream !== Stream.DATA) stream.durable = stream.verified = offset;
    stream.changed ??= now;
    const due = Math.min(Math.max(Math.floor(offset / ACK_SHARE), MIN_ACK), MAX_ACK);
    if (offset - stream.acknowledged >= due) this.acknowledge(stream, now);
  }

  /** One more range of a lane is dealt with. */
  private count(stream: Incoming, lane: number, now: number): void {
    this.lanes.set(lane, this.lanes.get(lane)! + 1);
    this.counted.add(lane);
    stream.changed ??= now;
  }

  private progressed({ durable, verified, total }: Incoming): void {
    this.happened.push({ type: "progressed", durable, verified, total });
  }

  private acknowledge(stream: Incoming, now: number): void {
    [stream.changed, stream.acknowledged] = [null, stream.frontier.offset];
    const lanes = [...this.counted].slice(0, MAX_LANES).sort((a, b) => a - b);
    lanes.forEach((lane) => this.counted.delete(lane));
    this.say("ack", now, {
      stream: stream.stream,
      written: stream.frontier.offset,
      limit: stream.limit,
      durable: stream.durable,
      verified: stream.verified,
      lanes: lanes.map((lane) => [lane, this.lanes.get(lane)!]),
    });
  }

  private deliverIfWhole(now: number): void {
    if (this.state !== "receiving" || !this.closing) return;
    const [data, digests] = [this.streams.get(Stream.DATA)!, this.streams.get(Stream.DIGESTS)!];
    if (data.verified < data.total || digests.durable < digests.total) return;
    const content = this.bytes.get(Stream.DIGESTS)!;
    if (!same(sha256(content), this.closingFields.digests_sha256)) {
      throw new PeerError("the digests are not what the closing says");
    }
    this.state = "finishing";
    this.acknowledge(data, now);
    this.acknowledge(digests, now);
    this.happened.push({ type: "delivered", digests: content });
  }

  private say(kind: Kind, now: number, fields: JsonObject = {}): void {
    this.outgoing.push(this.secured.send.encrypt(encodeJson({ type: kind, ...fields })));
    this.spokeAt = now;
  }

  private giveUpWaiting(): void {
    this.doneBy = null;
    this.end("delivered_unconfirmed", "unconfirmed");
  }

  private end(ending: Ending, code: Code | "" = ""): void {
    this.over = true;
    this.happened.push({ type: "ended", ending, code });
  }
}
