/**
 * What a running session needs in either role: frames, the clock, one way of dispatching events, and a
 * goodbye.
 *
 * Every input of the session goes through `step`, which sends its frames and hands on its events before
 * the next. The role that owns the driver brings bytes and answers.
 */
import { clock, sleep } from "../clock";
import type { Event as PageEvent } from "../events";
import type { Pair } from "../lanes/lane";
import type { Connection } from "../lanes/webrtc/connection";
import type { Bytes } from "../protocol/codec";
import { HandoverError, PeerError, type Code } from "../protocol/errors";
import type { ChannelBinding, Identity, Secured } from "../protocol/handshake";
import { shownLabel } from "../protocol/labels";
import { fingerprint, thumbprint } from "../protocol/receipt";
import type { Contacts } from "../state/contacts";
import type { Outcome } from "./outcome";

const TICK = 50; // milliseconds; acknowledgements are due as often
const LAST_WORD_SECONDS = 2; // for the other side to hear why this side ends it

/** Two peers that know each other, and the lanes between them. */
export interface Connected {
  readonly binding: ChannelBinding;
  readonly identity: Identity; // this side's
  readonly secured: Secured;
  readonly verify: boolean; // this side wants the check digits compared
  readonly sessionPrivate: Bytes; // of x_R, at the recipient; at the sender none
  readonly connection: Pair;
  readonly open: () => Connection; // a further direct one
  readonly relayOnly: boolean; // there may be no direct connection
  readonly maxMessageSize: number; // bytes that the other side takes at once
  /** Until the server knows that this page will have something to save. */
  stayed(): Promise<void>;
  /** Takes the frames that came behind the handshake. */
  early(): Bytes[];
}

/** The session of a role, as far as it has to be driven. */
export interface Session<Event> {
  receiveFrame(frame: Bytes, now: number): void;
  lost(): void;
  readonly settling: boolean;
  deadline(): number;
  tick(now: number): void;
  abort(code: Code, now: number): void;
  frames(): Bytes[];
  events(): Event[];
}

/** What the driver asks of the role. */
export interface Role<Event> {
  /** An event of the session. */
  handle(event: Event): void;
  /** Some time has passed. */
  tick(): void;
  /** The session is over: nothing of it is to come any more. */
  stop(): void;
}

export class Driver<Event> {
  over = false;
  /** Settles once, with how the session ended. */
  readonly ended: Promise<Outcome>;
  private resolve!: (outcome: Outcome) => void;
  private reject!: (error: unknown) => void;
  private readonly timer: ReturnType<typeof setInterval>;
  private heard: Promise<unknown> = Promise.resolve();
  private readonly waiting: (() => void)[] = []; // for the session's next input

  constructor(
    private readonly session: Session<Event>,
    private readonly connection: Pair,
    private readonly role: Role<Event>,
  ) {
    this.ended = new Promise((resolve, reject) => {
      [this.resolve, this.reject] = [resolve, reject];
    });
    this.timer = setInterval(() => this.step(() => this.tick()), TICK);
    connection.onLost = () => this.step(() => session.lost());
    connection.control.onMessage = (frame) => this.receive(frame);
  }

  /** A control frame came. */
  receive(frame: Bytes): void {
    this.step(() => {
      try {
        this.session.receiveFrame(frame, clock());
      } catch (error) {
        if (!(error instanceof PeerError && this.session.settling)) throw error;
        this.session.lost(); // the files are delivered: only a signature is missing
      }
    });
  }

  /** Call the session; then its frames and events. What is thrown ends it. */
  step(call: () => void): void {
    if (this.over) return;
    try {
      call();
    } catch (error) {
      this.flush();
      return this.fail(error);
    }
    this.flush();
    this.wake();
  }

  /** Wait for the session's next input of any kind, time included, or its end. */
  woken(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  private wake(): void {
    this.waiting.splice(0).forEach((go) => go());
  }

  /** Carry an asynchronous part to its end; its error is the session's. */
  async carry(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      this.fail(error);
    }
  }

  /** End it for this reason. `said`: a last word, which the other side is to hear, is on its way. */
  fail(error: unknown, said = false): void {
    if (this.over) return;
    const code = error instanceof HandoverError ? error.code : "internal";
    if (!(error instanceof HandoverError)) console.error("internal", (error as Error).name);
    this.session.abort(code, clock());
    const frames = this.session.frames();
    for (const frame of frames) this.connection.control.send(frame);
    this.stop();
    const cut = code === "connection_lost" || code === "connection_lost_early";
    if (said || (frames.length && !cut)) this.waitToBeHeard();
    this.reject(error);
  }

  /** It has ended in the ordinary way. */
  finish(outcome: Outcome): void {
    this.stop();
    this.waitToBeHeard();
    this.resolve(outcome);
  }

  /** Close the connection, once the other side has hung up or had the time to hear the last word. */
  async hangUp(): Promise<void> {
    await this.heard;
    this.connection.close();
  }

  private tick(): void {
    const now = clock();
    if (now >= this.session.deadline()) this.session.tick(now);
    this.role.tick();
  }

  private flush(): void {
    for (const frame of this.session.frames()) this.connection.control.send(frame);
    for (const event of this.session.events()) this.role.handle(event);
  }

  private stop(): void {
    this.over = true;
    clearInterval(this.timer);
    this.connection.control.onMessage = () => {};
    this.connection.data.onMessage = () => {};
    this.role.stop();
    this.wake();
  }

  /** Closing at once would drop what is queued. */
  private waitToBeHeard(): void {
    const hungUp = new Promise<void>((resolve) => (this.connection.onLost = resolve));
    this.heard = Promise.race([hungUp, sleep(LAST_WORD_SECONDS)]);
  }
}

/** Tell who is at the other end, proven, and what this browser knows of them. */
export async function introduce(
  { secured }: Connected,
  contacts: Contacts,
  tell: (event: PageEvent) => void,
): Promise<void> {
  const { peer, digits } = secured;
  const { contact, changed } = await contacts.known(peer.identity, peer.label);
  tell({
    event: "peer",
    label: shownLabel(peer.label),
    fingerprint: fingerprint(peer.identity),
    keyId: thumbprint(peer.identity),
    contact: shownLabel(contact?.label ?? ""),
    since: contact?.firstMet ?? "",
    verified: contact?.verified ?? false,
    changed: shownLabel(changed),
    digits,
  });
}
