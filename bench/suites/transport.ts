/**
 * Suite `transport`: bytes and round trips between two processes, STP against sockets and memcpy.
 *
 * Every path is two processes that live through the run. A round that verifies every byte comes
 * first and does not count; then rounds alternate as harness/schedule.ts says.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BENCH_STG, PrivateArray } from '../harness/array.js';
import type { CaseName } from '../harness/cases.js';
import { type CpuPair, chooseCpus } from '../harness/cpus.js';
import { runIdentity } from '../harness/identity.js';
import { IdlePath } from '../harness/idle-path.js';
import { LineProcess } from '../harness/line-process.js';
import { OtherLoad } from '../harness/load.js';
import { ManyPath } from '../harness/many-path.js';
import { buildPrograms, type Programs } from '../harness/native-programs.js';
import { NodePath, type NodePathOptions } from '../harness/node-path.js';
import type { BenchPath, RoundResult } from '../harness/path.js';
import { cpuSecondsOf } from '../harness/processes.js';
import type { RoundRequest } from '../harness/protocol.js';
import { NEAR_ROUNDS_MIN, type RegimeLimits } from '../harness/regime.js';
import { RingPath, RingProcesses } from '../harness/ring-path.js';
import { type Row, type RowRegime, type RunIdentity, rowOf } from '../harness/rows.js';
import { type Cell, type Progress, type Round, runSchedule } from '../harness/schedule.js';
import {
  BATCH,
  CONNECTIONS,
  IDLE_HOSTS,
  PATHS,
  type PathSpec,
  RATE_PER_SECOND,
  ROUND_SECONDS,
  SIZES,
  SMALL_BYTES,
  SOLO_ROUNDS,
  SOLO_SECONDS,
} from './transport-paths.js';

export const SUITE = 'transport';

const WARM_UP_SECONDS = 0.05;
const TINY_SECONDS = 0.003;
/** What a round takes besides its time: probe, start, end. For the estimate only. */
const AROUND_SECONDS = 0.12;
/** Larger messages overrun the time of a round by one of them. */
const SLOW_BYTES_MIN = 1 << 28;
const SLOW_SECONDS = 0.6;
/** For the estimate: 10,000 connections opened and closed; an idle path until it has settled. */
const MANY_SECONDS = 8;
const SETTLE_SECONDS = 22;
/** Connections of a process beside those of a case. */
const DESCRIPTORS_SPARE = 100;
const PROGRESS_PERIOD_SECONDS = 5;

export interface TransportOptions {
  readonly tiny: boolean;
  /** Which rows are wanted. */
  wants(name: CaseName, size: number, path: string): boolean;
  readonly rounds: number;
  /** Seconds that may be lost to rounds that are not near. */
  readonly secondsMax: number;
  readonly sizes: readonly number[];
  readonly cases: readonly CaseName[];
  readonly limits: RegimeLimits;
  readonly cpus?: CpuPair;
  /** A line for each round, not every few seconds. */
  readonly verbose: boolean;
  /** One line of progress or of what is so. */
  readonly log: (line: string) => void;
  /** Whatever must happen when the run ends, however it ends; last come, first served. */
  readonly atEnd: (task: () => Promise<void> | void) => void;
}

export interface TransportResult {
  readonly rows: readonly Row[];
  /** Paths and cases with too few near rounds for a verdict. */
  readonly inconclusive: readonly string[];
  /** Cores of the two that went to other processes during the rounds. */
  readonly otherCores?: number;
}

interface BenchCell extends Cell<RoundResult> {
  readonly spec: PathSpec;
  /** Of the row. */
  readonly size: number;
  readonly request: RoundRequest;
  readonly path: BenchPath;
}

