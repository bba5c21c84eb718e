/**
 * The sender's half of a byte's walk, within one session (mirrors `p2p/transfer/send.py`):
 *
 *     file -> Source.read -> compress -> seal -> lane
 *
 * woken by what the session lets happen. What the recipient is promised stands in the journal first.
 */
import { clock, inTurns, nowText } from "../clock";
import { Compressor, STORED } from "../compression";
import type { Lane } from "../lanes/lane";
import { SenderMultipath } from "../lanes/multipath";
import { encodeBase64url, same, type Bytes } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import { RESUME, ZSTD_FRAMES, fingerprints } from "../protocol/handshake";
import { CHANGED, resultsRootInSteps } from "../protocol/manifest";
import { HEADER, RangeSealer, Stream, type Header } from "../protocol/seal";
import {
  SenderSession,
  type Event as SessionEvent,
  type Plan,
  type Range,
  type Receipted,
} from "../protocol/session";
import type { Signal } from "../protocol/signal";
import type { Block } from "../storage/ports";
import { FileSource } from "../storage/source";
import { SOFTWARE } from "../version";
import { Driver, introduce, type Connected } from "./driver";
import type { Outcome } from "./outcome";
import { Rate, Waits } from "./rates";
import { idOf, type Prepared, type SenderTransfer } from "./sender";

const NOTE_SECONDS = 2; // between two notes of how far it is
const RESULTS_SECONDS = 10; // between two of what became of each entry
const ANSWER_SECONDS = 600; // for a person at the other side to look at an offer, and to compare the digits
const PROGRESS_SECONDS = 0.5; // between two `progress` events
const COMPRESS_RATE = 60e6; // bytes a second on the lanes, above which compressing would hold them up

/** Lets this recipient in, or throws `Failure`. */
export type Admit = (digitsCompared: boolean) => Promise<void>;

export class Send {
  private readonly session: SenderSession;
  private readonly driver: Driver<SessionEvent>;
  private readonly lanes: SenderMultipath;
  private readonly sealer: RangeSealer;
  private readonly rate = new Rate();
  private readonly wire = new Rate();
  private readonly waits = new Waits();
  private compressor: Compressor | null = null; // once it is loaded
  private prepared!: Prepared;
  private source: FileSource | null = null;
  private reading: Promise<unknown> = Promise.resolve(); // entries are read in order, whatever lane it is for
  private fresh = true; // nothing of the tape was read in this session yet
  private closing = false;
  private answerBy = Infinity;
  private notedAt = clock();
  private resultsNotedAt = clock();
  private toldAt = 0;
  private confirmed: () => void = () => {};

  constructor(
    private readonly connected: Connected,
    private readonly transfer: SenderTransfer,
    private readonly person: { ask(kind: "digits"): Promise<unknown> },
    private readonly admit: Admit,
  ) {
    const { secured, identity, connection, open, binding, relayOnly } = connected;
    const { verify } = transfer.record;
    const largest = connected.maxMessageSize - secured.suite.overhead - HEADER;
    this.session = new SenderSession(
      secured,
      identity,
      idOf(transfer.record),
      Math.floor(largest / 4096) * 4096,
      clock(),
      { verify },
    );
    this.sealer = new RangeSealer(secured.suite, secured.sessionKey);
    const said = {
      signal: (number: number, signal: Signal) =>
        this.driver.step(() => this.session.signal(number, signal, clock())),
      opened: () => {},
      failed: (error: unknown) => this.driver.fail(error),
    };
    this.lanes = new SenderMultipath(
      open,
      { guest: binding.nonceGuest, host: binding.nonceHost },
      said,
      this.session,
      connection.path,
      !relayOnly,
      (number, lane) => this.driver.carry(this.carry(number, lane)),
    );
    this.driver = new Driver(this.session, connection, {
      handle: (event) => this.handle(event),
      tick: () => this.tick(),
      stop: () => {
        this.lanes.close();
        this.source?.close();
      },
    });
    connection.data.onMessage = () => connection.onLost(); // a sender takes nothing by it
    if (secured.peer.capabilities.includes(ZSTD_FRAMES)) {
      // Where it cannot be had, all is sent as it is.
      void Compressor.load().then(
        (loaded) => (this.compressor = loaded),
        () => {},
      );
    }
    void this.driver.carry(this.conduct());
    void this.driver.carry(this.carry(0, connection.data));
    connected.early().forEach((frame) => this.driver.receive(frame));
  }

