/**
 * The catalog: which path is in which set, so that `find` need not read every manifest.
 *
 *   LIBRARY/catalog.sqlite   sets(number, id, host, manifestBlake3), paths(id, path),
 *                            entries(path, set, lines, offset, length): `lines` is the
 *                            set whose manifest has the line, itself or one that it builds on
 *   LIBRARY/catalog.json     {"format":"stpd-catalog","version":1,"blake3"} of the whole file
 *
 * Derived data only: it can be removed at any time. Invariant: it is believed only if the file has
 * its digest; who changes it removes catalog.json first and writes it last, so a half-made catalog,
 * a changed bit or a missing file all lead to a new one. Each set in it carries the digest of the
 * manifest that its rows were made from. What is found is read from that manifest, whose digest is
 * compared first: a catalog can make nothing up.
 *
 * Used under `catalog.lock`. Blocks; any thread.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import { isCoded, messageOf, stpError } from '../errors.js';
import { compareWalk } from '../source/names.js';
import { type ByteFile, readAll } from './bytes.js';
import { digestOfFile } from './digest.js';
import { writeNewFile } from './disk.js';
import type { NameMatcher } from './find.js';
import type { Library, StoredSet } from './library.js';
import { decodeLine, type ManifestEntry } from './manifest.js';
import { openChain, treeOf, verifyTree } from './set-tree.js';
import type { SetSummary } from './set-writer.js';
import { withLock } from './waiting-lock.js';

const CATALOG_FILE = 'catalog.sqlite';
const DIGEST_FILE = 'catalog.json';
const LOCK_NAME = 'catalog.lock';
const VERSION = 2;

const PRAGMAS = `
  PRAGMA journal_mode = MEMORY;
  PRAGMA synchronous = OFF;
  PRAGMA temp_store = MEMORY;
`;

const SCHEMA = `
  CREATE TABLE sets (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, host TEXT NOT NULL,
                     manifestBlake3 TEXT NOT NULL);
  CREATE VIEW hosts AS SELECT host AS name, count(*) AS sets, max(id) AS latest
                       FROM sets GROUP BY host;
  CREATE TABLE paths (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE);
  CREATE TABLE entries (path INTEGER NOT NULL, "set" INTEGER NOT NULL, lines INTEGER NOT NULL,
                        "offset" INTEGER NOT NULL, length INTEGER NOT NULL,
                        PRIMARY KEY (path, "set", lines, "offset")) WITHOUT ROWID;
`;

export interface CatalogFacts {
  readonly sets: number;
  readonly paths: number;
  readonly entries: number;
}

export interface FoundEntry {
  readonly set: string;
  readonly entry: ManifestEntry;
}

interface Row {
  readonly id: string;
  /** Id of the set whose manifest has the line. */
  readonly lines: string;
  readonly offset: number;
  readonly length: number;
}

export class Catalog {
  readonly #library: Library;
  readonly #path: string;
  readonly #digestPath: string;

  constructor(library: Library) {
    this.#library = library;
    this.#path = join(library.directory, CATALOG_FILE);
    this.#digestPath = join(library.directory, DIGEST_FILE);
  }

