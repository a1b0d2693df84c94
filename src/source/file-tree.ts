/**
 * The file tree as a source: one entry after the other, and the descriptor of a file to read.
 *
 * Order: roots in byte order; in a directory, names in byte order; a directory before its contents.
 * The same tree gives the same order on every run.
 *
 * Invariant: nothing outside of the roots is looked at, whatever happens to the tree meanwhile.
 * Every name is resolved in an open directory (the addon's fstatat and openat; elsewhere
 * `/proc/self/fd/N/NAME`, Node's only openat), the last component is never followed, and directories are entered with O_NOFOLLOW from their open parent;
 * so a parent that turns into a symlink during the walk leads nowhere. This also makes the depth of
 * a tree independent of PATH_MAX.
 *
 * Everything here is synchronous: it runs in a worker thread. A scan costs one fstatat an entry,
 * some of them at once (look-ahead.ts), and a few calls a directory.
 */

import { closeSync, constants, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { assert } from '../assert.js';
import { codeOfErrno, isCoded, stpError } from '../errors.js';
import { native } from '../native.js';
import { isAtOrBelow, normalisePath } from './confine.js';
import type { Selector } from './exclude.js';
import { type FileStat, makeRecord, type StatRecord, statAt, statOf } from './file-stat.js';
import { LookAhead } from './look-ahead.js';
import { compareWalk, displayPath, type EntryType, PATH_BYTES_MAX } from './names.js';

export interface TreeEntry {
  /** As stored: the absolute path without its first slash, `.` for the root directory. */
  readonly path: Buffer;
  /** Every byte of the path is a character that JSON has as it is; false: it may be so, too. */
  readonly isPlain?: boolean;
  /** The open directory that it is in, and its name there; valid only until the walk goes on. */
  readonly dirFd: number;
  readonly name: Buffer;
  readonly type: EntryType;
  /** Permission bits, 0 to 0o7777. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of data; 0 for everything but files. */
  size: number;
  mtimeNs: bigint;
  ctimeNs: bigint;
  readonly ino: bigint;
  readonly dev: bigint;
  readonly nlink: number;
  /** Allocated, in units of 512 bytes. */
  blocks: number;
  /** Where a symlink points; the stored path of a hard link's first name; else null. */
  readonly link: Buffer | null;
  /** Device numbers; 0 for everything but char and block. */
  readonly major: number;
  readonly minor: number;
}

/** Something that is not in the backup, or not as it should be, while the rest is. */
export interface TreeWarning {
  /** As stored. */
  readonly path: Buffer;
  /** POSIX code: ENOENT vanished, EACCES unreadable, EOPNOTSUPP a socket, ESTALE replaced, ... */
  readonly code: string;
  /** A sentence for people, with the path in it. */
  readonly message: string;
}

export interface TreeWalkOptions {
  /** Stored path of the only root, a file, where that is not its own. */
  readonly storedAs?: Buffer | undefined;
  readonly onWarning: (warning: TreeWarning) => void;
  /** What it excludes is as if it was not there. Roots are always in. */
  readonly selector?: Selector;
  /** Directories on other file systems than their root are entries, but not entered. */
  readonly oneFileSystem?: boolean;
  /** Of a directory with a CACHEDIR.TAG, only itself and that file. */
  readonly excludeCaches?: boolean;
}

/** https://bford.info/cachedir/ */
const CACHEDIR_TAG = Buffer.from('CACHEDIR.TAG');
/** It alone, and behind others, as `listNames` has it. */
const CACHEDIR_NAMES = Buffer.from('CACHEDIR.TAG\0');
const CACHEDIR_WITHIN = Buffer.from('\0CACHEDIR.TAG\0');
const CACHEDIR_SIGNATURE = Buffer.from('Signature: 8a477f597d28d172789f06886806bc55');

interface Level {
  /** O_PATH descriptor, -1 while closed for depth. */
  fd: number;
  readonly parent: Level | null;
  /** Descriptor of the directory above, for a root only: open as long as the root is walked. */
  readonly parentFd: number;
  readonly name: Buffer;
  readonly dev: bigint;
  readonly ino: bigint;
  /** Stored path with a slash behind; empty for the root directory. */
  readonly prefix: Buffer;
  /** As of the addon's `listNames`. */
  readonly names: Buffer;
  /** Where in them the next one begins. */
  at: number;
}

/** Directories held open on the way down: ancestors further up are opened again on the way back. */
const OPEN_LEVELS_MAX = 64;

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const fileTypes: ReadonlyMap<number, EntryType> = new Map([
  [0o100000, 'file'],
  [S_IFDIR, 'directory'],
  [0o120000, 'symlink'],
  [0o010000, 'fifo'],
  [0o020000, 'char'],
  [0o060000, 'block'],
]);

const { O_RDONLY, O_NOFOLLOW, O_DIRECTORY, O_NONBLOCK, O_NOATIME } = constants;
/** Not among Node's constants; the number on every Linux architecture that Node supports. */
const O_PATH = 0o10000000;
const OPEN_DIRECTORY = O_PATH | O_DIRECTORY | O_NOFOLLOW;
/** O_NONBLOCK: a FIFO put in the file's place must not stop us. */
const OPEN_FILE = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;

const EMPTY = Buffer.alloc(0);
const DOT = Buffer.from('.');
const SLASH = Buffer.from('/');
const NUL = Buffer.alloc(1);
const DUMPDIR_DIRECTORY = Buffer.from('D');
const DUMPDIR_OTHER = Buffer.from('Y');

const procPrefixOf = (fd: number): Buffer => Buffer.from(`/proc/self/fd/${fd}/`);

function join(prefix: Buffer, name: Buffer): Buffer {
  const joined = Buffer.allocUnsafe(prefix.length + name.length);
  prefix.copy(joined, 0);
  name.copy(joined, prefix.length);
  return joined;
}

/** A path for system calls that take no directory; valid only until the walk goes on. */
export const accessOf = ({ dirFd, name }: Pick<TreeEntry, 'dirFd' | 'name'>): Buffer =>
  join(procPrefixOf(dirFd), name);

// As glibc's gnu_dev_major() and gnu_dev_minor().
const majorOf = (rdev: bigint): number =>
  Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n));
