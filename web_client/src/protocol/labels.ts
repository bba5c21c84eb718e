/**
 * What a peer calls itself: how it is shown, and which labels a person takes for each other (mirrors
 * `labels.py`).
 */
import confusables from "../../../p2p/protocol/confusables.json";
import { shown } from "./paths";

// White space, and what is drawn as nothing though Unicode counts it among symbols and letters.
const BLANK =
  /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2800\u3000\u{13441}\u{13442}\u{16fe4}\u{1d159}]+/gu;
// Default_Ignorable_Code_Point (UAX #44): nothing is drawn for these.
export const INVISIBLE =
  /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;
// Marks that go on any letter (the five blocks of combining diacritical marks, and Cyrillic ones).
const MARK = /[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]/gu;
const QUOTE =
  /["\u00ab\u00bb\u02ba\u02ee\u02dd\u02f6\u05f4\u201c-\u201f\u2033\u2036\u275d\u275e\u301d-\u301f\uff02]/gu;

let table: Map<string, string> | null = null; // character by what it looks like

/** A label made safe to show between quotation marks: nothing unseen, single blanks, no such mark. */
export function shownLabel(text: string, limit?: number): string {
  const seen = text.replace(INVISIBLE, "").replace(BLANK, " ").trim();
  return shown(seen.replace(QUOTE, "'"), limit);
}

/** Whether a person might take one for the other. */
export function alike(one: string, other: string): boolean {
  const theirs = skeletons(other);
  return skeletons(one).some((key, index) => key === theirs[index]);
}

/** Three keys; labels are alike if any is the same: as it is written, in small letters, in capitals. */
export function skeletons(label: string): [string, string, string] {
  const plain = label.replace(INVISIBLE, "").normalize("NFKC");
  const capitals = Array.from(plain, (character) => character.toUpperCase()).join("");
  return [
    skeleton(fold(skeleton(label))),
    skeleton(fold(plain)),
    skeleton(fold(skeleton(capitals))),
  ];
}

/** Without case. */
function fold(text: string): string {
  const small = (character: string) => character.toLowerCase().toUpperCase().toLowerCase();
  return Array.from(text, small).join("");
}

function skeleton(text: string): string {
  const seen = text.normalize("NFD").replace(INVISIBLE, "");
  const like = Array.from(seen, look).join("").normalize("NFD");
  return like.replace(MARK, "").replace(BLANK, "");
}

/** What a character looks like. */
function look(character: string): string {
  table ??= new Map(
    Object.entries(confusables.alike).flatMap(([target, sources]) =>
      Array.from(sources, (source): [string, string] => [source, target]),
    ),
  );
  const known = table.get(character);
  if (known !== undefined) return known;
  return Array.from(character.normalize("NFKD"), (part) => table!.get(part) ?? part).join("");
}
