/**
 * Suite `transport`: bytes and round trips between two processes, STP against sockets and memcpy.
 *
 * Every path is two processes that live through the run. A round that verifies every byte comes
 * first and does not count; then rounds alternate as harness/schedule.ts says.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus as cpuList, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BENCH_STG, PrivateArray } from '../harness/array.js';
import type { Content } from '../harness/content.js';
import { type CpuPair, chooseCpus } from '../harness/cpus.js';
import { LineProcess } from '../harness/line-process.js';
import { OtherLoad } from '../harness/load.js';
import { buildPrograms, type Programs, ROOT } from '../harness/native-programs.js';
import { NodePath } from '../harness/node-path.js';
import type { BenchPath, RoundResult } from '../harness/path.js';
import type { CaseName, RoundRequest } from '../harness/protocol.js';
import { NEAR_ROUNDS_MIN, type RegimeLimits } from '../harness/regime.js';
import { type RingMode, RingPath, RingProcesses } from '../harness/ring-path.js';
import { type Row, type RowRegime, type RunIdentity, rowOf } from '../harness/rows.js';
import { type Cell, type Round, runSchedule } from '../harness/schedule.js';

export const SUITE = 'transport';

interface PathSpec {
  readonly name: string;
  readonly cases: readonly CaseName[];
  readonly kind:
    | { readonly ring: RingMode }
    | { readonly module: string; readonly content: Content; readonly array: boolean };
  /** Largest message, where the path's own rules set one. */
  readonly sizeMax?: number;
}

const ZERO_COPY_BYTES_MAX = 1 << 20;

const SOCKET_CASES: readonly CaseName[] = ['stream', 'ping-pong', 'ping-pong-rate'];

export const PATHS: readonly PathSpec[] = [
  {
    name: 'stp-zero-copy',
    cases: ['stream'],
    kind: { module: 'stp-zero-copy', content: 'filled', array: true },
    sizeMax: ZERO_COPY_BYTES_MAX,
  },
  {
    name: 'stp-copy',
    cases: ['stream', 'ping-pong-spin'],
    kind: { module: 'stp-copy', content: 'copied', array: true },
  },
  {
    name: 'stp-duplex',
    cases: SOCKET_CASES,
    kind: { module: 'stp-duplex', content: 'copied', array: true },
  },
  {
    name: 'tcp',
    cases: SOCKET_CASES,
    kind: { module: 'tcp', content: 'copied', array: false },
  },
  {
    name: 'unix',
    cases: SOCKET_CASES,
    kind: { module: 'unix', content: 'copied', array: false },
  },
  { name: 'memcpy', cases: ['stream'], kind: { ring: 'memcpy' } },
  { name: 'memcpy-2p', cases: ['stream', 'ping-pong-spin'], kind: { ring: 'copy' } },
  {
    name: 'memcpy-2p-sum',
    cases: ['stream'],
    kind: { ring: 'sum' },
    sizeMax: ZERO_COPY_BYTES_MAX,
  },
];

export const CASES: readonly CaseName[] = [
  'stream',
  'ping-pong',
  'ping-pong-rate',
  'ping-pong-spin',
];
export const STREAM_SIZES_DEFAULT: readonly number[] = [64, 4096, 65536, 1048576];
/** Latencies are those of a small message. */
const PING_PONG_SIZES: readonly number[] = [64];
/** `ping-pong-rate`: far below what any path can do, far above what a person notices. */
const RATE_PER_SECOND = 1000;

/** Rounds last at most half a second; shorter ones straddle fewer flips of the machine. */
const ROUND_SECONDS = 0.25;
const WARM_UP_SECONDS = 0.05;
const TINY_SECONDS = 0.003;

export interface TransportOptions {
  readonly tiny: boolean;
  readonly rounds: number;
  readonly secondsMax: number;
  readonly sizes: readonly number[];
  readonly cases: readonly CaseName[];
  readonly paths: readonly string[];
  readonly limits: RegimeLimits;
  readonly cpus?: CpuPair;
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

  const specs = wantedPaths(options, typeof programs === 'string');
  const directory = mkdtempSync(join(tmpdir(), 'stpd-bench-'));
  atEnd(() => rmSync(directory, { recursive: true, force: true }));
  const array = await startArray(specs, directory, options);
  const make = pathMaker(directory, array?.runDirectory, pair, programs);
  const others = pair === undefined ? undefined : new OtherLoad(pair);
  const groups = await openGroups(specs, make, others, options);

  const probe = await startProbe(programs, pair, options);
  for (const cell of groups.flat()) {
    await cell.path.round({ ...cell.request, verify: true, seconds: warmUpSeconds(tiny) });
  }
  log('warm-up done: every byte of every path compared');

