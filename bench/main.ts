/**
 * `npm run bench -- SUITE`: command line, clean-up and exit code of the benchmark.
 *
 * Exit codes: 0 measured; 1 a path failed or delivered other bytes; 2 wrong usage; 75 inconclusive
 * (too few near rounds in the time given: neither good nor bad); 130 and 143 after SIGINT, SIGTERM.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { isNeeded } from './bars.js';
import { backupTable } from './harness/backup-table.js';
import { BACKUP_CASES, type BackupCase, CASES, type CaseName } from './harness/cases.js';
import { chartFile, chartOf } from './harness/chart.js';
import { isSize } from './harness/content.js';
import type { CpuPair } from './harness/cpus.js';
import { runIdentity } from './harness/identity.js';
import { OTHER_CORES_MAX } from './harness/load.js';
import { NEAR_ROUNDS_MIN, REGIME_LIMITS } from './harness/regime.js';
import type { Row } from './harness/rows.js';
import { groupRows, numberText, ratioTable, textTable } from './harness/table.js';
import { runBackup } from './suites/backup.js';
import { runMicro } from './suites/micro.js';
import { runTransport } from './suites/transport.js';
import { PATHS, STREAM_SIZES, STREAM_SIZES_TINY } from './suites/transport-paths.js';

const EXIT_INCONCLUSIVE = 75;

interface Flags {
  json?: string;
  tiny?: true;
  rounds: number;
  size: readonly number[];
  path: string[];
  case: CaseName[];
  quick?: true;
  verbose?: true;
  secondsMax: number;
  nearNs: number;
  farNs: number;
  cpus?: CpuPair;
}

/** Tasks for the end of the run; the last come runs first, and none keeps another from running. */
class AtEnd {
  private readonly tasks: (() => Promise<void> | void)[] = [];

  add(task: () => Promise<void> | void): void {
    this.tasks.push(task);
  }

  async run(): Promise<void> {
    for (let task = this.tasks.pop(); task !== undefined; task = this.tasks.pop()) {
      try {
        await task();
      } catch (e) {
        process.stderr.write(`bench: while ending: ${e instanceof Error ? e.message : e}\n`);
        process.exitCode = 1;
      }
    }
  }
}

const positive = (text: string): number => {
  const n = Number(text);
  if (!(n > 0)) throw new InvalidArgumentError('a number above 0 is needed.');
  return n;
};

const wholePositive = (text: string): number => {
  const n = positive(text);
  if (!Number.isInteger(n)) throw new InvalidArgumentError('a whole number is needed.');
  return n;
};

const sizes = (text: string, before: number[] = []): number[] => {
  const n = Number(text);
  if (!isSize(n)) {
    throw new InvalidArgumentError('a size is a power of two from 64 to 268435456 bytes.');
  }
  return [...before, n];
};

const cpuPair = (text: string): CpuPair => {
  const [a, b, ...more] = text.split(',').map(Number);
  if (!Number.isInteger(a) || !Number.isInteger(b) || more.length > 0) {
    throw new InvalidArgumentError('two CPU numbers are needed, as in 0,1.');
  }
  return [a as number, b as number];
};

/** What is known of the two regimes, below the tables. */
function summaryOf(rows: readonly Row[]): string {
  const probes = (['near', 'far'] as const).flatMap((regime) => {
    const ns = rows.flatMap((r) => (r.regime === regime ? (r.probe_ns ?? []) : []));
    if (ns.length === 0) return [];
    const range = `${numberText(Math.min(...ns))}..${numberText(Math.max(...ns))}`;
    return `${regime} rounds: probe ${range} ns a hop (median of each row)`;
  });
  const bytes = rows.reduce((n, r) => n + r.bytes, 0);
  const digest = createHash('sha256').update(rows.map((r) => r.digest).join(' '));
  const work =
    `work: ${(bytes / 1e9).toFixed(2)} GB arrived, the digest of every round equal on both sides; ` +
    `of all rows together ${digest.digest('hex').slice(0, 16)}`;
  return [...probes, work].join('\n');
}

