/**
 * What a sender keeps while sessions come and go: what was promised to whom, how far it came (mirrors
 * `p2p/transfer/sender.py`).
 *
 * It is noted in the journal before the other side is promised anything. It knows nothing of rooms: a
 * recipient that is proven is handed to it, and it says whether what broke can go on.
 */
import sodium from "libsodium-wrappers-sumo";

import { inTurns } from "../clock";
import type { Event, Sent, StateName, WarningCode } from "../events";
import {
  decodeBase64url,
  encodeBase64url,
  hex,
  same,
  sha256,
  type Bytes,
  type JsonObject,
} from "../protocol/codec";
import { FAILURES, Failure, HandoverError, Next, type Code } from "../protocol/errors";
import type { Identity } from "../protocol/handshake";
import {
  Results,
  SALT,
  STATUSES,
  WITHDRAWN,
  decodeManifestInSteps,
  encodeManifest,
  tapeOf,
  type Manifest,
  type Status,
} from "../protocol/manifest";
import { shown } from "../protocol/paths";
import * as receipts from "../protocol/receipt";
import { AT_PEER, type Offering } from "../protocol/session";
import type { Home } from "../state/home";
import { kept, type KeptSource, type SenderRecord } from "../state/sender_journal";
import {
  UNREAD,
  isAlike,
  list,
  type EntrySource,
  type Listing,
  type Selection,
  type Warn,
} from "../storage/listing";
import type { Outcome } from "./outcome";

export const CUT_SECONDS = 24 * 3600; // how long a recipient that was cut off may take to come back
const REACH_AHEAD = 256 * 1024 * 1024; // bytes of tape that may be sent before it is noted again
const MAX_CLOSINGS = 100;
const LISTED = 1000; // entries that are shown

/** What is sent, and what became of it. */
export interface Prepared extends Offering {
  readonly listing: Listing;
}

/** What is not as it was before a reload: paths, safe to show. */
export interface Differences {
  readonly missing: readonly string[];
  readonly changed: readonly string[];
}

export class SenderTransfer {
  /** Once there is one: of both parties. */
  receipt: { readonly confirmed: boolean } | null = null;
  /** Why the recipient is not there any more, once a transfer was under way. */
  cut: StateName | null;
  durable: number; // how far the recipient's disk holds the tape for good
  reached: number; // how far the tape was ever handed to the recipient; after a reload, at most
  private acceptedHere = false; // something was, in this page
  private prepared: Prepared | null = null;
  private preparing: Promise<Prepared> | null = null;
  private over = false;

  /** `prepareSources`: lists what is sent, or recalls it. */
  constructor(
    readonly home: Home,
    readonly identity: Identity,
    private current: SenderRecord,
    private readonly prepareSources: () => Promise<Prepared>,
    readonly recalled: boolean,
    readonly tell: (event: Event) => void,
    private readonly run = "", // of its entries in the audit log
  ) {
    // Whoever was let in and had not accepted when the page was left was a visitor.
    if (recalled && !current.accepted) this.current = { ...current, ...NOBODY };
    this.cut = current.accepted ? "lost" : null;
    this.durable = current.durable;
    this.reached = current.reached;
  }

  /** What is noted, or will be. */
  get record(): SenderRecord {
    return this.current;
  }

  /** Seconds that the server's operator lets links live. */
  maxExpires = Infinity;

  // -- what is sent

  /** List what is sent and note it, or recall both; begun once. Throws `HandoverError`. */
  prepare(): Promise<Prepared> {
    return (this.preparing ??= this.makeReady());
  }

  private async makeReady(): Promise<Prepared> {
    const found = await this.prepareSources();
    const { manifest, data, tape, listing } = found;
    this.prepared = found;
    this.current = {
      ...this.current,
      manifestHash: sha256(data),
      files: manifest.entries.filter(({ kind }) => kind === "file").length,
      total: tape.total,
    };
    if (!this.over) {
      const { roots } = listing;
      const sources = { manifest: data, kept: listing.sources.map(kept), roots };
      await this.home.sending.begin(this.current, sources);
    }
    return found;
  }

  // -- whom it is for

  /** The identity of the recipient that was let in: from then on it is theirs. */
  get peer(): Bytes | null {
    return this.current.peer;
  }

  /** From now on it is this recipient's alone; noted before anything is offered. */
  async admitted(peer: Bytes, peerLabel: string, confirmed: boolean): Promise<void> {
    const before = this.cut;
    await this.note({ peer, peerLabel, confirmed: confirmed || this.current.confirmed });
    this.tell({ event: "state", state: before ? "resumed" : "admitted" });
  }

