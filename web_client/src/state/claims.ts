/** Which tab has a link open: one at a time. */

const nameOf = (room: string): string => `handover ${room}`;

/** Hold a link for this tab until the page is gone; false when another tab has it. */
export function claim(room: string): Promise<boolean> {
  return new Promise((resolve) => {
    if (!navigator.locks) return resolve(true); // a browser without them
    const claimed = navigator.locks.request(nameOf(room), { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => {});
    });
    claimed.catch(() => resolve(true));
  });
}

/** Whether a tab has this link open. */
export async function isClaimed(room: string): Promise<boolean> {
  const held = (await navigator.locks?.query())?.held;
  return held?.some((lock) => lock.name === nameOf(room)) ?? false;
}
