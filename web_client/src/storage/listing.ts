/**
 * What is to be sent: files and folders that a person chose, listed as entries (mirrors
 * `p2p/storage/listing.py`).
 *
 * A page is given files (`File`, as they were when they were chosen) or, where the platform has them,
 * handles, by which a file is found again later. It never sees links, devices or permissions.
 */
import { breathe, inTurns } from "../clock";
import type { Picked } from "../events";
import { MAX_INTEGER, utf8, type Bytes } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import { MAX_ENTRIES, type Entry } from "../protocol/manifest";
import {
  MAX_SEGMENTS,
  TooManyNames,
  UnsafePath,
  checkTreeInSteps,
  escapeSegment,
  shown,
  FolderNames,
} from "../protocol/paths";

const AT_ONCE = 32; // files that are looked at
const TURN = 500; // entries between two turns for others

/** A file that was chosen, as it was then; with a handle it can be looked at again. */
export interface SourceFile {
  readonly path: string; // by the names that are there, `/` between them
  readonly file: File;
  readonly handle: FileSystemFileHandle | null;
}

/** A source that is a directory, and one of whatever kind that could not be read. */
export const DIRECTORY = null;
export const UNREAD = "unread";
export type EntrySource = SourceFile | typeof UNREAD | typeof DIRECTORY;

/** Entries and, beside each, its source. */
export interface Listing {
  readonly entries: readonly Entry[];
  readonly sources: readonly EntrySource[];
  readonly roots: readonly FileSystemHandle[]; // of what was chosen; none where there is something without
}

/** Whether a file looks as it did when it was listed. */
export const isAlike = (one: Pick<File, "size" | "lastModified">, other: File): boolean =>
  one.size === other.size && one.lastModified === other.lastModified;

/** A file or folder in what was chosen. `path`: below what was chosen, by the names that are there. */
interface Found {
  readonly path: readonly string[];
  readonly source: EntrySource;
}

/** Names what was left out or is sent under another name. */
export type Warn = (code: "unreadable" | "renamed", path: string, detail: string) => void;

/** What was chosen under one top name. */
interface Root {
  readonly choice: number; // by which it came
  readonly number: number;
  readonly found: Found[];
  handle: FileSystemHandle | null;
  refused: Failure | null; // why it cannot be sent
}

/**
 * What a person has chosen so far, by its top names. It grows while folders are read, and says so: `told`
 * is called now and then with how much there is.
 */
export class Selection {
  private readonly roots = new Map<string, Root>();
  private readonly left = new Map<string, number>(); // names that were left out again, and their choice
  private readonly open = new Set<number>(); // choices of which more is to come
  private reading = 0; // folders that are looked through
  private waiting: (() => void)[] = []; // until all is read
  private numbered = 0;
  files = 0;
  folders = 0;
  size = 0;

  constructor(private readonly told: () => void) {}

  /** The top names, in order. */
  get names(): string[] {
    return [...this.roots.keys()].sort();
  }

  /** Whether folders are still being read. */
  get busy(): boolean {
    return this.reading > 0 || this.open.size > 0;
  }

  /**
   * Take in what was chosen; one `choice` may come in portions, until the `last`. What bears the top name
   * of something else is left out: its name.
   */
  add(picked: readonly Picked[], choice: number, last = true): string[] {
    if (last) this.open.delete(choice);
    else this.open.add(choice);
    const refused: string[] = [];
    for (const one of picked) {
      const path = "handle" in one ? [one.handle.name] : one.path.replace(/^\/+/, "").split("/");
      const top = path[0]!;
      let root = this.roots.get(top);
      if (root && root.choice !== choice) {
        if (!refused.includes(top)) refused.push(top);
        continue;
      }
      if (!root) {
        if (this.left.get(top) === choice) continue;
        root = { choice, number: this.numbered++, found: [], handle: null, refused: null };
        this.roots.set(top, root);
      }
      if ("handle" in one) {
        root.handle = one.handle;
        void this.read(root, one.handle, path);
      } else if ("file" in one)
        this.take(root, { path, source: { path: path.join("/"), file: one.file, handle: null } });
      else this.take(root, { path, source: "unread" in one ? UNREAD : DIRECTORY });
    }
    this.goOn();
    return refused;
  }

