/**
 * The library: a directory of backup sets that survive without this program.
 *
 *   stpd-library.json   the marker: {"format":"stpd-library","version":1}
 *   sets/ID/            a complete set: media.tar, manifest.jsonl, tree.index, set.json
 *   tmp/ID.partial/     a set that is being written
 *   tmp/ID.lock         locked by the process that writes it
 *   interrupted/ID/     what a backup left that was interrupted; see interrupted.ts
 *
 * Invariant: what is in `sets` is complete; a name appears there by one rename of a directory whose
 * files are on the disk. What is in `tmp` belongs to the process that holds its lock, and to nobody
 * once that has died: then the next `open` or `beginSet` removes it, or moves it to `interrupted`.
 *
 * Several processes may use one library at once. Synchronous; any thread.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { isCoded, messageOf, stpError } from '../errors.js';
import { AgeFile } from './age-file.js';
import { type ByteFile, PlainFile } from './bytes.js';
import { digestOfFile } from './digest.js';
import { makeDirectory, onFile, syncDirectory, writeNewFile } from './disk.js';
import { keepInterrupted, takeOver } from './interrupted.js';
import type { FurtherMedium, ManifestHeader } from './manifest.js';
import { ManifestReader } from './manifest.js';
import { type MediaReader, mediumFile, openMedia } from './media.js';
import { codingOf, type MediaAccess, NO_ACCESS } from './media-plan.js';
import { findVolume, type VolumePlace, volumeMissing } from './media-volumes.js';
import {
  explainDiskError,
  listName,
  manifestName,
  type SetPlace,
  type SetSummary,
  SetWriter,
} from './set-writer.js';
import { parentOf, readSummary } from './summary.js';
import { withLock } from './waiting-lock.js';

const MARKER_FILE = 'stpd-library.json';
const MARKER = { format: 'stpd-library', version: 1 };
export const ID_PATTERN = /^\d{8}T\d{6}Z-[0-9a-f]{6}$/;
/** Characters of an id that tell when. */
const ID_SECONDS = 16;

const byStart = (a: SetSummary, b: SetSummary): number =>
  a.startedAt === b.startedAt ? (a.id < b.id ? -1 : 1) : a.startedAt < b.startedAt ? -1 : 1;
/** Draws of a name before something else must be wrong. */
const ID_ATTEMPTS = 16;

export interface LibraryOptions {
  /** Exclusive lock on an open file that ends with the process: `native().lockFile`. */
  readonly lockFile: (fd: number) => boolean;
  /** For volumes that are elsewhere and sets that are encrypted. */
  readonly access?: MediaAccess | undefined;
}

/** What the caller knows of a set that begins. */
export type SetMeta = Omit<ManifestHeader, 'setId' | 'startedAt' | 'coding'>;

/** What an incremental set builds on; see set-tree.ts. */
export type SetBase = Pick<SetPlace, 'parent' | 'verifyChain' | 'hasList' | 'plan' | 'adopted'>;

export interface LibraryListing {
  /** Complete sets, oldest first. */
  readonly sets: readonly SetSummary[];
  /** Sets whose summary cannot be read, and why. */
  readonly damaged: readonly { readonly id: string; readonly reason: string }[];
}

export class StoredSet {
  constructor(
    readonly directory: string,
    readonly summary: SetSummary,
    readonly access: MediaAccess = NO_ACCESS,
  ) {}

