/**
 * An invitation, as its guest: a link that somebody else made (mirrors `p2p/invitation.py`): a link, its room, attempts at it, the
 * handshake, and when to try again. It knows nothing of disks: what an attempt comes to is the
 * transfer's.
 */
import sodium from "libsodium-wrappers-sumo";

import { clock, sleep } from "../clock";
import { GuestSeat, stayingAt } from "../connect/rendezvous";
import type { Outcome as AttemptOutcome } from "../connect/signaling_messages";
import { Transports } from "../connect/transports";
import type { Event } from "../events";
import { LaneLost } from "../lanes/lane";
import type { HttpsConnections } from "../lanes/https/connection";
import type { PeerConnections } from "../lanes/webrtc/connection";
import { hex, type Bytes } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import {
  GuestHandshake,
  HANDSHAKE_SECONDS,
  LANES,
  RESUME,
  ZSTD_FRAMES,
  type Identity,
} from "../protocol/handshake";
import {
  deriveKeys,
  pskSecrets,
  journalKey,
  storeKey,
  type Link,
  type LinkKeys,
  type PskSecrets,
  type StorageKeys,
} from "../protocol/link";
import { NO_POLICY, isSame, type Policy } from "../protocol/policy";
import type { Connected } from "../transfer/driver";
import { failed, type Outcome } from "../transfer/outcome";
import type { RecipientTransfer } from "../transfer/recipient";
import { SOFTWARE } from "../version";
import { mustCompare, policyTold } from "./policy";

const SLOW_SECONDS = 5; // without a connection, after which people are told the usual causes
const [FIRST_BACKOFF, LAST_BACKOFF] = [0.5, 5];
const DISARM_SECONDS = 1; // for a host to withdraw a link after the last guess
const LEFT_SECONDS = 10; // in which an introduction that broke off is tried again; a server may be gone
const PROBES = 3; // connections that may come to nothing before the handshake is through
const CAPABILITIES = [RESUME, LANES, ZSTD_FRAMES]; // of a recipient
const LATE_SECONDS = 2; // well before a host takes large packets for lost

export class GuestInvitation {
  private readonly keys: LinkKeys;
  /** The room's name, hex. */
  readonly room: string;
  private secrets!: PskSecrets;
  private transfer: RecipientTransfer | null = null;
  private staying: Promise<void> | null = null; // until the server was told
  private heard: () => void = () => {};
  private stopped = false;
  private policy = NO_POLICY; // of the server's operator
  private verify = false; // it asks that digits are compared
  private left = false; // the last attempt was over before a connection was open
  private wake: () => void = () => {}; // from a pause or an attempt, when it is stopped

  constructor(
    private readonly link: Link,
    private readonly around: {
      readonly peerConnections: PeerConnections;
      readonly httpsConnections: HttpsConnections;
    },
    private readonly tell: (event: Event) => void,
  ) {
    this.keys = deriveKeys(link.secret);
    this.room = hex(this.keys.room);
  }

  /** Whether a passphrase is needed. */
  get passphrase(): boolean {
    return this.link.passphrase;
  }

  /** Keep a server that ends with the transfer there, for this page to be loaded anew. */
  stay(): void {
    if (this.staying) return;
    this.staying = new Promise((resolve) => (this.heard = resolve));
    this.tell({ event: "stay", at: stayingAt(this.link.origin, this.keys) });
  }

  /** The server was told, or is not to be had. */
  stayed(): void {
    this.heard();
  }

  /** There is nothing to save any more. */
  leave(): void {
    if (this.staying) this.tell({ event: "leave" });
  }

  /** The keys of what is stored in this browser, by its salt and what only the sender knows. */
  storageKeys(salt: Bytes, share: Bytes): StorageKeys {
    return { salt, store: storeKey(this.link.secret, share, salt), journal: this.journalKey(salt) };
  }

  /** That of the names alone, which the link opens. */
  journalKey(salt: Bytes): Bytes {
    return journalKey(this.link.secret, salt);
  }

