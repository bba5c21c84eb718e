/** The parties of a case of `tests/vectors/handshake.json`. */
import sodium from "libsodium-wrappers-sumo";

import {
  GuestHandshake,
  HostHandshake,
  type ChannelBinding,
  type GuestInput,
  type HostInput,
  type Identity,
} from "../../src/protocol/handshake";
import { deriveKeys, hostCommitment, pskSecrets } from "../../src/protocol/link";

/** A case of any vector. */
export type Case = { name: string; expect: any; [input: string]: any };

export const bytes = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));

/** An identity from a seed, signing with libsodium. */
export function seeded(seed: Uint8Array, label: string): Identity {
  const pair = sodium.crypto_sign_seed_keypair(seed);
  const sign = async (data: Uint8Array) => sodium.crypto_sign_detached(data, pair.privateKey);
  return { public: pair.publicKey, label, sign };
}

export function bindingOf({ binding }: Case): ChannelBinding {
  return {
    room: bytes(binding.room),
    attempt: bytes(binding.attempt),
    nonceGuest: bytes(binding.nonce_guest),
    nonceHost: bytes(binding.nonce_host),
    fingerprintHost: bytes(binding.fingerprint_host),
    fingerprintGuest: bytes(binding.fingerprint_guest),
    passphrase: binding.passphrase,
    hostSends: binding.host_sends,
  };
}

export function guestOf(one: Case, changes: Partial<GuestInput> = {}): GuestHandshake {
  const { host, guest } = one as any;
  const [binding, secret] = [bindingOf(one), bytes(one["secret"])];
  const { public: hostIdentity } = seeded(bytes(host.identity_seed), host.label);
  return new GuestHandshake(binding, {
    secrets: pskSecrets(deriveKeys(secret), one["passphrase"]),
    secret,
    commitment: hostCommitment(secret, hostIdentity),
    identity: seeded(bytes(guest.identity_seed), guest.label),
    software: one["software"],
    verify: one["verify"],
    capabilities: [],
    entropy: {
      static_: bytes(guest.static),
      ephemeral: bytes(guest.ephemeral),
      nonce: bytes(guest.nonce),
      ...(binding.hostSends && { session: bytes(guest.session) }),
    },
    ...changes,
  });
}

export function hostOf(one: Case, changes: Partial<HostInput> = {}): HostHandshake {
  const { host } = one as any;
  const binding = bindingOf(one);
  return new HostHandshake(binding, {
    secrets: pskSecrets(deriveKeys(bytes(one["secret"])), one["passphrase"]),
    identity: seeded(bytes(host.identity_seed), host.label),
    software: one["software"],
    verify: false,
    capabilities: [],
    fill: host.fill ?? 0,
    entropy: {
      static_: bytes(host.static),
      ephemeral: bytes(host.ephemeral),
      nonce: bytes(host.nonce),
      ...(!binding.hostSends && { session: bytes(host.session) }),
    },
    ...changes,
  });
}
