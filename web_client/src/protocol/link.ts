/** The link, and every key that is derived from its secret (mirrors `p2p/protocol/link.py`). */
import sodium from "libsodium-wrappers-sumo";

import {
  concat,
  decodeBase64url,
  encodeBase64url,
  fromUtf8,
  hkdfExpand,
  hkdfExtract,
  sha256,
  utf8,
  type Bytes,
} from "./codec";
import { Failure } from "./errors";
import { INVISIBLE } from "./labels";

export const VERSION = "1";
export const SECRET_BYTES = 32;
export const COMMITMENT_BYTES = 16;
export const MAX_LINK = 2048; // longer than any link of ours by far; keeps the parser bounded

const LABEL_EXTRACT = utf8("handover/1");
const LABEL_HOST = utf8("handover/1 host");
const LABEL_ROOM = utf8("handover/1 room");
const LABEL_JOIN = utf8("handover/1 join");
const LABEL_SIGNAL_TO_GUEST = utf8("handover/1 signal to guest");
const LABEL_SIGNAL_TO_HOST = utf8("handover/1 signal to host");
const LABEL_PSK = utf8("handover/1 psk");
const LABEL_PASSPHRASE_SALT = utf8("handover/1 passphrase salt");
const LABEL_STORE = utf8("handover/1 browser store");
const LABEL_JOURNAL = utf8("handover/1 browser journal");

// Argon2id, second choice of RFC 9106 4 with libsodium's one lane: 3 passes over 64 MiB.
const PASSPHRASE_PASSES = 3;
const PASSPHRASE_MEMORY = 64 * 1024 * 1024;
const MAX_PASSPHRASE = 1024;

