/** The sender's machine: offer, send, close, countersign. */
import {
  decodeJson,
  encodeBase64url,
  sha256,
  same,
  utf8,
  type Bytes,
  type JsonObject,
} from "../codec";
import { PeerError, type Ending } from "../errors";
import type { Identity, Secured } from "../handshake";
import { REFUSED, WITHDRAWN, skippedOf, type Manifest, type Results } from "../manifest";
import {
  BadReceipt,
  MAX_RECEIPT,
  checkSignature,
  readPayload,
  requireSame,
  sign,
} from "../receipt";
import { Stream, endOf, type Header } from "../seal";
import type { Tape } from "../tape";
import type { Receipted } from "./events";
import { OutgoingStream, SendingLanes, type CongestionWindow, type Plan, type Range } from "./flow";
import { DONE_SECONDS, LONGEST_STILL_SECONDS, Session } from "./machine";
import {
  BATCH,
  BODIES,
  LABEL_ACCEPT,
  LABEL_CLOSING,
  LABEL_OFFER,
  encodeBody,
  type Body,
  type Fields,
  type Message,
} from "./messages";
import { LOST, Table, calls } from "./table";

// Ranges under way and none acknowledged, though the peer is heard: lost. Longer where it says that it is
// its disk.
export const [STALL_SECONDS, LONGEST_STALL_SECONDS] = [30, 600];

/** Where a sender stands. */
export const SENDER_STATES = [
  "admitting",
  "offering",
  "sending",
  "closing",
  "countersigning",
  "signed",
] as const;
export type SenderState = (typeof SENDER_STATES)[number];

// What a lane carries in which state.
const STREAMS: { readonly [state in SenderState]?: Stream } = {
  offering: Stream.MANIFEST,
  sending: Stream.DATA,
  closing: Stream.DIGESTS,
};

/** What is offered. `data` is the manifest's encoding. */
export interface Offering {
  readonly manifest: Manifest;
  readonly data: Bytes;
  readonly tape: Tape;
  readonly results: Results; // the transfer's; each session's in turn to fill in
}

/**
 * The sender. `offer` -> `plan`/`taken`/`sent`/`withdraw` -> `drawUp`, `close` -> `countersign`,
 * `countersigned`.
 *
 * `largest` is the longest range in bytes that every lane takes. `plan` is for every state, as `bytesOf` is;
 * where nothing is to be sent there is no plan.
 */
export class SenderSession extends Session<SenderState> {
  state: SenderState = "admitting";
  readonly lanes: SendingLanes;
  readonly needsConfirmation: boolean;
  /** Where the recipient wants the tape from, once it has accepted. */
  begins = -1;
  protected readonly settlingStates = ["countersigning", "signed"] as const;

  private readonly streams = new Map<Stream, OutgoingStream>();
  private confirmedHere: boolean;
  private confirmedThere: boolean;
  // Whether something was said that data may hold up: control shares the association of lane 0.
  private spoken = false;
  private offering!: Offering;
  private offerBody!: Bytes;
  private offeredAt = "";
  private reachedBefore = 0;
  private accepted!: Body<"accept">;
  private digests!: Bytes;
  private closing!: Bytes;
  private closedAt = "";
  private auditHead = "";

  constructor(
    secured: Secured,
    identity: Identity,
    readonly transferId: Bytes,
    largest: number,
    now: number,
    { verify }: { verify: boolean },
  ) {
    super(secured, identity, now);
    this.needsConfirmation = verify || secured.peer.verify;
    this.confirmedHere = this.confirmedThere = !this.needsConfirmation;
    this.lanes = new SendingLanes(largest, this.streams);
  }

  override deadline(): number {
    const stalled = this.lanes.movedAt + this.stallSeconds;
    const help = this.peerIsSlow ? Infinity : this.lanes.deadline();
    return Math.min(super.deadline(), stalled, help);
  }

  /** A recipient reads back and places all of it after the last range. */
  protected override patience(): number {
    const waits = this.state === "offering" || this.state === "sending" || this.state === "closing";
    return waits ? LONGEST_STILL_SECONDS : super.patience();
  }

