/** The one rule for names that come from elsewhere, and how to show them (mirrors `paths.py`). */
import { utf8 } from "./codec";

export const MAX_SEGMENT = 255; // bytes: NAME_MAX of every common file system
export const MAX_PATH = 1024; // bytes: PATH_MAX of macOS, the smallest of the Unix ones
export const MAX_SEGMENTS = 64;
export const MAX_SHOWN = 64; // characters of a foreign string that a line gets

const RESERVED = /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])$/i;
// Windows forbids these; `:` would also name an alternate data stream there.
// eslint-disable-next-line no-control-regex
const NO_TEXT = /[\udc80-\udcff]/u; // bytes that are not UTF-8
const FORBIDDEN = /[\u0000-\u001f\u007f-\u009f<>:"|?*\\/]/g;
// Shown escaped though allowed in names: format characters, bidi controls among them.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/u;

/** A path that must not be used. The message is why, a code of the catalogue under `detail`. */
export class UnsafePath extends Error {}

/** Windows reserves `NUL`, `nul.txt` and even `NUL .txt`. */
function reserved(segment: string): boolean {
  return RESERVED.test(segment.split(".")[0]!.replace(/ +$/, ""));
}

/** Throws `UnsafePath` unless the name is safe everywhere. */
export function checkSegment(segment: string): void {
  if (segment === "" || segment === "." || segment === "..") {
    throw new UnsafePath("path_part");
  }
  if (!segment.isWellFormed()) throw new UnsafePath("not_unicode");
  if (utf8(segment).length > MAX_SEGMENT) throw new UnsafePath("name_too_long");
  if (segment.search(FORBIDDEN) >= 0) throw new UnsafePath("forbidden_character");
  if (/[ .]$/.test(segment)) throw new UnsafePath("trailing_dot_or_space");
  if (reserved(segment)) throw new UnsafePath("reserved_name");
}

/** The segments of a safe relative path. Throws `UnsafePath`. */
export function checkPath(path: string): string[] {
  const segments = path.split("/");
  segments.forEach(checkSegment);
  if (utf8(path).length > MAX_PATH || segments.length > MAX_SEGMENTS) {
    throw new UnsafePath("path_too_long");
  }
  return segments;
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

/** Full case folding of one character; JavaScript has upper and lower case only. */
function fold(character: string): string {
  // U+0131 would meet `i` by way of `I`, which folding keeps apart.
  if (character === "\u0131") return character;
  return character.toLowerCase().toUpperCase().toLowerCase();
}

/** Equal for two paths that some file system would take for one: NFKC and case folding. */
export function collisionKey(path: string): string {
  const folded = Array.from(path.normalize("NFKC"), fold).join("");
  return folded.normalize("NFKC");
}

/**
 * Pairs of paths that fall together; given (path, is a directory), parents are implied.
 *
 * A file and a directory of one name collide, and so do `A/x` and `a/y`: their parents would.
 */
export function collisions(paths: Iterable<[string, boolean]>): [string, string][] {
  const seen = new Map<string, { path: string; directory: boolean; listed: boolean }>();
  const implied = new Set<string>();
  const pairs: [string, string][] = [];
  const meet = (path: string, directory: boolean, listed: boolean) => {
    const key = collisionKey(path);
    const known = seen.get(key) ?? { path, directory, listed: false };
    seen.set(key, known);
    if (known.path !== path || known.directory !== directory || (listed && known.listed)) {
      pairs.push([known.path, path]);
    }
    known.listed ||= listed;
  };
  for (const [path, directory] of paths) {
    for (let end = path.indexOf("/"); end >= 0; end = path.indexOf("/", end + 1)) {
      const parent = path.slice(0, end);
      if (!implied.has(parent)) {
        implied.add(parent);
        meet(parent, true, false);
      }
    }
    meet(path, directory, true);
  }
  return pairs;
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
