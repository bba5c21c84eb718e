/** From a store to the disk of this computer. */
import type { Bytes } from "../protocol/codec";
import type { Store } from "./ports";
import type { Extents } from "./zip";

const STEP = 1024 * 1024; // read at once

/** What of a store is saved; `told` hears how many bytes were read. */
export function contentOf(
  store: Pick<Store, "read">,
  extents: Extents,
  told: (done: number) => void = () => {},
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let [index, at, all] = [0, extents[0]?.[0] ?? 0, 0];
  return new ReadableStream({
    pull(controller) {
      const [offset, length] = extents[index] ?? [0, 0];
      const chunk = new Uint8Array(Math.min(STEP, offset + length - at));
      for (let done = 0; done < chunk.length;) {
        const got = store.read(chunk.subarray(done) as Bytes, { at: at + done });
        if (got <= 0) throw new Error("the store is cut off");
        done += got;
      }
      if (chunk.length) controller.enqueue(chunk);
      [at, all] = [at + chunk.length, all + chunk.length];
      told(all);
      if (at === offset + length) {
        at = extents[++index]?.[0] ?? 0;
        if (index >= extents.length) controller.close();
      }
    },
  });
}

/**
 * What a browser that asks for no place is given to download.
 *
 * By way of a response, browsers put what is large into a temporary file of their own. A type keeps
 * them from guessing one, and from adding its ending to the name.
 */
export function blobOf(content: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<Blob> {
  return new Response(content, { headers: { "Content-Type": "application/octet-stream" } }).blob();
}
