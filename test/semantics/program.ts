/**
 * A program, not a test file: all situations over `node:net` and over STP in the Node that runs it,
 * with one host at both ends of each connection (the test has two). `npm run test:nodes` runs it in
 * each supported Node. Prints each situation that differs; exit code 0 or 1.
 *
 *   node dist/test/semantics/program.js [PATTERN]   only the situations whose titles match
 */
import { attach } from '../../src/index.js';
import { startArray } from '../support/array.js';
import { allSituations } from './all-situations.js';
import { compare } from './compare.js';
import { stpFace } from './face.js';
import { unexplained } from './members.js';
import { catchUncaught } from './stage.js';

const pattern = new RegExp(process.argv[2] ?? '.');
const ends: (() => Promise<void> | void)[] = [];
const teardown = (end: () => Promise<void> | void): void => void ends.push(end);

catchUncaught((error) => {
  console.error(error);
  process.exit(1);
});
let different = 0;
let compared = 0;
try {
  const { runDirectory } = await startArray(
    { teardown },
    { boards: 16, boardSize: '8MiB', ports: 256 },
  );
  const host = await attach({ runDirectory, stg: 'test', name: 'situations' });
  teardown(() => host.close());
  const lacking = await unexplained(host);
  if (lacking.length > 0) console.log(`node:net has, and nobody said why not: ${lacking}`);
  different += lacking.length;
  const stp = { face: stpFace(host, host), runDirectory, stg: 'test' };
  await Promise.all(
    allSituations
      .filter(({ title }) => pattern.test(title))
      .map(async (situation) => {
        const said = await compare(situation, stp);
        compared++;
        if (said === undefined) return;
        different++;
        console.log(`=== ${situation.group}: ${situation.title}\n${said}`);
      }),
  );
} finally {
  for (const end of ends.reverse()) await end();
}
console.log(`${compared} situations, ${different} different`);
process.exitCode = different === 0 && compared > 0 ? 0 : 1;