  get id(): string {
    return this.summary.id;
  }
  get mediaPath(): string {
    return this.mediumPath(0);
  }
  mediumPath(medium: number): string {
    return join(this.directory, mediumFile(medium));
  }
  get manifestPath(): string {
    return join(this.directory, manifestName(this.summary));
  }
  get listPath(): string {
    return join(this.directory, listName(this.summary));
  }
  /** Encrypted: manifest, list and data are read with an identity only. */
  get isSealed(): boolean {
    return this.summary.coding?.encrypt !== undefined;
  }
  #open(path: string): ByteFile {
    const file = new PlainFile(path);
    return this.isSealed ? new AgeFile(file, this.access.identities) : file;
  }
  /** The caller closes it. @throws EACCES without an identity for it; EBADMSG, ENOENT, EIO */
  openManifest(): ByteFile {
    return this.#open(this.manifestPath);
  }
  /** The same for the list. */
  openList(): ByteFile {
    return this.#open(this.listPath);
  }
  /** The caller iterates or closes it. */
  manifest(): ManifestReader {
    return new ManifestReader(this.openManifest());
  }
  /**
   * Reads all of the manifest once: what its lines say counts only when it has its digest.
   * @throws EBADMSG if it is not the manifest that was written; EIO
   */
  verifyManifest(): void {
    const { manifestBytes, manifestBlake3 } = this.summary;
    verifyFile(this.manifestPath, manifestBytes, manifestBlake3);
  }
  /** The same of the list; a set of a database has none. @throws EBADMSG; ENOENT, EIO */
  verifyList(): void {
    const { indexBytes, indexBlake3 } = this.summary;
    if (indexBytes === undefined || indexBlake3 === undefined) return;
    verifyFile(this.listPath, indexBytes, indexBlake3);
  }
  /** Of the list as it is read. @throws EACCES without an identity for it */
  listBytes(): number {
    if (!this.isSealed) return this.summary.indexBytes ?? 0;
    const list = this.openList();
    list.close();
    return list.bytes;
  }
  /** The files of its media and where each is; none where they are plain and whole. */
  volumes(): VolumePlace[] {
    const { coding, volumes = [] } = this.summary;
    if (coding === undefined) return [];
    const set = { ...this.summary, directory: this.directory, coding, volumes };
    return volumes.map((facts) => findVolume(set, facts, this.access));
  }
  /** @throws ENOENT, EINVAL naming the first volume that is not there, or not whole */
  assertMediaThere(): void {
    const lacking = this.volumes().find(({ path }) => path === null);
    if (lacking !== undefined) throw volumeMissing(this.directory, lacking, this.access);
  }
  /** Whatever its size; the caller closes it. */
  openMediaAsIs(medium = 0): MediaReader {
    return openMedia(this.directory, this.summary, this.access, medium);
  }
  /** Length and digest of each of its media, by their numbers. */
  get media(): readonly FurtherMedium[] {
    const { mediaBytes: bytes, mediaXxh3: xxh3, moreMedia = [] } = this.summary;
    return [{ bytes, xxh3 }, ...moreMedia];
  }
  /** The caller closes it. @throws EINVAL if there is none, or its size is not what the summary says */
  openMedia(medium = 0): MediaReader {
    const facts = this.media[medium];
    if (facts === undefined) throw stpError('EINVAL', `set ${this.id} has no medium ${medium}`);
    const media = this.openMediaAsIs(medium);
    if (media.bytes === facts.bytes) return media;
    media.close();
    const { name, bytes } = media;
    throw stpError(
      'EINVAL',
      `${name} has ${bytes} bytes instead of ${facts.bytes}; the set is damaged`,
    );
  }
}

function verifyFile(path: string, bytes: number, blake3: string): void {
  const found = digestOfFile(path);
  if (found.bytes === bytes && found.blake3 === blake3) return;
  const what =
    found.bytes === bytes
      ? 'does not have the digest that set.json says'
      : `has ${found.bytes} bytes instead of ${bytes}`;
  throw stpError('EBADMSG', `${path} ${what}; run stpbackup repair`);
}

export class Library {
  readonly directory: string;
  readonly lockFile: (fd: number) => boolean;
  readonly access: MediaAccess;

  private constructor(directory: string, options: LibraryOptions) {
    this.directory = directory;
    this.lockFile = options.lockFile;
    this.access = options.access ?? NO_ACCESS;
  }

  /**
   * Opens a library; makes one, mode 0700, of a directory that is missing or empty.
   * @throws ENOTEMPTY if there is something else in it, EINVAL if it is of another version
   */
  static open(directory: string, options: LibraryOptions): Library {
    const path = resolve(directory);
    if (!existsSync(join(path, MARKER_FILE))) createLibrary(path);
    checkMarker(path);
    // Missing only when the process that made the library died on the way.
    for (const room of ['sets', 'tmp']) {
      makeDirectory(join(path, room));
    }
    const library = new Library(path, options);
    library.#removeLeftovers();
    return library;
  }

  /**
   * Opens a library that is there, for reading: makes and removes nothing.
   * @throws ENOENT if there is none, EINVAL if it is of another version
   */
  static read(directory: string, options: LibraryOptions): Library {
    const path = resolve(directory);
    if (!existsSync(join(path, MARKER_FILE))) {
      throw stpError('ENOENT', `${path} is not a library: it has no ${MARKER_FILE}`);
    }
    checkMarker(path);
    return new Library(path, options);
  }

