/** What a page does that opened somebody's link: receive, save, erase. */
import type { Command, Delivered, Event, Person } from "./events";
import { GuestInvitation } from "./invitation/guest";
import type { HttpsConnections } from "./lanes/https/connection";
import type { PeerConnections } from "./lanes/webrtc/connection";
import { encodeBase64url, type Bytes } from "./protocol/codec";
import { findLink } from "./protocol/link";
import type { Home } from "./state/home";
import { openDelivered } from "./state/journal";
import { claim, isClaimed } from "./state/claims";
import { containers, erase, isGone, reopen } from "./storage/opfs";
import type { Store } from "./storage/ports";
import { blobOf, contentOf } from "./storage/saving";
import { failed } from "./transfer/outcome";
import { LINK_SECONDS, RecipientTransfer } from "./transfer/recipient";
import { summaryOf } from "./transfer/summary";
import { Trail, trailed } from "./transfer/trail";

const DELIVERED_SECONDS = 7 * 24 * 3600; // what was not saved by then is erased
const SAVING_MS = 500; // between two events of how far it is

type Around = { -readonly [member in keyof Person]: Person[member] } & {
  readonly peerConnections: PeerConnections;
  readonly httpsConnections: HttpsConnections;
};

export class Receiving {
  private readonly trail: Trail;
  private readonly around: Around;
  private invitation: GuestInvitation | null = null; // once the link could be read
  private transfer: RecipientTransfer | null = null;
  private delivered: Delivered | null = null;
  private storeKey!: Bytes; // of what was delivered before a reload

  constructor(
    private readonly home: Home,
    around: Around,
  ) {
    const offered = () => this.transfer?.underway?.offer.transferId;
    const transferId = () => (offered() ? encodeBase64url(offered()!) : "");
    this.trail = new Trail(home.audit, "recipient", transferId);
    this.around = trailed(around, this.trail);
  }

  /** What the page is told, this side hears too. */
  hear(event: Event): void {
    if (event.event === "state" && event.state === "accepted") this.invitation?.stay();
    if (event.event !== "ended") return;
    this.delivered = event.delivered;
    const toSave = event.delivered?.where === "browser" && event.delivered.entries > 0;
    if (!toSave) this.invitation?.leave();
  }

  async open(text: string): Promise<void> {
    const { home, around } = this;
    let invitation: GuestInvitation;
    try {
      const link = findLink(text);
      invitation = new GuestInvitation(link, around, around.tell);
    } catch (error) {
      return around.tell({ event: "ended", ...failed(error) });
    }
    this.invitation = invitation;
    const { room } = invitation;
    if (!(await claim(room))) return around.tell({ event: "elsewhere" });
    const before = await home.journals.read(room);
    await this.tidy(room);
    let journal = await home.journals.read(room);
    if (journal?.delivered && (await isGone(room))) {
      await home.journals.drop(room); // somebody deleted what it speaks of
      journal = undefined;
    }
    if (journal?.delivered) {
      const key = invitation.journalKey(journal.salt);
      ({ delivered: this.delivered, key: this.storeKey } = openDelivered(journal.delivered, key));
      invitation.stay();
    }
    const earlier = journal && { durable: journal.durable, total: journal.total };
    around.tell({
      event: "ready",
      passphrase: invitation.passphrase,
      label: await home.identity.label(),
      earlier: earlier ?? null,
      delivered: this.delivered,
      erased: Boolean(before?.delivered) && !this.delivered,
      receipt: Boolean(before && (await home.receipts.read(encodeBase64url(before.transferId)))),
      lasting: home.lasting,
    });
    await this.tellReceipt();
  }

  async start(command: Extract<Command, { command: "start" }>): Promise<void> {
    const { home, around } = this;
    const invitation = this.invitation!;
    around.folders = command.folders;
    const keysOf = (salt: Bytes, share: Bytes) => invitation.storageKeys(salt, share);
    this.transfer = new RecipientTransfer(home, around, invitation.room, keysOf, this.trail.run);
    const identity = home.identity.under(command.label);
    await invitation.receive(this.transfer, identity, command.passphrase);
    await this.tellReceipt();
  }

  /** The server was told that this page stays. */
  stayed(): void {
    this.invitation!.stayed();
  }

  /** A person stopped it. */
  stop(): void {
    this.invitation?.stop();
  }

  /**
   * Into the file that was chosen: then it is known when it is there, and the copy here is erased. Else
   * as a download, of which a page never hears the end: from then on this page alone has the key.
   */
  async save(into: FileSystemFileHandle | null): Promise<void> {
    if (!this.delivered) return;
    const { home, around } = this;
    const { tell } = around;
    const invitation = this.invitation!;
    const { name, size, extents } = this.delivered;
    let store: Store;
    try {
      store = await this.container();
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
    const content = contentOf(store, extents, (done) => {
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
      await this.forget();
      tell({ event: "saved", name: into.name });
    }
  }

  async discard(): Promise<void> {
    await this.forget();
    this.around.tell({ event: "discarded" });
  }

  /** Erase what nobody came back for, and containers that no journal knows. */
  private async tidy(room: string): Promise<void> {
    const { journals, audit } = this.home;
    const known = new Set<string>();
    for (const journal of await journals.all()) {
      const seconds = journal.delivered ? DELIVERED_SECONDS : LINK_SECONDS;
      // A clock that is wrong does not undo what goes on here and now.
      const opened = journal.room === room && !journal.delivered;
      const fresh = opened || Date.now() - journal.startedAt < seconds * 1000;
      if (fresh && journal.salt)
        known.add(journal.room); // without a salt: of an earlier version, readable
      else if (journal.room === room || !(await isClaimed(journal.room))) {
        await journals.drop(journal.room);
        await audit.append("erased", {});
      }
    }
    for (const name of await containers()) {
      if (!known.has(name) && (name === room || !(await isClaimed(name)))) await erase(name);
    }
  }

  /** Where what arrived lies. Throws when it is not there any more. */
  private async container(): Promise<Store> {
    const underway = this.transfer?.underway;
    if (underway?.space?.where === "memory") return underway.space.store;
    return (await reopen(this.invitation!.room, underway?.keys.store ?? this.storeKey)).store;
  }

  /** Erase what arrived, and its names. */
  private async forget(): Promise<void> {
    const space = this.transfer?.underway?.space;
    const { room } = this.invitation!;
    if (space?.where === "memory") space.store.truncate(0);
    this.invitation!.leave();
    await this.home.journals.drop(room);
    await erase(room);
  }

  /** What the kept receipt says, once its signatures are checked again. */
  private async tellReceipt(): Promise<void> {
    const { delivered, home, around } = this;
    const document = delivered && (await home.receipts.read(delivered.transferId));
    if (document) around.tell({ event: "receipted", receipt: summaryOf(document) });
  }
}
