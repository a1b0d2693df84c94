/**
 * `npm run test:flips [-- COUNT [SEED]]`: 10,000 changed bits over a full set, over a chain and over
 * the catalog, each found, none restored or listed silently.
 */
import { type Flips, tryCatalogFlips, tryFlips } from '../unit/library/flips.js';

const [count = '10000', seed = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
const runs: readonly [string, () => Flips][] = [
  ['full set', () => tryFlips(Number(count), Number(seed), 1, 'full')],
  ['chain', () => tryFlips(Number(count), Number(seed), 1, 'chain')],
  ['catalog', () => tryCatalogFlips(Number(count), Number(seed))],
];
for (const [name, run] of runs) {
  process.stdout.write(`${name}: ${count} flips, seed ${seed}\n`);
  const { missed, silent } = run();
  for (const where of missed) process.stdout.write(`not found: ${where}\n`);
  for (const where of silent) process.stdout.write(`silently something else: ${where}\n`);
  process.stdout.write(
    `${name}: ${missed.length} not found, ${silent.length} silently something else\n`,
  );
  if (missed.length + silent.length > 0) process.exitCode = 1;
}
