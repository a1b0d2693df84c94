/** The benchmark itself, a few milliseconds of everything. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { type BackupCase, CASE_SPECS, type CaseName } from '../../../bench/harness/cases.js';
import { parseRows } from '../../../bench/report.js';

const MAIN = fileURLToPath(new URL('../../../bench/main.js', import.meta.url));
const SOCKETS = ['stp-duplex', 'tcp', 'unix'];
const STREAM_PATHS = [
  'stp-zero-copy',
  'stp-copy',
  'stp-duplex',
  'stp-onread',
  'tcp',
  'unix',
  'tcp-onread',
  'unix-onread',
  'zeromq-ipc',
  'message-port',
  'memcpy',
  'memcpy-2p',
  'memcpy-2p-sum',
];
const SIZES = [64, 4096, 65536, 1048576];
const ofPaths = (paths: string[], ...cases: string[]): string[] =>
  cases.flatMap((name) => paths.map((path) => `${name} ${path}`));

interface Run {
  readonly child: ChildProcess;
  readonly directory: string;
  output: string;
  ended: Promise<number | null>;
}

/** Starts the benchmark with a temporary directory of its own. */
function start(t: { teardown(f: () => void): void }, args: readonly string[]): Run {
  const directory = mkdtempSync(join(tmpdir(), 'bench-test-'));
  chmodSync(directory, 0o711); // PostgreSQL runs as another user
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...process.env, TMPDIR: directory },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const run: Run = { child, directory, output: '', ended: Promise.resolve(null) };
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (text: Buffer) => {
      run.output += text.toString();
    });
  }
  run.ended = once(child, 'close').then(([code]) => code as number | null);
  t.teardown(() => {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  return run;
}

const childrenOf = (pid: number): string[] =>
  readdirSync('/proc').filter((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      return stat.slice(stat.lastIndexOf(')')).split(' ')[2] === String(pid);
    } catch {
      return false;
    }
  });

const isAlive = (pid: string): boolean => existsSync(`/proc/${pid}`);

test('every path does every case it has, and its bytes arrive', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'bench-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const json = join(directory, 'rows.json');
  const run = start(t, ['transport', '--tiny', '--json', json]);
  t.is(await run.ended, 0, run.output);
  const rows = parseRows(readFileSync(json, 'utf8'));
  const seen = rows.map((r) => `${r.case} ${r.size} ${r.path}`);
  t.deepEqual(seen, [
    ...ofPaths(STREAM_PATHS, ...SIZES.map((size) => `stream ${size}`)),
    ...ofPaths(SOCKETS, 'ping-pong 64', 'ping-pong 4096', 'ping-pong-rate 64'),
    'ping-pong-nopoll 64 stp-duplex',
    ...ofPaths(['stp-copy', 'memcpy-2p'], 'ping-pong-spin 64'),
    ...ofPaths(['stp-copy', ...SOCKETS], 'message-rate 64'),
    ...ofPaths(['stp-copy', 'tcp', 'unix'], 'message-rate-batch 64'),
    ...ofPaths(SOCKETS, 'connect-rate 0', 'fairness 64'),
    ...ofPaths(['tcp-alone', 'tcp-beside-stp', 'tcp-beside-stp-nopoll'], 'neighbour 64'),
    ...ofPaths(['stp-duplex', 'unix'], 'connections 0'),
    'idle 0 stp-duplex',
  ]);
  for (const row of rows) {
    t.is(row.suite, 'transport');
    t.is(row.regime, 'none');
    t.is(row.rounds, 1);
    // In so short a time idle hosts may use nothing at all.
    const least = row.case === 'idle' ? 0 : Number.MIN_VALUE;
    t.true(row.value >= least && Number.isFinite(row.value), JSON.stringify(row));
    t.true(row.bytes >= row.size && row.cpu_s >= 0 && row.rss_anon > 0, JSON.stringify(row));
    t.regex(row.digest, /^[0-9a-f]{16}$/);
    t.is(row.unit, CASE_SPECS[row.case as CaseName].unit);
    t.is(row.p50 !== undefined && row.p99 !== undefined, row.unit === 'µs');
    if (row.case === 'connections') t.is(row.left, 0, JSON.stringify(row));
    for (const key of ['node', 'commit', 'cpu'] as const) t.true(row[key].length > 0);
  }
  t.regex(run.output, /x best socket +x memcpy-2p +x memcpy-2p-sum/);
  t.regex(run.output, /Times as good as the better of TCP and Unix socket/);
  for (const chart of ['rows.svg', 'rows-dark.svg']) t.true(existsSync(join(directory, chart)));
  t.deepEqual(readdirSync(run.directory), [], 'left behind');
});