  override tick(now: number): void {
    if (now - this.lanes.movedAt >= this.stallSeconds && !this.over) return this.lost();
    if (!this.peerIsSlow) this.lanes.stall(now);
    super.tick(now);
  }

  private get stallSeconds(): number {
    return this.peerIsSlow ? LONGEST_STALL_SECONDS : STALL_SECONDS;
  }

  protected override say(
    type: Parameters<Session<SenderState>["say"]>[0],
    now: number,
    fields: Fields = {},
  ): void {
    super.say(type, now, fields);
    this.spoken = true;
  }

  // -- decisions and answers

  /** A person on this side said that the digits are the same. */
  confirmDigits(): void {
    this.inTurn(this.confirmDigits, () => {
      this.confirmedHere = true;
    });
  }

  /** Whether whoever has to confirm the digits has. */
  get mayOffer(): boolean {
    return this.confirmedHere && this.confirmedThere;
  }

  /**
   * The recipient is admitted: offer the manifest.
   *
   * `reached` is how far the tape was handed to this recipient before: it cannot have more. The results
   * are the transfer's, as far as earlier sessions came; this one fills them in.
   */
  offer(offering: Offering, time: string, clock: () => number, reached = 0): Promise<void> {
    return this.inTurn(this.offer, async () => {
      if (!this.mayOffer) throw new RangeError("the digits are not confirmed");
      const { manifest, data, tape, results } = offering;
      for (const [entry, status] of results.failures()) {
        // The earlier recipient's word, for it to say again.
        if (!WITHDRAWN.includes(status)) results.forget(entry);
      }
      const body = encodeBody({
        type: "offer",
        transfer_id: this.transferId,
        transcript: this.secured.transcript,
        sender: this.identity.public,
        recipient: this.secured.peer.identity,
        manifest_sha256: sha256(data),
        manifest_bytes: data.length,
        entries: manifest.entries.length,
        bytes: tape.total,
        time,
      });
      [this.offering, this.offerBody] = [offering, body];
      [this.offeredAt, this.reachedBefore] = [time, reached];
      const message = await this.signed(LABEL_OFFER, body);
      if (!this.over) this.offerSigned(message, clock());
    });
  }

  private offerSigned(message: Fields, now: number): void {
    this.inTurn(this.offerSigned, () => {
      const { data, tape } = this.offering;
      const manifest = new OutgoingStream(data.length);
      // Lanes are not ordered against each other: nothing before the recipient has the offer.
      manifest.limit = 0;
      this.streams.set(Stream.MANIFEST, manifest);
      this.streams.set(Stream.DATA, new OutgoingStream(tape.total));
      this.movedAt = now;
      this.say("offer", now, message);
    });
  }

  /**
   * What a lane should carry next: a stretch to read, or a range that another lane holds up. Null until
   * something changes.
   */
  plan(lane: number, now: number): Plan | Range | null {
    const window = this.lanes.windows.get(lane);
    if (this.over || !window?.works || !window.headroom()) return null;
    if (this.isToSpeakFirst(lane, window) || this.lanes.rests(window)) return null;
    const { reinjection } = this.lanes;
    if (!reinjection.any) {
      const stretch = this.stretch(window);
      if (stretch) return stretch;
      if (!window.flights.length) this.lanes.help(window, now); // it idles: perhaps it can help
    }
    return reinjection.take();
  }

  /** Whether what was said is to get through before data goes by the same association. */
  private isToSpeakFirst(lane: number, window: CongestionWindow): boolean {
    if (lane !== 0 || !this.spoken) return false;
    return (this.spoken = window.flights.length > 0);
  }

  private stretch(window: CongestionWindow): Plan | null {
    const stream = STREAMS[this.state];
    const outgoing = stream === undefined ? undefined : this.streams.get(stream);
    return outgoing?.stretch(stream!, window.headroom(), window.length()) ?? null;
  }

