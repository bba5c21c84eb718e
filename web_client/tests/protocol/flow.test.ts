/** Flow control by itself: windows, ranges that are sent twice, streams and lanes, without a session. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import type { Bytes } from "../../src/protocol/codec";
import { HOLE, Stream, type Header } from "../../src/protocol/seal";
import {
  CongestionWindow,
  INITIAL_LIMIT,
  IncomingStream,
  MIN_RANGE,
  OutgoingStream,
  REINJECT_LANE_SECONDS,
  REINJECT_RANGE_SECONDS,
  RELAYED,
  Reinjection,
  SendingLanes,
  WEBRTC,
  WINDOW,
} from "../../src/protocol/session/flow";
import { MAX_LANES, MAX_LANE_NUMBER } from "../../src/protocol/session/messages";
import { TRANSFER } from "./pair";
import { broken } from "./refusals";

const LARGEST = MIN_RANGE;
const STRETCH = 8;
const MAX_UNACKNOWLEDGED = 512;

const header = (offset = 0, length = LARGEST, stream: Stream = Stream.DATA, flags = 0): Header => ({
  transferId: TRANSFER,
  stream,
  flags,
  offset,
  length,
});
const MESSAGE = new Uint8Array(4 * LARGEST);
const message = (length = LARGEST): Bytes => MESSAGE.subarray(0, length);
const flight = (offset = 0, when = 0, length = LARGEST) => ({
  header: header(offset, length),
  message: message(length),
  when,
});

// --- a lane's window --------------------------------------------------------------------------------

describe("a congestion window", () => {
  const fresh = (largest = LARGEST) => new CongestionWindow(largest, WEBRTC);

  test("lets an idle lane carry one range, always", () => {
    const window = fresh();
    expect(window.headroom()).toBe(LARGEST);
    window.sent(flight());
    expect(window.headroom()).toBe(0);
  });

  test("is widened by fast answers, up to what a recipient takes", () => {
    const window = fresh();
    for (let number = 0; number < (2 * WINDOW) / LARGEST; number++) {
      window.sent(flight(number));
      window.acknowledged(number + 1, 0.1);
    }
    expect(window.size).toBe(WINDOW);
    expect(window.headroom()).toBe(STRETCH * LARGEST);
  });

  test("is narrowed by slow answers once a second, and never below a range", () => {
    const window = fresh();
    window.size = WINDOW;
    for (let number = 0; number < 3; number++) window.sent(flight(number));
    window.acknowledged(2, 5);
    expect(window.size).toBe(Math.floor((WINDOW * 7) / 10));
    window.size = MIN_RANGE;
    window.acknowledged(3, 50);
    expect(window.size).toBe(MIN_RANGE);
  });

  test("is narrowed once a second and not in between", () => {
    const window = fresh(100_000);
    window.size = 10_000_000;
    for (const when of [0, 0, 0, 2]) window.sent(flight(0, when, 1));
    window.acknowledged(1, 2);
    expect(window.size).toBe(7_000_000);
    window.acknowledged(2, 2.1);
    expect(window.size).toBe(7_000_000);
    window.acknowledged(3, 0.7);
    expect(window.size).toBe(7_000_000);
  });

  test("stays as it is where answers are neither", () => {
    const window = fresh();
    window.sent(flight());
    window.acknowledged(1, 0.75);
    expect(window.size).toBe(MIN_RANGE);
  });

  test("gives a range an eighth of itself, between the least and the largest", () => {
    const window = fresh(4 * LARGEST);
    expect(window.length()).toBe(MIN_RANGE);
    window.size = 16 * LARGEST;
    expect(window.length()).toBe(2 * LARGEST);
    window.size = 16 * LARGEST + 8 * 4096 - 1;
    expect(window.length()).toBe(2 * LARGEST); // whole pages
    window.size = WINDOW;
    expect(window.length()).toBe(4 * LARGEST);
    expect(fresh(4096).length()).toBe(4096);
  });

  test("has no more ranges under way than an engine keeps", () => {
    const window = fresh();
    window.size = WINDOW;
    for (let number = 0; number < MAX_UNACKNOWLEDGED; number++) window.sent(flight(number, 0, 1));
    expect(window.headroom()).toBe(0);
    window.acknowledged(1, 0.75);
    expect(window.headroom()).toBe(LARGEST);
  });

  test.each([-1, 2])("takes no count of what was not sent: %i", (count) => {
    const window = fresh();
    window.sent(flight());
    expect(broken(() => window.acknowledged(count, 0))).toBe("ack_of_unsent_range");
  });

  test("gives back what is new, in order, and forgets it", () => {
    const window = fresh();
    const sent = [flight(0), flight(1), flight(2)];
    sent.forEach((one) => window.sent(one));
    expect(window.acknowledged(2, 0.1)).toEqual(sent.slice(0, 2));
    expect([window.arrived, window.movedAt]).toEqual([2, 0.1]);
    expect(window.acknowledged(2, 0.2)).toEqual([]);
    expect(window.movedAt).toBe(0.1);
    expect(window.acknowledged(3, 0.3)).toEqual(sent.slice(2));
    expect(window.movedAt).toBe(Infinity); // nothing is under way
    window.sent(flight(3, 7));
    expect(window.movedAt).toBe(7);
  });

  /** Send what may be sent. */
  const fly = (window: CongestionWindow, when: number) => {
    for (let room; (room = window.headroom());) {
      const length = window.length();
      for (let at = 0; at < room; at += length) window.sent(flight(at, when, length));
    }
  };

  test("settles at one smallest range on a slow path, and grows on a fast one", () => {
    const window = fresh(256 * 1024);
    let [now, count] = [0, 0];
    const land = (seconds: number) => {
      now += seconds;
      count += window.flights.length;
      window.acknowledged(count, now);
    };
    for (let i = 0; i < 60; i++) {
      fly(window, now);
      const queued = window.flights.reduce((sum, one) => sum + one.message.length, 0);
      expect(queued).toBeLessThanOrEqual(75_000); // a second and a half at 0.05 MB/s
      land(queued / 50_000);
    }
    expect(window.size).toBe(MIN_RANGE);
    for (let i = 0; i < 200; i++) {
      fly(window, now);
      land(0.01);
    }
    expect(window.size).toBeGreaterThan(WINDOW / 2);
    expect(window.length()).toBe(256 * 1024);
  });

  test("stays within its bounds, whatever is sent and answered when", () => {
    const step = fc.record({
      ranges: fc.nat({ max: 12 }),
      answered: fc.nat({ max: 12 }),
      seconds: fc.double({ min: 0, max: 3, noNaN: true }),
    });
    fc.assert(
      fc.property(
        fc.constantFrom(4096, 60_000, LARGEST, 250_000),
        fc.array(step, { maxLength: 200, size: "max" }),
        (largest, steps) => {
          const window = fresh(largest);
          let [now, sent, landed] = [0, 0, 0];
          for (const { ranges, answered, seconds } of steps) {
            for (let i = 0; i < ranges && window.headroom(); i++, sent++) {
              window.sent(flight(sent, now, window.length()));
            }
            now += seconds;
            landed = Math.min(sent, landed + answered);
            window.acknowledged(landed, now);
            expect(window.size).toBeGreaterThanOrEqual(MIN_RANGE);
            expect(window.size).toBeLessThanOrEqual(WINDOW);
            expect(window.length()).toBeLessThanOrEqual(largest);
            expect(window.length()).toBeGreaterThanOrEqual(Math.min(largest, MIN_RANGE));
            const under = window.flights.reduce((sum, one) => sum + one.message.length, 0);
            expect(window.flights).toHaveLength(sent - landed);
            expect(window["inFlight"]).toBe(under);
            if (!window.flights.length) expect(window.headroom()).toBeGreaterThan(0);
            else expect(window.headroom()).toBeLessThanOrEqual(Math.max(0, window.size - under));
          }
        },
      ),
    );
  });
});

