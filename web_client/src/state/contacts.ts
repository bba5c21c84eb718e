/** Peers that were met before. */
import { nowText } from "../clock";
import { hex, same, type Bytes } from "../protocol/codec";
import { MAX_LABEL } from "../protocol/handshake";
import { alike, shownLabel } from "../protocol/labels";
import { fingerprint, thumbprint } from "../protocol/receipt";
import type { AuditLog } from "./audit";
import type { Database } from "./database";

/** `verified` once check digits were compared with them. */
export interface Contact {
  readonly identity: Bytes;
  readonly label: string;
  readonly firstMet: string;
  readonly verified: boolean;
}

export class Contacts {
  constructor(
    private readonly database: Database,
    private readonly audit: AuditLog,
  ) {}

  /** All of them, by name. */
  async all(): Promise<Contact[]> {
    const contacts = await this.database.getAll<Contact>("contacts");
    return contacts.sort((one, other) => (one.label < other.label ? -1 : 1));
  }

  /** Who this is, if met before; and whose name the label looks like, with another key, or "". */
  async known(
    identity: Bytes,
    label: string,
  ): Promise<{ contact: Contact | null; changed: string }> {
    const contacts = await this.database.getAll<Contact>("contacts");
    const contact = contacts.find((one) => same(one.identity, identity)) ?? null;
    if (contact !== null && alike(contact.label, label)) return { contact, changed: "" };
    const others = contacts.filter((one) => one !== contact);
    return { contact, changed: others.find((one) => alike(one.label, label))?.label ?? "" };
  }

  /** Remember a peer after a transfer. */
  async pin(identity: Bytes, label: string, verified: boolean): Promise<void> {
    const known = await this.database.get<Contact>("contacts", hex(identity));
    const contact: Contact = {
      identity,
      label: known?.label ?? (await this.freeName(identity, label)),
      firstMet: known?.firstMet ?? nowText(),
      verified: verified || (known?.verified ?? false),
    };
    await this.database.put("contacts", contact, hex(identity));
    const event = !known
      ? "contact_added"
      : contact.verified !== known.verified && "contact_compared";
    if (event) void this.audit.note(event, { peer: thumbprint(identity) });
  }

  /** Its label; its fingerprint where the label is empty or looks like another contact's. */
  private async freeName(identity: Bytes, label: string): Promise<string> {
    const { changed } = await this.known(identity, label);
    return (changed === "" && shownLabel(label, MAX_LABEL)) || fingerprint(identity);
  }
}
