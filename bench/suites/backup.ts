/**
 * Suite `backup`: whole backups of real trees, as people run them, and the same trees with what they
 * would run instead; the rounds of a case alternate. One directory, on a tmpfs if it can be had, holds the trees,
 * the library and everybody else's copies: no disk decides.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupHouse } from '../backup/house.js';
import { type BackupPath, rivalPaths, stpbackupPath } from '../backup/paths.js';
import { startPostgresql } from '../backup/postgresql.js';
import { makeTree, type TreeFacts, type TreePlan } from '../backup/trees.js';
import type { BackupCase } from '../harness/cases.js';
import { chooseCpus } from '../harness/cpus.js';
import { runIdentity } from '../harness/identity.js';
import { LineProcess } from '../harness/line-process.js';
import { buildPrograms } from '../harness/native-programs.js';
import type { RoundResult } from '../harness/path.js';
import { NEAR_ROUNDS_MIN, REGIME_LIMITS } from '../harness/regime.js';
import { type Row, type RowRegime, rowOf } from '../harness/rows.js';
import { type Cell, type Machine, type Round, runSchedule } from '../harness/schedule.js';

export const BACKUP_SUITE = 'backup';
const TMPFS_MAGIC = 0x01021994;
/** Of trees: what a run needs beside them is as much again. */
const ROOM_FACTOR = 3;

type TreeCase = Exclude<BackupCase, 'postgresql'>;

/** The sizes that the bars speak of. */
const PLANS: Readonly<Record<TreeCase, TreePlan>> = {
  'many-small': { files: 46_700, meanBytes: 15_000 },
  'few-large': { files: 4, meanBytes: 512 << 20, even: true },
  unchanged: { files: 200_000, meanBytes: 256 },
};
const TINY_PLANS: typeof PLANS = {
  'many-small': { files: 100, meanBytes: 2000 },
  'few-large': { files: 2, meanBytes: 1 << 20, even: true },
  unchanged: { files: 100, meanBytes: 256 },
};

export interface BackupOptions {
  readonly tiny: boolean;
  readonly rounds: number;
  readonly cases: readonly BackupCase[];
  readonly paths: readonly string[];
  readonly seed: number;
  readonly secondsMax: number;
  /** Where everything lies; a directory is made in it, and removed. */
  readonly directory?: string;
  log(line: string): void;
  atEnd(task: () => Promise<void> | void): void;
}

interface BackupCell extends Cell<RoundResult> {
  readonly case: BackupCase;
  readonly path: string;
  readonly size: number;
}

export interface BackupRun {
  readonly rows: Row[];
  readonly inconclusive: string[];
}

export async function runBackup(options: BackupOptions): Promise<BackupRun> {
  const { tiny, log, atEnd } = options;
  const cases = options.cases.filter((name): name is TreeCase => name !== 'postgresql');
  const directory = workDirectory(options, cases);
  const trees = makeTrees(directory, cases, options);
  const house = new BackupHouse(
    directory,
    [...trees.values()].map(({ path }) => path),
  );
  atEnd(() => house.stop());
  await house.start();
  const cells = await cellsOf([stpbackupPath(house), ...rivalPaths(directory)], trees, options);
  if (options.cases.includes('postgresql')) {
    cells.push(...(await postgresqlCells(directory, house, options)));
  }
  const machine = await machineOf(options);
  log(`${cells.length} rows, ${tiny ? 1 : options.rounds} rounds each`);
  const any = { nearNs: Number.POSITIVE_INFINITY, farNs: Number.POSITIVE_INFINITY };
  const rounds = new Map<Cell<RoundResult>, readonly Round<RoundResult>[]>();
  // A case at a time: memory that one path gave back is what the next one writes to. Else the kernel
  // has handed it to the hypervisor meanwhile, and whoever comes first pays for having it back.
  for (const name of options.cases) {
    const schedule = await runSchedule([cells.filter((cell) => cell.case === name)], machine, {
      limits: tiny ? any : REGIME_LIMITS,
      nearRounds: tiny ? 1 : options.rounds,
      lostSecondsMax: options.secondsMax,
      onRound: (cell, regime, { seconds, done, wanted }) =>
        log(`${seconds.toFixed(0)} s  ${Math.floor((100 * done) / wanted)} %  ${cell}  ${regime}`),
    });
    for (const [cell, own] of schedule.rounds) rounds.set(cell, own);
  }
  const identity = runIdentity();
  const rows = cells.flatMap((cell) =>
    (tiny ? (['none'] as const) : (['near', 'far'] as const)).flatMap((regime: RowRegime) => {
      const own = (rounds.get(cell) ?? []).filter(
        (round) => regime === 'none' || round.regime === regime,
      );
      const row = { suite: BACKUP_SUITE, case: cell.case, path: cell.path, size: cell.size };
      return own.length === 0 ? [] : [rowOf(row, regime, own, identity)];
    }),
  );
  const few = rows.filter((row) => row.regime === 'near' && row.rounds < NEAR_ROUNDS_MIN);
  return { rows, inconclusive: tiny ? [] : few.map((row) => `${row.case} ${row.path}`) };
}

