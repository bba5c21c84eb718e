/** Which tab has a link open: one at a time. */

const nameOf = (room: string): string => `handover ${room}`;

const CLAIM_SECONDS = 2; // a page that was just left may hold it for a moment yet

/** Hold a link for this tab until the page is gone; false when another tab has it. */
export function claim(room: string): Promise<boolean> {
  return new Promise((resolve) => {
    if (!navigator.locks) return resolve(true); // a browser without them
    const waiting = new AbortController();
    const late = setTimeout(() => waiting.abort(), CLAIM_SECONDS * 1000);
    const claimed = navigator.locks.request(nameOf(room), { signal: waiting.signal }, () => {
      clearTimeout(late);
      resolve(true);
      return new Promise(() => {});
    });
    claimed.catch((error: Error) => resolve(error.name !== "AbortError"));
  });
}

/** Whether a tab has this link open. */
export async function isClaimed(room: string): Promise<boolean> {
  const held = (await navigator.locks?.query())?.held;
  return held?.some((lock) => lock.name === nameOf(room)) ?? false;
}
