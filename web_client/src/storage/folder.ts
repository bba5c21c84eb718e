/**
 * Receiving straight into a folder that the person chose (File System Access, WICG).
 *
 * It needs the space only once and files stay files. But a browser shows a file's content only once it
 * is closed, so nothing of it survives a reload. Paths were held to the safe rule with the manifest;
 * nothing is ever replaced: a name that is taken at the top becomes `name (1)`.
 */
import type { Bytes } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import { tapeOf, type Manifest, type Results } from "../protocol/manifest";
import { collisionKey } from "../protocol/paths";
import type { Tape } from "../protocol/tape";
import { HasherLost, InlineHasher, MAX_WHOLE, hashWhole, openHasher } from "./hashing";
import type { Hasher } from "./hashing";
import type { Destination, Settled } from "./ports";
import { diskFailure, settleEntries } from "./settling";

const MAX_NAMES = 1000; // of one kind, before it is given up
const MAX_OPEN = 256; // files at once; each is a descriptor and a temporary file of the browser

/** A file that was begun here, and where. `closed` once that was asked for. */
interface Part {
  readonly parent: FileSystemDirectoryHandle;
  readonly handle: FileSystemFileHandle;
  readonly writer: FileSystemWritableFileStream;
  closed: Promise<void> | null;
}

/** A folder that was made here. */
interface Made {
  readonly parent: FileSystemDirectoryHandle;
  readonly handle: FileSystemDirectoryHandle;
}

/** A destination in a chosen folder. */
export class FolderDestination implements Destination {
  readonly stored = "file";
  readonly readBackStep = Infinity; // whole files, each of which is read in parts
  hashed = 0;
  readonly extents = []; // they are files already
  size = 0;
  private readonly tape: Tape;
  private readonly gone = new Set<number>();
  private readonly digests = new Map<number, Bytes>();
  private readonly parts = new Map<number, Promise<Part>>();
  private readonly unwritable = new Set<number>();
  private readonly folders = new Map<string, Promise<Made>>();
  private readonly tops = new Map<string, Promise<string>>(); // as sent -> as it is here
  private readonly reserved: ReadonlySet<string>; // what the manifest calls its own tops
  private readonly waiting: (() => void)[] = []; // for one of the open files to be closed
  private openFiles = 0;
  private choosing: Promise<unknown> = Promise.resolve();
  private hasher: Promise<Hasher> | null = null; // of large files, once there is one
  private whole = 0; // entries before it are closed
  private next = 0; // the entry to be hashed

  constructor(
    private readonly manifest: Manifest,
    private readonly root: FileSystemDirectoryHandle,
  ) {
    this.tape = tapeOf(manifest);
    this.reserved = new Set(manifest.entries.map(({ path }) => collisionKey(path.split("/")[0]!)));
  }

  get crowded(): boolean {
    return this.openFiles >= MAX_OPEN / 2;
  }

  /** The folder's name, for people. */
  get name(): string {
    return this.root.name;
  }

  begin(offset: number): void {
    for (const entry of this.gone) if (this.tape.end(entry) > offset) this.gone.delete(entry);
  }

  async write(offset: number, payload: Bytes): Promise<void> {
    const kept = payload.slice() as Uint8Array<ArrayBuffer>; // it is good only until the next range
    let done = 0;
    for (const { entry, offset: position, length } of this.tape.pieces(offset, payload.length)) {
      const data = kept.subarray(done, done + length);
      done += length;
      await this.failAlone(entry, async () => {
        const { writer, closed } = await this.part(entry);
        if (!closed) await writer.write({ type: "write", position, data });
      });
    }
  }

  /** A name this computer does not take fails that file; a disk that fails ends it all. */
  private async failAlone(entry: number, work: () => Promise<unknown>): Promise<void> {
    if (this.gone.has(entry) || this.unwritable.has(entry)) return;
    try {
      await work();
    } catch (error) {
      const name = (error as DOMException).name;
      if (!(error instanceof TypeError) && name !== "NotAllowedError") throw broken(error);
      this.unwritable.add(entry);
    }
  }

  withdraw(entry: number): void {
    this.gone.add(entry);
  }

  async takesData(): Promise<boolean> {
    return true; // it is never waited for: see `broken`
  }

  async sync(frontier: number): Promise<void> {
    const closing: Promise<void>[] = [];
    for (; this.whole < this.manifest.entries.length; this.whole++) {
      const entry = this.whole;
      if (this.tape.end(entry) > frontier) break;
      if (!this.manifest.entries[entry]!.size) continue;
      // One that is a single hole was never written to: it is made now.
      closing.push(this.failAlone(entry, async () => this.closePart(await this.part(entry, true))));
    }
    await Promise.all(closing);
  }

  private closePart(part: Part): Promise<void> {
    return (part.closed ??= part.writer.close().finally(() => this.closedOne()));
  }

  private closedOne(): void {
    this.openFiles--;
    this.waiting.shift()?.();
  }

  async readBack(upto: number): Promise<void> {
    for (; this.next < this.whole; this.next++) {
      const [entry, end] = [this.next, this.tape.end(this.next)];
      if (end > upto) return;
      const part = await this.parts.get(entry)?.catch(() => null);
      if (part?.closed && !this.gone.has(entry)) {
        try {
          await part.closed;
          this.digests.set(entry, await this.digestOf(await part.handle.getFile()));
        } catch {
          // no digest: the entry fails
        }
      }
      this.hashed = end;
    }
  }

