/**
 * An invitation, as its host: a link of this side's own (mirrors `p2p/invitation.py`), its room, the
 * attempts of guests, and admission. It lives as long as its link and may see many attempts. It knows
 * nothing of files: a guest that is proven is handed to the transfer.
 */
import sodium from "libsodium-wrappers-sumo";

import { sleep } from "../clock";
import { HostSeat, type Attempt, type OpenSocket } from "../connect/rendezvous";
import { Transports, type Opened } from "../connect/transports";
import type { Answer, Event, Question, WarningCode } from "../events";
import { LaneLost } from "../lanes/lane";
import type { PeerConnections } from "../lanes/webrtc/connection";
import { same, type Bytes } from "../protocol/codec";
import { Failure, HandoverError } from "../protocol/errors";
import {
  HANDSHAKE_SECONDS,
  HostHandshake,
  MAX_FAILED_ATTEMPTS,
  type Refusal,
  type Secured,
} from "../protocol/handshake";
import { deriveKeys, parseLink, type LinkKeys } from "../protocol/link";
import { NO_POLICY, isSame, type Policy } from "../protocol/policy";
import type { Connected } from "../transfer/driver";
import { asFailure, failed, type Outcome } from "../transfer/outcome";
import { Send } from "../transfer/send";
import { CUT_SECONDS, type SenderTransfer } from "../transfer/sender";
import { mustCompare, policyTold } from "./policy";
import { SOFTWARE } from "../version";

const MAX_ATTEMPTS = 2; // unproven guests at once
const RETAKE_SECONDS = 5; // before a room is asked for anew
const LAST_WORD_SECONDS = 60; // for a recipient to fetch what both have signed
const LOOK_MS = 1000;
const ASLEEP_MS = 10_000; // between two looks at the clock: the computer slept

/** A guest that is proven and may come in, once it is its turn. */
interface Greeted {
  readonly opened: Opened;
  readonly transports: Transports;
  readonly handshake: HostHandshake;
  readonly secured: Secured;
}

/** What a host needs of the page. */
export interface HostSurroundings {
  readonly peerConnections: PeerConnections;
  readonly openSocket: OpenSocket;
  tell(event: Event): void;
  ask(kind: Question): Promise<Answer>;
  /** Ask for what lets this host create rooms; `signIn` is where it can be had, or "". */
  askToken(signIn: string): Promise<Answer>;
}

export class HostInvitation {
  private readonly keys: LinkKeys;
  private readonly passphrase: boolean;
  private readonly seat: HostSeat;
  private readonly attempts = new Set<Promise<void>>();
  private failedAttempts = 0;
  private claimed: Promise<void> = Promise.resolve(); // until the guest that is admitted or served is gone
  private serving: Bytes | null = null; // the identity of that guest, ...
  private session: Send | null = null; // ... and its session
  private policy = NO_POLICY; // of the server's operator
  private furthest: number; // that the transfer has come
  private lookedAt = Date.now();
  private stopped = false;
  private over = false;
  private conclude!: (outcome: Outcome) => void;
  private giveUp!: (error: unknown) => void;
  private readonly ended: Promise<Outcome>;

  constructor(
    private readonly transfer: SenderTransfer,
    private readonly around: HostSurroundings,
  ) {
    const { link, owner, expiresAt } = transfer.record;
    const { origin, secret, passphrase } = parseLink(link);
    [this.keys, this.passphrase] = [deriveKeys(secret), passphrase];
    const rest = Math.max(1, (expiresAt - Date.now()) / 1000);
    const left = transfer.receipt ? LAST_WORD_SECONDS : rest;
    this.furthest = transfer.durable;
    this.seat = new HostSeat(origin, this.keys, left, owner, around.openSocket, {
      onPolicy: (policy) => this.onPolicy(policy),
      onServer: (there) => this.onServer(there),
      onAttempt: (attempt) => this.onAttempt(attempt),
    });
    this.ended = new Promise((resolve, reject) => {
      [this.conclude, this.giveUp] = [resolve, reject];
    });
  }

  /** Until the transfer has ended, in whatever way; `linked` is called once the link is one. */
  async run(linked: () => void): Promise<void> {
    this.linked = linked;
    let outcome: Outcome;
    const timer = setInterval(() => this.keepTime(), LOOK_MS);
    try {
      this.transfer.prepare().catch(this.giveUp); // what cannot be sent ends it before anyone comes
      void this.hold();
      outcome = await this.ended;
    } catch (error) {
      outcome = failed(error);
    } finally {
      this.over = true;
      this.session?.stop(); // whoever is at the door is told
      clearInterval(timer);
      this.seat.close();
    }
    await this.transfer.end(outcome);
  }

  private linked: () => void = () => {};

  /** A person stopped it. */
  stop(): void {
    this.stopped = true;
    if (this.session) this.session.stop();
    else this.giveUp(new Failure("cancelled"));
  }

  /** The network may be another. */
  renew(): void {
    this.seat.renew();
  }