  /** Leave this out again. */
  remove(name: string): void {
    const root = this.roots.get(name);
    if (!root) return;
    for (const { source } of root.found) this.count(source, -1);
    this.left.set(name, root.choice);
    this.roots.delete(name);
    this.told();
  }

  /** The number of a top name, by which it can be left out whatever else is chosen meanwhile. */
  numberOf(name: string): number {
    return this.roots.get(name)!.number;
  }

  /** Until every folder is read. Throws `Failure` for one that cannot be sent. */
  async whole(): Promise<void> {
    while (this.busy) await new Promise<void>((go) => this.waiting.push(go));
    for (const { refused } of this.roots.values()) if (refused) throw refused;
  }

  /** The handles of what was chosen; none where there is something without. */
  get rootHandles(): FileSystemHandle[] {
    const all = [...this.roots.values()].map(({ handle }) => handle);
    return all.includes(null) ? [] : (all as FileSystemHandle[]);
  }

  /** The files by their paths. */
  byPath(): Map<string, File> {
    const files = new Map<string, File>();
    for (const { source } of this.found()) {
      if (source && source !== UNREAD) files.set(source.path, source.file);
    }
    return files;
  }

  /** Everything that was found, in no order. */
  *found(): Generator<Found> {
    for (const { found } of this.roots.values()) yield* found;
  }

  private take(root: Root, one: Found): void {
    if (this.roots.get(one.path[0]!) !== root) return; // it was left out again
    root.found.push(one);
    this.count(one.source, 1);
    if ((this.files + this.folders) % TURN === 0) this.told();
  }

  private count(source: EntrySource, by: number): void {
    if (source === DIRECTORY) this.folders += by;
    else this.files += by; // what cannot be read as well: nobody knows what it is
    if (source && source !== UNREAD) this.size += by * source.file.size;
  }

  /** Look through what a handle stands for. */
  private async read(root: Root, handle: FileSystemHandle, path: string[]): Promise<void> {
    this.reading++;
    try {
      await this.walk(root, handle, path);
    } catch (error) {
      root.refused = error as Failure;
    } finally {
      this.reading--;
      this.goOn();
    }
  }

  private goOn(): void {
    if (!this.busy) this.waiting.splice(0).forEach((go) => go());
    this.told();
  }

  private async walk(root: Root, handle: FileSystemHandle, path: readonly string[]): Promise<void> {
    if (handle.kind === "file") {
      const file = handle as FileSystemFileHandle;
      const source = await file.getFile().then(
        (got) => ({ path: path.join("/"), file: got, handle: file }),
        () => UNREAD as typeof UNREAD,
      );
      return this.take(root, { path, source });
    }
    if (path.length > MAX_SEGMENTS) throw nameRefused(path.join("/"), "too_deep");
    const folder = handle as FileSystemDirectoryHandle;
    this.take(root, { path, source: DIRECTORY });
    let [going, count]: [Promise<void>[], number] = [[], 0];
    try {
      for await (const child of folder.values()) {
        if (this.roots.get(path[0]!) !== root) return; // it was left out again
        going.push(this.walk(root, child, [...path, child.name]));
        if (going.length >= AT_ONCE) {
          await Promise.all(going);
          going = [];
        }
        if (++count % TURN === 0) await breathe();
      }
    } catch (error) {
      if (error instanceof Failure) throw error;
      this.take(root, { path: [...path, ""], source: UNREAD }); // the rest of it
    }
    await Promise.all(going);
  }
}

/**
 * Entries in a stable order, folders before what is in them.
 *
 * What cannot be read is listed all the same, to fail by name. Throws `Failure`.
 */