  /**
   * Starts a set. Its files are open: `commit` or `abort` it.
   * @throws ENOSPC, EACCES, ... if there is no room for it
   */
  beginSet(meta: SetMeta, base: SetBase = {}): SetWriter {
    this.#removeLeftovers();
    return this.exclusively(() => this.#begin(meta, base));
  }

  #begin(meta: SetMeta, base: SetBase): SetWriter {
    const parent = parentOf(meta);
    if (parent !== null && !this.#ids().includes(parent)) {
      throw stpError(
        'ENOENT',
        `set ${parent}, which this one is made against, is not there any more`,
      );
    }
    if (parent !== null && codingOf(base.plan ?? {})?.encrypt === undefined) {
      // Its list would name in the clear what the parent has sealed.
      if (this.openSet(parent).isSealed) {
        const what = `set ${parent} is encrypted, and so must be what is made against it`;
        throw stpError('EINVAL', `${what}; give the server recipients, or make a full backup`);
      }
    }
    for (let attempt = 0; attempt < ID_ATTEMPTS; attempt++) {
      const now = new Date();
      const id = newSetId(now);
      if (existsSync(join(this.directory, 'sets', id))) continue;
      const release = this.takeLock(id);
      if (release === null) continue;
      try {
        if (parent !== null) this.#writeParent(id, parent);
      } catch (e) {
        release();
        throw e;
      }
      const plan = base.plan ?? {};
      const header = { setId: id, startedAt: now.toISOString(), ...meta };
      const coding = codingOf(plan);
      return this.#beginLocked(coding ? { ...header, coding } : header, base, release);
    }
    throw stpError('EEXIST', `no free set name was found in ${this.directory}; try again`);
  }

  /** Beside the lock, so that nobody forgets the parent while the set is being made. */
  #writeParent(id: string, parent: string): void {
    const path = join(this.directory, 'tmp', `${id}.lock`);
    onFile(path, () => writeFileSync(path, parent));
  }

  /**
   * Runs `work` while no set begins and none is forgotten: moments, never the moving of data.
   * @throws EBUSY if somebody else is at it for half a minute
   */
  exclusively<T>(work: () => T): T {
    return withLock(this.directory, 'library.lock', this.lockFile, work);
  }

  /** Sets that backups which are running now are made against. Call it in `exclusively`. */
  runningParents(): string[] {
    const room = join(this.directory, 'tmp');
    const parents: string[] = [];
    for (const name of readdirSync(room)) {
      const id = name.replace(/\.lock$/, '');
      if (id === name || !ID_PATTERN.test(id)) continue;
      const release = this.takeLock(id);
      if (release !== null) {
        release();
        continue;
      }
      try {
        parents.push(readFileSync(join(room, name), 'utf8'));
      } catch (e) {
        // Committed or given up meanwhile.
        if (!isCoded(e) || e.code !== 'ENOENT') throw e;
      }
    }
    return parents.filter((parent) => parent !== '');
  }

  /** When the oldest set that is being written began, ms; infinite if none is. */
  runningSinceMs(): number {
    const room = join(this.directory, 'tmp');
    let since = Number.POSITIVE_INFINITY;
    for (const name of readdirSync(room)) {
      const id = name.replace(/\.lock$/, '');
      if (id === name || !ID_PATTERN.test(id)) continue;
      const release = this.takeLock(id);
      if (release !== null) release();
      else since = Math.min(since, startOf(id));
    }
    return since;
  }

  #beginLocked(header: ManifestHeader, base: SetBase, release: () => void): SetWriter {
    const id = header.setId;
    const partialDirectory = join(this.directory, 'tmp', `${id}.partial`);
    const keep = () => keepInterrupted(this, id, partialDirectory);
    try {
      if (base.adopted === undefined) mkdirSync(partialDirectory, { mode: 0o700 });
      else takeOver(this, base.adopted, partialDirectory);
      const directory = join(this.directory, 'sets', id);
      const place = { header, partialDirectory, directory, release, ...base };
      // Coded media cannot be cut and patched.
      const isPlain = codingOf(base.plan ?? {}) === undefined;
      return new SetWriter(base.hasList !== false && isPlain ? { ...place, keep } : place);
    } catch (e) {
      rmSync(partialDirectory, { recursive: true, force: true });
      release();
      throw explainDiskError(e, partialDirectory, id);
    }
  }

  /** All complete sets, oldest first. What is being written, or was left by a dead run, is none. */
  list(): LibraryListing {
    const sets: SetSummary[] = [];
    const damaged: { id: string; reason: string }[] = [];
    for (const id of this.#ids()) {
      try {
        sets.push(readSummary(join(this.directory, 'sets', id), id));
      } catch (e) {
        damaged.push({ id, reason: messageOf(e) });
      }
    }
    // Names have seconds only, which two sets may share.
    return { sets: sets.sort(byStart), damaged };
  }

  /**
   * @param name a set's id, the beginning of just one, or `latest`
   * @throws ENOENT, EINVAL (several begin so; damaged)
   */
  openSet(name: string): StoredSet {
    const ids = this.#ids();
    if (name === 'latest' && ids.length === 0) {
      throw stpError('ENOENT', `the library ${this.directory} has no set yet`);
    }
    const matches =
      name === 'latest' ? [this.#latest(ids)] : ids.filter((id) => id.startsWith(name));
    const [id] = matches;
    if (id === undefined || name === '') {
      throw stpError('ENOENT', `no set of ${this.directory} is named ${name}; list them`);
    }
    if (matches.length > 1) {
      throw stpError('EINVAL', `${matches.length} sets begin with ${name}; give more of the name`);
    }
    const directory = join(this.directory, 'sets', id);
    return new StoredSet(directory, readSummary(directory, id), this.access);
  }

  /** Of those that began in the last second, the last that can be read. */
  #latest(ids: readonly string[]): string {
    const last = ids.at(-1) as string;
    const within = ids.filter((id) => id.startsWith(last.slice(0, ID_SECONDS)));
    if (within.length === 1) return last;
    const sets = within.flatMap((id) => {
      try {
        return [readSummary(join(this.directory, 'sets', id), id)];
      } catch {
        return [];
      }
    });
    return sets.sort(byStart).at(-1)?.id ?? last;
  }

  #ids(): string[] {
    return readdirSync(join(this.directory, 'sets'))
      .filter((id) => ID_PATTERN.test(id))
      .sort();
  }

  /** Holds `tmp/ID.lock` until the returned function is called; null if another has it. */
  takeLock(id: string): (() => void) | null {
    const path = join(this.directory, 'tmp', `${id}.lock`);
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    // A cleaner may have removed the file between our open and our lock: then it is nobody's name.
    if (!this.lockFile(fd) || fstatSync(fd).nlink === 0) {
      closeSync(fd);
      return null;
    }
    return () => {
      try {
        rmSync(path, { force: true });
      } finally {
        closeSync(fd);
      }
    };
  }

  /** Removes what processes that are gone have left in `tmp`, or keeps it for the next backup. */
  #removeLeftovers(): void {
    const room = join(this.directory, 'tmp');
    const ids = new Set(readdirSync(room).map((name) => name.replace(/\.(partial|lock)$/, '')));
    for (const id of ids) {
      if (!ID_PATTERN.test(id)) continue;
      const release = this.takeLock(id);
      if (release === null) continue;
      const partial = join(room, `${id}.partial`);
      try {
        if (!this.#isKept(id, partial)) rmSync(partial, { recursive: true, force: true });
      } finally {
        release();
      }
    }
  }

  /** False if it is not worth keeping, or a disk that is full has no room to keep it in. */
  #isKept(id: string, partial: string): boolean {
    try {
      return keepInterrupted(this, id, partial);
    } catch (e) {
      if (!isCoded(e)) throw e;
      return false;
    }
  }
}

