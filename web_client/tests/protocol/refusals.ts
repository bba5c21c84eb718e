/** What a call ends with. */
import { expect } from "vitest";

import { Failure, HandoverError, PeerError, type Code } from "../../src/protocol/errors";

/** The error that a call ends with; the test fails when there is none. */
export function refusal(call: () => unknown): HandoverError {
  try {
    call();
  } catch (error) {
    if (error instanceof HandoverError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

/** The detail of the protocol error that a call ends with. */
export function broken(call: () => unknown): string {
  const error = refusal(call);
  expect(error).toBeInstanceOf(PeerError);
  expect(error.code).toBe("protocol");
  return error.detail;
}

/** The code of the failure, on this side, that a call ends with. */
export function failure(call: () => unknown): Code {
  const error = refusal(call);
  expect(error).toBeInstanceOf(Failure);
  return error.code;
}