const minorOf = (rdev: bigint): number => Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n));

const codeOf = (e: unknown): string => {
  if (!isCoded(e)) throw e;
  return e.code;
};

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'vanished before it was read',
  EACCES: 'may not be read',
  EPERM: 'may not be read',
  ESTALE: 'was replaced by another file before it was read',
  ELOOP: 'was replaced by a symlink before it was read',
  ENXIO: 'was replaced by another kind of file before it was read',
  ENOTDIR: 'is no directory any more',
  EOPNOTSUPP: 'is a socket; sockets are not stored',
  ENAMETOOLONG: `has a path longer than ${PATH_BYTES_MAX} bytes`,
};

/**
 * Opens a real path for lookups, component by component, never through a symlink.
 * @throws ENOENT, EACCES, ENOTDIR with the path in the message
 */
function openRealDirectory(path: Buffer): number {
  let fd = openSync('/', OPEN_DIRECTORY);
  const parts = path
    .toString('latin1')
    .split('/')
    .filter((p) => p !== '');
  for (const part of parts) {
    let next: number;
    try {
      next = openSync(join(procPrefixOf(fd), Buffer.from(part, 'latin1')), OPEN_DIRECTORY);
    } catch (e) {
      const code = codeOf(e);
      const hint =
        code === 'ENOTDIR' || code === 'ELOOP'
          ? ' (one of its parents is a symlink or a file)'
          : whyOf(code);
      throw stpError(code, `the root ${displayPath(path)} cannot be reached${hint}`, 'open');
    } finally {
      closeSync(fd);
    }
    fd = next;
  }
  return fd;
}

interface FoundRoot {
  /** The caller closes it. */
  readonly parentFd: number;
  readonly name: Buffer;
  readonly stat: FileStat;
}

