/**
 * stpd's memory from beside it: its files, opened through /proc/PID/fd and mapped read-only.
 *
 * For the user that runs stpd, and root. It needs no answer of stpd, so it works while stpd is
 * stopped or hung; a dead stpd has no descriptors to open, and is said to be not running.
 *
 * Identity: the process is the one that holds the run directory's lock (its number, its start time,
 * and that it has the locked file open); the array is the one whose instance the lock file names,
 * and the superblock and the register both carry. After files have been opened it is checked that
 * the process is still that one, since a number may be used again.
 *
 * Every file is checked before it is mapped: a memory file of the size that its description has,
 * and sealed, so that nobody can shrink it under the mapping. Main thread of a tool.
 */
import { closeSync, fstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { isCoded, messageOf, stpError } from '../errors.js';
import { SEGMENT_MAP } from '../layout/geometry.js';
import { layoutHash } from '../layout/hash.js';
import { LAYOUT_VERSION, SUPERBLOCK, SUPERBLOCK_MAGIC } from '../layout/tables.js';
import { ArrayRegister } from '../memory/register.js';
import { Segment } from '../memory/segment.js';
import { native } from '../native.js';
import {
  findHolder,
  type Holder,
  instanceInLockFile,
  isAlive,
  isStopped,
} from '../run-directory.js';
import { decodeFigures } from './decode.js';
import type { Figures } from './figures.js';
import { type StgPlace, stgPlaces } from './places.js';

/** What /proc shows of a memory file's descriptor. */
const linkOf = (name: string): string => `/memfd:${name} (deleted)`;

/** The descriptors of a process that are such memory files. */
function memoryFiles(pid: number, name: string): string[] {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory)
    .map((fd) => `${directory}/${fd}`)
    .filter((path) => {
      try {
        return readlinkSync(path) === linkOf(name);
      } catch {
        return false; /* closed meanwhile */
      }
    });
}

/** Opens it, lets `use` have it, and closes it. */
function withFile<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

interface SuperblockHead {
  readonly instance: string;
  readonly segmentBytes: number;
}

/** Of a file that may be anything. @throws EPROTONOSUPPORT where it is of another layout */
function readHead(fd: number): SuperblockHead {
  const head = Buffer.alloc(SUPERBLOCK.at.directory);
  const { at } = SUPERBLOCK;
  if (
    fstatSync(fd).size !== SUPERBLOCK.bytes ||
    readSync(fd, head, 0, head.length, 0) < head.length
  ) {
    throw stpError('EPROTO', 'the superblock has another size than expected');
  }
  if (head.readBigUInt64LE(at.magic) !== SUPERBLOCK_MAGIC) {
    throw stpError('EAGAIN', 'the superblock is not written yet');
  }
  const hash = head.toString('hex', at.layoutHash, at.layoutHash + 32);
  if (hash !== layoutHash()) {
    throw stpError(
      'EPROTONOSUPPORT',
      `stpd has layout version ${head.readUInt32LE(at.layoutVersion)} (${hash.slice(0, 12)}), this ` +
        `program ${LAYOUT_VERSION} (${layoutHash().slice(0, 12)}): use the stpctl that came with it`,
    );
  }
  return {
    instance: head.toString('hex', at.instance, at.instance + 16),
    segmentBytes: Number(head.readBigUInt64LE(at.segmentBytes)),
  };
}

/** Why a process's memory cannot be read, with what to do about it. */
function translate(error: unknown, holder: Holder, runDirectory: string): Error {
  const code = isCoded(error) ? error.code : 'EIO';
  if (code === 'EACCES' || code === 'EPERM') {
    return stpError(
      'EACCES',
      `the memory of stpd (pid ${holder.pid}) on ${runDirectory} may be read by the user that runs ` +
        'it and by root only',
    );
  }
  if (code === 'EPROTONOSUPPORT') return error as Error;
  return stpError(
    code,
    `the memory of stpd (pid ${holder.pid}) on ${runDirectory} cannot be read: ${messageOf(error)}`,
  );
}

export class DaemonMemory {
  readonly runDirectory: string;
  readonly holder: Holder;
  readonly #segment: Segment;
  /** What is mapped, by directory entry. */
  readonly #mapped = new Map<number, StgPlace>();

  private constructor(runDirectory: string, holder: Holder, segment: Segment) {
    this.runDirectory = runDirectory;
    this.holder = holder;
    this.#segment = segment;
  }

