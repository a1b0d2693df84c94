/**
 * What the array brings, made of memory, and what the addon lacks (mknod), made of a program.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf, stpError } from '../../../src/errors.js';
import type { PageSink, PageSource } from '../../../src/library/frames.js';
import type { RestoreNative } from '../../../src/library/restore.js';
import { native } from '../../../src/native.js';

export function hasProgram(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** Runs a program to its end; throws with its messages if it fails. Paths may be any bytes. */
export function run(
  program: string,
  args: string[],
  input: Buffer = Buffer.alloc(0),
  env = {},
): Buffer {
  const done = spawnSync(program, args, {
    input,
    maxBuffer: 1 << 28,
    env: { ...process.env, LC_ALL: 'C', ...env },
  });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr}`);
  return done.stdout;
}

/** `program ARGS PATH` for a path that spawn's strings cannot hold. */
function runOn(path: Buffer | string, program: string, args: string[]): void {
  const bytes = Buffer.from(path);
  const self = Buffer.from('/proc/self/');
  // The child's own /proc/self is another one.
  const seen = bytes.subarray(0, self.length).equals(self)
    ? Buffer.concat([Buffer.from(`/proc/${process.pid}/`), bytes.subarray(self.length)])
    : bytes;
  run('xargs', ['-0', program, ...args, '--'], Buffer.concat([seen, Buffer.of(0)]));
}

export const testNative: RestoreNative = {
  setTimesNs: native().setTimesNs,
  setXattr: native().setXattr,
  syncFiles: native().syncFiles,
  syncFileSystem: native().syncFileSystem,
  makeNode(path, mode, major, minor) {
    const type = new Map([
      [0o010000, 'p'],
      [0o020000, 'c'],
      [0o060000, 'b'],
    ]).get(mode & 0o170000);
    const numbers = type === 'p' ? '' : ` ${major} ${minor}`;
    try {
      runOn(path, 'sh', ['-c', `mknod -m 600 "$2" ${type}${numbers}`, 'sh']);
    } catch (e) {
      const code = /File exists/.test(messageOf(e)) ? 'EEXIST' : 'EPERM';
      throw stpError(code, messageOf(e), 'mknod');
    }
  },
};

export const lockFile = (fd: number): boolean => native().lockFile(fd);

/** A stream without end of room. Pages are shared memory of the sizes given, over and over. */
export class MemoryPipe implements PageSink, PageSource {
  readonly #sizes: readonly number[];
  #full: Uint8Array[] = [];
  #head = 0;
  #next = 0;
  #reserved: Uint8Array | null = null;
  bytes = 0;
  commits = 0;

  constructor(sizes: readonly number[] = [65536]) {
    this.#sizes = sizes;
  }

  reserve(): Uint8Array {
    const size = this.#sizes[this.#next % this.#sizes.length] as number;
    this.#reserved ??= new Uint8Array(new SharedArrayBuffer(size));
    return this.#reserved;
  }

  commit(bytes: number): void {
    const page = this.#reserved;
    if (page === null || bytes < 1 || bytes > page.length) throw new Error(`commit of ${bytes}`);
    this.#full.push(page.subarray(0, bytes));
    this.bytes += bytes;
    this.commits++;
    this.#reserved = bytes === page.length ? null : page.subarray(bytes);
    if (this.#reserved === null) this.#next++;
  }

  peek(): Uint8Array | null {
    return this.#full[this.#head] ?? null;
  }

  consume(bytes: number): void {
    const page = this.#full[this.#head] as Uint8Array;
    if (bytes < 1 || bytes > page.length) throw new Error(`consume of ${bytes}`);
    if (bytes === page.length) this.#head++;
    else this.#full[this.#head] = page.subarray(bytes);
  }

  /** Puts bytes in as a peer would. */
  feed(data: Uint8Array): void {
    const page = new Uint8Array(new SharedArrayBuffer(data.length));
    page.set(data);
    this.#full.push(page);
  }

  /** All that is in it, taken out. */
  drain(): Buffer {
    const rest = this.#full.slice(this.#head).map((page) => Buffer.from(page));
    this.#full = [];
    this.#head = 0;
    return Buffer.concat(rest);
  }
}

const SHARED_MEMORY = '/dev/shm';
/** More than any of these tests writes. */
const MEMORY_BYTES_MIN = 1 << 30;

/** For small files that are put on the disk again and again: memory, where there is enough. */
function memoryDirectory(): string {
  if (process.env.TMPDIR !== undefined) return tmpdir();
  try {
    accessSync(SHARED_MEMORY, constants.W_OK);
    const { bavail, bsize } = statfsSync(SHARED_MEMORY);
    return bavail * bsize >= MEMORY_BYTES_MIN ? SHARED_MEMORY : tmpdir();
  } catch {
    return tmpdir();
  }
}

/** `inDirectory`, without a disk that is waited for; see support/shared-memory.ts for the name. */
export const inMemory = <T>(body: (directory: string) => T): T =>
  inDirectory(body, join(memoryDirectory(), 'library-test-'));

/** Runs `body` with a directory of its own and removes it, whatever modes are in it by then. */
export function inDirectory<T>(
  body: (directory: string) => T,
  prefix = join(tmpdir(), 'stpd-library-'),
): T {
  const directory = mkdtempSync(prefix);
  try {
    return body(directory);
  } finally {
    // Modes that are under test forbid their owner to remove them; only root does not care.
    if (process.geteuid?.() !== 0) spawnSync('chmod', ['-R', 'u+rwX', directory]);
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Small reproducible random numbers (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
