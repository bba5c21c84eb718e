/** The IndexedDB database, and what stands in for it where the browser refuses one. */
import { openDB, type IDBPDatabase } from "idb";

import { diskFailure } from "../storage/settling";

const STORES = [
  "settings",
  "contacts",
  "receipts",
  "journals",
  "audit",
  "sending", // journals of what is sent from here, ...
  "sources", // ... and what that is
] as const;
type StoreName = (typeof STORES)[number];
export type Put = readonly [store: StoreName, value: unknown, key: IDBValidKey];

/**
 * Values by key in a few stores; each store is known to one module of `state/`. What the disk, or a person
 * who deletes the data of the site, keeps from being done is `Failure` (disk_error).
 */
export interface Database {
  get<T>(store: StoreName, key: IDBValidKey): Promise<T | undefined>;
  getAll<T>(store: StoreName): Promise<T[]>;
  put(store: StoreName, value: unknown, key: IDBValidKey): Promise<void>;
  /** All of them or none. */
  putTogether(puts: readonly Put[]): Promise<void>;
  delete(store: StoreName, key: IDBValidKey): Promise<void>;
  clear(store: StoreName): Promise<void>;
}

class Indexed implements Database {
  constructor(private readonly database: IDBPDatabase) {}

  get<T>(store: StoreName, key: IDBValidKey): Promise<T | undefined> {
    return done(() => this.database.get(store, key));
  }
  getAll<T>(store: StoreName): Promise<T[]> {
    return done(() => this.database.getAll(store));
  }
  async put(store: StoreName, value: unknown, key: IDBValidKey): Promise<void> {
    await done(() => this.database.put(store, value, key));
  }
  putTogether(puts: readonly Put[]): Promise<void> {
    return done(async () => {
      const stores = puts.map(([store]) => store);
      const transaction = this.database.transaction(stores, "readwrite");
      const each = puts.map(([store, value, key]) =>
        transaction.objectStore(store).put(value, key),
      );
      await Promise.all([...each, transaction.done]);
    });
  }
  delete(store: StoreName, key: IDBValidKey): Promise<void> {
    return done(() => this.database.delete(store, key));
  }
  clear(store: StoreName): Promise<void> {
    return done(() => this.database.clear(store));
  }
}

async function done<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof DOMException ? diskFailure(error) : error;
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

/** Open it, or stand in for it; whether it outlives the page. */
export async function openDatabase(): Promise<[database: Database, lasting: boolean]> {
  try {
    const database = await openDB("handover", 2, {
      upgrade(db) {
        const missing = STORES.filter((name) => !db.objectStoreNames.contains(name));
        for (const name of missing) db.createObjectStore(name);
      },
    });
    return [new Indexed(database), true];
  } catch {
    return [new Forgetful(), false];
  }
}
