/**
 * The channel directors' threads, seen from the main thread: one endless Piscina task each, and a
 * port to it for the rare requests. A director that ends without being told to has found a broken
 * invariant; its STGs' control state is gone with it, so the whole array ends (established streams
 * go on without it). Main thread.
 */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type {
  DirectorReply,
  DirectorReport,
  DirectorRequest,
  MemberGone,
} from '../director/protocol.js';
import { messageOf, stpError } from '../errors.js';
import { POLL_BUDGET_US_DEFAULT } from '../memory/event-loop.js';
import type { Segment } from '../memory/segment.js';
import { workerFile } from '../package-files.js';

interface Director {
  readonly port: MessagePort;
  readonly done: Promise<void>;
}

interface Waiting {
  readonly director: number;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

export interface DirectorPoolOptions {
  readonly segment: Segment;
  readonly count: number;
  readonly onMemberGone: (notice: MemberGone) => void;
  readonly onFatal: (error: Error) => void;
}

export class DirectorPool {
  readonly #pool: Piscina;
  readonly #directors: Director[] = [];
  readonly #waiting = new Map<number, Waiting>();
  readonly #onMemberGone: (notice: MemberGone) => void;
  readonly #dead = new Set<number>();
  #next = 1;
  #stopping = false;

  constructor(options: DirectorPoolOptions) {
    this.#onMemberGone = options.onMemberGone;
    this.#pool = new Piscina({
      filename: workerFile('channel-director').href,
      minThreads: options.count,
      maxThreads: options.count,
      idleTimeout: Number.POSITIVE_INFINITY,
    });
    for (let i = 0; i < options.count; i++) {
      this.#directors.push(this.#start(i, options));
    }
  }

  #start(number: number, options: DirectorPoolOptions): Director {
    const { port1, port2 } = new MessageChannel();
    port1.on('message', (message: DirectorReply | MemberGone) => this.#onMessage(message));
    const task = {
      director: number,
      segment: options.segment.handle,
      pollBudgetUs: POLL_BUDGET_US_DEFAULT,
      port: port2,
    };
    const done = (this.#pool.run(task, { transferList: [port2] }) as Promise<void>).then(
      () => {
        if (this.#stopping) return;
        this.#onDead(number);
        options.onFatal(new Error(`director ${number} ended by itself`));
      },
      (error: unknown) => {
        if (this.#stopping) return;
        this.#onDead(number);
        const reason = `director ${number} failed: ${messageOf(error)}`;
        options.onFatal(new Error(reason, { cause: error }));
      },
    );
    return { port: port1, done };
  }

  /** Nobody waits for the answer of a director that is gone. */
  #onDead(number: number): void {
    this.#dead.add(number);
    for (const [id, { director, reject }] of this.#waiting) {
      if (director !== number) continue;
      this.#waiting.delete(id);
      reject(stpError('ECANCELED', `director ${number} is gone`));
    }
  }

  #onMessage(message: DirectorReply | MemberGone): void {
    if ('notice' in message) return this.#onMemberGone(message);
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error === undefined) waiting?.resolve(message.result);
    else {
      const { code, message: text } = message.error;
      waiting?.reject(stpError(code, text.replace(`${code}: `, '')));
    }
  }

  /** The reply of one director; rejects with the director's coded errors. */
  ask<T>(director: number, request: DirectorRequest): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#stopping) return reject(stpError('ECANCELED', 'the array is stopping'));
      if (this.#dead.has(director)) {
        return reject(stpError('ECANCELED', `director ${director} is gone`));
      }
      const id = this.#next++;
      this.#waiting.set(id, { director, resolve: resolve as (result: unknown) => void, reject });
      this.#directors[director]?.port.postMessage({ id, request });
    });
  }

  reports(): Promise<DirectorReport[]> {
    return Promise.all(
      this.#directors.map((_, i) => this.ask<DirectorReport>(i, { op: 'report' })),
    );
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const { port } of this.#directors) port.close();
    for (const { reject } of this.#waiting.values()) {
      reject(stpError('ECANCELED', 'the array is stopping'));
    }
    this.#waiting.clear();
    await Promise.all(this.#directors.map((d) => d.done));
    await this.#pool.destroy();
  }
}
