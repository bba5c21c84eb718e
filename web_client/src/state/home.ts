/**
 * What stays in this browser between transfers: identity, contacts, receipts, journals, audit log.
 *
 * One IndexedDB database (what `p2p/home.py` is for the command line). In a private window it is gone
 * with the window, and where the browser refuses it, it lasts as long as the page.
 */
import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import sodium from "libsodium-wrappers-sumo";

import * as audit from "../protocol/audit";
import { hex, same, type Bytes, type JsonObject } from "../protocol/codec";
import type { Identity } from "../protocol/handshake";
import { collisionKey } from "../protocol/paths";

type KeyPair =
  | { kind: "webcrypto"; pair: CryptoKeyPair } // the private half cannot be taken out
  | { kind: "sodium"; seed: Bytes }; // a browser whose WebCrypto has no Ed25519

/** A peer that was met before. `verified` once check digits were compared with them. */
export interface Contact {
  readonly identity: Bytes;
  readonly label: string;
  readonly firstMet: string;
  readonly verified: boolean;
}

/** How far a transfer is; written after the bytes it speaks of are on the disk. */
export interface Journal {
  readonly room: string; // hex; the link's
  readonly sender: Bytes;
  readonly transferId: Bytes;
  readonly manifestHash: Bytes;
  readonly durable: number;
  readonly total: number;
  readonly startedAt: number; // milliseconds since 1970
  readonly delivered: Delivered | null;
}

/** A transfer whose files lie verified in this browser and wait to be saved. */
export interface Delivered {
  readonly name: string; // to be saved under, or of the folder it is in
  readonly where: "browser" | "folder";
  readonly size: number; // of what is saved, in bytes
  readonly files: number; // that arrived
  readonly failures: number; // entries that did not; the first ones are listed
  readonly failed: readonly (readonly [path: string, status: number])[];
  readonly transferId: string; // base64url; names the receipt
  readonly confirmed: boolean; // whether the sender has signed it too
}

interface Schema extends DBSchema {
  settings: { key: "keys" | "label"; value: KeyPair | string };
  contacts: { key: string; value: Contact };
  receipts: { key: string; value: Bytes };
  journals: { key: string; value: Journal };
  audit: { key: number; value: Bytes };
}
const STORES = ["settings", "contacts", "receipts", "journals", "audit"] as const;
type StoreName = (typeof STORES)[number];

/** The part of a database that is used here; also kept by `Forgetful`. */
interface Records {
  get<S extends StoreName>(
    store: S,
    key: Schema[S]["key"],
  ): Promise<Schema[S]["value"] | undefined>;
  getAll<S extends StoreName>(store: S): Promise<Schema[S]["value"][]>;
  put<S extends StoreName>(
    store: S,
    value: Schema[S]["value"],
    key: Schema[S]["key"],
  ): Promise<unknown>;
  delete<S extends StoreName>(store: S, key: Schema[S]["key"]): Promise<void>;
  transaction?: IDBPDatabase<Schema>["transaction"];
}

/** Records that last as long as the page, where the browser keeps none. */
class Forgetful implements Records {
  private readonly stores = new Map(STORES.map((name) => [name, new Map<unknown, unknown>()]));

  async get(store: StoreName, key: unknown): Promise<any> {
    return this.stores.get(store)!.get(key);
  }
  async getAll(store: StoreName): Promise<any[]> {
    return [...this.stores.get(store)!.values()];
  }
  async put(store: StoreName, value: unknown, key: unknown): Promise<void> {
    this.stores.get(store)!.set(key, value);
  }
  async delete(store: StoreName, key: unknown): Promise<void> {
    this.stores.get(store)!.delete(key);
  }
}

/** The wall clock as RFC 3339 in UTC, to the millisecond. */
export const nowText = (): string => new Date().toISOString();

/** The database and everything in it. */
export class Home {
  private constructor(
    private readonly records: Records,
    /** Whether it outlives the page. */
    readonly lasting: boolean,
  ) {}

  /** Open it, or stand in for it. */
  static async open(): Promise<Home> {
    try {
      const database: IDBPDatabase<Schema> = await openDB<Schema>("handover", 1, {
        upgrade(db) {
          for (const name of STORES) db.createObjectStore(name);
        },
      });
      return new Home(database as unknown as Records, true);
    } catch {
      return new Home(new Forgetful(), false);
    }
  }

  // --- identity