  /**
   * Finds stpd by its run directory and maps what it has. Undefined: no stpd runs there.
   * @throws EACCES (another user's); ESRCH (another PID namespace); EAGAIN (starting or ending);
   *   EPROTONOSUPPORT (another layout)
   */
  static async open(runDirectory: string): Promise<DaemonMemory | undefined> {
    const holder = await findHolder(runDirectory, (fd) => native().lockFile(fd));
    if (holder === undefined) return undefined;
    try {
      return DaemonMemory.#map(runDirectory, holder);
    } catch (error) {
      if (!isAlive(holder)) return undefined;
      throw translate(error, holder, runDirectory);
    }
  }

  static #map(runDirectory: string, holder: Holder): DaemonMemory | undefined {
    const [superblock] = memoryFiles(holder.pid, 'stpd-superblock');
    const [register] = memoryFiles(holder.pid, 'stpd-register');
    const named = instanceInLockFile(runDirectory);
    if (superblock === undefined || register === undefined || named === undefined) {
      throw stpError('EAGAIN', 'it is just starting or ending; try again');
    }
    const { superblockBytes, arrayRegister, arrayRegisterBytes } = SEGMENT_MAP;
    return withFile(superblock, (superblockFd) =>
      withFile(register, (registerFd) => {
        const { instance, segmentBytes } = readHead(superblockFd);
        native().verifySealed(superblockFd, superblockBytes);
        native().verifySealed(registerFd, arrayRegisterBytes);
        const segment = Segment.reserve(segmentBytes);
        segment.map(SEGMENT_MAP.superblock, superblockFd, superblockBytes, false);
        segment.map(arrayRegister, registerFd, arrayRegisterBytes, false);
        const same = new ArrayRegister(segment, arrayRegister).instance === instance;
        if (!same || named !== instance) {
          throw stpError('EAGAIN', 'lock file, superblock and register name different arrays');
        }
        if (!isAlive(holder)) return undefined;
        return new DaemonMemory(runDirectory, holder, segment);
      }),
    );
  }

  /** Until its process has ended; also while it is stopped. */
  get alive(): boolean {
    return isAlive(this.holder);
  }

  /** True while a signal, or a debugger, keeps stpd from running. */
  get stopped(): boolean {
    return isStopped(this.holder);
  }

  /** Maps what has come and gives up what has gone: the STGs that can be read now. */
  places(): StgPlace[] {
    const there = stgPlaces(this.#segment);
    for (const [entry, old] of this.#mapped) {
      const now = there.find((place) => place.entry === entry);
      const same = now?.generation === old.generation && now.extents.length === old.extents.length;
      if (!same) this.#unmap(old);
    }
    for (const place of there) {
      if (!this.#mapped.has(place.entry)) this.#mapStg(place);
    }
    return there.filter(({ entry }) => this.#mapped.has(entry));
  }

  #mapStg(place: StgPlace): void {
    const { files, registerFile, offset } = place.registered;
    const { registerBytes, name } = place;
    try {
      for (const [i, extent] of place.extents.entries()) {
        const file = i === 0 ? `stpd-stg-${name}` : `stpd-stg-${name}-${i}`;
        this.#mapFile(files[i] as number, file, extent.bytes, extent.offset, extent.memory);
      }
      this.#mapFile(registerFile, `stpd-register-${name}`, registerBytes, offset, registerBytes);
    } catch (error) {
      /* Deleted between its entry and us: what was mapped of it is given up. */
      this.#unmap(place);
      if (isCoded(error) && (error.code === 'ENOENT' || error.code === 'EPERM')) return;
      throw error;
    }
    /* What was opened was this STG's, if its entry and the process are still the same. */
    const still = stgPlaces(this.#segment).some(
      ({ entry, generation }) => entry === place.entry && generation === place.generation,
    );
    if (still && this.alive) this.#mapped.set(place.entry, place);
    else this.#unmap(place);
  }

  /** @param bytes of the whole file; `mapBytes` of it are mapped, from its start */
  #mapFile(fd: number, name: string, bytes: number, offset: number, mapBytes: number): void {
    const path = `/proc/${this.holder.pid}/fd/${fd}`;
    if (readlinkSync(path) !== linkOf(name)) {
      throw stpError('ENOENT', `descriptor ${fd} is not ${name} any more`);
    }
    withFile(path, (own) => {
      native().verifySealed(own, bytes);
      this.#segment.map(offset, own, mapBytes, false);
    });
  }

  #unmap(place: StgPlace): void {
    this.#mapped.delete(place.entry);
    for (const { offset, memory } of place.extents) this.#segment.revoke(offset, memory);
    this.#segment.revoke(place.registered.offset, place.registerBytes);
  }

  get segment(): Segment {
    return this.#segment;
  }

  figures(): Figures {
    return decodeFigures(this.#segment, { places: this.places(), pid: this.holder.pid });
  }
}
