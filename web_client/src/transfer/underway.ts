/** What is under way from the accept on, across sessions and, where there is a disk, reloads. */
import type { Delivered } from "../events";
import { same, type Bytes } from "../protocol/codec";
import { tapeOf, type Manifest, type Results } from "../protocol/manifest";
import type { StorageKeys } from "../protocol/link";
import type { Home } from "../state/home";
import { sealDelivered, type Journal } from "../state/journal";
import { Container } from "../storage/container";
import { reopen, type Space } from "../storage/opfs";
import type { Destination } from "../storage/ports";
import { diskFailure } from "../storage/settling";

/** What tells one transfer from any other. */
export interface OfferKey {
  readonly transferId: Bytes;
  readonly manifestHash: Bytes;
  readonly sender: Bytes;
}

/** The keys of what is stored, by its salt and that of the manifest, which is the sender's secret. */
export type KeysOf = (salt: Bytes, share: Bytes) => StorageKeys;

/** A receipt that this side has signed, as it is presented until the sender has signed it too. */
export interface Signed {
  readonly results: Results;
  readonly refused: readonly (readonly [number, number])[]; // (entry, status): what failed here
  readonly payload: Bytes;
  readonly signature: Bytes;
}

export class Underway {
  durable = 0; // bytes of the tape that are on the disk, and noted so
  signed: Signed | null = null;
  delivered: Delivered | null = null;
  readonly total: number; // bytes of the tape
  private work: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly room: string,
    readonly offer: OfferKey,
    readonly manifest: Manifest,
    readonly destination: Destination,
    readonly space: Space | null, // null: in a folder
    readonly keys: StorageKeys,
    readonly startedAt = Date.now(),
  ) {
    this.total = tapeOf(manifest).total;
  }

  /**
   * What the journal says was under way before a reload or a crash; null where there is nothing of it.
   * Throws `Failure` where it is there and cannot be opened now; it is left as it is.
   */
  static async recall(
    home: Home,
    room: string,
    keysOf: KeysOf,
    manifest: Manifest,
  ): Promise<Underway | null> {
    const journal = await home.journals.read(room);
    if (!journal || journal.delivered || journal.total !== tapeOf(manifest).total) return null;
    const keys = keysOf(journal.salt, manifest.salt);
    let space: Space;
    try {
      space = await reopen(room, keys.store);
    } catch (error) {
      if ((error as DOMException).name === "NotFoundError") return null; // it begins anew
      throw diskFailure(error);
    }
    const destination = new Container(manifest, room, space.store);
    const { startedAt } = journal;
    const recalled = new Underway(room, journal, manifest, destination, space, keys, startedAt);
    recalled.durable = journal.durable;
    return recalled;
  }

  /** Whether the offer goes on with it. */
  matches({ transferId, manifestHash, sender }: OfferKey): boolean {
    const { offer } = this;
    return (
      same(offer.sender, sender) &&
      same(offer.transferId, transferId) &&
      same(offer.manifestHash, manifestHash)
    );
  }

  /** Whether a reload can take it up. */
  get lasting(): boolean {
    return this.space?.where === "disk";
  }

  /** The journal as it is now; null where nothing survives a reload. */
  journal(durable = this.durable, reached = this.delivered): Journal | null {
    if (!this.lasting) return null;
    const { room, total, startedAt, keys } = this;
    const { sender, transferId, manifestHash } = this.offer;
    const delivered = reached && sealDelivered(reached, keys);
    const { salt } = keys;
    return { room, sender, transferId, manifestHash, durable, total, startedAt, salt, delivered };
  }

  /** Disk work of any session: the next one begins only after it. */
  hold(work: Promise<void>): void {
    this.work = Promise.all([this.work, work]);
  }

  /** Until no disk work is under way. */
  async idle(): Promise<void> {
    await this.work;
  }
}
