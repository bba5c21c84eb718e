/** The manifest, the results and their tree (mirrors `p2p/protocol/manifest.py`). */
import {
  MAX_INTEGER,
  atOnce,
  base64url,
  base64urlUpto,
  concat,
  decodeJson,
  encodeBase64url,
  jsonText,
  hkdfExpand,
  integer,
  members,
  oneOf,
  optional,
  readAs,
  sha256,
  text,
  u32,
  utf8,
  type Bytes,
  type JsonObject,
} from "./codec";
import { Failure, PeerError } from "./errors";
import {
  MAX_NAMES,
  MAX_PATH,
  MAX_SEGMENT,
  NamesCollide,
  TooManyNames,
  UnsafePath,
  checkTreeInSteps,
  shown,
} from "./paths";
import { MAX_REASON, PURPOSE_CODES, type PurposeCode } from "./purposes";
import { Tape } from "./tape";

export const MAX_ENTRIES = MAX_NAMES; // and with them the folders that their paths imply
export const MAX_MANIFEST = 64 * 1024 * 1024;
// Bytes: they come for nothing, but a recipient hashes each of their zeros.
export const MAX_HOLES = 2 ** 42;
const MAX_LINE = 8192; // MAX_PATH with every byte escaped, and the numbers
export const SALT = 32;
const LABEL_LEAF_SALT = utf8("handover/1 leaf salt");
export const RESULT = 33;

export const DELIVERED = 0;
// Given up by the sender (`withdraw`) ...
export const CHANGED = 1;
export const UNREADABLE = 2;
// ... or by the recipient (`failed`).
export const NOT_WRITTEN = 16;
export const NOT_PLACED = 17;
/** Each one's name, under which its words stand in the catalogue of sentences. */
export const STATUSES = {
  [DELIVERED]: "delivered",
  [CHANGED]: "changed",
  [UNREADABLE]: "unreadable",
  [NOT_WRITTEN]: "not_written",
  [NOT_PLACED]: "not_placed",
} as const;
export type Status = keyof typeof STATUSES;
export type StatusName = (typeof STATUSES)[Status];
export const WITHDRAWN: readonly number[] = [CHANGED, UNREADABLE];
export const REFUSED: readonly number[] = [CHANGED, NOT_WRITTEN, NOT_PLACED];

/**
 * One file or directory. `modified` is microseconds since the epoch; `data` bytes that are no holes;
 * `original` the bytes of its name where it lies, if that could not be kept, else null.
 */
export interface Entry {
  readonly path: string;
  readonly kind: "file" | "directory";
  readonly size: number;
  readonly modified: number;
  readonly data: number | null;
  readonly original: Bytes | null;
}

/** What a sender leaves out on purpose: symbolic links; devices, pipes and sockets. */
export const SKIPPED_KINDS = ["links", "special"] as const;
export type SkippedKind = (typeof SKIPPED_KINDS)[number];
export type Skipped = { readonly [kind in SkippedKind]?: number };

/**
 * The entries and the salt of their leaves; how many things a sender left out on purpose; what the data is for,
 * or null, and why it is sent, in the sender's words, or "".
 */
export interface Manifest {
  readonly entries: readonly Entry[];
  readonly salt: Bytes;
  readonly skipped: Skipped;
  readonly purpose: PurposeCode | null;
  readonly reason: string;
}

/** How many things were left out, of whatever kind. */
export const skippedOf = ({ skipped }: Manifest): number =>
  SKIPPED_KINDS.reduce((sum, kind) => sum + (skipped[kind] ?? 0), 0);

/** Where each entry lies. */
export const tapeOf = (manifest: Manifest): Tape =>
  new Tape(manifest.entries.map((entry) => entry.size));

/** Bytes of disk the content takes. */
export function spaceOf(manifest: Manifest): number {
  return manifest.entries.reduce((sum, e) => sum + Math.min(e.data ?? e.size, e.size), 0);
}

const count = optional(integer(1, MAX_INTEGER));
const headLine = members({
  salt: base64url(SALT),
  skipped: optional(members({ links: count, special: count })),
  purpose: optional(oneOf(...PURPOSE_CODES)),
  reason: optional(text(MAX_REASON, { empty: false })),
});
const entryLine = members({
  path: text(MAX_PATH, { empty: false }),
  kind: oneOf("file", "directory"),
  size: integer(0, MAX_INTEGER),
  modified: integer(-MAX_INTEGER, MAX_INTEGER),
  data: optional(integer(0, MAX_INTEGER)),
  original: optional(base64urlUpto(MAX_SEGMENT)),
});

