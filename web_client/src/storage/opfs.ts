/**
 * Files of the origin private file system, one a transfer and encrypted; memory up to a stated size where
 * there is no disk for pages.
 */
import { sleep } from "../clock";
import type { Bytes } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import { EncryptedStore } from "./encrypted";
import { MemoryStore } from "./memory";
import type { Store } from "./ports";

const FOLDER = "handover"; // of the origin private file system
const [REOPEN_TRIES, REOPEN_PAUSE] = [20, 150]; // milliseconds
const ERASE_SECONDS = 3;
const PROBE = 2 * 1024 * 1024; // bytes
const BEYOND_MEMORY = 2 ** 32; // more than Chromium's file in memory can be
export const MAX_IN_MEMORY = 512 * 1024 * 1024; // beyond it a tab is in danger

/** What was reserved: a file on a disk, which survives a reload, or memory, which does not. */
export type Space =
  | { readonly where: "disk"; readonly store: Store; readonly tight: boolean }
  | {
      readonly where: "memory";
      readonly store: MemoryStore;
      readonly tight: boolean;
      readonly small: boolean; // there is a disk for pages, but too little of it
    };

async function folder(): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(FOLDER, { create: true });
}

/** Names of all containers on this browser's disk; none where it has no disk for pages. */
export async function containers(): Promise<string[]> {
  try {
    const names: string[] = [];
    for await (const name of (await folder()).keys()) names.push(name);
    return names;
  } catch {
    return [];
  }
}

/** Whether a container is certainly gone; a disk that cannot be asked does not say so. */
export async function isGone(name: string): Promise<boolean> {
  try {
    await (await folder()).getFileHandle(name);
    return false;
  } catch (error) {
    return (error as DOMException).name === "NotFoundError";
  }
}

/** Bytes that this browser lets pages have on its disk; null where it has no disk for pages. */
export async function roomOnDisk(): Promise<number | null> {
  try {
    await folder();
    const { quota, usage } = await navigator.storage.estimate();
    return Math.max(0, quota! - usage!);
  } catch {
    return null;
  }
}

/** Erase a container. A browser whose data was just deleted may never answer: nobody waits for long. */
export async function erase(name: string): Promise<void> {
  const erased = folder().then((from) => from.removeEntry(name));
  await Promise.race([erased, sleep(ERASE_SECONDS)]).catch(() => {}); // there is none
}

/** Whether the disk takes data again; `name` is of the container that found none. */
export async function takesData(name: string): Promise<boolean> {
  const probe = `${name}.probe`;
  try {
    const handle = await (await folder()).getFileHandle(probe, { create: true });
    const file = await handle.createSyncAccessHandle!();
    try {
      const written = file.write(new Uint8Array(PROBE).fill(1), { at: 0 });
      file.flush();
      return written === PROBE;
    } finally {
      file.close();
    }
  } catch {
    return false;
  } finally {
    await erase(probe);
  }
}

/** Open a container that was left. Throws when it is not there or in use. */
export async function reopen(name: string, key: Bytes): Promise<Space> {
  const handle = await (await folder()).getFileHandle(name);
  for (let tries = 0; ; tries++) {
    try {
      const store = new EncryptedStore(await handle.createSyncAccessHandle!(), key);
      return { where: "disk", store, tight: false };
    } catch (error) {
      // A page that was just left may hold it for a moment yet.
      if (tries === REOPEN_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, REOPEN_PAUSE));
    }
  }
}

/**
 * Reserve space for `size` bytes, and see that as many again are free for the saved copy.
 *
 * `persist` asks the person or the browser for more than the usual share. `tight` says that space for
 * the copy could not be established. `key` is what lies on the disk encrypted with. Throws `Failure`
 * (no_space).
 */
export async function reserve(
  name: string,
  size: number,
  key: Bytes,
  persist: () => Promise<boolean>,
): Promise<Space> {
  let file: FileSystemSyncAccessHandle | null = null;
  try {
    const handle = await (await folder()).getFileHandle(name, { create: true });
    file = await handle.createSyncAccessHandle!();
    if (inMemory(file)) throw new Error("no disk");
    const ample = fits(file, 2 * size) || ((await persist()) && fits(file, 2 * size));
    if (ample || fits(file, size)) {
      file.truncate(0);
      const store = new EncryptedStore(file, key);
      store.truncate(size);
      return { where: "disk", store, tight: !ample };
    }
  } catch {
    // no file system for this page (a private window), or it is broken: memory, then
  }
  const onDisk = file !== null && !inMemory(file) && fits(file, 1);
  file?.close();
  await erase(name);
  if (size > MAX_IN_MEMORY) {
    throw new Failure("no_space", onDisk ? "" : "private_window");
  }
  const memory = new MemoryStore();
  memory.truncate(size); // as on a disk: what is a hole reads as zeros
  return { where: "memory", store: memory, tight: false, small: onDisk };
}

/**
 * Whether it is no file but memory, as off the record in Chromium: there sizes above 2 GiB are
 * ignored, where a disk takes or refuses them.
 */
function inMemory(file: FileSystemSyncAccessHandle): boolean {
  try {
    file.truncate(BEYOND_MEMORY);
    return file.getSize() !== BEYOND_MEMORY;
  } catch {
    return false;
  }
}

/** Whether a file of this size is allowed. */
function fits(file: FileSystemSyncAccessHandle, size: number): boolean {
  try {
    file.truncate(size);
    return file.getSize() === size;
  } catch {
    return false;
  }
}