  /** The payload of a manifest's or digests' range. */
  bytesOf(stream: Stream, offset: number, length: number): Bytes {
    const data = stream === Stream.MANIFEST ? this.offering.data : this.digests;
    return data.subarray(offset, offset + length);
  }

  /** A range of what `plan` asked for was read (or a shorter one): the next plan begins behind it. */
  taken(header: Header): void {
    this.inTurn(this.taken, () => {
      this.streams.get(header.stream)!.next = endOf(header);
    });
  }

  /** A range was sealed and is handed to the lane now. */
  sent(lane: number, header: Header, message: Bytes, now: number): void {
    this.inTurn(this.sent, () => {
      this.lanes.sent(lane, header, message, now);
      this.spokeAt = now;
    });
  }

  /** A whole file was read; this is its SHA-256. */
  hashed(entry: number, digest: Bytes): void {
    this.inTurn(this.hashed, () => this.offering.results.delivered(entry, digest));
  }

  /** Give up entries, each with its status: the rest of their stretches will not come. */
  withdraw(entries: readonly (readonly [number, number])[], now: number): void {
    this.inTurn(this.withdraw, () => {
      const { tape, results } = this.offering;
      const out = this.streams.get(Stream.DATA)!;
      const givenUp = entries.map(([entry, status]) => {
        const offset = Math.min(Math.max(out.next, tape.start(entry)), tape.end(entry));
        results.failed(entry, status);
        out.next = Math.max(out.next, tape.end(entry));
        return [entry, status, offset];
      });
      this.sayWithdrawn(givenUp, now);
    });
  }

  private sayWithdrawn(entries: number[][], now: number): void {
    for (let at = 0; at < entries.length; at += BATCH) {
      this.say("withdraw", now, { entries: entries.slice(at, at + BATCH) });
    }
  }

  /** Whether the recipient lets nothing more come until it has written what it has. */
  get atLimit(): boolean {
    const data = this.streams.get(Stream.DATA);
    if (!data) return false;
    const { largest } = this.lanes;
    return data.limit - data.next < largest && largest < data.total - data.next;
  }

  /** Bytes of the tape, once it is offered. */
  get total(): number {
    return this.offering.tape.total;
  }

  /** How far the tape was ever handed to this recipient, in this session or before. */
  get reached(): number {
    const next = this.begins >= 0 ? this.streams.get(Stream.DATA)!.next : 0;
    return Math.max(this.reachedBefore, next);
  }

  /** Every byte of the tape was sent or withdrawn; time to `drawUp` and `close`. */
  get allSent(): boolean {
    const out = this.streams.get(Stream.DATA);
    return this.state === "sending" && out !== undefined && out.next === out.total;
  }

  /** The closing, for `close` to say. Throws `RangeError` unless every file's digest or failure is known. */
  drawUp(time: string, auditHead: string): void {
    this.inTurn(this.drawUp, () => {
      const { manifest, results, data } = this.offering;
      const unknown = manifest.entries.some(
        ({ kind }, index) => kind === "file" && !results.known(index),
      );
      if (unknown) throw new RangeError("a file without a digest");
      this.digests = results.encode();
      this.closing = encodeBody({
        type: "closing",
        transfer_id: this.transferId,
        manifest_sha256: sha256(data),
        digests_sha256: sha256(this.digests),
        audit_head: auditHead,
        time,
      });
      [this.closedAt, this.auditHead] = [time, auditHead];
    });
  }

  /** Say the closing, signed. Keep first what `closed` says of it. */
  close(clock: () => number): Promise<void> {
    return this.inTurn(this.close, async () => {
      const message = await this.signed(LABEL_CLOSING, this.closing);
      if (!this.over) this.closeSigned(message, clock());
    });
  }

  private closeSigned(message: Fields, now: number): void {
    this.inTurn(this.closeSigned, () => {
      this.streams.set(Stream.DIGESTS, new OutgoingStream(this.digests.length));
      this.say("closing", now, message);
    });
  }

