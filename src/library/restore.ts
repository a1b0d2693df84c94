/**
 * Restore, the client's side: entries become files below one target directory.
 *
 * Invariant: nothing outside of the target is created, changed or linked, whatever the entries say.
 * A stored path has no `..`, no empty component and no slash in front; every directory on its way
 * is opened from its parent with O_NOFOLLOW (`/proc/self/fd/N/NAME`, Node's only openat), and files
 * are made with O_EXCL: a symlink that an earlier entry planted ends the restore. An entry that
 * breaks this is an attack or damage, not bad luck: the restore stops there.
 *
 * What merely fails (a name the file system does not take, a device without the right to make it)
 * is a problem that is reported by name while the rest goes on. Directories get owner, mode and
 * time at the end, deepest first: until then they are ours, 0700, and still change.
 *
 * Worker thread: all of it blocks.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  symlinkSync,
} from 'node:fs';
import { resolve } from 'node:path';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { isCoded, stpError } from '../errors.js';
import { displayPath } from '../source/names.js';
import { SparseMapParser } from '../source/sparse.js';
import type { Xattr } from '../source/xattrs.js';
import {
  assertTotals,
  FRAME_DATA,
  FRAME_END,
  FRAME_ENTRY,
  FrameReader,
  frameName,
  type PageSource,
  protocolError,
} from './frames.js';
import { BLAKE3_EMPTY, decodeLine, LineError, type ManifestEntry } from './manifest.js';
import { TAR_BLOCK_BYTES } from './pax.js';

/** What Node lacks: from the addon, or from a stand-in in tests. */
export interface RestoreNative {
  /** utimensat(2): sets mtime (and atime to the same); exact to the nanosecond. */
  readonly setTimesNs: (path: Buffer | string, mtimeNs: bigint, followSymlink: boolean) => void;
  /**
   * mknod(2); `mode` has the type bits. Without it FIFOs and devices are reported as not restored.
   */
  readonly makeNode?: (path: Buffer | string, mode: number, major: number, minor: number) => void;
  /** fsetxattr(2), or lsetxattr(2) of a name in an open directory. */
  readonly setXattr?: (fdOrPath: number | Buffer, name: Buffer, value: Buffer) => void;
}

export interface RestoreProblem {
  /** As stored. */
  readonly path: Buffer;
  /** POSIX code; EBADMSG: the data is not what was backed up. */
  readonly code: string;
  /** A sentence for people, with the path in it. */
  readonly message: string;
}

export interface RestoreReport {
  readonly entries: number;
  /** Of file data, restored or not. */
  readonly bytes: number;
  readonly problems: number;
  /** Entries that belong to somebody else now, because only root gives files away. */
  readonly ownersNotSet: number;
}

export interface RestoreOptions {
  readonly native: RestoreNative;
  readonly onProblem: (problem: RestoreProblem) => void;
}

/**
 * Moves `bytes` of data into `fd`, or nowhere when it is -1; returns their BLAKE3 in hex. A file with
 * holes has `size` bytes, and a map before its data; else `size` is -1.
 */
export type ReceiveData = (fd: number, bytes: number, size: number) => string;

interface PendingDirectory {
  /** Stored path, one character a byte; empty for the target. */
  readonly key: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  readonly xattrs: readonly Xattr[] | null;
}

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_RDONLY } = constants;
/** Not among Node's constants; the number on every Linux architecture that Node supports. */
const O_PATH = 0o10000000;
const OPEN_DIRECTORY = O_PATH | O_DIRECTORY | O_NOFOLLOW;
const CREATE_FILE = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

/** Parents held open: a tree is restored in its order, so few are in use at a time. */
const OPEN_PARENTS_MAX = 64;

const SET_ID_BITS = 0o6000;
const nodeTypeBits = { fifo: 0o010000, char: 0o020000, block: 0o060000 } as const;
const SLASH = 0x2f;

