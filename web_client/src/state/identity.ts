/** This browser's identity: an Ed25519 key that the platform keeps, and the name its owner chose. */
import sodium from "libsodium-wrappers-sumo";

import { utf8, type Bytes } from "../protocol/codec";
import { MAX_LABEL, type Identity } from "../protocol/handshake";
import type { Database } from "./database";

type KeyPair =
  | { kind: "webcrypto"; pair: CryptoKeyPair } // the private half cannot be taken out
  | { kind: "sodium"; seed: Bytes }; // a browser whose WebCrypto has no Ed25519

export class OwnIdentity {
  constructor(private readonly database: Database) {}

  /** The name this person gave itself, or "". */
  async label(): Promise<string> {
    return (await this.database.get<string>("settings", "label")) ?? "";
  }

  /** The identity, made at the first call, under the name given now. */
  async under(name: string): Promise<Identity> {
    const label = fitting(name);
    await this.database.put("settings", label, "label");
    const keys = (await this.database.get<KeyPair>("settings", "keys")) ?? (await this.makeKeys());
    if (keys.kind === "sodium") {
      const { publicKey, privateKey } = sodium.crypto_sign_seed_keypair(keys.seed);
      const sign = async (data: Bytes) => sodium.crypto_sign_detached(data, privateKey);
      return { public: publicKey, label, sign };
    }
    const { publicKey, privateKey } = keys.pair;
    return {
      public: new Uint8Array(await crypto.subtle.exportKey("raw", publicKey)),
      label,
      sign: async (data) =>
        new Uint8Array(await crypto.subtle.sign("Ed25519", privateKey, data as BufferSource)),
    };
  }

  private async makeKeys(): Promise<KeyPair> {
    try {
      const pair = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
      const keys: KeyPair = { kind: "webcrypto", pair: pair as CryptoKeyPair };
      await this.database.put("settings", keys, "keys");
      return keys;
    } catch {
      const keys: KeyPair = { kind: "sodium", seed: sodium.randombytes_buf(32) };
      await this.database.put("settings", keys, "keys");
      return keys;
    }
  }
}

/** A name cut to the bytes that the protocol has for it. */
function fitting(name: string): string {
  const characters = Array.from(name);
  while (utf8(characters.join("")).length > MAX_LABEL) characters.pop();
  return characters.join("");
}
