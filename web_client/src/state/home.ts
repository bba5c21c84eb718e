/**
 * What stays in this browser between transfers (what `p2p/state/home.py` is for the command line).
 *
 * In a private window it is gone with the window, and where the browser refuses a database, it lasts as
 * long as the page.
 */
import { AuditLog } from "./audit";
import { Contacts } from "./contacts";
import { openDatabase, type Database } from "./database";
import { OwnIdentity } from "./identity";
import { Journals } from "./journal";
import { Receipts } from "./receipts";
import { SenderJournals } from "./sender_journal";

export class Home {
  readonly identity: OwnIdentity;
  readonly contacts: Contacts;
  readonly journals: Journals; // of what is received
  readonly sending: SenderJournals;
  readonly receipts: Receipts;
  readonly audit: AuditLog;

  private constructor(
    database: Database,
    /** Whether it outlives the page. */
    readonly lasting: boolean,
  ) {
    this.audit = new AuditLog(database);
    this.identity = new OwnIdentity(database, this.audit);
    this.contacts = new Contacts(database, this.audit);
    this.journals = new Journals(database);
    this.sending = new SenderJournals(database);
    this.receipts = new Receipts(database);
  }

  static async open(): Promise<Home> {
    return new Home(...(await openDatabase()));
  }
}
