/**
 * The conductor of a recipient in a browser: it carries bytes and answers between room, lanes, session
 * and disk (what `p2p/transfer.py` is for the command line). It runs in a worker.
 *
 *     data lane -> Opener.open -> Destination.write -> sync, journal -> readBack -> receipt
 *
 * A lost connection is made again, with the same identity and from where the disk stands, until the
 * person stops it. A reload or a crash goes on from the journal.
 */
import sodium from "libsodium-wrappers-sumo";

import type { Answer, Event, StateName } from "./events";
import { Container, reopen, reserve, type Destination, type Kept } from "./files";
import { FolderDestination } from "./folder";
import { nowText, type Delivered, type Home, type Journal } from "./home";
import type { RtcEvent } from "./lanes";
import { Connection, LaneLost, connectRecipient } from "./meeting";
import {
  encodeBase64url,
  encodeJson,
  hex,
  same,
  utf8,
  type Bytes,
  type JsonObject,
} from "./protocol/codec";
import { Failure, HandoverError, PeerError, type Code, type Ending } from "./protocol/errors";
import {
  HANDSHAKE_SECONDS,
  MAX_HANDSHAKE_MESSAGE,
  MAX_LABEL,
  LANES,
  RESUME,
  ZSTD_FRAMES,
  RecipientHandshake,
  SUITE_NAMES,
  type Attempt,
  type Identity,
  type Secured,
} from "./protocol/handshake";
import { deriveKeys, noisePsk, type Link, type LinkKeys } from "./protocol/link";
import { Results, decodeManifest, resultsRoot, tapeOf, type Manifest } from "./protocol/manifest";
import { shown } from "./protocol/paths";
import * as receipts from "./protocol/receipt";
import { Multipath } from "./multipath";
import { unpress } from "./protocol/press";
import { Opener, Stream, isHole, type Header } from "./protocol/seal";
import { RecipientSession, type Event as Fact, type Bottleneck } from "./protocol/session";
import { RecipientSeat } from "./signaling_client";
import { Layout } from "./zip";

export const SOFTWARE = `handover-web/${__VERSION__}`;
const SYNC_BYTES = 64 * 1024 * 1024; // whichever comes first; a journal entry costs some milliseconds ...
const SYNC_SECONDS = 1;
const READ_BACK_STEP = 2 * 1024 * 1024; // some ten milliseconds, between which messages are taken
const PROGRESS_SECONDS = 0.5; // at most two `progress` events a second: painting costs as well
const RATE_SECONDS = 5; // what a rate is averaged over
const SLOW_SECONDS = 5; // without a connection, after which people are told the usual causes
const [FIRST_BACKOFF, LAST_BACKOFF] = [0.5, 5];
const PROBES = 3; // connections that may come to nothing before the handshake is through
const LATE_SECONDS = 2; // well before a sender takes large packets for lost
const LAST_WORD_SECONDS = 2; // for the sender to hear why this side ends it
/** Failures after which what had arrived is of no more use, or not wanted. */
const FINAL: readonly Code[] = [
  "cancelled",
  "peer_cancelled",
  "declined",
  "digits_rejected",
  "disk_error",
  "no_space",
];
/** Failures of the way to the other side. */
const ON_THE_WAY: readonly Code[] = [
  "connection_lost",
  "connection_lost_early",
  "no_connection",
  "server_unreachable",
  "server_refused",
  "not_found",
  "busy",
  "disk_paused", // of the sender's: it waits until it can note how far it is
];
const LISTED = 1000; // entries that are shown before the accept
export const LINK_SECONDS = 24 * 3600; // no link lives longer, so no unfinished transfer does

const clock = (): number => performance.now() / 1000;
const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Let messages in that wait, then go on. */
const breathe = (() => {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return () =>
    new Promise<void>((resolve) => {
      waiting.push(resolve);
      port2.postMessage(null);
    });
})();

/** The person in front of the page. */
export interface People {
  tell(event: Event): void;
  ask(kind: "digits" | "accept"): Promise<Answer>;
  persist(): Promise<boolean>;
  readonly folders: boolean; // whether a folder can be chosen
}

