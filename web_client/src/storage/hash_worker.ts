/** The edge of the worker that hashes large files for another: the same script, under another name. */
import sodium from "libsodium-wrappers-sumo";

import { InlineHasher, type HashAnswer, type HashCall } from "./hashing";

/** Answer calls, one after the other, until the other terminates this worker. */
export async function serveHashing(): Promise<void> {
  await sodium.ready;
  let hasher: InlineHasher;
  const answer = async (call: HashCall): Promise<HashAnswer> => {
    switch (call.call) {
      case "begin":
        hasher = new InlineHasher(call.wantsCrc);
        return {};
      case "update":
        hasher.update(call.part);
        return { part: call.part.bytes.buffer as ArrayBuffer };
      case "finish":
        return { hashed: await hasher.finish() };
      case "forget":
        hasher.forget();
        return {};
    }
  };
  onmessage = async ({ data }: MessageEvent<HashCall>) => {
    const said = await answer(data).catch((): HashAnswer => ({ failed: true }));
    postMessage(said, { transfer: said.part ? [said.part] : [] });
  };
  postMessage({}); // it has begun
}
