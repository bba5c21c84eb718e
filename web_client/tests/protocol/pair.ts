/** A recipient's session, and beside it the least sender that can talk to it (`Pair`). */
import sodium from "libsodium-wrappers-sumo";

import {
  concat,
  decodeJson,
  encodeBase64url,
  encodeJson,
  sha256,
  utf8,
  type Bytes,
  type Json,
  type JsonObject,
} from "../../src/protocol/codec";
import type { Identity, Secured } from "../../src/protocol/handshake";
import {
  Results,
  encodeManifest,
  resultsRoot,
  tapeOf,
  type Entry,
  type Manifest,
} from "../../src/protocol/manifest";
import { CipherState } from "../../src/protocol/noise";
import * as receipt from "../../src/protocol/receipt";
import { HOLE, Stream, type Header } from "../../src/protocol/seal";
import { RecipientSession, type Event, type RecipientState } from "../../src/protocol/session";
import { FIRST_SUITE } from "../../src/protocol/suite";
import type { Tape } from "../../src/protocol/tape";

export const TIME = "2026-01-02T03:04:05.000Z";
export const TRANSFER = new Uint8Array(16).fill(7);
export const TRANSCRIPT = new Uint8Array(32).fill(8);

/** An identity whose private half the test knows. */
export interface Signer extends Identity {
  signNow(data: Bytes): Bytes;
}

export function signer(seed: number, label: string): Signer {
  const pair = sodium.crypto_sign_seed_keypair(new Uint8Array(32).fill(seed));
  const signNow = (data: Bytes) => sodium.crypto_sign_detached(data, pair.privateKey);
  return { public: pair.publicKey, label, signNow, sign: async (data) => signNow(data) };
}

/** A file's bytes; a number is a file that is one hole of that length; null is a directory. */
export type Content = Bytes | number | null;

const sizeOf = (content: Content): number =>
  typeof content === "number" ? content : (content?.length ?? 0);

/** The manifest of these contents, named `f0`, `f1`, ... */
export function manifestOf(files: readonly Content[]): Manifest {
  const entries = files.map((content, index): Entry => ({
    path: `f${index}`,
    kind: content === null ? "directory" : "file",
    size: sizeOf(content),
    modified: 0,
    data: null,
    original: null,
  }));
  return { entries, salt: new Uint8Array(32), skipped: {}, purpose: null, reason: "" };
}

/** A party's signature of a receipt, which `receipt.sign` is held against. */
export function signReceipt(by: Signer, payload: Bytes): Bytes {
  return by.signNow(utf8(`${header(by)}.${encodeBase64url(payload)}`));
}

/** What the recipient said: the message, decrypted. */
export type Said = JsonObject & { type: string };

export class Pair {
  now = 128; // a power of two: differences of times near it are exact enough to compare
  readonly sender = signer(1, "s");
  readonly recipient = signer(2, "r");
  readonly session: RecipientSession;
  readonly secured: Secured; // the recipient's
  readonly manifest: Manifest;
  readonly data: Bytes;
  readonly tape: Tape;
  readonly said: Said[] = [];
  readonly events: Event[] = [];
  offered = ""; // the offer's body
  closed = ""; // the closing's
  receipts: { payload: Bytes; signature: Bytes }[] = [];
  private readonly toRecipient: CipherState;
  protected readonly fromRecipient: CipherState;

  constructor(
    readonly files: readonly Content[] = [utf8("hello"), utf8("world")],
    { verify = false, peerVerifies = false } = {},
  ) {
    const [there, back] = [new Uint8Array(32).fill(3), new Uint8Array(32).fill(4)];
    [this.toRecipient, this.fromRecipient] = [new CipherState(there), new CipherState(back)];
    this.secured = {
      peer: {
        identity: this.sender.public,
        label: "s",
        software: "t",
        verify: peerVerifies,
        capabilities: [],
      },
      digits: "0000-0000-0000",
      transcript: TRANSCRIPT,
      suite: FIRST_SUITE,
      send: new CipherState(back),
      receive: new CipherState(there),
      sessionKey: new Uint8Array(32),
    };
    this.manifest = manifestOf(files);
    [this.data, this.tape] = [encodeManifest(this.manifest), tapeOf(this.manifest)];
    this.session = new RecipientSession(this.secured, this.recipient, this.now, { verify });
  }

  // --- plumbing

  /** Take what the session has to say and to tell. */
  flush(): void {
    for (const frame of this.session.frames()) {
      this.said.push(decodeJson(this.fromRecipient.decrypt(frame), 65_519) as Said);
    }
    this.events.push(...this.session.events());
  }

