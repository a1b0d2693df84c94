import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  type Configuration,
  checkSettings,
  LOG_LEVELS,
  readConfigurationFile,
  resolveConfiguration,
} from '../../../src/daemon/configuration.js';
import { ValidationError } from '../../../src/daemon/validation.js';
import { BOARD_BYTES_MAX, BOARDS_MAX, BOARDS_MIN } from '../../../src/limits.js';
import { temporaryDirectory } from './workbench.js';

const CORES = 4;
const check = (value: unknown) => checkSettings(value, (key) => key, CORES);

function problemsOf(value: unknown): readonly string[] {
  try {
    check(value);
  } catch (error) {
    if (error instanceof ValidationError) return error.problems;
    throw error;
  }
  return [];
}

test('without a file and flags an array has the documented defaults', (t) => {
  t.deepEqual(resolveConfiguration({}, {}), {
    boards: 16,
    boardBytes: 16 << 20,
    directors: 1,
    connections: 16384,
    logFile: null,
    logLevel: 'info',
    allowUids: [],
    allowGids: [],
  } satisfies Configuration);
});

const wrong: [string, unknown, RegExp][] = [
  ['too few boards', { boards: 3 }, /^boards: 3 is too few: an array has at least 4, so that/],
  ['too many boards', { boards: 99999 }, /^boards: 99999 is too many: .* at most \d+/],
  ['half a board', { boards: 4.5 }, /^boards: 4.5 is not a whole number/],
  ['boards as text', { boards: '8' }, /^boards: "8" is not a whole number/],
  ['no boards', { boards: null }, /^boards: null is not a whole number/],
  ['a small board', { boardSize: '64KiB' }, /^boardSize: 64KiB is too small: .* at least 1MiB/],
  ['a large board', { boardSize: '2GiB' }, /^boardSize: 2GiB is too large: .* at most 1GiB/],
  [
    'a board of odd bytes',
    { boardSize: 1048577 },
    /^boardSize: 1048577B is not a multiple of 64KiB/,
  ],
  ['a decimal unit', { boardSize: '16MB' }, /^boardSize: "16MB" is not a size: use .*MiB/],
  ['no directors', { directors: 0 }, /^directors: 0 is too few/],
  ['more directors than cores', { directors: 5 }, /^directors: 5 is too many: .* has 4 cores/],
  ['no connections', { connections: 0 }, /^connections: 0 is too few/],
  ['a relative log file', { logFile: 'x.log' }, /^logFile: "x.log" is not an absolute path/],
  ['a log file that is none', { logFile: 7 }, /^logFile: 7 is not a path/],
  ['an unknown level', { logLevel: 'loud' }, /^logLevel: "loud" is not one of trace, debug/],
  ['a user name', { allowUids: ['root'] }, /^allowUids\[0\]: "root" is not a user id/],
  ['a negative group', { allowGids: [1, -1] }, /^allowGids\[1\]: -1 is not a group id/],
  ['the uid that means none', { allowUids: [2 ** 32 - 1] }, /^allowUids\[0\]: 4294967295 is not/],
  ['a user that is no list', { allowUids: 1000 }, /^allowUids: 1000 is not a list of user ids/],
  ['an unknown key', { bords: 8 }, /^unknown key "bords": the keys are boards, boardSize/],
  ['a list', [], /^\[\] is not an object/],
  ['nothing', null, /^null is not an object/],
];
for (const [what, value, message] of wrong) {
  test(`${what} is refused with the value and the rule`, (t) => {
    const problems = problemsOf(value);
    t.is(problems.length, 1);
    t.regex(problems[0] ?? '', message);
  });
}

test('all problems are told at once', (t) => {
  t.is(problemsOf({ boards: 1, boardSize: 'x', directors: 0, nonsense: 1 }).length, 4);
});

test('memory gives the count of boards', (t) => {
  const { memory } = check({ memory: '1GiB' });
  const configuration = resolveConfiguration({}, { memory });
  t.is(configuration.boards, 64);
  t.is(configuration.boardBytes, 16 << 20);
});

test('memory that needs too many boards gets larger ones', (t) => {
  const { boards, boardBytes } = resolveConfiguration({}, { memory: 100 * 2 ** 30 });
  t.is(boards * boardBytes, 100 * 2 ** 30);
  t.true(boards <= BOARDS_MAX);
});

