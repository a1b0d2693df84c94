/**
 * The machine's own ceiling: bench/native/memcpy_2p.c as a path. One pair of processes serves the
 * paths `memcpy`, `memcpy-2p` and `memcpy-2p-sum`.
 */
import { histogramOfCounts } from './histogram.js';
import { LineProcess } from './line-process.js';
import { type BenchPath, type RoundResult, withPeakRss } from './path.js';
import type { RoundRequest } from './protocol.js';

export type RingMode = 'copy' | 'sum' | 'memcpy';

interface RingReport {
  bytes: number;
  messages: number;
  seconds: number;
  cpu: number;
  digest: string;
  expected: string;
  equal: boolean;
  histogram?: [number, number][];
}

export class RingProcesses {
  private process: LineProcess | undefined;
  pids: readonly number[] = [];

  constructor(
    private readonly program: string,
    private readonly args: readonly string[],
  ) {}

  async open(): Promise<void> {
    if (this.process !== undefined) return;
    this.process = new LineProcess(this.program, ['serve', ...this.args]);
    this.pids = (await this.process.ask<{ pids: number[] }>()).pids;
  }

  ask(question: string): Promise<RingReport> {
    if (this.process === undefined) throw new Error('memcpy_2p: round before open');
    return this.process.ask<RingReport>(question);
  }

  async close(): Promise<void> {
    await this.process?.close();
  }
}

export class RingPath implements BenchPath {
  constructor(
    private readonly processes: RingProcesses,
    private readonly mode: RingMode,
  ) {}

  open(): Promise<void> {
    return this.processes.open();
  }

  async round({ case: name, size, seconds, verify }: RoundRequest): Promise<RoundResult> {
    const mode = name === 'stream' ? this.mode : 'ping-pong';
    const question = `${mode} ${size} ${seconds} ${verify ? 1 : 0}`;
    const { cpu, expected, equal, histogram, ...report } = await withPeakRss(
      this.processes.pids,
      () => this.processes.ask(question),
    );
    if (report.digest !== expected || !equal) {
      throw new Error(
        `memcpy_2p ${question}: received digest ${report.digest}, expected ${expected}` +
          (equal ? '' : '; bytes differ'),
      );
    }
    const result = { ...report, cpuSeconds: cpu };
    return histogram === undefined
      ? result
      : { ...result, latencies: histogramOfCounts(histogram) };
  }

  close(): Promise<void> {
    return this.processes.close();
  }
}
