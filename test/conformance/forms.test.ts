/** The scripts over plain TCP and STP, in each form of the calls. */
import test from 'ava';
import { attach } from '../../src/socket/host.js';
import { startArray } from '../support/array.js';
import { forms, suite } from './forms.js';

const ends: (() => Promise<void> | void)[] = [];
const teardown = (end: () => Promise<void> | void): void => void ends.push(end);

try {
  const { runDirectory } = await startArray(
    { teardown },
    { boards: 16, boardSize: '8MiB', ports: 512 },
  );
  const array = { runDirectory, stg: 'test' };
  const server = await attach({ ...array, name: 'server' });
  ends.push(() => server.close());
  const client = await attach({ ...array, name: 'client' });
  ends.push(() => client.close());
  test.after.always('leave the array and stop it', async () => {
    for (const end of ends.reverse()) await end();
  });

  suite('tcp', { family: 'inet' }, forms);
  suite('stp', { family: 'stp', array, hosts: { server, client } }, forms);
} catch (error) {
  for (const end of ends.reverse()) await end();
  throw error;
}