/** Bytes of the content that are said to be holes. */
export function holesOf(entries: readonly Entry[]): number {
  let holes = 0;
  for (const { size, data } of entries) if (data !== null) holes += size - Math.min(data, size);
  return holes;
}

/** JSON Lines. Throws `Failure` (too_many_entries, too_many_holes). */
export function encodeManifest(manifest: Manifest): Bytes {
  const { salt, skipped, purpose, reason } = manifest;
  const head: JsonObject = { salt: encodeBase64url(salt) };
  if (Object.keys(skipped).length) head["skipped"] = { ...skipped };
  if (purpose) head["purpose"] = purpose;
  if (reason) head["reason"] = reason;
  const lines = [jsonText(head)];
  for (const { data, original, ...fields } of manifest.entries) {
    const more: JsonObject = {};
    if (data !== null) more["data"] = data;
    if (original !== null) more["original"] = encodeBase64url(original);
    lines.push(jsonText({ ...fields, ...more }));
  }
  const data = utf8([...lines, ""].join("\n"));
  if (manifest.entries.length > MAX_ENTRIES || data.length > MAX_MANIFEST) {
    throw new Failure("too_many_entries");
  }
  if (holesOf(manifest.entries) > MAX_HOLES) throw new Failure("too_many_holes");
  return data;
}

/** Read a manifest and hold it against every rule for names. Throws `PeerError`. */
export const decodeManifest = (data: Bytes): Manifest => atOnce(decodeManifestInSteps(data));

/** The same; each step reads an entry, or checks a name. */
export function* decodeManifestInSteps(data: Bytes): Generator<void, Manifest> {
  if (data[data.length - 1] !== 10) throw new PeerError("manifest_truncated");
  const entries: Entry[] = [];
  let salt: Bytes | null = null;
  let skipped: Skipped = {};
  let purpose: PurposeCode | null = null;
  let reason = "";
  for (let at = 0; at < data.length;) {
    const end = data.indexOf(10, at);
    const line = data.subarray(at, end);
    at = end + 1;
    if (salt === null) {
      const found = readAs(headLine, decodeJson(line, MAX_LINE), "manifest head");
      salt = found.salt;
      purpose = found.purpose;
      reason = found.reason ?? "";
      const counts = Object.entries(found.skipped ?? {}).filter(([, some]) => some !== null);
      skipped = Object.fromEntries(counts) as Skipped;
      continue;
    }
    if (entries.length === MAX_ENTRIES) throw new PeerError("manifest_too_many_entries");
    entries.push(readEntry(line));
    yield;
  }
  if (salt === null || !entries.length) throw new PeerError("manifest_empty");
  try {
    yield* checkTreeInSteps(
      entries.map(({ path, kind }) => (kind === "directory" ? `${path}/` : path)),
    );
  } catch (reason) {
    if (reason instanceof UnsafePath) throw nameUnsafe(reason.path, reason.code);
    if (reason instanceof TooManyNames) throw new PeerError("manifest_too_many_entries");
    const { pair } = reason as NamesCollide;
    throw new PeerError("names_collide", pair.map((path) => shown(path)).join(", "));
  }
  if (holesOf(entries) > MAX_HOLES) throw new PeerError("manifest_holes_too_large");
  return { entries, salt, skipped, purpose, reason };
}

function readEntry(line: Bytes): Entry {
  const entry: Entry = readAs(entryLine, decodeJson(line, MAX_LINE), "manifest entry");
  if (entry.path.endsWith("/")) throw nameUnsafe(entry.path, "path_part"); // reads as a directory's
  if (entry.kind === "directory" && (entry.size || entry.data !== null)) {
    throw new PeerError("directory_with_size");
  }
  return entry;
}

const nameUnsafe = (path: string, why: string): PeerError =>
  new PeerError("name_unsafe", `${shown(path)} (${why})`);

/** What became of each entry: a status and a digest (zeros where there is none). */
export class Results {
  private constructor(private readonly records: Bytes) {}

  /** All delivered with no digest yet. */
  static of(count: number): Results {
    return new Results(new Uint8Array(count * RESULT));
  }

