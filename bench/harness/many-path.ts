/**
 * Case `connections`: memory of very many idle connections, and that nothing of them stays.
 *
 * Each round has a fresh pair of processes, so that what is measured is theirs alone. While they
 * stand still with all connections open and idle, their anonymous memory is read, and of an array
 * how many pages are taken; after all are closed, whatever is there that was not there before.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ArrayCounters, PrivateArray } from './array.js';
import { NodePath, type NodePathOptions } from './node-path.js';
import type { BenchPath, Left, RoundResult } from './path.js';
import { descriptorCount, rssAnonBytes } from './processes.js';
import type { RoundRequest } from './protocol.js';

/** Until idle streams have given their pages back, and longer. */
const IDLE_MS = 2000;
/** What is closed is gone from the counters after this, unless it leaked. */
const CLOSED_TIMEOUT_MS = 10_000;
const LOOK_AGAIN_MS = 100;

export class ManyPath implements BenchPath {
  private running: NodePath | undefined;

  constructor(
    private readonly options: NodePathOptions,
    private readonly array: PrivateArray | undefined,
  ) {}

  /** The processes of a round are started by the round. */
  async open(): Promise<void> {}

  async round(request: RoundRequest): Promise<RoundResult> {
    const path = new NodePath(this.options);
    this.running = path;
    await path.open();
    const { pids } = path;
    const before = { descriptors: descriptorCount(pids), array: await this.array?.counters() };
    let rss = 0;
    let idle: ArrayCounters | undefined;
    const result = await path.round(request, async () => {
      await sleep(IDLE_MS);
      rss = rssAnonBytes(pids);
      idle = await this.array?.counters();
    });
    const left = await this.leftAfter(pids, before);
    await path.close();
    return {
      ...result,
      rssAnonBytes: rss,
      left,
      ...(idle !== undefined && { pages: { whileIdle: idle.pagesUsed } }),
    };
  }

  private async leftAfter(
    pids: readonly number[],
    before: { descriptors: number; array: ArrayCounters | undefined },
  ): Promise<Left> {
    const deadline = performance.now() + CLOSED_TIMEOUT_MS;
    for (;;) {
      const now = await this.array?.counters();
      const descriptors = descriptorCount(pids) - before.descriptors;
      const left: Left =
        now === undefined || before.array === undefined
          ? { descriptors }
          : {
              descriptors,
              pages: now.pagesUsed - before.array.pagesUsed,
              ports: now.portsUsed - before.array.portsUsed,
              connections: now.connectionsUsed - before.array.connectionsUsed,
            };
      const nothing = Object.values(left).every((n) => n <= 0);
      if (nothing || performance.now() > deadline) return left;
      await sleep(LOOK_AGAIN_MS);
    }
  }

  async close(): Promise<void> {
    await this.running?.close();
  }
}
