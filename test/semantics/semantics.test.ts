/**
 * Node's own behaviour is the reference: each situation runs over `node:net` and over STP, and the
 * journals are equal, but for the differences that are wanted (differences.ts). Servers and sockets
 * that connect have a host each; program.ts is the same with one for both, in every supported Node.
 */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { attach } from '../../src/index.js';
import { startArray } from '../support/array.js';
import { allSituations } from './all-situations.js';
import { compare } from './compare.js';
import { differences } from './differences.js';
import { generated } from './document.js';
import { stpFace } from './face.js';
import { unexplained } from './members.js';
import { catchUncaught } from './stage.js';

const ends: (() => Promise<void> | void)[] = [];
const teardown = (end: () => Promise<void> | void): void => void ends.push(end);

catchUncaught((error) => {
  for (const listener of process.listeners('uncaughtException')) {
    listener(error, 'uncaughtException');
  }
});

try {
  const { runDirectory } = await startArray(
    { teardown },
    { boards: 16, boardSize: '8MiB', ports: 256 },
  );
  const serving = await attach({ runDirectory, stg: 'test', name: 'serving' });
  teardown(() => serving.close());
  const connecting = await attach({ runDirectory, stg: 'test', name: 'connecting' });
  teardown(() => connecting.close());
  const stp = { face: stpFace(serving, connecting), runDirectory, stg: 'test' };

  for (const situation of allSituations) {
    test(`${situation.group}: ${situation.title}`, async (t) => {
      t.is(await compare(situation, stp), undefined);
    });
  }

  test('whatever net has, a host has or there is a reason why not', async (t) => {
    t.deepEqual(await unexplained(connecting), []);
  });

  test.after.always('leave the array and stop it', async () => {
    for (const end of ends.reverse()) await end();
  });
} catch (error) {
  for (const end of ends.reverse()) await end();
  throw error;
}

test('every wanted difference belongs to a situation, whose titles differ', (t) => {
  const titles = allSituations.map(({ title }) => title);
  t.is(new Set(titles).size, titles.length);
  for (const { situation } of differences) t.true(titles.includes(situation), situation);
});

test('docs/sockets.md is what `npm run docs` writes', (t) => {
  const path = new URL('../../../docs/sockets.md', import.meta.url);
  const document = readFileSync(path, 'utf8');
  t.is(document, generated(document));
});
