/** How far each transfer is, for a reload or a crash to be taken up. */
import sodium from "libsodium-wrappers-sumo";

import type { Delivered } from "../events";
import {
  concat,
  decodeBase64url,
  encodeBase64url,
  fromUtf8,
  utf8,
  type Bytes,
} from "../protocol/codec";
import type { StorageKeys } from "../protocol/link";
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

/** What is to be saved: its names, and the key that opens it without the sender. */
interface ToSave {
  readonly delivered: Delivered;
  readonly key: Bytes;
}

/** As it is kept, so that the link opens it: XSalsa20-Poly1305, the nonce first. */
export function sealDelivered(delivered: Delivered, keys: StorageKeys): Bytes {
  const nonce = sodium.randombytes_buf(sodium.crypto_secretbox_NONCEBYTES);
  const plain = utf8(JSON.stringify([delivered, encodeBase64url(keys.store)]));
  return concat(nonce, sodium.crypto_secretbox_easy(plain, nonce, keys.journal));
}

/** The other way round. Throws when it was not sealed with this key. */
export function openDelivered(sealed: Bytes, journalKey: Bytes): ToSave {
  const at = sodium.crypto_secretbox_NONCEBYTES;
  const [nonce, rest] = [sealed.subarray(0, at), sealed.subarray(at)];
  const plain = sodium.crypto_secretbox_open_easy(rest, nonce, journalKey);
  const [delivered, key] = JSON.parse(fromUtf8(plain)) as [Delivered, string];
  const { extents = [[0, delivered.size]] } = delivered; // versions before saved all of a store
  return { delivered: { ...delivered, extents }, key: decodeBase64url(key) };
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