/** After these the next entry would fail, too, or worse. */
const fatalCodes: ReadonlySet<string> = new Set([
  'ENOSPC',
  'EDQUOT',
  'EROFS',
  'EIO',
  'EMFILE',
  'ENFILE',
  'ENOMEM',
]);
/** chown(2) without the right to it, or to a user whom this user namespace does not know. */
const notOwnerCodes: ReadonlySet<string> = new Set(['EPERM', 'EINVAL']);

/** An entry that would lead outside. */
class EscapeError extends Error {
  override readonly name = 'EscapeError';
}

/** Makes the target, or takes an empty directory, and opens it. */
function openTarget(target: string): number {
  mkdirSync(target, { recursive: true, mode: 0o700 });
  const found = readdirSync(target);
  if (found.length > 0) {
    const what = `${target} is not empty (${found[0]}, ...)`;
    throw stpError('ENOTEMPTY', `${what}; restore into a new or an empty directory`);
  }
  return openSync(target, O_RDONLY | O_DIRECTORY);
}

const procPath = (fd: number): string => `/proc/self/fd/${fd}`;

export class RestoreWriter {
  readonly #target: string;
  readonly #native: RestoreNative;
  readonly #onProblem: (problem: RestoreProblem) => void;
  readonly #targetFd: number;
  /** Open directories by stored path (one character a byte), the one used longest ago first. */
  readonly #parents = new Map<string, number>();
  /** Not closed to make room: another parent is being opened beside it. */
  #pinnedKey: string | null = null;
  readonly #pending: PendingDirectory[] = [];
  #entries = 0;
  #bytes = 0;
  #problems = 0;
  #ownersNotSet = 0;

  /** @throws ENOTEMPTY if the target holds anything; EACCES, ENOTDIR, ... */
  constructor(targetDirectory: string, options: RestoreOptions) {
    this.#target = resolve(targetDirectory);
    this.#native = options.native;
    this.#onProblem = options.onProblem;
    this.#targetFd = openTarget(this.#target);
  }

  /**
   * Restores one entry; `receive` is called once for a file with data, whatever happens to the file.
   * @throws EACCES if the entry would lead outside of the target; ENOSPC, EIO, ...: the restore ends
   */
  entry(entry: ManifestEntry, receive: ReceiveData): void {
    this.#entries++;
    this.#bytes += entry.stored;
    let received = entry.stored === 0;
    const receiveOnce: ReceiveData = (fd, bytes, size) => {
      received = true;
      return receive(fd, bytes, size);
    };
    try {
      this.#make(entry, receiveOnce);
    } catch (e) {
      this.#settle(entry, e);
    }
    if (!received) receive(-1, entry.stored, -1);
  }

