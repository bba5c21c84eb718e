import type { Bytes } from "../protocol/codec";
import type { Store, Stored } from "./ports";

/** A store in memory, for where there is no disk. Pages come into being as they are written. */
export class MemoryStore implements Store {
  private static readonly PAGE = 1024 * 1024;
  private readonly pages = new Map<number, Bytes>();
  private size = 0;

  private *parts(
    at: number,
    length: number,
  ): Generator<[page: number, from: number, part: number]> {
    for (let done = 0; done < length;) {
      const from = (at + done) % MemoryStore.PAGE;
      const part = Math.min(length - done, MemoryStore.PAGE - from);
      yield [Math.floor((at + done) / MemoryStore.PAGE), from, part];
      done += part;
    }
  }

  read(buffer: Bytes, { at }: { at: number }): number {
    const length = Math.max(0, Math.min(buffer.length, this.size - at));
    let done = 0;
    for (const [page, from, part] of this.parts(at, length)) {
      const content = this.pages.get(page);
      if (content) buffer.set(content.subarray(from, from + part), done);
      else buffer.fill(0, done, done + part);
      done += part;
    }
    return length;
  }

  readStored(buffer: Bytes, options: { at: number }): Stored {
    return { bytes: buffer, skip: 0, length: this.read(buffer, options), encrypted: null };
  }

  write(data: Bytes, { at }: { at: number }): number {
    let done = 0;
    for (const [page, from, part] of this.parts(at, data.length)) {
      const content = this.pages.get(page) ?? new Uint8Array(MemoryStore.PAGE);
      this.pages.set(page, content);
      content.set(data.subarray(done, done + part), from);
      done += part;
    }
    this.size = Math.max(this.size, at + data.length);
    return data.length;
  }

  clear(at: number, length: number): void {
    for (const [page, from, part] of this.parts(at, length)) {
      this.pages.get(page)?.fill(0, from, from + part);
    }
  }

  truncate(size: number): void {
    const [last, from] = [Math.floor(size / MemoryStore.PAGE), size % MemoryStore.PAGE];
    for (const page of this.pages.keys()) if (page > last) this.pages.delete(page);
    this.pages.get(last)?.fill(0, from); // what is cut off is zeros when the store grows again
    this.size = size;
  }

  getSize(): number {
    return this.size;
  }

  flush(): void {}

  close(): void {}
}