export async function runTransport(options: TransportOptions): Promise<TransportResult> {
  const { tiny, log, atEnd } = options;
  const programs = buildPrograms();
  if (typeof programs === 'string') {
    if (!tiny) throw new Error(`without the C programs there is no probe: ${programs}`);
    log(`skipped: all memcpy paths: ${programs}`);
  }
  const pair = options.cpus ?? chooseCpus();
  if (pair === undefined && !tiny) throw new Error('the benchmark needs two CPUs');
  log(
    pair === undefined || typeof programs === 'string'
      ? 'processes may use any CPU'
      : `processes may use CPUs ${pair.join()} only; the probe and memcpy-2p have one side on each`,
  );

  const wanted = wantedCells(options, typeof programs === 'string');
  if (wanted.length === 0) throw new Error('no path has any of these cases and sizes');
  const directory = mkdtempSync(join(tmpdir(), 'stpd-bench-'));
  atEnd(() => rmSync(directory, { recursive: true, force: true }));
  const array = await startArray(wanted, directory, options);
  const others = pair === undefined ? undefined : new OtherLoad(pair);
  const make = pathMaker({ directory, array, pair, programs, tiny });
  const cells = await openCells(wanted, make, array, others, options);
  const groups = groupsOf(cells.filter((cell) => !isSolo(cell)));
  const solo = cells.filter(isSolo);
  log(estimateText(cells, options));

  const probe = await startProbe(programs, pair, options);
  for (const cell of groups.flat()) {
    await cell.path.round({ ...cell.request, verify: true, seconds: warmUpSeconds(tiny) });
  }
  log('warm-up done: every byte of every path compared');

  const limits = tiny ? ANY_IS_NEAR : options.limits;
  const nearRounds = tiny ? 1 : options.rounds;
  const schedule = await runSchedule<RoundResult>(
    groups,
    { probe, now: () => performance.now() / 1000, pause: sleep },
    { limits, nearRounds, lostSecondsMax: options.secondsMax, onRound: progressLog(options) },
  );
  const alternating = groups.flat();
  await Promise.all([...new Set(alternating.map((cell) => cell.path))].map((p) => p.close()));
  const soloRounds = await runSolo(solo, probe, options);

  const run = runIdentity();
  const rows = [
    ...alternating.flatMap((cell) => rowsOf(cell, schedule.rounds.get(cell), tiny, run)),
    ...solo.flatMap((cell) => soloRowOf(cell, soloRounds.get(cell), tiny, run)),
  ];
  const few = alternating.filter((cell) => nearCount(schedule.rounds.get(cell)) < NEAR_ROUNDS_MIN);
  return {
    rows,
    inconclusive: tiny ? [] : few.map((cell) => cell.name),
    ...(others !== undefined && { otherCores: others.cores }),
  };
}

// --- what is measured ---------------------------------------------------------------------------

interface WantedCell {
  readonly spec: PathSpec;
  readonly name: CaseName;
  readonly size: number;
}

const isSolo = (cell: { request: RoundRequest }): boolean =>
  SOLO_ROUNDS[cell.request.case] !== undefined;

/** In the order of the rows: cases, sizes, paths. */
function wantedCells(options: TransportOptions, noPrograms: boolean): WantedCell[] {
  const { cases, sizes, wants, tiny, log } = options;
  const all = cases.flatMap((name) =>
    (name === 'stream' ? sizes : SIZES[name]).flatMap((size) =>
      PATHS.filter(({ cases: has, sizeMax = size }) => has.includes(name) && size <= sizeMax)
        .filter(({ kind }) => !(noPrograms && 'ring' in kind))
        .map((spec) => ({ spec, name, size })),
    ),
  );
  return all.filter(({ spec, name, size }) => {
    if (!wants(name, size, spec.name)) return false;
    const needed = name === 'connections' ? connectionsOf(name, tiny) + DESCRIPTORS_SPARE : 0;
    if (descriptorsMax() >= needed || spec.name.startsWith('stp-')) return true;
    log(
      `skipped: ${name} ${spec.name}: a process may open ${descriptorsMax()} files, not ${needed}`,
    );
    return false;
  });
}

const connectionsOf = (name: CaseName, tiny: boolean): number =>
  CONNECTIONS[name]?.[tiny ? 'tiny' : 'full'] ?? 0;

/** The hard limit: Node raises its soft limit to it. */
function descriptorsMax(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const hard = /^Max open files +\S+ +(\S+)/m.exec(limits)?.[1] ?? '0';
  return hard === 'unlimited' ? Number.POSITIVE_INFINITY : Number(hard);
}

function groupsOf(cells: readonly BenchCell[]): BenchCell[][] {
  const groups = new Map<string, BenchCell[]>();
  for (const cell of cells) {
    const key = `${cell.request.case} ${cell.size}`;
    groups.set(key, [...(groups.get(key) ?? []), cell]);
  }
  return [...groups.values()];
}

const roundSeconds = (size: number): number =>
  AROUND_SECONDS + (size >= SLOW_BYTES_MIN ? SLOW_SECONDS : ROUND_SECONDS);

