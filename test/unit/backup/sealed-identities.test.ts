/** Identities on their way through the array: only their pair opens them. */
import { randomBytes } from 'node:crypto';
import test from 'ava';
import { openIdentities, sealIdentities } from '../../../src/backup/sealed-identities.js';

const key = randomBytes(32);
const texts = ['AGE-SECRET-KEY-1AAAA', 'AGE-SECRET-KEY-1BBBB'];

test('what is sealed comes back, and nothing of it is to be seen', (t) => {
  const sealed = sealIdentities(key, 'web1', texts);
  t.deepEqual(openIdentities(key, 'web1', sealed), texts);
  t.false(Buffer.from(sealed, 'base64').includes('AGE-SECRET-KEY'));
  t.not(sealIdentities(key, 'web1', texts), sealed);
});

test('another key, another host, another byte, too few of them: refused', (t) => {
  const sealed = sealIdentities(key, 'web1', texts);
  const bytes = Buffer.from(sealed, 'base64');
  const refused = { code: 'EACCES', message: /client web/ };
  t.throws(() => openIdentities(randomBytes(32), 'web1', sealed), refused);
  t.throws(() => openIdentities(key, 'web2', sealed), refused);
  for (const at of [0, 40, bytes.length - 1]) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] as number) ^ 1;
    t.throws(() => openIdentities(key, 'web1', changed.toString('base64')), refused, `${at}`);
  }
  for (const length of [0, 10, 47, bytes.length - 1]) {
    const cut = bytes.subarray(0, length).toString('base64');
    t.throws(() => openIdentities(key, 'web1', cut), refused, `${length}`);
  }
});
