/** Everything a person reads: the languages in `messages/`. No other file of the page holds a sentence. */
import { de } from "./messages/de";
import { en } from "./messages/en";

export type { Messages } from "./messages/en";
export { size } from "./messages/numbers";

export const LANGUAGES = { en, de };
export type Language = keyof typeof LANGUAGES;

/** The language of the browser, where it is one of ours; English otherwise. */
export function preferred(languages: readonly string[]): Language {
  for (const tag of languages) {
    const found = tag.slice(0, 2).toLowerCase();
    if (found in LANGUAGES) return found as Language;
  }
  return "en";
}
