/** What a page does for somebody who sends: choose, make a link, take up again what was cut. */
import sodium from "libsodium-wrappers-sumo";
import { encode as encodeQr } from "uqr";

import type { Event, Person, Picked, SendOptions, Unfinished } from "./events";
import { HostInvitation, type HostSurroundings } from "./invitation/host";
import { same } from "./protocol/codec";
import { Failure } from "./protocol/errors";
import { shownLabel } from "./protocol/labels";
import {
  deriveKeys,
  hostCommitment,
  linkText,
  parseLink,
  pskSecrets,
  SECRET_BYTES,
} from "./protocol/link";
import { shown } from "./protocol/paths";
import { fingerprint } from "./protocol/receipt";
import { claim, isClaimed } from "./state/claims";
import type { Home } from "./state/home";
import type { KeptSource, SenderRecord } from "./state/sender_journal";
import { Selection } from "./storage/listing";
import { failed } from "./transfer/outcome";
import { pastTransfers } from "./transfer/summary";
import {
  SenderTransfer,
  newTransferId,
  prepareNew,
  recall,
  type Prepared,
} from "./transfer/sender";
import { Trail, trailed } from "./transfer/trail";

const OWNER = 32; // bytes of the token that a room is taken again with
const NAMES = 200; // top names that are shown
const TOLD_MS = 200; // between two events of what was chosen

type Around = HostSurroundings & Pick<Person, "persist">;

export class Sending {
  private selection: Selection;
  private refused: readonly string[] = []; // of the last choice
  private choice = 0; // the last
  private toldAt = 0;
  private telling: ReturnType<typeof setTimeout> | null = null;
  private invitation: HostInvitation | null = null;
  private busy = false; // a link is being made, or something taken up
  private claimed = ""; // the transfer that this tab holds
  private goingOn: (() => void) | null = null;

  constructor(
    private readonly kept: Home,
    private readonly around: Around,
  ) {
    this.selection = new Selection(() => this.tellSelected());
  }

  /** What somebody is told who has no link yet. */
  async home(): Promise<void> {
    const { identity, contacts, lasting } = this.kept;
    const known = await contacts.all();
    this.around.tell({
      event: "home",
      label: await identity.label(),
      lasting,
      protected: await identity.isProtected(),
      contacts: known.map((one) => ({
        name: shownLabel(one.label),
        fingerprint: fingerprint(one.identity),
      })),
      unfinished: await this.unfinished(),
    });
  }

  // --- what is sent

  /** Something was chosen; one `choice` may come in portions, until the `last`. */
  pick(picked: readonly Picked[], choice: number, last: boolean): void {
    const refused = this.selection.add(picked, choice, last).map((name) => shown(name));
    const before = choice === this.choice ? this.refused : [];
    [this.choice, this.refused] = [choice, [...new Set([...before, ...refused])]];
    this.tellSelected();
  }

  /** Leave out again what has this number. */
  unpick(number: number): void {
    const { selection } = this;
    this.refused = [];
    const name = selection.names.find((one) => selection.numberOf(one) === number);
    if (name !== undefined) selection.remove(name);
  }

  /** Now and then: folders are read faster than people read. */
  private tellSelected(): void {
    if (this.telling) return;
    const wait = Math.max(0, this.toldAt + TOLD_MS - performance.now());
    this.telling = setTimeout(() => {
      [this.telling, this.toldAt] = [null, performance.now()];
      const { files, folders, size, names, busy } = this.selection;
      this.around.tell({
        event: "selected",
        files,
        folders,
        size,
        names: names
          .slice(0, NAMES)
          .map((name) => ({ name: shown(name, 128), number: this.selection.numberOf(name) })),
        count: names.length,
        busy,
        refused: this.refused,
      });
    }, wait);
  }

  // --- the link

  async send(options: SendOptions): Promise<void> {
    const { origin, label, passphrase, expires, verify, to } = options;
    const { kept, around, selection } = this;
    if (this.busy) return; // it was clicked twice
    this.busy = true;
    try {
      const identity = await kept.identity.under(label);
      const secret = sodium.randombytes_buf(SECRET_BYTES);
      const commitment = hostCommitment(secret, identity.public);
      const link = { origin, secret, commitment, passphrase: passphrase !== null };
      const contacts = await kept.contacts.all();
      const contact = contacts.find((one) => fingerprint(one.identity) === to) ?? null;
      if (to && !contact) throw new Failure("contact_unknown", to);
      const now = Date.now();
      const record: SenderRecord = {
        transferId: newTransferId(),
        link: linkText(link),
        owner: sodium.randombytes_buf(OWNER),
        secrets: pskSecrets(deriveKeys(secret), passphrase),
        identity: identity.public,
        label,
        verify,
        to: contact?.identity ?? null,
        expiresAt: now + expires * 1000,
        manifestHash: null,
        files: selection.files,
        total: selection.size,
        peer: null,
        peerLabel: "",
        confirmed: false,
        accepted: false,
        reached: 0,
        durable: 0,
        closings: [],
      };
      await claim((this.claimed = record.transferId));
      const warn = (code: "unreadable" | "renamed", path: string, detail: string) =>
        around.tell({ event: "warning", code, path: shown(path, 256), detail });
      const prepare = () => prepareNew(selection, warn, options);
      await this.run(record, prepare, { recalled: false });
    } catch (error) {
      around.tell({ event: "ended", ...failed(error) });
    } finally {
      this.busy = false;
    }
  }