  async settle(claimed: Results): Promise<Settled> {
    for (const [index, entry] of this.manifest.entries.entries()) {
      if (claimed.at(index)[0] || entry.size) continue;
      await this.failAlone(index, async () => {
        if (entry.kind === "directory") await this.folder(entry.path.split("/"));
        else await this.closePart(await this.part(index, true));
      });
    }
    this.size = 0;
    const found = (index: number) => this.digests.get(index);
    const settled = settleEntries(this.manifest, claimed, found, this.unwritable);
    for (const [index, entry] of this.manifest.entries.entries()) {
      if (settled[0].at(index)[0]) await this.remove(index);
      else this.size += entry.size;
    }
    return settled;
  }

  private async digestOf(file: File): Promise<Bytes> {
    if (file.size <= MAX_WHOLE) {
      return (await hashWhole(new Uint8Array(await file.arrayBuffer()), false)).digest;
    }
    try {
      return await hashIn(await (this.hasher ??= openHasher(false)), file);
    } catch (error) {
      if (!(error instanceof HasherLost)) throw error;
      this.close();
      this.hasher = Promise.resolve(new InlineHasher(false)); // slower, but it stays
      return await hashIn(await this.hasher, file);
    }
  }

  close(): void {
    void this.hasher?.then((hasher) => hasher.close());
    this.hasher = null;
  }

  async discard(): Promise<void> {
    this.close();
    for (const index of this.parts.keys()) await this.remove(index);
    for (const making of [...this.folders.values()].reverse()) {
      // Only what is empty goes: a person may have put something there meanwhile.
      await making.then(({ parent, handle }) => parent.removeEntry(handle.name)).catch(() => {});
    }
  }

  private async remove(index: number): Promise<void> {
    const part = await this.parts.get(index)?.catch(() => null);
    if (!part) return; // it never came to be
    part.closed ??= part.writer.abort().finally(() => this.closedOne());
    await part.closed.catch(() => {});
    await part.parent.removeEntry(part.handle.name).catch(() => {});
  }

  /** `urgent`: not to wait until another is closed, for that may wait for this one. */
  private part(index: number, urgent = false): Promise<Part> {
    const known = this.parts.get(index);
    if (known) return known;
    const opening = this.open(index, urgent);
    this.parts.set(index, opening);
    return opening;
  }

  private async open(index: number, urgent: boolean): Promise<Part> {
    if (this.openFiles >= MAX_OPEN && !urgent) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    this.openFiles++;
    const { path, size } = this.manifest.entries[index]!;
    const segments = path.split("/");
    const last = segments.pop()!;
    try {
      const parent = segments.length ? (await this.folder(segments)).handle : this.root;
      const name = segments.length ? last : await this.free(last, false);
      const handle = await parent.getFileHandle(name, { create: true });
      try {
        const writer = await handle.createWritable();
        await writer.truncate(size); // what is a hole stays zeros
        return { parent, handle, writer, closed: null };
      } catch (error) {
        await parent.removeEntry(name).catch(() => {});
        throw error;
      }
    } catch (error) {
      this.closedOne();
      throw error;
    }
  }

  private folder(segments: string[]): Promise<Made> {
    const path = segments.join("/");
    const known = this.folders.get(path);
    if (known) return known;
    const make = async (): Promise<Made> => {
      const [top] = segments as [string];
      const above = segments.slice(0, -1);
      const parent = above.length ? (await this.folder(above)).handle : this.root;
      const name = above.length ? segments.at(-1)! : await this.free(top, true);
      return { parent, handle: await parent.getDirectoryHandle(name, { create: true }) };
    };
    const making = make();
    this.folders.set(path, making);
    return making;
  }

  /** A name at the top that nothing has yet, and that nothing else of the manifest will have. */
  private free(name: string, directory: boolean): Promise<string> {
    const known = this.tops.get(name);
    if (known) return known;
    const look = async () => {
      const dot = directory ? -1 : name.lastIndexOf(".");
      const [stem, ending] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
      for (let number = 0; number < MAX_NAMES; number++) {
        const candidate = number ? `${stem} (${number})${ending}` : name;
        const another = number && this.reserved.has(collisionKey(candidate));
        if (!another && !(await this.taken(candidate))) return candidate;
      }
      throw new TypeError("too many of that name");
    };
    const looking = this.choosing.then(look);
    this.choosing = looking.catch(() => {});
    this.tops.set(name, looking);
    return looking;
  }

  private async taken(name: string): Promise<boolean> {
    try {
      await this.root.getFileHandle(name);
      return true;
    } catch (error) {
      if (error instanceof TypeError) throw error; // a name this computer does not take
      return (error as DOMException).name !== "NotFoundError"; // a folder has it
    }
  }
}

/** The SHA-256 of a large file, in parts. */
async function hashIn(hasher: Hasher, file: File): Promise<Bytes> {
  try {
    for await (const chunk of file.stream() as unknown as AsyncIterable<Bytes>) {
      for (let at = 0; at < chunk.length;) {
        const bytes = hasher.part();
        const length = Math.min(bytes.length, chunk.length - at);
        bytes.set(chunk.subarray(at, at + length));
        at += length;
        hasher.update({ bytes, skip: 0, length, encrypted: null });
      }
      await hasher.settled();
    }
    return (await hasher.finish()).digest;
  } catch (error) {
    hasher.forget();
    throw error;
  }
}

/** A write that failed has broken its file's stream, and with it all that the stream held. */
const broken = (error: unknown): Failure => new Failure("disk_error", diskFailure(error).detail);