  /** Passes what ends the restore, reports the rest. */
  #settle(entry: ManifestEntry, e: unknown): void {
    const path = `${this.#target}/${displayPath(entry.path)}`;
    if (e instanceof EscapeError) {
      throw stpError('EACCES', `${path} is refused: ${e.message}; do not trust this set`);
    }
    // Errors of the stream have no path: they are not this entry's.
    if (!isCoded(e) || !('path' in e || diskCalls.has(e.syscall))) throw e;
    if (fatalCodes.has(e.code)) throw stpError(e.code, `${path} could not be restored`, e.syscall);
    this.#problem(entry.path, e.code, `${path} could not be restored: ${e.code} from ${e.syscall}`);
  }

  #problem(path: Buffer, code: string, message: string): void {
    this.#problems++;
    this.#onProblem({ path, code, message });
  }

  #make(entry: ManifestEntry, receive: ReceiveData): void {
    switch (entry.type) {
      case 'directory':
        this.#makeDirectory(entry);
        break;
      case 'file':
        this.#makeFile(entry, receive);
        break;
      case 'hardlink':
        this.#makeHardLink(entry);
        break;
      case 'symlink': {
        const access = this.#accessOf(entry.path);
        symlinkSync(entry.link as Buffer, access);
        this.#own(() => lchownSync(access, entry.uid, entry.gid));
        this.#setXattrs(entry.path, entry.xattrs, access);
        this.#setTime(access, entry.mtimeNs, false);
        break;
      }
      default:
        this.#makeNode(entry, nodeTypeBits[entry.type]);
    }
  }

  #makeDirectory(entry: ManifestEntry): void {
    const path = entry.path.toString('latin1');
    const key = path === '.' ? '' : path;
    if (key !== '') {
      try {
        mkdirSync(this.#accessOf(entry.path), 0o700);
      } catch (e) {
        // Made for an earlier entry below it, unless it is something else: opening it tells.
        if (!isCoded(e) || e.code !== 'EEXIST') throw e;
        this.#openDirectory(key);
      }
    }
    const { mode, uid, gid, mtimeNs, xattrs } = entry;
    this.#pending.push({ key, mode, uid, gid, mtimeNs, xattrs });
  }

  #makeFile(entry: ManifestEntry, receive: ReceiveData): void {
    const access = this.#accessOf(entry.path);
    const fd = openSync(access, CREATE_FILE, 0o600);
    try {
      const { stored, size, sparse } = entry;
      const digest = stored === 0 ? BLAKE3_EMPTY : receive(fd, stored, sparse ? size : -1);
      if (digest !== entry.blake3) this.#reportDigest(entry);
      const owned = this.#own(() => fchownSync(fd, entry.uid, entry.gid));
      fchmodSync(fd, owned ? entry.mode : entry.mode & ~SET_ID_BITS);
      // After the owner, which takes capabilities away, and the mode, which an ACL has, too.
      this.#setXattrs(entry.path, entry.xattrs, fd);
      this.#setTime(access, entry.mtimeNs, false);
    } finally {
      closeSync(fd);
    }
  }

  #reportDigest(entry: ManifestEntry): void {
    const path = `${this.#target}/${displayPath(entry.path)}`;
    this.#problem(entry.path, 'EBADMSG', `${path} is damaged: its data is not what was backed up`);
  }

  #makeHardLink(entry: ManifestEntry): void {
    const first = entry.link as Buffer;
    const access = this.#accessOf(entry.path);
    this.#pinnedKey = parentKey(entry.path);
    try {
      linkSync(this.#accessOf(first, false), access);
    } catch (e) {
      if (!isCoded(e) || e.code !== 'ENOENT') throw e;
      const path = `${this.#target}/${displayPath(entry.path)}`;
      const why = `its first name, ${displayPath(first)}, is not there`;
      this.#problem(entry.path, 'ENOENT', `${path} could not be restored: ${why}`);
    } finally {
      this.#pinnedKey = null;
    }
  }

  #makeNode(entry: ManifestEntry, typeBits: number): void {
    const { makeNode } = this.#native;
    if (makeNode === undefined) {
      const path = `${this.#target}/${displayPath(entry.path)}`;
      this.#problem(
        entry.path,
        'ENOSYS',
        `${path} (${entry.type}) cannot be restored by this build`,
      );
      return;
    }
    const access = this.#accessOf(entry.path);
    makeNode(access, typeBits | 0o600, entry.major, entry.minor);
    const owned = this.#own(() => lchownSync(access, entry.uid, entry.gid));
    chmodSync(access, owned ? entry.mode : entry.mode & ~SET_ID_BITS);
    this.#setXattrs(entry.path, entry.xattrs, access);
    this.#setTime(access, entry.mtimeNs, false);
  }

  #setXattrs(path: Buffer, xattrs: readonly Xattr[] | null, place: number | Buffer): void {
    for (const { name, value } of xattrs ?? []) {
      try {
        if (this.#native.setXattr === undefined) throw stpError('ENOSYS', 'not in this build');
        this.#native.setXattr(place, name, value);
      } catch (e) {
        if (!isCoded(e) || fatalCodes.has(e.code)) throw e;
        const shown = `${this.#target}/${displayPath(path)}`;
        const what = `the attribute ${displayPath(name)} of ${shown} could not be set`;
        this.#problem(path, e.code, `${what}: ${e.code}`);
      }
    }
  }

  #setTime(path: Buffer | string, mtimeNs: bigint, followSymlink: boolean): void {
    // What no timespec of this interface holds (the year 2262) is this entry's problem alone.
    if (BigInt.asIntN(64, mtimeNs) !== mtimeNs) {
      throw stpError('EOVERFLOW', `the time ${mtimeNs} cannot be set`, 'utimensat');
    }
    this.#native.setTimesNs(path, mtimeNs, followSymlink);
  }

  /** False, and counted, if the owner may not be set. */
  #own(chown: () => void): boolean {
    try {
      chown();
      return true;
    } catch (e) {
      if (!isCoded(e) || !notOwnerCodes.has(e.code)) throw e;
      this.#ownersNotSet++;
      return false;
    }
  }

  /** A name in its open parent directory, for one system call. */
  #accessOf(path: Buffer, make = true): Buffer {
    const slash = path.lastIndexOf(SLASH);
    const fd = this.#openDirectory(parentKey(path), make);
    const prefix = `${procPath(fd)}/`;
    const access = Buffer.allocUnsafe(prefix.length + path.length - slash - 1);
    access.write(prefix, 'latin1');
    path.copy(access, prefix.length, slash + 1);
    return access;
  }

  /**
   * The descriptor of a directory below the target; `make`: missing ones on the way are made.
   * @throws EscapeError if anything on the way is a symlink or no directory
   */
  #openDirectory(key: string, make = true): number {
    if (key === '') return this.#targetFd;
    const known = this.#parents.get(key);
    if (known !== undefined) {
      // To the end of the line of those that are closed to make room.
      this.#parents.delete(key);
      this.#parents.set(key, known);
      return known;
    }
    let slash = key.lastIndexOf('/');
    while (slash > 0 && !this.#parents.has(key.slice(0, slash)))
      slash = key.lastIndexOf('/', slash - 1);
    let fd = slash > 0 ? (this.#parents.get(key.slice(0, slash)) as number) : this.#targetFd;
    for (let start = slash + 1; start < key.length; ) {
      const next = key.indexOf('/', start);
      const end = next < 0 ? key.length : next;
      fd = this.#openChild(fd, Buffer.from(key.slice(start, end), 'latin1'), make);
      this.#remember(key.slice(0, end), fd);
      start = end + 1;
    }
    return fd;
  }

  #openChild(parentFd: number, name: Buffer, make: boolean): number {
    const access = Buffer.concat([Buffer.from(`${procPath(parentFd)}/`), name]);
    for (;;) {
      try {
        return openSync(access, OPEN_DIRECTORY);
      } catch (e) {
        if (!isCoded(e)) throw e;
        if (e.code === 'ELOOP' || e.code === 'ENOTDIR') {
          throw new EscapeError(`${displayPath(name)} on its way is a symlink or no directory`);
        }
        if (e.code !== 'ENOENT' || !make) throw e;
      }
      mkdirSync(access, 0o755);
    }
  }

  #remember(key: string, fd: number): void {
    this.#parents.set(key, fd);
    if (this.#parents.size <= OPEN_PARENTS_MAX) return;
    for (const [oldest, oldFd] of this.#parents) {
      if (oldest === this.#pinnedKey || oldest === key) continue;
      this.#parents.delete(oldest);
      closeSync(oldFd);
      return;
    }
  }

  /** Sets what directories had to wait for, deepest first, and closes. */
  finish(): RestoreReport {
    for (const directory of this.#pending.reverse()) this.#finishDirectory(directory);
    this.close();
    return {
      entries: this.#entries,
      bytes: this.#bytes,
      problems: this.#problems,
      ownersNotSet: this.#ownersNotSet,
    };
  }

  #finishDirectory(directory: PendingDirectory): void {
    const { key, mode, uid, gid, mtimeNs, xattrs } = directory;
    try {
      const path = procPath(this.#openDirectory(key));
      const owned = this.#own(() => chownSync(path, uid, gid));
      chmodSync(path, owned ? mode : mode & ~SET_ID_BITS);
      this.#setXattrs(Buffer.from(key || '.', 'latin1'), xattrs, Buffer.from(`${path}/.`));
      this.#setTime(path, mtimeNs, true);
    } catch (e) {
      if (!isCoded(e) || fatalCodes.has(e.code)) throw e;
      const path = Buffer.from(key || '.', 'latin1');
      const shown = `${this.#target}/${displayPath(path)}`;
      this.#problem(path, e.code, `the metadata of ${shown} could not be set: ${e.code}`);
    }
  }

  /** Closes all descriptors; what was restored so far stays. Harmless when done twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const fd of this.#parents.values()) closeSync(fd);
    this.#parents.clear();
    closeSync(this.#targetFd);
  }
  #closed = false;
}

/** Stored path of the parent, one character a byte; empty for names right below the target. */
function parentKey(path: Buffer): string {
  const slash = path.lastIndexOf(SLASH);
  return slash < 0 ? '' : path.toString('latin1', 0, slash);
}

/** Calls that a restore makes on the target's file system and that name no path in their errors. */
const diskCalls: ReadonlySet<unknown> = new Set([
  'write',
  'ftruncate',
  'fchown',
  'fchmod',
  'utimensat',
  'mknod',
]);

/**
 * Receives a whole set into `writer`, up to and including END, and finishes it.
 * @param progress kept up to date for another thread: [entries, bytes of data]
 * @throws EPROTO, EACCES (an entry leads outside), ENOSPC, ... and what the stream throws
 */
export function restoreSet(
  source: PageSource,
  writer: RestoreWriter,
  progress: Float64Array = new Float64Array(2),
): RestoreReport {
  const frames = new FrameReader(source);
  const hasher = new Blake3Hasher();
  const receive: ReceiveData = (fd, bytes, size) => {
    if (!frames.next() || frames.type !== FRAME_DATA || frames.length !== bytes) {
      throw protocolError(`the data of a file of ${bytes} bytes does not follow its entry`);
    }
    hasher.reset();
    try {
      if (size < 0 || fd < 0) frames.toFile(fd, hasher);
      else if (!receiveSparse(frames, fd, size, hasher)) {
        frames.toFile(-1, null);
        return DAMAGED;
      }
    } catch (e) {
      // A file system that takes no more of this file is no reason to lose the stream's place.
      if (isCoded(e) && (e.syscall === 'write' || e.syscall === 'ftruncate'))
        frames.toFile(-1, null);
      throw e;
    }
    return hasher.digest('hex');
  };
  let entries = 0;
  let bytes = 0;
  try {
    while (frames.next()) {
      if (frames.type === FRAME_END) {
        assertTotals(frames.payload(), { entries, bytes, warnings: 0 });
        return writer.finish();
      }
      if (frames.type !== FRAME_ENTRY) {
        throw protocolError(`a ${frameName(frames.type)} frame has no place here`);
      }
      const entry = entryOf(frames.payload(), entries + 1);
      writer.entry(entry, receive);
      bytes += entry.stored;
      progress[0] = ++entries;
      progress[1] = bytes;
    }
    throw protocolError('the stream ended before its END frame');
  } finally {
    writer.close();
  }
}

/** No digest: what does not have the form that it should have. */
const DAMAGED = '';

/**
 * Data with holes: the map, then its segments, each to its place. The size is set at the end.
 * @returns false if the map is none, or is not that of the data
 */
function receiveSparse(
  frames: FrameReader,
  fd: number,
  size: number,
  hasher: Blake3Hasher,
): boolean {
  const map = new SparseMapParser();
  const block = Buffer.allocUnsafeSlow(TAR_BLOCK_BYTES);
  while (!map.isComplete) {
    if (frames.owed < block.length) return false;
    frames.take(block);
    hasher.update(block);
    if (map.add(block, size) !== null) return false;
  }
  for (const { offset, bytes } of map.segments) {
    if (bytes > frames.owed) return false;
    frames.partToFile(fd, hasher, bytes, offset);
  }
  ftruncateSync(fd, size);
  return frames.owed === 0;
}

function entryOf(line: Buffer, number: number): ManifestEntry {
  try {
    const record = decodeLine(line.toString());
    if (record.kind === 'entry') return record;
    throw new LineError('it is no entry');
  } catch (e) {
    if (!(e instanceof LineError)) throw e;
    throw protocolError(`entry ${number} is refused: ${e.message}`);
  }
}
