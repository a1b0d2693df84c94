import test from 'ava';
import { nameMatcher } from '../../../src/library/find.js';

const matches = (pattern: string, path: string | Buffer): boolean =>
  nameMatcher(pattern)(Buffer.from(path as string));

test('a pattern without a slash is compared with the name', (t) => {
  t.true(matches('*.conf', 'etc/app/a.conf'));
  t.false(matches('*.conf', 'etc/app.conf/other'));
  t.true(matches('a?c', 'x/a\u00fcc'), 'one character is not one byte');
  t.true(matches('[a-c]x', 'bx'));
  t.false(matches('[!a-c]x', 'bx'));
  t.true(matches('a.b', 'a.b'));
  t.false(matches('a.b', 'axb'));
  t.true(matches('\\*', '*'));
  t.false(matches('\\*', 'a'));
  t.true(matches('[', '['), 'a bracket that has no end is itself');
});

test('a pattern with a slash is compared with the whole path', (t) => {
  t.true(matches('/etc/*.conf', 'etc/a.conf'));
  t.false(matches('/etc/*.conf', 'etc/app/a.conf'));
  t.true(matches('/etc/**.conf', 'etc/app/a.conf'));
  t.true(matches('**/app/*', 'etc/app/a.conf'));
});

test('names are bytes', (t) => {
  t.true(nameMatcher('*.bin')(Buffer.from([0xff, 0x0a, 0x2e, 0x62, 0x69, 0x6e])));
});

test('what is no pattern is refused', (t) => {
  t.throws(() => nameMatcher(''), { code: 'EINVAL' });
  t.throws(() => nameMatcher('[z-a]'), { code: 'EINVAL' });
});