const whyOf = (code: string): string =>
  `: ${code === 'EACCES' ? 'the user of the client may not' : code}`;

function findRoot(root: Buffer, record: StatRecord): FoundRoot {
  const slash = root.lastIndexOf(0x2f);
  const name = root.length === 1 ? DOT : root.subarray(slash + 1);
  const parentFd = openRealDirectory(root.subarray(0, slash));
  try {
    return { parentFd, name, stat: statOf(parentFd, name, record) };
  } catch (e) {
    closeSync(parentFd);
    const code = codeOf(e);
    const what = code === 'ENOENT' ? 'does not exist' : `cannot be looked at${whyOf(code)}`;
    throw stpError(code, `the root ${displayPath(root)} ${what}`, 'lstat');
  }
}

/** First names of files that have several: dev, ino to stored path. */
class LinkTable {
  readonly #devices = new Map<bigint, Map<bigint, { first: Buffer; namesLeft: number }>>();

  /** The stored path of the first name, or null if `path` is the first. */
  firstOf(stat: Pick<FileStat, 'dev' | 'ino' | 'nlink'>, path: Buffer): Buffer | null {
    let inodes = this.#devices.get(stat.dev);
    if (inodes === undefined) {
      inodes = new Map();
      this.#devices.set(stat.dev, inodes);
    }
    const known = inodes.get(stat.ino);
    if (known === undefined) {
      // A copy: the path lies in memory with others.
      inodes.set(stat.ino, { first: Buffer.from(path), namesLeft: stat.nlink - 1 });
      return null;
    }
    // Nothing is kept for inodes whose names have all been seen.
    if (--known.namesLeft <= 0) inodes.delete(stat.ino);
    return known.first;
  }

  forget(entry: TreeEntry): void {
    this.#devices.get(entry.dev)?.delete(entry.ino);
  }
}

export class TreeWalk implements Iterable<TreeEntry> {
  readonly #roots: Buffer[] = [];
  readonly #warn: (warning: TreeWarning) => void;
  readonly #options: TreeWalkOptions;
  /** Device of the root that is walked. */
  #rootDev = 0n;
  readonly #links = new LinkTable();
  readonly #look = new LookAhead();
  /** Of a root. */
  readonly #record = makeRecord();
  /** The entry that the walk stands at, as it was seen, and where its name is. */
  #here: TreeEntry | null = null;
  #hereRecord = this.#record;
  #hereWord = 0;
  #hereNames: Buffer = EMPTY;
  #hereNameAt = 0;
  readonly #opened = makeRecord();
  readonly #euid = process.geteuid?.() ?? -1;
  #level: Level | null = null;

