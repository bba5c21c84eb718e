/**
 * The recipient's half of a byte's walk, within one session (mirrors `p2p/transfer/receive.py`).
 *
 *     data lane -> open -> decompress -> Destination.write -> sync, journal -> read back -> receipt
 *
 * It begins when the two peers know each other and ends with the session; what outlives that is
 * `Underway`.
 */
import sodium from "libsodium-wrappers-sumo";

import { breathe, clock, inTurns, nowText, sleep } from "../clock";
import { decompress } from "../compression";
import type { Delivered, Event, Person, StateName } from "../events";
import { RecipientMultipath } from "../lanes/multipath";
import { encodeBase64url, same, type Bytes } from "../protocol/codec";
import { Failure, PeerError } from "../protocol/errors";
import {
  Results,
  decodeManifestInSteps,
  resultsRootInSteps,
  tapeOf,
  type Manifest,
} from "../protocol/manifest";
import { STORAGE_SALT, type StorageKeys } from "../protocol/link";
import * as receipts from "../protocol/receipt";
import { Opener, Stream, isHole, type Header } from "../protocol/seal";
import { RecipientSession, type Bottleneck, type Event as SessionEvent } from "../protocol/session";
import type { Signal } from "../protocol/signal";
import type { Home } from "../state/home";
import { Container } from "../storage/container";
import { FolderDestination } from "../storage/folder";
import { reserve, type Space } from "../storage/opfs";
import { Layout } from "../storage/zip";
import { Driver, introduce, type Connected } from "./driver";
import type { Outcome } from "./outcome";
import { Rate } from "./rates";
import { receiptPayload } from "./receipt";
import { deliveredOf, offerOf } from "./summary";
import { Underway, type KeysOf, type OfferKey, type Signed } from "./underway";

const SYNC_BYTES = 32 * 1024 * 1024; // whichever comes first: what is read back last waits for it ...
const SYNC_SECONDS = 1; // ... and each costs some milliseconds, and a journal entry
const STAY_SECONDS = 2; // for the server to hear that this page stays
const PROGRESS_SECONDS = 0.5; // at most two `progress` events a second: painting costs as well

/** What a session of the recipient's works with. */
export interface Surroundings {
  readonly home: Home;
  readonly person: Person;
  readonly room: string; // hex; names journal and container
  readonly keysOf: KeysOf;
  /** What is under way, which one session hands on to the next. */
  readonly progress: { underway: Underway | null };
}

export class Receive {
  private readonly session: RecipientSession;
  private readonly driver: Driver<SessionEvent>;
  private readonly opener: Opener;
  private readonly lanes: RecipientMultipath; // those beside the connection's own
  private manifest!: Manifest;
  private total = -1; // of the tape, once it is accepted
  private syncedAt = clock();
  private syncing = false;
  private reading = false;
  private toldAt = 0;
  private bottleneck: Bottleneck = ""; // as the sender says
  private readonly rate = new Rate();

  constructor(
    private readonly connected: Connected,
    private readonly around: Surroundings,
  ) {
    const { secured, identity, connection, open, binding, verify } = connected;
    this.session = new RecipientSession(secured, identity, clock(), { verify });
    this.opener = new Opener(secured.suite, connected.sessionPrivate);
    const said = {
      signal: (number: number, signal: Signal) =>
        this.driver.step(() => this.session.signal(number, signal, clock())),
      opened: (number: number) => this.driver.step(() => this.session.addLane(number)),
      failed: (error: unknown) => this.driver.fail(error),
    };
    const takeIn = (message: Bytes, number: number) => this.takeIn(message, number);
    const mayAdd = !connected.relayOnly;
    this.lanes = new RecipientMultipath(open, binding.nonceGuest, mayAdd, said, takeIn);
    this.driver = new Driver(this.session, connection, {
      handle: (event) => this.handle(event),
      tick: () => this.sync(),
      stop: () => this.lanes.close(),
    });
    connection.data.onMessage = (message) => this.takeIn(message);
    void this.driver.carry(this.introduce());
    connected.early().forEach((frame) => this.driver.receive(frame));
  }

  /** Settles once, with how the session ended. */
  get ended(): Promise<Outcome> {
    return this.driver.ended;
  }

  /** Whether files were under way in this session. */
  get began(): boolean {
    return this.total >= 0;
  }

  /** A person stopped it, and the sender is told. Not while only signatures are missing. */
  stop(): void {
    const signed = this.around.progress.underway?.signed;
    if (!signed && !this.session.settling) this.driver.fail(new Failure("cancelled"));
  }

  /** Close the connection, once the last word is heard. */
  hangUp(): Promise<void> {
    return this.driver.hangUp();
  }

  private get underway(): Underway {
    return this.around.progress.underway!; // once there was a yes
  }

  private tell(event: Event): void {
    this.around.person.tell(event);
  }

  private tellState(state: StateName): void {
    this.tell({ event: "state", state });
  }