/** One transfer, over as many sessions as it takes. */
export class Receiving {
  private readonly keys: LinkKeys;
  private readonly room: string;
  private identity!: Identity;
  private psk!: Bytes;
  private connection: Connection | null = null;
  private run: Run | null = null;
  private stopped = false;
  private proven = false; // whether the sender of this session is
  private earlier: Journal | null = null; // of before a reload or a crash
  private wakeUp: () => void = () => {};
  /** What is under way, once it was accepted. */
  progress: Underway | null = null;

  constructor(
    private readonly link: Link,
    readonly home: Home,
    readonly people: People,
  ) {
    this.keys = deriveKeys(link.secret);
    this.room = hex(this.keys.room);
  }

  /** What the page tells of a connection. */
  takeRtc(event: RtcEvent): void {
    this.connection?.take(event);
    this.run?.lanes.take(event);
  }

  /** A person stopped it. */
  stop(): void {
    this.stopped = true;
    this.run?.stop();
    this.wakeUp();
  }

  /** Until it has ended, in whatever way; the last event says how. */
  async receive(label: string, passphrase: string | null): Promise<void> {
    let code: Code | "" = "";
    let detail = "";
    let ending: Ending = "complete";
    let delivered: Delivered | null = null;
    try {
      this.identity = await this.home.identity(fitting(label));
      this.earlier = (await this.home.journal(this.room)) ?? null;
      this.psk = noisePsk(this.keys, this.link.passphrase ? (passphrase ?? "") : null);
      const ended = await this.sessions();
      [code, ending, delivered] = [ended.code, ended.ending, ended.delivered];
    } catch (error) {
      const failure =
        error instanceof HandoverError
          ? error
          : new Failure("internal", String((error as Error).name));
      [code, detail, ending] = [failure.code, failure.detail, failure.ending];
      delivered = await this.settleDown(failure.code);
    }
    const facts: JsonObject = { role: "recipient", ending, code };
    if (this.progress) facts["transfer_id"] = encodeBase64url(this.progress.transferId);
    await this.home.appendAudit("transfer", facts).catch(() => {});
    this.people.tell({ event: "ended", ending, code, detail, delivered });
  }

  /** After a failure: what is delivered all the same, or what becomes of what had arrived. */
  private async settleDown(code: Code): Promise<Delivered | null> {
    const { progress } = this;
    await progress?.busy;
    if (!progress || progress.delivered) return progress?.delivered ?? null;
    const resumable = progress.kept?.where === "disk" && !FINAL.includes(code);
    if (resumable) progress.destination.close();
    else {
      await progress.destination.discard();
      await this.home.dropJournal(this.room).catch(() => {});
    }
    return null;
  }

  private async sessions(): Promise<Outcome> {
    let backoff = FIRST_BACKOFF;
    let lostAt = clock();
    let probes = PROBES;
    for (;;) {
      try {
        if (this.stopped) throw new Failure("cancelled");
        this.proven = false;
        return await this.session();
      } catch (error) {
        if (this.brokeOff(error) && --probes) continue;
        if (!this.resumable(error)) throw error;
        this.tell("lost");
        if (this.run?.began) lostAt = clock();
        if (clock() - lostAt > SLOW_SECONDS) this.people.tell({ event: "slow" });
        await Promise.race([sleep(backoff), new Promise<void>((wake) => (this.wakeUp = wake))]);
        backoff = Math.min(2 * backoff, LAST_BACKOFF);
      } finally {
        if (this.run?.began) backoff = FIRST_BACKOFF;
        this.run = null;
      }
    }
  }

  /**
   * Whether trying again may help: files were under way, and only the way there is gone.
   *
   * What goes wrong before the sender is proven may be a server's or a stranger's doing: no reason
   * to give up what is there.
   */
  private resumable(error: unknown): boolean {
    const under = this.progress ?? this.earlier;
    if (this.stopped || !under || !(error instanceof HandoverError)) return false;
    if (under.delivered || Date.now() - under.startedAt > LINK_SECONDS * 1000) return false;
    return (this.progress !== null && !this.proven) || ON_THE_WAY.includes(error.code);
  }

  /** Whether a handshake ended halfway: the path may carry only small packets, which the sender
   * uses the next time. */
  private brokeOff(error: unknown): boolean {
    const early = error instanceof Failure && error.code === "connection_lost_early";
    return early && !this.proven && !this.stopped && !this.progress;
  }

