/**
 * The directory that a restore writes below, and the open directories in it.
 *
 * Invariant: nothing outside of it is ever named. A stored path has no `..`, no empty component and
 * no slash in front; every directory on its way, that of the target itself included, is opened from
 * its parent with O_NOFOLLOW (`/proc/self/fd/N/NAME`, Node's only openat), so a symlink leads
 * nowhere, whoever planted it and when. Worker thread: all of it blocks.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync } from 'node:fs';
import { isCoded } from '../errors.js';
import { displayPath } from '../source/names.js';

const { O_NOFOLLOW, O_DIRECTORY, O_RDONLY } = constants;
/** Not among Node's constants; the number on every Linux architecture that Node supports. */
const O_PATH = 0o10000000;
const OPEN_DIRECTORY = O_PATH | O_DIRECTORY | O_NOFOLLOW;

/** Parents held open: a tree is restored in its order, so few are in use at a time. */
const OPEN_PARENTS_MAX = 64;
const SLASH = 0x2f;

/** A path that would lead outside. */
export class EscapeError extends Error {
  override readonly name = 'EscapeError';
}

/** A directory by its descriptor, for calls that take paths. */
export const procPath = (fd: number): string => `/proc/self/fd/${fd}`;

/** Stored path of the parent, one character a byte; empty for names right below the target. */
export function parentKey(path: Buffer): string {
  const slash = path.lastIndexOf(SLASH);
  return slash < 0 ? '' : path.toString('latin1', 0, slash);
}

function openChild(parentFd: number, name: Buffer, make: number | null): number {
  const access = Buffer.concat([Buffer.from(`${procPath(parentFd)}/`), name]);
  for (;;) {
    try {
      return openSync(access, OPEN_DIRECTORY);
    } catch (e) {
      if (!isCoded(e)) throw e;
      if (e.code === 'ELOOP' || e.code === 'ENOTDIR') {
        throw new EscapeError(`${displayPath(name)} on its way is a symlink or no directory`);
      }
      if (e.code !== 'ENOENT' || make === null) throw e;
    }
    mkdirSync(access, make);
  }
}

/** Opens an absolute path from `/` on, no symlink followed; `make`: what is missing is made. */
function openFromRoot(path: string, make: boolean): number {
  let fd = openSync('/', OPEN_DIRECTORY);
  for (const name of path.split('/').filter((part) => part !== '')) {
    const parent = fd;
    try {
      fd = openChild(parent, Buffer.from(name), make ? 0o700 : null);
    } finally {
      closeSync(parent);
    }
  }
  // Read from, too: its names are listed, and its descriptor is synchronised.
  const readable = openSync(procPath(fd), O_RDONLY | O_DIRECTORY);
  closeSync(fd);
  return readable;
}

export class TargetTree {
  readonly #rootFd: number;
  /** Open directories by stored path (one character a byte), the one used longest ago first. */
  readonly #parents = new Map<string, number>();
  /** An open directory of each file system that was met, by its device number. */
  readonly #fileSystems = new Map<number, number>();
  #closed = false;
  /** Not closed to make room: another parent is being opened beside it. */
  pinned: string | null = null;

  /**
   * @param directory absolute, and without a symlink on its way
   * @throws EscapeError, EACCES; ENOENT if nothing may be made
   */
  constructor(
    readonly directory: string,
    make = true,
  ) {
    this.#rootFd = openFromRoot(directory, make);
    this.#meet(this.#rootFd);
  }

  /** A directory of each file system that entries may have gone to; open until `close`. */
  fileSystems(): Iterable<number> {
    return this.#fileSystems.values();
  }

  #meet(fd: number): void {
    const { dev } = fstatSync(fd);
    if (this.#fileSystems.has(dev)) return;
    this.#fileSystems.set(dev, openSync(procPath(fd), O_RDONLY | O_DIRECTORY));
  }

  get rootFd(): number {
    return this.#rootFd;
  }

  /** For messages. */
  shown(path: Buffer): string {
    return `${this.directory === '/' ? '' : this.directory}/${displayPath(path)}`;
  }

  /** A name in its open parent directory, for one system call. `make`: as `open`. */
  accessOf(path: Buffer, make = true): Buffer {
    const slash = path.lastIndexOf(SLASH);
    const fd = this.open(parentKey(path), make);
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
  open(key: string, make = true): number {
    if (key === '') return this.#rootFd;
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
    let fd = slash > 0 ? (this.#parents.get(key.slice(0, slash)) as number) : this.#rootFd;
    for (let start = slash + 1; start < key.length; ) {
      const next = key.indexOf('/', start);
      const end = next < 0 ? key.length : next;
      const name = Buffer.from(key.slice(start, end), 'latin1');
      fd = openChild(fd, name, make ? 0o755 : null);
      this.#remember(key.slice(0, end), fd);
      start = end + 1;
    }
    return fd;
  }

  /** The directory is about to go: it and what is below are opened anew when asked for. */
  forget(key: string): void {
    for (const [known, fd] of this.#parents) {
      if (known !== key && !known.startsWith(`${key}/`)) continue;
      this.#parents.delete(known);
      closeSync(fd);
    }
  }

  #remember(key: string, fd: number): void {
    this.#parents.set(key, fd);
    this.#meet(fd);
    if (this.#parents.size <= OPEN_PARENTS_MAX) return;
    for (const [oldest, oldFd] of this.#parents) {
      if (oldest === this.pinned || oldest === key) continue;
      this.#parents.delete(oldest);
      closeSync(oldFd);
      return;
    }
  }

  /** Harmless when done twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const fd of this.#parents.values()) closeSync(fd);
    this.#parents.clear();
    for (const fd of this.#fileSystems.values()) closeSync(fd);
    closeSync(this.#rootFd);
  }
}
