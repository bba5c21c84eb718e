/** What an operator asks, in the catalogue's words. */
import type { policy } from "../../../../p2p/protocol/sentences/en.json";

export const policyWords = (words: Record<keyof typeof policy, string>) => ({
  ...words,
  operator: (name: string) => words.operator.replace("{name}", () => name),
});
