/**
 * A program that survives an exception in one of its callbacks: nobody else's work is lost with it.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { startArray } from '../support/array.js';

test('an exception in one callback loses no event of others', async (t) => {
  const array = await startArray(t);
  const child = fork(fileURLToPath(new URL('../support/throwing-host.js', import.meta.url)), [
    array.runDirectory,
    '5',
  ]);
  const [said] = (await once(child, 'message')) as [object];
  t.deepEqual(said, { thrown: 2, connections: 5, received: 5 });
});
