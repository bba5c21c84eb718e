/**
 * Where each entry lies in the file that will be saved, known before the first byte has come.
 *
 * One file is saved as itself. Several are saved as a ZIP archive whose entries are stored, not
 * compressed (APPNOTE.TXT 6.3.10, ZIP64 where sizes need it): since every size is known, each entry
 * has its place from the start, ranges are written there as they arrive, and what is on the disk at
 * the end *is* the archive, but for the places of entries that failed: those are left out as it is
 * saved, since some programs take no archive that begins with anything else than an entry. No second
 * copy is made, and nothing has to be packed.
 */
import { concat, utf8, type Bytes } from "../protocol/codec";
import type { Entry, Manifest } from "../protocol/manifest";

const MAX_32 = 0xffff_ffff; // this and above are written as ZIP64
const MAX_16 = 0xffff;
const VERSION = 45; // 4.4.3.2: ZIP64
const UTF8_NAMES = 0x0800; // 4.4.4, bit 11
const LOCAL = 30;
const UNIX = 3 << 8; // "made by": the attributes below are a Unix mode
const FILE_ATTRIBUTES = 0o100644 * 0x10000;
const DIRECTORY_ATTRIBUTES = 0o040755 * 0x10000 + 0x10;

/** Little-endian fields, one after the other: [size in bytes, value]. */
function fields(...all: [1 | 2 | 4 | 8, number][]): Bytes {
  const view = new DataView(new ArrayBuffer(all.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of all) {
    if (size === 8) view.setBigUint64(at, BigInt(value), true);
    else if (size === 4) view.setUint32(at, value, true);
    else if (size === 2) view.setUint16(at, value, true);
    else view.setUint8(at, value);
    at += size;
  }
  return new Uint8Array(view.buffer);
}

/** MS-DOS time and date (4.4.6), in this computer's time; the earliest they can say is 1980. */
function dosTime(modified: number): [number, number] {
  const when = new Date(modified / 1000);
  const year = when.getFullYear();
  if (!(year >= 1980)) return [0, 0x21];
  if (year > 2107) return [0xbf7d, 0xff9f];
  const time = (when.getHours() << 11) | (when.getMinutes() << 5) | (when.getSeconds() >> 1);
  return [time, ((year - 1980) << 9) | ((when.getMonth() + 1) << 5) | when.getDate()];
}

/** Extended timestamp (0x5455): seconds since 1970 in UTC, where they fit. */
function timestamp(modified: number): Bytes {
  const seconds = Math.floor(modified / 1e6);
  if (seconds < 0 || seconds > 0x7fff_ffff) return new Uint8Array(0);
  return fields([2, 0x5455], [2, 5], [1, 1], [4, seconds]);
}

const zipName = (entry: Entry): Bytes =>
  utf8(entry.kind === "directory" ? `${entry.path}/` : entry.path);

/** ZIP64 extra of a local header (4.5.3): both sizes. */
const localZip64 = (size: number): Bytes =>
  size >= MAX_32 ? fields([2, 1], [2, 16], [8, size], [8, size]) : new Uint8Array(0);

function localHeader(entry: Entry, crc: number): Bytes {
  const name = zipName(entry);
  const extra = concat(timestamp(entry.modified), localZip64(entry.size));
  const size = Math.min(entry.size, MAX_32);
  const [time, date] = dosTime(entry.modified);
  const head = fields(
    [4, 0x04034b50],
    [2, VERSION],
    [2, UTF8_NAMES],
    [2, 0], // stored
    [2, time],
    [2, date],
    [4, crc],
    [4, size],
    [4, size],
    [2, name.length],
    [2, extra.length],
  );
  return concat(head, name, extra);
}

function centralHeader(entry: Entry, crc: number, offset: number): Bytes {
  const name = zipName(entry);
  const large: [8, number][] =
    entry.size >= MAX_32
      ? [
          [8, entry.size],
          [8, entry.size],
        ]
      : [];
  if (offset >= MAX_32) large.push([8, offset]);
  const zip64 = large.length ? fields([2, 1], [2, 8 * large.length], ...large) : new Uint8Array(0);
  const extra = concat(timestamp(entry.modified), zip64);
  const size = Math.min(entry.size, MAX_32);
  const [time, date] = dosTime(entry.modified);
  const head = fields(
    [4, 0x02014b50],
    [2, UNIX | VERSION],
    [2, VERSION],
    [2, UTF8_NAMES],
    [2, 0],
    [2, time],
    [2, date],
    [4, crc],
    [4, size],
    [4, size],
    [2, name.length],
    [2, extra.length],
    [2, 0], // comment
    [2, 0], // disk
    [2, 0], // internal attributes
    [4, entry.kind === "directory" ? DIRECTORY_ATTRIBUTES : FILE_ATTRIBUTES],
    [4, Math.min(offset, MAX_32)],
  );
  return concat(head, name, extra);
}

/** The end of the central directory (4.3.14 to 4.3.16), which begins at `start`. */
function endOfDirectory(count: number, start: number, size: number): Bytes {
  const large = count >= MAX_16 || start >= MAX_32 || size >= MAX_32;
  const zip64 = large
    ? concat(
        fields(
          [4, 0x06064b50],
          [8, 44],
          [2, UNIX | VERSION],
          [2, VERSION],
          [4, 0],
          [4, 0],
          [8, count],
          [8, count],
          [8, size],
          [8, start],
        ),
        fields([4, 0x07064b50], [4, 0], [8, start + size], [4, 1]),
      )
    : new Uint8Array(0);
  const end = fields(
    [4, 0x06054b50],
    [2, 0],
    [2, 0],
    [2, Math.min(count, MAX_16)],
    [2, Math.min(count, MAX_16)],
    [4, Math.min(size, MAX_32)],
    [4, Math.min(start, MAX_32)],
    [2, 0],
  );
  return concat(zip64, end);
}

/** What is saved of a store, in order: [offset, length]. */
export type Extents = readonly (readonly [offset: number, length: number])[];

/** Where everything lies. `size` is what the whole will take when every entry arrives. */
export class Layout {
  /** Whether it is one file, saved as itself. */
  readonly single: boolean;
  readonly size: number;
  private readonly starts: Float64Array; // of each entry's content
  private readonly end: number; // where the central directory begins

  constructor(private readonly manifest: Manifest) {
    const { entries } = manifest;
    this.single = entries.length === 1 && entries[0]!.kind === "file";
    this.starts = new Float64Array(entries.length);
    let [at, directory] = [0, 0];
    entries.forEach((entry, index) => {
      if (!this.single) {
        directory += centralHeader(entry, 0, at).length;
        at += this.headLength(entry);
      }
      this.starts[index] = at;
      at += entry.size;
    });
    this.end = at;
    const tail = this.single ? 0 : directory + endOfDirectory(entries.length, at, directory).length;
    this.size = at + tail;
  }

  /** Where an entry's content begins. */
  start(entry: number): number {
    return this.starts[entry]!;
  }

  /** The name it is saved under. */
  get name(): string {
    const { entries } = this.manifest;
    const tops = new Set(entries.map((entry) => entry.path.split("/")[0]!));
    const [top] = tops;
    if (this.single) return entries[0]!.path.split("/").at(-1)!;
    return tops.size === 1 ? `${top}.zip` : "handover.zip";
  }

  private headLength(entry: Entry): number {
    const extra = timestamp(entry.modified).length + localZip64(entry.size).length;
    return LOCAL + zipName(entry).length + extra;
  }

  /**
   * What has to be written around the content once it is known: [offset in the store, bytes], in order.
   *
   * `crcs` holds the CRC-32 of every entry that arrived, in their order; the others are in no directory.
   * The last piece ends where the store ends.
   */
  *frame(crcs: ReadonlyMap<number, number>): Generator<[number, Bytes]> {
    if (this.single) return;
    const { entries } = this.manifest;
    let directory: Bytes[] = [];
    let [size, at] = [0, this.end];
    let saved = 0; // bytes before this entry that are saved
    for (const [index, crc] of crcs) {
      const entry = entries[index]!;
      const [offset, length] = this.place(index);
      yield [offset, localHeader(entry, crc)];
      directory.push(centralHeader(entry, crc, saved));
      saved += length;
      size += directory.at(-1)!.length;
      if (directory.length === 1000) {
        const piece = concat(...directory);
        yield [at, piece];
        [at, directory] = [at + piece.length, []];
      }
    }
    yield [at, concat(...directory, endOfDirectory(crcs.size, saved, size))];
  }

  /** What is saved of a store that ends at `end`: the entries that arrived, and what frames them. */
  extents(arrived: ReadonlyMap<number, unknown>, end: number): Extents {
    if (this.single) return end ? [[0, end]] : [];
    const found: [offset: number, length: number][] = [];
    const add = (offset: number, length: number) => {
      const last = found.at(-1);
      if (last && last[0] + last[1] === offset) last[1] += length;
      else found.push([offset, length]);
    };
    for (const index of arrived.keys()) add(...this.place(index));
    add(this.end, end - this.end);
    return found;
  }

  /** Where an entry lies with its header. */
  private place(index: number): [offset: number, length: number] {
    const entry = this.manifest.entries[index]!;
    const head = this.headLength(entry);
    return [this.start(index) - head, head + entry.size];
  }
}
