/** The one rule for names that come from elsewhere, and how to show them (mirrors `paths.py`). */
import { atOnce, encodeBase64url, sha256, utf8 } from "./codec";

export const MAX_SEGMENT = 255; // bytes: NAME_MAX of every common file system
const MAX_DECOMPOSED = 3 * MAX_SEGMENT; // bytes in NFKD: NFD takes thrice as many, U+FDFA eleven times
const MAX_MARKS = 30; // in a row (UAX #15, Stream-Safe Text Format): sorting them takes quadratic time
export const MAX_PATH = 1024; // bytes: PATH_MAX of macOS, the smallest of the Unix ones
export const MAX_SEGMENTS = 64;
export const MAX_NAMES = 200_000; // in one tree: bounded time, however deep the paths
export const MAX_NON_ASCII = 16 * 2 ** 20; // bytes of the names of one tree: what is slow to normalize
export const MAX_SHOWN = 64; // characters of a foreign string that a line gets

const RESERVED = /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])$/i;
// Windows forbids these; `:` would also name an alternate data stream there.
// eslint-disable-next-line no-control-regex
const ASCII = /[\u0000-\u007f]+/g;
const NO_TEXT = /[\udc80-\udcff]/u; // bytes that are not UTF-8
const FORBIDDEN = /[\u0000-\u001f\u007f-\u009f<>:"|?*\\/]/g;
const TOO_MANY_MARKS = new RegExp(`(?<!\\p{M})\\p{M}{${MAX_MARKS + 1}}`, "u"); // looked for once a run
// Shown escaped though allowed in names: format characters, bidi controls among them.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/u;

/** A path that must not be used. `code` says why, a code of the catalogue under `detail`. */
export class UnsafePath extends Error {
  constructor(
    readonly code: string,
    readonly path = "", // the whole path, where there is more than a segment
  ) {
    super(code);
  }
}

/** Two paths that some file system would take for one. */
export class NamesCollide extends Error {
  constructor(readonly pair: readonly [string, string]) {
    super();
  }
}

/** A tree of more than `MAX_NAMES` files and folders, or `MAX_NON_ASCII` bytes in their names. */
export class TooManyNames extends Error {}

/** Whether it takes more than so many bytes in UTF-8. */
const exceeds = (text: string, limit: number): boolean =>
  text.length * 3 > limit && utf8(text).length > limit;

/** Windows reserves `NUL`, `nul.txt` and even `NUL .txt`. */
function reserved(segment: string): boolean {
  return RESERVED.test(segment.split(".")[0]!.replace(/ +$/, ""));
}

/** What a safe name is compared by (`collisionKey`). Throws `UnsafePath`. */
export function checkSegment(segment: string): string {
  if (segment === "" || segment === "." || segment === "..") {
    throw new UnsafePath("path_part");
  }
  if (!segment.isWellFormed()) throw new UnsafePath("not_unicode");
  if (exceeds(segment, MAX_SEGMENT)) throw new UnsafePath("name_too_long");
  if (segment.search(FORBIDDEN) >= 0) throw new UnsafePath("forbidden_character");
  if (/[ .]$/.test(segment)) throw new UnsafePath("trailing_dot_or_space");
  if (reserved(segment)) throw new UnsafePath("reserved_name");
  if (TOO_MANY_MARKS.test(segment)) throw new UnsafePath("too_many_marks");
  const decomposed = segment.normalize("NFKD");
  if (exceeds(decomposed, MAX_DECOMPOSED)) throw new UnsafePath("name_grows");
  return fold(decomposed);
}

/**
 * A safe name as like the given one as can be: what is not allowed becomes `_`.
 *
 * Bytes that are not UTF-8, as Python gives them (U+DC80 to U+DCFF), become `%E9` and so on, and a `%` in
 * such a name `%25`. What has become too long is cut off at its end. Throws `UnsafePath`.
 */
export function escapeSegment(segment: string): string {
  let safe = segment;
  if (segment !== "" && segment !== "." && segment !== "..") {
    if (NO_TEXT.test(safe)) {
      safe = safe.replaceAll("%", "%25");
      const escaped = (byte: string) => (byte.charCodeAt(0) - 0xdc00).toString(16).toUpperCase();
      safe = safe.replace(new RegExp(NO_TEXT, "gu"), (byte) => `%${escaped(byte)}`);
    }
    safe = endSafely(safe.replace(FORBIDDEN, "_"));
    if (reserved(safe)) safe = `_${safe}`;
    if (safe !== segment) safe = cutOff(safe);
  }
  checkSegment(safe);
  return safe;
}

/** Each trailing space or dot becomes `_`. */
function endSafely(name: string): string {
  const stripped = name.replace(/[ .]+$/, "");
  return stripped + "_".repeat(name.length - stripped.length);
}

function cutOff(name: string): string {
  const characters = [...name];
  while (utf8(characters.join("")).length > MAX_SEGMENT) characters.pop();
  return endSafely(characters.join(""));
}

/** Equal for two names that some file system would take for one: NFKD and case folding. */
export const collisionKey = (name: string): string => fold(name.normalize("NFKD"));

/** Full case folding, and NFKD again; JavaScript has upper and lower case only. */
function fold(decomposed: string): string {
  // U+0131 would meet `i` by way of `I`, which folding keeps apart.
  const parts = decomposed.split("\u0131");
  const folded = parts.map((part) => part.toLowerCase().toUpperCase().toLowerCase());
  // A sigma is the same wherever in a word it stands.
  return folded.join("\u0131").replaceAll("\u03c2", "\u03c3").normalize("NFKD");
}

/**
 * The names in one folder, kept apart: one that some file system would take for an earlier one gets a
 * number, `scan~2.dcm`.
 */
export class FolderNames {
  private readonly numbers = new Map<string, number>(); // what a name is compared by -> its last number

  /** A safe name, or the one it gets. */
  add(name: string, directory: boolean): string {
    const key = collisionKey(name);
    let [given, number] = [name, this.numbers.get(key) ?? 0];
    const dot = directory ? -1 : name.lastIndexOf(".");
    let taken = key;
    while (this.numbers.has(taken)) {
      number = Math.max(number, 1) + 1;
      const stem = dot < 0 ? "" : name.slice(0, dot);
      const ending = dot < 0 ? "" : name.slice(dot);
      given = fit(stem, `~${number}${ending}`) || fit(name, `~${number}`);
      taken = collisionKey(given);
    }
    this.numbers.set(key, number);
    if (!this.numbers.has(taken)) this.numbers.set(taken, 1);
    return given;
  }
}

/** Both, the stem cut to what a name may have; "" where nothing is left of it. */
function fit(stem: string, end: string): string {
  const characters = [...stem];
  while (characters.length && utf8(characters.join("") + end).length > MAX_SEGMENT)
    characters.pop();
  return characters.length ? characters.join("") + end : "";
}

/** A folder of a path, with `/` at its end; digest of the key of what lies in it -> who named it. */
interface Folder {
  readonly path: string;
  readonly names: Map<string, string>;
}

/**
 * Hold all paths of a tree against the rule for names; those of directories with `/` at their end.
 *
 * Parents are implied. A file and a directory of one name collide, and so do `A/x` and `a/y`: their
 * parents would. Throws `UnsafePath`, `NamesCollide`, `TooManyNames`.
 */
export const checkTree = (paths: Iterable<string>): void => atOnce(checkTreeInSteps(paths));

/** The same, a path with each step. */
export function* checkTreeInSteps(paths: Iterable<string>): Generator<void, void> {
  // In this order what lies in a folder comes in one go, itself first: so every name is looked at
  // once, and only of the folders above it has anything to be kept.
  const above: Folder[] = [{ path: "", names: new Map() }];
  let [count, nonAscii, last] = [0, 0, ""];
  for (const path of Array.from(paths).sort()) {
    yield;
    if (!path) throw new UnsafePath("path_part");
    if (path === last) throw new NamesCollide([upTo(path, 0), upTo(path, 0)]);
    last = path;
    while (!path.startsWith(above.at(-1)!.path)) above.pop();
    for (let at = above.at(-1)!.path.length; at < path.length;) {
      const here = upTo(path, at);
      nonAscii += utf8(here.slice(at).replace(ASCII, "")).length;
      if (++count > MAX_NAMES || nonAscii > MAX_NON_ASCII) throw new TooManyNames();
      const { names } = above.at(-1)!;
      const key = keyOf(path, here, at, above.length);
      const other = names.get(key);
      if (other !== undefined) throw new NamesCollide([upTo(other, at), here]);
      names.set(key, path);
      at = here.length + 1;
      if (at <= path.length) above.push({ path: path.slice(0, at), names: new Map() });
    }
  }
}

/** A path up to the end of the name that begins at `at`. */
function upTo(path: string, at: number): string {
  const end = path.indexOf("/", at);
  return end < 0 ? path : path.slice(0, end);
}

/** Digest of what a name is compared by: names of any length take the same room. */
function keyOf(path: string, here: string, at: number, depth: number): string {
  try {
    if (exceeds(here, MAX_PATH) || depth > MAX_SEGMENTS) throw new UnsafePath("path_too_long");
    return encodeBase64url(sha256(utf8(checkSegment(here.slice(at)))));
  } catch (reason) {
    throw new UnsafePath((reason as UnsafePath).code, path);
  }
}

/** A foreign string made safe to show: unseen characters as `\u{..}`; a long one loses its middle. */
export function shown(text: string, limit = MAX_SHOWN): string {
  const clean = Array.from(text).flatMap((character) =>
    UNSEEN.test(character)
      ? Array.from(`\\u{${character.codePointAt(0)!.toString(16)}}`)
      : [character],
  );
  if (clean.length <= limit) return clean.join("");
  const head = Math.floor(limit / 2) - 1;
  return [...clean.slice(0, head), "…", ...clean.slice(clean.length - (limit - head - 1))].join("");
}
