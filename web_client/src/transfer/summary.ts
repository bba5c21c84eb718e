/** What people are told of a manifest: before the accept, and in the end. */
import type { Delivered, Offer } from "../events";
import { tapeOf, type Manifest, type Results } from "../protocol/manifest";
import { shown } from "../protocol/paths";
import type { Space } from "../storage/opfs";
import type { Destination } from "../storage/ports";
import type { Layout } from "../storage/zip";

const LISTED = 1000; // entries that are shown

export function offerOf(manifest: Manifest, layout: Layout, space: Space | null): Offer {
  const { entries } = manifest;
  const files = entries.filter((entry) => entry.kind === "file");
  return {
    event: "offer",
    files: files.length,
    folders: entries.length - files.length,
    size: tapeOf(manifest).total,
    entries: entries
      .slice(0, LISTED)
      .map((entry) => [shown(entry.path, 256), entry.size, entry.kind === "directory"]),
    name: shown(layout.name, 256),
    single: layout.single,
    where: space?.where ?? "none",
    tight: space?.tight ?? false,
  };
}

export function deliveredOf(
  manifest: Manifest,
  results: Results,
  destination: Destination,
  transferId: string,
): Delivered {
  const { entries } = manifest;
  const failures = results.failures();
  const arrived = entries.filter(({ kind }, i) => kind === "file" && !results.at(i)[0]);
  return {
    name: destination.name,
    where: destination.stored === "file" ? "folder" : "browser",
    size: destination.size,
    files: arrived.length,
    failures: failures.length,
    failed: failures
      .slice(0, LISTED)
      .map(([index, status]) => [shown(entries[index]!.path, 256), status] as const),
    transferId,
    confirmed: false,
  };
}
