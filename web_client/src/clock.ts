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
