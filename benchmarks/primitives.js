// A worker of `benchmarks.browser`: what a tab has to do with each byte that arrives, by the same
// library and with no line of Handover. Every range is opened, encrypted for the disk and written; then
// read, decrypted and hashed. Answers with the seconds.

import open from "./libsodium.js";

const RANGE = 256 * 1024;
const SYNCED = 32 * 1024 * 1024; // bytes

self.onmessage = async ({ data: total }) => {
  const sodium = await open();
  const place = (size) => sodium._malloc(size);
  const view = (at, size) => sodium.HEAPU8.subarray(at, at + size);
  const [plain, box] = [place(RANGE), place(RANGE + 48)];
  const [publicKey, secretKey, key, nonce] = [32, 32, 32, 8].map(place);
  const state = place(sodium._crypto_hash_sha256_statebytes());
  crypto.getRandomValues(view(key, 32));
  for (let at = 0; at < RANGE; at += 65536) crypto.getRandomValues(view(plain + at, 65536));
  sodium._crypto_box_keypair(publicKey, secretKey);
  sodium._crypto_box_seal(box, plain, RANGE, 0, publicKey);
  sodium._crypto_hash_sha256_init(state);
  const encrypt = (at) =>
    sodium._crypto_stream_chacha20_xor_ic(plain, plain, RANGE, 0, nonce, at / 64, 0, key);
  const folder = await navigator.storage.getDirectory();
  const handle = await folder.getFileHandle("primitives", { create: true });
  const file = await handle.createSyncAccessHandle();

  const began = performance.now();
  for (let at = 0; at < total; at += RANGE) {
    if (sodium._crypto_box_seal_open(plain, box, RANGE + 48, 0, publicKey, secretKey)) throw at;
    encrypt(at);
    file.write(view(plain, RANGE), { at });
    if ((at + RANGE) % SYNCED === 0) file.flush();
  }
  for (let at = 0; at < total; at += RANGE) {
    file.read(view(plain, RANGE), { at });
    encrypt(at);
    sodium._crypto_hash_sha256_update(state, plain, RANGE, 0);
  }
  const seconds = (performance.now() - began) / 1000;
  file.close();
  await folder.removeEntry("primitives");
  postMessage(seconds);
};
