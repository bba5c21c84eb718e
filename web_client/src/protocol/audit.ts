/** The audit log's lines and their chain (mirrors `p2p/protocol/audit.py`). */
import {
  concat,
  decodeJson,
  encodeJson,
  hex,
  sha256,
  utf8,
  type Bytes,
  type JsonObject,
} from "./codec";

export const GENESIS = "0".repeat(64);
const MAX_LINE = 65536;
const NEWLINE = 10;

/** The first line that does not fit, counted from 1. */
export class BadLine extends Error {
  constructor(
    readonly number: number,
    reason: string,
  ) {
    super(`line ${number}: ${reason}`);
  }
}

/** The hash of a line without its newline, as hex. */
export const lineHash = (line: Bytes): string => hex(sha256(line));

/** The next line, with its newline. `number` counts from 1; `time` is RFC 3339. */
export function entry(
  previous: string,
  number: number,
  time: string,
  event: string,
  details: JsonObject,
): Bytes {
  return concat(encodeJson({ ...details, seq: number, time, event, prev: previous }), utf8("\n"));
}

/** A line that fits: its number from 1, its hash, and its members, or null of a torn one. */
export interface Line {
  readonly number: number;
  readonly head: string;
  readonly fields: JsonObject | null;
}

/** Check the chain from the first line. Throws `BadLine` with the first bad one. */
export function verify(lines: Iterable<Bytes>): { lines: number; head: string } {
  let last: Line = { number: 0, head: GENESIS, fields: null };
  for (last of walk(lines));
  return { lines: last.number, head: last.head };
}

/**
 * Each line, once it is known to follow the one before. Throws `BadLine` at the first bad one; what
 * is longer than a line may come in parts.
 */
export function* walk(lines: Iterable<Bytes>): Generator<Line> {
  let [head, number, torn] = [GENESIS, 0, false];
  for (const raw of lines) {
    number++;
    const whole = raw[raw.length - 1] === NEWLINE;
    const line = whole ? raw.subarray(0, -1) : raw;
    if (line.length > MAX_LINE) throw new BadLine(number, "no_log_entry");
    const fields = whole ? fieldsOf(line) : null;
    if (torn && fields?.["event"] !== "recovered") throw new BadLine(number - 1, "no_log_entry");
    if (fields === null) torn = true;
    else if (fields["prev"] !== head) {
      throw new BadLine(number, "line_before_changed");
    } else if (fields["seq"] !== number) throw new BadLine(number, "out_of_sequence");
    else torn = false;
    head = lineHash(line);
    yield { number, head, fields };
  }
  if (torn) throw new BadLine(number, "line_cut_off");
}

function fieldsOf(line: Bytes): JsonObject | null {
  try {
    const fields = decodeJson(line, MAX_LINE) as JsonObject;
    return ["seq", "time", "event", "prev"].every((name) => name in fields) ? fields : null;
  } catch {
    return null;
  }
}