  /** The messages of a type that the recipient has said. */
  heard(type: string): Said[] {
    return this.said.filter((message) => message.type === type);
  }

  /** The events of a type that the session has told. */
  saw<T extends Event["type"]>(type: T): Extract<Event, { type: T }>[] {
    return this.events.filter((event): event is Extract<Event, { type: T }> => event.type === type);
  }

  /** Forget what was said and told so far. */
  clear(): this {
    this.flush();
    this.said.length = this.events.length = 0;
    return this;
  }

  frame(plaintext: Bytes): Bytes {
    return this.toRecipient.encrypt(plaintext);
  }

  /** Bytes of the sender, encrypted as they must be. */
  deliver(plaintext: Bytes): void {
    this.session.receiveFrame(this.frame(plaintext), this.now);
    this.flush();
  }

  say(type: string, fields: JsonObject = {}): void {
    this.deliver(encodeJson({ type, ...fields }));
  }

  tick(seconds: number): void {
    this.now += seconds;
    this.session.tick(this.now);
    this.flush();
  }

  // --- the sender's messages, `changes` being what is wrong with them

  private signed(label: string, body: JsonObject, by: Signer): JsonObject {
    const octets = encodeJson(body);
    const signature = by.signNow(concat(utf8(label), octets));
    return { body: new TextDecoder().decode(octets), signature: encodeBase64url(signature) };
  }

  offerMessage(changes: JsonObject = {}, by = this.sender): JsonObject {
    const body = {
      type: "offer",
      transfer_id: encodeBase64url(TRANSFER),
      transcript: encodeBase64url(TRANSCRIPT),
      sender: encodeBase64url(this.sender.public),
      recipient: encodeBase64url(this.recipient.public),
      manifest_sha256: encodeBase64url(sha256(this.data)),
      manifest_bytes: this.data.length,
      entries: this.files.length,
      bytes: this.tape.total,
      time: TIME,
      ...changes,
    };
    return this.signed("handover/1 offer", body, by);
  }

  closingMessage(digests: Bytes, changes: JsonObject = {}, by = this.sender): JsonObject {
    const body = {
      type: "closing",
      transfer_id: encodeBase64url(TRANSFER),
      manifest_sha256: encodeBase64url(sha256(this.data)),
      digests_sha256: encodeBase64url(sha256(digests)),
      audit_head: "0".repeat(64),
      time: TIME,
      ...changes,
    };
    return this.signed("handover/1 closing", body, by);
  }

  offer(changes: JsonObject = {}, by = this.sender): this {
    const message = this.offerMessage(changes, by);
    this.offered = message["body"] as string;
    this.say("offer", message);
    return this;
  }

  close(digests = this.digests(), changes: JsonObject = {}, by = this.sender): this {
    const message = this.closingMessage(digests, changes, by);
    this.closed = message["body"] as string;
    this.say("closing", message);
    return this;
  }

  withdraw(...entries: [number, number, number][]): void {
    this.say("withdraw", { entries });
  }

  /** The sender's records: a SHA-256 for each file, `status` where it gave one up. */
  digests(status: { readonly [entry: number]: number } = {}): Bytes {
    const results = Results.of(this.files.length);
    this.files.forEach((content, index) => {
      if (status[index]) results.failed(index, status[index]);
      else if (content instanceof Uint8Array) results.delivered(index, sha256(content));
    });
    return results.encode();
  }

  // --- ranges: true when it was new

  admit(header: Partial<Header>): boolean {
    const whole: Header = {
      transferId: TRANSFER,
      stream: Stream.DATA,
      flags: 0,
      offset: 0,
      length: 1,
      ...header,
    };
    return this.session.admit(whole, this.now);
  }

  range(stream: Stream, offset: number, payload: Bytes): boolean {
    const header = { transferId: TRANSFER, stream, flags: 0, offset, length: payload.length };
    return this.take(header, payload);
  }

  hole(offset: number, length: number): boolean {
    const header = { transferId: TRANSFER, stream: Stream.DATA, flags: HOLE, offset, length };
    return this.take(header, new Uint8Array(0));
  }

  protected take(header: Header, payload: Bytes): boolean {
    const fresh = this.session.admit(header, this.now);
    if (fresh) this.session.written(header, payload, this.now);
    this.flush();
    return fresh;
  }

  sendManifest(data = this.data): this {
    for (let at = 0; at < data.length; at += 65_536) {
      this.range(Stream.MANIFEST, at, data.subarray(at, at + 65_536));
    }
    return this;
  }