  /** One connection and one session. */
  private async session(): Promise<Outcome> {
    if (!this.progress) this.tell("connecting");
    const connection = new Connection((call) => this.people.tell({ event: "rtc", call }));
    this.connection = connection;
    const slow = setTimeout(() => this.people.tell({ event: "slow" }), SLOW_SECONDS * 1000);
    try {
      const [attempt, secured, opener, early] = await this.shakeHands(connection);
      this.proven = true;
      clearTimeout(slow);
      const { home, people, identity, room } = this;
      const given = { home, people, identity, room, connection, attempt, secured, opener, early };
      this.run = new Run(this, given);
      return await this.run.ended;
    } finally {
      clearTimeout(slow);
      void (this.run?.heard ?? Promise.resolve()).then(() => connection.close());
    }
  }

  private async shakeHands(connection: Connection): Promise<Shaken> {
    let [opened, passed3, over] = [false, false, false];
    const check = () => {
      if (over) throw new LaneLost(); // nobody waits for it any more
    };
    let seat: RecipientSeat | null = null;
    const { link, keys, psk, identity } = this;
    const work = async (): Promise<Shaken> => {
      const joined = await RecipientSeat.join(link.origin, keys);
      if (over) joined.close();
      check();
      seat = joined;
      const attempt = await connectRecipient(connection, seat, keys, link.passphrase);
      check();
      opened = true;
      const began = clock();
      const random = () => sodium.randombytes_buf(32);
      const entropy = {
        static_: random(),
        ephemeral: random(),
        nonce: random(),
        session: random(),
      };
      const handshake = new RecipientHandshake(attempt, {
        psk,
        secret: link.secret,
        commitment: link.commitment,
        identity,
        software: SOFTWARE,
        verify: false,
        capabilities: [RESUME, LANES, ZSTD_FRAMES],
        entropy,
      });
      const inbox = new EarlyFrames(connection);
      connection.control.send(handshake.message1());
      const message3 = await handshake.receive2(await inbox.next());
      check();
      connection.control.send(message3);
      // A late one may have crossed the sender's decision to connect anew.
      passed3 = clock() - began < LATE_SECONDS;
      const secured = handshake.receive4(await inbox.next());
      return [attempt, secured, new Opener(entropy.session), inbox];
    };
    const lost = new Promise<never>((_, reject) => {
      connection.onLost = () => reject(new LaneLost());
      setTimeout(() => reject(new LaneLost()), HANDSHAKE_SECONDS * 1000);
      this.wakeUp = () => reject(new Failure("cancelled"));
    });
    lost.catch(() => {});
    try {
      return await Promise.race([work(), lost]);
    } catch (error) {
      if (!(error instanceof LaneLost)) throw error;
      if (passed3 && link.passphrase && !this.progress) throw new Failure("passphrase_wrong");
      throw new Failure(opened ? "connection_lost_early" : "no_connection");
    } finally {
      over = true;
      (seat as RecipientSeat | null)?.close();
    }
  }

  tell(state: StateName): void {
    this.people.tell({ event: "state", state });
  }
}

type Shaken = [Attempt, Secured, Opener, EarlyFrames];

/** How it ended when it did not fail. */
interface Outcome {
  readonly ending: Ending;
  readonly code: Code | "";
  readonly delivered: Delivered;
}

/** A label cut to the bytes that the protocol has for it. */
function fitting(label: string): string {
  const characters = Array.from(label);
  while (utf8(characters.join("")).length > MAX_LABEL) characters.pop();
  return characters.join("");
}

/** What is under way across sessions. */
export interface Underway {
  readonly transferId: Bytes;
  readonly manifestHash: Bytes;
  readonly sender: Bytes;
  readonly kept: Kept | null; // null: in a folder
  readonly destination: Destination;
  readonly startedAt: number;
  durable: number;
  delivered: Delivered | null;
  /** Disk work of any session: the next one begins only after it. */
  busy: Promise<unknown>;
}

/** Handshake messages as they come; few and small, before anybody is proven. */
class EarlyFrames {
  private readonly frames: Bytes[] = [];
  private wake: () => void = () => {};

  constructor(connection: Connection) {
    connection.control.onMessage = (message) => {
      if (this.frames.length < 8 && message.length <= MAX_HANDSHAKE_MESSAGE) {
        this.frames.push(message);
        this.wake();
      } else connection.onLost();
    };
  }

