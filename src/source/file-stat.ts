/**
 * What the kernel says of a file, in one call and without an object for each time stamp: a scan is
 * made of these. Any thread; synchronous.
 */
import { codeOfErrno, stpError } from '../errors.js';
import { native } from '../native.js';

/** Words of a record, as native/file_io.cc fills it. */
export const STAT_WORDS = 11;
/** Words of a row of `lookAt`: a record, and three numbers. */
export const ROW_WORDS = 14;
/** 0, or why there is no record. */
export const ROW_ERRNO = 11;
/** Where in the names its own begins. */
export const ROW_NAME_AT = 12;
/** Where in the paths its own ends. */
export const ROW_PATH_END = 13;

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

/** Records of files: the arrays are views of the same words. */
export interface StatRecord {
  readonly numbers: Float64Array;
  readonly words: BigInt64Array;
  /** Inode and device numbers have no sign. */
  readonly unsigned: BigUint64Array;
}

export function makeRecord(words = STAT_WORDS): StatRecord {
  const numbers = new Float64Array(words);
  const { buffer } = numbers;
  return { numbers, words: new BigInt64Array(buffer), unsigned: new BigUint64Array(buffer) };
}

/**
 * @param name in the open directory `fd`, and not followed; null: of `fd` itself
 * @param record filled on the way
 * @throws ENOENT, EACCES, ...
 */
export function statOf(fd: number, name: Buffer | null, record: StatRecord): FileStat {
  const errno = native().statInto(fd, name, record.words);
  if (errno !== 0) {
    throw stpError(codeOfErrno(errno), 'the file cannot be looked at', 'stat');
  }
  return statAt(record, 0);
}

/** What the record says that begins at word `at`. */
export function statAt({ numbers, words, unsigned }: StatRecord, at: number): FileStat {
  return {
    mode: numbers[at] as number,
    uid: numbers[at + 1] as number,
    gid: numbers[at + 2] as number,
    size: numbers[at + 3] as number,
    blocks: numbers[at + 4] as number,
    nlink: numbers[at + 5] as number,
    ino: unsigned[at + 6] as bigint,
    dev: unsigned[at + 7] as bigint,
    rdev: words[at + 8] as bigint,
    mtimeNs: words[at + 9] as bigint,
    ctimeNs: words[at + 10] as bigint,
  };
}
