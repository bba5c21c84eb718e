/** What people are told: of an offer, of what was delivered, of a receipt. */
import type { Delivered, HistoryEntry, Offer, ReceiptSummary } from "../events";
import { encodeBase64url, hex, type Bytes } from "../protocol/codec";
import { STATUSES, tapeOf, type Manifest, type Results, type Status } from "../protocol/manifest";
import { shownLabel } from "../protocol/labels";
import { shown } from "../protocol/paths";
import { MAX_REASON, PURPOSES } from "../protocol/purposes";
import * as receipts from "../protocol/receipt";
import type { Home } from "../state/home";
import type { Space } from "../storage/opfs";
import type { Destination } from "../storage/ports";
import type { Layout } from "../storage/zip";

const LISTED = 1000; // entries that are shown
const NAMED = 10; // names that a person is to notice
const lossy = new TextDecoder();

export function offerOf(manifest: Manifest, layout: Layout, space: Space | null): Offer {
  const { entries } = manifest;
  const files = entries.filter((entry) => entry.kind === "file");
  const hidden = hiddenOf(manifest);
  const renamed = entries.filter(({ original }) => original !== null);
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
    small: space?.where === "memory" && space.small,
    tight: space?.tight ?? false,
    hidden: hidden.length,
    hiddenNames: hidden.slice(0, NAMED).map((path) => shown(path, 128)),
    skipped: manifest.skipped,
    purpose: manifest.purpose && PURPOSES[manifest.purpose],
    reason: shownLabel(manifest.reason, MAX_REASON),
    renamed: renamed.length,
    renamedNames: renamed
      .slice(0, NAMED)
      .map(({ path, original }) => [shown(path, 256), shown(lossy.decode(original!), 256)]),
  };
}

/** The topmost part of a path that is hidden, with what is above it; "" where none is. */
function hiddenPart(path: string): string {
  const parts = path.split("/");
  const at = parts.findIndex((part) => part.startsWith("."));
  return parts.slice(0, at + 1).join("/");
}

/** All of these, those at the top level first (mirrors `describe` of `p2p/transfer/receive.py`). */
function hiddenOf({ entries }: Manifest): string[] {
  const found = [...new Set(entries.map(({ path }) => hiddenPart(path)).filter(Boolean))];
  const [top, deeper] = [false, true].map((deep) => found.filter((p) => p.includes("/") === deep));
  return [...top!, ...deeper!];
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
    extents: destination.extents,
    entries: entries.length - failures.length,
    files: arrived.length,
    failures: failures.length,
    failed: failures
      .slice(0, LISTED)
      .map(
        ([index, status]) =>
          [shown(entries[index]!.path, 256), STATUSES[status as Status]] as const,
      ),
    transferId,
    confirmed: false,
  };
}

/** The transfers of the receipts that are kept here, the latest first; what is none is left out. */
export async function pastTransfers({ receipts: kept, identity }: Home): Promise<HistoryEntry[]> {
  const [documents, own] = [await kept.all(), await identity.public()];
  const found = documents.flatMap((document): HistoryEntry[] => {
    try {
      const receipt = summaryOf(document);
      return [{ sent: own !== null && receipt.senderKey === receipts.fingerprint(own), receipt }];
    } catch {
      return [];
    }
  });
  return found.sort((one, other) => (one.receipt.verified < other.receipt.verified ? 1 : -1));
}

/** What a receipt file says, once its signatures are checked. Throws `BadReceipt`. */
export function summaryOf(document: Bytes): ReceiptSummary {
  const { payload, sender, recipient, confirmed } = receipts.verify(document);
  const { content, times, security } = payload;
  return {
    transferId: encodeBase64url(payload.transfer_id),
    id: hex(payload.transfer_id),
    sender: shownLabel(payload.sender.label),
    senderKey: receipts.fingerprint(sender),
    recipient: shownLabel(payload.recipient.label),
    recipientKey: receipts.fingerprint(recipient),
    entries: content.entries,
    deliveredEntries: content.delivered_entries,
    deliveredBytes: content.delivered_bytes,
    root: hex(content.root),
    purpose: payload.purpose && PURPOSES[payload.purpose],
    digitsConfirmed: security.digits_confirmed,
    offered: shown(times.offered),
    verified: shown(times.verified),
    confirmed,
  };
}
