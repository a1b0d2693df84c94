/** A lane of a backup that does its jobs at once, in the caller's thread. */
import { ReadLane } from '../../../src/library/read-lane.js';
import type { Lane, LaneJob, LaneResult } from '../../../src/library/spread.js';
import { native } from '../../../src/native.js';
import { MemoryPipe } from './stand-ins.js';

export class MemoryLane implements Lane {
  readonly pipe = new MemoryPipe();
  readonly #reader: ReadLane;
  readonly #results: LaneResult[] = [];

  constructor(
    readonly medium: number,
    deltaFrom?: number | undefined,
  ) {
    const progress = new Float64Array(2);
    this.#reader = new ReadLane(this.pipe, { medium, progress, native: native(), deltaFrom });
  }

  give(job: LaneJob): void {
    this.#results.push(this.#reader.do(job));
  }

  take(): LaneResult | null {
    return this.#results.shift() ?? null;
  }

  end(): void {
    this.#reader.finish();
  }
}
