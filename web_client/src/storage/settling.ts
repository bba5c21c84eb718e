/** What every destination does alike in the end, and with a disk that fails. */
import { same, sha256, type Bytes } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import { CHANGED, NOT_WRITTEN, Results, type Manifest } from "../protocol/manifest";
import type { Settled } from "./ports";

const NOTHING = new Uint8Array(0);

/**
 * The final results: what the sender gave up, and what was not found here as it said.
 *
 * `found` gives the digest of what is there, undefined where nothing is; of a folder it does not matter
 * which.
 */
export function settleEntries(
  manifest: Manifest,
  claimed: Results,
  found: (index: number) => Bytes | undefined,
  unwritable: ReadonlySet<number> = new Set(),
): Settled {
  const results = Results.of(claimed.length);
  const refused: [number, number][] = [];
  manifest.entries.forEach((entry, index) => {
    const [given, digest] = claimed.at(index);
    const here = entry.size ? found(index) : sha256(NOTHING);
    if (given) results.failed(index, given);
    else if (unwritable.has(index)) {
      results.failed(index, NOT_WRITTEN);
      refused.push([index, NOT_WRITTEN]);
    } else if (entry.kind === "directory" || (here !== undefined && same(here, digest))) {
      results.delivered(index, digest);
    } else {
      const status = here === undefined ? NOT_WRITTEN : CHANGED;
      results.failed(index, status);
      refused.push([index, status]);
    }
  });
  return [results, refused];
}

/** The detail of a disk's failure where what was stored is gone. */
export const CLEARED = "data_cleared";

const FULL = ["QuotaExceededError", "NS_ERROR_FILE_NO_DEVICE_SPACE"]; // the second in Firefox

/** What a failing disk means: a full one may have space again. */
export function diskFailure(error: unknown): Failure {
  const full = FULL.includes((error as DOMException | null)?.name ?? "");
  return full ? new Failure("disk_paused", "enospc") : new Failure("disk_error", "store_failed");
}
