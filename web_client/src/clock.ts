/** The clocks: what is below takes the time as an argument. */

/** Seconds that only go forward. */
export const clock = (): number => performance.now() / 1000;

/** The wall clock as RFC 3339 in UTC, to the millisecond. */
export const nowText = (): string => new Date().toISOString();

export const sleep = (seconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Let messages in that wait, then go on. */
export const breathe = (() => {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return () =>
    new Promise<void>((resolve) => {
      waiting.push(resolve);
      port2.postMessage(null);
    });
})();

const SLICE_SECONDS = 0.02; // a message may wait so long

/** Take all steps of some work, and let messages in between: pings have to be answered. */
export async function inTurns<T>(steps: Generator<void, T>): Promise<T> {
  for (let began = clock(); ;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (clock() - began < SLICE_SECONDS) continue;
    await breathe();
    began = clock();
  }
}
