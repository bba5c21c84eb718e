/** How far each transfer is, for a reload or a crash to be taken up. */
import type { Delivered } from "../events";
import type { Bytes } from "../protocol/codec";
import type { Database } from "./database";

/** Written after the bytes it speaks of are on the disk. */
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

export class Journals {
  constructor(private readonly database: Database) {}

  /** The journal of a link's room (hex). */
  read(room: string): Promise<Journal | undefined> {
    return this.database.get<Journal>("journals", room);
  }

  all(): Promise<Journal[]> {
    return this.database.getAll<Journal>("journals");
  }

  write(journal: Journal): Promise<void> {
    return this.database.put("journals", journal, journal.room);
  }

  drop(room: string): Promise<void> {
    return this.database.delete("journals", room);
  }
}
