/** The screen of top without a terminal. */
import { stripVTControlCharacters } from 'node:util';
import test from 'ava';
import { splitKeys, TopScreen } from '../../../src/ctl/stpctl/top-screen.js';
import { humanCount, viaText } from '../../../src/ctl/stpctl/view-columns.js';
import type { Figures, SocketReport } from '../../../src/view/figures.js';
import { exampleListener, exampleSocket } from '../daemon/fake-array.js';

const figures = (sockets: readonly SocketReport[]): Figures => ({
  takenMs: 0,
  takenAt: '2026-01-31T12:10:00.000Z',
  intervalMs: 1000,
  array: {
    instance: 'ab'.repeat(16),
    state: 'serving',
    pid: 1,
    startedAt: '2026-01-31T12:00:00.000Z',
    boardBytes: 1 << 20,
    boardsTotal: 8,
    boardsUsed: 4,
  },
  boards: [],
  stgs: [],
  sockets,
  hosts: [],
  directors: [],
});

const status = {
  runDirectory: '/run/stpd',
  source: 'memory of stpd (pid 1)',
  intervalMs: 1000,
  problem: undefined,
};

/** Sockets `demo/0.1` and so on, each faster than the one before. */
const rising = (count: number): SocketReport[] =>
  Array.from({ length: count }, (_, i) => ({
    ...exampleSocket,
    id: `demo/${i}.1`,
    sendBytesPerSecond: i * 1000,
  }));

const idsOf = (lines: readonly string[]): string[] =>
  lines.flatMap((line) => /^demo\/(\d+)\.1/.exec(line)?.[1] ?? []);

test('a frame fits any terminal, whatever hosts call themselves', (t) => {
  const hostile = {
    ...exampleSocket,
    localName: '\x1b]0;x\x07'.repeat(80),
    peerName: '漢'.repeat(99),
  };
  const screen = new TopScreen();
  for (const key of ['1', '2', '3', '4', '5', 'h']) {
    screen.key(key);
    for (const columns of [1, 5, 40, 80, 300]) {
      for (const rows of [1, 2, 4, 5, 24, 60]) {
        const problem = rows === 24 ? 'stpd is not running' : undefined;
        for (const shown of [undefined, figures([hostile, exampleListener])]) {
          const frame = screen.frame(shown, { columns, rows }, { ...status, problem });
          t.true(frame.length <= rows, `${frame.length} lines on ${rows}`);
          for (const line of frame) {
            /* What is left without our own attributes is plain ASCII of that width. */
            const plain = line
              .replaceAll('\x1b[7m', '')
              .replaceAll('\x1b[1m', '')
              .replaceAll('\x1b[0m', '');
            t.regex(plain, /^[\x20-\x7e]*$/);
            t.true(plain.length <= columns);
          }
        }
      }
    }
  }
});

test('the busiest socket stands first; sorting and order change by key', (t) => {
  const screen = new TopScreen();
  const shown = (): string[] =>
    idsOf(screen.frame(figures(rising(3)), { columns: 200, rows: 24 }, status));
  t.deepEqual(shown(), ['2', '1', '0']);
  screen.key('r');
  t.deepEqual(shown(), ['0', '1', '2']);
  screen.key('<');
  screen.key('<');
  t.deepEqual(shown(), ['0', '1', '2'], 'by SOCKET, ascending');
  screen.key('r');
  t.deepEqual(shown(), ['2', '1', '0']);
});

test('names with numbers are sorted as people count', (t) => {
  const screen = new TopScreen();
  screen.key('<');
  screen.key('<');
  const frame = screen.frame(figures(rising(12)), { columns: 200, rows: 24 }, status);
  t.deepEqual(idsOf(frame), ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11']);
});

test('what does not fit is scrolled, and never past the end', (t) => {
  const screen = new TopScreen();
  screen.key('r');
  const size = { columns: 200, rows: 10 }; /* five rows */
  const shown = (): string[] => idsOf(screen.frame(figures(rising(12)), size, status));
  t.deepEqual(shown(), ['0', '1', '2', '3', '4']);
  screen.key('\x1b[B');
  t.deepEqual(shown(), ['1', '2', '3', '4', '5']);
  for (let i = 0; i < 9; i++) screen.key('\x1b[6~');
  t.deepEqual(shown(), ['7', '8', '9', '10', '11']);
  screen.key('\x1b[H');
  t.deepEqual(shown(), ['0', '1', '2', '3', '4']);
  const frame = screen.frame(figures(rising(12)), size, status).map(stripVTControlCharacters);
  t.regex(frame.at(-1) ?? '', /^sockets: 1 to 5 of 12, by OUT\/S ascending /);
});

test('columns do not shrink when numbers do', (t) => {
  const screen = new TopScreen();
  const place = (rate: number): number => {
    const socket = { ...exampleSocket, sendBytesPerSecond: rate };
    const frame = screen.frame(figures([socket]), { columns: 250, rows: 24 }, status);
    return (frame.find((line) => line.startsWith('backup/')) ?? '').indexOf('7398');
  };
  const wide = place(1023.9 * 2 ** 30);
  t.is(place(0), wide);
});

test('keys are commands', (t) => {
  const screen = new TopScreen();
  t.is(screen.key('q'), 'quit');
  t.is(screen.key('\x03'), 'quit');
  t.is(screen.key('\x1a'), 'suspend');
  t.is(screen.key('+'), 'faster');
  t.is(screen.key('-'), 'slower');
  t.is(screen.key('9'), 'none');
  t.is(screen.key('x'), 'none');
  t.is(screen.key('p'), 'pause');
  t.true(screen.paused);
  t.is(screen.key(' '), 'pause');
  t.false(screen.paused);
  screen.key('h');
  t.is(screen.key('x'), 'redraw', 'any key leaves the help');
});

test('what keeps figures from coming is said at the bottom', (t) => {
  const screen = new TopScreen();
  const frame = screen.frame(
    figures([]),
    { columns: 60, rows: 8 },
    { ...status, problem: 'no stpd' },
  );
  t.regex(stripVTControlCharacters(frame.at(-1) ?? ''), /^no stpd +$/);
});

test('keys that arrive together are taken apart', (t) => {
  t.deepEqual(splitKeys('q\x1b[A\x1b[5~\x1bOBr'), ['q', '\x1b[A', '\x1b[5~', '\x1b[B', 'r']);
  t.deepEqual(splitKeys(''), []);
});

test('counts for people', (t) => {
  const counts: [number | null, string][] = [
    [null, '-'],
    [0, '0'],
    [0.4, '0.4'],
    [17, '17'],
    [99.9, '100'],
    [999.96, '1.0k'],
    [12_345, '12.3k'],
    [2 ** 53, '9007.2T'],
  ];
  for (const [count, text] of counts) t.is(humanCount(count), text);
});

test('a reason stands behind the mechanism', (t) => {
  t.is(viaText(exampleSocket), 'STP');
  t.is(
    viaText({ ...exampleSocket, mechanism: 'tcp', reason: 'peer not attached' }),
    'TCP: peer not attached',
  );
});
