/** What a page does for somebody who sends: choose, make a link, take up again what was cut. */
import sodium from "libsodium-wrappers-sumo";
import { encode as encodeQr } from "uqr";

import type { Event, Person, Picked, SendOptions, Unfinished } from "./events";
import { HostInvitation, type HostSurroundings } from "./invitation/host";
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
import {
  SenderTransfer,
  newTransferId,
  prepareNew,
  recall,
  type Prepared,
} from "./transfer/sender";

const OWNER = 32; // bytes of the token that a room is taken again with
const NAMES = 200; // top names that are shown
const TOLD_MS = 200; // between two events of what was chosen

type Around = HostSurroundings & Pick<Person, "persist">;

export class Sending {
  private selection: Selection;
  private refused: readonly string[] = [];
  private toldAt = 0;
  private telling: ReturnType<typeof setTimeout> | null = null;
  private invitation: HostInvitation | null = null;
  private takingUp: SenderRecord | null = null; // what is chosen again for
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

  /** Something was chosen; one `choice` may come in portions. */
  pick(picked: readonly Picked[], choice: number): void {
    this.refused = this.selection.add(picked, choice).map((name) => shown(name));
    this.tellSelected();
  }

  unpick(index: number): void {
    this.refused = [];
    this.selection.remove(this.selection.names[index]!);
    this.tellSelected();
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
        names: names.slice(0, NAMES).map((name) => shown(name, 128)),
        count: names.length,
        busy,
        refused: this.refused,
      });
    }, wait);
  }

  // --- the link

  async send({ origin, label, passphrase, expires, verify, to }: SendOptions): Promise<void> {
    const { kept, around, selection } = this;
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
        startedAt: now,
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
      await claim(record.transferId);
      const warn = (code: "unreadable" | "renamed", path: string, detail: string) =>
        around.tell({ event: "warning", code, path: shown(path, 256), detail });
      const prepare = () => prepareNew(selection, warn);
      await this.run(record, prepare, { recalled: false });
    } catch (error) {
      around.tell({ event: "ended", ...failed(error) });
    }
  }

  private async run(
    record: SenderRecord,
    prepare: () => Promise<Prepared>,
    { recalled }: { recalled: boolean },
  ): Promise<void> {
    const { kept, around } = this;
    const identity = await kept.identity.under(record.label);
    const tell = (event: Event) => around.tell(event);
    const transfer = new SenderTransfer(kept, identity, record, prepare, recalled, tell);
    if (recalled) await transfer.recallReceipt();
    if (kept.lasting) void around.persist(); // some browsers ask the person, whom nothing waits for
    this.invitation = new HostInvitation(transfer, around);
    await this.invitation.run(() => void this.tellLink(record));
    this.invitation = null;
  }

  private async tellLink({ transferId, link, expiresAt, to }: SenderRecord): Promise<void> {
    const contacts = to ? await this.kept.contacts.all() : [];
    const contact = contacts.find((one) => fingerprint(one.identity) === fingerprint(to!));
    const { data } = encodeQr(link, { border: 2 });
    this.around.tell({
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

  /** What can be taken up; what nobody can come back for is erased. */
  private async unfinished(): Promise<Unfinished[]> {
    const found: Unfinished[] = [];
    for (const record of await this.kept.sending.all()) {
      const { transferId, files, total, durable, peerLabel, accepted, expiresAt } = record;
      if (await isClaimed(transferId)) continue; // another tab's
      if (expiresAt < Date.now()) await this.erase(transferId);
      else {
        const peer = accepted ? shownLabel(peerLabel) : "";
        found.push({ transferId, files, size: total, durable, peer, expiresAt });
      }
    }
    return found;
  }

  /**
   * Take it up behind the same link. `granted`: the platform lets us read the files again, or they were
   * chosen again.
   */
  async takeUp(transferId: string, granted: boolean): Promise<void> {
    const { kept, around } = this;
    try {
      const record = await kept.sending.read(transferId);
      if (!record || (!this.takingUp && !(await claim(transferId)))) {
        return around.tell({ event: "elsewhere" });
      }
      const sources = await kept.sending.sources(transferId);
      this.takingUp = record;
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
      this.takingUp = null;
      await this.run(record, () => Promise.resolve(prepared), { recalled: true });
    } catch (error) {
      around.tell({ event: "ended", ...failed(error) });
    }
  }

  /** Without what is missing or changed. */
  goOn(): void {
    this.goingOn?.();
  }

  /** Do not take it up: what is noted of it is erased. */
  async drop(transferId: string): Promise<void> {
    await this.erase(transferId);
    await this.home();
  }

  private async erase(transferId: string): Promise<void> {
    await this.kept.sending.drop(transferId);
    await this.kept.audit.append("erased", { transfer_id: transferId });
  }

  /** The files that were chosen now, by their paths. */
  private chosenAgain(): (source: KeptSource) => Promise<File | null> {
    const files = this.selection.byPath();
    return async ({ path }) => files.get(path!) ?? null;
  }
}

/** Whether the platform still lets us read by these handles. */
async function isReadable(handles: readonly FileSystemHandle[]): Promise<boolean> {
  const asked = handles.map((handle) => handle.queryPermission?.({ mode: "read" }) ?? "granted");
  return (await Promise.all(asked)).every((state) => state === "granted");
}

async function byItsHandle({ handle }: KeptSource): Promise<File | null> {
  return (await handle?.getFile().catch(() => null)) ?? null;
}
