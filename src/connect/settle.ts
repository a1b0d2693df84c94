/**
 * Waits for an emitter to become what it is to be: `event`, or `error`, or a close before either.
 */
import type { EventEmitter } from 'node:events';
import { isCoded, messageOf, type StpError, stpError } from '../errors.js';
import type { Limit } from './limit.js';

/**
 * Resolves at `event`; at 'error' or 'close' it rejects with the emitter's error, or undefined.
 * When the limit ends, `giveUp` is called (it must destroy the emitter) and the limit's error wins.
 */
export async function settle(
  emitter: EventEmitter,
  event: string,
  limit?: { limit: Limit; giveUp: () => void },
): Promise<void> {
  const { promise, resolve, reject } = withResolvers();
  const onError = (error: unknown): void => reject(error);
  const onClose = (): void => reject(undefined);
  emitter.once(event, resolve).once('error', onError).once('close', onClose);
  limit?.limit.onExpire(() => {
    // Its late error has no reader any more.
    emitter.on('error', () => {});
    limit.giveUp();
    reject(limit.limit.expired);
  });
  try {
    await promise;
  } finally {
    limit?.limit.onExpire(undefined);
    emitter.off(event, resolve).off('error', onError).off('close', onClose);
  }
}

// Promise.withResolvers is not in Node 20.
function withResolvers(): {
  promise: Promise<void>;
  resolve: () => void;
  reject: (reason: unknown) => void;
} {
  let resolve!: () => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<void>((res, rej) => {
    resolve = res;
    reject = rej;
  });
  return { promise, resolve, reject };
}

const hints: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there',
  EADDRINUSE: 'another process has that port; stop it, or choose another port',
  EADDRNOTAVAIL: 'the address is not one of this machine',
  EACCES: 'not permitted',
  ENOTFOUND: 'no such host name',
};

/** `call` on `what` failed: with the mechanism's code, in our words. */
export function failed(call: string, what: string, cause: unknown): StpError {
  if (isCoded(cause)) {
    if (cause.code === 'ABORT_ERR' || cause.code === 'ECANCELED') return cause;
    const { code, message } = cause;
    const reason =
      hints[code] ?? (message.startsWith(`${code}: `) ? message.slice(code.length + 2) : message);
    const error = stpError(code, `${call} ${what}: ${reason}`, call);
    error.cause = cause;
    return error;
  }
  if (cause === undefined) {
    return stpError('ECONNRESET', `${call} ${what}: the other side closed the connection`, call);
  }
  return stpError('EIO', `${call} ${what}: ${messageOf(cause)}`, call);
}
