/** The policy of the server that this page is from, before there is a link (PROTOCOL.md, The signaling server). */
import { decodeJson, type Bytes } from "../protocol/codec";
import { readPolicy, type Policy } from "../protocol/policy";

const MAX_LENGTH = 1024; // bytes

/** Null where it says nothing, or what is none: peers are told once more, and check that. */
export async function policyHere(origin: string): Promise<Policy | null> {
  try {
    const answer = await fetch(`${origin}/policy`);
    const data = new Uint8Array(await answer.arrayBuffer()) as Bytes;
    return answer.ok ? readPolicy(decodeJson(data, MAX_LENGTH)) : null;
  } catch {
    return null;
  }
}
