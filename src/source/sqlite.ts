/**
 * A moment of an SQLite database that others write: a copy of it, by SQLite's online backup API.
 *
 * The source is opened for reading only, and one read transaction is held while the pages are
 * copied. So the copy is the database as it was when the transaction began, however long it takes;
 * without it SQLite would begin anew at each write of another process. With a write-ahead log
 * writers go on meanwhile; with a rollback journal they wait, as they do for any reader.
 *
 * Worker threads; the copying itself runs in libuv's pool.
 */
import { chmodSync, chownSync, closeSync, openSync, readSync, statSync, utimesSync } from 'node:fs';
import { messageOf, stpError } from '../errors.js';

/** From 3.7.0 to 3.51.2 two connections that reset a write-ahead log at once corrupt a database. */
const VERSION_MIN = [3, 51, 3] as const;

/** Pages of one step: 4 MiB of common pages between two looks at the progress. */
const STEP_PAGES = 1024;

/** For a writer that holds an exclusive lock: a commit with a rollback journal. */
const BUSY_TIMEOUT_MS = 30_000;

/** First bytes of a database file. Source: SQLite, Database File Format, 1.3. */
const MAGIC = 'SQLite format 3\0';
const PAGE_SIZE_OFFSET = 16;
const HEADER_BYTES = 100;

/** Files that SQLite has beside a database and that belong to that database alone. */
export const SQLITE_COMPANIONS = ['-wal', '-journal', '-shm'] as const;

export interface SqliteCopyOptions {
  readonly file: string;
  /** Made; must not exist. */
  readonly to: string;
  /** Pages copied, and pages of the database. Called now and then. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** @throws ENOTSUP if this SQLite has the bug */
export function assertSqliteVersion(version: string): void {
  const parts = version.split('.').map(Number);
  for (const [i, least] of VERSION_MIN.entries()) {
    const part = parts[i] ?? 0;
    if (part > least) return;
    if (part < least || Number.isNaN(part)) {
      const why = 'which may corrupt a database with a write-ahead log';
      throw stpError(
        'ENOTSUP',
        `SQLite ${version}, ${why}; ${VERSION_MIN.join('.')} or later is needed: update the package @photostructure/sqlite`,
      );
    }
  }
}

/**
 * Copies the database as it is at one moment during the call; the copy gets its mode and time, and
 * its owner where that is allowed.
 * @returns bytes of the copy
 * @throws EINVAL if the file is no database; ENOENT, EACCES; EBUSY if a writer does not let go; EIO
 */
export async function copySqlite(options: SqliteCopyOptions): Promise<number> {
  const { file, to, onProgress } = options;
  pageBytesOf(file);
  const { backup, DatabaseSync } = await import('@photostructure/sqlite');
  try {
    const source = new DatabaseSync(file, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
    try {
      const version = source.prepare('SELECT sqlite_version() AS v').get() as { v: string };
      assertSqliteVersion(version.v);
      source.exec('BEGIN');
      // The first read takes the lock, or the snapshot, that the transaction then holds.
      source.prepare('SELECT count(*) FROM sqlite_schema').get();
      await backup(source, to, {
        rate: STEP_PAGES,
        progress: ({ totalPages, remainingPages }) =>
          onProgress?.(totalPages - remainingPages, totalPages),
      });
    } finally {
      source.close();
    }
  } catch (e) {
    throw explain(e, file);
  }
  const { mode, uid, gid, atime, mtime } = statSync(file);
  if (process.geteuid?.() === 0) chownSync(to, uid, gid);
  chmodSync(to, mode & 0o7777);
  utimesSync(to, atime, mtime);
  return statSync(to).size;
}

const codes: Readonly<Record<number, string>> = {
  5: 'EBUSY',
  6: 'EBUSY',
  10: 'EIO',
  11: 'EBADMSG',
  8: 'EROFS',
  13: 'ENOSPC',
  14: 'EACCES',
};

/** SQLite's own errors get a POSIX code, and say which database. */
function explain(e: unknown, file: string): unknown {
  const { sqliteCode, errcode } = e as { sqliteCode?: unknown; errcode?: unknown };
  const code = sqliteCode ?? errcode;
  if (typeof code !== 'number') return e;
  const said = messageOf(e).replace(/^[A-Z_]+: /, '');
  // The journal of a writer that died: only who may write can roll it back.
  const why = (code & 0xff) === 8 ? 'its last writer died; open it once with its program' : said;
  return stpError(codes[code & 0xff] ?? 'EIO', `${file} could not be copied: ${why}`);
}

/**
 * Bytes of a page of a database file.
 * @throws EINVAL if it is none; an empty file is a database to SQLite, and nothing to keep
 */
export function pageBytesOf(file: string): number {
  const header = Buffer.alloc(HEADER_BYTES);
  if (!statSync(file).isFile()) throw stpError('EINVAL', `${file} is no file`);
  const fd = openSync(file, 'r');
  try {
    const read = readSync(fd, header, 0, HEADER_BYTES, 0);
    if (read === HEADER_BYTES && header.toString('latin1', 0, MAGIC.length) === MAGIC) {
      const bytes = header.readUInt16BE(PAGE_SIZE_OFFSET);
      // 1 stands for what two bytes cannot say.
      return bytes === 1 ? 65536 : bytes;
    }
  } finally {
    closeSync(fd);
  }
  throw stpError('EINVAL', `${file} is no SQLite database`);
}
