/** The hash-chained log of this browser's transfers. */
import { nowText } from "../clock";
import * as audit from "../protocol/audit";
import { concat, type Bytes, type JsonObject } from "../protocol/codec";
import type { Database } from "./database";

export class AuditLog {
  private last: Promise<void> = Promise.resolve(); // entry of this page

  constructor(private readonly database: Database) {}

  /** The hash of the last line, hex. */
  async head(): Promise<string> {
    return (await this.chain())[0];
  }

  /** All of it, line by line, as `handover audit verify` reads it. */
  async text(): Promise<Bytes> {
    return concat(...(await this.database.getAll<Bytes>("audit")));
  }

  /** Append an entry, in the order of these calls; it names no file, path or label. */
  append(event: string, details: JsonObject): Promise<void> {
    const append = async () => {
      const [head, count] = await this.chain();
      const line = audit.entry(head, count + 1, nowText(), event, details);
      await this.database.put("audit", line, count + 1);
    };
    // One tab at a time: two would write the same line.
    const locked = () => navigator.locks?.request("handover audit", append) ?? append();
    const done = this.last.then(locked);
    this.last = done.catch(() => {});
    return done;
  }

  /** The same for what has happened in any case. Never fails. */
  note(event: string, details: JsonObject): Promise<void> {
    return this.append(event, details).catch(() => {});
  }

  private async chain(): Promise<[head: string, lines: number]> {
    const lines = await this.database.count("audit");
    const last = lines ? await this.database.get<Bytes>("audit", lines) : undefined;
    return [last ? audit.lineHash(last.subarray(0, -1)) : audit.GENESIS, lines];
  }
}