  /** Makes it from the sets alone. @throws EBUSY, ENOSPC, EROFS, ...; EBADMSG: a manifest is damaged */
  rebuild(): CatalogFacts {
    return this.#locked(() => {
      this.#remove();
      return this.#with((db) => factsOf(db));
    });
  }

  /**
   * Entries whose path matches, oldest set first, each set's in the order of the walk. Brings the
   * catalog up to date before; one that is damaged is made anew.
   * @throws what `rebuild` throws
   */
  find(matches: NameMatcher, chosen: (set: SetSummary) => boolean): FoundEntry[] {
    // Names have seconds only, which two sets may share: the listing has the order.
    const places = new Map(
      this.#library
        .list()
        .sets.filter(chosen)
        .map((s, place) => [s.id, place]),
    );
    const rows = this.#locked(() => this.#with((db) => matchingRows(db, matches)));
    const found: FoundEntry[] = [];
    const readers = new Map<string, LineReader>();
    try {
      for (const row of rows) {
        if (!places.has(row.id)) continue;
        const reader = readers.get(row.lines) ?? new LineReader(this.#library.openSet(row.lines));
        readers.set(row.lines, reader);
        found.push({ set: row.id, entry: reader.entry(row) });
      }
    } finally {
      for (const reader of readers.values()) reader.close();
    }
    const placeOf = ({ set }: FoundEntry): number => places.get(set) as number;
    return found.sort((a, b) =>
      a.set === b.set ? compareWalk(a.entry.path, b.entry.path) : placeOf(a) - placeOf(b),
    );
  }

  #locked<T>(work: () => T): T {
    return withLock(this.#library.directory, LOCK_NAME, this.#library.lockFile, work);
  }

  #remove(): void {
    rmSync(this.#digestPath, { force: true });
    rmSync(this.#path, { force: true });
    rmSync(`${this.#path}-journal`, { force: true });
  }

  /** True if the file is byte for byte the one that was closed last. */
  #isSound(): boolean {
    try {
      const { version, blake3 } = JSON.parse(readFileSync(this.#digestPath, 'utf8'));
      return version === VERSION && digestOfFile(this.#path).blake3 === blake3;
    } catch (e) {
      if (isCoded(e) && e.code !== 'ENOENT') throw e;
      return false;
    }
  }

  #with<T>(use: (db: DatabaseSyncInstance) => T): T {
    const sound = this.#isSound();
    if (!sound) {
      this.#remove();
      // With our mode, and SQLite does not say why it cannot make one.
      writeNewFile(this.#path, '');
    }
    let changed = !sound;
    let result: T;
    try {
      const db = new DatabaseSync(this.#path);
      try {
        // What breaks off is thrown away whole: nothing in here is worth a journal on the disk.
        db.exec(PRAGMAS);
        if (!sound) db.exec(SCHEMA);
        changed = this.#update(db) || changed;
        result = use(db);
      } finally {
        db.close();
      }
      if (changed) this.#seal();
    } catch (e) {
      throw explainSqliteError(e, this.#path);
    }
    return result;
  }

  #seal(): void {
    const { blake3 } = digestOfFile(this.#path);
    const document = { format: 'stpd-catalog', version: VERSION, blake3 };
    writeNewFile(this.#digestPath, `${JSON.stringify(document)}\n`);
  }

  /** Takes over what was made and removed since. @returns whether anything was */
  #update(db: DatabaseSyncInstance): boolean {
    // The catalog is not encrypted: it has no name out of a set that is.
    const open = this.#library.list().sets.filter((s) => s.coding?.encrypt === undefined);
    const listed = new Map(open.map((s) => [s.id, s]));
    const known = db.prepare('SELECT number, id, manifestBlake3 FROM sets').all() as {
      number: number;
      id: string;
      manifestBlake3: string;
    }[];
    const isSame = (id: string, digest: string) => listed.get(id)?.manifestBlake3 === digest;
    const needed = (id: string) => listed.get(id)?.chain ?? [];
    // A set goes with one that it builds on: its rows name lines of that.
    const gone = known.filter(
      (k) =>
        !isSame(k.id, k.manifestBlake3) ||
        needed(k.id).some((link) => !isSame(link.id, link.manifestBlake3)),
    );
    for (const { id } of known.filter((k) => !gone.includes(k))) listed.delete(id);
    if (gone.length === 0 && listed.size === 0) return false;
    rmSync(this.#digestPath, { force: true });
    inTransaction(db, () => {
      for (const { number } of gone) {
        db.prepare('DELETE FROM entries WHERE "set" = ?').run(number);
        db.prepare('DELETE FROM sets WHERE number = ?').run(number);
      }
      if (gone.length > 0) db.exec('DELETE FROM paths WHERE id NOT IN (SELECT path FROM entries)');
      const chains = [...listed.keys()].map((id) =>
        openChain(this.#library, this.#library.openSet(id)),
      );
      // All sets before all entries: two that began in one second are in no order.
      for (const chain of chains) addSet(db, (chain.at(-1) as StoredSet).summary);
      for (const chain of chains) addEntries(db, chain);
    });
    return true;
  }
}

function inTransaction(db: DatabaseSyncInstance, work: () => void): void {
  db.exec('BEGIN');
  work();
  // Who breaks off closes the file, which is thrown away then: nobody rolls back.
  db.exec('COMMIT');
}

/** The errors of SQLite that the disk makes, by their first byte, as the codes they stand for. */
const diskErrors: Readonly<Record<number, string>> = {
  8: 'EROFS',
  10: 'EIO',
  13: 'ENOSPC',
  14: 'EACCES',
};

function explainSqliteError(e: unknown, path: string): unknown {
  const { errcode } = e as { errcode?: unknown };
  if (typeof errcode !== 'number') return e;
  const code = diskErrors[errcode & 0xff] ?? 'EIO';
  return stpError(
    code,
    `SQLite cannot use ${path} (${messageOf(e)}): it can be removed at any time, and ` +
      'stpbackup find --no-catalog needs none',
  );
}

function addSet(db: DatabaseSyncInstance, { id, host, manifestBlake3 }: SetSummary): void {
  db.prepare('INSERT INTO sets (id, host, manifestBlake3) VALUES (?, ?, ?)').run(
    id,
    host,
    manifestBlake3,
  );
}

function addEntries(db: DatabaseSyncInstance, chain: readonly StoredSet[]): void {
  verifyTree(chain);
  const numberOf = db.prepare('SELECT number FROM sets WHERE id = ?');
  const numbers = new Map(
    chain.map((set) => [set, (numberOf.get(set.id) as { number: number }).number]),
  );
  const number = numbers.get(chain.at(-1) as StoredSet) as number;
  const known = db.prepare('SELECT id FROM paths WHERE path = ?');
  const addPath = db.prepare('INSERT INTO paths (path) VALUES (?)');
  const addEntry = db.prepare('INSERT INTO entries VALUES (?, ?, ?, ?, ?)');
  for (const { entry, line, lineSet, lineOffset } of treeOf(chain)) {
    const row = known.get(entry.path) as { id: number } | undefined;
    const path = row?.id ?? addPath.run(entry.path).lastInsertRowid;
    addEntry.run(path, number, numbers.get(lineSet) as number, lineOffset, line.length);
  }
}

function matchingRows(db: DatabaseSyncInstance, matches: NameMatcher): Row[] {
  db.exec('CREATE TEMP TABLE matching (path INTEGER PRIMARY KEY)');
  const add = db.prepare('INSERT INTO matching VALUES (?)');
  const ids: number[] = [];
  for (const { id, path } of db.prepare('SELECT id, path FROM paths').iterate() as Iterable<{
    id: number;
    path: Uint8Array;
  }>) {
    if (matches(Buffer.from(path.buffer, path.byteOffset, path.length))) ids.push(id);
  }
  for (const id of ids) add.run(id);
  return db
    .prepare(
      `SELECT sets.id, source.id AS lines, entries."offset", entries.length FROM matching
       JOIN entries ON entries.path = matching.path JOIN sets ON sets.number = entries."set"
       JOIN sets AS source ON source.number = entries.lines
       ORDER BY sets.id, source.id, entries."offset"`,
    )
    .all() as unknown as Row[];
}

function factsOf(db: DatabaseSyncInstance): CatalogFacts {
  const count = (table: string) =>
    (db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n;
  return { sets: count('sets'), paths: count('paths'), entries: count('entries') };
}

/** Lines of one manifest by their place. */
class LineReader {
  readonly #file: ByteFile;

  /** @throws EBADMSG if the manifest is damaged */
  constructor(set: StoredSet) {
    set.verifyManifest();
    this.#file = set.openManifest();
  }

  entry({ offset, length }: Row): ManifestEntry {
    const line = Buffer.alloc(length);
    readAll(this.#file, line, offset);
    const record = decodeLine(line.toString());
    if (record.kind === 'entry') return record;
    throw stpError(
      'EINVAL',
      `${this.#file.name} has no entry at ${offset}; run stpbackup catalog rebuild`,
    );
  }

  close(): void {
    this.#file.close();
  }
}
