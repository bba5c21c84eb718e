/** Rates over the last few seconds. */
import { clock } from "../clock";

const RATE_SECONDS = 5; // what a rate is averaged over

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
