/**
 * Array first, else network: what is decided once, when a connection is made, and why.
 *
 * The array is asked first. What it lacks (`reasonOf`) lets the network be asked, never both at
 * once; what was a wrong call, or the caller's own limit, does not. Nothing is decided again later:
 * bytes over a fallback could overtake bytes in memory. Used by both forms of the calls.
 */
import { isCoded, type StpError, stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { reasonText } from '../memory/reason-text.js';
import { reasonOf } from '../socket/reason.js';
import { ARRAY_FIRST_MS, MS_MAX } from './bounds.js';
import type { Target } from './endpoint.js';
import type { WaitOptions } from './limit.js';
import type { PskClient, PskServer } from './tls-psk.js';

/** `array-first`: the network if the array cannot; `array`, `network`: that one or an error. */
export type Use = 'array-first' | 'array' | 'network';

/** One service, on both mechanisms. */
export interface DialTarget {
  /** Port of the STG. */
  readonly port: number;
  /** The same service over TCP. */
  readonly network: Target;
}

/** How `dial` decides. */
export interface DialOptions extends WaitOptions {
  /** 'array-first' where absent. */
  readonly use?: Use;
  /** Most time the array is given, its attach included, milliseconds; 1000 where absent. */
  readonly arrayTimeoutMs?: number;
  /** Should it become the network: TLS with this key. */
  readonly psk?: PskClient;
}

/** Where `serve` listens. */
export interface ServeTarget {
  /** Port of the STG; 0 for a dynamic one. */
  readonly port: number;
  /** The same service over TCP. */
  readonly network: Target;
  /** Connections that may wait for accept on each, 1 to 4096; 511 where absent. */
  readonly backlog?: number;
}

/** How `serve` decides. */
export interface ServeOptions {
  /** 'array-first' where absent: the network alone where there is no array. */
  readonly use?: Use;
  /** Most time the array is given, its attach included, milliseconds; 1000 where absent. */
  readonly arrayTimeoutMs?: number;
  /** TLS for those who come over the network. */
  readonly psk?: PskServer;
}

export class Decision {
  readonly #use: Use;
  /** When the array's time is over, and the caller's. */
  readonly #arrayUntil: number;
  readonly #until: number;
  /** Why the network: REASON_NONE as long as it is not. */
  reason: number = NUMBERS.REASON_NONE;

  constructor(options: { use?: Use; arrayTimeoutMs?: number; timeoutMs?: number }) {
    const { use = 'array-first', timeoutMs = 0 } = options;
    const { arrayTimeoutMs = use === 'array' ? MS_MAX : ARRAY_FIRST_MS } = options;
    if (!Number.isInteger(arrayTimeoutMs) || arrayTimeoutMs < 1 || arrayTimeoutMs > MS_MAX) {
      throw stpError(
        'EINVAL',
        `arrayTimeoutMs is ${arrayTimeoutMs}: must be 1 to ${MS_MAX}`,
        'connect',
      );
    }
    this.#use = use;
    const now = performance.now();
    this.#until = timeoutMs > 0 ? now + timeoutMs : Number.POSITIVE_INFINITY;
    this.#arrayUntil = Math.min(now + arrayTimeoutMs, this.#until);
    if (use === 'network') this.reason = NUMBERS.REASON_ASKED;
  }

  get asksArray(): boolean {
    return this.#use !== 'network';
  }

  /** Milliseconds that the array still has; at least 1, as 0 would be no limit. */
  arrayMs(): number {
    return Math.max(1, Math.ceil(this.#arrayUntil - performance.now()));
  }

  /** Milliseconds of the caller's that are left for the network; 0: no limit. */
  networkMs(): number {
    if (this.#until === Number.POSITIVE_INFINITY) return 0;
    return Math.max(1, Math.ceil(this.#until - performance.now()));
  }

  /** The array failed: records why the network is next. @throws `error` if it is not */
  fallBack(error: unknown): void {
    let reason = reasonOf(error);
    if (isCoded(error) && error.code === 'ETIMEDOUT') {
      // Whose time was it that is over? The caller's ends it all.
      if (this.#arrayUntil === this.#until) throw error;
      reason = NUMBERS.REASON_NO_ANSWER;
    } else if (isCoded(error) && error.code === 'ECONNRESET') {
      // It died, or closed its listener, between the director's word and ours.
      reason ??= NUMBERS.REASON_PEER_NOT_LISTENING;
    }
    if (this.#use === 'array' || reason === undefined) throw error;
    this.reason = reason;
  }

  /** The network failed too: says both. */
  bothFailed(error: unknown): unknown {
    if (!isCoded(error) || this.reason === NUMBERS.REASON_ASKED) return error;
    const both: StpError = stpError(
      error.code,
      `${error.message.replace(`${error.code}: `, '')} (not through the array: ${reasonText(this.reason)})`,
      error.syscall,
    );
    both.name = error.name;
    both.cause = error;
    both.reason = this.reason;
    return both;
  }
}
