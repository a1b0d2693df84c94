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

export const makeRecord = (): BigInt64Array => new BigInt64Array(STAT_WORDS);

/** Inode and device numbers have no sign. */
const unsigned = (word: bigint | undefined): bigint => BigInt.asUintN(64, word as bigint);

/**
 * @param name in the open directory `fd`, and not followed; null: of `fd` itself
 * @param record filled; readers of it are quicker than of what is returned
 * @throws ENOENT, EACCES, ...
 */
export function statOf(fd: number, name: Buffer | null, record: BigInt64Array): FileStat {
  const errno = native().statInto(fd, name, record);
  if (errno !== 0) {
    const code = getSystemErrorName(-errno);
    throw stpError(code, 'the file cannot be looked at', 'stat');
  }
  return {
    mode: Number(record[0]),
    uid: Number(record[1]),
    gid: Number(record[2]),
    size: Number(record[3]),
    blocks: Number(record[4]),
    nlink: Number(record[5]),
    ino: unsigned(record[6]),
    dev: unsigned(record[7]),
    rdev: unsigned(record[8]),
    mtimeNs: record[9] as bigint,
    ctimeNs: record[10] as bigint,
  };
}
