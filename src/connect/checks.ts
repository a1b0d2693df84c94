/**
 * What both forms of the calls check before they do anything, and how both word what a stream
 * cannot do. No state; any thread.
 */
import { type StpError, stpError } from '../errors.js';
import { BACKLOG_MAX } from '../limits.js';
import type { Address } from './endpoint.js';

/** For messages: where somebody is. */
export const nameOf = (a: Address): string =>
  a.family === 'inet' ? `${a.host}:${a.port}` : `${a.stg}:${a.port}`;

/** @throws EINVAL */
export function checkBacklog(backlog: number): void {
  if (!Number.isInteger(backlog) || backlog < 1 || backlog > BACKLOG_MAX) {
    throw stpError('EINVAL', `backlog ${backlog}: must be 1 to ${BACKLOG_MAX}`, 'listen');
  }
}

/** @throws EINVAL */
export function checkData(data: unknown, call: string): asserts data is Uint8Array {
  if (data instanceof Uint8Array) return;
  throw stpError('EINVAL', 'data is not a Buffer or Uint8Array', call);
}

/** Of a receive: how many it may give, or must. @throws EINVAL */
export function checkBytes(bytes: number, min: number, max: number, call: string): void {
  if (!Number.isSafeInteger(bytes) || bytes < min || bytes > max) {
    throw stpError('EINVAL', `${bytes} bytes asked for: must be ${min} to ${max}`, call);
  }
}

/** A send behind shutdown('write'). */
export const shutDown = (remote: Address, call: string): StpError =>
  stpError('EPIPE', `the stream to ${nameOf(remote)} is shut down`, call);

/** A receive that wanted more than the peer has sent. */
export const endedEarly = (remote: Address, got: number, bytes: number, call: string): StpError =>
  stpError('ENODATA', `${nameOf(remote)} ended its stream after ${got} of ${bytes} bytes`, call);
