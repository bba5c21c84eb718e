/** A directory in memory with the File System Access interface, as far as the client uses it. */

const notFound = () => new DOMException("", "NotFoundError");
const mismatch = () => new DOMException("", "TypeMismatchError");

/** What a directory may do other than hold files. */
export interface Manners {
  /** Names that this computer does not take. */
  readonly refuses?: (name: string) => boolean;
  /** Bytes that a file may have. */
  space?: number;
  /** Called before each write; what it throws is what the write fails with. */
  beforeWrite?: (name: string) => void;
}

export class MemoryFile {
  readonly kind = "file";
  content: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  /** Writers that are neither closed nor given up. */
  writers = 0;

  constructor(
    readonly name: string,
    private readonly manners: Manners,
  ) {}

  async getFile(): Promise<File> {
    return new File([this.content], this.name);
  }

  async createWritable() {
    let draft: Uint8Array<ArrayBuffer> = new Uint8Array(0); // seen by nobody until it is closed
    let open = true;
    this.writers++;
    const end = () => {
      if (!open) throw new TypeError("the stream is closed");
      open = false;
      this.writers--;
    };
    const resize = (size: number) => {
      if (size > (this.manners.space ?? Infinity)) throw new DOMException("", "QuotaExceededError");
      const next = new Uint8Array(size);
      next.set(draft.subarray(0, size));
      draft = next;
    };
    return {
      write: async ({ position, data }: { position: number; data: Uint8Array }) => {
        this.manners.beforeWrite?.(this.name);
        if (position + data.length > draft.length) resize(position + data.length);
        draft.set(data, position);
      },
      truncate: async (size: number) => resize(size),
      close: async () => {
        end();
        this.content = draft;
      },
      abort: async () => end(),
    };
  }

  /** What a worker has of the origin private file system: what is written is there at once. */
  async createSyncAccessHandle(): Promise<FileSystemSyncAccessHandle> {
    const resize = (size: number) => {
      if (size > (this.manners.space ?? Infinity)) throw new DOMException("", "QuotaExceededError");
      const next = new Uint8Array(size);
      next.set(this.content.subarray(0, size));
      this.content = next;
    };
    return {
      getSize: () => this.content.length,
      truncate: resize,
      read: (buffer, { at = 0 } = {}) => {
        const found = this.content.subarray(at, at + buffer.length);
        buffer.set(found);
        return found.length;
      },
      write: (data, { at = 0 } = {}) => {
        this.manners.beforeWrite?.(this.name);
        if (at + data.length > this.content.length) resize(at + data.length);
        this.content.set(data, at);
        return data.length;
      },
      flush: () => {},
      close: () => {},
    };
  }
}

export class MemoryDirectory {
  readonly kind = "directory";
  readonly entries = new Map<string, MemoryFile | MemoryDirectory>();

  constructor(
    readonly name = "chosen",
    readonly manners: Manners = {},
  ) {}

  private get<T extends MemoryFile | MemoryDirectory>(
    name: string,
    kind: T["kind"],
    make: (() => T) | null,
  ): T {
    if (this.manners.refuses?.(name)) throw new TypeError("Name is not allowed.");
    const known = this.entries.get(name);
    if (known && known.kind !== kind) throw mismatch();
    if (!known && !make) throw notFound();
    const found = (known as T | undefined) ?? make!();
    this.entries.set(name, found);
    return found;
  }

  async getFileHandle(name: string, { create = false } = {}): Promise<MemoryFile> {
    return this.get(name, "file", create ? () => new MemoryFile(name, this.manners) : null);
  }

  async getDirectoryHandle(name: string, { create = false } = {}): Promise<MemoryDirectory> {
    const make = () => new MemoryDirectory(name, this.manners);
    return this.get(name, "directory", create ? make : null);
  }

  async removeEntry(name: string): Promise<void> {
    const known = this.entries.get(name);
    if (!known) throw notFound();
    if (known.kind === "directory" && known.entries.size) {
      throw new DOMException("", "InvalidModificationError");
    }
    this.entries.delete(name);
  }

  async *keys(): AsyncGenerator<string> {
    yield* this.entries.keys();
  }

  /** Put a file there, as someone else would. */
  put(name: string, text: string): this {
    const file = new MemoryFile(name, this.manners);
    file.content = new TextEncoder().encode(text);
    this.entries.set(name, file);
    return this;
  }

  /** Path -> text of every file below it; null for a directory. */
  tree(prefix = ""): { [path: string]: string | null } {
    const found: { [path: string]: string | null } = {};
    for (const [name, entry] of this.entries) {
      if (entry.kind === "file") found[prefix + name] = new TextDecoder().decode(entry.content);
      else Object.assign(found, { [prefix + name]: null }, entry.tree(`${prefix}${name}/`));
    }
    return found;
  }

  /** Writers that were left open, below it all. */
  get openWriters(): number {
    return [...this.entries.values()].reduce(
      (sum, entry) => sum + (entry.kind === "file" ? entry.writers : entry.openWriters),
      0,
    );
  }

  /** As the platform's type. */
  get handle(): FileSystemDirectoryHandle {
    return this as unknown as FileSystemDirectoryHandle;
  }
}
