/**
 * Receiving straight into a folder that the person chose (File System Access, WICG).
 *
 * It needs the room only once and files stay files, but a browser shows a file only once it is closed,
 * so nothing of it survives a reload. Paths were held to the safe rule with the manifest; nothing is
 * ever replaced: a name that is taken becomes `name (1)`.
 */
import sodium from "libsodium-wrappers-sumo";

import { EMPTY, diskFailure, held, type Destination } from "./files";
import type { Bytes } from "./protocol/codec";
import { tapeOf, type Manifest, type Results } from "./protocol/manifest";
import { collisionKey } from "./protocol/paths";
import type { Tape } from "./protocol/tape";

const MAX_NAMES = 1000; // of one kind, before it is given up

/** A file that was begun here, and where. */
interface Part {
  readonly parent: FileSystemDirectoryHandle;
  readonly handle: FileSystemFileHandle;
  writer: FileSystemWritableFileStream | null; // null once it is closed
}

/** A destination in a chosen folder. */
export class FolderDestination implements Destination {
  readonly stored = "file";
  hashed = 0;
  size = 0;
  private readonly tape: Tape;
  private readonly gone = new Set<number>();
  private readonly digests = new Map<number, Bytes>();
  private readonly parts = new Map<number, Promise<Part>>();
  private readonly unwritable = new Set<number>();
  private readonly folders = new Map<string, Promise<FileSystemDirectoryHandle>>();
  private readonly tops = new Map<string, Promise<string>>(); // as sent -> as it is here
  private readonly promised = new Set<string>(); // names at the top, by their collision key
  private next = 0; // the entry to be hashed

  constructor(
    private readonly manifest: Manifest,
    private readonly root: FileSystemDirectoryHandle,
  ) {
    this.tape = tapeOf(manifest);
  }

  /** The folder's name, for people. */
  get name(): string {
    return this.root.name;
  }

  async write(offset: number, payload: Bytes): Promise<void> {
    let done = 0;
    for (const { entry, offset: position, length } of this.tape.pieces(offset, payload.length)) {
      const data = payload.subarray(done, done + length) as Uint8Array<ArrayBuffer>;
      done += length;
      if (this.gone.has(entry) || this.unwritable.has(entry)) continue;
      try {
        const { writer } = await this.part(entry);
        await writer?.write({ type: "write", position, data });
      } catch (error) {
        this.givenUp(entry, error);
      }
    }
  }

  /** A name this computer does not take fails that file; a disk that fails ends it all. */
  private givenUp(entry: number, error: unknown): void {
    const refused = error instanceof TypeError || (error as DOMException)?.name === "NotAllowedError";
    if (!refused) throw diskFailure(error);
    this.unwritable.add(entry);
  }

  withdraw(entry: number): void {
    this.gone.add(entry);
  }

  async sync(frontier: number): Promise<void> {
    try {
      const whole = [...this.parts].filter(([entry]) => this.tape.end(entry) <= frontier);
      await Promise.all(
        whole.map(async ([, opening]) => {
          const part = await opening.catch(() => null);
          const writer = part?.writer;
          if (!part || !writer) return;
          part.writer = null;
          await writer.close();
        }),
      );
    } catch (error) {
      throw diskFailure(error);
    }
  }

  async readBack(upto: number): Promise<void> {
    for (; this.next < this.manifest.entries.length; this.next++) {
      const end = this.tape.end(this.next);
      if (end > upto) return;
      await this.makeHole(this.next);
      const part = await this.parts.get(this.next)?.catch(() => null);
      if (part?.writer) return; // not closed yet: the next sync does
      if (part && !this.gone.has(this.next)) {
        try {
          this.digests.set(this.next, await digestOf(await part.handle.getFile()));
        } catch {
          // no digest: the entry fails
        }
      }
      this.hashed = end;
    }
  }

  /** A file that is nothing but a hole was never written to. */
  private async makeHole(entry: number): Promise<void> {
    const { size } = this.manifest.entries[entry]!;
    if (!size || this.parts.has(entry) || this.gone.has(entry)) return;
    const make = async () => {
      const part = await this.open(entry);
      await part.writer!.close();
      return { ...part, writer: null };
    };
    const making = make();
    this.parts.set(entry, making);
    await making.catch((error) => this.givenUp(entry, error));
  }