  /** Settles once, with how the session ended. */
  get ended(): Promise<Outcome> {
    return this.driver.ended;
  }

  /** Whether the recipient can take up again what was broken off. */
  get canResume(): boolean {
    return this.connected.secured.peer.capabilities.includes(RESUME);
  }

  /** A person stopped it, and the recipient is told. Not while only signatures are missing. */
  stop(): void {
    if (!this.session.settling) this.driver.fail(new Failure("cancelled"));
  }

  /** The same recipient is there by a new connection: this one is over. */
  giveWay(): void {
    this.driver.step(() => this.session.lost());
  }

  /** Close the connection, once the last word is heard. */
  hangUp(): Promise<void> {
    return this.driver.hangUp();
  }

  private handle(event: SessionEvent): void {
    const { transfer } = this;
    switch (event.type) {
      case "confirmed":
        return this.confirmed();
      case "accepted":
        this.answerBy = Infinity;
        return void this.driver.carry(this.begin());
      case "progressed":
        transfer.durable = event.durable;
        return this.tellProgress(event);
      case "receipted":
        this.answerBy = Infinity;
        return void this.driver.carry(this.sign(event));
      case "lane_signalled":
        return this.lanes.signalled(event.number, event.signal);
      case "bottleneck_reported":
        this.waits.peer = event.by;
        return;
      case "suspected":
        return transfer.tell({ event: "silence", silent: event.silent });
      case "ended": {
        const { ending, code } = event;
        return this.driver.finish({ ending, code, detail: "", delivered: null });
      }
      default:
        return; // a recipient's
    }
  }

  // --- who, and what

  /** Admission, and the offer. */
  private async conduct(): Promise<void> {
    const { session, transfer } = this;
    const { peer } = this.connected.secured;
    await introduce(this.connected, transfer.home.contacts, (event) => {
      if (!this.driver.over) transfer.tell(event);
    });
    if (this.driver.over) return; // nobody is asked about who is gone
    if (session.needsConfirmation) {
      const { confirmed, peer: known } = transfer.record;
      const again = confirmed && known !== null && same(known, peer.identity); // both said so then
      if (!again && (await this.person.ask("digits")) !== true)
        throw new Failure("digits_rejected");
      if (this.driver.over) return;
      this.driver.step(() => session.confirmDigits());
      this.awaitAnswer();
      while (!session.mayOffer) await new Promise<void>((go) => (this.confirmed = go));
      this.answerBy = Infinity;
    }
    await this.admit(session.needsConfirmation);
    if (this.driver.over) return;
    transfer.tell({ event: "state", state: "admitted" });
    this.prepared = await transfer.prepare();
    if (this.driver.over) return;
    await transfer.admitted(peer.identity, peer.label, session.needsConfirmation);
    this.source = new FileSource(this.prepared.listing, this.prepared.tape);
    transfer.tell({ event: "state", state: "offered" });
    if (this.driver.over) return;
    await session.offer(this.prepared, nowText(), clock, transfer.reached);
    this.awaitAnswer();
    this.driver.step(() => {}); // what it said goes out
  }

  /**
   * A visitor that answers nothing does not keep others out for ever. Who has accepted before may take as
   * long as reading back what is there does.
   */
  private awaitAnswer(): void {
    if (!this.transfer.isAccepted) this.answerBy = clock() + ANSWER_SECONDS;
  }

  private async begin(): Promise<void> {
    await this.transfer.accepted();
    this.transfer.tell({ event: "state", state: "accepted" });
  }

  // --- bytes

