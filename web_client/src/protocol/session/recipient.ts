/** The recipient's machine: read, accept, take in, sign, confirm. */
import {
  encodeBase64url,
  fromUtf8,
  same,
  sha256,
  utf8,
  type Bytes,
  type JsonObject,
} from "../codec";
import { PeerError } from "../errors";
import type { Identity, Secured } from "../handshake";
import { RESULT, WITHDRAWN, skippedOf, type Manifest, type Results } from "../manifest";
import { BadReceipt, checkSignature } from "../receipt";
import { Stream, endOf, type Header } from "../seal";
import type { Tape } from "../tape";
import { IncomingStream, WINDOW } from "./flow";
import { DONE_SECONDS, LONGEST_STILL_SECONDS, Session, STILL_SECONDS } from "./machine";
import {
  BATCH,
  BODIES,
  LABEL_ACCEPT,
  LABEL_CLOSING,
  LABEL_OFFER,
  MAX_LANES,
  encodeBody,
  type Body,
  type Fields,
  type Message,
} from "./messages";
import { LOST, RANGE, Table, calls } from "./table";

const ACK_SHARE = 8; // an ack at the latest after an eighth of what was written so far ...
const [MIN_ACK, MAX_ACK] = [64 * 1024, 4 * 1024 * 1024]; // ... within these ...
export const ACK_SECONDS = 0.05; // ... or after so long

/** Where a recipient stands. */
export const RECIPIENT_STATES = [
  "waiting",
  "reading",
  "deciding",
  "receiving",
  "finishing",
  "signed",
  "confirmed",
] as const;
export type RecipientState = (typeof RECIPIENT_STATES)[number];

/**
 * The recipient. `read`, `accept` -> `admit`/`written`/`synced`/`verified` -> `finish`, `confirm`.
 */
export class RecipientSession extends Session<RecipientState> {
  state: RecipientState = "waiting";
  readonly needsConfirmation: boolean;
  protected readonly settlingStates = ["finishing", "signed"] as const;

  private readonly streams = new Map<Stream, IncomingStream>();
  private readonly bytes = new Map<Stream, Bytes>();
  private readonly lanes = new Map([[0, 0]]); // ranges taken in from each
  private readonly counted = new Set<number>(); // lanes whose number the sender does not know yet
  private fields!: Body<"offer">;
  private offer!: Bytes;
  private manifest!: Manifest;
  private tape!: Tape;
  private acceptedAt = "";
  private closing: Bytes | null = null;
  private closingFields!: Body<"closing">;
  private payload!: Bytes;
  private results!: Results;
  private whole = false; // all of the tape was read back
  private countersigned = false;

  constructor(secured: Secured, identity: Identity, now: number, { verify }: { verify: boolean }) {
    super(secured, identity, now);
    this.needsConfirmation = verify || secured.peer.verify;
  }

  override deadline(): number {
    const owed = [...this.streams.values()]
      .filter(({ changed }) => changed !== null)
      .map(({ changed }) => changed! + ACK_SECONDS);
    return Math.min(super.deadline(), ...owed);
  }

  protected override patience(): number {
    if (this.state !== "reading" && this.state !== "receiving") return super.patience();
    return this.peerIsSlow ? LONGEST_STILL_SECONDS : STILL_SECONDS;
  }

  override tick(now: number): void {
    super.tick(now);
    if (this.over) return;
    for (const stream of this.streams.values()) {
      if (stream.changed !== null && now - stream.changed >= ACK_SECONDS) {
        this.acknowledge(stream, now);
      }
    }
  }

  // -- decisions and answers

  /** A person said that the digits are the same. */
  confirmed(now: number): void {
    this.inTurn(this.confirmed, () => this.say("confirmed", now));
  }

  /** Say no, kindly. */
  decline(now: number): void {
    this.inTurn(this.decline, () => {
      this.say("decline", now);
      this.end("declined", "declined");
    });
  }

  /** The manifest, decoded. Throws `PeerError` when it is not what the offer said of it. */
  read(manifest: Manifest, tape: Tape): void {
    this.inTurn(this.read, () => {
      if (manifest.entries.length !== this.fields.entries || tape.total !== this.fields.bytes) {
        throw new PeerError("manifest_mismatch");
      }
      [this.manifest, this.tape] = [manifest, tape];
    });
  }

