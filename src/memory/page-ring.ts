/**
 * One end of one direction of a stream, as JavaScript holds it: a number of the native table.
 *
 * The rules of the ring stand in native/page_ring.h. Results that are not byte counts are values:
 * the hot path throws nothing. A ring belongs to the thread that opened it.
 */
import { codeOfErrno, errnoOfCode, type StpError, stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { native } from '../native.js';

/** Mirrors `Result` in native/page_ring.h. */
export const RING_RESET = -1;
export const RING_CLOSED = -2;
export const RING_END = -3;
export const RING_BROKEN = -4;
export const RING_NO_PAGE = -5;
export const RING_CONTENDED = -6;
export const RING_NOT_NOW = -7;
const RING_ERRNO = -1000;
/** A commit or consume of more than is out. */
export const RING_INVALID = RING_ERRNO - errnoOfCode('EINVAL');
/** A view is out. */
export const RING_BUSY = RING_ERRNO - errnoOfCode('EBUSY');

export interface RingOptions {
  /** Number that `stgOpen` gave. */
  readonly stg: number;
  readonly connection: number;
  readonly generation: number;
  readonly end: number;
  readonly selfMember: number;
  readonly selfGeneration: number;
  readonly peerMember: number;
  /** Number that `cableOpen` gave. */
  readonly cable: number;
}

/** Where both cursors of a new connection stand. */
export const CURSOR_START = NUMBERS.CURSOR_START;

/** Length of a view, packed beside its offset: see packView in native/page_ring_api.cc. */
const VIEW_UNIT = 2 ** 17;
export const viewBytes = (packed: number): number => packed % VIEW_UNIT;
export const viewOffset = (packed: number): number => Math.floor(packed / VIEW_UNIT);

/** What the caller of a ring did wrong, where it was the caller. */
const misuses: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  EINVAL: {
    write: 'more than was reserved, or nothing was: reserve first',
    read: 'more than was peeked, or nothing was: peek first',
  },
  EBUSY: {
    write: 'a reserved view is out: commit it first',
    read: 'a peeked view is out: consume it first',
  },
  EBADF: {
    write: 'the page is no longer of this host: another one of the STG has taken it',
  },
};

/**
 * The error of a negative result.
 * @param syscall `read` or `write`, as node:net names them
 */
export function ringError(result: number, syscall: string): StpError {
  if (result <= RING_ERRNO) {
    const code = codeOfErrno(RING_ERRNO - result);
    return stpError(code, misuses[code]?.[syscall] ?? `${syscall} failed`, syscall);
  }
  switch (result) {
    case RING_CLOSED:
      return stpError('EPIPE', 'the peer reads no more', syscall);
    case RING_NO_PAGE:
      return stpError('ENOBUFS', 'no page of the STG is free', syscall);
    case RING_BROKEN:
      return stpError('ECONNRESET', 'the peer spoiled the stream', syscall);
    default:
      return stpError('ECONNRESET', 'the peer aborted or is gone', syscall);
  }
}

/**
 * The error of a negative result of a call between a ring and a file.
 * @param file what was done to the file; the ring did the opposite
 * @param moved bytes of this call that went before
 */
export function fileError(
  result: number,
  file: 'read' | 'write',
  fd: number,
  moved: number,
): StpError {
  if (result > RING_ERRNO || result === RING_BUSY) {
    return ringError(result, file === 'read' ? 'write' : 'read');
  }
  const code = codeOfErrno(RING_ERRNO - result);
  const why = `${file} of file descriptor ${fd} failed, after ${moved} bytes of this call had moved`;
  return stpError(code, why, file);
}

export function openRing(
  options: RingOptions,
  producer: boolean,
  cursor: number = CURSOR_START,
): number {
  return native().ringOpen(
    options.stg,
    options.connection,
    options.generation,
    options.end,
    options.selfMember,
    options.selfGeneration,
    options.peerMember,
    options.cable,
    producer ? 1 : 0,
    cursor,
  );
}
