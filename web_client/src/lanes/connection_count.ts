/**
 * How many WebRTC connections a transfer is worth: more, as long as that raises the rate (mirrors
 * `p2p/lanes/connection_count.py`, without the leaps: a page does not know how busy its processor is).
 *
 * One connection's rate falls with loss and distance (Mathis et al., 1997: MSS / (RTT x sqrt(loss))); several
 * together fill the path. Where the processor is the limit, more of them only cost. Nobody knows which it
 * is, so it is tried, and what does not help is undone.
 */
const STEPS = [1, 4, 8];
const [SETTLE_SECONDS, MEASURE_SECONDS] = [1, 1.5];
const OPEN_SECONDS = 4; // for new connections, before it is measured without those that are missing
const WORTH = 1.1; // a step that raises the rate by less is undone
const [HOLD_SECONDS, LONGEST_HOLD_SECONDS] = [15, 240]; // before the next try after one that failed

/** Looks at the rate now and then, and says how many connections to have, 1 to 8. */
export class ConnectionCount {
  private at = 0; // index of what is wanted
  private before: number | null = null; // the rate one step lower, while a step is on trial
  private askedAt = -Infinity;
  private heldUntil = -Infinity;
  private hold = HOLD_SECONDS;
  private count = 1;
  private from: [at: number, carried: number] = [Infinity, 0]; // when this measurement begins or began
  private began = false;

  /** `carried` bytes have arrived so far, and `there` connections are open. */
  look(now: number, carried: number, there: number): number {
    const wanted = STEPS[this.at]!;
    if (there !== this.count || this.from[0] === Infinity) {
      [this.count, this.from, this.began] = [there, [now + SETTLE_SECONDS, 0], false];
    }
    if (there < wanted && now - this.askedAt < OPEN_SECONDS) return wanted;
    if (now < this.from[0]) return wanted;
    if (!this.began) {
      [this.from, this.began] = [[now, carried], true];
    } else if (now - this.from[0] >= MEASURE_SECONDS) {
      const rate = (carried - this.from[1]) / (now - this.from[0]);
      this.from = [now, carried];
      this.judge(rate, now);
    }
    return STEPS[this.at]!;
  }

  private judge(rate: number, now: number): void {
    if (this.before !== null && rate < this.before * WORTH) {
      this.at--;
      this.heldUntil = now + this.hold;
      this.hold = Math.min(2 * this.hold, LONGEST_HOLD_SECONDS);
    } else if (this.at + 1 < STEPS.length && rate && now >= this.heldUntil) {
      this.at++;
      [this.before, this.askedAt] = [rate, now];
      return;
    }
    this.before = null;
  }
}
