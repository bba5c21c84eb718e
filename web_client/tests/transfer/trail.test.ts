/** What happens in a transfer stands in the log, in order, and names nobody. */
import { describe, expect, test, vi } from "vitest";
import sodium from "libsodium-wrappers-sumo";

import type { Answer, Event, Question } from "../../src/events";
import { decodeJson, fromUtf8 } from "../../src/protocol/codec";
import { AuditLog } from "../../src/state/audit";
import { Forgetful } from "../../src/state/database";
import { Trail, trailed } from "../../src/transfer/trail";

await sodium.ready;
vi.stubGlobal("navigator", {}); // without locks: one page

const PEER: Event = {
  event: "peer",
  label: "Müller, Erika",
  fingerprint: "ab12 cd34",
  keyId: "the-key-id",
  contact: "",
  since: "",
  verified: false,
  changed: "",
  digits: "1234-5678-9012",
};
const OFFER = {
  event: "offer",
  files: 2,
  folders: 1,
  size: 10,
  purpose: "emergency",
  reason: "Schlaganfall",
  entries: [["Müller/a.dcm", 10, false]],
} as unknown as Event;

async function logged(role: "sender" | "recipient", work: (around: any) => Promise<void>) {
  const audit = new AuditLog(new Forgetful());
  const told: Event[] = [];
  let transferId = "";
  const around = {
    tell: (event: Event) => void told.push(event),
    ask: async (kind: Question): Promise<Answer> => kind !== "accept",
    know: (id: string) => (transferId = id),
  };
  const trail = new Trail(audit, role, () => transferId);
  await work(trailed(around, trail));
  await audit.append("transfer", { run: trail.run });
  const text = fromUtf8(await audit.text());
  const lines = text.trimEnd().split("\n");
  const entries = lines.map((line) => decodeJson(new TextEncoder().encode(line), 65536) as any);
  return { entries, told, text };
}

test("what a server's operator asks is noted, and nothing that it does not", async () => {
  const { entries } = await logged("sender", async (around) => {
    const asked = { operator: null, max_expires: 3600, require: "digits", relay: null };
    around.tell({ event: "policy", ...asked });
  });
  const { seq, time, prev, run, ...entry } = entries[0];
  expect(entry).toEqual({
    event: "policy",
    role: "sender",
    max_expires: 3600,
    require: "digits",
  });
});

test("a transfer is told in order, by the names of the command line", async () => {
  const { entries, told, text } = await logged("recipient", async (around) => {
    around.tell({ event: "state", state: "opened" });
    around.tell(PEER);
    around.tell(OFFER);
    await around.ask("digits");
    await around.ask("accept");
    around.know("id");
    around.tell({ event: "state", state: "lost" });
    around.tell({ event: "state", state: "lost" });
    around.tell({ event: "state", state: "resumed" });
    around.tell({ event: "ended" } as Event);
    around.tell({ event: "state", state: "lost" });
  });
  expect(told.length).toBe(8);
  expect(entries.map(({ event }) => event)).toEqual([
    "link_opened",
    "authenticated",
    "offered",
    "digits_same",
    "declined",
    "interrupted",
    "resumed",
    "transfer",
  ]);
  expect(new Set(entries.map(({ run }) => run)).size).toBe(1);
  expect(entries[1]).toMatchObject({ role: "recipient", known: "new", peer: "the-key-id" });
  expect(entries[2]).toMatchObject({ entries: 3, bytes: 10, purpose: "ETREAT" });
  expect(entries[5]).toMatchObject({ transfer_id: "id", reason: "lost" });
  for (const name of ["Müller", "Erika", "Schlaganfall", "ab12 cd34", "1234-5678"]) {
    expect(text).not.toContain(name);
  }
});

describe("strangers", () => {
  const guess: Event = { event: "warning", code: "guesses_left", detail: "2" };
  const other: Event = { event: "warning", code: "claimed", detail: "" };
  test("fill no disk", async () => {
    const { entries } = await logged("sender", async (around) => {
      for (let i = 0; i < 300; i++) {
        around.tell(guess);
        around.tell(other);
      }
    });
    expect(entries.length).toBe(102);
    expect(entries.at(-2)).toMatchObject({ event: "left_out", reason: "authentication_failed" });
  });
});

test("entries that come at once are one chain", async () => {
  const database = new Forgetful();
  const pages = [new AuditLog(database), new AuditLog(database)];
  await Promise.all(Array.from({ length: 20 }, (_, i) => pages[0]!.append("test", { i })));
  await pages[1]!.append("test", {});
  const text = fromUtf8(await pages[0]!.text());
  const entries = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(entries.map(({ seq }) => seq)).toEqual(Array.from({ length: 21 }, (_, i) => i + 1));
  expect(new Set(entries.map(({ prev }) => prev)).size).toBe(21);
});
