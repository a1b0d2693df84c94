import test from 'ava';
import { STPConnect } from '../../src/connect/stp-connect.js';
import { attach } from '../../src/socket/host.js';
import { startArray } from '../support/array.js';
import { conformance } from './suite.js';

// One array and two hosts for the whole suite, as two processes of a machine would have them: the
// situations share no port and close what they open.
const ends: (() => Promise<void> | void)[] = [];
const teardown = (end: () => Promise<void> | void): void => void ends.push(end);

try {
  // AVA runs the situations at once: each has a listener, some fill a window.
  const { runDirectory } = await startArray(
    { teardown },
    { boards: 16, boardSize: '8MiB', ports: 256 },
  );
  const clientHost = await attach({ runDirectory, stg: 'test', name: 'client' });
  ends.push(() => clientHost.close());
  const serverHost = await attach({ runDirectory, stg: 'test', name: 'server' });
  ends.push(() => serverHost.close());

  test.after.always('leave the array and stop it', async () => {
    for (const end of ends.reverse()) await end();
  });

  conformance(test, {
    name: 'stp',
    family: 'stp',
    make: async () => ({
      client: new STPConnect({ host: clientHost }),
      server: new STPConnect({ host: serverHost }),
    }),
  });
} catch (error) {
  for (const end of ends.reverse()) await end();
  throw error;
}