  async settle(claimed: Results): Promise<[Results, [number, number][]]> {
    for (const [index, entry] of this.manifest.entries.entries()) {
      const [given] = claimed.at(index);
      if (given || entry.size) continue;
      try {
        if (entry.kind === "directory") await this.folder(entry.path.split("/"));
        else {
          const part = await this.part(index);
          await part.writer!.close();
          part.writer = null;
        }
      } catch {
        this.unwritable.add(index);
      }
    }
    const found = (index: number) => {
      if (this.unwritable.has(index)) return undefined;
      return this.manifest.entries[index]!.size ? this.digests.get(index) : EMPTY();
    };
    const [results, refused] = held(this.manifest, claimed, found);
    for (const [index, entry] of this.manifest.entries.entries()) {
      if (results.at(index)[0]) await this.remove(index);
      else this.size += entry.size;
    }
    return [results, refused];
  }

  close(): void {}

  async discard(): Promise<void> {
    for (const index of this.parts.keys()) await this.remove(index);
    const depth = (path: string) => path.split("/").length;
    for (const path of [...this.folders.keys()].sort((a, b) => depth(b) - depth(a))) {
      try {
        const above = await this.folder(path.split("/").slice(0, -1));
        await above.removeEntry((await this.folders.get(path)!).name);
      } catch {
        // it never came to be, or someone put something into it
      }
    }
  }

  private async remove(index: number): Promise<void> {
    try {
      const part = await this.parts.get(index);
      await part?.writer?.abort();
      await part?.parent.removeEntry(part.handle.name);
    } catch {
      // it never came to be
    }
  }

  private part(index: number): Promise<Part> {
    const known = this.parts.get(index);
    if (known) return known;
    const opening = this.open(index);
    this.parts.set(index, opening);
    return opening;
  }

  private async open(index: number): Promise<Part> {
    const { path, size } = this.manifest.entries[index]!;
    const segments = path.split("/");
    const last = segments.pop()!;
    const parent = await this.folder(segments);
    const name = segments.length ? last : await this.free(last, false);
    const handle = await parent.getFileHandle(name, { create: true });
    const writer = await handle.createWritable();
    await writer.truncate(size); // what is a hole stays zeros
    return { parent, handle, writer };
  }

  private folder(segments: string[]): Promise<FileSystemDirectoryHandle> {
    const [top] = segments;
    if (top === undefined) return Promise.resolve(this.root);
    const path = segments.join("/");
    const known = this.folders.get(path);
    if (known) return known;
    const make = async () => {
      const above = await this.folder(segments.slice(0, -1));
      const name = segments.length === 1 ? await this.free(top, true) : segments.at(-1)!;
      return above.getDirectoryHandle(name, { create: true });
    };
    const making = make();
    this.folders.set(path, making);
    return making;
  }

  /** A name at the top that nothing has yet. */
  private free(name: string, directory: boolean): Promise<string> {
    const known = this.tops.get(name);
    if (known) return known;
    const look = async () => {
      const dot = directory ? -1 : name.lastIndexOf(".");
      const [stem, ending] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
      for (let number = 0; number < MAX_NAMES; number++) {
        const candidate = number ? `${stem} (${number})${ending}` : name;
        const key = collisionKey(candidate);
        if ((await this.taken(candidate)) || this.promised.has(key)) continue;
        this.promised.add(key);
        return candidate;
      }
      throw new TypeError("too many of that name");
    };
    const looking = look();
    this.tops.set(name, looking);
    return looking;
  }

  private async taken(name: string): Promise<boolean> {
    try {
      await this.root.getFileHandle(name);
      return true;
    } catch (error) {
      return (error as DOMException).name !== "NotFoundError"; // a folder has it, or it is refused
    }
  }
}

async function digestOf(file: File): Promise<Bytes> {
  const state = sodium.crypto_hash_sha256_init();
  for await (const chunk of file.stream() as unknown as AsyncIterable<Bytes>) {
    sodium.crypto_hash_sha256_update(state, chunk);
  }
  return sodium.crypto_hash_sha256_final(state);
}
