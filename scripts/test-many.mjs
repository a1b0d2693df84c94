/**
 * Runs test/system/many.test.ts with as many connections as it is about, 10,000.
 *
 *   node scripts/test-many.mjs [CONNECTIONS]    1 to 16384, the slots of a default STG
 *
 * Builds what is out of date. Exit code 0 if nothing was leaked, else 1.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const CONNECTIONS_DEFAULT = 10_000;
const CONNECTIONS_MAX = 16_384;

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const connections = Number(process.argv[2] ?? CONNECTIONS_DEFAULT);
const run = (program, args, env = {}) =>
  spawnSync(program, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  }).status;

if (!Number.isInteger(connections) || connections < 1 || connections > CONNECTIONS_MAX) {
  process.stderr.write(`'${process.argv[2]}' connections: give 1 to ${CONNECTIONS_MAX}\n`);
  process.exitCode = 1;
} else if (run(process.execPath, ['scripts/install.mjs']) !== 0) process.exitCode = 1;
else {
  const test = ['dist/test/system/many.test.js', '--serial'];
  const status = run('node_modules/.bin/ava', test, { STPD_MANY: String(connections) });
  process.exitCode = status === 0 ? 0 : 1;
}