test('the suite backup takes every tree whole, with whoever is installed', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'bench-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const json = join(directory, 'rows.json');
  const run = start(t, ['backup', '--tiny', '--json', json]);
  t.is(await run.ended, 0, run.output);
  const rows = parseRows(readFileSync(json, 'utf8'));
  for (const name of ['many-small', 'few-large', 'unchanged']) {
    const own = rows.filter((row) => row.case === name);
    t.true(
      own.some((row) => row.path === 'stpbackup'),
      name,
    );
    t.is(new Set(own.map((row) => row.digest)).size, 1, 'all took the same');
  }
  for (const row of rows) {
    t.is(row.suite, 'backup');
    t.is(row.regime, 'none');
    t.true(row.value > 0 && Number.isFinite(row.value), JSON.stringify(row));
    t.is(row.unit, CASE_SPECS[row.case as BackupCase].unit);
  }
  t.regex(run.output, /stpbackup is/);
  t.deepEqual(readdirSync(run.directory), [], 'left behind');
});

test('a run that cannot get nine near rounds ends with 75', async (t) => {
  const args = [
    'transport',
    '--case',
    'stream',
    '--size',
    '4096',
    '--path',
    'memcpy',
    '--near-ns',
    '0.001',
  ];
  const run = start(t, [...args, '--seconds-max', '1']);
  t.is(await run.ended, 75, run.output);
  t.regex(run.output, /inconclusive: fewer than 9 near rounds: stream 4096 memcpy\n/);
});

test('interrupted in mid-run it leaves no process and no file', async (t) => {
  const run = start(t, [
    'transport',
    '--verbose',
    '--case',
    'stream',
    '--path',
    'stp-copy',
    'unix',
    'memcpy-2p',
    '--near-ns',
    '0.001',
  ]);
  const { child } = run;
  const watchdog = setTimeout(() => child.kill('SIGKILL'), 60_000);
  while (!run.output.includes('discarded')) await once(child.stderr as NodeJS.EventEmitter, 'data');
  const children = childrenOf(child.pid as number);
  t.true(children.length >= 7, `${children}`);
  child.kill('SIGINT');
  t.is(await run.ended, 130, run.output);
  clearTimeout(watchdog);
  t.deepEqual(children.filter(isAlive), []);
  t.deepEqual(readdirSync(run.directory), []);
});

test('wrong usage ends with 2 and names the rule', async (t) => {
  const run = start(t, ['transport', '--size', '100']);
  t.is(await run.ended, 2);
  t.regex(run.output, /a size is a power of two/);
});

test('each micro-operation runs, and the file says how long it took', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'bench-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const json = join(directory, 'rows.json');
  const run = start(t, ['micro', '--tiny', '--json', json]);
  t.is(await run.ended, 0, run.output);
  const rows = parseRows(readFileSync(json, 'utf8'));
  for (const what of ['lock', 'cursor', 'descriptor', 'call into the addon']) {
    t.true(
      rows.some((row) => row.case.includes(what)),
      what,
    );
  }
  for (const row of rows) t.true(row.value > 0, JSON.stringify(row));
});
