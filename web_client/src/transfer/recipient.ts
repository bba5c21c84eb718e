/**
 * A transfer across sessions, at its recipient (mirrors `p2p/transfer/recipient.py`): what is under way, what a failure
 * leaves of it, and its ending.
 *
 * A lost connection is made again by whoever holds the invitation; the next session goes on from where
 * the disk stands. A reload or a crash goes on from the journal.
 */
import { clock, sleep } from "../clock";
import type { Delivered, Person } from "../events";
import { encodeBase64url, hex, sha256, type JsonObject } from "../protocol/codec";
import { FAILURES, Failure, HandoverError, Next, type Code } from "../protocol/errors";
import { thumbprint } from "../protocol/receipt";
import type { Home } from "../state/home";
import type { Journal } from "../state/journal";
import { CLEARED } from "../storage/settling";
import type { Connected } from "./driver";
import type { Outcome } from "./outcome";
import { AT_PEER } from "../protocol/session";
import { Receive } from "./receive";
import type { KeysOf, Underway } from "./underway";

export const LINK_SECONDS = 24 * 3600; // no link lives longer, so no unfinished transfer does
const CONFIRM_SECONDS = 15; // that a sender is gone for, before its signature is waited for no more
const LONGEST_CONFIRM_SECONDS = 600; // for it, whatever the network says
const DISK_SECONDS = 2; // between two looks at a disk that took no more

export class RecipientTransfer {
  private readonly progress: { underway: Underway | null } = { underway: null };
  private earlier: Journal | null = null; // of before a reload or a crash
  private current: Receive | null = null;
  /** Why the last session came to no end. */
  cut: "lost" | "paused" | "sender_paused" = "lost";
  private readonly since = clock();

  constructor(
    private readonly home: Home,
    private readonly person: Person,
    private readonly room: string, // hex; of the link
    private readonly keysOf: KeysOf,
    private readonly run = "", // of its entries in the audit log
  ) {}

  /** What is under way in this page, once it was accepted. */
  get underway(): Underway | null {
    return this.progress.underway;
  }

  /** Find what a reload or a crash has left. */
  async recall(): Promise<void> {
    this.earlier = (await this.home.journals.read(this.room)) ?? null;
  }

  /** One session with a sender that is proven. Throws what ended it early. */
  async session(connected: Connected): Promise<Outcome> {
    const { home, person, room, keysOf, progress } = this;
    const receive = new Receive(connected, { home, person, room, keysOf, progress });
    this.current = receive;
    try {
      return await receive.ended;
    } finally {
      void receive.hangUp();
    }
  }

  /** Whether files were under way in the last session. */
  get moved(): boolean {
    return this.current?.began ?? false;
  }

  /** A person stopped it. */
  stop(): void {
    this.current?.stop();
  }

  /**
   * A session came to no end, or to none at all: null when another may. Throws `failure` when none may.
   *
   * `failure` is null where only the sender's signature is missing, `proven` whether the sender was;
   * `silence` and `away` count the seconds since the sender was there, and since it was not known to be
   * gone.
   */
  brokeOff(failure: unknown, proven: boolean, silence: number, away: number): Outcome | null {
    if (failure !== null && !this.mayGoOn(failure, proven)) throw failure;
    this.cut = "lost";
    if (failure instanceof HandoverError && failure.code === "disk_paused") {
      this.cut = failure.detail === AT_PEER ? "sender_paused" : "paused";
    }
    if (!this.unconfirmed) return null;
    const patient = away <= CONFIRM_SECONDS && silence <= LONGEST_CONFIRM_SECONDS;
    return patient ? null : this.unconfirmed;
  }

  /** Until another session makes sense, for a disk of this side that took no more; or it is `stopped`. */
  async ready(stopped: () => boolean): Promise<void> {
    while (this.cut === "paused" && !stopped() && !(await this.takesData())) {
      await sleep(DISK_SECONDS);
    }
  }

  /**
   * The store first: what is written to the database while the disk is full can cost Chromium all of it, for
   * which it then makes an empty one. Throws `Failure` (data_cleared) where that has happened.
   */
  private async takesData(): Promise<boolean> {
    const { underway } = this;
    if (!underway) return true;
    if (!(await underway.destination.takesData())) return false;
    try {
      const journal = underway.journal();
      if (journal) await this.home.journals.write(journal);
      return true;
    } catch (error) {
      if (error instanceof Failure && error.detail === CLEARED) throw error;
      return false;
    }
  }

  /** How it ends where all is delivered and signed here; null before. */
  get unconfirmed(): Outcome | null {
    if (!this.underway?.signed) return null;
    const { delivered } = this.underway;
    return { ending: "delivered_unconfirmed", code: "unconfirmed", detail: "", delivered };
  }

  /**
   * Whether trying again may help: files were under way, and the failure is one that may pass.
   *
   * What goes wrong before the sender is proven may be a server's or a stranger's doing: no reason to
   * give up what is there.
   */
  private mayGoOn(failure: unknown, proven: boolean): boolean {
    const { underway } = this;
    const begun = underway ?? this.earlier;
    if (!begun || !(failure instanceof HandoverError)) return false;
    if (clock() - this.since > LINK_SECONDS) return false;
    return (underway !== null && !proven) || failure.next >= Next.RETRY;
  }

  /** It has ended: see to what is there, note it and tell it. */
  async end({ ending, code, detail: reason, delivered }: Outcome): Promise<void> {
    const cleared = code === "disk_error" && reason !== "enospc" && (await this.wasCleared());
    const detail = cleared ? CLEARED : reason;
    const found = delivered ?? (await this.keepOrErase(code as Code, cleared));
    if (found?.where === "browser" && !found.entries) await this.erase(); // nothing is to be saved
    const details: JsonObject = { role: "recipient", ending, code };
    if (this.run) details["run"] = this.run;
    const { underway } = this;
    if (underway) {
      const { transferId, manifestHash, sender } = underway.offer;
      details["transfer_id"] = encodeBase64url(transferId);
      const { purpose } = underway.manifest;
      if (purpose) details["purpose"] = purpose;
      details["peer"] = thumbprint(sender);
      details["bytes"] = underway.total;
      details["manifest_sha256"] = encodeBase64url(manifestHash);
      const receipt = await this.home.receipts.read(encodeBase64url(transferId)).catch(() => null);
      if (receipt) details["receipt_sha256"] = hex(sha256(receipt));
    }
    await this.home.audit.append("transfer", details).catch(() => {});
    this.person.tell({ event: "ended", ending, code, detail, delivered: found });
  }

  /** Whether somebody, or a rule of the browser's, deleted what this page had stored. */
  private async wasCleared(): Promise<boolean> {
    if (!this.underway?.lasting) return false;
    const { journals } = this.home;
    return (await journals.read(this.room).catch(() => undefined)) === undefined;
  }

  /** After a failure: what is delivered all the same, or what becomes of what had arrived. */
  private async keepOrErase(code: Code, cleared: boolean): Promise<Delivered | null> {
    const { underway } = this;
    await underway?.idle();
    if (cleared) return null; // nothing is there, and closing what was would hang in Chromium
    if (!underway || underway.delivered) return underway?.delivered ?? null;
    if (underway.lasting && FAILURES[code].next >= Next.RESUME) underway.destination.close();
    else await this.erase();
    return null;
  }

  private async erase(): Promise<void> {
    await this.underway!.destination.discard();
    await this.home.journals.drop(this.room).catch(() => {});
  }
}
