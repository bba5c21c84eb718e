/** How far each transfer is, for a reload or a crash to be taken up. */
import sodium from "libsodium-wrappers-sumo";

import type { Delivered } from "../events";
import { concat, fromUtf8, utf8, type Bytes } from "../protocol/codec";
import type { Database } from "./database";

/** Written after the bytes it speaks of are on the disk. It names nothing without the link. */
export interface Journal {
  readonly room: string; // hex; the link's
  readonly sender: Bytes;
  readonly transferId: Bytes;
  readonly manifestHash: Bytes;
  readonly durable: number;
  readonly total: number;
  readonly startedAt: number; // milliseconds since 1970
  readonly salt: Bytes; // of the keys that the container and `delivered` are encrypted with
  readonly delivered: Bytes | null; // sealed
}

/** What is to be saved, as it is kept: it has names in it. XSalsa20-Poly1305; the nonce comes first. */
export function sealDelivered(delivered: Delivered, key: Bytes): Bytes {
  const nonce = sodium.randombytes_buf(sodium.crypto_secretbox_NONCEBYTES);
  const plain = utf8(JSON.stringify(delivered));
  return concat(nonce, sodium.crypto_secretbox_easy(plain, nonce, key));
}

/** The other way round. Throws when it was not sealed with this key. */
export function openDelivered(sealed: Bytes, key: Bytes): Delivered {
  const at = sodium.crypto_secretbox_NONCEBYTES;
  const plain = sodium.crypto_secretbox_open_easy(sealed.subarray(at), sealed.subarray(0, at), key);
  return JSON.parse(fromUtf8(plain)) as Delivered;
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
