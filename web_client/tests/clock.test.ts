/** Long work in turns with whatever else the event loop has to do. */
import { expect, test } from "vitest";

import { breathe, inTurns } from "../src/clock";

test("work in turns lets others have theirs, and comes to its end", async () => {
  let heard = false;
  void breathe().then(() => (heard = true));
  function* steps(): Generator<void, boolean> {
    for (let step = 0; step < 1e7 && !heard; step++) yield;
    return heard;
  }
  expect(await inTurns(steps())).toBe(true);
});

test("what it throws is thrown", async () => {
  // eslint-disable-next-line require-yield
  function* failing(): Generator<void, never> {
    throw new RangeError("no");
  }
  await expect(inTurns(failing())).rejects.toThrow(RangeError);
});
