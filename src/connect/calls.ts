/**
 * What both forms of the calls take: families, poll's numbers, and what is checked before anything
 * is done. The forms are STPConnect (event loops) and BlockingConnect (threads that may block).
 */
import { stpError } from '../errors.js';
import { POLLIN, POLLOUT } from './channel.js';

/** The kernel's number. */
export const AF_INET = 2;
/** Linux's AF_IB, which nothing opens as a stream socket; the number never reaches the kernel. */
export const AF_STP = 27;
/** The only type there is. */
export const SOCK_STREAM = 1;
const IPPROTO_TCP = 6;

/** A descriptor that `poll` looks at. */
export interface PollEntry {
  fd: number;
  /** POLLIN, POLLOUT, or both. */
  events: number;
}

/** A descriptor that is ready. */
export interface PollResult {
  fd: number;
  /** Of `events`; and POLLERR, POLLHUP, POLLNVAL without being asked. */
  revents: number;
}

/** @throws EPROTOTYPE, EPROTONOSUPPORT, EAFNOSUPPORT */
export function checkSocket(family: number, type: number, protocol: number): void {
  if (type !== SOCK_STREAM) {
    throw stpError('EPROTOTYPE', `socket type ${type}: only SOCK_STREAM (1)`, 'socket');
  }
  if (protocol !== 0 && !(family === AF_INET && protocol === IPPROTO_TCP)) {
    throw stpError('EPROTONOSUPPORT', `protocol ${protocol}: must be 0`, 'socket');
  }
  if (family !== AF_INET && family !== AF_STP) {
    throw stpError('EAFNOSUPPORT', `family ${family}: AF_INET (2) or AF_STP (27)`, 'socket');
  }
}

/** @throws EAFNOSUPPORT where no host is attached */
export function checkHost<H>(host: H | undefined): H {
  if (host !== undefined) return host;
  throw stpError(
    'EAFNOSUPPORT',
    'no array is attached: give it the host that attach() returned',
    'socket',
  );
}

/** @throws EINVAL */
export function checkPoll(entries: readonly PollEntry[], timeoutMs: number): void {
  if (!Number.isInteger(timeoutMs) || timeoutMs < -1) {
    throw stpError('EINVAL', `timeoutMs is ${timeoutMs}: must be -1 or more`, 'poll');
  }
  for (const { fd, events } of entries) {
    if ((events & ~(POLLIN | POLLOUT)) !== 0) {
      throw stpError('EINVAL', `events ${events} of descriptor ${fd}: POLLIN, POLLOUT`, 'poll');
    }
  }
}
