/**
 * The table of a role: what may happen in which state, and the state that follows.
 *
 * A session has one table. Its keys are (state, input); an input is the type of a received message,
 * `LOST`, `RANGE`, or a method of the session that the program around it, or the session itself, calls. What is
 * not in the table is an error: the peer's for what was received, the program's for a call (after h11's
 * `_state.py`).
 */
import type { Header } from "../seal";
import type { Message, MessageType } from "./messages";

// No message has these types.
export const LOST = "lost"; // the connection is gone
export const RANGE = "range"; // came by a lane

/** The program around the session called what its state does not allow. */
export class OutOfTurn extends Error {}

export type Method = (...given: any[]) => unknown;
export type Input = MessageType | typeof LOST | typeof RANGE | Method;

/** What handles an input, and the state that follows; undefined: the state stays. */
export interface Row<State> {
  readonly handler: Method;
  readonly follows: State | undefined;
}

type ReceivedEntry<State> = {
  [T in MessageType]: readonly [State, T, (message: Message<T>, now: number) => void, State?];
}[MessageType];

/** State, input, what handles it, and the state that follows; a call is handled by itself. */
export type Entry<State> =
  | ReceivedEntry<State>
  | readonly [State, typeof LOST, () => void, State?]
  | readonly [State, typeof RANGE, (header: Header, now: number, lane: number) => boolean, State?]
  | readonly [State, Method, State?];

const isCall = <State>(entry: Entry<State>): entry is readonly [State, Method, State?] =>
  typeof entry[1] === "function";

export class Table<State extends string> {
  private readonly rows = new Map<State, Map<Input, Row<State>>>();

  constructor(entries: readonly Entry<State>[]) {
    for (const entry of entries) {
      const [state, input] = entry;
      const [handler, follows] = isCall(entry) ? [entry[1], entry[2]] : [entry[2], entry[3]];
      const row: Row<State> = { handler, follows };
      this.rows.set(state, (this.rows.get(state) ?? new Map<Input, Row<State>>()).set(input, row));
    }
  }

  /** The row of an input; undefined where there is none. */
  row(state: State, input: Input): Row<State> | undefined {
    return this.rows.get(state)?.get(input);
  }
}

/** Entries for calls that each of these states allows, and that do not change it. */
export function calls<State>(states: readonly State[], ...methods: Method[]): Entry<State>[] {
  return states.flatMap((state) => methods.map((method) => [state, method] as const));
}