  /** What became of each entry, as far as this side knows. */
  get results(): Results {
    return this.offering.results;
  }

  /**
   * What a receipt must say of this session, which was closed; plain JSON, to be kept.
   *
   * `own` is this side's label and software, `security` what it knows of the connection. The receipt may
   * come in a later session, when a recipient died between signing and sending it.
   */
  closed(own: JsonObject, security: JsonObject): JsonObject {
    const { peer, transcript } = this.secured;
    return {
      sender: {
        jwk: { x: encodeBase64url(this.identity.public) },
        audit_head: this.auditHead,
        ...own,
      },
      recipient: {
        jwk: { x: encodeBase64url(peer.identity) },
        label: peer.label,
        software: peer.software,
      },
      offer_sha256: encodeBase64url(sha256(this.offerBody)),
      closing_sha256: encodeBase64url(sha256(this.closing)),
      security: { transcript: encodeBase64url(transcript), ...security },
      times: { offered: this.offeredAt, accepted: this.accepted.time, closed: this.closedAt },
    };
  }

  private expected(root: Bytes): JsonObject {
    const { manifest, tape, data, results } = this.offering;
    const { entries } = manifest;
    const failed = results.failures();
    const lost = failed.reduce((sum, [index]) => sum + entries[index]!.size, 0);
    return {
      transfer_id: encodeBase64url(this.transferId),
      outcome: failed.length ? "incomplete" : "complete",
      purpose: manifest.purpose,
      manifest_sha256: encodeBase64url(sha256(data)),
      content: {
        root: encodeBase64url(root),
        entries: entries.length,
        bytes: tape.total,
        delivered_entries: entries.length - failed.length,
        delivered_bytes: tape.total - lost,
        skipped: skippedOf(manifest),
      },
    };
  }

  /**
   * Check the recipient's receipt against what happened; this side's signature of it.
   *
   * `root` is `resultsRoot` of the final results, `closings` what `closed` said of this and of earlier
   * sessions. Keep it before `countersigned` sends it. Throws `PeerError`.
   */
  countersign(
    { payload, signature }: Receipted,
    root: Bytes,
    closings: readonly JsonObject[],
  ): Promise<Bytes> {
    return this.inTurn(this.countersign, () => {
      try {
        checkSignature(this.secured.peer.identity, payload, signature);
        readPayload(payload);
        const said = decodeJson(payload, MAX_RECEIPT) as JsonObject;
        requireSame(said, this.expected(root));
        const transcript = (of: JsonObject) => (of["security"] as JsonObject)["transcript"];
        const ours = closings.find((one) => transcript(one) === transcript(said));
        if (!ours) throw new BadReceipt("member_differs: security.transcript");
        requireSame(said, ours);
      } catch (reason) {
        if (!(reason instanceof BadReceipt)) throw reason;
        throw new PeerError("receipt_mismatch", reason.message);
      }
      return sign(this.identity, payload);
    });
  }

  /** Send the signature; the recipient's `done` ends it, or its absence for 10 s. */
  countersigned(signature: Bytes, now: number): void {
    this.inTurn(this.countersigned, () => {
      this.say("countersignature", now, { signature });
      this.doneBy = now + DONE_SECONDS;
      if (this.gone) this.giveUpWaiting();
    });
  }

  // -- messages

  private onConfirmed(): void {
    if (this.confirmedThere) return; // once: nobody may be waiting for it yet
    this.confirmedThere = true;
    this.tell({ type: "confirmed" });
  }

  private onAck(message: Message<"ack">, now: number): void {
    this.lanes.acknowledged(message.lanes, now);
    const stream = message.stream as Stream;
    const out = this.streams.get(stream);
    if (!out) throw new PeerError("ack_of_unsent_range");
    if ((stream === Stream.MANIFEST) !== (this.state === "offering")) return;
    if (out.acknowledge(message)) this.movedAt = now;
    this.lanes.reinjection.written(stream, out.written);
    if (stream === Stream.DATA) {
      const { durable, verified, total } = out;
      this.tell({ type: "progressed", durable, verified, total });
    }
  }