  /** Meet the host and run the transfer until it has ended, in whatever way. */
  async receive(
    transfer: RecipientTransfer,
    identity: Promise<Identity>,
    passphrase: string | null,
  ): Promise<void> {
    this.transfer = transfer;
    let outcome: Outcome;
    try {
      const own = await identity;
      await transfer.recall();
      this.secrets = pskSecrets(this.keys, this.link.passphrase ? (passphrase ?? "") : null);
      outcome = await this.sessions(transfer, own);
    } catch (error) {
      outcome = failed(error);
    }
    await transfer.end(outcome);
  }

  /** A person stopped it. */
  stop(): void {
    this.stopped = true;
    this.transfer?.stop();
    this.wake();
  }

  /** One session after the other, until one has come to an end that is one. */
  private async sessions(transfer: RecipientTransfer, identity: Identity): Promise<Outcome> {
    let backoff = FIRST_BACKOFF;
    let [lostAt, heard, there] = [clock(), clock(), clock()];
    let probes = PROBES;
    const began = clock();
    for (;;) {
      let proven = false; // whether the host of this session is
      let failure: unknown = null;
      try {
        if (this.stopped && transfer.unconfirmed) return transfer.unconfirmed;
        if (this.stopped) throw new Failure("cancelled");
        if (!transfer.underway) this.tell({ event: "state", state: "opened" });
        const connected = await this.attempt(identity, transfer.underway === null);
        proven = true;
        const outcome = await transfer.session(connected);
        if (outcome.code !== "unconfirmed") return outcome;
      } catch (error) {
        const probing = !proven && !this.stopped && !transfer.underway;
        if (probing && brokeOff(error) && --probes) continue;
        if (probing && this.left && clock() - began < LEFT_SECONDS && --probes) {
          await sleep(FIRST_BACKOFF);
          continue;
        }
        if (this.stopped && !transfer.unconfirmed) throw error;
        failure = error;
      }
      if (this.stopped && transfer.unconfirmed) return transfer.unconfirmed;
      const now = clock();
      if (proven) heard = now;
      if (!isNobodyThere(failure)) there = now;
      const last = transfer.brokeOff(failure, proven, now - heard, now - there);
      if (last) return last;
      this.tell({ event: "state", state: transfer.cut });
      const moved = proven && transfer.moved;
      if (moved) lostAt = now;
      if (transfer.cut === "lost" && now - lostAt > SLOW_SECONDS) this.tell({ event: "slow" });
      const stopped = () => this.stopped;
      const pause = sleep(backoff).then(() => transfer.ready(stopped));
      await Promise.race([pause, new Promise<void>((wake) => (this.wake = wake))]);
      backoff = moved ? FIRST_BACKOFF : Math.min(2 * backoff, LAST_BACKOFF);
    }
  }

  /** One try to connect and to be let in. Throws `HandoverError`. */
  private async attempt(identity: Identity, first: boolean): Promise<Connected> {
    const transports = new Transports(this.around.peerConnections, this.around.httpsConnections);
    const slow = setTimeout(() => this.tell({ event: "slow" }), SLOW_SECONDS * 1000);
    try {
      return await this.shakeHands(transports, identity, first);
    } catch (error) {
      transports.close();
      throw error;
    } finally {
      clearTimeout(slow);
    }
  }

  /** Whether the link still leads to somebody, after a guess. */
  private async isOpen(): Promise<boolean> {
    await sleep(DISARM_SECONDS);
    try {
      (await GuestSeat.join(this.link.origin, this.keys)).close();
      return true;
    } catch (error) {
      return !(error instanceof Failure && error.code === "not_found"); // no answer is no word
    }
  }

  /** The server says what its operator asks. Throws `Failure`. */
  private onPolicy(policy: Policy, first: boolean): void {
    if (!isSame(policy, this.policy)) {
      this.policy = policy;
      this.tell(policyTold(policy));
    }
    const missing = this.link.passphrase ? "" : "policy_passphrase_link";
    if (first) this.verify = mustCompare(policy, missing);
  }