  /** Read a sender's digests. Throws `PeerError`. */
  static decode(data: Bytes, manifest: Manifest): Results {
    if (data.length !== manifest.entries.length * RESULT) {
      throw new PeerError("digests_length");
    }
    const results = new Results(data.slice());
    manifest.entries.forEach((entry, index) => {
      const [status, digest] = results.at(index);
      if (status !== DELIVERED && !WITHDRAWN.includes(status)) {
        throw new PeerError("digests_status_unknown");
      }
      const none = status !== DELIVERED || entry.kind === "directory";
      if (none && digest.some((octet) => octet !== 0)) {
        throw new PeerError("digest_not_allowed");
      }
    });
    return results;
  }

  /** Results of any kind, as `encode` gave them. Throws `PeerError`. */
  static recall(data: Bytes, count: number): Results {
    if (data.length !== count * RESULT) throw new PeerError("results_length");
    return new Results(data.slice());
  }

  /** The records as they travel. */
  encode(): Bytes {
    return this.records.slice();
  }

  get length(): number {
    return this.records.length / RESULT;
  }

  /** Status and digest of an entry. */
  at(index: number): [number, Bytes] {
    const record = this.records.subarray(index * RESULT, (index + 1) * RESULT);
    return [record[0]!, record.slice(1)];
  }

  /** Note the SHA-256 of an entry that is there. */
  delivered(index: number, digest: Bytes): void {
    this.records[index * RESULT] = DELIVERED;
    this.records.set(digest, index * RESULT + 1);
  }

  /** Note that an entry was given up. */
  failed(index: number, status: number): void {
    this.records.fill(0, index * RESULT, (index + 1) * RESULT);
    this.records[index * RESULT] = status;
  }

  /** Nothing is known of an entry any more. */
  forget(index: number): void {
    this.records.fill(0, index * RESULT, (index + 1) * RESULT);
  }

  /** Nothing is known of any entry any more. */
  clear(): void {
    this.records.fill(0);
  }

  /** Whether anything was noted of an entry yet. */
  known(index: number): boolean {
    return this.records.subarray(index * RESULT, (index + 1) * RESULT).some((octet) => octet !== 0);
  }

  /** (entry, status) of everything that was not delivered. */
  failures(): [number, number][] {
    const found: [number, number][] = [];
    for (let index = 0; index < this.length; index++) {
      const status = this.records[index * RESULT]!;
      if (status !== DELIVERED) found.push([index, status]);
    }
    return found;
  }
}

/** The salt of one leaf: known to who has the manifest, shown alone when one entry is shown. */
export function leafSalt(salt: Bytes, index: number): Bytes {
  return hkdfExpand(salt, concat(LABEL_LEAF_SALT, u32(index)), 16);
}

/** SHA-256 of 0x00, the salted hash of the path, kind, status, size and the content's digest. */
export function leaf(manifest: Manifest, results: Results, index: number): Bytes {
  const entry = manifest.entries[index]!;
  const [status, digest] = results.at(index);
  const size = new Uint8Array(8);
  new DataView(size.buffer).setBigUint64(0, BigInt(entry.size));
  return sha256(
    Uint8Array.of(0),
    sha256(leafSalt(manifest.salt, index), utf8(entry.path)),
    Uint8Array.of(entry.kind === "directory" ? 1 : 0, status),
    size,
    digest,
  );
}

/** Root over leaf hashes as RFC 9162 2.1.1 builds it: nodes are SHA-256 of 0x01 and both. */
export function merkleRoot(leaves: readonly Bytes[]): Bytes {
  let level = leaves.length ? leaves : [sha256(new Uint8Array(0))];
  while (level.length > 1) {
    const above: Bytes[] = [];
    for (let i = 0; i + 1 < level.length; i += 2) {
      above.push(sha256(Uint8Array.of(1), level[i]!, level[i + 1]!));
    }
    if (level.length % 2) above.push(level[level.length - 1]!);
    level = above;
  }
  return level[0]!;
}

/** The one hash a receipt carries for everything that was sent and what became of it. */
export const resultsRoot = (manifest: Manifest, results: Results): Bytes =>
  atOnce(resultsRootInSteps(manifest, results));

/** The same, a leaf with each step. */
export function* resultsRootInSteps(manifest: Manifest, results: Results): Generator<void, Bytes> {
  const leaves: Bytes[] = [];
  for (const index of manifest.entries.keys()) {
    leaves.push(leaf(manifest, results, index));
    yield;
  }
  return merkleRoot(leaves);
}
