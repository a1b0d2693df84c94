/** kill -9 of client, server, stpd and verbs at random moments: a few of the rounds of test:kills. */
import test from 'ava';
import { KillsHouse } from './kills-house.js';
import { KillsRounds } from './kills-rounds.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const rounds = Number(process.env.KILLS ?? 6);

test('trap 13: kill -9 at random moments: what is listed restores, and nothing is left', async (t) => {
  t.timeout(600_000);
  t.log(`seed ${seed}, ${rounds} rounds`);
  const house = await KillsHouse.start();
  t.teardown(() => house.destroy(true));
  const work = new KillsRounds(house, seed);
  await work.calibrate();
  for (let i = 0; i < rounds; i++) t.log(await work.round());
  t.deepEqual(await house.end(), []);
});
