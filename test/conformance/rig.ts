/**
 * What a situation of the conformance suite is given: two STPConnects that can reach each other
 * over one mechanism. A mechanism says how to make a socket of its own; the rest is the same.
 */
import { createHash, randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext, TestFn } from 'ava';
import { AF_INET, AF_STP, type STPConnect, type Target } from '../../src/connect/stp-connect.js';

export interface Mechanism {
  readonly name: string;
  readonly family: 'inet' | 'stp';
  /** Two layers; `dispose` gives up what lies below them. */
  make(): Promise<{ client: STPConnect; server: STPConnect; dispose?(): Promise<void> }>;
  /** Options that a new socket needs before it connects or listens. */
  prepare?(layer: STPConnect, fd: number, role: 'connecting' | 'listening'): void;
}

export class Rig {
  readonly mechanism: Mechanism;
  readonly client: STPConnect;
  readonly server: STPConnect;

  constructor(mechanism: Mechanism, client: STPConnect, server: STPConnect) {
    this.mechanism = mechanism;
    this.client = client;
    this.server = server;
  }

  get family(): number {
    return this.mechanism.family === 'stp' ? AF_STP : AF_INET;
  }

  /** Where `port` of the other side is. */
  at(port: number): Target {
    return this.mechanism.family === 'stp' ? { port } : { host: '127.0.0.1', port };
  }

  outgoing(): number {
    const fd = this.client.socket(this.family);
    this.mechanism.prepare?.(this.client, fd, 'connecting');
    return fd;
  }

  incoming(): number {
    const fd = this.server.socket(this.family);
    this.mechanism.prepare?.(this.server, fd, 'listening');
    return fd;
  }

  async listener(backlog?: number): Promise<{ fd: number; port: number }> {
    const fd = this.incoming();
    await this.server.bind(fd, this.at(0));
    await this.server.listen(fd, backlog);
    return { fd, port: this.server.getsockname(fd).port };
  }

  async dial(port: number): Promise<number> {
    const fd = this.outgoing();
    await this.client.connect(fd, this.at(port));
    return fd;
  }

  /** `a` on the client, connected to `b` on the server. */
  async pair(): Promise<{ a: number; b: number; listener: number; port: number }> {
    const { fd, port } = await this.listener();
    const [a, b] = await Promise.all([this.dial(port), this.server.accept(fd)]);
    return { a, b, listener: fd, port };
  }

  /** Pairs `count` times over one listener. */
  async pairs(count: number): Promise<{ a: number; b: number }[]> {
    const { fd, port } = await this.listener();
    const pairs: { a: number; b: number }[] = [];
    for (let i = 0; i < count; i++) {
      const [a, b] = await Promise.all([this.dial(port), this.server.accept(fd)]);
      pairs.push({ a, b });
    }
    return pairs;
  }
}

export type Situation = (
  title: string,
  body: (t: ExecutionContext, rig: Rig) => Promise<void>,
) => void;

/** A watchdog for each, as a hang is what goes wrong most; it is no measure of speed. */
const WATCHDOG_MS = 60_000;

export function situations(test: TestFn, mechanism: Mechanism): Situation {
  return (title, body) => {
    test(`${mechanism.name}: ${title}`, async (t) => {
      t.timeout(WATCHDOG_MS);
      const { client, server, dispose } = await mechanism.make();
      try {
        await body(t, new Rig(mechanism, client, server));
      } finally {
        await Promise.all([client.closeAll(), server.closeAll()]);
        await dispose?.();
      }
    });
  };
}

/** Passes if `promise` rejects with one of `codes`; gives the error. */
export async function failsWith(
  t: ExecutionContext,
  promise: Promise<unknown>,
  ...codes: string[]
): Promise<Error & { code: string }> {
  // Without its value, which AVA would print: it may be megabytes.
  const error = (await t.throwsAsync(promise.then(() => undefined))) as
    | (Error & { code: string })
    | undefined;
  t.true(codes.includes(error?.code ?? ''), `${error?.code} (${error?.message}): want ${codes}`);
  return error as Error & { code: string };
}

export function throwsCode(t: ExecutionContext, call: () => unknown, code: string): void {
  const error = t.throws(call) as (Error & { code: string }) | undefined;
  t.is(error?.code, code, error?.message);
}

/** True if `promise` has not settled after a while in which it easily could have. */
export async function stillWaits(promise: Promise<unknown>, ms = 100): Promise<boolean> {
  const settled = promise.then(
    () => false,
    () => false,
  );
  return Promise.race([settled, sleep(ms, true)]);
}

/** Repeatable bytes. The seed is printed, and STP_SEED replays it. */
export class Random {
  #state: number;

  constructor(t: ExecutionContext) {
    const seed = Number(process.env.STP_SEED ?? randomInt(1, 2 ** 31));
    this.#state = seed | 0 || 1;
    t.log(`STP_SEED=${seed}`);
  }

  /** xorshift32 */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** min to max, both included */
  between(min: number, max: number): number {
    return min + (this.next() % (max - min + 1));
  }

  bytes(count: number): Buffer {
    const words = new Uint32Array(Math.ceil(count / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.next();
    return Buffer.from(words.buffer, 0, count);
  }
}

export const digest = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** Everything up to the end. */
export async function receiveAll(layer: STPConnect, fd: number, bytesMax = 65536): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (;;) {
    const chunk = await layer.receive(fd, bytesMax);
    if (chunk.length === 0) return Buffer.concat(chunks);
    chunks.push(chunk);
  }
}
