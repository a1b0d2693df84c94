/**
 * `npm run test:postgresql [-- --cycles N] [-- --scale N]`: cycles of backup and restore of a
 * PostgreSQL under pgbench load, judged by its own programs (test/programs/postgres-cycles.test.ts).
 *
 *   --cycles N   20
 *   --scale N    of pgbench, 10: some 16 MB each
 *
 * Builds what is out of date. Exit code 0 if all of them were good, else 1; 2 for wrong usage.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const run = (program, args, env = {}) =>
  spawnSync(program, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } }).status;

const numberOf = (name, text) => {
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return text;
  process.stderr.write(`--${name} ${text}: a whole number above 0 is needed\n`);
  process.exit(2);
};

const option = { type: 'string' };
const { values } = parseArgs({
  options: { cycles: { ...option, default: '20' }, scale: { ...option, default: '10' } },
});
const env = {
  STPD_POSTGRESQL_CYCLES: numberOf('cycles', values.cycles),
  STPD_POSTGRESQL_SCALE: numberOf('scale', values.scale),
};
if (run(process.execPath, ['scripts/install.mjs']) !== 0) process.exitCode = 1;
else {
  const test = ['dist/test/programs/postgres-cycles.test.js', '--serial'];
  process.exitCode = run('node_modules/.bin/ava', test, env) === 0 ? 0 : 1;
}