/** @throws where there is no room */
function workDirectory(options: BackupOptions, cases: readonly TreeCase[]): string {
  const base = options.directory ?? (options.tiny ? tmpdir() : '/dev/shm');
  const { type, bavail, bsize } = statfsSync(base);
  const plans = options.tiny ? TINY_PLANS : PLANS;
  const needed = cases.reduce((n, c) => n + plans[c].files * plans[c].meanBytes, 0) * ROOM_FACTOR;
  if (bavail * bsize < needed) {
    const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
    throw new Error(
      `${base} has ${gib(bavail * bsize)} free of ${gib(needed)}; choose another: --directory`,
    );
  }
  if (type !== TMPFS_MAGIC && !options.tiny) options.log(`${base} is no tmpfs: its disk decides`);
  const directory = mkdtempSync(join(base, 'stpd-bench-'));
  options.atEnd(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function makeTrees(
  directory: string,
  cases: readonly TreeCase[],
  { tiny, seed, log }: BackupOptions,
): Map<TreeCase, TreeFacts> {
  mkdirSync(join(directory, 'trees'));
  const trees = new Map<TreeCase, TreeFacts>();
  for (const name of cases) {
    const tree = makeTree(join(directory, 'trees', name), (tiny ? TINY_PLANS : PLANS)[name], seed);
    log(`${name}: ${tree.files} files, ${(tree.bytes / 1e6).toFixed(1)} MB, seed ${seed}`);
    trees.set(name, tree);
  }
  return trees;
}

const isThere = (program: string): boolean =>
  spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;

/** Cells of the cases that were asked for; what a path needs before its rounds is done. */
async function cellsOf(
  paths: readonly BackupPath[],
  trees: ReadonlyMap<TreeCase, TreeFacts>,
  { paths: wanted, log }: BackupOptions,
): Promise<BackupCell[]> {
  const cells: BackupCell[] = [];
  for (const [name, tree] of trees) {
    for (const path of paths) {
      if (!path.cases.includes(name)) continue;
      if (wanted.length > 0 && !wanted.includes(path.name)) continue;
      if (path.needs !== undefined && !isThere(path.needs)) {
        log(`skipped: ${name} ${path.name}: no ${path.needs} here (Debian: ${path.needs})`);
        continue;
      }
      if (name === 'unchanged') await path.prepare?.(tree);
      cells.push({
        name: `${name} ${path.name}`,
        case: name,
        path: path.name,
        size: tree.bytes,
        run: () => path.round(name, tree),
      });
    }
  }
  return cells;
}

async function postgresqlCells(
  directory: string,
  house: BackupHouse,
  options: BackupOptions,
): Promise<BackupCell[]> {
  const bench = await startPostgresql(directory, house, options);
  if (typeof bench === 'string') {
    options.log(`skipped: postgresql: ${bench}`);
    return [];
  }
  return bench.paths
    .filter(({ name }) => options.paths.length === 0 || options.paths.includes(name))
    .map((path) => ({
      name: `postgresql ${path.name}`,
      case: 'postgresql',
      path: path.name,
      size: bench.bytes,
      run: () => path.round(),
    }));
}

/** The probe stands beside rounds of seconds: for the record, and far rounds are kept apart. */
async function machineOf({ tiny, log, atEnd }: BackupOptions): Promise<Machine> {
  const programs = tiny ? 'a tiny run has no probe' : buildPrograms();
  const pair = chooseCpus();
  const now = (): number => performance.now() / 1000;
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  if (typeof programs === 'string' || pair === undefined) {
    log(typeof programs === 'string' ? programs : 'one CPU: no probe');
    return { now, pause, probe: async () => 0 };
  }
  const process = new LineProcess(programs.spin_probe, ['serve', ...pair.map(String)]);
  atEnd(() => process.close());
  return { now, pause, probe: async () => (await process.ask<{ nsPerHop: number }>('')).nsPerHop };
}