// --- ranges that are sent twice ---------------------------------------------------------------------

describe("a range that is sent twice", () => {
  const waiting = (held: Reinjection): Header[] =>
    [...held["waiting"].values()].map(([one]) => one);

  test("waits for another lane where its own is gone, unless one has it", () => {
    const lost = new Reinjection();
    lost.sent(header());
    lost.dropped(flight());
    expect([lost.any, waiting(lost)]).toEqual([true, [header()]]);
    expect(lost.take()).toEqual([header(), message()]);
    expect([lost.any, lost.take()]).toEqual([false, null]);
    lost.sent(header());
    lost.sent(header());
    lost.dropped(flight());
    expect(lost.any).toBe(false);
  });

  test("is given away once, and not when it has arrived", () => {
    const held = new Reinjection();
    held.sent(header());
    expect(held.give(flight(), 10 * LARGEST)).toBe(true);
    expect(held.give(flight(), 10 * LARGEST)).toBe(false);
    expect(held.take()).not.toBeNull();
    held.sent(header());
    held.arrived(flight());
    expect(held.give(flight(), 10 * LARGEST)).toBe(false);
    held.dropped(flight()); // the other copy, which nobody needs
    expect(held.any).toBe(false);
  });

  test("counts: of a stream no more bytes are given than it has", () => {
    const held = new Reinjection();
    for (const offset of [0, LARGEST]) held.sent(header(offset));
    expect(held.give(flight(0), LARGEST)).toBe(true);
    expect(held.give(flight(LARGEST), LARGEST)).toBe(false);
  });

  test("waits no more once the recipient has written it", () => {
    const held = new Reinjection();
    const manifest = header(0, LARGEST, Stream.MANIFEST);
    for (const one of [header(0), header(LARGEST), manifest]) held.put(one, message());
    held.written(Stream.DATA, LARGEST);
    expect(waiting(held)).toEqual([header(LARGEST), manifest]);
  });

  test("waits no more once it came after all", () => {
    const held = new Reinjection();
    held.sent(header());
    held.give(flight(), LARGEST);
    held.arrived(flight());
    expect(held.any).toBe(false);
  });
});

