/** Ratios, the terminal's table, the README's table. */
import test from 'ava';
import { chartFile, chartOf } from '../../../bench/harness/chart.js';
import { parseCpuList } from '../../../bench/harness/cpus.js';
import { busySeconds } from '../../../bench/harness/load.js';
import type { Row } from '../../../bench/harness/rows.js';
import {
  groupRows,
  ratioTable,
  textTable,
  timesBestSocket,
  timesPath,
} from '../../../bench/harness/table.js';
import { fullReport, parseRows, report, withReport } from '../../../bench/report.js';

const row = (path: string, value: number, more: Partial<Row> = {}): Row => ({
  suite: 'transport',
  case: 'stream',
  path,
  size: 65536,
  regime: 'near',
  value,
  unit: 'GB/s',
  cpu_s: 2,
  rounds: 9,
  node: 'v20.0.0',
  commit: 'abc',
  cpu: 'some CPU',
  min: value,
  q1: value,
  q3: value,
  max: value,
  elapsed_s: 1,
  rss_anon: 1 << 20,
  bytes: 1,
  digest: '00',
  ...more,
});

const groupOf = (...rows: Row[]) => {
  const [group, ...others] = groupRows(rows);
  if (group === undefined || others.length > 0) throw new Error('one group expected');
  return group;
};

test('a rate is compared with the better of TCP and Unix socket', (t) => {
  const stp = row('stp-copy', 12);
  const group = groupOf(stp, row('tcp', 2), row('unix', 3), row('memcpy-2p', 24));
  t.is(timesBestSocket(group, stp), 4);
  t.is(timesPath(group, stp, 'memcpy-2p'), 0.5);
  t.is(timesPath(group, stp, 'memcpy-2p-sum'), undefined);
});

test('a latency is better when it is smaller', (t) => {
  const latency = { case: 'ping-pong', unit: 'µs' } as const;
  const stp = row('stp-duplex', 5, latency);
  const group = groupOf(stp, row('tcp', 100, latency), row('unix', 60, latency));
  t.is(timesBestSocket(group, stp), 12);
});

test('a case that sockets do not have is compared with theirs of the same kind', (t) => {
  const spin = row('stp-copy', 1, { case: 'ping-pong-spin', size: 64, unit: 'µs' });
  const unix = row('unix', 60, { case: 'ping-pong', size: 64, unit: 'µs' });
  const groups = groupRows([unix, spin]);
  const group = groups.find((g) => g.case === 'ping-pong-spin');
  t.is(group && timesBestSocket(group, spin), 60);
});

test('a run ends with the ratios of the STP paths', (t) => {
  const groups = groupRows([
    row('stp-copy', 12),
    row('stp-duplex', 3),
    row('tcp', 2),
    row('unix', 3),
    row('memcpy-2p', 24),
    row('stp-copy', 9, { regime: 'far' }),
  ]);
  const lines = ratioTable(groups, 'near')?.split('\n') ?? [];
  t.regex(lines[0] ?? '', /better of TCP and Unix socket \/ as memcpy-2p, near rounds/);
  t.regex(lines[1] ?? '', /STP, blocking copy +STP, Duplex$/);
  t.regex(lines[2] ?? '', /^stream, 64 KiB +4\.00x \/ 0\.50x +1\.00x \/ 0\.13x$/);
  t.is(ratioTable(groups, 'far'), undefined);
});

test('the chart has a line a path and a bar a ratio, and is well-formed for each theme', (t) => {
  const rows = [row('stp-copy', 12), row('tcp', 2), row('unix', 3), row('memcpy-2p', 24)];
  for (const theme of ['light', 'dark'] as const) {
    const svg = chartOf(rows, theme) ?? '';
    t.regex(svg, /^<svg [^>]*>[\s\S]*<\/svg>$/);
    for (const text of ['STP, blocking copy', 'Unix socket', '4.00x', 'some CPU']) {
      t.true(svg.includes(text), text);
    }
    t.false(/="[^"]*"[A-Za-z]/.test(svg), 'a quote within an attribute');
  }
  t.is(chartOf([row('tcp', 2)], 'light'), undefined);
  t.is(chartFile('a/transport.json', 'dark'), 'a/transport-dark.svg');
});

test('near is never compared with far', (t) => {
  const far = row('stp-copy', 3, { regime: 'far' });
  const group = groupOf(row('tcp', 2), far, row('tcp', 1, { regime: 'far' }));
  t.is(timesBestSocket(group, far), 3);
  t.is(timesBestSocket(groupOf(row('tcp', 2), far), far), undefined);
});

test('each case and size has a table of its own, with far in columns of its own', (t) => {
  const rows = [
    row('tcp', 2),
    row('tcp', 1, { regime: 'far', rounds: 4 }),
    row('tcp', 3, { size: 1 << 20 }),
  ];
  const groups = groupRows(rows);
  t.is(groups.length, 2);
  const lines = textTable(groupOf(...rows.slice(0, 2))).split('\n');
  t.is(lines[0], 'stream, 64 KiB');
  t.is(lines.length, 3);
  t.regex(lines[2] ?? '', /^tcp +2\.00 +2\.00\.\.2\.00 +1\.00x .* 1\.00 +1\.00x +4$/);
});

test('the report replaces what is between the markers and nothing else', (t) => {
  const rows = parseRows(
    [row('tcp', 2), row('unix', 4), row('stp-copy', 20)].map((r) => JSON.stringify(r)).join('\n'),
  );
  const table = report(rows);
  t.regex(table, /^\| {2}\| STP, blocking copy \|\n\|---\|--:\|\n\| stream, 64 KiB \| 5\.00x \|$/m);
  t.regex(table, /<img alt="[^"]+" src="bench\/results\/transport\.svg">/);
  t.regex(table, /^\| {2}\| STP, blocking copy \| TCP \| Unix socket \|$/m);
  t.regex(table, /^\| stream, 64 KiB, GB\/s \| 20\.0 \(\*\*5\.00x\*\*\) \| 2\.00 \| 4\.00 \|$/m);
  t.regex(fullReport(rows), /\| stream, 64 KiB \| `tcp` \| 2\.00 GB\/s \| .* \| 0\.50x \|/);
  const before = 'head\n<!-- bench:transport -->\nold\n<!-- /bench:transport -->\ntail\n';
  const after = withReport(before, 'transport', table);
  t.is(after, `head\n<!-- bench:transport -->\n${table}\n<!-- /bench:transport -->\ntail\n`);
  t.is(withReport(after, 'transport', table), after);
});

test('a document without markers, a tiny run and no rows are refused', (t) => {
  t.throws(() => withReport('no markers', 'transport', 'x'), {
    message: /needs <!-- bench:transport -->/,
  });
  t.throws(() => report([row('tcp', 2, { regime: 'none' })]), { message: 'rows of a tiny run' });
  t.throws(() => report([]), { message: 'no rows' });
});

test('a busy CPU is one that is neither idle nor waiting for a disk', (t) => {
  const stat =
    'cpu  9 9 9 9\ncpu0 100 1 50 7000 800 3 4 200 5 6\ncpu1 10 0 0 1 1 0 0 0 0 0\ncpu10 1 1\n';
  t.is(busySeconds(stat, [0]), 3.58);
  t.is(busySeconds(stat, [0, 1]), 3.68);
});

test('lists of CPUs are read as the kernel writes them', (t) => {
  t.deepEqual(parseCpuList('0-2,8\n'), [0, 1, 2, 8]);
  t.deepEqual(parseCpuList('3'), [3]);
});