  private handle(event: SessionEvent): void {
    switch (event.type) {
      case "offered":
        return this.tellState("offered");
      case "manifest_arrived":
        return void this.driver.carry(this.decide(event.data));
      case "progressed":
        return this.tellProgress(event);
      case "withdrawn":
        return event.entries.forEach(([entry]) => this.underway.destination.withdraw(entry));
      case "delivered":
        return this.onDisk(this.finish(event.digests));
      case "countersigned":
        return void this.driver.carry(this.confirm(event.signature));
      case "lane_signalled":
        return this.lanes.signalled(event.number, event.signal);
      case "https_offered":
        if (this.connected.connection.path === "https") return void this.lanes.offered(event.token);
        return this.driver.fail(new PeerError("message_out_of_turn", "https"));
      case "bottleneck_reported":
        this.bottleneck = event.by;
        return;
      case "suspected":
        return this.tell({ event: "silence", silent: event.silent });
      case "ended": {
        const { ending, code } = event;
        if (ending === "declined") {
          return this.driver.fail(new Failure("declined", "declined_here"), true);
        }
        return this.driver.finish({ ending, code, detail: "", delivered: this.underway.delivered });
      }
    }
  }

  /** Carry disk work to its end; the next session waits for it. */
  private onDisk(work: Promise<void>): void {
    this.underway.hold(this.driver.carry(work));
  }

  // --- who, what, yes or no

  private async introduce(): Promise<void> {
    const { home, person, room } = this.around;
    const { peer } = this.connected.secured;
    await introduce(this.connected, home.contacts, (event) => this.tell(event));
    this.tellState("connected");
    if (!this.session.needsConfirmation) return;
    const earlier = this.around.progress.underway?.offer ?? (await home.journals.read(room));
    const again = earlier && same(earlier.sender, peer.identity); // both said so then
    if (!again && (await person.ask("digits")) !== true) {
      throw new Failure("digits_rejected");
    }
    this.driver.step(() => this.session.confirmed(clock()));
  }

  private async decide(data: Bytes): Promise<void> {
    const { home, room, keysOf, progress } = this.around;
    const { session } = this;
    this.manifest = await inTurns(decodeManifestInSteps(data));
    if (this.driver.over) return;
    const tape = tapeOf(this.manifest);
    session.read(this.manifest, tape);
    const { transferId, manifestHash } = session;
    const sender = this.connected.secured.peer.identity;
    const offer = { transferId, manifestHash, sender };
    if (progress.underway?.signed) {
      if (!progress.underway.matches(offer)) throw new Failure("offer_changed");
      return this.present(progress.underway.signed);
    }
    if (await home.receipts.read(encodeBase64url(transferId))) {
      throw new PeerError("transfer_id_reused");
    }
    const earlier = progress.underway ?? (await Underway.recall(home, room, keysOf, this.manifest));
    if (earlier?.matches(offer)) progress.underway = earlier;
    else {
      await earlier?.destination.discard();
      progress.underway = null;
      const begun = await this.begin(offer);
      if (!begun) return;
      progress.underway = begun;
      await this.journal();
    }
    await this.underway.idle();
    const { durable, destination } = this.underway;
    destination.begin(durable);
    await session.accept(nowText(), durable, clock);
    if (this.driver.over) return;
    this.total = tape.total;
    this.tellState("accepted");
    this.driver.step(() => session.synced(durable, clock()));
    this.readBack();
  }

  /** Reserve space and ask the person; null when there is no yes. */
  private async begin(offer: OfferKey): Promise<Underway | null> {
    const { person, room, keysOf } = this.around;
    const layout = new Layout(this.manifest);
    const keys = keysOf(sodium.randombytes_buf(STORAGE_SALT), this.manifest.salt);
    const space = await this.reserve(layout, keys);
    const container = space && new Container(this.manifest, room, space.store);
    this.tell(offerOf(this.manifest, layout, space));
    const over = this.ended.then(
      () => false,
      () => false,
    );
    const answer = await Promise.race([person.ask("accept"), over]);
    if (answer !== true || this.driver.over) await container?.discard();
    if (this.driver.over) return null;
    if (!answer) {
      this.driver.step(() => this.session.decline(clock()));
      return null;
    }
    if (typeof answer !== "object") {
      return new Underway(room, offer, this.manifest, container!, space, keys);
    }
    const folder = new FolderDestination(this.manifest, answer);
    return new Underway(room, offer, this.manifest, folder, null, keys);
  }

  /** Space in the browser; null when there is none but a folder can be chosen. */
  private async reserve(layout: Layout, keys: StorageKeys): Promise<Space | null> {
    const { person, room } = this.around;
    try {
      return await reserve(room, layout.size, keys.store, () => person.persist());
    } catch (error) {
      if (!person.folders) throw error;
      return null;
    }
  }

  // --- bytes