test('any amount of memory gives an array of exactly that, or a message', (t) => {
  const boardSizes = fc.option(
    fc.integer({ min: 16, max: 16384 }).map((pages) => pages * 65536),
    { nil: undefined },
  );
  const settings = fc.record({
    memory: fc.maxSafeNat(),
    boardSize: boardSizes,
    // Mostly whole boards, and not too many: chance alone would hardly ever give a valid one.
    boards: fc.option(fc.integer({ min: 1, max: 2000 }), { freq: 4, nil: undefined }),
  });
  let accepted = 0;
  fc.assert(
    fc.property(settings, ({ boards: whole, boardSize, ...any }) => {
      const memory = whole === undefined ? any.memory : whole * (boardSize ?? 16 << 20);
      try {
        const { boards, boardBytes } = resolveConfiguration({}, { memory, boardSize });
        t.is(boards * boardBytes, memory);
        t.true(boards >= BOARDS_MIN && boards <= BOARDS_MAX && boardBytes <= BOARD_BYTES_MAX);
        accepted += 1;
      } catch (error) {
        t.true(error instanceof ValidationError);
        t.regex((error as Error).message, /^memory: .* (too little|too much|not a multiple)/);
      }
    }),
  );
  t.true(accepted > 0);
});

test('memory between two multiples names both', (t) => {
  const { memory } = check({ memory: '100MiB' });
  t.throws(() => resolveConfiguration({ memory }, {}), { message: /use 96MiB or 112MiB/ });
});

test('memory and boards in one place contradict each other', (t) => {
  t.throws(() => resolveConfiguration({ memory: 2 ** 30, boards: 8 }, {}), {
    instanceOf: ValidationError,
    message: /both given/,
  });
});

test('a flag for boards overrides memory in the file, and the other way round', (t) => {
  t.is(resolveConfiguration({ memory: 2 ** 30 }, { boards: 8 }).boards, 8);
  t.is(resolveConfiguration({ boards: 8 }, { memory: 2 ** 30 }).boards, 64);
});

test('flags override the file, the rest of the file stays', (t) => {
  const file = check({ directors: 2, logLevel: 'debug', allowUids: [5], connections: 7 });
  const configuration = resolveConfiguration(file, { directors: 3, allowUids: [6] });
  t.is(configuration.directors, 3);
  t.is(configuration.logLevel, 'debug');
  t.is(configuration.connections, 7);
  t.deepEqual(configuration.allowUids, [6]);
});

test('a file is read, and its name leads each problem', (t) => {
  const file = join(temporaryDirectory(t), 'stpd.json');
  writeFileSync(file, '{"boards": 8, "boardSize": "1MiB"}');
  t.deepEqual(readConfigurationFile(file), { boards: 8, boardSize: 1 << 20 });
  writeFileSync(file, '{"boards": 2, "logLevel": "x"}');
  const error = t.throws(() => readConfigurationFile(file), { instanceOf: ValidationError });
  for (const problem of error?.problems ?? []) t.true(problem.startsWith(`${file}: `));
  t.is(error?.problems.length, 2);
});

test('a file that is not JSON is refused with the place', (t) => {
  const file = join(temporaryDirectory(t), 'stpd.json');
  writeFileSync(file, '{\n  "boards": 8,\n}');
  t.throws(() => readConfigurationFile(file), { message: /stpd\.json: is not JSON in line 3/ });
});

test('a file that was named must be there; the default one need not', (t) => {
  const missing = join(temporaryDirectory(t), 'none.json');
  t.throws(() => readConfigurationFile(missing), { message: /none\.json: cannot be read/ });
});

test('whatever JSON a file holds, it is accepted whole or refused with a reason', (t) => {
  const keys = ['boards', 'boardSize', 'memory', 'directors', 'connections', 'logFile'];
  const settings = fc.dictionary(
    fc.oneof(fc.constantFrom(...keys, 'logLevel', 'allowUids'), fc.string()),
    fc.oneof(fc.jsonValue(), fc.constantFrom(8, 1 << 20, '16MiB', [0], ...LOG_LEVELS)),
  );
  fc.assert(
    fc.property(settings, (value) => {
      const problems = problemsOf(value);
      for (const problem of problems) t.true(problem.length > 10 && !problem.includes('undefined'));
    }),
  );
});
