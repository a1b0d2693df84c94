/**
 * `npm run test:flips [-- COUNT [SEED]]`: 10,000 changed bits over a full set, over a chain, over
 * block deltas and over the catalog, each found, none restored or listed silently.
 */
import { type Flips, tryCatalogFlips, tryFlips } from '../unit/library/flips.js';
import { kinds } from '../unit/library/media-kinds.js';

const [count = '10000', seed = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
const coded = Math.ceil(Number(count) / kinds.length);
const runs: readonly [string, number, (flips: number) => Flips][] = [
  ['full set', Number(count), (n) => tryFlips(n, Number(seed), 1, 'full')],
  ['chain', Number(count), (n) => tryFlips(n, Number(seed), 1, 'chain')],
  ['block deltas', Number(count), (n) => tryFlips(n, Number(seed), 1, 'delta')],
  ...kinds.map((kind): [string, number, (flips: number) => Flips] => [
    `chain, ${kind.name}`,
    coded,
    (n) => tryFlips(n, Number(seed), 1, 'chain', kind),
  ]),
  ['catalog', Number(count), (n) => tryCatalogFlips(n, Number(seed))],
];
for (const [name, flips, run] of runs) {
  process.stdout.write(`${name}: ${flips} flips, seed ${seed}\n`);
  const { missed, silent } = run(flips);
  for (const where of missed) process.stdout.write(`not found: ${where}\n`);
  for (const where of silent) process.stdout.write(`silently something else: ${where}\n`);
  process.stdout.write(
    `${name}: ${missed.length} not found, ${silent.length} silently something else\n`,
  );
  if (missed.length + silent.length > 0) process.exitCode = 1;
}