  /**
   * @param roots real, absolute paths (see confine.ts). One below another is walked once.
   * @throws ENOENT, EACCES, ... if a root is missing or unreadable: nothing has been walked then
   */
  constructor(roots: readonly (Buffer | string)[], options: TreeWalkOptions) {
    this.#warn = options.onWarning;
    this.#options = options;
    const sorted = roots.map(normalisePath).sort(compareWalk);
    for (const root of sorted) {
      if (!this.#roots.some((above) => isAtOrBelow(root, above))) this.#roots.push(root);
    }
    if (this.#roots.length === 0) throw stpError('EINVAL', 'there is no root to walk; name one');
    for (const root of this.#roots) this.#checkRoot(root);
  }

  #checkRoot(root: Buffer): void {
    const found = findRoot(root, this.#record);
    try {
      const access = accessOf({ dirFd: found.parentFd, name: found.name });
      if (typeOf(found.stat) === 'directory') readdirSync(access);
    } catch (e) {
      const code = codeOf(e);
      throw stpError(code, `the root ${displayPath(root)} cannot be read${whyOf(code)}`, 'scandir');
    } finally {
      closeSync(found.parentFd);
    }
  }

  /** One walk at a time; leaving the loop early closes every directory. */
  *[Symbol.iterator](): Generator<TreeEntry, void, void> {
    assert(this.#level === null, 'a tree is walked once at a time');
    for (const root of this.#roots) {
      const { parentFd, name, stat } = findRoot(root, this.#record);
      try {
        const path = this.#options.storedAs ?? (root.length === 1 ? DOT : root.subarray(1));
        const entry = this.#entryOf(path, false, parentFd, name, stat);
        if (entry === null) continue;
        this.#rootDev = entry.dev;
        this.#standAt(entry, this.#record, 0, Buffer.concat([name, NUL]), 0);
        yield entry;
        if (entry.type !== 'directory') continue;
        this.#level = this.#enter(null, parentFd, entry, name);
        if (this.#level === null) {
          throw stpError('ENOENT', `the root ${displayPath(root)} vanished while it was read`);
        }
        yield* this.#below();
      } finally {
        for (let l: Level | null = this.#level; l !== null; l = l.parent) leave(l);
        this.#level = null;
        closeSync(parentFd);
      }
    }
  }

  *#below(): Generator<TreeEntry, void, void> {
    const look = this.#look;
    look.reset();
    for (let level = this.#level; level !== null; level = this.#level) {
      if (level.fd < 0 && !reopen(level)) {
        this.#report(level.prefix.subarray(0, -1), 'ENOENT');
        level.at = level.names.length;
      }
      if (!look.next(level)) {
        leave(level);
        this.#level = level.parent;
        continue;
      }
      const { path, word, nameAt } = look;
      const stat = this.#statOf(look);
      if (stat === null) continue;
      const isDirectory = (stat.mode & S_IFMT) === S_IFDIR;
      if (this.#options.selector?.excludes(path, isDirectory)) continue;
      const name = path.subarray(level.prefix.length);
      const entry = this.#entryOf(path, look.isPlain, level.fd, name, stat);
      if (entry === null) continue;
      this.#standAt(entry, look.record, word, level.names, nameAt);
      yield entry;
      if (entry.type !== 'directory') continue;
      if (this.#options.oneFileSystem && entry.dev !== this.#rootDev) continue;
      const child = this.#enter(level, level.fd, entry, name);
      if (child !== null) this.#level = child;
    }
  }

  #standAt(e: TreeEntry, record: StatRecord, word: number, names: Buffer, nameAt: number): void {
    this.#here = e;
    this.#hereRecord = record;
    this.#hereWord = word;
    this.#hereNames = names;
    this.#hereNameAt = nameAt;
  }

  #statOf({ path, errno, record, word }: LookAhead): FileStat | null {
    if (path.length > PATH_BYTES_MAX) this.#report(path, 'ENAMETOOLONG');
    else if (errno !== 0) this.#report(path, codeOfErrno(errno));
    else return statAt(record, word);
    return null;
  }

  #entryOf(
    path: Buffer,
    isPlain: boolean,
    dirFd: number,
    name: Buffer,
    stat: FileStat,
  ): TreeEntry | null {
    let type = typeOf(stat);
    let link: Buffer | null = null;
    if (type === undefined) {
      this.#report(path, 'EOPNOTSUPP');
      return null;
    }
    if (type === 'symlink') {
      try {
        link = readlinkSync(accessOf({ dirFd, name }), 'buffer') as unknown as Buffer;
      } catch (e) {
        this.#report(path, codeOf(e) === 'EINVAL' ? 'ESTALE' : codeOf(e));
        return null;
      }
    }
    if (stat.nlink > 1 && type !== 'directory') {
      const first = this.#links.firstOf(stat, path);
      if (first !== null) {
        type = 'hardlink';
        link = first;
      }
    }
    const device = type === 'char' || type === 'block';
    return {
      path,
      isPlain,
      dirFd,
      name,
      type,
      mode: stat.mode & 0o7777,
      uid: stat.uid,
      gid: stat.gid,
      size: type === 'file' ? stat.size : 0,
      mtimeNs: stat.mtimeNs,
      ctimeNs: stat.ctimeNs,
      ino: stat.ino,
      dev: stat.dev,
      nlink: stat.nlink,
      blocks: stat.blocks,
      link,
      major: device ? majorOf(stat.rdev) : 0,
      minor: device ? minorOf(stat.rdev) : 0,
    };
  }

  /** A directory's level, or null (with a warning, unless it is a root) if it cannot be listed. */
  #enter(parent: Level | null, parentFd: number, entry: TreeEntry, name: Buffer): Level | null {
    let fd = -1;
    try {
      fd = openSync(join(procPrefixOf(parentFd), name), OPEN_DIRECTORY);
      let names = native().listNames(fd);
      if (this.#options.excludeCaches && isCache(names, fd)) names = CACHEDIR_NAMES;
      const prefix = entry.path === DOT ? EMPTY : join(entry.path, SLASH);
      const { dev, ino } = entry;
      const level = { fd, parent, parentFd, name, dev, ino, prefix, names, at: 0 };
      closeFarAncestor(level);
      return level;
    } catch (e) {
      if (fd >= 0) closeSync(fd);
      if (parent !== null) this.#report(entry.path, codeOf(e));
      return null;
    }
  }

  #report(path: Buffer, code: string, reason = reasons[code]): void {
    const message = `/${displayPath(path)} ${reason ?? `cannot be read: ${code}`}`;
    this.#warn({ path, code, message });
  }

  /**
   * Opens the file of the entry the walk stands at, and brings the entry up to date: its size is
   * that of the open file. The caller closes the descriptor.
   * @returns -1, after a warning, if the file is not to be had; another of its names, should it
   *   have one, then carries the data
   */
  open(entry: TreeEntry): number {
    assert(entry.type === 'file', 'only files are opened');
    let fd = -1;
    try {
      fd = this.#openFile(entry);
      const stat = statOf(fd, null, this.#opened);
      if (stat.ino === entry.ino && stat.dev === entry.dev && typeOf(stat) === 'file') {
        takeFacts(entry, stat);
        return fd;
      }
      this.#report(entry.path, 'ESTALE');
    } catch (e) {
      this.#report(entry.path, codeOf(e));
    }
    if (fd >= 0) closeSync(fd);
    this.#links.forget(entry);
    return -1;
  }

  #openFile(entry: TreeEntry): number {
    const access = accessOf(entry);
    // Whoever does not own the file may not ask for O_NOATIME.
    if (this.#euid !== 0 && entry.uid !== this.#euid) return openSync(access, OPEN_FILE);
    try {
      return openSync(access, OPEN_FILE | O_NOATIME);
    } catch (e) {
      if (codeOf(e) !== 'EPERM') throw e;
      return openSync(access, OPEN_FILE);
    }
  }

  /**
   * What a directory has, as GNU tar's dumpdir: a letter, the name and a NUL for each, D for
   * directories, Y for the rest; a NUL at the end. Null if it cannot be listed.
   */
  dumpdirOf(entry: TreeEntry): Buffer | null {
    let fd = -1;
    try {
      fd = openSync(accessOf(entry), OPEN_DIRECTORY);
      const prefix = procPrefixOf(fd);
      const found = readdirSync(prefix, { withFileTypes: true, encoding: 'buffer' });
      const parts: Buffer[] = [];
      const above = entry.path.equals(DOT) ? EMPTY : join(entry.path, SLASH);
      for (const each of found.sort((a, b) => Buffer.compare(a.name, b.name))) {
        const { name } = each;
        const isDirectory = each.isDirectory();
        if (this.#options.selector?.excludes(join(above, name), isDirectory)) continue;
        parts.push(isDirectory ? DUMPDIR_DIRECTORY : DUMPDIR_OTHER, name, NUL);
      }
      parts.push(NUL);
      return Buffer.concat(parts);
    } catch (e) {
      codeOf(e);
      return null;
    } finally {
      if (fd >= 0) closeSync(fd);
    }
  }

  /**
   * The member of a small file at `offset` of `view`, in one call: `headerBytes` of `header`, all of
   * its data, and zeros up to whole blocks of 512; if it is what the walk saw before and after it is
   * read, and has no extended attributes. False: take it step by step, from `open` on.
   */
  readWhole(
    entry: TreeEntry,
    header: Uint8Array,
    headerBytes: number,
    view: Uint8Array,
    offset: number,
  ): boolean {
    assert(entry.type === 'file' && entry === this.#here, 'of the walk');
    const isOwn = this.#euid === 0 || entry.uid === this.#euid;
    const flags = isOwn ? OPEN_FILE | O_NOATIME : OPEN_FILE;
    return native().readWhole(
      entry.dirFd,
      this.#hereNames,
      this.#hereNameAt,
      flags,
      this.#hereRecord.words,
      this.#hereWord,
      header,
      headerBytes,
      view,
      offset,
    );
  }
}

function takeFacts(entry: TreeEntry, stat: FileStat): void {
  entry.mode = stat.mode & 0o7777;
  entry.uid = stat.uid;
  entry.gid = stat.gid;
  entry.size = stat.size;
  entry.blocks = stat.blocks;
  entry.mtimeNs = stat.mtimeNs;
  entry.ctimeNs = stat.ctimeNs;
}

/** Brings the entry of an open file up to date, as `TreeWalk.open` does. */
export const refreshEntry = (entry: TreeEntry, fd: number): void =>
  takeFacts(entry, statOf(fd, null, makeRecord()));

/** True if the file is still what `open` found. */
export function isSameFile(entry: TreeEntry, fd: number): boolean {
  const now = statOf(fd, null, makeRecord());
  // ctime covers size and mtime: nothing sets it back. Size is compared for clocks that tick slowly.
  return now.ctimeNs === entry.ctimeNs && now.size === entry.size;
}

export const changedWarning = ({ path }: TreeEntry): TreeWarning => {
  const message = `/${displayPath(path)} changed while it was read; what is stored may be mixed`;
  return { path, code: 'EAGAIN', message };
};

const typeOf = (stat: FileStat): EntryType | undefined => fileTypes.get(stat.mode & S_IFMT);

/** True if a directory says that it is a cache. */
function isCache(names: Buffer, dirFd: number): boolean {
  const isThere = names.indexOf(CACHEDIR_NAMES) === 0 || names.includes(CACHEDIR_WITHIN);
  if (!isThere) return false;
  let fd = -1;
  try {
    fd = openSync(join(procPrefixOf(dirFd), CACHEDIR_TAG), OPEN_FILE);
    const start = Buffer.alloc(CACHEDIR_SIGNATURE.length);
    return readSync(fd, start, 0, start.length, 0) > 0 && start.equals(CACHEDIR_SIGNATURE);
  } catch (e) {
    codeOf(e);
    return false;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

function leave(level: Level): void {
  if (level.fd < 0) return;
  closeSync(level.fd);
  level.fd = -1;
}

function closeFarAncestor(level: Level): void {
  let above: Level | null = level;
  for (let i = 0; i < OPEN_LEVELS_MAX && above !== null; i++) above = above.parent;
  if (above !== null) leave(above);
}

/**
 * Opens a level that was closed for depth, from its nearest open ancestor down.
 * @returns false if it, or a directory on the way, is gone or another one by now
 */
function reopen(level: Level): boolean {
  const closed: Level[] = [];
  for (let l: Level | null = level; l !== null && l.fd < 0; l = l.parent) closed.push(l);
  for (const next of closed.reverse()) {
    try {
      const at = next.parent === null ? next.parentFd : next.parent.fd;
      next.fd = openSync(join(procPrefixOf(at), next.name), OPEN_DIRECTORY);
      const now = statOf(next.fd, null, makeRecord());
      if (now.ino !== next.ino || now.dev !== next.dev) {
        leave(next);
        return false;
      }
      closeFarAncestor(next);
    } catch (e) {
      codeOf(e);
      return false;
    }
  }
  return true;
}

/** Walks `roots`; see TreeWalk. */
export const walkTree = (roots: readonly (Buffer | string)[], options: TreeWalkOptions): TreeWalk =>
  new TreeWalk(roots, options);
