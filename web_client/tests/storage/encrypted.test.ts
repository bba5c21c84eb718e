/** A store that is encrypted on the disk. */
import { createDecipheriv, randomBytes } from "node:crypto";

import fc from "fast-check";
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, expect, test } from "vitest";

import { utf8, type Bytes } from "../../src/protocol/codec";
import { SECRET_BYTES, STORAGE_SALT, journalKey, storeKey } from "../../src/protocol/link";
import { Cipher, EncryptedStore, type Disk } from "../../src/storage/encrypted";
import { MemoryStore } from "../../src/storage/memory";
import { blobOf, contentOf } from "../../src/storage/saving";
import { MemoryFile } from "./directory";
import { wholeOf } from "./sources";

beforeAll(() => sodium.ready);

const KEY = Uint8Array.from({ length: 32 }, (_, index) => index);
const SIZE = 1000;

async function opened(): Promise<[store: EncryptedStore, file: MemoryFile]> {
  const file = new MemoryFile("ab12", {});
  const store = new EncryptedStore(await file.createSyncAccessHandle(), KEY);
  store.truncate(SIZE);
  return [store, file];
}

/** ChaCha20 of another implementation, from a block on. */
function keystream(block: bigint, length: number): Bytes {
  const counter = Buffer.alloc(16);
  counter.writeBigUInt64LE(block);
  return Uint8Array.from(createDecipheriv("chacha20", KEY, counter).update(Buffer.alloc(length)));
}

test("what is written is ChaCha20 on the disk, and in whole blocks", async () => {
  const [store, file] = await opened();
  store.write(utf8("PATIENT^NAME"), { at: 130 });
  expect(file.content.length).toBe(1024);
  const plain = new Uint8Array(64);
  plain.set(utf8("PATIENT^NAME"), 2);
  const expected = keystream(2n, 64).map((octet, index) => octet ^ plain[index]!);
  expect(file.content.slice(128, 192)).toEqual(expected);
  expect(Buffer.from(file.content).includes("PATIENT")).toBe(false);
});

test("an empty store is a hole to its end, so that a keystream never stands there alone", async () => {
  const [store, file] = await opened();
  expect(file.content).toEqual(new Uint8Array(1024));
  const end = filledWith(store);
  store.truncate(SIZE - 100); // what is cut off is zeros again, in a block that was written
  store.truncate(SIZE);
  const read = new Uint8Array(SIZE);
  store.read(read, { at: 0 });
  expect(read.slice(0, SIZE - 100)).toEqual(end.slice(0, SIZE - 100));
  expect(read.slice(SIZE - 100)).toEqual(new Uint8Array(100));
});

function filledWith(store: EncryptedStore): Bytes {
  const content = new Uint8Array(SIZE).fill(7);
  store.write(content, { at: 0 });
  return content;
}

test("beyond 256 GiB the keystream goes on", () => {
  const written = new Map<number, Bytes>();
  const disk = {
    read: () => 0,
    write: (data: Bytes, { at = 0 } = {}) => written.set(at, data.slice()) && data.length,
  } as Partial<Disk> as Disk;
  const at = 2 ** 38 - 64; // the last block that 32 bits count, and the next
  new EncryptedStore(disk, KEY).write(new Uint8Array(128), { at });
  expect(written.get(at)).toEqual(keystream(2n ** 32n - 1n, 128));
});

test("a hole is never written, and what is cleared is zeros on the disk", async () => {
  const [store, file] = await opened();
  store.write(utf8("x".repeat(300)), { at: 100 });
  expect(file.content.slice(0, 64)).toEqual(new Uint8Array(64));
  expect(file.content.slice(448, 960)).toEqual(new Uint8Array(512));
  store.clear(100, 300);
  expect(file.content.slice(128, 384)).toEqual(new Uint8Array(256));
  const found = new Uint8Array(SIZE);
  store.read(found, { at: 0 });
  expect(found).toEqual(new Uint8Array(SIZE));
});

test("what is read is what is on the disk", async () => {
  const [store, file] = await opened();
  store.write(utf8("content"), { at: 64 });
  file.content[70]! ^= 1;
  const found = new Uint8Array(7);
  store.read(found, { at: 64 });
  expect(found).toEqual(utf8("contenu"));
  file.content.fill(0, 64, 128); // lost by the disk
  store.read(found, { at: 64 });
  expect(found).toEqual(new Uint8Array(7));
});

test("another salt, another link or another sender makes other keys", () => {
  const [secret, salt, share] = [SECRET_BYTES, STORAGE_SALT, 32].map((n) =>
    new Uint8Array(n).fill(n),
  );
  const other = new Uint8Array(32);
  const keys = [
    storeKey(secret!, share!, salt!),
    storeKey(other, share!, salt!),
    storeKey(secret!, other, salt!),
    storeKey(secret!, share!, other),
    journalKey(secret!, salt!),
    journalKey(other, salt!),
    journalKey(secret!, other),
  ];
  expect(new Set(keys.map((key) => Buffer.from(key).toString("hex"))).size).toBe(keys.length);
  expect(keys.every(({ length }) => length === 32)).toBe(true);
});

const place = fc.integer({ min: 0, max: 400 });
const action = fc.record({
  do: fc.constantFrom("write", "clear", "truncate", "read"),
  at: place,
  length: place,
  value: fc.integer({ min: 0, max: 255 }),
});

test("it reads and writes as a store in memory does", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 20 }), async (actions) => {
      const [store] = await opened();
      const plain = new MemoryStore();
      plain.truncate(SIZE);
      for (const { do: what, at, length, value } of actions) {
        if (what === "write") {
          const data = new Uint8Array(length).fill(value);
          for (const one of [store, plain]) one.write(data, { at });
        } else if (what === "clear") for (const one of [store, plain]) one.clear(at, length);
        else if (what === "truncate") {
          for (const one of [store, plain]) one.truncate(at);
          for (const one of [store, plain]) one.truncate(SIZE);
        }
        const [found, expected] = [new Uint8Array(SIZE), new Uint8Array(SIZE)];
        store.read(found.subarray(at), { at });
        plain.read(expected.subarray(at), { at });
        expect(found).toEqual(expected);
        const stored = store.readStored(new Uint8Array(512), { at }); // for another thread
        Cipher.get().take(stored);
        const taken = Cipher.get()
          .data.view(stored.skip + stored.length)
          .slice(stored.skip);
        expect(taken).toEqual(
          expected.slice(at, Math.min(SIZE, at + stored.length)).slice(0, taken.length),
        );
        expect(stored.length).toBeGreaterThanOrEqual(Math.min(512 - 64, SIZE - at));
      }
      const saved = await blobOf(contentOf(store, [[0, SIZE]]));
      expect(new Uint8Array(await saved.arrayBuffer())).toEqual(wholeOf(plain));
      expect(saved.type).toBe("application/octet-stream"); // else browsers add an ending to the name
    }),
    { numRuns: 100 },
  );
});

test("what is more than the buffer takes is written and read in parts", async () => {
  const [store] = await opened();
  const data = Uint8Array.from(randomBytes(2_500_000));
  let written = 0;
  while (written < data.length) written += store.write(data.subarray(written), { at: written + 7 });
  const read = await new Response(contentOf(store, [[7, data.length]])).arrayBuffer();
  expect(Buffer.compare(Buffer.from(read), Buffer.from(data))).toBe(0);
});

test("a store that is cut off is not saved as if it were whole", async () => {
  const [store] = await opened();
  store.truncate(500);
  await expect(blobOf(contentOf(store, [[0, SIZE]]))).rejects.toThrow();
});
