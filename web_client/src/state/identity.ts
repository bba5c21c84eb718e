/** This browser's identity: an Ed25519 key that the platform keeps, and the name its owner chose. */
import sodium from "libsodium-wrappers-sumo";

import { utf8, type Bytes } from "../protocol/codec";
import { MAX_LABEL, type Identity } from "../protocol/handshake";
import { thumbprint } from "../protocol/receipt";
import type { AuditLog } from "./audit";
import type { Database } from "./database";

type KeyPair =
  | { kind: "webcrypto"; pair: CryptoKeyPair } // the private half cannot be taken out
  | { kind: "sodium"; seed: Bytes }; // a browser whose WebCrypto has no Ed25519

export class OwnIdentity {
  constructor(
    private readonly database: Database,
    private readonly audit: AuditLog,
  ) {}

  /** The name this person gave itself, or "". */
  async label(): Promise<string> {
    return (await this.database.get<string>("settings", "label")) ?? "";
  }

  /** Its public half, or null where there is none yet. */
  async public(): Promise<Bytes | null> {
    const keys = await this.database.get<KeyPair>("settings", "keys");
    return keys ? publicOf(keys) : null;
  }

  /** Whether the platform keeps its private half, or will: then no script can take it out. */
  async isProtected(): Promise<boolean> {
    const keys = await this.database.get<KeyPair>("settings", "keys");
    if (keys) return keys.kind === "webcrypto";
    const pair = await crypto.subtle.generateKey("Ed25519", false, ["sign"]).catch(() => null);
    return pair !== null;
  }

  /** The identity, made at the first call, under the name given now. */
  async under(name: string): Promise<Identity> {
    const label = fitting(name);
    const before = await this.database.get<string>("settings", "label");
    await this.database.put("settings", label, "label");
    const known = await this.database.get<KeyPair>("settings", "keys");
    const keys = known ?? (await this.makeKeys());
    const key_id = thumbprint(await publicOf(keys));
    if (!known) void this.audit.note("identity_made", { key_id });
    else if (before !== label) void this.audit.note("label_changed", { key_id });
    if (keys.kind === "sodium") {
      const { privateKey } = sodium.crypto_sign_seed_keypair(keys.seed);
      const sign = async (data: Bytes) => sodium.crypto_sign_detached(data, privateKey);
      return { public: await publicOf(keys), label, sign };
    }
    const { privateKey } = keys.pair;
    return {
      public: await publicOf(keys),
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

async function publicOf(keys: KeyPair): Promise<Bytes> {
  if (keys.kind === "sodium") return sodium.crypto_sign_seed_keypair(keys.seed).publicKey;
  return new Uint8Array(await crypto.subtle.exportKey("raw", keys.pair.publicKey));
}

/** A name cut to the bytes that the protocol has for it. */
function fitting(name: string): string {
  const characters = Array.from(name);
  while (utf8(characters.join("")).length > MAX_LABEL) characters.pop();
  return characters.join("");
}
