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

export class Home {
  readonly identity: OwnIdentity;
  readonly contacts: Contacts;
  readonly journals: Journals;
  readonly receipts: Receipts;
  readonly audit: AuditLog;

  private constructor(
    database: Database,
    /** Whether it outlives the page. */
    readonly lasting: boolean,
  ) {
    this.identity = new OwnIdentity(database);
    this.contacts = new Contacts(database);
    this.journals = new Journals(database);
    this.receipts = new Receipts(database);
    this.audit = new AuditLog(database);
  }

  static async open(): Promise<Home> {
    return new Home(...(await openDatabase()));
  }
}
