/**
 * Case `idle`: what idle connections cost. Hosts in processes of their own, in a circle, each with
 * connections to the next; then nobody does anything, and the CPU of all of them and of stpd is
 * read.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { PrivateArray } from './array.js';
import { numberedDigest } from './content.js';
import { PathChild } from './node-path.js';
import type { BenchPath, RoundResult } from './path.js';
import { cpuSecondsOf, rssAnonBytes } from './processes.js';
import type { OpenRequest, RoundRequest } from './protocol.js';

const OPEN_TIMEOUT_MS = 60_000;
/** V8 collects the garbage of the start once, some seconds after it. */
const SETTLE_MS = 20_000;

export interface IdlePathOptions {
  readonly hosts: number;
  readonly connections: number;
  /** Measure at once, and nothing of worth. */
  readonly tiny: boolean;
  readonly runner: readonly string[];
  readonly open: Omit<OpenRequest, 'op' | 'side' | 'address'>;
  readonly array: PrivateArray;
}

export class IdlePath implements BenchPath {
  private readonly hosts: readonly PathChild[];
  private settled = false;

  constructor(private readonly options: IdlePathOptions) {
    const { runner } = options;
    this.hosts = Array.from(
      { length: options.hosts },
      (_, i) => new PathChild({ name: 'idle', module: 'idle-host', runner }, `host ${i}`),
    );
  }

  /** As few hosts are awake as may be: they are started by the first round. */
  async open(): Promise<void> {}

  private async start(): Promise<void> {
    const { open, connections, tiny } = this.options;
    for (const host of this.hosts) host.start();
    const listening = this.hosts.map((host) => host.next('listening', OPEN_TIMEOUT_MS));
    const ready = this.hosts.map((host) => host.next('connected', OPEN_TIMEOUT_MS));
    for (const host of this.hosts) host.say({ ...open, op: 'open', side: 'receiver' });
    const addresses = (await Promise.all(listening)).map(({ address }) => address);
    await Promise.all(ready);
    const connected = this.hosts.map((host) => host.next('connected', OPEN_TIMEOUT_MS));
    for (const [i, host] of this.hosts.entries()) {
      const address = addresses[(i + 1) % addresses.length] as number;
      host.say({
        ...open,
        op: 'open',
        side: 'sender',
        address,
        connections: connections / this.hosts.length,
      });
    }
    await Promise.all(connected);
    if (!tiny) await sleep(SETTLE_MS);
    this.settled = true;
  }

  async round({ seconds }: RoundRequest): Promise<RoundResult> {
    if (!this.settled) await this.start();
    const pids = [this.options.array.pid, ...this.hosts.map((host) => host.pid)];
    const cpu = cpuSecondsOf(pids);
    const start = performance.now();
    await sleep(seconds * 1000);
    const cpuSeconds = cpuSecondsOf(pids) - cpu;
    const elapsedMs = performance.now() - start;
    const used = await this.options.array.counters();
    return {
      bytes: 0,
      messages: used.connectionsUsed,
      seconds: elapsedMs / 1000,
      cpuSeconds,
      rssAnonBytes: rssAnonBytes(pids),
      digest: numberedDigest(used.connectionsUsed),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.close()));
  }
}
