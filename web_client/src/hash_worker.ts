/** The edge of the worker that hashes large files for another (see `storage/hashing`). */
import sodium from "libsodium-wrappers-sumo";

import { InlineHasher, type HashAnswer, type HashCall } from "./storage/hashing";

await sodium.ready;
let hasher: InlineHasher;

async function answer(call: HashCall): Promise<HashAnswer> {
  switch (call.call) {
    case "begin":
      hasher = new InlineHasher(call.wantsCrc);
      return {};
    case "update":
      hasher.update(call.part);
      return { part: call.part };
    case "finish":
      return { hashed: await hasher.finish() };
    case "forget":
      hasher.forget();
      return {};
  }
}

onmessage = async ({ data }: MessageEvent<HashCall>) => {
  const said = await answer(data).catch((): HashAnswer => ({ failed: true }));
  postMessage(said, { transfer: said.part ? [said.part.buffer] : [] });
};
postMessage({}); // it has begun
