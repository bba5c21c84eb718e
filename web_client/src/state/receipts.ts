/** Receipt files by transfer id (base64url). */
import type { Bytes } from "../protocol/codec";
import type { Database, Put } from "./database";
import type { Journal } from "./journal";

export class Receipts {
  constructor(private readonly database: Database) {}

  read(transferId: string): Promise<Bytes | undefined> {
    return this.database.get<Bytes>("receipts", transferId);
  }

  /** All that are kept. */
  all(): Promise<Bytes[]> {
    return this.database.getAll<Bytes>("receipts");
  }

  async clear(): Promise<void> {
    await this.database.clear("receipts");
  }

  async drop(transferId: string): Promise<void> {
    await this.database.delete("receipts", transferId);
  }

  /** Keep a receipt, and with it the journal that speaks of it: both or neither. */
  async store(transferId: string, document: Bytes, journal: Journal | null): Promise<void> {
    const puts: Put[] = [["receipts", document, transferId]];
    if (journal) puts.push(["journals", journal, journal.room]);
    await this.database.putTogether(puts);
  }
}
