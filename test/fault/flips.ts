/**
 * `npm run test:flips [-- COUNT [SEED]]`: COUNT changed bits, 10,000 if left out, over the media and
 * manifests of full sets, chains, block deltas, large files, sets of several media and coded ones, and as many
 * over the catalog. Each is found, none restores or is listed silently.
 */
import { type Flips, tryCatalogFlips, tryFlips } from '../unit/library/flips.js';
import { kinds } from '../unit/library/media-kinds.js';

const [count = '10000', seed = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
type Run = readonly [string, (flips: number) => Flips];
const media: readonly Run[] = [
  ['full set', (n) => tryFlips(n, Number(seed), 1, 'full')],
  ['chain', (n) => tryFlips(n, Number(seed), 1, 'chain')],
  ['block deltas', (n) => tryFlips(n, Number(seed), 1, 'delta')],
  ['large files', (n) => tryFlips(n, Number(seed), 4, 'large')],
  ['several media', (n) => tryFlips(n, Number(seed), 1, 'streams')],
  ...kinds.map(
    (kind): Run => [`chain, ${kind.name}`, (n) => tryFlips(n, Number(seed), 1, 'chain', kind)],
  ),
];
const each = Math.ceil(Number(count) / media.length);
const runs: readonly (readonly [...Run, number])[] = [
  ...media.map(([name, run]) => [name, run, each] as const),
  ['catalog', (n) => tryCatalogFlips(n, Number(seed)), Number(count)],
];
for (const [name, run, flips] of runs) {
  const startMs = performance.now();
  const { missed, silent } = run(flips);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  for (const where of missed) process.stdout.write(`not found: ${where}\n`);
  for (const where of silent) process.stdout.write(`silently something else: ${where}\n`);
  process.stdout.write(
    `${name}: ${flips} flips, seed ${seed}: ${missed.length} not found, ` +
      `${silent.length} silently something else; ${seconds} s\n`,
  );
  if (missed.length + silent.length > 0) process.exitCode = 1;
}
