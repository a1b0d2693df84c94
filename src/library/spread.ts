/**
 * The data of large files, spread over several streams, while the walk stays one.
 *
 * A lane is another thread with a stream and a medium of its own (read-lane.ts). The walk opens a
 * file and lends the descriptor; the lane reads and sends it, and gives the manifest lines back, and
 * the walk closes it (Node holds a thread's files against it). Invariant: lines leave here in the
 * order of the walk, whoever made them, and those of one lane in the order of its medium.
 *
 * Worker thread of the walk: all of it blocks.
 */
import { closeSync } from 'node:fs';
import { assert } from '../assert.js';
import type { TreeEntry, TreeWarning } from '../source/file-tree.js';
import type { Xattr } from '../source/xattrs.js';
import type { KnownFile } from './send-delta.js';

/** Smaller files go with the walk: giving one away costs about what reading so much of it does. */
export const SPREAD_BYTES_MIN = 256 << 10;
/** A lane with this much to read, or so many files, gets no more for now. */
const LANE_BYTES_MAX = 64 << 20;
const LANE_FILES_MAX = 8;
/** Lines that wait for those of a file before them; then the walk waits, too. */
const WAITING_CHARS_MAX = 16 << 20;

/** `file`: its data, from `fd`, which stays open until the result is taken. `directory`: its header once more. */
export type LaneJob =
  | {
      readonly kind: 'file';
      readonly entry: TreeEntry;
      readonly fd: number;
      /** As the parent has it: only what changed is sent. */
      readonly known: KnownFile | null;
    }
  | {
      readonly kind: 'directory';
      readonly entry: TreeEntry;
      readonly xattrs: readonly Xattr[] | null;
    };

export interface LaneResult {
  /** Manifest lines, each with its newline. */
  readonly lines: string;
  readonly entries: number;
  /** Of data. */
  readonly bytes: number;
  readonly warnings: readonly TreeWarning[];
}

export interface Lane {
  give(job: LaneJob): void;
  /** The result of the oldest job that is finished; null if it is not. */
  take(): LaneResult | null;
  /** No more jobs: it ends its stream. */
  end(): void;
}

export interface Lanes {
  /** In the order of their media, from 1 on. */
  readonly lanes: readonly Lane[];
  /** Blocks until some lane may have a result that was not there before. */
  wait(): void;
}

interface Slot {
  /** Null: lines of the walk itself. */
  readonly lane: Load | null;
  lines: string;
  isDone: boolean;
}

interface Load {
  readonly lane: Lane;
  /** Jobs that are given and not taken, in order. */
  readonly jobs: { readonly slot: Slot; readonly job: LaneJob; readonly bytes: number }[];
  bytes: number;
}

export interface SpreadHooks {
  /** In the order of the walk. */
  onLines(lines: string): void;
  onResult(result: LaneResult): void;
  /** The walk is over, and some streams are not: nothing that is known need wait for them. */
  onWait?(): void;
}

export class Spread {
  readonly #lanes: Lanes;
  readonly #hooks: SpreadHooks;
  readonly #loads: readonly Load[];
  #slots: Slot[] = [];
  #head = 0;
  #waitingChars = 0;

  constructor(lanes: Lanes, hooks: SpreadHooks) {
    assert(lanes.lanes.length > 0, 'there is a lane to spread to');
    this.#lanes = lanes;
    this.#hooks = hooks;
    this.#loads = lanes.lanes.map((lane) => ({ lane, jobs: [], bytes: 0 }));
  }

  /**
   * Gives an open file to the lane with the least to do, and closes it in the end; false if all have
   * enough: read it yourself.
   */
  giveFile(entry: TreeEntry, fd: number, known: KnownFile | null): boolean {
    this.#collect();
    const free = this.#loads.filter(
      ({ jobs, bytes }) =>
        jobs.length === 0 || (jobs.length < LANE_FILES_MAX && bytes < LANE_BYTES_MAX),
    );
    const [first, ...others] = free;
    if (first === undefined) return false;
    const load = others.reduce((least, each) => (each.bytes < least.bytes ? each : least), first);
    this.#give(load, { kind: 'file', entry, fd, known }, entry.size);
    return true;
  }

  /** Once more, in the medium that tar reads last, behind everything given so far. */
  giveDirectory(entry: TreeEntry, xattrs: readonly Xattr[] | null): void {
    this.#give(this.#loads.at(-1) as Load, { kind: 'directory', entry, xattrs }, 0);
  }

  #give(load: Load, job: LaneJob, bytes: number): void {
    const slot: Slot = { lane: load, lines: '', isDone: false };
    this.#slots.push(slot);
    load.jobs.push({ slot, job, bytes });
    load.bytes += bytes;
    load.lane.give(job);
  }

  /** Lines of the walk itself: they leave when all before them have. */
  addLine(line: string): void {
    this.#collect();
    if (this.#head === this.#slots.length) {
      this.#hooks.onLines(line);
      return;
    }
    const last = this.#slots.at(-1) as Slot;
    if (last.lane === null) last.lines += line;
    else this.#slots.push({ lane: null, lines: line, isDone: true });
    this.#waitingChars += line.length;
    while (this.#waitingChars > WAITING_CHARS_MAX) this.#wait();
  }

  /** Waits for all that was given, and ends the lanes. */
  finish(): void {
    for (;;) {
      this.#collect();
      if (this.#head === this.#slots.length) break;
      this.#hooks.onWait?.();
      this.#lanes.wait();
    }
    for (const { lane } of this.#loads) lane.end();
  }

  #wait(): void {
    this.#lanes.wait();
    this.#collect();
  }

  #collect(): void {
    for (const load of this.#loads) {
      while (load.jobs.length > 0) {
        const result = load.lane.take();
        if (result === null) break;
        const { slot, job, bytes } = load.jobs.shift() as (typeof load.jobs)[number];
        if (job.kind === 'file') closeSync(job.fd);
        load.bytes -= bytes;
        slot.lines = result.lines;
        slot.isDone = true;
        this.#waitingChars += result.lines.length;
        this.#hooks.onResult(result);
      }
    }
    while (this.#slots[this.#head]?.isDone) {
      const { lines } = this.#slots[this.#head++] as Slot;
      this.#waitingChars -= lines.length;
      this.#hooks.onLines(lines);
    }
    if (this.#head === this.#slots.length) {
      this.#slots = [];
      this.#head = 0;
    }
  }
}