  /**
   * Say yes to the manifest that was read; signed, before any byte of data.
   *
   * `offset` is how much of the tape is durable here from an earlier session; 0 for a new transfer.
   */
  accept(time: string, offset: number, clock: () => number): Promise<void> {
    return this.inTurn(this.accept, async () => {
      const body = encodeBody({
        type: "accept",
        transfer_id: this.fields.transfer_id,
        transcript: this.secured.transcript,
        offer_sha256: sha256(this.offer),
        offset,
        time,
      });
      const message = await this.signed(LABEL_ACCEPT, body);
      if (!this.over) this.acceptSigned(message, time, offset, clock());
    });
  }

  private acceptSigned(message: Fields, time: string, offset: number, now: number): void {
    this.inTurn(this.acceptSigned, () => {
      this.open(Stream.DATA, this.tape.total, offset);
      this.open(Stream.DIGESTS, this.manifest.entries.length * RESULT);
      this.acceptedAt = time;
      this.movedAt = now;
      this.say("accept", now, message);
    });
  }

  private onHttps({ token }: Message<"https">): void {
    this.tell({ type: "https_offered", token });
  }

  /** A further lane is open. Throws `PeerError` for a number that cannot be. */
  addLane(number: number): void {
    this.inTurn(this.addLane, () => {
      if (this.lanes.has(number)) throw new PeerError("lane_number_reused");
      this.lanes.set(number, 0);
    });
  }

  /** Whether to take in a range: true to write it, false for a repeated one. Throws `PeerError`. */
  admit(header: Header, now: number, lane = 0): boolean {
    this.heard(now);
    const row = this.table.row(this.state, RANGE);
    if (!row) throw new PeerError("range_out_of_turn");
    return row.handler.call(this, header, now, lane) as boolean;
  }

  private onRange(header: Header, now: number, lane: number): boolean {
    if (!same(header.transferId, this.fields.transfer_id)) {
      throw new PeerError("range_of_another_transfer");
    }
    const stream = this.streams.get(header.stream);
    if (!stream) throw new PeerError("range_out_of_turn");
    if (stream.admit(header)) return true;
    this.count(stream, lane, now);
    return false;
  }

  /** A range was taken in (data: written to disk; other streams keep `payload` here). */
  written(header: Header, payload: Bytes, now: number, lane = 0): void {
    this.inTurn(this.written, () => {
      const stream = this.streams.get(header.stream)!;
      this.count(stream, lane, now);
      this.bytes.get(header.stream)?.set(payload, header.offset);
      stream.frontier.add(header.offset, endOf(header));
      this.advanced(stream, now);
      if (header.stream === Stream.MANIFEST && stream.durable === stream.total) {
        this.manifestArrived(stream, now);
      }
      this.deliverIfWhole(now);
    });
  }

  /** The transfer's id, from the offer (16 bytes). */
  get transferId(): Bytes {
    return this.fields.transfer_id;
  }

  /** SHA-256 of the manifest, from the offer. */
  get manifestHash(): Bytes {
    return this.fields.manifest_sha256;
  }

  /** How far the tape is written without a gap. */
  get frontier(): number {
    return this.streams.get(Stream.DATA)?.frontier.offset ?? 0;
  }

  /** The tape is on the disk for good up to `durable`. */
  synced(durable: number, now: number): void {
    this.inTurn(this.synced, () => {
      const stream = this.streams.get(Stream.DATA)!;
      stream.durable = durable;
      this.owe(stream, now);
      this.progressed(stream);
    });
  }

  /** The tape was read back from the disk and hashed up to `offset`. */
  verified(offset: number, now: number): void {
    this.inTurn(this.verified, () => {
      const stream = this.streams.get(Stream.DATA)!;
      stream.verified = offset;
      this.whole = offset === stream.total; // to be said of an empty tape too
      this.owe(stream, now);
      this.progressed(stream);
    });
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
    this.inTurn(this.finish, () => {
      for (let at = 0; at < refused.length; at += BATCH) {
        this.say("failed", now, { entries: refused.slice(at, at + BATCH).map((one) => [...one]) });
      }
      [this.results, this.payload] = [results, payload];
      this.say("receipt", now, { payload: fromUtf8(payload), signature });
      this.doneBy = now + DONE_SECONDS;
      if (this.gone) this.giveUpWaiting();
    });
  }

