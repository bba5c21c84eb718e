/** How a transfer has ended. */
import type { Delivered } from "../events";
import { Failure, HandoverError, type Code, type Ending, type Values } from "../protocol/errors";

export interface Outcome {
  readonly ending: Ending;
  readonly code: Code | "";
  readonly detail: string;
  readonly values?: Values; // that fill the detail in
  readonly delivered: Delivered | null;
}

/** Every error as one of the catalogue's; what is not foreseen is `internal`. */
export function asFailure(error: unknown): HandoverError {
  if (error instanceof HandoverError) return error;
  return new Failure("internal", String((error as Error).name));
}

/** The outcome of a failure, by which nothing was delivered. */
export function failed(error: unknown): Outcome {
  const { ending, code, detail, values } = asFailure(error);
  return { ending, code, detail, values, delivered: null };
}
