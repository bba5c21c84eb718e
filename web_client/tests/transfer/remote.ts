/** The sender at the other end of lanes in memory (`Remote`), for what runs a session. */
import sodium from "libsodium-wrappers-sumo";

import type { Answer, Event, PathKind, Person } from "../../src/events";
import type { Lane } from "../../src/lanes/lane";
import { PeerConnections, type Connection } from "../../src/lanes/webrtc/connection";
import { decodeJson, type Bytes } from "../../src/protocol/codec";
import { RangeSealer, type Header } from "../../src/protocol/seal";
import { FIRST_SUITE } from "../../src/protocol/suite";
import type { Connected } from "../../src/transfer/driver";
import { Pair, type Said } from "../protocol/pair";

/** This side's end of a lane whose other end is the test. */
export class MemoryLane implements Lane {
  readonly sent: Bytes[] = [];
  readonly opened = Promise.resolve();
  onLost = () => {};
  private handler: (message: Bytes) => void = () => {};

  set onMessage(handler: (message: Bytes) => void) {
    this.handler = handler;
  }

  /** A message comes. */
  deliver(message: Bytes): void {
    this.handler(message);
  }

  send(message: Bytes): void {
    this.sent.push(message);
  }

  async room(): Promise<void> {}

  close(): void {}
}

/** What the transfer sees of a connection; `lose` cuts it. */
export class MemoryConnection {
  readonly control = new MemoryLane();
  readonly data = new MemoryLane();
  path: PathKind = "direct";
  closed = false;
  onLost: () => void = () => {};

  lose(): void {
    this.onLost();
  }

  close(): void {
    this.closed = true;
  }
}

export class Remote extends Pair {
  readonly connection = new MemoryConnection();
  stayed: Promise<void> = Promise.resolve();
  private readonly keys = sodium.crypto_box_keypair();

  /** What the recipient's side has of it. */
  get connected(): Connected {
    const fingerprint = new Uint8Array(32);
    return {
      binding: {
        room: new Uint8Array(16),
        attempt: new Uint8Array(16),
        nonceGuest: new Uint8Array(16),
        nonceHost: new Uint8Array(16),
        fingerprintHost: fingerprint,
        fingerprintGuest: fingerprint,
        passphrase: false,
        hostSends: true,
      },
      identity: this.recipient,
      verify: false,
      secured: this.secured,
      sessionPrivate: this.keys.privateKey,
      connection: this.connection as unknown as Connection,
      open: () => new PeerConnections(() => {}).open(),
      relayOnly: false,
      maxMessageSize: 262_144,
      stayed: () => this.stayed,
      early: () => [],
    };
  }

  override deliver(plaintext: Bytes): void {
    this.connection.control.deliver(this.frame(plaintext));
  }

  override flush(): void {
    for (const frame of this.connection.control.sent.splice(0)) {
      this.said.push(decodeJson(this.fromRecipient.decrypt(frame), 65_519) as Said);
    }
  }

  protected override take(header: Header, payload: Bytes): boolean {
    const sealer = new RangeSealer(FIRST_SUITE, this.keys.publicKey);
    this.connection.data.deliver(sealer.seal(header, payload));
    return true;
  }

  /** Until the recipient has said so much of a type. */
  async until(type: string, count = 1): Promise<Said[]> {
    for (let tries = 0; tries < 200; tries++) {
      this.flush();
      const said = this.heard(type);
      if (said.length >= count) return said;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`no ${type} in ${JSON.stringify(this.said.map((one) => one.type))}`);
  }

  /** Until this much is on the recipient's disk for good. */
  async untilDurable(offset: number): Promise<void> {
    for (let count = 1; ; count++) {
      const acks = await this.until("ack", count);
      if (acks.some((ack) => ack["stream"] === 1 && Number(ack["durable"]) >= offset)) return;
    }
  }

  /** The signature over the receipt that came. */
  async sign(): Promise<void> {
    const [message] = await this.until("receipt");
    const payload = new TextEncoder().encode(String(message!["payload"]));
    this.receipts.push({ payload, signature: new Uint8Array(64) });
    this.countersign();
  }
}

/** Somebody who answers at once, and whose page notes what it is told. */
export class Visitor implements Person {
  readonly told: Event[] = [];
  folders = false;

  constructor(private readonly answer: Answer = true) {}

  tell(event: Event): void {
    this.told.push(event);
  }

  async ask(): Promise<Answer> {
    return this.answer;
  }

  async persist(): Promise<boolean> {
    return false;
  }

  /** The last event of a kind. */
  last<E extends Event["event"]>(name: E): Extract<Event, { event: E }> {
    const found = this.told.filter(
      (one): one is Extract<Event, { event: E }> => one.event === name,
    );
    return found.at(-1)!;
  }
}
