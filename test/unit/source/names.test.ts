/** Names: the order of a walk. */
import test from 'ava';
import fc from 'fast-check';
import { compareWalk } from '../../../src/source/names.js';

const component = fc
  .array(fc.constantFrom(0x01, 0x20, 0x2d, 0x2e, 0x30, 0x61, 0x62, 0xff), {
    minLength: 1,
    maxLength: 4,
  })
  .map((bytes) => Buffer.from(bytes));
const path = fc
  .array(component, { minLength: 1, maxLength: 4 })
  .map((parts) => Buffer.concat(parts.flatMap((part) => [Buffer.from('/'), part])).subarray(1));

/** As a walk goes: component by component, each by its bytes. */
function byComponents(a: Buffer, b: Buffer): number {
  const split = (p: Buffer) => p.toString('latin1').split('/');
  const [left, right] = [split(a), split(b)];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [x, y] = [left[i] as string, right[i] as string];
    if (x !== y) return x < y ? -1 : 1;
  }
  return left.length - right.length;
}

test('the order of a walk is that of the components', (t) => {
  const isDot = (p: Buffer) => p.equals(Buffer.from('.'));
  fc.assert(
    fc.property(path, path, (a, b) => {
      fc.pre(!isDot(a) && !isDot(b));
      t.is(Math.sign(compareWalk(a, b)), Math.sign(byComponents(a, b)));
      t.is(Math.sign(compareWalk(b, a)), -Math.sign(compareWalk(a, b)) + 0);
    }),
  );
});

test('the root directory comes before all', (t) => {
  const [root, other] = [Buffer.from('.'), Buffer.from('!')];
  t.true(compareWalk(root, other) < 0);
  t.true(compareWalk(other, root) > 0);
  t.is(compareWalk(root, root), 0);
});