function estimateText(cells: readonly BenchCell[], { tiny, rounds }: TransportOptions): string {
  const paths = new Set(cells.map((cell) => cell.spec.name)).size;
  const rowsText = `${cells.length} rows of ${paths} paths`;
  if (tiny) return rowsText;
  let seconds = 0;
  for (const { request } of cells) {
    const solo = SOLO_ROUNDS[request.case];
    if (solo === undefined) seconds += rounds * roundSeconds(request.size);
    else if (request.case === 'connections') seconds += solo * MANY_SECONDS;
    else seconds += SETTLE_SECONDS + solo * SOLO_SECONDS;
  }
  const minutes = (seconds / 60).toFixed(0);
  return `${rowsText}, ${rounds} near rounds each: about ${minutes} min on a quiet, near machine`;
}

/** A line a round, or one every few seconds. */
function progressLog({ log, verbose }: TransportOptions) {
  const counts = { near: 0, far: 0, discarded: 0 };
  let next = 0;
  return (cell: string, regime: keyof typeof counts, { seconds, done, wanted }: Progress): void => {
    counts[regime] += 1;
    if (!verbose && seconds < next && done < wanted) return;
    next = seconds + PROGRESS_PERIOD_SECONDS;
    const share = `${Math.floor((100 * done) / wanted)} %`;
    const left = done === 0 ? '?' : (((seconds / done) * (wanted - done)) / 60).toFixed(1);
    const rounds = `${counts.near} near, ${counts.far} far, ${counts.discarded} discarded`;
    log(`${seconds.toFixed(1)} s  ${share}  ${cell}  ${regime}  (${rounds}; ${left} min left)`);
  };
}

/** In a tiny run there is no regime: every round counts. */
const ANY_IS_NEAR: RegimeLimits = {
  nearNs: Number.POSITIVE_INFINITY,
  farNs: Number.POSITIVE_INFINITY,
};

const warmUpSeconds = (tiny: boolean): number => (tiny ? TINY_SECONDS : WARM_UP_SECONDS);

const nearCount = (rounds: readonly Round<RoundResult>[] = []): number =>
  rounds.filter((r) => r.regime === 'near').length;

async function startArray(
  wanted: readonly WantedCell[],
  directory: string,
  { atEnd, log }: TransportOptions,
): Promise<PrivateArray | undefined> {
  if (!wanted.some(({ spec: { kind } }) => 'array' in kind && kind.array)) return undefined;
  const runDirectory = join(directory, 'run');
  mkdirSync(runDirectory, { mode: 0o700 });
  const array = new PrivateArray(runDirectory);
  atEnd(() => array.stop());
  await array.start();
  log(`private array: ${runDirectory}`);
  return array;
}

interface Surroundings {
  readonly directory: string;
  readonly array: PrivateArray | undefined;
  readonly pair: CpuPair | undefined;
  readonly programs: Programs | string;
  readonly tiny: boolean;
}

/** Solo cases have processes of their own; else a path's serve all its cases and sizes. */
function pathMaker(around: Surroundings): (spec: PathSpec, name: CaseName) => BenchPath {
  const { directory, array, pair, programs, tiny } = around;
  const made = new Map<string, BenchPath>();
  const runner =
    pair === undefined || typeof programs === 'string' ? [] : [programs.on_cpus, pair.join()];
  const open = {
    directory,
    stg: BENCH_STG,
    ...(array !== undefined && { runDirectory: array.runDirectory }),
  };
  let ring: RingProcesses | undefined;
  const make = ({ name, kind }: PathSpec, of: CaseName): BenchPath => {
    if ('ring' in kind) {
      if (typeof programs === 'string') throw new Error(programs);
      ring ??= new RingProcesses(programs.memcpy_2p, pair?.map(String) ?? []);
      return new RingPath(ring, kind.ring);
    }
    const options: NodePathOptions = { name, ...kind, runner, open };
    if (of === 'connections') return new ManyPath(options, kind.array ? array : undefined);
    if (of === 'idle') {
      if (array === undefined) throw new Error('idle hosts need an array');
      const hosts = tiny ? IDLE_HOSTS.tiny : IDLE_HOSTS.full;
      const connections = connectionsOf(of, tiny);
      return new IdlePath({ hosts, connections, tiny, runner, open, array });
    }
    return new NodePath(options);
  };
  return (spec, name) => {
    const { kind } = spec;
    let key = SOLO_ROUNDS[name] === undefined ? spec.name : `${spec.name} ${name}`;
    if ('module' in kind && kind.shared === true) key = kind.module;
    const path = made.get(key) ?? make(spec, name);
    made.set(key, path);
    return path;
  };
}

