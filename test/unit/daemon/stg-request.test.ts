import test from 'ava';
import fc from 'fast-check';
import { checkStgBody, checkStgName } from '../../../src/daemon/stg-request.js';
import { ValidationError } from '../../../src/daemon/validation.js';
import { STG_NAME_PATTERN } from '../../../src/limits.js';

const good = { name: 'backup', boardCount: 4, ports: 8 };

test('name, boards and ports are enough', (t) => {
  t.deepEqual(checkStgBody(good), good);
});

const wrong: [string, object, RegExp][] = [
  ['three boards', { boardCount: 3 }, /^boardCount: 3 is too few: an STG has at least 4 boards/],
  ['no board count', { boardCount: undefined }, /^boardCount: nothing is not a whole number/],
  ['no ports', { ports: 0 }, /^ports: 0 is too few/],
  ['too many ports', { ports: 32768 }, /^ports: 32768 is too many: an STG has at most 32767/],
  ['too many connections', { connections: 65537 }, /^connections: 65537 is too many/],
  ['a blank in the name', { name: 'a b' }, /^name: "a b" is not valid: an STG name has 1 to 63/],
  ['a path as name', { name: '../x' }, /^name: "..\/x" is not valid/],
  ['a line feed at the end', { name: 'a\n' }, /^name: "a\\n" is not valid/],
  ['a number as name', { name: 7 }, /^name: 7 is not a name/],
  ['an unknown key', { board: 7 }, /^unknown key "board": the keys are name, boardCount/],
  ['a user name', { allowUids: ['me'] }, /^allowUids\[0\]: "me" is not a user id/],
];
for (const [what, change, message] of wrong) {
  test(`${what} is refused with the value and the rule`, (t) => {
    const error = t.throws(() => checkStgBody({ ...good, ...change }), {
      instanceOf: ValidationError,
    });
    t.is(error?.problems.length, 1);
    t.regex(error?.message ?? '', message);
  });
}

test('a name passes if and only if the pattern allows it', (t) => {
  const letters = fc.constantFrom(...'aZ09._-/ \n\0é');
  const names = fc.array(letters, { maxLength: 66 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(names, (name) => {
      if (STG_NAME_PATTERN.test(name)) t.is(checkStgName(name), name);
      else t.throws(() => checkStgName(name), { instanceOf: ValidationError });
    }),
  );
});