// --- a stream ---------------------------------------------------------------------------------------

describe("an outgoing stream", () => {
  const ack = (written = 0, { limit = INITIAL_LIMIT, durable = 0, verified = 0 } = {}) => ({
    written,
    limit,
    durable,
    verified,
  });

  test("is sent in whole ranges up to its limit", () => {
    const out = new OutgoingStream(10 * INITIAL_LIMIT);
    const step = 3 * LARGEST;
    const plan = out.stretch(Stream.DATA, 10 * INITIAL_LIMIT, step);
    expect(plan!.length).toBe(Math.floor(INITIAL_LIMIT / step) * step);
    out.next = INITIAL_LIMIT - 1;
    expect(out.stretch(Stream.DATA, step, step)).toBeNull();
    const short = new OutgoingStream(100);
    expect(short.stretch(Stream.DATA, step, step)).toMatchObject({ offset: 0, length: 100 });
    short.next = 100;
    expect(short.stretch(Stream.DATA, step, step)).toBeNull();
  });

  test("that goes on begins where the recipient stands", () => {
    const out = new OutgoingStream(10 * INITIAL_LIMIT);
    out.begin(5 * LARGEST);
    expect(out.stretch(Stream.DATA, LARGEST, LARGEST)).toEqual({
      stream: Stream.DATA,
      offset: 5 * LARGEST,
      length: LARGEST,
      step: LARGEST,
    });
    expect(out.limit).toBe(5 * LARGEST + INITIAL_LIMIT);
  });

  test.each([
    ["written", ack(101)],
    ["durable", ack(100, { durable: 101 })],
    ["verified", ack(100, { durable: 50, verified: 51 })],
  ])("takes no ack of what was not sent: %s", (_, wrong) => {
    const out = new OutgoingStream(1000);
    out.next = 100;
    expect(broken(() => out.acknowledge(wrong))).toBe("ack_of_unsent_range");
  });

  test.each([
    ["written", ack(49, { durable: 40 })],
    ["limit", ack(50, { limit: 1, durable: 40 })],
    ["durable", ack(50, { durable: 39 })],
  ])("takes no ack that goes back: %s", (_, back) => {
    const out = new OutgoingStream(1000);
    out.next = 100;
    out.acknowledge(ack(50, { durable: 40 }));
    expect(broken(() => out.acknowledge(back))).toBe("ack_goes_back");
    expect(out).toMatchObject({ written: 50, durable: 40 });
  });

  test("tells what is news from what is not", () => {
    const out = new OutgoingStream(1000);
    out.next = 100;
    expect(out.acknowledge(ack(50))).toBe(true);
    expect(out.acknowledge(ack(50, { limit: 2 * INITIAL_LIMIT }))).toBe(false);
    expect(out.limit).toBe(2 * INITIAL_LIMIT);
    expect(out.acknowledge(ack(50, { limit: 2 * INITIAL_LIMIT, durable: 1 }))).toBe(true);
  });

  test("never plans past its end or its limit, and always something where it may", () => {
    const size = fc.integer({ min: 1, max: 4 * INITIAL_LIMIT });
    fc.assert(
      fc.property(size, size, size, fc.nat({ max: INITIAL_LIMIT }), (total, room, step, at) => {
        const out = new OutgoingStream(total);
        out.next = Math.min(at, total);
        const plan = out.stretch(Stream.DATA, room, step);
        const [rest, allowed] = [total - out.next, out.limit - out.next];
        if (plan) {
          expect(plan).toMatchObject({ offset: out.next, step });
          expect(plan.length).toBeGreaterThan(0);
          expect(plan.length).toBeLessThanOrEqual(Math.min(rest, allowed, room));
        } else expect(rest === 0 || step > allowed).toBe(true);
      }),
    );
  });
});

