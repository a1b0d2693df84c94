/**
 * Restore, the client's side: entries become files below one target directory.
 *
 * Invariant: nothing outside of the target is created, changed or linked, whatever the entries say
 * and whatever is in it already: see restore-target.ts. Files are made with O_EXCL.
 *
 * Into an empty target (`refuse`) files are made where they belong, and an entry that would lead
 * outside is an attack or damage, not bad luck: the restore stops there. With another `overwrite`
 * each entry but a directory is made under a name of its own (`.stp-restore-...`), is complete, and
 * on the disk if it replaces something, before it is renamed into place (replaced-files.ts): whoever
 * looks, also after a crash, finds the old or the new, never a mix. When `finish` returns, all of it
 * is on the disk. What is in the way may be the target's own doing
 * then, so an entry behind it is a problem, and the rest goes on.
 *
 * What merely fails (a name the file system does not take, a device without the right to make it)
 * is a problem that is reported by name while the rest goes on. Directories get owner, mode and
 * time at the end, deepest first: until then they are ours, 0700, and still change.
 *
 * Worker thread: all of it blocks.
 */
import { randomBytes } from 'node:crypto';
import {
  type BigIntStats,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { resolve } from 'node:path';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { assert } from '../assert.js';
import { isCoded, stpError } from '../errors.js';
import { displayPath, pathProblem } from '../source/names.js';
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
import { ReplacedFiles } from './replaced-files.js';
import {
  differences,
  isAtOrBelowAny,
  type Overwrite,
  placed,
  type RestoreChoices,
} from './restore-plan.js';
import { EscapeError, parentKey, procPath, TargetTree } from './restore-target.js';

/** What Node lacks: from the addon, or from a stand-in in tests. */
export interface RestoreNative {
  /** utimensat(2): sets mtime (and atime to the same); exact to the nanosecond. */
  readonly setTimesNs: (path: Buffer | string, mtimeNs: bigint, followSymlink: boolean) => void;
  /** fsync(2) of many files at once: an error number for each, or 0; else each file waits alone. */
  readonly syncFiles?: (fds: readonly number[]) => number[];
  /** syncfs(2) of an open file's file system; without it nothing is waited for at the end. */
  readonly syncFileSystem?: (fd: number) => void;
  /**
   * mknod(2); `mode` has the type bits. Without it FIFOs and devices are reported as not restored.
   */
  readonly makeNode?: (path: Buffer | string, mode: number, major: number, minor: number) => void;
  /** fsetxattr(2), or lsetxattr(2) of a name in an open directory. */
  readonly setXattr?: (fdOrPath: number | Buffer, name: Buffer, value: Buffer) => void;
  /** As native/file_io.cc has it; without it attributes are not verified. */
  readonly getXattrs?: (fdOrPath: number | Buffer, bytesMax: number) => Buffer[] | null;
}

export interface RestoreProblem {
  /** As stored. */
  readonly path: Buffer;
  /** POSIX code; EBADMSG: the data is not what was backed up. */
  readonly code: string;
  /** A sentence for people, with the path in it. */
  readonly message: string;
}

/** What becomes of an entry. */
export type Action = 'make' | 'replace' | 'leave';

export interface RestoreReport {
  readonly entries: number;
  /** Of file data, restored or not. */
  readonly bytes: number;
  readonly problems: number;
  /** Entries that were not there; into an empty target all of them. */
  readonly made: number;
  /** Entries that stood for something else; directories: whose metadata was set. */
  readonly replaced: number;
  /** Entries of the set that the target keeps as it has them. */
  readonly left: number;
  /** Entries that have no place in the target: stripped, or not below what may be written. */
  readonly skipped: number;
  /** Entries that belong to somebody else now, because only root gives files away. */
  readonly ownersNotSet: number;
}

export interface RestoreOptions extends RestoreChoices {
  readonly native: RestoreNative;
  /** Told of every entry of a dry run: its path in the target. */
  readonly onPlan?: (action: Action, path: Buffer) => void;
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

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
const CREATE_FILE = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

/** What is not yet in its place; the rest of the name is random. */
const TEMPORARY = '.stp-restore-';
const ROOT_UID = 0;

const SLASH = 0x2f;
const SET_ID_BITS = 0o6000;
const nodeTypeBits = { fifo: 0o010000, char: 0o020000, block: 0o060000 } as const;

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
const fatalReasons: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk of the target is full',
  EDQUOT: "the quota on the target's disk is used up",
  EROFS: "the target's disk is read-only",
  EIO: "the target's disk failed: look at the kernel's log",
};
/** link(2) where a file system, or the rules for other users' files, have no second names. */
const linkLacks: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK']);
/** chown(2) without the right to it, or to a user whom this user namespace does not know. */
const notOwnerCodes: ReadonlySet<string> = new Set(['EPERM', 'EINVAL']);

/** Opens the target; makes it, unless this is only to see what would be. Null: it is not there. */
function openTarget(target: string, overwrite: Overwrite, dryRun: boolean): TargetTree | null {
  let tree: TargetTree;
  try {
    tree = new TargetTree(target, !dryRun);
  } catch (e) {
    if (dryRun && isCoded(e) && e.code === 'ENOENT') return null;
    if (isCoded(e)) {
      // It names a descriptor of ours, which says nothing to a user.
      throw stpError(e.code, `the target ${target} cannot be made or opened`, e.syscall);
    }
    if (!(e instanceof EscapeError)) throw e;
    throw stpError('EACCES', `${target} is refused as a target: ${e.message}`);
  }
  const [found] = overwrite === 'refuse' ? readdirSync(procPath(tree.rootFd)) : [];
  if (found === undefined) return tree;
  tree.close();
  const what = `${target} is not empty (${found}, ...)`;
  throw stpError(
    'ENOTEMPTY',
    `${what}; restore into a new or an empty directory, or say what may be replaced: ` +
      `--overwrite never|always|if-newer|if-changed`,
  );
}

function lookAt(access: Buffer): BigIntStats | null {
  try {
    return lstatSync(access, { bigint: true });
  } catch (e) {
    if (isCoded(e) && e.code === 'ENOENT') return null;
    throw e;
  }
}

/** A name beside another, in the same open directory. */
function temporaryBeside(access: Buffer): Buffer {
  const directory = access.subarray(0, access.lastIndexOf('/') + 1);
  return Buffer.concat([directory, Buffer.from(TEMPORARY + randomBytes(8).toString('hex'))]);
}

/** Gives a complete file its name, but never in the place of another. */
function appear(temporary: Buffer, access: Buffer): void {
  try {
    linkSync(temporary, access);
  } catch (e) {
    const cannotLink = isCoded(e) && linkLacks.has(e.code);
    if (!cannotLink || lookAt(access) !== null) throw e;
    renameSync(temporary, access);
  }
}

function discard(temporary: Buffer): void {
  try {
    unlinkSync(temporary);
  } catch (e) {
    if (!isCoded(e) || e.code !== 'ENOENT') throw e;
  }
}

export class RestoreWriter {
  readonly #options: RestoreOptions;
  readonly #overwrite: Overwrite;
  readonly #native: RestoreNative;
  readonly #targetPath: string;
  /** Null in a dry run whose target is not there. */
  readonly #tree: TargetTree | null;
  readonly #isRoot = process.geteuid?.() === ROOT_UID;
  readonly #pending: PendingDirectory[] = [];
  readonly #replaced: ReplacedFiles;
  /** Dry run: directories that would stand where something else is; nothing below them is there. */
  readonly #wouldBeMade = new Set<string>();
  #isClosed = false;
  #entries = 0;
  #bytes = 0;
  #problems = 0;
  #ownersNotSet = 0;
  #skipped = 0;
  readonly #actions = { make: 0, replace: 0, leave: 0 };

  /**
   * @param targetDirectory without a symlink on its way
   * @throws ENOTEMPTY if the target holds anything and `overwrite` is `refuse`; EACCES, ENOTDIR, ...
   */
  constructor(targetDirectory: string, options: RestoreOptions) {
    this.#options = options;
    this.#native = options.native;
    const { overwrite = 'refuse', dryRun = false } = options;
    this.#overwrite = overwrite;
    this.#targetPath = resolve(targetDirectory);
    this.#tree = openTarget(this.#targetPath, overwrite, dryRun);
    this.#replaced = new ReplacedFiles(options.native.syncFiles);
  }

  /**
   * Restores one entry; `receive` is called once for a file with data, whatever happens to the file;
   * in a dry run never.
   * @returns the entry as it is in the target now, null if it is not
   * @throws EACCES if the entry would lead outside of an empty target; ENOSPC, EIO, ...: the end
   */
  entry(given: ManifestEntry, receive: ReceiveData): ManifestEntry | null {
    this.#entries++;
    this.#bytes += given.stored;
    let received = given.stored === 0 || this.#options.dryRun === true;
    const receiveOnce: ReceiveData = (fd, bytes, size) => {
      received = true;
      return receive(fd, bytes, size);
    };
    const entry = this.#placed(given);
    let isThere = false;
    try {
      if (entry !== null) isThere = this.#put(entry, receiveOnce);
    } catch (e) {
      this.#settle(entry ?? given, e);
    }
    // The map of a file that the target keeps is needed to verify it.
    if (!received) receive(-1, given.stored, given.sparse ? given.size : -1);
    return isThere ? entry : null;
  }

  /** The entry as it is to be, or null, counted, if it has no place in the target. */
  #placed(given: ManifestEntry): ManifestEntry | null {
    const entry = placed(given, this.#options);
    const { below } = this.#options;
    if (entry === null) {
      this.#skipped++;
      return null;
    }
    const wrong = entry === given ? null : pathProblem(entry.path);
    if (wrong !== null) {
      this.#problem(entry.path, 'EINVAL', `${this.#shown(entry.path)} is no path: it ${wrong}`);
      return null;
    }
    if (below === undefined || isAtOrBelowAny(entry.path, below)) return entry;
    // Only the first is named: of a set that holds more there may be millions.
    if (this.#skipped++ === 0) {
      const why = 'it is not below a restore root; nor is what else is counted as skipped';
      this.#problem(entry.path, 'EACCES', `${this.#shown(entry.path)} is not restored: ${why}`);
    }
    return null;
  }

  #shown(path: Buffer): string {
    return `${this.#targetPath === '/' ? '' : this.#targetPath}/${displayPath(path)}`;
  }

  /** Where directories are open. */
  get #target(): TargetTree {
    if (this.#tree === null) throw stpError('ENOENT', `${this.#targetPath} is not there`, 'open');
    return this.#tree;
  }

  /** Passes what ends the restore, reports the rest. */
  #settle(entry: ManifestEntry, e: unknown): void {
    const path = this.#shown(entry.path);
    if (e instanceof EscapeError) {
      if (this.#overwrite === 'refuse') {
        throw stpError('EACCES', `${path} is refused: ${e.message}; do not trust this set`);
      }
      this.#problem(entry.path, 'EACCES', `${path} is not restored: ${e.message}`);
      return;
    }
    // Errors of the stream have no path: they are not this entry's.
    if (!isCoded(e) || !('path' in e || diskCalls.has(e.syscall))) throw e;
    if (fatalCodes.has(e.code)) {
      const why = fatalReasons[e.code] ?? `${e.code} from ${e.syscall}`;
      const what = `${path} could not be restored: ${why}`;
      throw stpError(e.code, `${what}; what was restored before it stays`, e.syscall);
    }
    this.#problem(entry.path, e.code, `${path} could not be restored: ${e.code} from ${e.syscall}`);
  }

  #problem(path: Buffer, code: string, message: string): void {
    this.#problems++;
    this.#options.onProblem({ path, code, message });
  }

  #count(action: Action, entry: ManifestEntry): void {
    this.#actions[action]++;
    if (this.#options.dryRun) this.#options.onPlan?.(action, entry.path);
  }

  /** False if the entry is not, or not as the set has it, in the target. */
  #put(entry: ManifestEntry, receive: ReceiveData): boolean {
    if (this.#overwrite !== 'refuse') return this.#putOver(entry, receive);
    if (!this.#options.dryRun) {
      if (entry.type === 'directory') this.#makeDirectory(entry);
      else if (!this.#make(entry, this.#target.accessOf(entry.path), receive)) return false;
    }
    this.#count('make', entry);
    return true;
  }

  /** The same where something may be in the way. */
  #putOver(entry: ManifestEntry, receive: ReceiveData): boolean {
    if (this.#options.dryRun) {
      this.#count(this.#planned(entry), entry);
      return true;
    }
    if (entry.type === 'directory' && isTarget(entry.path)) return this.#adoptDirectory(entry, '');
    const access = this.#target.accessOf(entry.path);
    const there = lookAt(access);
    if (entry.type === 'directory') return this.#directoryOver(entry, access, there);
    const action = this.#actionFor(entry, access, there);
    if (action === 'leave') {
      this.#count(action, entry);
      return this.#overwrite === 'if-changed';
    }
    if (entry.type === 'file' && there !== null) return this.#replaceFile(entry, access, receive);
    if (!this.#replace(entry, access, there, receive)) return false;
    this.#count(action, entry);
    return true;
  }

  /** The same of a file in the place of something: it waits for others, which the disk gets with it. */
  #replaceFile(entry: ManifestEntry, access: Buffer, receive: ReceiveData): boolean {
    const temporary = temporaryBeside(access);
    const name = temporary.subarray(access.lastIndexOf(SLASH) + 1);
    const parent = entry.path.subarray(0, entry.path.lastIndexOf(SLASH) + 1);
    const path = Buffer.concat([parent, name]);
    // Directories are closed and opened again while it waits.
    const temporaryNow = (): Buffer => this.#target.accessOf(path, false);
    const fd = openSync(temporary, CREATE_FILE, 0o600);
    let isGood = false;
    try {
      isGood = this.#fillFile(entry, fd, temporary, receive);
    } finally {
      if (!isGood) {
        closeSync(fd);
        discard(temporary);
      }
    }
    if (!isGood) return false;
    this.#replaced.add({
      fd,
      bytes: entry.stored,
      place: () => {
        const place = this.#target.accessOf(entry.path, false);
        if (lookAt(place)?.isDirectory()) this.#removeDirectory(entry.path, place);
        renameSync(temporaryNow(), place);
        this.#count('replace', entry);
      },
      discard: () => discard(temporaryNow()),
      onFailure: (e) => this.#settle(entry, e),
    });
    return true;
  }

  /** What would become of an entry. */
  #planned(entry: ManifestEntry): Action {
    if (isTarget(entry.path)) return this.#tree === null ? 'make' : 'leave';
    try {
      const access = this.#target.accessOf(entry.path, false);
      const there = lookAt(access);
      const action = this.#actionFor(entry, access, there);
      const isDirectory = there?.isDirectory() === true;
      if (entry.type === 'directory' && action === 'replace' && !isDirectory) {
        this.#wouldBeMade.add(entry.path.toString('latin1'));
      }
      return action;
    } catch (e) {
      if (isCoded(e) && e.code === 'ENOENT') return 'make';
      if (!(e instanceof EscapeError) || !this.#wouldBeBelow(entry.path)) throw e;
      return 'make';
    }
  }

  #wouldBeBelow(path: Buffer): boolean {
    let key = path.toString('latin1');
    while (key.includes('/')) {
      key = key.slice(0, key.lastIndexOf('/'));
      if (this.#wouldBeMade.has(key)) return true;
    }
    return false;
  }

  #actionFor(entry: ManifestEntry, access: Buffer, there: BigIntStats | null): Action {
    if (there === null) return 'make';
    switch (this.#overwrite) {
      case 'never':
        return 'leave';
      case 'always':
        return 'replace';
      case 'if-newer':
        // Of two directories the metadata is set, as its time tells of names only.
        if (entry.type === 'directory' && there.isDirectory()) return 'replace';
        return entry.mtimeNs > there.mtimeNs ? 'replace' : 'leave';
      default:
        return this.#isSame(entry, access, there) ? 'leave' : 'replace';
    }
  }

  #isSame(entry: ManifestEntry, access: Buffer, there: BigIntStats): boolean {
    if (entry.type !== 'hardlink') {
      return differences(entry, there, access, this.#ownersCount).length === 0;
    }
    const first = this.#firstNameOf(entry);
    return first !== null && first.stat.ino === there.ino && first.stat.dev === there.dev;
  }

  /** Whether an owner that differs is a difference: not where it could not be set. */
  get #ownersCount(): boolean {
    return this.#options.owners !== false && this.#isRoot;
  }

  /** Complete under another name, then renamed into place. False if it was not good enough. */
  #replace(
    entry: ManifestEntry,
    access: Buffer,
    there: BigIntStats | null,
    receive: ReceiveData,
  ): boolean {
    if (isTarget(entry.path)) throw stpError('EISDIR', 'it is the target itself', 'rename');
    const temporary = temporaryBeside(access);
    try {
      if (!this.#make(entry, temporary, receive)) return false;
      if (there?.isDirectory()) this.#removeDirectory(entry.path, access);
      if (this.#overwrite === 'never') appear(temporary, access);
      else renameSync(temporary, access);
      return true;
    } finally {
      // After a rename it is gone; two names of one file are left alone by rename(2).
      discard(temporary);
    }
  }

  /** Only an empty one: what is in it belongs to somebody. */
  #removeDirectory(path: Buffer, access: Buffer): void {
    this.#target.forget(path.toString('latin1'));
    rmdirSync(access);
  }

  #directoryOver(entry: ManifestEntry, access: Buffer, there: BigIntStats | null): boolean {
    const key = entry.path.toString('latin1');
    if (there?.isDirectory()) return this.#adoptDirectory(entry, key);
    const action = this.#actionFor(entry, access, there);
    if (action === 'leave') {
      this.#count(action, entry);
      return false;
    }
    if (there !== null) unlinkSync(access);
    mkdirSync(access, 0o700);
    this.#pend(entry, key);
    this.#count(action, entry);
    return true;
  }

  /** A directory that is there already, and stays. */
  #adoptDirectory(entry: ManifestEntry, key: string): boolean {
    const path = procPath(this.#target.open(key));
    const there = statSync(path, { bigint: true });
    if (this.#overwrite === 'never') {
      this.#count('leave', entry);
      return false;
    }
    // Who is not root must be able to write into it meanwhile.
    if (!this.#isRoot && (there.mode & 0o700n) !== 0o700n) {
      chmodSync(path, Number(there.mode & 0o7777n) | 0o700);
    }
    const same = differences(entry, there, Buffer.from(path), this.#ownersCount).length === 0;
    this.#pend(entry, key);
    this.#count(same ? 'leave' : 'replace', entry);
    return true;
  }

  #pend(entry: ManifestEntry, key: string): void {
    const { mode, uid, gid, mtimeNs, xattrs } = entry;
    this.#pending.push({ key, mode, uid, gid, mtimeNs, xattrs });
  }

  #makeDirectory(entry: ManifestEntry): void {
    const path = entry.path.toString('latin1');
    const key = path === '.' ? '' : path;
    if (key !== '') {
      try {
        mkdirSync(this.#target.accessOf(entry.path), 0o700);
      } catch (e) {
        // Made for an earlier entry below it, unless it is something else: opening it tells.
        if (!isCoded(e) || e.code !== 'EEXIST') throw e;
        this.#target.open(key);
      }
    }
    this.#pend(entry, key);
  }

  /** Makes anything but a directory under the name `access`. False if it is not as in the set. */
  #make(entry: ManifestEntry, access: Buffer, receive: ReceiveData): boolean {
    switch (entry.type) {
      case 'file':
        return this.#makeFile(entry, access, receive);
      case 'hardlink':
        return this.#makeHardLink(entry, access);
      case 'symlink': {
        symlinkSync(entry.link as Buffer, access);
        this.#own(() => lchownSync(access, entry.uid, entry.gid));
        this.#setXattrs(entry.path, entry.xattrs, access);
        this.#setTime(access, entry.mtimeNs, false);
        return true;
      }
      case 'directory':
        throw new Error('a directory has its own way');
      default:
        return this.#makeNode(entry, access, nodeTypeBits[entry.type]);
    }
  }

  #makeFile(entry: ManifestEntry, access: Buffer, receive: ReceiveData): boolean {
    const fd = openSync(access, CREATE_FILE, 0o600);
    try {
      return this.#fillFile(entry, fd, access, receive);
    } finally {
      closeSync(fd);
    }
  }

  /** False if its data is not what it should be. */
  #fillFile(entry: ManifestEntry, fd: number, access: Buffer, receive: ReceiveData): boolean {
    const { stored, size, sparse } = entry;
    const digest = stored === 0 ? BLAKE3_EMPTY : receive(fd, stored, sparse ? size : -1);
    const isGood = digest === entry.blake3;
    if (!isGood) this.#reportDigest(entry);
    const owned = this.#own(() => fchownSync(fd, entry.uid, entry.gid));
    fchmodSync(fd, owned ? entry.mode : entry.mode & ~SET_ID_BITS);
    // After the owner, which takes capabilities away, and the mode, which an ACL has, too.
    this.#setXattrs(entry.path, entry.xattrs, fd);
    this.#setTime(access, entry.mtimeNs, false);
    return isGood;
  }

  #reportDigest(entry: ManifestEntry): void {
    const path = this.#shown(entry.path);
    this.#problem(entry.path, 'EBADMSG', `${path} is damaged: its data is not what was backed up`);
  }

  #makeHardLink(entry: ManifestEntry, access: Buffer): boolean {
    const path = this.#shown(entry.path);
    const named = entry.link === null ? 'which is not restored' : displayPath(entry.link);
    const first = this.#firstNameOf(entry);
    if (first === null) {
      const why = `its first name, ${named}, is not there`;
      this.#problem(entry.path, 'ENOENT', `${path} could not be restored: ${why}`);
      return false;
    }
    // A first name that was left alone has other data: silence would pass it off for the set's.
    if (this.#overwrite !== 'refuse' && first.stat.mtimeNs !== entry.mtimeNs) {
      const why = `its first name, ${named}, is not as in the set`;
      this.#problem(entry.path, 'EEXIST', `${path} could not be restored: ${why}`);
      return false;
    }
    linkSync(first.access, access);
    return true;
  }

  /** Null: it is not there. What was opened for the entry's own name stays open. */
  #firstNameOf(entry: ManifestEntry): { access: Buffer; stat: BigIntStats } | null {
    if (entry.link === null) return null;
    // It may be one that waits.
    this.#replaced.flush();
    this.#target.pinned = parentKey(entry.path);
    try {
      const access = this.#target.accessOf(entry.link, false);
      const stat = lookAt(access);
      return stat === null ? null : { access, stat };
    } catch (e) {
      if (!isCoded(e) || e.code !== 'ENOENT') throw e;
      return null;
    } finally {
      this.#target.pinned = null;
    }
  }

  #makeNode(entry: ManifestEntry, access: Buffer, typeBits: number): boolean {
    const { makeNode } = this.#native;
    if (makeNode === undefined) {
      const path = this.#shown(entry.path);
      this.#problem(
        entry.path,
        'ENOSYS',
        `${path} (${entry.type}) cannot be restored by this build`,
      );
      return false;
    }
    makeNode(access, typeBits | 0o600, entry.major, entry.minor);
    const owned = this.#own(() => lchownSync(access, entry.uid, entry.gid));
    chmodSync(access, owned ? entry.mode : entry.mode & ~SET_ID_BITS);
    this.#setXattrs(entry.path, entry.xattrs, access);
    this.#setTime(access, entry.mtimeNs, false);
    return true;
  }

  #setXattrs(path: Buffer, xattrs: readonly Xattr[] | null, place: number | Buffer): void {
    for (const { name, value } of xattrs ?? []) {
      try {
        if (this.#native.setXattr === undefined) throw stpError('ENOSYS', 'not in this build');
        this.#native.setXattr(place, name, value);
      } catch (e) {
        if (!isCoded(e) || fatalCodes.has(e.code)) throw e;
        const what = `the attribute ${displayPath(name)} of ${this.#shown(path)} could not be set`;
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

  /** False if the owner is not to be set, or, counted, may not be. */
  #own(chown: () => void): boolean {
    if (this.#options.owners === false) return false;
    try {
      chown();
      return true;
    } catch (e) {
      if (!isCoded(e) || !notOwnerCodes.has(e.code)) throw e;
      this.#ownersNotSet++;
      return false;
    }
  }

  /** Sets what directories had to wait for, deepest first, and closes. */
  finish(): RestoreReport {
    this.#replaced.flush();
    for (const directory of this.#pending.reverse()) this.#finishDirectory(directory);
    this.#toDisk();
    this.close();
    const { make, replace, leave } = this.#actions;
    return {
      entries: this.#entries,
      bytes: this.#bytes,
      problems: this.#problems,
      made: make,
      replaced: replace,
      left: leave,
      skipped: this.#skipped,
      ownersNotSet: this.#ownersNotSet,
    };
  }

  /** Once for each file system, whatever the number of files. */
  #toDisk(): void {
    if (this.#options.dryRun || this.#tree === null) return;
    try {
      for (const fd of this.#tree.fileSystems()) this.#native.syncFileSystem?.(fd);
    } catch (e) {
      if (!isCoded(e)) throw e;
      throw stpError(e.code, `the disk of ${this.#targetPath} did not take all of it`, 'syncfs');
    }
  }

  #finishDirectory(directory: PendingDirectory): void {
    const { key, mode, uid, gid, mtimeNs, xattrs } = directory;
    try {
      const path = procPath(this.#target.open(key));
      const owned = this.#own(() => chownSync(path, uid, gid));
      chmodSync(path, owned ? mode : mode & ~SET_ID_BITS);
      this.#setXattrs(Buffer.from(key || '.', 'latin1'), xattrs, Buffer.from(`${path}/.`));
      this.#setTime(path, mtimeNs, true);
    } catch (e) {
      const isInTheWay = e instanceof EscapeError && this.#overwrite !== 'refuse';
      if (!isInTheWay && (!isCoded(e) || fatalCodes.has(e.code))) throw e;
      const path = Buffer.from(key || '.', 'latin1');
      const code = isCoded(e) ? e.code : 'EACCES';
      const shown = this.#shown(path);
      this.#problem(path, code, `the metadata of ${shown} could not be set: ${code}`);
    }
  }

  /** Closes all descriptors; what was restored so far stays. Harmless when done twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#replaced.abandon();
    this.#tree?.close();
  }
}

/** The one entry whose place is the target itself. */
const isTarget = (path: Buffer): boolean => path.length === 1 && path[0] === 0x2e;

/** Calls that a restore makes on the target's file system and that name no path in their errors. */
const diskCalls: ReadonlySet<unknown> = new Set([
  'write',
  'ftruncate',
  'fchown',
  'fchmod',
  'utimensat',
  'mknod',
  'rename',
  'fsync',
]);

export interface ReceiveOptions {
  /** Kept up to date for another thread: [entries, bytes of data]. */
  readonly progress?: Float64Array;
  /** The stream has entries only: a dry run. */
  readonly withoutData?: boolean;
  /** Told of each entry that is in the target as in the set, with its line, and its map if it has one. */
  readonly onRestored?: (line: Buffer, map: Buffer | null) => void;
}

/**
 * Receives a whole set into `writer`, up to and including END, and finishes it.
 * @throws EPROTO, EACCES (an entry leads outside), ENOSPC, ... and what the stream throws
 */
export function restoreSet(
  source: PageSource,
  writer: RestoreWriter,
  options: ReceiveOptions = {},
): RestoreReport {
  const { progress = new Float64Array(2), withoutData = false, onRestored } = options;
  let map: Buffer[] = [];
  const frames = new FrameReader(source);
  const hasher = new Blake3Hasher();
  const receive: ReceiveData = (fd, bytes, size) => {
    if (!frames.next() || frames.type !== FRAME_DATA || frames.length !== bytes) {
      throw protocolError(`the data of a file of ${bytes} bytes does not follow its entry`);
    }
    hasher.reset();
    try {
      if (size < 0) frames.toFile(fd, hasher);
      else if (!receiveSparse(frames, fd, size, hasher, map)) {
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
      const line = frames.payload();
      const entry = entryOf(line, entries + 1);
      map = [];
      // The line's memory is used again once the next frame is read.
      const kept = onRestored === undefined ? line : Buffer.from(line);
      const isThere = writer.entry(entry, withoutData ? noData : receive) !== null;
      if (isThere) onRestored?.(kept, map.length === 0 ? null : Buffer.concat(map));
      bytes += entry.stored;
      progress[0] = ++entries;
      progress[1] = bytes;
    }
    throw protocolError('the stream ended before its END frame');
  } finally {
    writer.close();
  }
}

const noData: ReceiveData = () => {
  assert(false, 'a dry run receives no data');
};

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
  kept: Buffer[],
): boolean {
  const map = new SparseMapParser();
  while (!map.isComplete) {
    const block = Buffer.allocUnsafeSlow(TAR_BLOCK_BYTES);
    if (frames.owed < block.length) return false;
    frames.take(block);
    kept.push(block);
    hasher.update(block);
    if (map.add(block, size) !== null) return false;
  }
  for (const { offset, bytes } of map.segments) {
    if (bytes > frames.owed) return false;
    frames.partToFile(fd, hasher, bytes, offset);
  }
  if (fd >= 0) ftruncateSync(fd, size);
  return frames.owed === 0;
}

export function entryOf(line: Buffer, number: number): ManifestEntry {
  try {
    const record = decodeLine(line.toString());
    if (record.kind === 'entry') return record;
    throw new LineError('it is no entry');
  } catch (e) {
    if (!(e instanceof LineError)) throw e;
    throw protocolError(`entry ${number} is refused: ${e.message}`);
  }
}
