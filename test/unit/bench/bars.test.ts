/**
 * A bar passes, fails or has no answer.
 */
import test from 'ava';
import { BARS, type Bar, exitCodeOf, isNeeded, judge, line } from '../../../bench/bars.js';
import type { Row } from '../../../bench/harness/rows.js';
import { STREAM_SIZES } from '../../../bench/suites/transport-paths.js';

const row = (path: string, value: number, more: Partial<Row> = {}): Row =>
  ({
    case: 'stream',
    size: 65536,
    path,
    value,
    q1: value * 0.9,
    q3: value * 1.1,
    rounds: 9,
    regime: 'near',
    ...more,
  }) as Row;

const barOf = (part: string): Bar => {
  const [bar, ...others] = BARS.filter(({ text }) => text.includes(part));
  if (bar === undefined || others.length > 0) throw new Error(`one bar '${part}' expected`);
  return bar;
};

const blocking = barOf('stream 64 KiB: blocking copy / better of TCP and Unix');

const rowsOf = (copy: number, rounds = 9): Row[] => [
  row('stp-copy', copy, { rounds }),
  row('stp-copy', 1000, { rounds: 20, regime: 'far' }),
  row('tcp', 1),
  row('unix', 2),
];

const codeOf = (rows: Row[], bar: Bar): number => exitCodeOf([judge(rows, bar)]);

test('the better socket is what counts, near rounds only', (t) => {
  t.is(codeOf(rowsOf(10), blocking), 0);
  t.is(codeOf(rowsOf(9.9), blocking), 1);
  t.regex(
    line(judge(rowsOf(10), blocking)),
    /^passed .*: 5\.00x \(4\.09x to 6\.11x\); at least 5\.00x$/,
  );
});

test('too few near rounds are neither passed nor failed', (t) => {
  t.is(codeOf(rowsOf(100, 8), blocking), 75);
  t.regex(line(judge([], blocking)), /^inconclusive .*fewer than nine near rounds/);
});

test('the Duplex is compared with sockets at the write size that suits them best', (t) => {
  const bar = BARS.find(({ text }) => /Duplex .* own best chunk$/.test(text)) as Bar;
  const rows = STREAM_SIZES.flatMap((size) => [
    row('tcp', size === 1 << 20 ? 4 : 1, { size }),
    row('unix', 2, { size }),
  ]);
  t.is(codeOf([...rows, row('stp-duplex', 10)], bar), 0);
  t.is(codeOf([...rows, row('stp-duplex', 9.9)], bar), 1);
});

test('a bar of far rounds does not count where there were none', (t) => {
  const bar = barOf('stream 64 KiB: Duplex never slower than TCP or Unix, far');
  const far = { regime: 'far', rounds: 3 } as const;
  const near = [row('stp-duplex', 9), row('tcp', 1), row('unix', 2)];
  t.is(judge(near, bar).verdict, 'never far');
  t.is(codeOf(near, bar), 0);
  const slower = [row('stp-duplex', 1, far), row('tcp', 1, far), row('unix', 2, far)];
  t.is(codeOf(slower, bar), 1);
});

test('a latency is better when it is shorter', (t) => {
  const bar = barOf('round trip 64 B: event loop p50');
  const latency = { case: 'ping-pong', size: 64 } as const;
  const unix = row('unix', 60, latency);
  t.is(codeOf([row('stp-duplex', 3, latency), unix], bar), 0);
  t.is(codeOf([row('stp-duplex', 3.1, latency), unix], bar), 1);
});

test('p99 has a bar of its own', (t) => {
  const bar = barOf('event loop p99');
  const stp = row('stp-duplex', 1, { case: 'ping-pong', size: 64, p99: 51 });
  const unix = row('unix', 60, { case: 'ping-pong', size: 64, p99: 100 });
  t.is(codeOf([stp, unix], bar), 1);
  t.is(codeOf([{ ...stp, p99: 50 }, unix], bar), 0);
});

test('a neighbour may lose less than a fifth', (t) => {
  const bar = barOf('neighbour');
  const at = { case: 'neighbour', size: 64 } as const;
  const without = row('tcp-beside-stp-nopoll', 100, at);
  t.is(codeOf([row('tcp-beside-stp', 119, at), without], bar), 0);
  t.is(codeOf([row('tcp-beside-stp', 121, at), without], bar), 1);
});

test('memory and leaks need few rounds, of any distance', (t) => {
  const seen = { case: 'connections', size: 0, rounds: 3, regime: 'far' } as const;
  const rows = [row('stp-duplex', 200 << 20, { ...seen, pages_idle: 0, left: 1 })];
  t.is(codeOf(rows, barOf('RssAnon')), 0);
  t.is(codeOf(rows, barOf('pages that they hold')), 0);
  t.is(codeOf(rows, barOf('10,000 connections closed')), 1);
  const two = rows.map((r) => ({ ...r, rounds: 2 }));
  t.is(codeOf(two, barOf('RssAnon')), 75);
});

test('a quick run measures what the bars need and no more', (t) => {
  t.true(isNeeded('stream', 65536, 'memcpy-2p-sum'));
  t.true(isNeeded('stream', 2 ** 28, 'tcp'));
  t.false(isNeeded('stream', 64, 'zeromq-ipc'));
});
