/** The IndexedDB database, and what stands in for it where the browser refuses one. */
import { openDB, type IDBPDatabase } from "idb";

import { Failure } from "../protocol/errors";
import { CLEARED, diskFailure } from "../storage/settling";

const STORES = [
  "settings",
  "contacts",
  "receipts",
  "journals",
  "audit",
  "sending", // journals of what is sent from here, ...
  "sources", // ... and what that is
] as const;
const MARK = "database"; // in the settings
type StoreName = (typeof STORES)[number];
export type Put = readonly [store: StoreName, value: unknown, key: IDBValidKey];

/**
 * Values by key in a few stores; each store is known to one module of `state/`. What the disk, or a person
 * who deletes the data of the site, keeps from being done is `Failure` (disk_error).
 */
export interface Database {
  get<T>(store: StoreName, key: IDBValidKey): Promise<T | undefined>;
  getAll<T>(store: StoreName): Promise<T[]>;
  count(store: StoreName): Promise<number>;
  put(store: StoreName, value: unknown, key: IDBValidKey): Promise<void>;
  /** All of them or none. */
  putTogether(puts: readonly Put[]): Promise<void>;
  delete(store: StoreName, key: IDBValidKey): Promise<void>;
  clear(store: StoreName): Promise<void>;
}

class Indexed implements Database {
  constructor(
    private database: IDBPDatabase,
    private readonly mark: unknown, // of this database, which one that is made anew has not
  ) {}

  get<T>(store: StoreName, key: IDBValidKey): Promise<T | undefined> {
    return this.done((database) => database.get(store, key));
  }
  getAll<T>(store: StoreName): Promise<T[]> {
    return this.done((database) => database.getAll(store));
  }
  count(store: StoreName): Promise<number> {
    return this.done((database) => database.count(store));
  }
  put(store: StoreName, value: unknown, key: IDBValidKey): Promise<void> {
    return this.done(async (database) => void (await database.put(store, value, key)));
  }
  putTogether(puts: readonly Put[]): Promise<void> {
    return this.done(async (database) => {
      const stores = puts.map(([store]) => store);
      const transaction = database.transaction(stores, "readwrite");
      const each = puts.map(([store, value, key]) =>
        transaction.objectStore(store).put(value, key),
      );
      await Promise.all([...each, transaction.done]);
    });
  }
  delete(store: StoreName, key: IDBValidKey): Promise<void> {
    return this.done((database) => database.delete(store, key));
  }
  clear(store: StoreName): Promise<void> {
    return this.done((database) => database.clear(store));
  }

  /** Once more where the browser has closed it: Firefox does where a disk was full. Throws `Failure`. */
  private async done<T>(work: (database: IDBPDatabase) => Promise<T>): Promise<T> {
    try {
      return await work(this.database).catch(async (error) => {
        if ((error as DOMException | null)?.name !== "InvalidStateError") throw error;
        await this.reopen();
        return work(this.database);
      });
    } catch (error) {
      // Firefox aborts a transaction without any error where the disk is full.
      throw error instanceof DOMException || error === null ? diskFailure(error) : error;
    }
  }

  /** Throws `Failure` where the database is another one by now: somebody, or the browser, deleted this one. */
  private async reopen(): Promise<void> {
    const again = await open();
    if ((await again.get("settings", MARK)) !== this.mark) {
      again.close();
      throw new Failure("disk_error", CLEARED);
    }
    this.database.close();
    this.database = again;
  }
}

/** Lasts as long as the page. */
export class Forgetful implements Database {
  private readonly stores = new Map(STORES.map((name) => [name, new Map<IDBValidKey, unknown>()]));

  async get<T>(store: StoreName, key: IDBValidKey): Promise<T | undefined> {
    return this.stores.get(store)!.get(key) as T | undefined;
  }
  async getAll<T>(store: StoreName): Promise<T[]> {
    return [...this.stores.get(store)!.values()] as T[];
  }
  async count(store: StoreName): Promise<number> {
    return this.stores.get(store)!.size;
  }
  async put(store: StoreName, value: unknown, key: IDBValidKey): Promise<void> {
    this.stores.get(store)!.set(key, value);
  }
  async putTogether(puts: readonly Put[]): Promise<void> {
    for (const [store, value, key] of puts) await this.put(store, value, key);
  }
  async delete(store: StoreName, key: IDBValidKey): Promise<void> {
    this.stores.get(store)!.delete(key);
  }
  async clear(store: StoreName): Promise<void> {
    this.stores.get(store)!.clear();
  }
}

const open = (): Promise<IDBPDatabase> =>
  openDB("handover", 2, {
    upgrade(db, before, _, transaction) {
      const missing = STORES.filter((name) => !db.objectStoreNames.contains(name));
      for (const name of missing) db.createObjectStore(name);
      if (!before) void transaction.objectStore("settings").put(crypto.randomUUID(), MARK);
    },
  });

/** Open it, or stand in for it; whether it outlives the page. */
export async function openDatabase(): Promise<[database: Database, lasting: boolean]> {
  try {
    const database = await open();
    return [new Indexed(database, await database.get("settings", MARK)), true];
  } catch {
    return [new Forgetful(), false];
  }
}
