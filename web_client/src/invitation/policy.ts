/** What a server's operator asks, and what an invitation makes of it. */
import type { PolicyTold } from "../events";
import { Failure } from "../protocol/errors";
import { shownLabel } from "../protocol/labels";
import type { Policy } from "../protocol/policy";

/** What the page is told. */
export const policyTold = (policy: Policy): PolicyTold => ({
  event: "policy",
  ...policy,
  operator: shownLabel(policy.operator ?? "") || null,
});

/**
 * Whether the check digits have to be compared. `missing`: why there is no passphrase, a code of the
 * catalogue under `detail`; "" where there is one. Throws `Failure` where one is required.
 */
export function mustCompare({ require }: Policy, missing: string): boolean {
  if (require === "passphrase" && missing) throw new Failure("not_allowed", missing);
  return require === "digits" || (require === "either" && missing !== "");
}