/** The second in which the set of this id began, ms. */
const startOf = (id: string): number =>
  Date.parse(id.replace(/^(\d{4})(\d\d)(\d\dT\d\d)(\d\d)(\d\dZ).*$/, '$1-$2-$3:$4:$5'));

function newSetId(now: Date): string {
  const stamp = now.toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '');
  return `${stamp}-${randomBytes(3).toString('hex')}`;
}

function createLibrary(path: string): void {
  const there = statSync(path, { throwIfNoEntry: false });
  if (there !== undefined && !there.isDirectory()) {
    throw stpError('ENOTDIR', `the library ${path} is not a directory; name another one`);
  }
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = readdirSync(path);
  // Half a library of a process that died while it made it is still ours to finish.
  if (found.some((name) => name !== `${MARKER_FILE}.new`)) {
    throw stpError(
      'ENOTEMPTY',
      `${path} is not a library and not empty (${found[0]}, ...); name another directory`,
    );
  }
  chmodSync(path, 0o700);
  const unfinished = join(path, `${MARKER_FILE}.new`);
  rmSync(unfinished, { force: true });
  writeNewFile(unfinished, `${JSON.stringify(MARKER)}\n`);
  renameSync(unfinished, join(path, MARKER_FILE));
  // Now, because a full disk may have no room for it when something is to be forgotten.
  makeDirectory(join(path, 'forgotten'));
  syncDirectory(path);
}

function checkMarker(path: string): void {
  let marker: { format?: unknown; version?: unknown };
  try {
    marker = JSON.parse(readFileSync(join(path, MARKER_FILE), 'utf8'));
  } catch (e) {
    throw stpError('EINVAL', `${join(path, MARKER_FILE)} cannot be read: ${messageOf(e)}`);
  }
  if (marker?.format === MARKER.format && marker.version === MARKER.version) return;
  throw stpError(
    'EINVAL',
    `${path} is a library of version ${String(marker?.version)}, this program knows ${MARKER.version}`,
  );
}
