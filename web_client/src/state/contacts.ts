/** Peers that were met before. */
import { nowText } from "../clock";
import { hex, same, type Bytes } from "../protocol/codec";
import { collisionKey } from "../protocol/paths";
import type { Database } from "./database";

/** `verified` once check digits were compared with them. */
export interface Contact {
  readonly identity: Bytes;
  readonly label: string;
  readonly firstMet: string;
  readonly verified: boolean;
}

export class Contacts {
  constructor(private readonly database: Database) {}

  /** Who this is, if met before; and whether its name is known with another key. */
  async known(
    identity: Bytes,
    label: string,
  ): Promise<{ contact: Contact | null; changed: boolean }> {
    const contacts = await this.database.getAll<Contact>("contacts");
    const contact = contacts.find((one) => same(one.identity, identity)) ?? null;
    const key = (name: string) => collisionKey(name).trim();
    const sameName = contacts.some((one) => label && key(one.label) === key(label));
    return { contact, changed: contact === null && sameName };
  }

  /** Remember a peer after a transfer. */
  async pin(identity: Bytes, label: string, verified: boolean): Promise<void> {
    const known = await this.database.get<Contact>("contacts", hex(identity));
    const contact: Contact = {
      identity,
      label,
      firstMet: known?.firstMet ?? nowText(),
      verified: verified || (known?.verified ?? false),
    };
    await this.database.put("contacts", contact, hex(identity));
  }
}