  // --- the room

  /** Keep the host's seat until it is over. */
  private async hold(): Promise<void> {
    while (!this.over) {
      try {
        await this.seat.run();
        return;
      } catch (failure) {
        if (failure instanceof Failure && failure.code === "token_required") {
          const given = await this.around.askToken(failure.detail);
          if (typeof given !== "string") return this.giveUp(failure);
          this.seat.token = given;
          continue;
        }
        // A transfer under way does not need the server, a cut one needs it again.
        while (!this.over && this.attempts.size && !this.transfer.cut) await sleep(0.2);
        if (this.over) return;
        const final = failure instanceof Failure && failure.code === "not_allowed";
        if (!this.transfer.cut || final) return this.giveUp(failure);
        this.onServer(false);
        await sleep(RETAKE_SECONDS);
      }
    }
  }

  private onServer(there: boolean): void {
    this.linked();
    this.linked = () => {};
    if (!this.serving) this.tellState(there ? (this.transfer.cut ?? "waiting") : "server_lost");
  }

  /** The server says what its operator asks. Throws `Failure`. */
  private onPolicy(policy: Policy): void {
    const { transfer } = this;
    if (!isSame(policy, this.policy)) {
      this.policy = policy;
      this.around.tell(policyTold(policy));
    }
    transfer.maxExpires = policy.max_expires ?? Infinity;
    if (transfer.peer) return; // it was agreed on before
    const missing = this.passphrase ? "" : "policy_passphrase";
    if (mustCompare(policy, missing)) void transfer.note({ verify: true }).catch(() => {});
    if (policy.max_expires === null) return;
    this.seat.shorten(policy.max_expires);
    const expiresAt = Math.round(Date.now() + this.seat.left * 1000);
    if (expiresAt < transfer.record.expiresAt) void transfer.note({ expiresAt }).catch(() => {});
  }

  private keepTime(): void {
    const { transfer } = this;
    const now = Date.now();
    if (now - this.lookedAt > ASLEEP_MS) this.renew(); // the server may be gone without a word
    this.lookedAt = now;
    // The link is this guest's alone, and stays good while it gets further.
    if (transfer.cut && !transfer.receipt && transfer.durable > this.furthest) {
      this.furthest = transfer.durable;
      this.seat.extend(CUT_SECONDS);
      const ended = { durable: transfer.durable, expiresAt: now + this.seat.left * 1000 };
      void transfer.note(ended).catch(() => {});
    }
    if (this.attempts.size || this.seat.left) return;
    try {
      this.conclude(transfer.giveUp());
    } catch (failure) {
      this.giveUp(failure);
    }
  }

  // --- one guest

  private onAttempt(attempt: Attempt): void {
    if (this.guessesLeft <= 0 || this.attempts.size >= MAX_ATTEMPTS || this.over) {
      return attempt.leave();
    }
    const work = this.attempt(attempt)
      .catch((error) => this.giveUp(error))
      .finally(() => {
        this.attempts.delete(work);
        if (!this.serving && this.guessesLeft <= 0) this.giveUp(new Failure("disarmed"));
        if (!this.serving && !this.over) this.tellState(this.transfer.cut ?? "waiting");
      });
    this.attempts.add(work);
  }

  /** One guest, from its knock to its end. Throws what ends the whole invitation. */
  private async attempt(attempt: Attempt): Promise<void> {
    const transports = new Transports(this.around.peerConnections);
    transports.onKnock = () => {
      if (!this.serving) this.tellState("opened");
    };
    let served = false;
    try {
      const greeted = await this.greet(transports, attempt);
      if (!greeted || this.over) return;
      const { identity } = greeted.secured.peer;
      // It came back before its old connection was known dead.
      if (this.session && this.serving && same(this.serving, identity)) this.session.giveWay();
      served = await this.inTurn(() => this.admitAndServe(greeted));
    } finally {
      if (!served) transports.close();
    }
  }