  /** Acks cross the last messages on the wire; they say nothing new. */
  private onLateAck(): void {}

  private onAccept(message: Message<"accept">, now: number): void {
    const body = this.readSigned(message, LABEL_ACCEPT, BODIES.accept);
    const ours =
      same(body.transfer_id, this.transferId) &&
      same(body.transcript, this.secured.transcript) &&
      same(body.offer_sha256, sha256(this.offerBody));
    if (!ours) throw new PeerError("accept_of_another_offer");
    const { tape, results } = this.offering;
    const { offset } = body;
    if (offset > Math.min(this.reachedBefore, tape.total)) {
      throw new PeerError("accept_of_unsent_range");
    }
    [this.accepted, this.begins, this.movedAt] = [body, offset, now];
    this.streams.get(Stream.DATA)!.begin(offset);
    if (offset) {
      // What was given up before, this session's recipient may not know of.
      const known = results
        .failures()
        .filter(([entry]) => tape.end(entry) <= offset)
        .map(([entry, status]) => [entry, status, tape.end(entry)]);
      this.sayWithdrawn(known, now);
    }
    this.tell({ type: "accepted", offset });
  }

  private onDecline(): void {
    this.end("declined", "declined");
  }

  private onFailed(message: Message<"failed">): void {
    const { results } = this.offering;
    for (const [entry, status] of message.entries) {
      if (entry >= results.length || !REFUSED.includes(status)) {
        throw new PeerError("failure_of_unknown_entry");
      }
      results.failed(entry, status);
    }
  }

  private onReceipt({ payload, signature }: Message<"receipt">): void {
    this.tell({ type: "receipted", payload: utf8(payload), signature });
  }

  private onDone(): void {
    this.doneBy = null;
    this.end(this.final);
  }

  protected giveUpWaiting(): void {
    this.doneBy = null;
    this.end(this.final, "receipt_unconfirmed");
  }

  private get final(): Ending {
    return this.offering.results.failures().length ? "incomplete" : "complete";
  }

  // -- the table

  private static readonly own = SenderSession.prototype;
  private static readonly rows = new Table<SenderState>([
    ["admitting", "confirmed", this.own.onConfirmed],
    ["admitting", this.own.confirmDigits],
    ["admitting", this.own.offer],
    ["admitting", this.own.offerSigned, "offering"],
    ["admitting", LOST, this.own.lostEarly],
    ["offering", "ack", this.own.onAck],
    ["offering", "accept", this.own.onAccept, "sending"],
    ["offering", "decline", this.own.onDecline],
    ["offering", "failed", this.own.onFailed], // of an earlier session, with ...
    ["offering", "receipt", this.own.onReceipt, "countersigning"], // ... its receipt
    ["offering", LOST, this.own.lostEarly],
    ["sending", "ack", this.own.onAck],
    ["sending", this.own.withdraw],
    ["sending", this.own.drawUp],
    ["sending", this.own.close],
    ["sending", this.own.closeSigned, "closing"],
    ["sending", LOST, this.own.lostUnderWay],
    ["closing", "ack", this.own.onAck],
    ["closing", "failed", this.own.onFailed],
    ["closing", "receipt", this.own.onReceipt, "countersigning"],
    ["closing", LOST, this.own.lostUnderWay],
    ["countersigning", "ack", this.own.onLateAck],
    ["countersigning", this.own.countersign],
    ["countersigning", this.own.countersigned, "signed"],
    ["countersigning", LOST, this.own.lostWhileFinishing],
    ["signed", "ack", this.own.onLateAck],
    ["signed", "done", this.own.onDone],
    ["signed", LOST, this.own.giveUpWaiting],
    // What was planned may be read and handed over when the state is another already.
    ...calls(SENDER_STATES.slice(1), this.own.taken, this.own.sent, this.own.hashed),
    ...this.aboutLanes(SENDER_STATES.slice(1)),
  ]);
  protected readonly table = SenderSession.rows;
}