  /** The recipient has accepted: until then it was a visitor, who ends nothing but a visit. */
  async accepted(): Promise<void> {
    this.acceptedHere = true;
    const most = Math.min(CUT_SECONDS, this.maxExpires) * 1000;
    const expiresAt = Math.max(this.current.expiresAt, Date.now() + most);
    await this.note({ accepted: true, expiresAt });
  }

  /** Whether a recipient ever has. */
  get isAccepted(): boolean {
    return this.acceptedHere || this.cut !== null;
  }

  // -- how far it is

  /**
   * The tape is to be handed over up to `offset`. It is noted ahead, for after a reload nobody knows how far
   * exactly that was.
   */
  async reach(offset: number): Promise<void> {
    this.reached = Math.max(this.reached, offset);
    if (offset > this.current.reached) await this.note({ reached: offset + REACH_AHEAD });
  }

  /** Note changes of the record. */
  async note(changes: Partial<SenderRecord>): Promise<void> {
    this.current = { ...this.current, ...changes };
    if (!this.over) await this.home.sending.write(this.current);
  }

  /** What became of each entry, as far as it is known. */
  async noteResults(): Promise<void> {
    const { results } = this.prepared!;
    if (!this.over) {
      await this.home.sending.storeResults(this.current.transferId, results.encode());
    }
  }

  /** What a receipt must say of a session that is being closed: noted before the closing is said. */
  async noteClosing(closed: JsonObject): Promise<void> {
    await this.noteResults();
    await this.note({ closings: [...this.current.closings, closed].slice(-MAX_CLOSINGS) });
  }

  /** Keep the receipt with both signatures: (key, signature). */
  async keepReceipt(
    payload: Bytes,
    recipient: [Bytes, Bytes],
    sender: [Bytes, Bytes],
  ): Promise<void> {
    const document = receipts.assemble(payload, [recipient, sender]);
    await this.home.receipts.store(this.current.transferId, document, null);
    this.receipt = { confirmed: true };
  }

  /** Find out whether both had signed the receipt when the page was left. */
  async recallReceipt(): Promise<void> {
    const document = await this.home.receipts.read(this.current.transferId);
    if (!document || !receipts.verify(document).confirmed) return;
    this.receipt = { confirmed: true };
    this.cut = "signing"; // nothing is lost but the recipient's last word
  }

  // -- how it ends

  /** Whether it goes on, or stays open for others, after a session that ended so. */
  async outlives(error: HandoverError, canResume: boolean): Promise<boolean> {
    const own = error.detail !== AT_PEER;
    if (!this.isAccepted) {
      if (error.code === "digits_rejected") return false;
      if (error.code !== "declined") this.warn(error.code, error.detail); // that was this side's doing
      this.prepared?.results.clear(); // a visitor's word is not the next one's
      if (this.peer) await this.note(NOBODY).catch(() => {}); // it is nobody's again
      return true;
    }
    if (error.code === "connection_lost_early") return true;
    if (error.next < Next.WAIT || !canResume) return false;
    const lost = error.code === "connection_lost";
    this.cut = lost ? "lost" : own ? "sender_paused" : "paused";
    if (own && !lost) this.warn(error.code, error.detail);
    return true;
  }

  /** Say something that is not the end. */
  warn(code: WarningCode, detail = ""): void {
    this.tell({ event: "warning", code, detail });
  }

  /** Nobody came, or came back, in time. Throws `Failure`, unless both have signed. */
  giveUp(): Outcome {
    if (!this.receipt) throw new Failure(this.cut ? "connection_lost" : "expired");
    return { ending: "complete", code: "receipt_unconfirmed", detail: "", delivered: null };
  }

