/** The scripts, over each mechanism and in each form of the calls. */
import { randomBytes } from 'node:crypto';
import test from 'ava';
import { attach } from '../../src/socket/host.js';
import { startArray } from '../support/array.js';
import { type Place, play, type Setting } from './places.js';
import { scripts } from './scripts.js';

/** For a hang; it is no measure of speed. */
const WATCHDOG_MS = 120_000;
const forms: readonly { server: Place; client: Place }[] = [
  { server: 'loop', client: 'loop' },
  { server: 'worker', client: 'worker' },
  { server: 'worker', client: 'loop' },
  { server: 'loop', client: 'worker' },
];

function suite(name: string, setting: Setting, places: typeof forms): void {
  for (const [script, { notes }] of Object.entries(scripts)) {
    for (const place of places) {
      test(`${name}, server on a ${place.server}, client on a ${place.client}: ${script}`, async (t) => {
        t.timeout(WATCHDOG_MS);
        t.deepEqual(await play(script, setting, place), {
          server: [...notes.server],
          client: [...notes.client],
        });
      });
    }
  }
}

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
  const identity = 'host-a';
  const key = randomBytes(32);
  // TLS lives on event loops only.
  suite(
    'tls',
    {
      family: 'inet',
      prepare: (layer, fd, role) => {
        const lookup = (name: string): Buffer | null => (name === identity ? key : null);
        layer.setsockopt(fd, 'psk', role === 'connecting' ? { identity, key } : { lookup });
      },
    },
    forms.slice(0, 1),
  );
} catch (error) {
  for (const end of ends.reverse()) await end();
  throw error;
}
