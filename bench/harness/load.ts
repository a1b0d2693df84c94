/**
 * Who else used the two CPUs while the rounds ran. The probe says how far apart they are, not
 * whether they were ours: on a busy machine a spinning pair gets less than two cores, a sleeping
 * one loses its turn, and no ratio means anything.
 */
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import type { CpuPair } from './cpus.js';

/** Above this share of a core the run says that it was disturbed. */
export const OTHER_CORES_MAX = 0.25;

/** /proc/stat counts in these, on every Linux that Node supports. */
const TICKS_PER_SECOND = 100;
/** user nice system idle iowait irq softirq steal; steal is what the hypervisor gave to others. */
const BUSY_COLUMNS = [0, 1, 2, 5, 6, 7];

/** Seconds these CPUs were not idle since boot. */
export function busySeconds(stat: string, cpus: readonly number[]): number {
  let ticks = 0;
  for (const cpu of cpus) {
    const line = new RegExp(`^cpu${cpu} (.*)$`, 'm').exec(stat)?.[1] ?? '';
    const columns = line.trim().split(/\s+/).map(Number);
    for (const at of BUSY_COLUMNS) ticks += columns[at] ?? 0;
  }
  return ticks / TICKS_PER_SECOND;
}

/** Adds up, over the rounds, the time of the two CPUs that went to others. */
export class OtherLoad {
  private busy = 0;
  private own = 0;
  private elapsed = 0;

  constructor(private readonly cpus: CpuPair) {}

  /** Runs a round; its processes' CPU is ours, and so is stpd's and that of this process. */
  async watch<T extends { cpuSeconds: number; stpdCpuSeconds?: number }>(
    round: () => Promise<T>,
  ): Promise<T> {
    const start = performance.now();
    const busy = this.read();
    const parent = process.cpuUsage();
    const result = await round();
    const { user, system } = process.cpuUsage(parent);
    this.busy += this.read() - busy;
    this.own += result.cpuSeconds + (result.stpdCpuSeconds ?? 0) + (user + system) / 1e6;
    this.elapsed += (performance.now() - start) / 1000;
    return result;
  }

  /** Cores, 0 to 2. Ticks are coarse: only the sum over many rounds means something. */
  get cores(): number {
    return this.elapsed === 0 ? 0 : Math.max(0, (this.busy - this.own) / this.elapsed);
  }

  private read(): number {
    return busySeconds(readFileSync('/proc/stat', 'utf8'), this.cpus);
  }
}
