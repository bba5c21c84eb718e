/**
 * Two sides that die at any write, over a network that is cut, and a stranger who replays.
 *
 * What each side has on its disk survives, nothing else does. Both come to an end, the bytes are the
 * sender's, exactly one receipt was countersigned, and no signature was ever made over two receipts.
 */
import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test } from "vitest";

import { fromUtf8, type Bytes } from "../../src/protocol/codec";
import { Failure, HandoverError } from "../../src/protocol/errors";
import { Results } from "../../src/protocol/manifest";
import { RELAYED, WEBRTC, type Event } from "../../src/protocol/session";
import { Both, type Role } from "./both";
import { signReceipt, type Content } from "./pair";

beforeAll(() => sodium.ready);

/** A side died, just before or just after a write became durable. */
class Crash extends Error {
  constructor(readonly role: Role) {
    super(role);
  }
}

/** `Both`, with disks that outlive a side, and the program around the sessions that starts it again. */
class World extends Both {
  readonly signed = new Set<string>(); // payloads that the recipient has signed
  readonly stale: { to: Role; frame: Bytes }[] = []; // control frames of earlier sessions
  stable = new Map<number, Bytes>(); // the recipient's disk, as a restart finds it
  senderEnded = false;
  fuel = Infinity; // durable writes until the next crash
  // The recipient's journal.
  private kept = 0; // bytes of the tape
  private placing = false;
  receipt: { payload: Bytes; signature: Bytes; results: Results } | null = null;

  protected override durably(role: Role, write: () => void): void {
    if (--this.fuel === 0) throw new Crash(role);
    write();
    if (--this.fuel === 0) throw new Crash(role);
  }

  /**
   * Whether the receipts are whole, or nobody is there any more to countersign: the recipient then ends
   * unconfirmed, with its half.
   */
  get done(): boolean {
    return this.confirmed || (this.senderEnded && this.receipt !== null);
  }

  protected override atSender(event: Event): void {
    this.senderEnded ||= event.type === "ended";
    super.atSender(event);
  }

  // --- the recipient

  override accept(): boolean {
    if (this.recipient.state !== "deciding" || !this.receipt) return super.accept(this.kept);
    this.recipient.read(this.manifest, this.tape);
    this.present();
    return true;
  }

  override sync(): boolean {
    const { frontier, state } = this.recipient;
    if (state !== "receiving" || frontier === this.kept) return super.sync();
    this.durably("recipient", () => (this.stable = new Map(this.disk)));
    this.durably("recipient", () => (this.kept = frontier));
    return super.sync();
  }

  protected override finish(digests: Bytes): void {
    this.files.forEach((content, entry) => {
      if (content !== null) expect(this.arrived(entry, this.stable)).toBe(true);
    });
    this.durably("recipient", () => (this.placing = true));
    const results = Results.decode(digests, this.manifest);
    const payload = this.payload(results);
    this.signed.add(fromUtf8(payload));
    const signature = signReceipt(this.people.recipient, payload);
    this.durably("recipient", () => (this.receipt = { payload, signature, results }));
    this.present();
  }

  private present(): void {
    expect(this.placing).toBe(true);
    const { payload, signature, results } = this.receipt!;
    this.recipient.finish(results, [], payload, signature, this.now);
    this.flush();
  }

  // --- ends of sessions

  /** The connection breaks, and the dead are started again; then a new session, if there is to be one. */
  async lose(...dead: Role[]): Promise<void> {
    this.fuel = Infinity;
    for (const role of ["sender", "recipient"] as const) {
      if (dead.includes(role)) continue;
      try {
        this[role].lost();
      } catch (error) {
        expect(error).toBeInstanceOf(Failure);
      }
    }
    for (const event of this.sender.events()) this.senderEnded ||= event.type === "ended";
    for (const to of ["sender", "recipient"] as const) {
      this.stale.push(...this.queues[to].map((frame) => ({ to, frame })));
    }
    if (this.done || this.senderEnded) return;
    const restarted = dead.includes("sender");
    const noted = this.noted && Results.recall(this.noted, this.files.length);
    if (dead.includes("recipient")) {
      this.disk.clear();
      for (const [at, payload] of this.stable) this.disk.set(at, payload);
    }
    this.reconnect(this.kept, restarted ? noted : this.sender.results);
    this.stable = new Map(this.disk);
    await this.offer();
  }