  /** What is there already, beyond the handshake. */
  rest(): Bytes[] {
    return this.frames.splice(0);
  }

  async next(): Promise<Bytes> {
    if (!this.frames.length) await new Promise<void>((resolve) => (this.wake = resolve));
    return this.frames.shift()!;
  }
}

/** A rate over the last few seconds. */
class Meter {
  private readonly seen: [number, number][] = [];

  rate(value: number): number {
    const now = clock();
    this.seen.push([now, value]);
    while (now - this.seen[0]![0] > RATE_SECONDS) this.seen.shift();
    const [since, first] = this.seen[0]!;
    return now > since ? (value - first) / (now - since) : 0;
  }
}

interface Given {
  readonly home: Home;
  readonly people: People;
  readonly identity: Identity;
  readonly room: string;
  readonly connection: Connection;
  readonly attempt: Attempt;
  readonly secured: Secured;
  readonly opener: Opener;
  readonly early: EarlyFrames;
}

/** A running session, from the sender's welcome on. */
class Run {
  private readonly session: RecipientSession;
  private manifest!: Manifest;
  private total = -1; // of the tape, once it is accepted
  private syncedAt = clock();
  private syncing = false;
  private reading = false;
  private toldAt = 0;
  private bottleneck: Bottleneck = ""; // what the sender says of that
  private readonly meter = new Meter();
  private readonly timer: ReturnType<typeof setInterval>;
  /** Those beside the connection's own. */
  readonly lanes: Multipath;
  private receipt!: { payload: Bytes; signature: Bytes; delivered: Delivered };
  private resolve!: (outcome: Outcome) => void;
  private reject!: (error: unknown) => void;
  private over = false;
  /** Whether files were under way in this session. */
  began = false;
  /** When the connection may be closed. */
  heard: Promise<unknown> = Promise.resolve();
  /** Settles once, with how it ended. */
  readonly ended: Promise<Outcome>;

  constructor(
    private readonly receiving: Receiving,
    private readonly given: Given,
  ) {
    const { secured, identity, connection } = given;
    this.session = new RecipientSession(secured, identity, clock(), { verify: false });
    this.ended = new Promise((resolve, reject) => {
      [this.resolve, this.reject] = [resolve, reject];
    });
    this.timer = setInterval(() => this.step(() => this.tick()), 50);
    connection.onLost = () => this.step(() => this.session.lost());
    connection.control.onMessage = (frame) =>
      this.step(() => this.session.receiveFrame(frame, clock()));
    connection.data.onMessage = (message) => this.takeIn(message);
    this.lanes = new Multipath((call) => given.people.tell({ event: "rtc", call }), given.attempt, {
      signal: (number, signal) => this.step(() => this.session.signal(number, signal, clock())),
      opened: (number) => this.step(() => this.session.addLane(number)),
      takeIn: (message, number) => this.takeIn(message, number),
      failed: (error) => this.fail(error),
    });
    void this.guard(this.introduce());
    given.early.rest().forEach((frame) => connection.control.onMessage(frame));
  }

  /** A person stopped it, and the sender is told. Not while only signatures are missing. */
  stop(): void {
    if (!this.session.settling) this.fail(new Failure("cancelled"));
  }

  // --- every input of the session goes through here: call, then frames and events

  private step(call: () => void): void {
    if (this.over) return;
    try {
      call();
    } catch (error) {
      this.flush();
      return this.fail(error);
    }
    this.flush();
  }

  private flush(): void {
    for (const frame of this.session.frames()) this.given.connection.control.send(frame);
    for (const fact of this.session.events()) this.handle(fact);
  }

  /** Carry disk work to its end; the next session waits for it. */
  private onDisk(work: Promise<void>): void {
    const done = this.guard(work);
    this.underway.busy = Promise.all([this.underway.busy, done]);
  }

