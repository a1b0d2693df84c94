/**
 * `npm run test:flips [-- COUNT [SEED]]`: 10,000 changed bits, each found, none restored silently.
 */
import { tryFlips } from '../unit/library/flips.js';
import { kinds } from '../unit/library/media-kinds.js';

const [count = '10000', seed = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
process.stdout.write(`${count} flips, seed ${seed}\n`);
const share = Math.ceil(Number(count) / 3);
const missed: string[] = [];
const silent: string[] = [];
// A third in plain media, the rest in the kinds of coded ones.
for (const kind of [undefined, ...kinds]) {
  const flips = kind === undefined ? share : Math.ceil((2 * share) / kinds.length);
  const found = tryFlips(flips, Number(seed), 1, kind);
  process.stdout.write(`${kind?.name ?? 'plain'}: ${flips} flips\n`);
  missed.push(...found.missed);
  silent.push(...found.silent);
}
for (const where of missed) process.stdout.write(`not found by check: ${where}\n`);
for (const where of silent) process.stdout.write(`restored silently: ${where}\n`);
process.stdout.write(`${missed.length} not found, ${silent.length} restored silently\n`);
process.exitCode = missed.length + silent.length > 0 ? 1 : 0;
