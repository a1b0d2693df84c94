/**
 * When a waiting call gives up: its signal, its time limit, or the close of its descriptor.
 *
 * A call checks its limit, tries, and waits for a change; the limit's end is such a change. So a
 * call that has given up never takes anything afterwards. Runs on the thread of its STPConnect.
 */
import { type StpError, stpError } from '../errors.js';

/** When a waiting call gives up. */
export interface WaitOptions {
  /** AbortError (code ABORT_ERR); ETIMEDOUT where the signal is a time limit. */
  signal?: AbortSignal;
  /** Whole call, milliseconds; 0 or absent: no limit. ETIMEDOUT when it ends. */
  timeoutMs?: number;
}

function abortError(signal: AbortSignal, call: string): StpError {
  const reason: unknown = signal.reason;
  if (reason instanceof Error && reason.name === 'TimeoutError') {
    return stpError('ETIMEDOUT', `${call} reached the time limit of its signal`, call);
  }
  // The shape that Node gives an aborted call, so that callers need only one test.
  const error = new Error(`${call} was aborted by its signal`, { cause: reason }) as StpError;
  error.name = 'AbortError';
  error.code = 'ABORT_ERR';
  error.syscall = call;
  return error;
}

/** A softer end than a limit's: what can be done without waiting longer is done. */
export interface SoftLimit {
  /** 0: after one turn of the event loop, so that what lies in the kernel has come in. */
  readonly ms: number;
  readonly error: StpError;
}

export class Limit {
  readonly call: string;
  /** Set when the soft limit is over: a call that would have to wait throws it instead. */
  blocked: StpError | undefined;
  readonly #soft: SoftLimit | undefined;
  #softTimer: NodeJS.Timeout | undefined;
  #disposed = false;
  #expired: StpError | undefined;
  #wake: (() => void) | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: (() => void) | undefined;

  constructor(call: string, options: WaitOptions = {}, soft?: SoftLimit) {
    this.call = call;
    this.#soft = soft;
    if (soft !== undefined && soft.ms > 0) {
      this.#softTimer = setTimeout(() => this.#block(), soft.ms);
    } else if (soft !== undefined) {
      setImmediate(() => setImmediate(() => this.#block()));
    }
    const { signal, timeoutMs = 0 } = options;
    if (!(timeoutMs >= 0 && timeoutMs <= 0x7fff_ffff)) {
      throw stpError('EINVAL', `timeoutMs is ${timeoutMs}: must be 0 to 2147483647`, call);
    }
    if (signal !== undefined) {
      if (signal.aborted) this.#expired = abortError(signal, call);
      const onAbort = (): void => this.expire(abortError(signal, call));
      signal.addEventListener('abort', onAbort, { once: true });
      this.#signal = signal;
      this.#onAbort = onAbort;
    }
    if (timeoutMs > 0) {
      this.#timer = setTimeout(() => {
        this.expire(stpError('ETIMEDOUT', `${call} took longer than ${timeoutMs} ms`, call));
      }, timeoutMs);
    }
  }

  /** Why the call has to give up, if it has to. */
  get expired(): StpError | undefined {
    return this.#expired;
  }

  check(): void {
    if (this.#expired !== undefined) throw this.#expired;
  }

  /** True where the call may end early with less than it was asked for. */
  get isSoft(): boolean {
    return this.#soft !== undefined;
  }

  /** Before each wait. @throws why the call may not wait any longer */
  checkWait(): void {
    this.check();
    if (this.blocked !== undefined) throw this.blocked;
  }

  #block(): void {
    if (this.#disposed) return;
    this.blocked = this.#soft?.error;
    this.#wake?.();
  }

  expire(error: StpError): void {
    if (this.#expired !== undefined) return;
    this.#expired = error;
    this.#wake?.();
  }

  /** What to do at the limit's end; one at a time, as a call waits for one thing at a time. */
  onExpire(wake: (() => void) | undefined): void {
    this.#wake = wake;
    if (this.#expired !== undefined || this.blocked !== undefined) wake?.();
  }

  dispose(): void {
    this.#disposed = true;
    this.#wake = undefined;
    clearTimeout(this.#softTimer);
    clearTimeout(this.#timer);
    if (this.#onAbort !== undefined) this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

/** Calls that wait for something to change. */
export class WaitList {
  readonly #waiting = new Set<() => void>();

  wakeAll(): void {
    // A woken call runs later, in its own microtask, and may wait again: it is then a new entry.
    for (const wake of [...this.#waiting]) wake();
  }

  /** @throws when the limit is over already: whoever waits has tried before */
  async wait(limit: Limit): Promise<void> {
    limit.checkWait();
    await waitAny([this], limit);
  }

  /** @internal for waitAny() */
  add(wake: () => void): void {
    this.#waiting.add(wake);
  }

  /** @internal for waitAny() */
  delete(wake: () => void): void {
    this.#waiting.delete(wake);
  }
}

/** Resolves when one of the lists is woken or the limit has ended; never rejects. */
export function waitAny(lists: readonly WaitList[], limit: Limit): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      for (const list of lists) list.delete(wake);
      limit.onExpire(undefined);
      resolve();
    };
    for (const list of lists) list.add(wake);
    limit.onExpire(wake);
  });
}

/**
 * First come, first served, for calls of one kind on one socket: `mine()` is true for the oldest.
 * Without it two concurrent receives would share one message between them.
 */
export class Turns {
  readonly #waiting: symbol[] = [];

  get count(): number {
    return this.#waiting.length;
  }

  enter(): symbol {
    const turn = Symbol('turn');
    this.#waiting.push(turn);
    return turn;
  }

  mine(turn: symbol): boolean {
    return this.#waiting[0] === turn;
  }

  leave(turn: symbol): void {
    const index = this.#waiting.indexOf(turn);
    if (index >= 0) this.#waiting.splice(index, 1);
  }
}
