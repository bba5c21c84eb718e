/**
 * Choosing what to send: files, folders, or what is dropped on the page. Where the platform gives handles,
 * they are taken, for they can be kept over a reload.
 */
import type { Picked } from "../events";
import { h } from "./elements";

const AT_ONCE = 16; // files that are looked at

/** Ask for files, or for a folder; `take` is called once there is something. */
export async function choose(
  kind: "files" | "folder",
  take: (picked: Picked[]) => void,
): Promise<void> {
  const { showOpenFilePicker: askFiles, showDirectoryPicker: askFolder } = window;
  try {
    if (kind === "files" && askFiles) {
      const handles = await askFiles.call(window, { id: "handover", multiple: true });
      take(handles.map((handle) => ({ handle })));
    } else if (kind === "folder" && askFolder) {
      const handle = await askFolder.call(window, { id: "handover", mode: "read" });
      if (handle) take([{ handle }]);
    } else byInput(kind, take);
  } catch {
    // the person changed their mind
  }
}

function byInput(kind: "files" | "folder", take: (picked: Picked[]) => void): void {
  document.querySelector("input[type=file]")?.remove(); // nobody told how that one ended
  const how = kind === "folder" ? { webkitdirectory: true } : { multiple: true };
  const input = h("input", { type: "file", hidden: true, ...how });
  document.body.append(input);
  input.addEventListener("change", () => {
    input.remove();
    // Those of a folder have a path.
    const files = [...input.files!];
    take(files.map((file) => ({ path: file.webkitRelativePath || file.name, file })));
  });
  input.click();
}

/**
 * What is dropped, in portions as folders are read, until the `last`. Everything is taken out of the event
 * at once, for it is empty afterwards.
 */
export async function dropped(
  data: DataTransfer,
  take: (picked: Picked[], last: boolean) => void,
): Promise<void> {
  const items = [...data.items].filter(({ kind }) => kind === "file");
  const found = items.map((item) => ({
    handle: item.getAsFileSystemHandle?.() ?? null,
    entry: item.webkitGetAsEntry(),
    file: item.getAsFile(),
  }));
  for (const { handle, entry, file } of found) {
    const got = await Promise.resolve(handle).catch(() => null);
    if (got) take([{ handle: got }], false);
    else if (entry) await walk(entry, (picked) => take(picked, false));
    else if (file) take([{ path: file.name, file }], false);
  }
  take([], true);
}

/** A file or folder and all that is in it. */
async function walk(root: FileSystemEntry, take: (picked: Picked[]) => void): Promise<void> {
  const left = [root];
  while (left.length) {
    const some = left.splice(0, AT_ONCE);
    const picked = await Promise.all(some.map((entry) => look(entry, left)));
    take(picked.flat());
  }
}

async function look(entry: FileSystemEntry, left: FileSystemEntry[]): Promise<Picked[]> {
  const path = entry.fullPath.replace(/^\//, "");
  if (!entry.isDirectory) {
    const file = await new Promise<File | null>((resolve) =>
      (entry as FileSystemFileEntry).file(resolve, () => resolve(null)),
    );
    return [file ? { path, file } : { path, unread: true }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A hundred or so at a time, until there are none.
    const some = await new Promise<FileSystemEntry[] | null>((resolve) =>
      reader.readEntries(resolve, () => resolve(null)),
    );
    if (some === null)
      return [
        { path, directory: true },
        { path: `${path}/`, unread: true },
      ];
    if (!some.length) return [{ path, directory: true }];
    left.push(...some);
  }
}
