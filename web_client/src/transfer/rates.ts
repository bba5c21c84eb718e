/** How fast a transfer goes, and what holds it up. */
import { clock } from "../clock";
import type { HeldUpBy } from "../events";
import type { Bottleneck } from "../protocol/session";

const RATE_SECONDS = 5; // what a rate is averaged over
const SURE_SECONDS = 2; // before it is said what holds a transfer up

/** Of a value that only grows, a second. */
export class Rate {
  private readonly seen: [number, number][] = [];

  of(value: number): number {
    const now = clock();
    this.seen.push([now, value]);
    while (now - this.seen[0]![0] > RATE_SECONDS) this.seen.shift();
    const [since, first] = this.seen[0]!;
    return now > since ? (value - first) / (now - since) : 0;
  }
}

/** What held a transfer up over the last few seconds (mirrors `p2p/transfer/rates.py`). */
export class Waits {
  /** What the peer says holds it up. */
  peer: Bottleneck = "";
  private readonly began = clock();
  private seen: [ended: number, what: Bottleneck, seconds: number][] = [];
  private readonly now = new Map<object, [what: Bottleneck, began: number]>();

  /** Count the time until this is done. */
  async on<T>(what: Bottleneck, work: Promise<T>): Promise<T> {
    const began = clock();
    this.now.set(work, [what, began]);
    try {
      return await work;
    } finally {
      this.now.delete(work);
      const ended = clock();
      this.seen.push([ended, what, ended - began]);
    }
  }

  /** What took more than half of the time of this side, if anything did. */
  own(): Bottleneck {
    const now = clock();
    if (now - this.began < SURE_SECONDS) return "";
    this.seen = this.seen.filter(([ended]) => now - ended <= RATE_SECONDS);
    const sums = new Map<Bottleneck, number>();
    const add = (what: Bottleneck, seconds: number) =>
      sums.set(what, (sums.get(what) ?? 0) + seconds);
    this.seen.forEach(([, what, seconds]) => add(what, seconds));
    for (const [what, began] of this.now.values()) add(what, Math.min(now - began, RATE_SECONDS));
    const half = Math.min(now - this.began, RATE_SECONDS) / 2;
    const [most] = [...sums].filter(([what, s]) => what && s > half).sort((a, b) => b[1] - a[1]);
    return most?.[0] ?? "";
  }

  /** The same of both sides: what a side knows of itself goes before what it sees of the other. */
  most(): HeldUpBy {
    const own = this.own();
    if (own === "disk") return own;
    return PEERS[this.peer] ?? own;
  }
}

const PEERS: { readonly [by in Bottleneck]?: HeldUpBy } = {
  disk: "other_disk",
  limit: "other_limit",
  network: "network",
};