  /** One step; whoever dies in it is started again, whoever is deceived connects anew. */
  async attempt(step: () => unknown): Promise<boolean> {
    if (this.done) return false;
    try {
      const did = await step();
      await this.settled();
      return Boolean(did);
    } catch (error) {
      if (error instanceof Crash) await this.lose(error.role);
      else if (error instanceof HandoverError) await this.lose();
      else throw error;
      return true;
    }
  }

  /** One round of what can be done; whether anything was. */
  async goOn(): Promise<boolean> {
    let any = false;
    for (const step of this.steps()) any = (await this.attempt(step)) || any;
    return any;
  }

  /** Everything in the obvious order until it has ended. */
  async drive(): Promise<void> {
    for (let rounds = 0; rounds < 20_000; rounds++) {
      if (this.done) return;
      if (!(await this.goOn())) await this.attempt(() => this.tick());
    }
    throw new Error("it does not end");
  }
}

const content: fc.Arbitrary<Content> = fc.oneof(
  fc.constant(null),
  fc.uint8Array({ maxLength: 30 }),
  fc
    .integer({ min: 100, max: 300_000 })
    .map((length) => new Uint8Array(length).fill(1 + (length % 251))),
);

/** What may happen next; `n` is any number below 1,000. */
const STEPS: { readonly [name: string]: (world: World, n: number) => unknown } = {
  "go on": async (world, n) => {
    for (let i = 0; i <= n % 8; i++) {
      await world.goOn();
      await world.attempt(() => world.tick());
    }
  },
  "slow disk": (world) => (world.slowDisk = true),
  "fast disk": (world) => (world.slowDisk = false),
  "add a lane": (world, n) => {
    const may = !world.done && world.mayAddLane && world.lanes.size < 4;
    return may && world.attempt(() => world.addLane(n % 2 ? WEBRTC : RELAYED));
  },
  "drop a lane": (world) => {
    const last = [...world.lanes.keys()].at(-1)!;
    return last && world.attempt(() => world.dropLane(last));
  },
  cut: (world) => world.attempt(() => world.lose()),
  "the sender dies": (world) => world.attempt(() => world.lose("sender")),
  "the recipient dies": (world) => world.attempt(() => world.lose("recipient")),
  "both die": (world) => world.attempt(() => world.lose("sender", "recipient")),
  "die at a write": (world, n) => (world.fuel = 1 + (n % 12)),
  /** A frame of an earlier session can only end this one. */
  replay: (world, n) => {
    const one = world.stale[n % world.stale.length];
    if (one) world.queues[one.to].unshift(one.frame);
  },
};
const step = fc.tuple(
  fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom("go on", "die at a write") },
    { weight: 2, arbitrary: fc.constantFrom(...Object.keys(STEPS)) },
  ),
  fc.nat({ max: 999 }),
);

test("whoever dies when, both end with the same bytes and one receipt", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(content, { minLength: 1, maxLength: 5 }),
      fc.constantFrom(4096, 250_000),
      fc.array(step, { maxLength: 30, size: "max" }),
      async (files, largest, steps) => {
        const world = new World(files, { largest });
        await world.offer();
        for (const [name, n] of steps) await STEPS[name]!(world, n);
        world.fuel = Infinity;
        world.slowDisk = false;
        await world.drive();
        const countersigned = new Set(world.receipts.map(({ payload }) => fromUtf8(payload)));
        expect([...countersigned]).toEqual([fromUtf8(world.receipt!.payload)]);
        expect(world.signed).toContain([...countersigned][0]);
        for (const { ending } of world.saw("sender", "ended")) expect(ending).toBe("complete");
        files.forEach((content, entry) => {
          if (content !== null) expect(world.arrived(entry, world.stable)).toBe(true);
        });
      },
    ),
    { numRuns: 500 },
  );
});
