/**
 * `npm run test:flips [-- COUNT [SEED]]`: 10,000 changed bits, each found, none restored silently.
 */
import { tryFlips } from '../unit/library/flips.js';

const [count = '10000', seed = String(Date.now() % 2 ** 31)] = process.argv.slice(2);
process.stdout.write(`${count} flips, seed ${seed}\n`);
const { missed, silent } = tryFlips(Number(count), Number(seed), 1);
for (const where of missed) process.stdout.write(`not found by check: ${where}\n`);
for (const where of silent) process.stdout.write(`restored silently: ${where}\n`);
process.stdout.write(`${missed.length} not found, ${silent.length} restored silently\n`);
process.exitCode = missed.length + silent.length > 0 ? 1 : 0;
