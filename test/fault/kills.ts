/**
 * `npm run test:kills [-- --rounds N] [--seed N]`: kill -9 of client, server, stpd and verbs at random
 * moments, N times, 200 if left out, and what must hold after each (kills-rounds.ts). Rounds whose work
 * had ended before its kill come on top.
 */
import { parseArgs } from 'node:util';
import { KillsHouse } from './kills-house.js';
import { KillsRounds } from './kills-rounds.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    keep: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
process.stdout.write(`${rounds} kills, seed ${values.seed}\n`);
const house = await KillsHouse.start();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void house.destroy(!values.keep).then(() => process.exit(1)));
}
try {
  const work = new KillsRounds(house, Number(values.seed));
  await work.calibrate();
  while (work.told.killed < rounds) process.stdout.write(`${await work.round()}\n`);
  work.restoreAll();
  const left = await house.end();
  const { byVictim, byOperation, ...told } = work.told;
  const all = { ...told, ...Object.fromEntries([...byOperation, ...byVictim]) };
  process.stdout.write(`${JSON.stringify(all)}\n`);
  for (const line of left) process.stdout.write(`left behind: ${line}\n`);
  if (left.length > 0) process.exitCode = 1;
} finally {
  if (values.keep) process.stdout.write(`kept: ${house.base}\n`);
  await house.destroy(!values.keep);
}