  /** The members of the receipt that this session knows; binary ones as base64url. */
  receiptMembers(results: Results, root: Bytes, time: string): JsonObject {
    const failed = results.failures();
    const { entries } = this.manifest;
    const lost = failed.reduce((sum, [index]) => sum + entries[index]!.size, 0);
    return {
      transfer_id: encodeBase64url(this.fields.transfer_id),
      outcome: failed.length ? "incomplete" : "complete",
      ...(this.manifest.purpose ? { purpose: this.manifest.purpose } : {}),
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
        skipped: skippedOf(this.manifest),
      },
      times: {
        offered: this.fields.time,
        accepted: this.acceptedAt,
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
    this.inTurn(this.confirm, () => {
      this.say("done", now);
      this.end(this.results.failures().length ? "incomplete" : "complete");
    });
  }

  // -- messages

  private onOffer(message: Message<"offer">, now: number): void {
    const fields = this.readSigned(message, LABEL_OFFER, BODIES.offer);
    const ours =
      same(fields.sender, this.secured.peer.identity) &&
      same(fields.recipient, this.identity.public) &&
      same(fields.transcript, this.secured.transcript);
    if (!ours) throw new PeerError("offer_of_another_session");
    [this.fields, this.offer] = [fields, utf8(message.body)];
    this.open(Stream.MANIFEST, fields.manifest_bytes);
    this.acknowledge(this.streams.get(Stream.MANIFEST)!, now);
    this.tell({ type: "offered", entries: fields.entries, size: fields.bytes });
  }

  private onWithdraw(message: Message<"withdraw">, now: number): void {
    const stream = this.streams.get(Stream.DATA)!;
    for (const [entry, status, offset] of message.entries) {
      if (entry >= this.manifest.entries.length || !WITHDRAWN.includes(status)) {
        throw new PeerError("withdrawal_of_unknown_entry");
      }
      const end = this.tape.end(entry);
      if (!(this.tape.start(entry) <= offset && offset <= end)) {
        throw new PeerError("withdrawal_outside_entry");
      }
      if (offset < end) {
        if (stream.admitted.holds(offset, end)) {
          throw new PeerError("withdrawal_of_sent_range");
        }
        stream.admitted.add(offset, end);
        stream.frontier.add(offset, end);
        this.advanced(stream, now);
      }
    }
    const entries = message.entries.map(([entry, status]) => [entry, status] as const);
    this.tell({ type: "withdrawn", entries });
  }

  private onClosing(message: Message<"closing">, now: number): void {
    const fields = this.readSigned(message, LABEL_CLOSING, BODIES.closing);
    const ours =
      same(fields.transfer_id, this.fields.transfer_id) &&
      same(fields.manifest_sha256, this.fields.manifest_sha256);
    if (!ours) throw new PeerError("closing_of_another_transfer");
    if (this.closing) throw new PeerError("closing_repeated");
    [this.closing, this.closingFields] = [utf8(message.body), fields];
    this.movedAt = now;
    this.deliverIfWhole(now);
  }

  private onCountersignature(message: Message<"countersignature">): void {
    try {
      checkSignature(this.secured.peer.identity, this.payload, message.signature);
    } catch (error) {
      if (!(error instanceof BadReceipt)) throw error;
      throw new PeerError("countersignature_invalid");
    }
    [this.doneBy, this.countersigned] = [null, true];
    this.tell({ type: "countersigned", signature: message.signature });
  }

  protected giveUpWaiting(): void {
    this.doneBy = null;
    this.end("delivered_unconfirmed", "unconfirmed");
  }

  private lostWhenSigned(): void {
    if (!this.countersigned) this.giveUpWaiting(); // else the end is `confirm`'s to tell
  }

  // -- streams

  private open(stream: Stream, total: number, offset = 0): void {
    this.streams.set(stream, new IncomingStream(stream, total, offset));
    if (stream !== Stream.DATA) this.bytes.set(stream, new Uint8Array(total));
  }

  private advanced(stream: IncomingStream, now: number): void {
    const { offset } = stream.frontier;
    stream.limit = Math.max(stream.limit, offset + WINDOW);
    if (stream.stream !== Stream.DATA) stream.durable = stream.verified = offset;
    this.owe(stream, now);
    const due = Math.min(Math.max(Math.floor(offset / ACK_SHARE), MIN_ACK), MAX_ACK);
    if (offset - stream.acknowledged >= due) this.acknowledge(stream, now);
  }

  /** One more range of a lane is dealt with. */
  private count(stream: IncomingStream, lane: number, now: number): void {
    this.lanes.set(lane, this.lanes.get(lane)! + 1);
    this.counted.add(lane);
    this.owe(stream, now);
  }

  private owe(stream: IncomingStream, now: number): void {
    stream.changed ??= now;
    this.movedAt = now;
  }

  private progressed({ durable, verified, total }: IncomingStream): void {
    this.tell({ type: "progressed", durable, verified, total });
  }

  private acknowledge(stream: IncomingStream, now: number): void {
    [stream.changed, stream.acknowledged] = [null, stream.frontier.offset];
    this.movedAt = now;
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

  private manifestArrived(stream: IncomingStream, now: number): void {
    this.inTurn(this.manifestArrived, () => {
      const data = this.bytes.get(Stream.MANIFEST)!;
      this.bytes.delete(Stream.MANIFEST);
      if (!same(sha256(data), this.fields.manifest_sha256)) {
        throw new PeerError("manifest_mismatch");
      }
      this.acknowledge(stream, now);
      this.tell({ type: "manifest_arrived", data });
    });
  }

  private deliverIfWhole(now: number): void {
    if (this.state !== "receiving" || !this.closing) return;
    const digests = this.streams.get(Stream.DIGESTS)!;
    if (!this.whole || digests.durable < digests.total) return;
    this.delivered(now);
  }

  private delivered(now: number): void {
    this.inTurn(this.delivered, () => {
      const digests = this.bytes.get(Stream.DIGESTS)!;
      if (!same(sha256(digests), this.closingFields.digests_sha256)) {
        throw new PeerError("digests_mismatch");
      }
      this.acknowledge(this.streams.get(Stream.DATA)!, now);
      this.acknowledge(this.streams.get(Stream.DIGESTS)!, now);
      this.tell({ type: "delivered", digests });
    });
  }

  // -- the table

  private static readonly own = RecipientSession.prototype;
  private static readonly rows = new Table<RecipientState>([
    ["waiting", "offer", this.own.onOffer, "reading"],
    ["waiting", LOST, this.own.lostEarly],
    ["reading", this.own.manifestArrived, "deciding"],
    ["reading", LOST, this.own.lostEarly],
    ["deciding", this.own.read],
    ["deciding", this.own.accept],
    ["deciding", this.own.acceptSigned, "receiving"],
    ["deciding", this.own.decline],
    ["deciding", this.own.finish, "signed"], // signed before
    ["deciding", LOST, this.own.lostEarly],
    ["receiving", "withdraw", this.own.onWithdraw],
    ["receiving", "closing", this.own.onClosing],
    ["receiving", this.own.synced],
    ["receiving", this.own.verified],
    ["receiving", this.own.delivered, "finishing"],
    ["receiving", LOST, this.own.lostUnderWay],
    ["finishing", this.own.finish, "signed"],
    ["finishing", LOST, this.own.lostWhileFinishing],
    ["signed", "countersignature", this.own.onCountersignature],
    ["signed", this.own.confirm, "confirmed"],
    ["signed", LOST, this.own.lostWhenSigned],
    ["confirmed", LOST, this.own.lostUnderWay],
    // A person may confirm the digits before or after the offer came.
    ...calls(RECIPIENT_STATES.slice(0, 3), this.own.confirmed),
    // Ranges may come twice, and late.
    ...RECIPIENT_STATES.slice(1).map((state) => [state, RANGE, this.own.onRange] as const),
    ...calls(RECIPIENT_STATES.slice(1), this.own.written, this.own.addLane),
    ...this.aboutLanes(RECIPIENT_STATES.slice(1)),
    ...RECIPIENT_STATES.slice(1).map((state) => [state, "https", this.own.onHttps] as const),
  ]);
  protected readonly table = RecipientSession.rows;
}