describe("an incoming stream", () => {
  test("takes a range once and bears few repeats", () => {
    const incoming = new IncomingStream(Stream.DATA, 100, 0);
    const taken = [0, 0, 0].map(() => incoming.admit(header(0, 100)));
    expect(taken).toEqual([true, false, false]);
    expect(broken(() => incoming.admit(header(0, 100)))).toBe("too_many_repeated_ranges");
  });

  test("takes nothing past the end or the limit but a hole that crosses it", () => {
    const incoming = new IncomingStream(Stream.DATA, 10 * INITIAL_LIMIT, 0);
    const admit = (...of: Parameters<typeof header>) => incoming.admit(header(...of));
    expect(broken(() => admit(10 * INITIAL_LIMIT, 1))).toBe("range_past_end");
    for (const [offset, length] of [
      [INITIAL_LIMIT, 1],
      [INITIAL_LIMIT - 1, 2],
    ]) {
      expect(broken(() => admit(offset, length))).toBe("range_beyond_limit");
    }
    expect(admit(0, 2 * INITIAL_LIMIT, Stream.DATA, HOLE)).toBe(true);
  });
});

// --- the lanes of a sender --------------------------------------------------------------------------

describe("the lanes of a sender", () => {
  /** Lanes of these ranks beside the connection's own, and a long stream. */
  const sending = (...ranks: number[]): SendingLanes => {
    const streams = new Map([[Stream.DATA, new OutgoingStream(100 * LARGEST)]]);
    const lanes = new SendingLanes(LARGEST, streams);
    for (const rank of ranks) lanes.add(lanes.number()!, rank);
    return lanes;
  };
  const send = (lanes: SendingLanes, number: number, offset: number, now = 0) =>
    lanes.sent(number, header(offset), message(), now);
  /** The offsets of what waits for another lane. */
  const waiting = ({ reinjection }: SendingLanes): number[] =>
    [...reinjection["waiting"].values()].map(([one]) => one.offset);

  test("have each number once, and there are only so many", () => {
    const lanes = sending(WEBRTC);
    lanes.drop(1);
    expect(lanes.number()).toBe(2);
    for (let number = 3; number <= MAX_LANE_NUMBER; number++) expect(lanes.number()).toBe(number);
    expect(lanes.number()).toBeNull();
  });

  test("are only so many at once", () => {
    expect(sending(...Array<number>(MAX_LANES - 1).fill(WEBRTC)).number()).toBeNull();
  });

  test("carry what was under way on one that goes", () => {
    const lanes = sending(WEBRTC);
    send(lanes, 1, 0);
    send(lanes, 1, LARGEST);
    lanes.drop(1);
    expect(waiting(lanes)).toEqual([0, LARGEST]);
    expect(lanes.movedAt).toBe(Infinity); // nothing is under way
    send(lanes, 1, 2 * LARGEST); // it was sealed when its lane went
    expect(waiting(lanes).at(-1)).toBe(2 * LARGEST);
  });

  test("count what was carried, and not what a gone one brought", () => {
    const lanes = sending(WEBRTC);
    for (const number of [0, 1]) send(lanes, number, number * LARGEST);
    lanes.drop(1);
    lanes.acknowledged(
      [
        [0, 1],
        [1, 1],
      ],
      1,
    );
    expect(lanes.carried).toBe(LARGEST);
    expect(broken(() => lanes.acknowledged([[2, 0]], 1))).toBe("ack_of_unknown_lane");
  });

  test("by a relay rest while another one brings something", () => {
    const lanes = sending(WEBRTC);
    lanes.rankOwn(RELAYED);
    const [own, other] = [0, 1].map((number) => lanes.windows.get(number)!);
    expect(lanes.rests(own!)).toBe(false); // it has brought nothing yet
    send(lanes, 1, 0);
    lanes.acknowledged([[1, 1]], 0.1);
    expect([own, other].map((one) => lanes.rests(one!))).toEqual([true, false]);
    lanes.retire(1);
    expect([other!.works, lanes.rests(own!)]).toEqual([false, false]);
    lanes.drop(1);
    expect(lanes.rests(own!)).toBe(false);
  });

  test("give all that stalls on one to the others, once", () => {
    const lanes = sending(WEBRTC);
    for (const offset of [0, LARGEST]) send(lanes, 1, offset);
    expect(lanes.deadline()).toBe(REINJECT_LANE_SECONDS);
    lanes.stall(REINJECT_LANE_SECONDS - 0.1);
    expect(waiting(lanes)).toEqual([]);
    lanes.stall(REINJECT_LANE_SECONDS);
    expect(waiting(lanes)).toEqual([0, LARGEST]);
    expect([lanes.windows.get(1)!.works, lanes.deadline()]).toEqual([false, Infinity]);
    lanes.acknowledged([[1, 1]], 4);
    expect(lanes.windows.get(1)!.works).toBe(true); // it brings something again
  });

  test("have nobody to give anything to where there is one alone", () => {
    const lanes = sending();
    send(lanes, 0, 0);
    lanes.stall(100);
    expect([lanes.reinjection.any, lanes.deadline()]).toEqual([false, Infinity]);
  });

  test("that idle help with one old range of each other", () => {
    const lanes = sending(WEBRTC, WEBRTC);
    const idle = lanes.windows.get(2)!;
    for (const [number, offset] of [
      [0, 0],
      [0, LARGEST],
      [1, 2 * LARGEST],
    ]) {
      send(lanes, number!, offset!);
    }
    lanes.help(idle, REINJECT_RANGE_SECONDS / 2);
    expect(waiting(lanes)).toEqual([]);
    lanes.help(idle, REINJECT_RANGE_SECONDS);
    expect(waiting(lanes)).toEqual([0, 2 * LARGEST]);
    lanes.help(idle, REINJECT_RANGE_SECONDS);
    expect(waiting(lanes).at(-1)).toBe(LARGEST);
  });

  test("lose nothing and repeat no more than a recipient bears, whatever becomes of them", () => {
    const step = fc.tuple(
      fc.constantFrom("send", "arrive", "stall", "help", "drop", "add", "repeat"),
      fc.nat({ max: 7 }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150, size: "max" }), (steps) => {
        const [lanes, ranges] = [sending(WEBRTC, WEBRTC), 30];
        const total = 100 * LARGEST;
        const [queues, carried] = [new Map<number, number[]>(), new Map<number, number>()];
        const arrived = new Set<number>();
        let [next, now] = [0, 0];
        const carry = (lane: number, offset: number) => {
          send(lanes, lane, offset, now);
          queues.set(lane, [...(queues.get(lane) ?? []), offset]);
        };
        const arrive = (lane: number) => {
          const offset = queues.get(lane)?.shift();
          if (offset === undefined) return;
          arrived.add(offset);
          carried.set(lane, (carried.get(lane) ?? 0) + 1);
          lanes.acknowledged([[lane, carried.get(lane)!]], now);
        };
        const again = (lane: number) => {
          const range = lanes.reinjection.take();
          if (range) carry(lane, range[0].offset);
          return range !== null;
        };
        for (const [what, number] of steps) {
          const open = [...lanes.windows.keys()];
          const lane = open[number % open.length]!;
          now += 0.5;
          if (what === "send" && next < ranges) carry(lane, next++ * LARGEST);
          else if (what === "arrive") arrive(lane);
          else if (what === "stall") lanes.stall(now);
          else if (what === "help") lanes.help(lanes.windows.get(lane)!, now);
          else if (what === "repeat") again(lane);
          else if (what === "add" && open.length < 5) lanes.add(lanes.number()!, WEBRTC);
          else if (what === "drop" && open.length > 1) {
            lanes.drop(lane);
            queues.delete(lane);
          }
        }
        const [last] = lanes.windows.keys();
        while (again(last!));
        for (const lane of lanes.windows.keys()) while (queues.get(lane)?.length) arrive(lane);
        while (again(last!)) arrive(last!);
        expect(arrived.size).toBe(next); // everything that was sent
        expect(lanes.movedAt).toBe(Infinity);
        const given = lanes.reinjection["repeated"].get(Stream.DATA) ?? 0;
        expect(given).toBeLessThanOrEqual(total);
        const kept = (["copies", "given", "got", "waiting"] as const).map(
          (name) => lanes.reinjection[name].size,
        );
        expect(kept).toEqual([0, 0, 0, 0]);
      }),
    );
  });
});