  const schedule = await runSchedule<RoundResult>(
    groups,
    { probe, now: () => performance.now() / 1000, pause: sleep },
    {
      limits: tiny ? ANY_IS_NEAR : options.limits,
      nearRounds: tiny ? 1 : options.rounds,
      secondsMax: options.secondsMax,
      onRound: (name, regime, seconds) => log(`${seconds.toFixed(1)} s  ${name}  ${regime}`),
    },
  );
  const run = runIdentity();
  const rows = groups.flat().flatMap((cell) => rowsOf(cell, schedule.rounds.get(cell), tiny, run));
  const few = groups
    .flat()
    .filter((cell) => nearCount(schedule.rounds.get(cell)) < NEAR_ROUNDS_MIN);
  return {
    rows,
    inconclusive: tiny ? [] : few.map((cell) => cell.name),
    ...(others !== undefined && { otherCores: others.cores }),
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

const wantedPaths = ({ paths }: TransportOptions, noPrograms: boolean): PathSpec[] =>
  PATHS.filter(
    ({ name, kind }) =>
      (paths.length === 0 || paths.includes(name)) && !(noPrograms && 'ring' in kind),
  );

async function startArray(
  specs: readonly PathSpec[],
  directory: string,
  { atEnd, log }: TransportOptions,
): Promise<PrivateArray | undefined> {
  if (!specs.some(({ kind }) => 'array' in kind && kind.array)) return undefined;
  const runDirectory = join(directory, 'run');
  mkdirSync(runDirectory, { mode: 0o700 });
  const array = new PrivateArray(runDirectory);
  atEnd(() => array.stop());
  await array.start();
  log(`private array: ${runDirectory}`);
  return array;
}

function pathMaker(
  directory: string,
  runDirectory: string | undefined,
  pair: CpuPair | undefined,
  programs: Programs | string,
): (spec: PathSpec) => BenchPath {
  const pinnedTo = pair?.map(String) ?? [];
  let ring: RingProcesses | undefined;
  return ({ name, kind }) => {
    if ('ring' in kind) {
      if (typeof programs === 'string') throw new Error(programs);
      ring ??= new RingProcesses(programs.memcpy_2p, pinnedTo);
      return new RingPath(ring, kind.ring);
    }
    return new NodePath({
      name,
      module: kind.module,
      content: kind.content,
      runner:
        pair === undefined || typeof programs === 'string' ? [] : [programs.on_cpus, pair.join()],
      open: { directory, stg: BENCH_STG, ...(runDirectory !== undefined && { runDirectory }) },
    });
  };
}

/** One group for each case and size, with the paths that have it; each path opened once. */
async function openGroups(
  specs: readonly PathSpec[],
  make: (spec: PathSpec) => BenchPath,
  others: OtherLoad | undefined,
  { cases, sizes, tiny, atEnd, log }: TransportOptions,
): Promise<BenchCell[][]> {
  const opened = new Map<PathSpec, BenchPath>();
  for (const spec of specs) {
    if (!spec.cases.some((name) => cases.includes(name))) continue;
    const path = make(spec);
    atEnd(() => path.close());
    await path.open();
    opened.set(spec, path);
  }
  log(`paths: ${[...opened.keys()].map((s) => s.name).join(', ')}`);
  const groups: BenchCell[][] = [];
  for (const name of cases) {
    for (const size of name === 'stream' ? sizes : PING_PONG_SIZES) {
      const cells: BenchCell[] = [];
      for (const [spec, path] of opened) {
        if (!spec.cases.includes(name) || size > (spec.sizeMax ?? size)) continue;
        const request: RoundRequest = {
          case: name,
          size,
          seconds: tiny ? TINY_SECONDS : ROUND_SECONDS,
          verify: false,
          ratePerSecond: RATE_PER_SECOND,
        };
        cells.push({
          name: `${name} ${size} ${spec.name}`,
          spec,
          path,
          request,
          run: () => others?.watch(() => path.round(request)) ?? path.round(request),
        });
      }
      if (cells.length > 0) groups.push(cells);
    }
  }
  return groups;
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

function rowsOf(
  { spec, request }: BenchCell,
  rounds: readonly Round<RoundResult>[] = [],
  tiny: boolean,
  run: RunIdentity,
): Row[] {
  const { case: name, size } = request;
  const identity = {
    suite: SUITE,
    case: name,
    path: spec.name,
    size,
    ...(name === 'ping-pong-rate' && { offered: RATE_PER_SECOND }),
  };
  if (tiny) return [rowOf(identity, 'none', rounds, run)];
  return (['near', 'far'] satisfies RowRegime[]).flatMap((regime) => {
    const own = rounds.filter((r) => r.regime === regime);
    return own.length === 0 ? [] : [rowOf(identity, regime, own, run)];
  });
}

function runIdentity(): RunIdentity {
  const git = (...args: string[]): string => {
    const { status, stdout } = spawnSync('git', ['-C', ROOT, ...args], { encoding: 'utf8' });
    return status === 0 ? stdout.trim() : '';
  };
  const commit = git('rev-parse', '--short=12', 'HEAD') || 'unknown';
  const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
  return {
    node: process.version,
    commit: changed ? `${commit}-changed` : commit,
    cpu: cpuList()[0]?.model.trim() ?? 'unknown',
  };
}
