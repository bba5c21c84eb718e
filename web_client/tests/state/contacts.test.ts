/** Contacts, over a database in memory. */
import sodium from "libsodium-wrappers-sumo";
import { beforeAll, describe, expect, test } from "vitest";

import { fingerprint } from "../../src/protocol/receipt";
import { Contacts } from "../../src/state/contacts";
import { AuditLog } from "../../src/state/audit";
import { Forgetful } from "../../src/state/database";

beforeAll(() => sodium.ready);

const ONE = new Uint8Array(32).fill(1);
const OTHER = new Uint8Array(32).fill(2);
const IMITATIONS = [
  "klinik nord",
  "Klinik  Nord",
  "Klinik\u00a0Nord",
  "Klinik\u3164Nord",
  "Klinik\u2800Nord",
  "K\u034flinik Nord",
  "Kl\u0456nik Nord",
  "KIinik N0rd",
  "\uff2blinik Nord",
  "K\u0323linik Nord",
];

describe("a label that looks like a contact's", () => {
  test.each(IMITATIONS)("%j is told, and pinned by its key", async (imitation) => {
    const database = new Forgetful();
    const contacts = new Contacts(database, new AuditLog(database));
    await contacts.pin(ONE, "Klinik Nord", true);
    expect(await contacts.known(OTHER, imitation)).toEqual({
      contact: null,
      changed: "Klinik Nord",
    });
    await contacts.pin(OTHER, imitation, false);
    expect((await contacts.known(OTHER, "")).contact!.label).toBe(fingerprint(OTHER));
  });

  test("is told of a contact as well, which keeps its name", async () => {
    const database = new Forgetful();
    const contacts = new Contacts(database, new AuditLog(database));
    await contacts.pin(ONE, "Klinik Nord", true);
    await contacts.pin(OTHER, "Mallory", true);
    await contacts.pin(OTHER, "Klinik Nord", true);
    const { contact, changed } = await contacts.known(OTHER, "Klinik Nord");
    expect([contact!.label, changed]).toEqual(["Mallory", "Klinik Nord"]);
    expect((await contacts.known(ONE, "Klinik Nord")).changed).toBe("");
  });
});
