/** Lanes by HTTPS: cutting a body into messages, fetching a lane, and the connection's two sockets. */
import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { afterEach, beforeAll, expect, test, vi } from "vitest";

import type { HttpsCall } from "../../src/events";
import { PASSED_ON } from "../../src/lanes/channel";
import { HttpsConnections, laneUrl } from "../../src/lanes/https/connection";
import { Messages, fetchLane } from "../../src/lanes/https/fetched";
import { RecipientMultipath } from "../../src/lanes/multipath";
import type { Bytes } from "../../src/protocol/codec";
import { MAX_MESSAGE_SIZE } from "../../src/protocol/signal";

beforeAll(() => sodium.ready);
afterEach(() => vi.unstubAllGlobals());

const TOKEN = new Uint8Array(32).fill(0xfb);

function bodyOf(messages: readonly Bytes[]): Bytes {
  return Uint8Array.from(
    messages.flatMap((message) => {
      const length = new Uint8Array(4);
      new DataView(length.buffer).setUint32(0, message.length);
      return [...length, ...message];
    }),
  );
}

test("whatever the pieces of a body are, its messages are the same", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 10 });
  fc.assert(
    fc.property(messages, fc.array(fc.nat(40), { maxLength: 40 }), (sent, cuts) => {
      const body = bodyOf(sent);
      const came: Bytes[] = [];
      const cutter = new Messages((message) => came.push(message));
      let at = 0;
      for (const cut of [...cuts, body.length]) {
        cutter.feed(body.subarray(at, at + cut));
        at += cut;
      }
      expect(came).toEqual(sent.filter(({ length }) => length)); // an empty one says nothing
    }),
  );
});

test("a message that is too long ends it before any memory is taken for it", () => {
  const cutter = new Messages(() => {});
  cutter.feed(bodyOf([new Uint8Array(MAX_MESSAGE_SIZE)]));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, MAX_MESSAGE_SIZE + 1);
  expect(() => cutter.feed(length)).toThrow(RangeError);
});

function serve(body: Bytes | null, status = 200) {
  const asked = vi.fn(async (_url: string, _options: RequestInit) => {
    return new Response(body as Uint8Array<ArrayBuffer> | null, { status });
  });
  vi.stubGlobal("fetch", asked);
  return asked;
}

test("a lane is fetched from the page's own origin, once, and never from a cache", async () => {
  const asked = serve(bodyOf([Uint8Array.of(1), Uint8Array.of(2, 3)]));
  const came: Bytes[] = [];
  await fetchLane(TOKEN, new AbortController().signal, (message) => came.push(message));
  expect(came).toEqual([Uint8Array.of(1), Uint8Array.of(2, 3)]);
  expect(asked).toHaveBeenCalledOnce();
  const [[url, options]] = asked.mock.calls as [[string, RequestInit]];
  expect(url).toBe(laneUrl(TOKEN));
  expect(url).toMatch(/^\/lanes\/[\w-]{43}$/);
  expect(options).toMatchObject({ cache: "no-store", redirect: "error" });
});

test("a lane that is not there is none", async () => {
  serve(null, 404);
  const fetching = fetchLane(TOKEN, new AbortController().signal, () => {});
  await expect(fetching).rejects.toThrow(TypeError);
});

function recipient() {
  const opened: number[] = [];
  const taken: [number, Bytes][] = [];
  const failed: unknown[] = [];
  const none = () => {
    throw new Error("no WebRTC here");
  };
  const lanes = new RecipientMultipath(
    none,
    new Uint8Array(16),
    false,
    {
      signal: none,
      opened: (number) => opened.push(number),
      failed: (error) => failed.push(error),
    },
    (message, number) => taken.push([number, message]),
  );
  return { lanes, opened, taken, failed };
}

test("the first message is the lane's number, all others are ranges", async () => {
  serve(bodyOf([Uint8Array.of(1, 2), Uint8Array.of(9), Uint8Array.of(8)]));
  const { lanes, opened, taken, failed } = recipient();
  const fetching = lanes.offered(TOKEN);
  await fetching;
  expect(opened).toEqual([258]);
  expect(taken).toEqual([
    [258, Uint8Array.of(9)],
    [258, Uint8Array.of(8)],
  ]);
  expect(failed).toEqual([]);
  expect(lanes.carriedBy).toBeNull(); // it is over
});

test("a lane that names no number, or is not there, is one less and no failure", async () => {
  for (const body of [bodyOf([Uint8Array.of(1)]), null]) {
    serve(body, body ? 200 : 404);
    const { lanes, opened, failed } = recipient();
    await lanes.offered(TOKEN);
    expect([opened, failed]).toEqual([[], []]);
  }
});

test("of lanes at once a page fetches four, and none is left when the session ends", async () => {
  const signals: AbortSignal[] = [];
  vi.stubGlobal("fetch", (_: string, { signal }: { signal: AbortSignal }) => {
    signals.push(signal);
    return new Promise((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason)),
    );
  });
  const { lanes } = recipient();
  const fetching = Array.from({ length: 12 }, () => lanes.offered(TOKEN));
  expect(signals.length).toBe(4);
  lanes.close();
  await Promise.all(fetching);
  expect(signals.every(({ aborted }) => aborted)).toBe(true);
});

test("a connection is open once both of its sockets are, and lost with the control lane", async () => {
  const calls: HttpsCall[] = [];
  const connections = new HttpsConnections((call) => calls.push(call));
  const made = connections.open(TOKEN, new Uint8Array(32));
  const [call] = calls;
  expect(call).toEqual({
    connection: 1,
    control: laneUrl(TOKEN),
    data: laneUrl(new Uint8Array(32)),
  });
  const [control, data] = [new MessageChannel(), new MessageChannel()];
  connections.take({ connection: 1, control: control.port1, data: data.port1 });
  let open = false;
  void made.opened.then(() => (open = true));
  const lost = vi.fn();
  made.onLost = lost;
  control.port2.postMessage(PASSED_ON.open);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(open).toBe(false);
  data.port2.postMessage(PASSED_ON.open);
  await vi.waitFor(() => expect(open).toBe(true));
  data.port2.postMessage(PASSED_ON.closed);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(lost).not.toHaveBeenCalled();
  control.port2.postMessage(PASSED_ON.closed);
  await vi.waitFor(() => expect(lost).toHaveBeenCalledOnce());
  const heard: unknown[] = [];
  control.port2.onmessage = ({ data }) => heard.push(data);
  made.control.send(Uint8Array.of(7));
  made.close();
  await vi.waitFor(() => expect(heard).toEqual([Uint8Array.of(7), PASSED_ON.close]));
  for (const { port2 } of [control, data]) port2.close();
});

test("one that is closed before the page has its sockets is closed then", async () => {
  const connections = new HttpsConnections(() => {});
  connections.open(TOKEN, TOKEN).close();
  const [control, data] = [new MessageChannel(), new MessageChannel()];
  const heard: unknown[] = [];
  for (const { port2 } of [control, data]) port2.onmessage = ({ data }) => heard.push(data);
  connections.take({ connection: 1, control: control.port1, data: data.port1 });
  await vi.waitFor(() => expect(heard).toEqual([PASSED_ON.close, PASSED_ON.close]));
  for (const { port2 } of [control, data]) port2.close();
});