const loadText = (cores: number): string =>
  `other processes used ${cores.toFixed(2)} cores of the two during the rounds${
    cores > OTHER_CORES_MAX ? ': DISTURBED, measure again on a quiet machine' : ''
  }`;

async function transport(flags: Flags, atEnd: AtEnd): Promise<number> {
  const progress = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  const { rows, inconclusive, otherCores } = await runTransport({
    tiny: flags.tiny === true,
    rounds: flags.rounds,
    secondsMax: flags.secondsMax,
    sizes: flags.size,
    cases: CASES.filter((name) => flags.case.includes(name)),
    wants: (name, size, path) =>
      (flags.path.length === 0 || flags.path.includes(path)) &&
      (flags.quick === undefined || isNeeded(name, size, path)),
    verbose: flags.verbose === true,
    limits: { nearNs: flags.nearNs, farNs: flags.farNs },
    ...(flags.cpus !== undefined && { cpus: flags.cpus }),
    log: progress,
    atEnd: (task) => atEnd.add(task),
  });
  const groups = groupRows(rows);
  for (const group of groups) process.stdout.write(`${textTable(group)}\n\n`);
  for (const regime of ['none', 'near', 'far'] as const) {
    const table = ratioTable(groups, regime);
    if (table !== undefined) process.stdout.write(`${table}\n\n`);
  }
  process.stdout.write(`${summaryOf(rows)}\n`);
  if (otherCores !== undefined) process.stdout.write(`${loadText(otherCores)}\n`);
  if (flags.json !== undefined) {
    writeFileSync(flags.json, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    for (const theme of ['light', 'dark'] as const) {
      const chart = chartOf(rows, theme);
      if (chart !== undefined) writeFileSync(chartFile(flags.json, theme), chart);
    }
  }
  if (inconclusive.length === 0) return 0;
  process.stdout.write(
    `inconclusive: fewer than ${NEAR_ROUNDS_MIN} near rounds: ${inconclusive.join('; ')}\n`,
  );
  return EXIT_INCONCLUSIVE;
}

interface BackupFlags {
  json?: string;
  tiny?: true;
  rounds: number;
  case: BackupCase[];
  path: string[];
  seed: number;
  secondsMax: number;
  directory?: string;
}

async function backup(flags: BackupFlags, atEnd: AtEnd): Promise<number> {
  const { rows, inconclusive } = await runBackup({
    tiny: flags.tiny === true,
    rounds: flags.rounds,
    cases: flags.case,
    paths: flags.path,
    seed: flags.seed,
    secondsMax: flags.secondsMax,
    ...(flags.directory !== undefined && { directory: flags.directory }),
    log: (line) => void process.stderr.write(`${line}\n`),
    atEnd: (task) => atEnd.add(task),
  });
  process.stdout.write(`${backupTable(rows)}\n`);
  if (flags.json !== undefined) {
    writeFileSync(flags.json, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  }
  if (inconclusive.length === 0) return 0;
  process.stdout.write(
    `inconclusive: fewer than ${NEAR_ROUNDS_MIN} near rounds: ${inconclusive.join('; ')}\n`,
  );
  return EXIT_INCONCLUSIVE;
}

async function run(measure: (atEnd: AtEnd) => Promise<number>): Promise<void> {
  const atEnd = new AtEnd();
  const interrupted = new Promise<number>((resolve) => {
    process.once('SIGINT', () => resolve(130));
    process.once('SIGTERM', () => resolve(143));
  });
  // A suite that is interrupted fails when its processes are ended; nobody waits for that.
  const suite = measure(atEnd);
  suite.catch(() => {});
  try {
    process.exitCode = await Promise.race([suite, interrupted]);
  } catch (e) {
    process.stderr.write(`bench: ${e instanceof Error ? e.message : e}\n`);
    process.exitCode = 1;
  } finally {
    await atEnd.run();
  }
  process.exit();
}

function micro({ json, tiny }: { json?: string; tiny?: true }): void {
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  const results = runMicro({ tiny: tiny === true, log });
  const widest = Math.max(...results.map(({ name }) => name.length));
  for (const { name, ns, margin, samples } of results) {
    const figure = `${numberText(ns)} ns`.padStart(9);
    process.stdout.write(
      `${name.padEnd(widest)}  ${figure}  ±${margin.toFixed(1)} %  ${samples} samples\n`,
    );
  }
  if (json === undefined) return;
  const regime = tiny === true ? 'none' : 'near';
  const rows = results.map(({ name, ns, margin, samples }) => ({
    suite: 'micro',
    case: name,
    path: 'one-thread',
    size: 0,
    regime,
    value: Number(ns.toPrecision(4)),
    unit: 'ns',
    rounds: samples,
    ...runIdentity(),
    margin_percent: Number(margin.toPrecision(3)),
  }));
  writeFileSync(json, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
}

const program = new Command('bench')
  .description('Measures this machine. One JSON object a line with --json, a table in any case.')
  .exitOverride((e) => process.exit(e.exitCode === 0 ? 0 : 2));

program
  .command('transport')
  .description('bytes and round trips between two processes: STP, sockets, memcpy')
  .option('--json <file>', 'write one JSON object a line, and charts beside it')
  .option('--tiny', 'a few milliseconds of everything, one round, no regimes: shows that it works')
  .option('--rounds <n>', 'near rounds of each path', wholePositive, NEAR_ROUNDS_MIN)
  .addOption(
    new Option('--size <bytes...>', 'message sizes of case stream')
      .argParser(sizes)
      .default(undefined, STREAM_SIZES.join(' ')),
  )
  .addOption(new Option('--path <path...>', 'only these paths').choices(PATHS.map((p) => p.name)))
  .addOption(new Option('--case <case...>', 'only these cases').choices(CASES).default([...CASES]))
  .option('--quick', 'only the rows that a bar needs (npm run bench:bars)')
  .option('--verbose', 'a line for each round')
  .option('--seconds-max <n>', 'give up after so long in rounds that do not count', positive, 600)
  .option('--near-ns <n>', 'near: probes below this, ns a hop', positive, REGIME_LIMITS.nearNs)
  .option('--far-ns <n>', 'far: probes above this, ns a hop', positive, REGIME_LIMITS.farNs)
  .option('--cpus <a,b>', 'the two CPUs to use (default: chosen)', cpuPair)
  .action((flags: Flags) =>
    run((atEnd) => {
      const size = flags.size ?? (flags.tiny === true ? STREAM_SIZES_TINY : STREAM_SIZES);
      return transport({ ...flags, size, path: flags.path ?? [] }, atEnd);
    }),
  );

program
  .command('backup')
  .description('whole backups of trees: stpbackup, tar, cp, borg, restic')
  .option('--json <file>', 'write one JSON object a line')
  .option('--tiny', 'trees of a few files, one round: shows that it works')
  .option('--rounds <n>', 'near rounds of each path', wholePositive, NEAR_ROUNDS_MIN)
  .addOption(
    new Option('--case <case...>', 'only these cases')
      .choices(BACKUP_CASES)
      .default([...BACKUP_CASES]),
  )
  .option(
    '--path <path...>',
    'only these paths',
    (path: string, before: string[]) => [...before, path],
    [],
  )
  .option('--seed <n>', 'the trees follow from it', wholePositive, 1)
  .option('--seconds-max <n>', 'give up after so long in rounds that do not count', positive, 600)
  .option('--directory <dir>', 'where trees and copies lie (default: /dev/shm)')
  .action((flags: BackupFlags) => run((atEnd) => backup(flags, atEnd)));

program
  .command('micro')
  .description('small operations: locks, cursors, look-ups, calls into the addon')
  .option('--json <file>', 'write one JSON object a line')
  .option('--tiny', 'a millisecond of each: shows that it works')
  .action(micro);

await program.parseAsync();
