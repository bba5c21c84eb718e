/** What a container does beyond the contract: stores that take or give less than was asked. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test } from "vitest";

import { utf8, type Bytes } from "../../src/protocol/codec";
import { NOT_WRITTEN } from "../../src/protocol/manifest";
import { Container } from "../../src/storage/container";
import { MemoryStore } from "../../src/storage/memory";
import type { Store } from "../../src/storage/ports";
import { diskFailure } from "../../src/storage/settling";
import { claim, failure, manifestOf, tapeBytes, type Source } from "./sources";

beforeAll(() => sodium.ready);

describe("a container", () => {
  const SOURCES: Source[] = [
    ["a", utf8("first")],
    ["d", null],
    ["b", utf8("second")],
    ["empty", new Uint8Array(0)],
    ["c", utf8("third")],
  ];
  const TOTAL = 16;

  function container(sources = SOURCES, store: Store = new MemoryStore()) {
    return new Container(manifestOf(sources), "room", store);
  }

  function filled(sources = SOURCES, store?: Store) {
    const made = container(sources, store);
    made.write(0, tapeBytes(sources));
    made.sync();
    return made;
  }

  test("fails only the entry that cannot be read back", async () => {
    class Failing extends MemoryStore {
      override read(buffer: Bytes, options: { at: number }): number {
        if (options.at === broken) throw new DOMException("", "InvalidStateError");
        return super.read(buffer, options);
      }
    }
    const broken = container().layout.start(2);
    const made = filled(SOURCES, new Failing());
    for (const upto of [3, 8, TOTAL]) await made.readBack(upto);
    expect(made.settle(claim(SOURCES))[1]).toEqual([[2, NOT_WRITTEN]]);
  });

  test("fails an entry of which the store has less than was written", async () => {
    class Short extends MemoryStore {
      override read(buffer: Bytes, options: { at: number }): number {
        return options.at === last ? 0 : super.read(buffer, options);
      }
    }
    const last = container().layout.start(4);
    const made = filled(SOURCES, new Short());
    await made.readBack(TOTAL);
    expect(made.settle(claim(SOURCES))[1]).toEqual([[4, NOT_WRITTEN]]);
  });

  test("writes on when the store takes only a part", async () => {
    class Slow extends MemoryStore {
      override write(data: Bytes, options: { at: number }): number {
        return super.write(data.subarray(0, 2), options);
      }
    }
    const made = filled(SOURCES, new Slow());
    await made.readBack(TOTAL);
    expect(made.settle(claim(SOURCES))[1]).toEqual([]);
  });

  test.each(["write", "flush", "truncate"] as const)(
    "says that the disk failed when the store does (%s)",
    async (method) => {
      const store = new MemoryStore();
      store[method] = () => {
        throw new DOMException("", "QuotaExceededError");
      };
      const work = async () => {
        const made = filled(SOURCES, store);
        await made.readBack(TOTAL);
        made.settle(claim(SOURCES));
      };
      const { code, detail } = await failure(work);
      expect([code, detail]).toEqual(["disk_paused", "enospc"]);
    },
  );

  test("says that the disk failed when nothing is written any more", async () => {
    const store = new MemoryStore();
    store.write = () => 0;
    expect((await failure(() => filled(SOURCES, store))).code).toBe("disk_error");
  });
});

test("a full disk is told from a broken one", () => {
  expect(diskFailure(new DOMException("", "QuotaExceededError")).detail).toBe("enospc");
  expect(diskFailure(new DOMException("", "InvalidStateError")).detail).toMatch("store_failed");
  expect(diskFailure(new Error("x")).detail).toMatch("store_failed");
});