  /** Every entry from `offset` of the tape on, in ranges of at most `step` bytes. */
  sendData(offset = 0, step = 65_536): this {
    for (const { entry, offset: from, length } of this.tape.pieces(
      offset,
      this.tape.total - offset,
    )) {
      const content = this.files[entry]!;
      const start = this.tape.start(entry);
      if (typeof content === "number") this.hole(start + from, length);
      else {
        for (let at = from; at < from + length; at += step) {
          const end = Math.min(at + step, from + length);
          this.range(Stream.DATA, start + at, content!.subarray(at, end));
        }
      }
    }
    return this;
  }

  sendDigests(digests = this.digests()): this {
    this.range(Stream.DIGESTS, 0, digests);
    return this;
  }

  // --- the recipient's shell

  async accept(offset = 0): Promise<this> {
    this.session.read(this.manifest, this.tape);
    await this.session.accept(TIME, offset, () => this.now);
    this.flush();
    return this;
  }

  sync(durable = this.session.frontier): this {
    this.session.synced(durable, this.now);
    this.flush();
    return this;
  }

  readBack(upto = this.session.frontier): this {
    this.session.verified(upto, this.now);
    this.flush();
    return this;
  }

  /** Sign and send the receipt; `refused` is what this side could not place. */
  finish(refused: [number, number][] = [], digests = this.digests()): this {
    const results = Results.decode(digests, this.manifest);
    for (const [entry, status] of refused) results.failed(entry, status);
    const payload = this.payload(results);
    const signature = signReceipt(this.recipient, payload);
    this.receipts.push({ payload, signature });
    this.session.finish(results, refused, payload, signature, this.now);
    this.flush();
    return this;
  }

  private payload(results: Results): Bytes {
    const head = "0".repeat(64);
    return encodeJson({
      type: receipt.TYPE,
      sender: receipt.party(this.sender.public, "s", "t", this.session.senderAuditHead),
      recipient: receipt.party(this.recipient.public, "r", "t", head),
      stored: "browser",
      security: {
        suite: "x",
        transcript: encodeBase64url(TRANSCRIPT),
        fingerprint_sender: encodeBase64url(new Uint8Array(32)),
        fingerprint_recipient: encodeBase64url(new Uint8Array(32)),
        path: "direct",
        digits_confirmed: false,
        passphrase: false,
      },
      ...this.session.receiptMembers(results, resultsRoot(this.manifest, results), TIME),
    });
  }

  /** The sender's signature over the receipt that came. */
  countersignature(by = this.sender): Bytes {
    return signReceipt(by, this.receipts.at(-1)!.payload);
  }

  countersign(by = this.sender): this {
    this.say("countersignature", { signature: encodeBase64url(this.countersignature(by)) });
    return this;
  }

  confirm(): this {
    this.session.confirm(this.now);
    this.flush();
    return this;
  }

  /** A pair whose recipient has come to a state in the ordinary way. */
  static async at(state: RecipientState, files?: readonly Content[]): Promise<Pair> {
    const pair = new Pair(files);
    const steps: (() => unknown)[] = [
      () => pair.offer(),
      () => pair.sendManifest(),
      () => pair.accept(),
      () => pair.sendData().sync().readBack().close().sendDigests(),
      () => pair.finish(),
      () => pair.countersign().confirm(),
    ];
    for (const step of steps) {
      if (pair.session.state === state) break;
      await step();
    }
    if (pair.session.state !== state) throw new Error(`not ${state} but ${pair.session.state}`);
    return pair;
  }
}

/** The protected header of a signer, written here from RFC 7515 and PROTOCOL.md alone. */
function header(by: Signer): string {
  const x = encodeBase64url(by.public);
  const kid = encodeBase64url(sha256(utf8(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`)));
  return encodeBase64url(utf8(`{"alg":"Ed25519","kid":"${kid}"}`));
}

/** A message of every type that has the right form, whether or not it is right. */
export function sample(pair: Pair): { [type: string]: JsonObject } {
  const signature = encodeBase64url(new Uint8Array(64));
  const entries: Json = [[0, 1, 0]];
  return {
    confirmed: {},
    offer: pair.offerMessage(),
    accept: { body: "{}", signature },
    decline: {},
    ack: { stream: 1, written: 0, limit: 0, durable: 0, verified: 0, lanes: [] },
    direct: { addresses: ["192.0.2.1"], port: 4000, certificate: "AAAA" },
    https: { token: encodeBase64url(new Uint8Array(32)) },
    lane: { lane: 1, signal: '{"type":"candidates","candidates":[],"relayed":false}' },
    withdraw: { entries },
    failed: { entries: [[0, 17]] },
    closing: pair.closingMessage(pair.digests()),
    receipt: { payload: "{}", signature },
    countersignature: { signature },
    done: {},
    ping: { bottleneck: "" },
    abort: { code: "cancelled" },
  };
}
