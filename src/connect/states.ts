/**
 * The state table of a descriptor: which call is right when, and what a wrong one is told.
 *
 * One table for both mechanisms, so that a program cannot see from an error which one it uses.
 * Codes are POSIX's; where POSIX leaves a choice they are Linux's.
 */
import { stpError } from '../errors.js';

export const states = [
  /** New, or after a connect that failed. */
  'unbound',
  /** bind() or listen() is under way. */
  'binding',
  /** Holds a port. */
  'bound',
  'listening',
  'connecting',
  /** Until close, whatever became of the stream: its halves are the channel's business. */
  'connected',
  /** Its number is not in the table any more; calls that were waiting may still see this. */
  'closed',
] as const;
export type State = (typeof states)[number];

export type Call =
  | 'bind'
  | 'listen'
  | 'accept'
  | 'connect'
  | 'send'
  | 'receive'
  | 'shutdown'
  | 'getpeername'
  | 'stream';

type Row = Readonly<Record<State, 'ok' | string>>;

const connectedOnly: Row = {
  unbound: 'ENOTCONN',
  binding: 'ENOTCONN',
  bound: 'ENOTCONN',
  listening: 'ENOTCONN',
  connecting: 'ENOTCONN',
  connected: 'ok',
  closed: 'EBADF',
};

/** close, abort, getsockname, setsockopt, getsockopt and poll are right in every state but closed. */
export const calls: Readonly<Record<Call, Row>> = {
  bind: {
    unbound: 'ok',
    binding: 'EALREADY',
    bound: 'EINVAL',
    listening: 'EINVAL',
    connecting: 'EINVAL',
    connected: 'EINVAL',
    closed: 'EBADF',
  },
  listen: {
    unbound: 'ok',
    binding: 'EALREADY',
    bound: 'ok',
    listening: 'EINVAL',
    connecting: 'EINVAL',
    connected: 'EINVAL',
    closed: 'EBADF',
  },
  accept: {
    unbound: 'EINVAL',
    binding: 'EINVAL',
    bound: 'EINVAL',
    listening: 'ok',
    connecting: 'EINVAL',
    connected: 'EINVAL',
    closed: 'EBADF',
  },
  connect: {
    unbound: 'ok',
    binding: 'EALREADY',
    bound: 'ok',
    listening: 'EISCONN',
    connecting: 'EALREADY',
    connected: 'EISCONN',
    closed: 'EBADF',
  },
  send: connectedOnly,
  receive: connectedOnly,
  shutdown: connectedOnly,
  getpeername: connectedOnly,
  stream: connectedOnly,
};

const reasons: Readonly<Record<string, string>> = {
  EALREADY: 'an earlier call on it is still under way; await that one first',
  EBADF: 'it is closed',
  EINVAL: 'the call does not fit its state',
  EISCONN: 'a socket connects or listens once; use a new one',
  ENOTCONN: 'connect it, or accept one, first',
};

/** @throws the code of the table if `call` is wrong in `state` */
export function checkCall(call: Call, state: State, fd: number): void {
  const answer = calls[call][state];
  if (answer === 'ok') return;
  throw stpError(
    answer,
    `${call} on descriptor ${fd}, which is ${state}: ${reasons[answer]}`,
    call,
  );
}
