/**
 * The address bar. A link is a key, and screens are shared: it is taken out of there at once. The page
 * imports this module first, so that nothing can fail before.
 */

/** The address that the page was opened with, whatever a mail program made of the link. */
export const opened = take();

/** The page's address; afterwards it holds no link. */
export function take(): string {
  const address = location.href;
  history.replaceState(null, "", "/");
  return address;
}
