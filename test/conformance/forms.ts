/** Declares a test for each script of a mechanism, in each form of the calls. */
import test from 'ava';
import { type Place, play, type Setting } from './places.js';
import { scripts } from './scripts.js';

/** For a hang; it is no measure of speed. */
const WATCHDOG_MS = 120_000;
export const forms: readonly { server: Place; client: Place }[] = [
  { server: 'loop', client: 'loop' },
  { server: 'worker', client: 'worker' },
  { server: 'worker', client: 'loop' },
  { server: 'loop', client: 'worker' },
];

export function suite(name: string, setting: Setting, places: typeof forms): void {
  for (const [script, { notes }] of Object.entries(scripts)) {
    for (const place of places) {
      (name === 'tls' ? test.serial : test)(
        `${name}, server on a ${place.server}, client on a ${place.client}: ${script}`,
        async (t) => {
          t.timeout(WATCHDOG_MS);
          t.deepEqual(await play(script, setting, place), {
            server: [...notes.server],
            client: [...notes.client],
          });
        },
      );
    }
  }
}