  /** One guest after the other. */
  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    const before = this.claimed;
    let leave!: () => void;
    this.claimed = new Promise((resolve) => (leave = resolve));
    await before;
    try {
      return await work();
    } finally {
      leave();
    }
  }

  /** Whether it was served; its connection then closes by itself. */
  private async admitAndServe(greeted: Greeted): Promise<boolean> {
    const { secured, handshake, opened } = greeted;
    const { control } = opened.connection;
    if (this.over) return false;
    if (this.isAnothers(secured.peer.identity)) {
      control.send(handshake.refuse4("claimed")); // by now
      return false;
    }
    this.serving = secured.peer.identity;
    try {
      control.send(handshake.message4());
      await this.serve(greeted);
      return true;
    } finally {
      [this.serving, this.session] = [null, null];
    }
  }

  /** Connect and shake hands; null when it came to nothing. Throws `Failure` when the link is disarmed. */
  private async greet(transports: Transports, attempt: Attempt): Promise<Greeted | null> {
    let lose: (error: unknown) => void = () => {};
    const lost = new Promise<never>((_, reject) => {
      lose = reject;
      setTimeout(() => reject(new LaneLost()), HANDSHAKE_SECONDS * 1000);
    });
    lost.catch(() => {});
    try {
      return await Promise.race([
        this.shakeHands(transports, attempt, () => lose(new LaneLost())),
        lost,
      ]);
    } catch (error) {
      if (!(error instanceof LaneLost)) {
        this.count(asFailure(error)); // a stranger must not end it, whatever it found
      } else if (transports.knocked) this.warn("no_connection", transports.obstacle);
      return null;
    } finally {
      attempt.leave();
    }
  }

  private async shakeHands(
    transports: Transports,
    attempt: Attempt,
    lose: () => void,
  ): Promise<Greeted | null> {
    const { secrets, verify } = this.transfer.record;
    const given = { passphrase: this.passphrase, hostSends: true };
    const opened = await transports.connectHost(attempt, this.keys, given);
    const { connection, frames, binding } = opened;
    connection.onLost = lose;
    const random = () => sodium.randombytes_buf(32);
    const handshake = new HostHandshake(binding, {
      secrets,
      identity: this.transfer.identity,
      software: SOFTWARE,
      verify,
      capabilities: [],
      entropy: { static_: random(), ephemeral: random(), nonce: random() },
    });
    const { control } = connection;
    control.send(await handshake.receive1(await frames.next()));
    const secured = handshake.receive3(await frames.next());
    const refusal = this.refusal(secured.peer.identity);
    // No word on whether a guess was right.
    if (refusal && this.failedAttempts >= MAX_FAILED_ATTEMPTS) throw new Failure("guest_unproven");
    if (!refusal) return { opened, transports, handshake, secured };
    control.send(handshake.refuse4(refusal));
    await sleep(1); // for it to be heard
    return null;
  }

  /** An attempt failed; it may have been a guess. Throws `Failure` when that was the last. */
  private count(error: HandoverError): void {
    const guess = error.code === "guest_unproven";
    if (guess) this.failedAttempts++;
    const left = this.guessesLeft;
    if (left <= 0 && !this.serving) throw new Failure("disarmed");
    if (this.failedAttempts > MAX_FAILED_ATTEMPTS) return;
    if (guess && !this.transfer.peer) this.warn("guesses_left", String(left));
    else this.warn(error.code, error.detail);
  }

  /** The session with a proven guest; its connection lives on until its last word is heard. */
  private async serve({ opened, transports, secured }: Greeted): Promise<void> {
    const { binding, connection, frames, relayOnly, maxMessageSize } = opened;
    const connected: Connected = {
      binding,
      identity: this.transfer.identity,
      secured,
      verify: this.transfer.record.verify,
      sessionPrivate: new Uint8Array(0),
      connection,
      open: transports.open,
      relayOnly,
      maxMessageSize,
      stayed: () => Promise.resolve(),
      early: () => frames.rest(),
    };
    const send = new Send(connected, this.transfer, this.around, (compared) =>
      this.admit(compared),
    );
    this.session = send;
    try {
      this.conclude(await send.ended);
    } catch (error) {
      const failure = asFailure(error);
      const ends = this.stopped || !(await this.transfer.outlives(failure, send.canResume));
      if (ends) this.giveUp(failure);
      else if (this.stopped) this.giveUp(new Failure("cancelled")); // meanwhile
    } finally {
      void send.hangUp();
    }
  }

  // --- admission

  /**
   * Failed attempts until the link is disarmed. Once it is one guest's alone they gain nothing, and must not
   * cost that one its way back.
   */
  private get guessesLeft(): number {
    return MAX_FAILED_ATTEMPTS - (this.transfer.peer ? 0 : this.failedAttempts);
  }

  /** Why this guest is turned away, or "". */
  private refusal(identity: Bytes): Refusal | "" {
    if (this.isAnothers(identity)) return "claimed";
    if (this.serving && !same(this.serving, identity)) return "claimed"; // the same one may come back
    const { to } = this.transfer.record;
    return to && !same(to, identity) ? "not_for_you" : "";
  }

  /** Whether somebody else was let in. */
  private isAnothers(identity: Bytes): boolean {
    const { peer } = this.transfer;
    return peer !== null && !same(peer, identity);
  }

  /** Let this guest in, or throw `Failure`: asked only where nothing else has decided it. */
  private async admit(compared: boolean): Promise<void> {
    const { peer, record } = this.transfer;
    // To have met before gives a peer a name, and no right to these files.
    const back = peer !== null && this.serving !== null && same(peer, this.serving);
    if (record.to || back || compared) return;
    if ((await this.around.ask("admit")) !== true) throw new Failure("declined");
  }

  private tellState(state: Extract<Event, { event: "state" }>["state"]): void {
    this.around.tell({ event: "state", state });
  }

  private warn(code: WarningCode, detail = ""): void {
    this.around.tell({ event: "warning", code, detail });
  }
}