  /** File -> read, seal, a few ranges at a time -> lane. */
  private async carry(number: number, lane: Lane): Promise<void> {
    const { windows } = this.session.lanes;
    while (!this.driver.over && windows.has(number)) {
      const planned = await this.plan(number);
      if (!planned.length) await this.waits.on(this.bottleneck(number), this.driver.woken());
      for (const [header, message] of planned) {
        await this.waits.on("network", lane.room());
        if (this.driver.over) return;
        this.driver.step(() => this.session.sent(number, header, message, clock()));
        if (windows.has(number)) lane.send(message);
      }
    }
  }

  /** What a lane is to carry next, sealed; one lane after the other. */
  private plan(number: number): Promise<Range[]> {
    const planned = this.reading.then(() => this.planNext(number));
    this.reading = planned.catch(() => {});
    return planned;
  }

  private async planNext(number: number): Promise<Range[]> {
    const { session, transfer } = this;
    if (this.driver.over) return [];
    if (this.fresh && session.begins >= 0) {
      this.fresh = false;
      await this.skipTo(session.begins);
    }
    if (session.allSent && !this.closing) await this.close();
    const plan = session.plan(number, clock());
    if (plan === null || this.driver.over) return [];
    if (!("step" in plan)) return [plan];
    const ranges = await this.read(plan);
    await transfer.reach(session.reached);
    return ranges;
  }

  /** Why a lane has nothing to do. */
  private bottleneck(number: number): "" | "other_side" | "network" {
    const window = this.session.lanes.windows.get(number);
    if (!window?.flights.length) return ""; // it is gone, or others do it
    return this.session.atLimit ? "other_side" : "network";
  }

  /** A stretch, in sealed ranges; it ends early at a withdrawn entry. */
  private async read({ stream, offset, length, step }: Plan): Promise<Range[]> {
    const ranges: Range[] = [];
    const end = offset + length;
    for (let at = offset; at < end;) {
      const some = Math.min(step, end - at);
      let block: Block;
      if (stream === Stream.DATA) {
        const reading = this.source!.read(at, some, this.compressorNow);
        block = await this.waits.on("disk", reading);
      } else block = ofBytes(at, this.session.bytesOf(stream, at, some));
      if (this.driver.over) return [];
      if (block.length) ranges.push(this.seal(stream, block));
      this.noteEnds(block);
      at += block.length;
      if (block.withdrawn.length || !block.length) break;
    }
    return ranges;
  }

  /** What compresses, where that pays: not where the lanes are faster than it is. */
  private get compressorNow(): Compressor | null {
    const rate = this.wire.of(this.session.lanes.carried);
    return rate < COMPRESS_RATE ? this.compressor : null;
  }

  /** Compress where that pays, and seal. */
  private seal(stream: Stream, block: Block): Range {
    const { transferId } = this.session;
    const { offset, length, compression, phase } = block;
    const smaller = this.compressor?.compress(block.payload, compression, phase);
    const [flags, payload] = smaller ?? [0, block.payload];
    const header: Header = { transferId, stream, flags, offset, length };
    this.session.taken(header);
    return [header, this.sealer.seal(header, payload)];
  }

  /** Take up an earlier session where the recipient stands. */
  private async skipTo(offset: number): Promise<void> {
    const { results } = this.prepared;
    // After a reload a file may be another that looks the same: it is read again.
    const known = (entry: number) =>
      results.known(entry) && !(this.transfer.recalled && !results.at(entry)[0])
        ? results.at(entry)[1]
        : null;
    const skipping = this.source!.skip(offset, known, () => this.driver.over);
    this.noteEnds(await this.waits.on("disk", skipping));
  }

  private noteEnds({ finished, withdrawn }: Block): void {
    if (this.driver.over) return;
    const { results } = this.prepared;
    const other: [number, number][] = [];
    for (const [entry, digest] of finished) {
      // What was read before a reload had another content. What was given up then is open again.
      const delivered = results.known(entry) && !results.at(entry)[0];
      if (delivered && !same(results.at(entry)[1], digest)) other.push([entry, CHANGED]);
      else this.session.hashed(entry, digest);
    }
    const entries = [...other, ...withdrawn];
    if (entries.length) this.driver.step(() => this.session.withdraw(entries, clock()));
  }

