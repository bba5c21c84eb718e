/** The hash-chained log of this browser's transfers. */
import { nowText } from "../clock";
import * as audit from "../protocol/audit";
import { concat, type Bytes, type JsonObject } from "../protocol/codec";
import type { Database } from "./database";

export class AuditLog {
  constructor(private readonly database: Database) {}

  /** The hash of the last line, hex. */
  async head(): Promise<string> {
    return (await this.chain())[0];
  }

  /** All of it, line by line, as `handover audit verify` reads it. */
  async text(): Promise<Bytes> {
    return concat(...(await this.database.getAll<Bytes>("audit")));
  }

  /** Append an entry; it names no file, path or label. */
  async append(event: string, details: JsonObject): Promise<void> {
    const append = async () => {
      const [head, count] = await this.chain();
      const line = audit.entry(head, count + 1, nowText(), event, details);
      await this.database.put("audit", line, count + 1);
    };
    // One tab at a time: two would write the same line.
    await (navigator.locks?.request("handover audit", append) ?? append());
  }

  private async chain(): Promise<[head: string, lines: number]> {
    const lines = await this.database.getAll<Bytes>("audit");
    const last = lines.at(-1);
    return [last ? audit.lineHash(last.subarray(0, -1)) : audit.GENESIS, lines.length];
  }
}