  private async shakeHands(
    transports: Transports,
    identity: Identity,
    first: boolean, // nothing is under way yet, so the passphrase may be wrong
  ): Promise<Connected> {
    let [opened, passed3, over] = [false, false, false];
    this.left = false;
    let seat: GuestSeat | null = null;
    let ended: AttemptOutcome = "no_connection";
    const check = () => {
      if (over) throw new LaneLost(); // nobody waits for it any more
    };
    const { link, keys, secrets } = this;
    let lose: () => void = () => {};
    const work = async (): Promise<Connected> => {
      const joined = await GuestSeat.join(link.origin, keys);
      if (over) joined.close();
      check();
      seat = joined;
      this.onPolicy(joined.policy, first);
      const given = { passphrase: link.passphrase, hostSends: true };
      const way = await transports.connectGuest(seat, keys, given);
      const { connection, binding, frames } = way;
      connection.onLost = () => lose();
      check();
      opened = true;
      ended = "connection_lost_early";
      const began = clock();
      const random = () => sodium.randombytes_buf(32);
      const entropy = {
        static_: random(),
        ephemeral: random(),
        nonce: random(),
        session: random(),
      };
      const handshake = new GuestHandshake(binding, {
        secrets,
        secret: link.secret,
        commitment: link.commitment,
        identity,
        software: SOFTWARE,
        verify: this.verify,
        capabilities: CAPABILITIES,
        entropy,
      });
      connection.control.send(handshake.message1());
      const message3 = await handshake.receive2(await frames.next());
      check();
      connection.control.send(message3);
      // A late one may have crossed the host's decision to connect anew.
      passed3 = clock() - began < LATE_SECONDS;
      if (passed3 && link.passphrase && first) ended = "passphrase_wrong";
      const secured = handshake.receive4(await frames.next());
      ended = connection.path;
      const early = () => frames.rest();
      const stayed = () => this.staying ?? Promise.resolve();
      const { open } = transports;
      const sessionPrivate = entropy.session;
      const { maxMessageSize, relayOnly } = way;
      const { verify } = this;
      return {
        verify,
        binding,
        identity,
        secured,
        sessionPrivate,
        connection,
        open,
        relayOnly,
        maxMessageSize,
        stayed,
        early,
      };
    };
    const lost = new Promise<never>((_, reject) => {
      lose = () => reject(new LaneLost());
      setTimeout(() => reject(new LaneLost()), HANDSHAKE_SECONDS * 1000);
      this.wake = () => reject(new Failure("cancelled"));
    });
    lost.catch(() => {});
    try {
      return await Promise.race([work(), lost]);
    } catch (error) {
      if (!(error instanceof LaneLost)) {
        ended = this.stopped ? "cancelled" : "failed";
        throw error;
      }
      if (passed3 && link.passphrase && first) {
        if (await this.isOpen()) throw new Failure("passphrase_wrong");
        throw new Failure("not_found", "link_disabled");
      }
      if (opened) throw new Failure("connection_lost_early");
      this.left = (seat as GuestSeat | null)?.over ?? false;
      throw new Failure("no_connection", transports.obstacle);
    } finally {
      over = true;
      (seat as GuestSeat | null)?.close(ended);
    }
  }
}

/** Whether a handshake ended halfway: the path may carry only small packets, which the host uses the
 * next time. */
function brokeOff(error: unknown): boolean {
  return error instanceof Failure && error.code === "connection_lost_early";
}

/** Whether somebody answered that nobody is waiting, or nobody answered at all: a browser does not tell a
 * server that is gone from one that it cannot reach. */
function isNobodyThere(failure: unknown): boolean {
  const codes = ["not_found", "server_unreachable"];
  return failure instanceof Failure && codes.includes(failure.code);
}
