/** What drives a session: order, ends, and the last word. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { Connection } from "../../src/lanes/webrtc/connection";
import { utf8 } from "../../src/protocol/codec";
import { Failure, PeerError, type Code } from "../../src/protocol/errors";
import { Driver, type Session } from "../../src/transfer/driver";
import { MemoryConnection } from "./remote";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const FRAME = utf8("frame");

/** A session that says and tells what it is told to. */
class Script implements Session<string> {
  readonly calls: string[] = [];
  out: string[] = [];
  happened: string[] = [];
  due = 1e9;
  error: Error | null = null;
  settling = false;

  private call(name: string): void {
    this.calls.push(name);
    if (this.error) throw this.error;
  }
  receiveFrame(frame: Uint8Array): void {
    this.call(new TextDecoder().decode(frame));
  }
  lost(): void {
    this.call("lost");
  }
  tick(): void {
    this.call("tick");
  }
  deadline(): number {
    return this.due;
  }
  abort(code: Code): void {
    this.out.push(code);
  }
  frames() {
    return this.out.splice(0).map((one) => utf8(one));
  }
  events() {
    return this.happened.splice(0);
  }
}

function driven() {
  const session = new Script();
  const connection = new MemoryConnection();
  const seen: string[] = [];
  const role = {
    handle: (event: string) => void seen.push(event, `after ${connection.control.sent.length}`),
    tick: () => void seen.push("tick"),
    stop: () => void seen.push("stop"),
  };
  const driver = new Driver(session, connection as unknown as Connection, role);
  driver.ended.catch(() => {});
  return { session, connection, seen, driver };
}

const said = ({ control }: MemoryConnection) =>
  control.sent.map((frame) => new TextDecoder().decode(frame));

test("what the session says goes out before what happened is told", () => {
  const { session, connection, seen } = driven();
  [session.out, session.happened] = [["a", "b"], ["event"]];
  connection.control.deliver(FRAME);
  expect(session.calls).toEqual(["frame"]);
  expect(said(connection)).toEqual(["a", "b"]);
  expect(seen).toEqual(["event", "after 2"]);
});

test("an error ends it after what the session still had to say and tell", async () => {
  const { session, connection, seen, driver } = driven();
  [session.out, session.happened] = [["a"], ["event"]];
  session.error = new PeerError("nonsense");
  connection.control.deliver(FRAME);
  expect(said(connection)).toEqual(["a", "protocol"]);
  expect(seen).toEqual(["event", "after 1", "stop"]);
  await expect(driver.ended).rejects.toBe(session.error);
});

test("the session is ticked when it is due, and the role always", () => {
  const { session, seen } = driven();
  vi.advanceTimersByTime(60);
  expect([session.calls, seen]).toEqual([[], ["tick"]]);
  session.due = 0;
  vi.advanceTimersByTime(60);
  expect([session.calls, seen]).toEqual([["tick"], ["tick", "tick"]]);
});

test("nothing reaches the session once it is over", () => {
  const { session, connection, driver } = driven();
  driver.fail(new Failure("cancelled"));
  driver.fail(new Failure("declined"));
  connection.control.deliver(FRAME);
  driver.receive(FRAME);
  vi.advanceTimersByTime(1000);
  expect(session.calls).toEqual([]);
  expect(said(connection)).toEqual(["cancelled"]);
});

test("an asynchronous part that fails ends it; one that fails too late does nothing", async () => {
  const { connection, driver } = driven();
  const first = new Failure("disk_error");
  await driver.carry(Promise.reject(first));
  await driver.carry(Promise.reject(new Failure("no_space")));
  await expect(driver.ended).rejects.toBe(first);
  expect(said(connection)).toEqual(["disk_error"]);
});

test("what nobody foresaw is told as internal", () => {
  const complained = vi.spyOn(console, "error").mockImplementation(() => {});
  const { connection, driver } = driven();
  driver.fail(new TypeError("private"));
  expect(said(connection)).toEqual(["internal"]);
  expect(complained).toHaveBeenCalledWith("internal", "TypeError");
  complained.mockRestore();
});

describe("hanging up waits", () => {
  test("until the other side has", async () => {
    const { connection, driver } = driven();
    driver.fail(new Failure("cancelled"));
    const closing = driver.hangUp();
    await vi.advanceTimersByTimeAsync(100);
    expect(connection.closed).toBe(false);
    connection.lose();
    await closing;
    expect(connection.closed).toBe(true);
  });

  test("or no longer than a last word takes", async () => {
    const { connection, driver } = driven();
    driver.finish({ ending: "complete", code: "", detail: "", delivered: null });
    const closing = driver.hangUp();
    await vi.advanceTimersByTimeAsync(2000);
    await closing;
    expect(connection.closed).toBe(true);
  });

  test("not at all where the connection is gone", async () => {
    const { connection, driver, session } = driven();
    session.error = new Failure("connection_lost");
    session.abort = () => {};
    connection.lose();
    await driver.hangUp();
    expect(connection.closed).toBe(true);
  });
});
