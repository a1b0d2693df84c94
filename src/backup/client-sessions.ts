/**
 * The sessions of one client process: pairs the two figures of each by its session id.
 *
 * A session begins with whichever figure comes first and is complete when both have ended. A figure
 * of an id that has it already is refused, and so is an id whose session is over but not yet
 * forgotten: what was heard once cannot be played again. What happens to one session never touches
 * another. Event loop only.
 */
import { monotonicMs } from '../clock.js';
import { within } from './deadline.js';
import type { Figure } from './handshake-steps.js';
import { SESSIONS_MAX, STEP_TIMEOUT_MS } from './limits.js';
import { HandshakeError } from './wire.js';

interface Waiting<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

function waiting<T>(): Waiting<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (reason: unknown) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}

export interface NetworkPair {
  readonly control: number;
  readonly errors: number;
}

/** One session on the client, from its first connection to its end. */
export class ClientSession {
  readonly startMs = monotonicMs();
  readonly #abort = new AbortController();
  readonly #claimed = new Set<Figure>();
  readonly #cleanups: (() => void)[] = [];
  readonly #bothBegun = waiting<void>();
  readonly network = waiting<NetworkPair>();
  readonly storage = waiting<void>();

  /** @param id in hexadecimal */
  constructor(readonly id: string) {}

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Short name for logs. */
  get label(): string {
    return this.id.slice(0, 8);
  }

  claim(figure: Figure): void {
    if (this.#abort.signal.aborted) throw new HandshakeError('this session is over');
    if (this.#claimed.has(figure)) {
      throw new HandshakeError(`this session has its connections of Fig. ${figure} already`);
    }
    this.#claimed.add(figure);
    if (this.#claimed.size === 2) this.#bothBegun.resolve();
  }

  onEnd(cleanup: () => void): void {
    if (this.#abort.signal.aborted) cleanup();
    else this.#cleanups.push(cleanup);
  }

  /** Ends the session, for whatever reason; again is no error. */
  end(reason: Error): void {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort(reason);
    this.network.reject(reason);
    this.storage.reject(reason);
    for (const cleanup of this.#cleanups.splice(0).reverse()) cleanup();
  }

  /** Both figures, each within a step's time of the other. */
  async established(timeoutMs = STEP_TIMEOUT_MS): Promise<NetworkPair> {
    const both = Promise.all([this.network.promise, this.storage.promise]);
    // Each figure's steps have limits of their own; this one is for a figure that never begins.
    const incomplete = (): Error => {
      const missing = this.#claimed.has('4') ? '4A' : '4';
      return new HandshakeError(
        `the connections of Fig. ${missing} did not follow within ${timeoutMs / 1000} s`,
      );
    };
    await within(timeoutMs, Promise.race([both, this.#bothBegun.promise]), incomplete);
    return (await both)[0];
  }
}

/** How many ended ids are remembered, so that they cannot be used again soon. */
const ENDED_MAX = 1024;

export class ClientSessions {
  readonly #live = new Map<string, ClientSession>();
  readonly #ended = new Set<string>();

  /** @param onNew runs a session that begins with this claim */
  constructor(private readonly onNew: (session: ClientSession) => Promise<void>) {}

  get size(): number {
    return this.#live.size;
  }

  /** The session of an id, with this figure now taken. Throws `HandshakeError` to refuse. */
  claim(sessionId: Buffer, figure: Figure): ClientSession {
    const id = sessionId.toString('hex');
    if (this.#ended.has(id)) throw new HandshakeError('this session is over');
    const known = this.#live.get(id);
    if (known) {
      known.claim(figure);
      return known;
    }
    if (this.#live.size >= SESSIONS_MAX) {
      throw new HandshakeError(`${SESSIONS_MAX} sessions are running already; try again later`);
    }
    const session = new ClientSession(id);
    session.claim(figure);
    this.#live.set(id, session);
    void this.onNew(session).finally(() => this.#forget(session));
    return session;
  }

  endAll(reason: Error): void {
    for (const session of this.#live.values()) session.end(reason);
  }

  #forget(session: ClientSession): void {
    session.end(new Error('the session is over'));
    this.#live.delete(session.id);
    this.#ended.add(session.id);
    for (const oldest of this.#ended) {
      if (this.#ended.size <= ENDED_MAX) break;
      this.#ended.delete(oldest);
    }
  }
}