const LINK = /^(https?):\/\/([^/?#]*)([^?#]*)(\?[^#]*)?(?:#(.*))?$/is;
const HOST = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?$/;

const MAX_TEXT = 65_536; // characters in which a link is looked for
const MAX_READINGS = 12; // a filter's address in a filter's address, and each of them decoded twice

// Where a mail program wraps a line: the end of one, and what marks the next as quoted.
const WRAP = String.raw`(?:=?[ \t]*(?:\r\n?|\n)[ \t>|]*)?`;
const GLUE = new RegExp(WRAP.slice(0, -1), "g");
const PADDING = /[ \t]{64,}/g; // looked at from each of its blanks, it would take for ever
// What follows is no part of it: neither more of the same, nor a flag that we do not know.
const END = String.raw`(?![A-Za-z0-9_-]|\.[A-Za-z0-9](?![A-Za-z0-9_-]))`;
// What a tracker or a mail program's page adds: a query, in which no other address can stand, and
// marks before the first number.
const ADDED = /\/?(?:\?[^#]*)?#[!/]*/;
// A link, with a line wrapped after any character; `~` stands for that.
const FOUND = new RegExp(
  [
    String.raw`[Hh]~[Tt]~[Tt]~[Pp]~(?:[Ss]~)?:~/~/~`,
    String.raw`(?:\[~(?:[0-9a-fA-F:.]~)+\]~|(?:[A-Za-z0-9._-]~){1,253})(?::~(?:[0-9]~){1,5})?(?:/~)?`,
    String.raw`(?:\?~(?:[A-Za-z0-9&=._+-]~){0,512})?#~(?:[!/]~){0,2}1~\.~(?:[A-Za-z0-9_-]~){43}\.~(?:[A-Za-z0-9_-]~){21}[A-Za-z0-9_-]`,
    String.raw`(?:~\.~p${END})?${END}`,
  ]
    .join("")
    .replaceAll("~", WRAP),
  "g",
);
const ESCAPED = new RegExp(
  "%~[0-9A-Fa-f]~[0-9A-Fa-f](?:~%~[0-9A-Fa-f]~[0-9A-Fa-f])*".replaceAll("~", WRAP),
  "g",
);
const ADDRESS = /https?:\/\/[^\s<>"]+/i;
// Proofpoint rewrites addresses in two ways of its own; other filters percent-encode them.
// A `=` at the end of a line may be a mail's own mark for going on, and is taken out then.
const DEFENSE_2 = /urldefense\.proofpoint\.com\/v2\/url\?u=?([A-Za-z0-9_.-]+)/g;
const DEFENSE_3 =
  /urldefense(?:\.proofpoint)?\.(?:com|us)\/v3\/__(\S{1,2048}?)__;([A-Za-z0-9_-]*)!/g;
const ANY_UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** An invitation. `origin` is scheme and host. */
export interface Link {
  readonly origin: string;
  readonly secret: Bytes;
  readonly commitment: Bytes;
  readonly passphrase: boolean;
}

/** What both sides derive from K. The server learns `room` and SHA-256 of `join`, no more. */
export interface LinkKeys {
  readonly room: Bytes;
  readonly join: Bytes;
  readonly signalToGuest: Bytes;
  readonly signalToHost: Bytes;
  readonly psk: Bytes;
  readonly passphraseSalt: Bytes;
}

/** C: the first 16 bytes of SHA-256 over a label, K and the host's Ed25519 public key. */
export function hostCommitment(secret: Bytes, identity: Bytes): Bytes {
  return sha256(LABEL_HOST, secret, identity).subarray(0, COMMITMENT_BYTES);
}

/** The link as text. */
export function linkText(link: Link): string {
  const parts = [VERSION, encodeBase64url(link.secret), encodeBase64url(link.commitment)];
  return `${link.origin}/#${[...parts, ...(link.passphrase ? ["p"] : [])].join(".")}`;
}

/** Read a link as a person pastes it. Throws `Failure` (link_invalid, link_unsupported). */
export function parseLink(pasted: string): Link {
  const text = pasted.trim();
  if (text.length > MAX_LINK) throw new Failure("link_invalid", "link_too_long");
  const [, scheme, host, path, query, fragment] = LINK.exec(text) ?? [];
  const port = HOST.exec(host ?? "");
  if (!scheme || !port || Number(port[2] ?? 0) > 65_535) {
    throw new Failure("link_invalid", "link_no_host");
  }
  if ((path && path !== "/") || (query && query !== "?")) {
    throw new Failure("link_invalid", "link_path");
  }
  const parts = (fragment ?? "").split(".");
  if (parts.length < 3) {
    throw new Failure("link_invalid", "link_fragment_missing");
  }
  if (parts[0] !== VERSION) throw new Failure("link_unsupported");
  let secret: Bytes, commitment: Bytes;
  try {
    [secret, commitment] = [decodeBase64url(parts[1]!), decodeBase64url(parts[2]!)];
  } catch {
    throw new Failure("link_invalid", "link_fragment_typo");
  }
  if (secret.length !== SECRET_BYTES || commitment.length !== COMMITMENT_BYTES) {
    throw new Failure("link_invalid", "link_fragment_cut");
  }
  const rest = parts.slice(3);
  if (rest.length > 1 || (rest.length === 1 && rest[0] !== "p")) {
    throw new Failure("link_invalid", "link_followed");
  }
  const origin = `${scheme.toLowerCase()}://${host}`;
  return { origin, secret, commitment, passphrase: rest.length === 1 };
}

/**
 * The first link in what a person pastes, or a browser was given: wrapped, quoted, in a sentence, with
 * what nobody sees in it, percent-encoded, or rewritten by a mail filter that carries the address.
 *
 * Throws `Failure` (link_invalid, link_unsupported) where there is none.
 */
export function findLink(pasted: string): Link {
  const text = pasted.slice(0, MAX_TEXT).replace(INVISIBLE, "").replace(PADDING, " ");
  const readings = [text, ...unfiltered(text.replace(GLUE, ""))];
  for (const reading of readings) {
    for (const [found] of reading.matchAll(FOUND)) {
      try {
        return parseLink(found.replace(GLUE, "").replace(ADDED, "/#"));
      } catch {
        continue;
      }
    }
    const decoded = reading.replace(ESCAPED, unescaped).replace(INVISIBLE, "");
    if (decoded !== reading && readings.length < MAX_READINGS) readings.push(decoded);
  }
  const address = readings.toReversed().map((reading) => ADDRESS.exec(reading)?.[0]);
  return parseLink(address.find(Boolean) ?? ""); // says what is wrong with it
}

function* unfiltered(text: string): Generator<string> {
  for (const [, address] of text.matchAll(DEFENSE_2)) {
    yield address!.replaceAll("_", "/").replaceAll("-", "%").replace(ESCAPED, unescaped);
  }
  for (const [, address, list] of text.matchAll(DEFENSE_3)) {
    let replaced: string[];
    try {
      replaced = Array.from(fromUtf8(decodeBase64url(list!)));
    } catch {
      continue;
    }
    yield address!.replace(/\*/g, () => replaced.shift() ?? "");
  }
}

function unescaped(escaped: string): string {
  const digits = escaped.replace(GLUE, "").replaceAll("%", "").match(/../g)!;
  return ANY_UTF8.decode(Uint8Array.from(digits, (octet) => parseInt(octet, 16)));
}

/** All keys of a link, each by HKDF-SHA256 under its own label. */
export function deriveKeys(secret: Bytes): LinkKeys {
  const root = hkdfExtract(LABEL_EXTRACT, secret);
  return {
    room: hkdfExpand(root, LABEL_ROOM, 16),
    join: hkdfExpand(root, LABEL_JOIN, 32),
    signalToGuest: hkdfExpand(root, LABEL_SIGNAL_TO_GUEST, 32),
    signalToHost: hkdfExpand(root, LABEL_SIGNAL_TO_HOST, 32),
    psk: hkdfExpand(root, LABEL_PSK, 32),
    passphraseSalt: hkdfExpand(root, LABEL_PASSPHRASE_SALT, 16),
  };
}

export const STORAGE_SALT = 32; // bytes

/** What a transfer is encrypted with in a browser's storage, where the salt alone is kept. */
export interface StorageKeys {
  readonly salt: Bytes; // random, of this one container, so that no keystream comes twice
  readonly store: Bytes; // of the content
  readonly journal: Bytes; // of the names, and of `store` once the sender is not needed any more
}

/** HKDF-SHA256 of K. */
export const journalKey = (secret: Bytes, salt: Bytes): Bytes =>
  hkdfExpand(hkdfExtract(salt, secret), LABEL_JOURNAL, 32);

/** HKDF-SHA256 of K and a secret of the sender's: browsers keep links in their history. */
export const storeKey = (secret: Bytes, share: Bytes, salt: Bytes): Bytes =>
  hkdfExpand(hkdfExtract(salt, concat(secret, share)), LABEL_STORE, 32);

/** What the Noise psk is made of, once the suite is known (`Suite.psk`). */
export interface PskSecrets {
  readonly link: Bytes;
  readonly passphrase: Bytes; // stretched; empty without one
}

/**
 * The link's own secret, and Argon2id of the passphrase's NFC form.
 *
 * Takes about half a second with a passphrase. Throws `Failure` (passphrase_wrong) for one that cannot
 * be one: empty or above 1,024 bytes.
 */
export function pskSecrets(keys: LinkKeys, passphrase: string | null): PskSecrets {
  if (passphrase === null) return { link: keys.psk, passphrase: new Uint8Array(0) };
  const octets = utf8(passphrase.normalize("NFC"));
  if (octets.length === 0 || octets.length > MAX_PASSPHRASE) {
    throw new Failure("passphrase_wrong");
  }
  const stretched = sodium.crypto_pwhash(
    32,
    octets,
    keys.passphraseSalt,
    PASSPHRASE_PASSES,
    PASSPHRASE_MEMORY,
    sodium.crypto_pwhash_ALG_ARGON2ID13,
  );
  return { link: keys.psk, passphrase: stretched };
}
