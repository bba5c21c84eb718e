/** Counts and sizes as a language writes them. */

/** So many of something, in one line. */
export const many = (count: number, one: string, more: string, locale: string): string =>
  `${count.toLocaleString(locale)}\u00a0${count === 1 ? one : more}`;

/** Sizes in decimal units, as download dialogs and the command line show them. */
export function size(bytes: number, locale: string): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit++) bytes /= 1000;
  const digits = unit === 0 ? 0 : bytes < 100 ? 1 : 0;
  return `${format(locale, digits).format(bytes)}\u00a0${units[unit]}`;
}

const formats = new Map<string, Intl.NumberFormat>(); // making one takes longer than a row of a list

function format(locale: string, maximumFractionDigits: number): Intl.NumberFormat {
  const key = `${locale} ${maximumFractionDigits}`;
  const known = formats.get(key) ?? new Intl.NumberFormat(locale, { maximumFractionDigits });
  formats.set(key, known);
  return known;
}
