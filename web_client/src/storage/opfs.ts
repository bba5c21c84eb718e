/**
 * Files of the origin private file system, one a transfer; memory up to a stated size where there is no
 * disk for pages.
 */
import { Failure } from "../protocol/errors";
import { MemoryStore } from "./memory";
import type { Store } from "./ports";

const FOLDER = "handover"; // of the origin private file system
const [REOPEN_TRIES, REOPEN_PAUSE] = [20, 150]; // milliseconds
const BEYOND_MEMORY = 2 ** 32; // more than Chromium's file in memory can be
export const MAX_IN_MEMORY = 512 * 1024 * 1024; // beyond it a tab is in danger

/** What was reserved: a file on a disk, which survives a reload, or memory, which does not. */
export type Space =
  | { readonly where: "disk"; readonly store: Store; readonly tight: boolean }
  | { readonly where: "memory"; readonly store: MemoryStore; readonly tight: boolean };

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

/** Erase a container. */
export async function erase(name: string): Promise<void> {
  try {
    await (await folder()).removeEntry(name);
  } catch {
    // there is none
  }
}

/** A container as a file to be saved. Throws when it is not there. */
export async function containerFile(name: string): Promise<File> {
  return (await (await folder()).getFileHandle(name)).getFile();
}

/** Open a container that an earlier session left. Throws when it is not there or in use. */
export async function reopen(name: string): Promise<Space> {
  const handle = await (await folder()).getFileHandle(name);
  for (let tries = 0; ; tries++) {
    try {
      return { where: "disk", store: await handle.createSyncAccessHandle!(), tight: false };
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
 * the copy could not be established. Throws `Failure` (no_space).
 */
export async function reserve(
  name: string,
  size: number,
  persist: () => Promise<boolean>,
): Promise<Space> {
  let store: FileSystemSyncAccessHandle | null = null;
  try {
    const handle = await (await folder()).getFileHandle(name, { create: true });
    store = await handle.createSyncAccessHandle!();
    if (inMemory(store)) throw new Error("no disk");
    const ample = fits(store, 2 * size) || ((await persist()) && fits(store, 2 * size));
    if (ample || fits(store, size)) {
      store.truncate(0);
      store.truncate(size);
      return { where: "disk", store, tight: !ample };
    }
  } catch {
    // no file system for this page (a private window), or it is broken: memory, then
  }
  const onDisk = store !== null && fits(store, 1);
  store?.close();
  await erase(name);
  if (size > MAX_IN_MEMORY) {
    throw new Failure("no_space", onDisk ? "" : "private_window");
  }
  const memory = new MemoryStore();
  memory.truncate(size); // as on a disk: what is a hole reads as zeros
  return { where: "memory", store: memory, tight: false };
}

/**
 * Whether it is no file but memory, as off the record in Chromium: there sizes above 2 GiB are
 * ignored, where a disk takes or refuses them.
 */
function inMemory(store: FileSystemSyncAccessHandle): boolean {
  try {
    store.truncate(BEYOND_MEMORY);
    return store.getSize() !== BEYOND_MEMORY;
  } catch {
    return false;
  }
}

/** Whether a file of this size is allowed. */
function fits(store: FileSystemSyncAccessHandle, size: number): boolean {
  try {
    store.truncate(size);
    return store.getSize() === size;
  } catch {
    return false;
  }
}
