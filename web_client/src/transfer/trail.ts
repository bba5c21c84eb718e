/**
 * What happens in a transfer, told to the audit log as it happens (mirrors `p2p/transfer/trail.py`): who opened
 * a link, who proved to be whom, what was decided, what was cut and taken up. No name of a file or a person
 * stands in it, and no address.
 */
import sodium from "libsodium-wrappers-sumo";

import type { Answer, Event, Person, Question, StateName } from "../events";
import { hex, type JsonObject } from "../protocol/codec";
import { PURPOSES, PURPOSE_CODES } from "../protocol/purposes";
import type { AuditLog } from "../state/audit";

const RUN = 8; // bytes
const MOST = 100; // entries of one kind in one run: strangers and bad networks fill no disk
const STATES: { readonly [state in StateName]?: string } = {
  opened: "link_opened",
  admitted: "admitted",
  accepted: "accepted",
  resumed: "resumed",
};
// Not `paused`: then this disk is full, and what is written to the database may cost Chromium all of it.
const CUTS: readonly StateName[] = ["lost", "sender_paused"];
const POLICY = ["operator", "max_expires", "require", "relay"] as const;
// A guest that was turned away, by the code of the warning.
const FAILED: { readonly [code: string]: string } = {
  guesses_left: "guest_unproven",
  guest_unproven: "guest_unproven",
  not_for_you: "not_for_you",
  claimed: "claimed",
};

export type Entry = readonly [name: string, members: JsonObject];

/** The entry of an event; null where it makes none. */
export function entryOf(event: Event): Entry | null {
  switch (event.event) {
    case "policy": {
      const asked = POLICY.filter((name) => event[name] !== null);
      return ["policy", Object.fromEntries(asked.map((name) => [name, event[name]]))];
    }
    case "link":
      return ["link_made", {}];
    case "state": {
      const name = STATES[event.state];
      if (name) return [name, {}];
      return CUTS.includes(event.state) ? ["interrupted", { reason: event.state }] : null;
    }
    case "peer": {
      const known = event.changed ? "changed" : event.contact ? "contact" : "new";
      return ["authenticated", { known, digits_before: event.verified }];
    }
    case "offer": {
      const purpose = PURPOSE_CODES.find((code) => PURPOSES[code] === event.purpose);
      const amount = { entries: event.files + event.folders, bytes: event.size };
      return ["offered", { ...amount, ...(purpose && { purpose }) }];
    }
    case "warning": {
      const reason = FAILED[event.code];
      return reason ? ["authentication_failed", { reason }] : null;
    }
    default:
      return null;
  }
}

/** The entry of what a person decided; null where it makes none. */
export function entryOfAnswer(kind: Question, answer: Answer): Entry | null {
  if (kind === "digits") return [answer === true ? "digits_same" : "digits_differ", {}];
  if (answer !== false) return null;
  if (kind === "admit") return ["refused", {}];
  return kind === "accept" ? ["declined", {}] : null;
}

/** The entries of one run of a transfer, in order, without holding it up. */
export class Trail {
  /** What holds the entries of this run together: which transfer it is, a recipient learns late. */
  readonly run = hex(sodium.randombytes_buf(RUN));
  private peer = ""; // key ID, once it is proven
  private last = "";
  private readonly noted = new Map<string, number>();
  private over = false;

  constructor(
    private readonly audit: AuditLog,
    private readonly role: "sender" | "recipient",
    private readonly transferId: () => string, // base64url, or ""
  ) {}

  /** Hear an event on its way to the page. */
  hear(event: Event): void {
    if (event.event === "peer") this.peer = event.keyId;
    if (event.event === "ended" || event.event === "sent") this.over = true;
    const entry = entryOf(event);
    if (entry) this.note(...entry);
  }

  /** Hear what a person decided. */
  heard(kind: Question, answer: Answer): void {
    const entry = entryOfAnswer(kind, answer);
    if (entry) this.note(...entry);
  }

  /** One more entry, soon. What is said twice on end is noted once. */
  private note(name: string, members: JsonObject): void {
    const transferId = this.transferId();
    const always: JsonObject = {
      role: this.role,
      run: this.run,
      ...(transferId && { transfer_id: transferId }),
      ...(this.peer && { peer: this.peer }),
    };
    const said = JSON.stringify([name, members, always]);
    const count = this.noted.get(name) ?? 0;
    if (this.over || said === this.last || count >= MOST) return;
    this.last = said;
    this.noted.set(name, count + 1);
    void this.audit.note(name, { ...always, ...members });
    if (count + 1 === MOST) void this.audit.note("left_out", { ...always, reason: name }); // from now on
  }
}

/** The page, with every event and answer heard on its way. */
export function trailed<T extends Pick<Person, "tell" | "ask">>(around: T, trail: Trail): T {
  return {
    ...around,
    tell(event: Event): void {
      trail.hear(event);
      around.tell(event);
    },
    async ask(kind: Question): Promise<Answer> {
      const answer = await around.ask(kind);
      trail.heard(kind, answer);
      return answer;
    },
  };
}