  // --- the end

  /** The tape is through: entries of size 0 that lie at its end, then the closing. */
  private async close(): Promise<void> {
    const { session, source, transfer, driver } = this;
    const rest = await source!.read(0, 0);
    this.noteEnds(rest);
    if (driver.over || rest.finished.length || rest.withdrawn.length) return;
    // Its recipient may have settled by an earlier session's closing, so it stays as it was.
    const wasClosed = session.begins === session.total && transfer.record.closings.length > 0;
    const delivered = (entry: number) => !session.results.at(entry)[0];
    const changed = wasClosed ? [] : await source!.changed(delivered, () => driver.over);
    if (driver.over) return;
    if (changed.length) {
      const withdrawn = changed.map((entry) => [entry, CHANGED] as const);
      return driver.step(() => session.withdraw(withdrawn, clock()));
    }
    this.closing = true;
    session.drawUp(nowText(), await transfer.home.audit.head());
    const own = { label: this.connected.identity.label, software: SOFTWARE };
    await transfer.noteClosing(session.closed(own, this.security()));
    if (driver.over) return;
    await session.close(clock);
    driver.step(() => {}); // what it said goes out
    transfer.tell({ event: "state", state: "verifying" });
  }

  /** What a receipt says of the connection, as this side knows it. */
  private security() {
    const { secured, binding, connection } = this.connected;
    const { sender, recipient } = fingerprints(binding);
    return {
      suite: secured.suite.name,
      path: connection.path,
      fingerprint_sender: encodeBase64url(sender),
      fingerprint_recipient: encodeBase64url(recipient),
      digits_confirmed: this.session.needsConfirmation,
      passphrase: binding.passphrase,
    };
  }

  private async sign(receipted: Receipted): Promise<void> {
    const { session, transfer } = this;
    const { identity, secured } = this.connected;
    const { peer } = secured;
    transfer.tell({ event: "state", state: "signing" });
    const root = await inTurns(resultsRootInSteps(this.prepared.manifest, session.results));
    const signature = await session.countersign(receipted, root, transfer.record.closings);
    const recipient: [Bytes, Bytes] = [peer.identity, receipted.signature];
    await transfer.keepReceipt(receipted.payload, recipient, [identity.public, signature]);
    await transfer.home.contacts.pin(peer.identity, peer.label, session.needsConfirmation);
    this.driver.step(() => session.countersigned(signature, clock()));
  }

  // --- on the way

  private tick(): void {
    const now = clock();
    this.session.lanes.landed.splice(0).forEach((message) => this.sealer.release(message));
    if (now > this.answerBy) return this.driver.fail(new Failure("no_answer"));
    const own = this.waits.own();
    if (own === "disk") this.session.reportBottleneck(own, now);
    if (this.session.state !== "sending" && this.session.state !== "closing") return;
    const { transfer } = this;
    if (now - this.notedAt >= NOTE_SECONDS && transfer.durable !== transfer.record.durable) {
      this.notedAt = now;
      void transfer.note({ durable: transfer.durable }).catch(() => {});
    }
    if (now - this.resultsNotedAt >= RESULTS_SECONDS) {
      this.resultsNotedAt = now;
      void transfer.noteResults().catch(() => {});
    }
  }

  private tellProgress(event: Extract<SessionEvent, { type: "progressed" }>): void {
    const now = clock();
    const { durable, verified, total } = event;
    if (verified < total && now - this.toldAt < PROGRESS_SECONDS) return;
    this.toldAt = now;
    const rate = this.rate.of(durable);
    const path = this.lanes.carriedBy ?? this.connected.connection.path;
    const bottleneck = this.waits.most();
    this.session.reportBottleneck(this.waits.own(), now);
    this.transfer.tell({ event: "progress", durable, verified, total, rate, path, bottleneck });
  }
}

const ofBytes = (offset: number, payload: Bytes): Block => ({
  offset,
  length: payload.length,
  payload,
  compression: STORED,
  phase: 0,
  finished: [],
  withdrawn: [],
});