async function openCells(
  wanted: readonly WantedCell[],
  make: (spec: PathSpec, name: CaseName) => BenchPath,
  array: PrivateArray | undefined,
  others: OtherLoad | undefined,
  { tiny, atEnd }: TransportOptions,
): Promise<BenchCell[]> {
  const opened = new Set<BenchPath>();
  const cells: BenchCell[] = [];
  for (const { spec, name, size } of wanted) {
    const path = make(spec, name);
    opened.add(path);
    const solo = SOLO_ROUNDS[name] !== undefined;
    const request: RoundRequest = {
      case: name,
      variant: spec.name,
      size: Math.max(size, SMALL_BYTES),
      batch: name === 'message-rate-batch' ? BATCH : 1,
      seconds: tiny ? TINY_SECONDS : solo ? SOLO_SECONDS : ROUND_SECONDS,
      verify: false,
      ratePerSecond: RATE_PER_SECOND,
      connections: connectionsOf(name, tiny),
    };
    const usesArray = 'array' in spec.kind && spec.kind.array && name !== 'idle';
    const measured = (): Promise<RoundResult> =>
      usesArray && array !== undefined
        ? withStpd(array.pid, () => path.round(request))
        : path.round(request);
    // The echoing process of `neighbour` is in nobody's report, and opening is not what is measured.
    const watched = name === 'neighbour' || solo ? undefined : others;
    cells.push({
      name: `${name} ${size} ${spec.name}`,
      spec,
      size,
      path,
      request,
      run: () => watched?.watch(measured) ?? measured(),
    });
  }
  for (const path of opened) atEnd(() => path.close());
  await Promise.all([...opened].map((path) => path.open()));
  return cells;
}

async function withStpd(pid: number, round: () => Promise<RoundResult>): Promise<RoundResult> {
  const cpu = cpuSecondsOf([pid]);
  const result = await round();
  return { ...result, stpdCpuSeconds: cpuSecondsOf([pid]) - cpu };
}

/** One after another, each with a probe before it: for the record, it decides nothing. */
async function runSolo(
  cells: readonly BenchCell[],
  probe: () => Promise<number>,
  { tiny, log, limits }: TransportOptions,
): Promise<Map<BenchCell, Round<RoundResult>[]>> {
  const all = new Map<BenchCell, Round<RoundResult>[]>();
  for (const cell of cells) {
    const rounds: Round<RoundResult>[] = [];
    const wanted = tiny ? 1 : (SOLO_ROUNDS[cell.request.case] ?? 1);
    log(`${cell.name}: ${wanted} times`);
    while (rounds.length < wanted) {
      const ns = await probe();
      const regime = ns > limits.farNs ? 'far' : 'near';
      rounds.push({ regime, probeNs: [ns, ns], result: await cell.run() });
    }
    await cell.path.close();
    all.set(cell, rounds);
  }
  return all;
}

async function startProbe(
  programs: Programs | string,
  pair: CpuPair | undefined,
  { atEnd }: TransportOptions,
): Promise<() => Promise<number>> {
  if (typeof programs === 'string') return async () => Number.NaN;
  const process = new LineProcess(programs.spin_probe, ['serve', ...(pair?.map(String) ?? [])]);
  atEnd(() => process.close());
  return async () => (await process.ask<{ nsPerHop: number }>('')).nsPerHop;
}

const identityOf = ({ spec, size, request: { case: name, connections } }: BenchCell) => ({
  suite: SUITE,
  case: name,
  path: spec.name,
  size,
  ...(name === 'ping-pong-rate' && { offered: RATE_PER_SECOND }),
  ...(connections > 0 && { connections }),
});

function rowsOf(
  cell: BenchCell,
  rounds: readonly Round<RoundResult>[] = [],
  tiny: boolean,
  run: RunIdentity,
): Row[] {
  if (tiny) return [rowOf(identityOf(cell), 'none', rounds, run)];
  return (['near', 'far'] satisfies RowRegime[]).flatMap((regime) => {
    const own = rounds.filter((r) => r.regime === regime);
    return own.length === 0 ? [] : [rowOf(identityOf(cell), regime, own, run)];
  });
}

/** One row, whatever the probes said: far only if most were. */
function soloRowOf(
  cell: BenchCell,
  rounds: readonly Round<RoundResult>[] = [],
  tiny: boolean,
  run: RunIdentity,
): Row[] {
  if (rounds.length === 0) return [];
  const far = rounds.filter((r) => r.regime === 'far').length > rounds.length / 2;
  return [rowOf(identityOf(cell), tiny ? 'none' : far ? 'far' : 'near', rounds, run)];
}
