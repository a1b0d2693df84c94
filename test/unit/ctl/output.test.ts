import test from 'ava';
import { CommanderError } from 'commander';
import fc from 'fast-check';
import {
  errorText,
  exitCodeOf,
  flagOf,
  plainMessage,
  typedNumber,
} from '../../../src/ctl/command-line.js';
import { humanDuration, printable, ranges } from '../../../src/ctl/output.js';
import { amount, sheet, table, text } from '../../../src/ctl/table.js';
import { NotRunningError } from '../../../src/daemon/control-client.js';
import { MemoryRefusedError } from '../../../src/daemon/memory-check.js';
import { ValidationError } from '../../../src/daemon/validation.js';
import { stpError } from '../../../src/errors.js';

test('numbers stand to the right, words to the left, nothing stands at the end', (t) => {
  const columns = [
    text<[string, number]>('WORD', ([word]) => word),
    amount<[string, number]>('N', ([, number]) => number),
    text<[string, number]>('LAST', () => 'x'),
  ];
  t.is(
    table(columns, [
      ['a', 5],
      ['bcdef', 1234],
    ]),
    'WORD      N  LAST\na         5  x\nbcdef  1234  x\n',
  );
});

test('a list of nothing is its heads', (t) => {
  t.is(table([text('A', String), amount('B', Number)], []), 'A  B\n');
});

test('a sheet is a name and a value a line', (t) => {
  t.is(
    sheet([
      ['pid', '7'],
      ['run directory', '/run/stpd'],
    ]),
    'pid            7\nrun directory  /run/stpd\n',
  );
});

test('ranges name each number once', (t) => {
  t.is(ranges([]), '');
  t.is(ranges([3]), '3');
  t.is(ranges([12, 1, 2, 0, 4]), '0-2,4,12');
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(200)), (numbers) => {
      const named = ranges(numbers)
        .split(',')
        .filter((part) => part !== '')
        .flatMap((part) => {
          const [from = 0, to = from] = part.split('-').map(Number);
          return Array.from({ length: to - from + 1 }, (_, index) => from + index);
        });
      t.deepEqual(
        named,
        [...numbers].sort((a, b) => a - b),
      );
    }),
  );
});

test('durations have their two largest units', (t) => {
  t.is(humanDuration(0.4), '0 s');
  t.is(humanDuration(59.9), '59 s');
  t.is(humanDuration(3600), '1 h');
  t.is(humanDuration(3661), '1 h 1 min');
  t.is(humanDuration(90_061), '1 d 1 h');
});

test('what cannot be printed is a question mark', (t) => {
  t.is(printable('a\x1b[31m\n\u202e é'), 'a?[31m?? ?');
});

test('only digits are a number', (t) => {
  t.is(typedNumber('08'), 8);
  for (const typed of ['8x', '', ' 8', '-8', '8.0', '1e3', '0x8']) t.is(typedNumber(typed), typed);
});

test('a key’s flag', (t) => {
  t.is(flagOf('boardSize'), '--board-size');
  t.is(flagOf('memory'), '--memory');
});

test('exit codes follow the kind of error', (t) => {
  t.is(exitCodeOf(new CommanderError(0, 'commander.help', '')), 0);
  t.is(exitCodeOf(new CommanderError(1, 'commander.unknownOption', '')), 2);
  t.is(exitCodeOf(new ValidationError(['x'])), 2);
  t.is(exitCodeOf(new MemoryRefusedError('x')), 2);
  t.is(exitCodeOf(new NotRunningError('/run/stpd')), 5);
  t.is(exitCodeOf(stpError('ENOMEM', 'x')), 1);
  t.is(exitCodeOf(stpError('ENAMETOOLONG', 'x')), 2);
  t.is(exitCodeOf('thrown text'), 1);
});

test('people read messages without the code, a line for each problem', (t) => {
  t.is(plainMessage(stpError('EBUSY', 'in use')), 'in use');
  t.is(plainMessage(new Error('EBUSY: not ours')), 'EBUSY: not ours');
  t.is(errorText('stpd', new ValidationError(['a: 1', 'b: 2'])), 'stpd: a: 1\nstpd: b: 2\n');
});