export async function list(selection: Selection, warn: Warn, now: number): Promise<Listing> {
  await selection.whole();
  const tree = new Folder();
  let count = 0;
  for (const { path, source } of selection.found()) {
    if (path.at(-1) === "") {
      tree.folder(path.slice(0, -1)).unread = true;
      continue;
    }
    tree.place(path, source);
    if (++count > MAX_ENTRIES) throw new Failure("too_many_entries");
    if (count % TURN === 0) await breathe();
  }
  const entries: Entry[] = [];
  const sources: EntrySource[] = [];
  for (const [entry, source] of tree.entries("", now * 1000, warn)) {
    entries.push(entry);
    sources.push(source);
    if (entries.length > MAX_ENTRIES) throw new Failure("too_many_entries");
    if (entries.length % TURN === 0) await breathe();
  }
  if (!entries.length) throw new Failure("nothing_to_send", "nothing_readable");
  try {
    const paths = entries.map(({ path, kind }) => (kind === "directory" ? `${path}/` : path));
    await inTurns(checkTreeInSteps(paths));
  } catch (reason) {
    if (reason instanceof UnsafePath) throw nameRefused(reason.path, reason.code);
    if (reason instanceof TooManyNames) throw new Failure("too_many_entries");
    throw reason;
  }
  return { entries, sources, roots: selection.rootHandles };
}

/** A folder that is being put together; its own source is a directory. */
class Folder {
  private readonly folders = new Map<string, Folder>();
  private readonly files = new Map<string, EntrySource>();
  unread = false; // not all of it could be read

  /** The folder at this path, with those above it. */
  folder(path: readonly string[]): Folder {
    let at: Folder = this;
    for (const name of path) {
      const known: Folder = at.folders.get(name) ?? new Folder();
      at.folders.set(name, known);
      at = known;
    }
    return at;
  }

  place(path: readonly string[], source: EntrySource): void {
    if (source === DIRECTORY) this.folder(path);
    else this.folder(path.slice(0, -1)).files.set(path.at(-1)!, source);
  }

  /** What is in it, with what is below. `now`: microseconds; a page does not learn a folder's time. */
  *entries(above: string, now: number, warn: Warn): Generator<[Entry, EntrySource]> {
    const names = new FolderNames();
    for (const name of [...this.folders.keys(), ...this.files.keys()].sort()) {
      const { path, original } = named(above, name, names, this.folders.has(name), warn);
      const source = this.files.get(name);
      if (source === undefined) {
        const folder = this.folders.get(name)!;
        const own = folder.unread ? UNREAD : DIRECTORY;
        if (folder.unread) warn("unreadable", path, "");
        yield [{ path, kind: "directory", size: 0, modified: now, data: null, original }, own];
        yield* folder.entries(`${path}/`, now, warn);
      } else if (source === UNREAD || source === DIRECTORY) {
        warn("unreadable", path, "");
        yield [{ path, kind: "file", size: 0, modified: 0, data: null, original }, UNREAD];
      } else {
        const { size, lastModified } = source.file;
        const modified = lastModified * 1000;
        const fits = Number.isSafeInteger(modified) && Math.abs(modified) <= MAX_INTEGER;
        const time = fits ? modified : 0;
        yield [{ path, kind: "file", size, modified: time, data: null, original }, source];
      }
    }
  }
}

/** An entry's path, and the bytes of its last part as they are, if others. Throws `Failure`. */
function named(
  above: string,
  name: string,
  names: FolderNames,
  directory: boolean,
  warn: Warn,
): { path: string; original: Bytes | null } {
  const wellFormed = name.toWellFormed();
  let safe: string;
  try {
    safe = names.add(escapeSegment(wellFormed), directory);
  } catch (reason) {
    throw nameRefused(name, (reason as UnsafePath).code);
  }
  const path = `${above}${safe}`;
  if (safe === name) return { path, original: null };
  warn("renamed", `${above}${wellFormed}`, shown(safe));
  return { path, original: utf8(wellFormed) };
}

const nameRefused = (name: string, why: string): Failure =>
  new Failure("name_refused", "because", { name: shown(name), why });