  private takeIn(message: Bytes, lane = 0): void {
    this.driver.step(() => {
      const [header, sent] = this.opener.open(message);
      const payload = decompress(header.flags, header.length, sent);
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
    this.driver.step(() => this.session.written(header, payload, clock(), lane));
    this.sync();
  }

  /** Written -> on the disk for good, and noted so: then it may be acknowledged. */
  private sync(): void {
    if (!this.began || this.syncing || this.driver.over) return;
    const { underway, session } = this;
    const { frontier } = session;
    const owed = frontier - underway.durable;
    const late = clock() - this.syncedAt >= SYNC_SECONDS;
    const due = owed >= SYNC_BYTES || late || underway.destination.crowded;
    if (owed <= 0 || !(due || frontier === this.total)) return;
    this.syncing = true;
    const work = async () => {
      await underway.destination.sync(frontier);
      await this.journal(frontier);
      underway.durable = frontier;
      [this.syncedAt, this.syncing] = [clock(), false];
      this.driver.step(() => session.synced(frontier, clock()));
      this.readBack();
    };
    this.onDisk(work());
  }

  private async journal(durable?: number): Promise<void> {
    const journal = this.underway.journal(durable);
    if (journal) await this.around.home.journals.write(journal);
  }

  /** On the disk for good -> read back and hashed, a little at a time. */
  private readBack(): void {
    if (this.reading || this.driver.over) return;
    this.reading = true;
    const work = async () => {
      let verified = -1;
      while (!this.driver.over && verified < this.underway.durable) {
        const { destination, durable } = this.underway;
        const before = destination.hashed;
        await destination.readBack(Math.min(durable, before + destination.readBackStep));
        verified = Math.min(destination.hashed, durable);
        this.driver.step(() => this.session.verified(verified, clock()));
        if (destination.hashed === before) break; // nothing whole to read yet: after the next sync
        await breathe();
      }
      this.reading = false;
      if (!this.driver.over && verified === this.total && this.session.state === "receiving") {
        this.tellState("verifying");
      }
    };
    this.onDisk(work());
  }

  private tellProgress(event: Extract<SessionEvent, { type: "progressed" }>): void {
    const now = clock();
    const { durable, verified, total } = event;
    if (verified < total && now - this.toldAt < PROGRESS_SECONDS) return;
    this.toldAt = now;
    const rate = this.rate.of(durable);
    const path = this.lanes.carriedBy ?? this.connected.connection.path;
    const { bottleneck } = this;
    this.tell({ event: "progress", durable, verified, total, rate, path, bottleneck });
  }

  // --- the end

  /** Compare, make it what people get, sign. The half-signed receipt is kept before it is sent. */
  private async finish(digests: Bytes): Promise<void> {
    const { session, manifest } = this;
    const { identity } = this.connected;
    const { destination } = this.underway;
    this.tellState("verifying");
    const [results, refused] = await destination.settle(Results.decode(digests, manifest));
    if (this.driver.over) return;
    this.tellState("signing");
    const payload = receiptPayload(this.connected, session, {
      results,
      root: await inTurns(resultsRootInSteps(manifest, results)),
      stored: destination.stored,
      auditHead: await this.around.home.audit.head(),
      verified: nowText(),
    });
    const signature = await receipts.sign(identity, payload);
    if (this.driver.over) return;
    const signed = { results, refused, payload, signature };
    const transferId = encodeBase64url(session.transferId);
    const delivered = deliveredOf(manifest, results, destination, transferId);
    await this.storeReceipt(delivered, payload, [[identity.public, signature]]);
    destination.close(); // nothing more is written
    [this.underway.delivered, this.underway.signed] = [delivered, signed];
    await this.present(signed);
  }

  /** Send the receipt, signed here; again in a later session, if the first time was lost. */
  private async present({ results, refused, payload, signature }: Signed): Promise<void> {
    // A small transfer may end sooner than a second connection to the server is there.
    await Promise.race([this.connected.stayed(), sleep(STAY_SECONDS)]);
    this.driver.step(() => this.session.finish(results, refused, payload, signature, clock()));
  }

  /** Nothing is delivered before this is on the disk. */
  private async storeReceipt(
    delivered: Delivered,
    payload: Bytes,
    signatures: [Bytes, Bytes][],
  ): Promise<void> {
    const document = receipts.assemble(payload, signatures);
    const journal = this.underway.journal(undefined, delivered);
    await this.around.home.receipts.store(delivered.transferId, document, journal);
  }

  /** The sender has signed too. */
  private async confirm(signature: Bytes): Promise<void> {
    const { identity, secured } = this.connected;
    const { identity: sender, label } = secured.peer;
    const { payload, signature: own } = this.underway.signed!;
    const delivered = { ...this.underway.delivered!, confirmed: true };
    await this.storeReceipt(delivered, payload, [
      [identity.public, own],
      [sender, signature],
    ]);
    this.underway.delivered = delivered;
    await this.around.home.contacts.pin(sender, label, this.session.needsConfirmation);
    this.driver.step(() => this.session.confirm(clock()));
  }
}