  /** Carry an asynchronous part to its end; its error is the session's. */
  private async guard(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      this.fail(error);
    }
  }

  /** `said`: a last word that the sender is to hear is on its way already. */
  private fail(error: unknown, said = false): void {
    if (this.over) return;
    const code = error instanceof HandoverError ? error.code : "internal";
    if (!(error instanceof HandoverError)) console.error("internal", (error as Error).name);
    this.session.abort(code, clock());
    const frames = this.session.frames();
    for (const frame of frames) this.given.connection.control.send(frame);
    this.finishUp();
    const cut = code === "connection_lost" || code === "connection_lost_early";
    if (said || (frames.length && !cut)) this.lastWord();
    this.reject(error);
  }

  /** The sender is to hear why and hang up; closing at once would drop what is queued. */
  private lastWord(): void {
    const { connection } = this.given;
    const heard = new Promise<void>((resolve) => (connection.onLost = resolve));
    this.heard = Promise.race([heard, sleep(LAST_WORD_SECONDS)]);
  }

  private finishUp(): void {
    this.over = true;
    clearInterval(this.timer);
    const { connection } = this.given;
    connection.control.onMessage = () => {};
    connection.data.onMessage = () => {};
    this.lanes.close();
  }

  private handle(fact: Fact): void {
    switch (fact.type) {
      case "offered":
        return this.receiving.tell("reading");
      case "manifest_arrived":
        return void this.guard(this.decide(fact.data));
      case "progressed":
        return this.tellProgress(fact);
      case "withdrawn":
        return fact.entries.forEach(([entry]) => this.underway.destination.withdraw(entry));
      case "delivered":
        return this.onDisk(this.finish(fact.digests));
      case "countersigned":
        return void this.guard(this.confirm(fact.signature));
      case "lane_signalled":
        return this.lanes.signalled(fact.number, fact.signal);
      case "bottleneck_reported":
        this.bottleneck = fact.by;
        return;
      case "suspected":
        return this.given.people.tell({ event: "silence", silent: fact.silent });
      case "ended": {
        if (fact.ending === "declined") return this.fail(new Failure("declined"), true);
        this.finishUp();
        this.lastWord();
        const { delivered } = this.receipt;
        return this.resolve({ code: fact.code, ending: fact.ending, delivered });
      }
    }
  }

  private get underway(): Underway {
    return this.receiving.progress!;
  }

  // --- who, what, yes or no

  private async introduce(): Promise<void> {
    const { home, people, secured } = this.given;
    const { peer, digits } = secured;
    const { contact, changed } = await home.known(peer.identity, peer.label);
    people.tell({
      event: "peer",
      label: shown(peer.label),
      fingerprint: receipts.fingerprint(peer.identity),
      known: contact !== null,
      verified: contact?.verified ?? false,
      changed,
      digits,
    });
    this.receiving.tell("waiting");
    if (!this.session.needsConfirmation) return;
    const earlier = this.receiving.progress ?? (await home.journal(this.given.room));
    const again = earlier && same(earlier.sender, peer.identity); // both said so then
    if (!again && (await people.ask("digits")) !== true) {
      throw new Failure("digits_rejected");
    }
    this.step(() => this.session.confirmed(clock()));
  }

  private async decide(data: Bytes): Promise<void> {
    const { home, people, room, secured } = this.given;
    const { session } = this;
    this.manifest = decodeManifest(data);
    const tape = tapeOf(this.manifest);
    session.read(this.manifest, tape);
    if (await home.receipt(encodeBase64url(session.transferId))) {
      throw new PeerError("a transfer id that was used before");
    }
    const underway = this.receiving.progress ?? (await this.recall());
    if (underway && this.continues(underway)) {
      this.receiving.progress = underway;
    } else {
      await underway?.destination.discard();
      this.receiving.progress = null;
      const layout = new Layout(this.manifest);
      const kept = await this.reserve(layout);
      const container = kept && new Container(this.manifest, room, kept.store);
      this.tellOffer(layout, kept);
      const over = this.ended.then(
        () => false,
        () => false,
      );
      const answer = await Promise.race([people.ask("accept"), over]);
      if (answer !== true || this.over) await container?.discard();
      if (this.over) return;
      if (!answer) return this.step(() => session.decline(clock()));
      const destination =
        answer === true ? container! : new FolderDestination(this.manifest, answer);
      this.receiving.progress = {
        transferId: session.transferId,
        manifestHash: session.manifestHash,
        sender: secured.peer.identity,
        kept: answer === true ? kept : null,
        destination,
        startedAt: Date.now(),
        durable: 0,
        delivered: null,
        busy: Promise.resolve(),
      };
      await this.journal();
    }
    await this.underway.busy;
    const { durable, destination } = this.underway;
    destination.begin(durable);
    await session.accept(nowText(), durable, clock);
    if (this.over) return;
    this.total = tape.total;
    this.began = true;
    this.receiving.tell("receiving");
    this.step(() => session.synced(durable, clock()));
    this.readBack();
  }

  /** Room in the browser; null when there is none but a folder can be chosen. */
  private async reserve(layout: Layout): Promise<Kept | null> {
    const { people, room } = this.given;
    try {
      return await reserve(room, layout.size, () => people.persist());
    } catch (error) {
      if (!people.folders) throw error;
      return null;
    }
  }

  private continues(underway: Underway): boolean {
    return (
      same(underway.sender, this.given.secured.peer.identity) &&
      same(underway.transferId, this.session.transferId) &&
      same(underway.manifestHash, this.session.manifestHash)
    );
  }

  /** What the journal says was under way before a reload or a crash. */
  private async recall(): Promise<Underway | null> {
    const { home, room } = this.given;
    const journal = await home.journal(room);
    if (!journal || journal.delivered || journal.total !== tapeOf(this.manifest).total) return null;
    try {
      const kept = await reopen(room);
      const { sender, transferId, manifestHash, startedAt, durable } = journal;
      const destination = new Container(this.manifest, room, kept.store);
      const begun = { transferId, manifestHash, sender, kept, destination, startedAt, durable };
      return { ...begun, delivered: null, busy: Promise.resolve() };
    } catch {
      return null; // the container is gone: it begins anew
    }
  }

  private tellOffer(layout: Layout, kept: Kept | null): void {
    const { entries } = this.manifest;
    const files = entries.filter((entry) => entry.kind === "file");
    this.given.people.tell({
      event: "offer",
      files: files.length,
      folders: entries.length - files.length,
      size: tapeOf(this.manifest).total,
      entries: entries
        .slice(0, LISTED)
        .map((entry) => [shown(entry.path, 256), entry.size, entry.kind === "directory"]),
      name: shown(layout.name, 256),
      single: layout.single,
      where: kept?.where ?? "none",
      tight: kept?.tight ?? false,
    });
  }

  /** Note how far it is: the order is write, sync, journal, acknowledge. */
  private async journal(durable = this.underway.durable): Promise<void> {
    const journal = this.asJournal(durable);
    if (journal) await this.given.home.writeJournal(journal);
  }

  /** The journal as it is now; null where nothing survives a reload. */
  private asJournal(durable = this.underway.durable): Journal | null {
    const { transferId, manifestHash, sender, startedAt, kept, delivered } = this.underway;
    if (kept?.where !== "disk") return null;
    const { total } = tapeOf(this.manifest);
    const { room } = this.given;
    return { room, sender, transferId, manifestHash, durable, total, startedAt, delivered };
  }

  // --- bytes

  private takeIn(message: Bytes, lane = 0): void {
    this.step(() => {
      const [header, sent] = this.given.opener.open(message);
      const payload = unpress(header.flags, header.length, sent);
      const now = clock();
      if (!this.session.admit(header, now, lane)) return;
      const data = header.stream === Stream.DATA && !isHole(header);
      const writing = data && this.underway.destination.write(header.offset, payload);
      if (writing) this.onDisk(writing.then(() => this.written(header, payload, lane)));
      else this.session.written(header, payload, now, lane);
    });
    this.sync();
  }

  private written(header: Header, payload: Bytes, lane: number): void {
    this.step(() => this.session.written(header, payload, clock(), lane));
    this.sync();
  }

  private tick(): void {
    if (clock() >= this.session.deadline()) this.session.tick(clock());
    this.sync();
  }

  /** Written -> on the disk for good, and noted so. */
  private sync(): void {
    if (this.total < 0 || this.syncing || this.over) return;
    const { frontier } = this.session;
    const owed = frontier - this.underway.durable;
    const late = clock() - this.syncedAt >= SYNC_SECONDS;
    const due = owed >= SYNC_BYTES || late || this.underway.destination.crowded;
    if (owed <= 0 || !(due || frontier === this.total)) return;
    this.syncing = true;
    const work = async () => {
      await this.underway.destination.sync(frontier);
      await this.journal(frontier);
      this.underway.durable = frontier;
      [this.syncedAt, this.syncing] = [clock(), false];
      this.step(() => this.session.synced(frontier, clock()));
      this.readBack();
    };
    this.onDisk(work());
  }

  /** On the disk for good -> read back and hashed, a little at a time. */
  private readBack(): void {
    if (this.reading || this.over) return;
    this.reading = true;
    const work = async () => {
      let verified = -1;
      while (!this.over && verified < this.underway.durable) {
        const { destination, durable } = this.underway;
        const step = destination.stored === "browser" ? READ_BACK_STEP : Infinity; // whole files
        const before = destination.hashed;
        await destination.readBack(Math.min(durable, before + step));
        verified = Math.min(destination.hashed, durable);
        this.step(() => this.session.verified(verified, clock()));
        if (destination.hashed === before) break; // nothing whole to read yet: after the next sync
        await breathe();
      }
      this.reading = false;
      if (!this.over && verified === this.total && this.session.state === "receiving") {
        this.receiving.tell("verifying");
      }
    };
    this.onDisk(work());
  }

  private tellProgress(fact: Extract<Fact, { type: "progressed" }>): void {
    const now = clock();
    if (fact.verified < fact.total && now - this.toldAt < PROGRESS_SECONDS) return;
    this.toldAt = now;
    const { durable, verified, total } = fact;
    const rate = this.meter.rate(durable);
    const { relayed } = this.given.connection;
    const { bottleneck } = this;
    this.given.people.tell({
      event: "progress",
      durable,
      verified,
      total,
      rate,
      relayed,
      bottleneck,
    });
  }

  // --- the end

  /** Compare, finish the container, sign. The half-signed receipt is kept before it is sent. */
  private async finish(digests: Bytes): Promise<void> {
    const { session, manifest } = this;
    const { home, secured, identity, attempt } = this.given;
    this.receiving.tell("verifying");
    const claimed = Results.decode(digests, manifest);
    const { destination } = this.underway;
    const [results, refused] = await destination.settle(claimed);
    if (this.over) return;
    const root = resultsRoot(manifest, results);
    this.receiving.tell("signing");
    const { peer } = secured;
    const payload = encodeJson({
      type: receipts.TYPE,
      sender: receipts.party(peer.identity, peer.label, peer.software, session.senderAuditHead),
      recipient: receipts.party(identity.public, identity.label, SOFTWARE, await home.auditHead()),
      stored: destination.stored,
      security: {
        suite: SUITE_NAMES[secured.suite]!,
        transcript: encodeBase64url(secured.transcript),
        fingerprint_sender: encodeBase64url(attempt.fingerprintS),
        fingerprint_recipient: encodeBase64url(attempt.fingerprintR),
        path: "direct",
        digits_confirmed: session.needsConfirmation,
        passphrase: attempt.passphrase,
      },
      ...session.facts(results, root, nowText()),
    });
    const signature = await receipts.sign(identity, payload);
    if (this.over) return;
    const transferId = encodeBase64url(session.transferId);
    const delivered: Delivered = {
      ...this.place(destination),
      size: destination.size,
      files: manifest.entries.filter(({ kind }, index) => kind === "file" && !results.at(index)[0])
        .length,
      failures: results.failures().length,
      failed: results
        .failures()
        .slice(0, LISTED)
        .map(([index, status]) => [shown(manifest.entries[index]!.path, 256), status] as const),
      transferId,
      confirmed: false,
    };
    this.receipt = { payload, signature, delivered };
    const half = receipts.assemble(payload, [[identity.public, signature]]);
    this.underway.delivered = delivered;
    await home.storeReceipt(transferId, half, this.asJournal());
    this.step(() => session.finish(results, refused, payload, signature, clock()));
  }

  private place(destination: Destination): Pick<Delivered, "name" | "where"> {
    if (destination instanceof FolderDestination)
      return { name: destination.name, where: "folder" };
    return { name: new Layout(this.manifest).name, where: "browser" };
  }

  private async confirm(signature: Bytes): Promise<void> {
    const { home, identity, secured } = this.given;
    const { payload, signature: own, delivered } = this.receipt;
    const document = receipts.assemble(payload, [
      [identity.public, own],
      [secured.peer.identity, signature],
    ]);
    this.receipt.delivered = this.underway.delivered = { ...delivered, confirmed: true };
    await home.storeReceipt(delivered.transferId, document, this.asJournal());
    const { identity: key, label } = secured.peer;
    await home.pin(key, label, this.session.needsConfirmation);
    this.step(() => this.session.confirm(clock()));
  }
}