  /** It has ended: forget the journal unless it can still be taken up, note it and tell it. */
  async end({ ending, code, detail, values }: Outcome): Promise<void> {
    this.over = true;
    const { transferId, peer } = this.current;
    const details: JsonObject = { role: "sender", ending, code, transfer_id: transferId };
    if (this.run) details["run"] = this.run;
    const purpose = this.prepared?.manifest.purpose;
    if (purpose) details["purpose"] = purpose;
    if (peer) details["peer"] = receipts.thumbprint(peer);
    if (this.prepared && peer) {
      details["entries"] = this.prepared.manifest.entries.length;
      details["bytes"] = this.prepared.tape.total;
      details["manifest_sha256"] = encodeBase64url(sha256(this.prepared.data));
    }
    const receipt = this.receipt && (await this.home.receipts.read(transferId));
    if (receipt) details["receipt_sha256"] = hex(sha256(receipt));
    await this.home.audit.append("transfer", details).catch(() => {});
    const goesOn = peer && code && FAILURES[code as Code].next >= Next.RESUME;
    if (!goesOn) await this.home.sending.drop(transferId).catch(() => {});
    const signed = this.receipt && this.prepared;
    const told = { ending, code, detail, ...(values && { values }) };
    if (signed) this.tell({ event: "sent", ...told, ...this.sent(signed) });
    else this.tell({ event: "ended", ...told, delivered: null });
  }

  private sent({
    manifest,
    tape,
    results,
  }: Prepared): Omit<Sent, "event" | "ending" | "code" | "detail"> {
    const { entries } = manifest;
    const failures = results.failures();
    const lost = failures.reduce((sum, [index]) => sum + entries[index]!.size, 0);
    const failed = failures
      .slice(0, LISTED)
      .map(
        ([index, status]) =>
          [shown(entries[index]!.path, 256), STATUSES[status as Status]] as const,
      );
    return {
      files: entries.filter(({ kind }, i) => kind === "file" && !results.at(i)[0]).length,
      size: tape.total - lost,
      failures: failures.length,
      failed,
      transferId: this.current.transferId,
    };
  }
}

const NOBODY = { peer: null, peerLabel: "", confirmed: false };

/** What is sent for which purpose, and why. */
export type Purpose = Pick<Manifest, "purpose" | "reason">;

/** The manifest of what was chosen. Throws `Failure`. */
export async function prepareNew(
  selection: Selection,
  warn: Warn,
  { purpose, reason }: Purpose = { purpose: null, reason: "" },
): Promise<Prepared> {
  const listing = await list(selection, warn, Date.now());
  const salt = sodium.randombytes_buf(SALT);
  const manifest = { entries: listing.entries, salt, skipped: {}, purpose, reason };
  const results = Results.of(manifest.entries.length);
  return { listing, manifest, data: encodeManifest(manifest), tape: tapeOf(manifest), results };
}

/**
 * What was sent before a reload, and the results as far as they came; and what is not as it was, which is
 * given up by name where it goes on all the same.
 *
 * `again` gives a file that was chosen before. Throws `Failure` when there is nothing of it.
 */
export async function recall(
  home: Home,
  { transferId, manifestHash }: SenderRecord,
  again: (source: KeptSource) => Promise<File | null>,
): Promise<{ prepared: Prepared; differences: Differences }> {
  const sources = await home.sending.sources(transferId);
  if (!sources || !manifestHash || !same(sha256(sources.manifest), manifestHash)) {
    throw new Failure("journal_damaged", transferId);
  }
  const manifest = await inTurns(decodeManifestInSteps(sources.manifest));
  const { entries } = manifest;
  const known = await home.sending.results(transferId);
  const results = known ? Results.recall(known, entries.length) : Results.of(entries.length);
  const [missing, changed]: [string[], string[]] = [[], []];
  const found: EntrySource[] = [];
  // What the recipient could not write is open again.
  const isGivenUp = (index: number) => WITHDRAWN.includes(results.at(index)[0]);
  for (const [index, source] of sources.kept.entries()) {
    if (source.kind !== "file") {
      found.push(source.kind === "directory" ? null : UNREAD);
      continue;
    }
    const file = isGivenUp(index) ? null : await again(source);
    const alike = file && isAlike({ size: source.size!, lastModified: source.lastModified! }, file);
    if (file && alike) found.push({ path: source.path!, file, handle: source.handle ?? null });
    else {
      if (!isGivenUp(index)) (file ? changed : missing).push(shown(entries[index]!.path, 256));
      found.push(UNREAD);
    }
  }
  const listing = { entries, sources: found, roots: sources.roots };
  const prepared = {
    listing,
    manifest,
    data: sources.manifest,
    tape: tapeOf(manifest),
    results,
  };
  return { prepared, differences: { missing, changed } };
}

/** A new transfer's id. */
export const newTransferId = (): string => encodeBase64url(sodium.randombytes_buf(16));

/** Its bytes. */
export const idOf = ({ transferId }: SenderRecord): Bytes => decodeBase64url(transferId);
