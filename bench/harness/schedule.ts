/**
 * Which round runs next, and when there are enough.
 *
 * Rounds alternate: a sweep runs one round of every path of every group, so that the rounds of one
 * path are spread over the whole run and its neighbours saw the same machine. A group is done when
 * each of its paths has the wanted number of near rounds; until then all its paths go on. The clock,
 * the probe and the rounds are handed in: nothing here touches the machine.
 */
import { type Regime, type RegimeLimits, regimeOf } from './regime.js';

export interface Round<R> {
  readonly regime: Regime;
  readonly probeNs: readonly [before: number, after: number];
  readonly result: R;
}

/** One path of one group: what a row of the table is made of. */
export interface Cell<R> {
  readonly name: string;
  run(): Promise<R>;
}

export interface Machine {
  /** ns a hop between the two CPUs. */
  probe(): Promise<number>;
  /** Monotonic seconds. */
  now(): number;
  pause(ms: number): Promise<void>;
}

export interface ScheduleOptions {
  readonly limits: RegimeLimits;
  readonly nearRounds: number;
  /** The run gives up after so many seconds of rounds that did not count as near. */
  readonly lostSecondsMax: number;
  onRound?(cell: string, regime: Regime, progress: Progress): void;
}

export interface Progress {
  /** Since the start of the schedule. */
  readonly seconds: number;
  /** Near rounds done and wanted; what is done beyond what was wanted does not count. */
  readonly done: number;
  readonly wanted: number;
}

export interface Schedule<R> {
  readonly rounds: ReadonlyMap<Cell<R>, readonly Round<R>[]>;
  /** Cells that have fewer near rounds than wanted. */
  readonly inconclusive: readonly Cell<R>[];
}

/** How long to leave the CPUs alone when they are far and far rounds are no longer wanted. */
const FAR_PAUSE_MS = 100;

const count = (rounds: readonly Round<unknown>[], regime: Regime): number =>
  rounds.filter((r) => r.regime === regime).length;

export async function runSchedule<R>(
  groups: readonly (readonly Cell<R>[])[],
  machine: Machine,
  options: ScheduleOptions,
): Promise<Schedule<R>> {
  const { limits, nearRounds } = options;
  const start = machine.now();
  let lost = 0;
  const late = (): boolean => lost >= options.lostSecondsMax;
  const rounds = new Map<Cell<R>, Round<R>[]>(groups.flat().map((cell) => [cell, []]));
  const roundsOf = (cell: Cell<R>): Round<R>[] => rounds.get(cell) as Round<R>[];
  const wanting = (cell: Cell<R>): boolean => count(roundsOf(cell), 'near') < nearRounds;

  const cells = groups.flat();
  const progress = (): Progress => ({
    seconds: machine.now() - start,
    done: cells.reduce((n, c) => n + Math.min(nearRounds, count(roundsOf(c), 'near')), 0),
    wanted: cells.length * nearRounds,
  });

  let probeNs = await machine.probe();
  for (;;) {
    const open = groups.filter((group) => group.some(wanting));
    if (open.length === 0 || late()) break;
    for (const cell of open.flat()) {
      if (late()) break;
      const own = roundsOf(cell);
      const began = machine.now();
      const near = regimeOf(probeNs, probeNs, limits) === 'near';
      if (!near && count(own, 'far') >= nearRounds) {
        await machine.pause(FAR_PAUSE_MS);
        probeNs = await machine.probe();
        lost += machine.now() - began;
        continue;
      }
      // The probe after a round is the probe before the next: nothing lies between them.
      const before = probeNs;
      const result = await cell.run();
      probeNs = await machine.probe();
      const regime = regimeOf(before, probeNs, limits);
      own.push({ regime, probeNs: [before, probeNs], result });
      if (regime !== 'near') lost += machine.now() - began;
      options.onRound?.(cell.name, regime, progress());
    }
  }
  return { rounds, inconclusive: cells.filter(wanting) };
}