  /** The name this person gave itself, or "". */
  async label(): Promise<string> {
    return ((await this.records.get("settings", "label")) as string | undefined) ?? "";
  }

  /** The identity, made at the first call, under the name given now. */
  async identity(label: string): Promise<Identity> {
    await this.records.put("settings", label, "label");
    const stored = (await this.records.get("settings", "keys")) as KeyPair | undefined;
    const keys = stored ?? (await this.makeKeys());
    if (keys.kind === "sodium") {
      const { publicKey, privateKey } = sodium.crypto_sign_seed_keypair(keys.seed);
      const sign = async (data: Bytes) => sodium.crypto_sign_detached(data, privateKey);
      return { public: publicKey, label, sign };
    }
    const { publicKey, privateKey } = keys.pair;
    return {
      public: new Uint8Array(await crypto.subtle.exportKey("raw", publicKey)),
      label,
      sign: async (data) =>
        new Uint8Array(await crypto.subtle.sign("Ed25519", privateKey, data as BufferSource)),
    };
  }

  private async makeKeys(): Promise<KeyPair> {
    try {
      const pair = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
      const keys: KeyPair = { kind: "webcrypto", pair: pair as CryptoKeyPair };
      await this.records.put("settings", keys, "keys");
      return keys;
    } catch {
      const keys: KeyPair = { kind: "sodium", seed: sodium.randombytes_buf(32) };
      await this.records.put("settings", keys, "keys");
      return keys;
    }
  }

  // --- contacts

  /** Who this is, if met before; and whether its name is known with another key. */
  async known(
    identity: Bytes,
    label: string,
  ): Promise<{ contact: Contact | null; changed: boolean }> {
    const contacts = await this.records.getAll("contacts");
    const contact = contacts.find((one) => same(one.identity, identity)) ?? null;
    const key = (name: string) => collisionKey(name).trim();
    const sameName = contacts.some((one) => label && key(one.label) === key(label));
    return { contact, changed: contact === null && sameName };
  }

  /** Remember a peer after a transfer. */
  async pin(identity: Bytes, label: string, verified: boolean): Promise<void> {
    const known = await this.records.get("contacts", hex(identity));
    const contact: Contact = {
      identity,
      label,
      firstMet: known?.firstMet ?? nowText(),
      verified: verified || (known?.verified ?? false),
    };
    await this.records.put("contacts", contact, hex(identity));
  }

  // --- receipts, journals

  /** A receipt file by its transfer id (base64url). */
  receipt(transferId: string): Promise<Bytes | undefined> {
    return this.records.get("receipts", transferId);
  }

  /** Keep a receipt, and with it the journal that speaks of it: both or neither. */
  async storeReceipt(transferId: string, document: Bytes, journal: Journal | null): Promise<void> {
    const together = this.records.transaction?.(["receipts", "journals"], "readwrite");
    if (!together) {
      await this.records.put("receipts", document, transferId);
      if (journal) await this.records.put("journals", journal, journal.room);
      return;
    }
    void together.objectStore("receipts").put(document, transferId);
    if (journal) void together.objectStore("journals").put(journal, journal.room);
    await together.done;
  }

  /** The journal of a link's room (hex). */
  journal(room: string): Promise<Journal | undefined> {
    return this.records.get("journals", room);
  }

  journals(): Promise<Journal[]> {
    return this.records.getAll("journals");
  }

  async writeJournal(journal: Journal): Promise<void> {
    await this.records.put("journals", journal, journal.room);
  }

  async dropJournal(room: string): Promise<void> {
    await this.records.delete("journals", room);
  }

  // --- audit log

  /** The head of the log and how many lines it has. */
  private async chain(): Promise<[head: string, lines: number]> {
    const lines = await this.records.getAll("audit");
    const last = lines.at(-1);
    return [last ? audit.lineHash(last.subarray(0, -1)) : audit.GENESIS, lines.length];
  }

  /** The head of the audit log, hex. */
  async auditHead(): Promise<string> {
    return (await this.chain())[0];
  }

  /** Append an entry; it names no file, path or label. */
  async appendAudit(event: string, facts: JsonObject): Promise<void> {
    const append = async () => {
      const [head, count] = await this.chain();
      const line = audit.entry(head, count + 1, nowText(), event, facts);
      await this.records.put("audit", line, count + 1);
    };
    // One tab at a time: two would write the same line.
    await (navigator.locks?.request("handover audit", append) ?? append());
  }
}
