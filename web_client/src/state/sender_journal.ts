/**
 * What is being sent from this browser, for a reload or a crash to be taken up: what was promised to whom,
 * and how far it came (what `p2p/state/journal.py` is for the command line).
 *
 * What a sender promises the other side stands here before it is said.
 */
import type { Bytes, JsonObject } from "../protocol/codec";
import type { PskSecrets } from "../protocol/link";
import type { EntrySource } from "../storage/listing";
import type { Database } from "./database";

/** A link of this browser's own, and the transfer behind it. Times are milliseconds since 1970. */
export interface SenderRecord {
  readonly transferId: string; // base64url; names the journal
  readonly link: string;
  readonly owner: Bytes; // the token that the room is taken again with
  readonly secrets: PskSecrets; // of the link and its passphrase, which is not kept
  readonly identity: Bytes; // this side's
  readonly label: string; // that this side goes by
  readonly verify: boolean; // whether the check digits are to be compared
  readonly to: Bytes | null; // the identity of the only contact it is for
  readonly expiresAt: number; // of the link
  readonly manifestHash: Bytes | null; // once what is sent is listed
  readonly files: number;
  readonly total: number; // bytes
  readonly peer: Bytes | null; // the identity of the recipient that was let in
  readonly peerLabel: string;
  readonly confirmed: boolean; // the digits were compared with it
  readonly accepted: boolean; // it has accepted
  readonly reached: number; // how far the tape was handed over, at most
  readonly durable: number; // how far its disk holds it for good
  readonly closings: readonly JsonObject[]; // what a receipt must say of the sessions that were closed
}

/** What is sent: the manifest as it was sent, and what each entry is on this computer. */
export interface Sources {
  readonly manifest: Bytes;
  /** With handles, where the platform has them: then nobody has to choose again. */
  readonly kept: readonly KeptSource[];
  readonly roots: readonly FileSystemHandle[]; // of what was chosen; none where there is something without
}

/** A source as it can be kept: no bytes, but where they are and what they looked like. */
export interface KeptSource {
  readonly kind: "directory" | "unread" | "file";
  readonly path?: string; // as it was chosen, `/` between the names
  readonly size?: number;
  readonly lastModified?: number;
  readonly handle?: FileSystemFileHandle;
}

export class SenderJournals {
  constructor(private readonly database: Database) {}

  read(transferId: string): Promise<SenderRecord | undefined> {
    return this.database.get<SenderRecord>("sending", transferId);
  }

  all(): Promise<SenderRecord[]> {
    return this.database.getAll<SenderRecord>("sending");
  }

  write(record: SenderRecord): Promise<void> {
    return this.database.put("sending", record, record.transferId);
  }

  /** Note what is sent, and the record that speaks of it: both or neither. */
  begin(record: SenderRecord, sources: Sources): Promise<void> {
    return this.database.putTogether([
      ["sending", record, record.transferId],
      ["sources", sources, record.transferId],
    ]);
  }

  sources(transferId: string): Promise<Sources | undefined> {
    return this.database.get<Sources>("sources", transferId);
  }

  /** What became of each entry, as far as it is known. */
  storeResults(transferId: string, results: Bytes): Promise<void> {
    return this.database.put("sources", results, resultsOf(transferId));
  }

  results(transferId: string): Promise<Bytes | undefined> {
    return this.database.get<Bytes>("sources", resultsOf(transferId));
  }

  async drop(transferId: string): Promise<void> {
    await this.database.delete("sources", resultsOf(transferId));
    await this.database.delete("sources", transferId);
    await this.database.delete("sending", transferId); // the last, for it names the others
  }
}

const resultsOf = (transferId: string): string => `${transferId} results`;

/** A source as it is kept. */
export function kept(source: EntrySource): KeptSource {
  if (source === null) return { kind: "directory" };
  if (source === "unread") return { kind: "unread" };
  const { path, file, handle } = source;
  const { size, lastModified } = file;
  return { kind: "file", path, size, lastModified, ...(handle && { handle }) };
}
