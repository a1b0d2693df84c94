/**
 * `npm test`: everything that a change can break.
 *
 *   node scripts/test.mjs [AVA ARGUMENTS]    with arguments only AVA runs, on these files
 *
 * Builds what is out of date, checks format and lint, runs AVA, then the smoke programs in every
 * other Node that is at hand. A file that failed may run once more, alone (second-look.mjs); it is
 * named at the end. The last line is `N passed, N failed, N skipped`; exit code 0 or 1.
 */
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { secondLook } from './second-look.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const started = performance.now();
const args = process.argv.slice(2);
const totals = { passed: 0, failed: 0, skipped: 0 };

const step = (name) => process.stdout.write(`\n--- ${name}\n`);

/** Runs a program on this terminal; its output is handed on and returned. */
function run(command, commandArgs) {
  return new Promise((resolve) => {
    const child = spawn(command, commandArgs, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const [stream, to] of [
      [child.stdout, process.stdout],
      [child.stderr, process.stderr],
    ]) {
      stream.on('data', (text) => {
        output += text;
        to.write(text);
      });
    }
    child.once('error', (error) => resolve({ code: 1, output: String(error) }));
    child.once('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

async function check(name, command, commandArgs) {
  step(name);
  const { code } = await run(command, commandArgs);
  if (code === 0) totals.passed++;
  else totals.failed++;
}

/** Lines that match; where the pattern has a group, the sum of its numbers. */
const count = (output, pattern) => {
  let sum = 0;
  for (const [, number] of output.matchAll(pattern))
    sum += number === undefined ? 1 : Number(number);
  return sum;
};

const unsteady = [];

async function ava() {
  step('tests');
  const program = path.join(root, 'node_modules/.bin/ava');
  const { code, output } = await run(program, args);
  totals.passed += count(output, /^ {2}✔ /gm);
  totals.skipped += count(output, /^ {2}- \[skip\]/gm);
  if (code === 0) return;
  const failed = count(output, /^ {2}✘ /gm);
  const files = args.length === 0 ? secondLook(output, root) : [];
  if (files.length > 0) {
    step(`once more, alone: ${files.join(', ')}`);
    const again = await run(program, ['--concurrency', '1', ...files]);
    if (again.code === 0) {
      unsteady.push(...files);
      totals.passed += failed;
      return;
    }
  }
  /* A file that could not be run fails no test and still fails the run. */
  totals.failed += Math.max(failed, 1);
}

async function nodes() {
  step('other Nodes');
  const { output } = await run(process.execPath, ['scripts/test-nodes.mjs', '--if-present']);
  totals.passed += count(output, /^(\d+) passed, \d+ failed$/gm);
  totals.failed += count(output, /^\d+ passed, (\d+) failed$/gm);
  totals.skipped += [...output.matchAll(/^skipped /gm)].length;
  for (const [, what] of output.matchAll(/^unsteady (.*)$/gm)) unsteady.push(what);
}

const built = spawnSync(process.execPath, ['scripts/install.mjs'], { cwd: root, stdio: 'inherit' });
if (built.status !== 0) totals.failed++;
else {
  if (args.length === 0) await check('format and lint', 'node_modules/.bin/biome', ['check', '.']);
  await ava();
  if (args.length === 0) await nodes();
}
if (unsteady.length > 0) {
  step('unsteady: failed beside the others, passed alone. Why is above');
  process.stdout.write(`${unsteady.join('\n')}\n`);
}
process.stdout.write(`\n${Math.round((performance.now() - started) / 1000)} s\n`);
process.stdout.write(
  `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`,
);
process.exitCode = totals.failed === 0 && totals.passed > 0 ? 0 : 1;