  private async run(
    record: SenderRecord,
    prepare: () => Promise<Prepared>,
    { recalled }: { recalled: boolean },
  ): Promise<void> {
    const { kept } = this;
    const identity = await kept.identity.under(record.label);
    if (!same(identity.public, record.identity)) throw new Failure("journal_foreign");
    const trail = new Trail(kept.audit, "sender", () => record.transferId);
    const around = trailed(this.around, trail);
    const tell = (event: Event) => around.tell(event);
    const transfer = new SenderTransfer(kept, identity, record, prepare, recalled, tell, trail.run);
    if (recalled) await transfer.recallReceipt();
    if (kept.lasting) void around.persist(); // some browsers ask the person, whom nothing waits for
    this.invitation = new HostInvitation(transfer, around);
    await this.invitation.run(() => void this.tellLink(transfer.record, tell));
    this.invitation = null;
  }

  private async tellLink(
    { transferId, link, expiresAt, to }: SenderRecord,
    tell: (event: Event) => void,
  ): Promise<void> {
    const contacts = to ? await this.kept.contacts.all() : [];
    const contact = contacts.find((one) => fingerprint(one.identity) === fingerprint(to!));
    const { data } = encodeQr(link, { border: 2 });
    tell({
      event: "link",
      transferId,
      link,
      expiresAt,
      passphrase: parseLink(link).passphrase,
      contact: shownLabel(contact?.label ?? ""),
      qr: data.map((row) => row.map(Number).join("")).join("\n"),
    });
  }

  /** A person stopped it. */
  stop(): void {
    this.invitation?.stop();
  }

  /** The network may be another. */
  renew(): void {
    this.invitation?.renew();
  }

  // --- after a reload

  /** What can be taken up. */
  private async unfinished(): Promise<Unfinished[]> {
    await eraseExpired(this.kept);
    const found: Unfinished[] = [];
    for (const record of await this.kept.sending.all()) {
      const { transferId, files, total, durable, peerLabel, accepted, expiresAt } = record;
      if (await isClaimed(transferId)) continue; // a tab is at it
      const peer = accepted ? shownLabel(peerLabel) : "";
      found.push({ transferId, files, size: total, durable, peer, expiresAt });
    }
    return found;
  }

  /**
   * Take it up behind the same link. `granted`: the platform lets us read the files again, or they were
   * chosen again.
   */
  async takeUp(transferId: string, granted: boolean): Promise<void> {
    const { kept, around } = this;
    if (this.busy) return; // it was clicked twice, or is taken up by itself
    this.busy = true;
    try {
      const record = await kept.sending.read(transferId);
      // It has ended, or its link has expired, or it was dropped in another tab, or nothing was listed yet.
      if (!record?.manifestHash) {
        around.tell({ event: "gone" });
        const signed = await kept.receipts.read(transferId);
        if (!signed) return await this.home();
        return around.tell({ event: "history", entries: await pastTransfers(kept) });
      }
      if (this.claimed !== transferId && !(await claim(transferId))) {
        return around.tell({ event: "elsewhere" });
      }
      this.claimed = transferId;
      const sources = await kept.sending.sources(transferId);
      const handles = sources?.roots ?? [];
      const byHandle = handles.length > 0 && (await isReadable(handles));
      const chosen = granted && !byHandle;
      if (!byHandle && !chosen) {
        const { files, total: size } = record;
        return around.tell({ event: "choose_again", transferId, files, size, handles });
      }
      await this.selection.whole();
      const again = chosen ? this.chosenAgain() : byItsHandle;
      const { prepared, differences } = await recall(kept, record, again);
      if (differences.missing.length || differences.changed.length) {
        const decided = new Promise<void>((resolve) => (this.goingOn = resolve));
        around.tell({ event: "differences", ...differences });
        await decided;
      }
      await this.run(record, () => Promise.resolve(prepared), { recalled: true });
    } catch (error) {
      around.tell({ event: "ended", ...failed(error) });
    } finally {
      this.busy = false;
    }
  }

  /** Without what is missing or changed. */
  goOn(): void {
    this.goingOn?.();
  }

  /** Do not take it up: what is noted of it is erased. */
  async drop(transferId: string): Promise<void> {
    if (await isClaimed(transferId)) return this.around.tell({ event: "elsewhere" });
    await erase(this.kept, transferId);
    await this.home();
  }

  /** The files that were chosen now, by their paths. */
  private chosenAgain(): (source: KeptSource) => Promise<File | null> {
    const files = this.selection.byPath();
    return async ({ path }) => files.get(path!) ?? null;
  }
}

/** Erase what nobody can come back for. */
export async function eraseExpired(kept: Home): Promise<void> {
  for (const { transferId, expiresAt } of await kept.sending.all()) {
    if (expiresAt < Date.now() && !(await isClaimed(transferId))) await erase(kept, transferId);
  }
}

async function erase(kept: Home, transferId: string): Promise<void> {
  await kept.sending.drop(transferId);
  await kept.audit.append("erased", { transfer_id: transferId });
}

/** Whether the platform still lets us read by these handles. */
async function isReadable(handles: readonly FileSystemHandle[]): Promise<boolean> {
  const asked = handles.map((handle) => handle.queryPermission?.({ mode: "read" }) ?? "granted");
  return (await Promise.all(asked)).every((state) => state === "granted");
}

async function byItsHandle({ handle }: KeptSource): Promise<File | null> {
  return (await handle?.getFile().catch(() => null)) ?? null;
}
