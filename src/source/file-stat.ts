/**
 * What the kernel says of a file, in one call and without an object for each time stamp: a scan is
 * made of these. Any thread; synchronous.
 */
import { getSystemErrorName } from 'node:util';
import { stpError } from '../errors.js';
import { native } from '../native.js';

/** Words of a record, as native/file_io.cc fills it. */
export const STAT_WORDS = 11;

export interface FileStat {
  /** With the type bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Allocated, in units of 512 bytes. */
  readonly blocks: number;
  readonly nlink: number;
  readonly ino: bigint;
  readonly dev: bigint;
  readonly rdev: bigint;
  /** Nanoseconds since 1970. */
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** The record of a file: both arrays are views of the same words. */
export interface StatRecord {
  readonly numbers: Float64Array;
  readonly words: BigInt64Array;
}

export function makeRecord(): StatRecord {
  const numbers = new Float64Array(STAT_WORDS);
  return { numbers, words: new BigInt64Array(numbers.buffer) };
}

/** Inode and device numbers have no sign. */
const unsigned = (word: bigint | undefined): bigint => BigInt.asUintN(64, word as bigint);

/**
 * @param name in the open directory `fd`, and not followed; null: of `fd` itself
 * @param record filled on the way
 * @throws ENOENT, EACCES, ...
 */
export function statOf(fd: number, name: Buffer | null, record: StatRecord): FileStat {
  const { numbers, words } = record;
  const errno = native().statInto(fd, name, words);
  if (errno !== 0) {
    const code = getSystemErrorName(-errno);
    throw stpError(code, 'the file cannot be looked at', 'stat');
  }
  return {
    mode: numbers[0] as number,
    uid: numbers[1] as number,
    gid: numbers[2] as number,
    size: numbers[3] as number,
    blocks: numbers[4] as number,
    nlink: numbers[5] as number,
    ino: unsigned(words[6]),
    dev: unsigned(words[7]),
    rdev: words[8] as bigint,
    mtimeNs: words[9] as bigint,
    ctimeNs: words[10] as bigint,
  };
}
