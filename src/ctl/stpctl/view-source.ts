/**
 * Where a view comes from: stpd's memory, for those who may read it, else its control API.
 *
 * Memory first: it asks nobody, so it disturbs nothing and works while stpd stands still. Whoever
 * may not read it (a container, for instance, can forbid that to root) is answered by stpd, which
 * decodes its memory with the same code. Main thread.
 */
import { ControlClient, NotRunningError } from '../../daemon/control-client.js';
import { isCoded, stpError } from '../../errors.js';
import { native } from '../../native.js';
import { DaemonMemory } from '../../view/daemon-memory.js';
import type { Figures } from '../../view/figures.js';
import { readTrace, type TraceReading } from '../../view/trace.js';

export interface ViewSource {
  /** For JSON. */
  readonly source: 'memory' | 'control';
  /** What the operator should know of where this comes from. */
  describe(): string;
  /** One sample. @throws NotRunningError when stpd has ended */
  figures(): Promise<Figures>;
  /** @throws ENOENT, NotRunningError. See readTrace */
  trace(stg: string, since?: number, slot?: number): Promise<TraceReading>;
}

class MemorySource implements ViewSource {
  readonly source = 'memory';
  readonly #memory: DaemonMemory;

  constructor(memory: DaemonMemory) {
    this.#memory = memory;
  }

  describe(): string {
    const { holder, stopped } = this.#memory;
    const who = `stpd (pid ${holder.pid})`;
    return stopped ? `memory of ${who}, which is STOPPED` : `memory of ${who}`;
  }

  #mustLive(): void {
    if (!this.#memory.alive) throw new NotRunningError(this.#memory.runDirectory);
  }

  async figures(): Promise<Figures> {
    this.#mustLive();
    return this.#memory.figures();
  }

  async trace(stg: string, since?: number, slot?: number): Promise<TraceReading> {
    this.#mustLive();
    const place = this.#memory.places().find(({ name }) => name === stg);
    if (place === undefined) {
      throw stpError('ENOENT', `there is no STG '${stg}'; see 'stpctl stg list'`);
    }
    return readTrace(this.#memory.segment, place, native().wallClockUs(), since, slot);
  }
}

class ControlSource implements ViewSource {
  readonly source = 'control';
  readonly #client: ControlClient;

  constructor(client: ControlClient) {
    this.#client = client;
  }

  describe(): string {
    return 'told by stpd';
  }

  async figures(): Promise<Figures> {
    return (await this.#client.figures()).figures;
  }

  async trace(stg: string, since?: number, slot?: number): Promise<TraceReading> {
    return (await this.#client.trace(stg, since, slot)).trace;
  }
}

/**
 * @throws NotRunningError; EACCES where the caller may neither read the memory nor ask; what keeps
 *   memory from being read, where stpd does not answer either
 */
export async function openView(runDirectory: string): Promise<ViewSource> {
  let reason: unknown;
  try {
    const memory = await DaemonMemory.open(runDirectory);
    if (memory !== undefined) return new MemorySource(memory);
  } catch (error) {
    reason = error;
  }
  const client = new ControlClient(runDirectory);
  try {
    await client.array();
  } catch (error) {
    /* A lock that is held by nobody we know, and no socket: the lock says more. */
    if (error instanceof NotRunningError) throw reason ?? error;
    if (reason === undefined || (isCoded(error) && error.code === 'EACCES')) throw error;
    throw reason;
  }
  return new ControlSource(client);
}
