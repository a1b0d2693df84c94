/**
 * Runs smoke programs in every supported Node, on the addon as it is built now, and in the newest
 * also the tests of real programs and of `stpctl forward`.
 *
 *   node scripts/test-nodes.mjs [--if-present | --install] [PROGRAM...]
 *
 * The Nodes come from the npm package `node` and are kept under .cache/nodes/, out of git. A line a
 * version, then `N passed, N failed`. Exit code 0, or 1 if a program failed or a Node could not be
 * had. With --if-present nothing is installed: a Node that is not there is skipped, and the reason is
 * printed. With --install they are installed and nothing is run.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const MAJORS = [22, 24, 26];
const PROGRAM_TIMEOUT_MS = 120_000;
/** A gibibyte through several programs, on a machine that does other things besides. */
const AVA_TIMEOUT_MS = 1_200_000;
const INSTALL_TIMEOUT_MS = 600_000;

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const ifPresent = process.argv.includes('--if-present');
const installOnly = process.argv.includes('--install');
const named = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const programs =
  named.length > 0
    ? named
    : [
        'dist/test/native/smoke.js',
        'dist/test/system/smoke-sockets.js',
        'dist/test/system/smoke-connect.js',
        'dist/test/semantics/program.js',
      ];

/** In the newest Node whole test files run too: what programs bring along changes with it. */
const newestOnly =
  named.length > 0 ? [] : ['dist/test/programs/*.test.js', 'dist/test/system/forward-*.test.js'];

const lastLines = (text) => text.trim().split('\n').slice(-12).join('\n');

/** The version that a binary prints, undefined if it cannot be run. */
function versionOf(binary) {
  const result = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

/** Finds or installs one Node. Returns { binary, version } or { reason }. */
function haveNode(major) {
  const directory = path.join(root, '.cache', 'nodes', String(major));
  const binary = path.join(directory, 'node_modules', 'node', 'bin', 'node');
  const there = versionOf(binary);
  if (there !== undefined) return { binary, version: there };
  if (ifPresent) return { reason: 'not installed here; `npm run test:nodes` installs it' };

  fs.mkdirSync(directory, { recursive: true });
  // Its own package: npm would otherwise look for one further up, and find ours. The package `node`
  // fetches its binary in an install script, which npm may want to see allowed.
  const manifest = { private: true, allowScripts: { node: true } };
  fs.writeFileSync(path.join(directory, 'package.json'), `${JSON.stringify(manifest)}\n`);
  const result = spawnSync(
    'npm',
    ['install', '--prefix', directory, '--no-audit', '--no-fund', `node@${major}`],
    { cwd: directory, encoding: 'utf8', timeout: INSTALL_TIMEOUT_MS },
  );
  const version = versionOf(binary);
  if (version !== undefined) return { binary, version };
  const said = lastLines(`${result.stdout ?? ''}${result.stderr ?? ''}${result.error ?? ''}`);
  return { reason: `npm install node@${major} failed:\n${said}` };
}

let passed = 0;
let failed = 0;

function report(outcome, node, program, detail) {
  const line = [outcome.padEnd(8), node.padEnd(10), program].join(' ').trimEnd();
  process.stdout.write(`${line}${detail ? `\n${detail}` : ''}\n`);
}

for (const major of MAJORS) {
  const { binary, version, reason } = haveNode(major);
  if (reason !== undefined) {
    report(ifPresent ? 'skipped' : 'failed', `v${major}`, '', reason);
    if (!ifPresent) failed++;
    continue;
  }
  if (installOnly) {
    report('present', version, '');
    continue;
  }
  const ava = major === MAJORS.at(-1) ? newestOnly : [];
  for (const program of [...programs, ...ava]) {
    const isAva = ava.includes(program);
    const args = isAva
      ? ['node_modules/ava/entrypoints/cli.mjs', program]
      : [path.resolve(root, program)];
    const attempt = () =>
      spawnSync(binary, args, {
        cwd: root,
        encoding: 'utf8',
        timeout: isAva ? AVA_TIMEOUT_MS : PROGRAM_TIMEOUT_MS,
      });
    const first = attempt();
    /* A second look for the files that start processes, as in second-look.mjs. */
    const result = first.status !== 0 && isAva ? attempt() : first;
    const works = result.status === 0;
    if (works) passed++;
    else failed++;
    const how = first.error?.message ?? first.signal ?? `exit code ${first.status}`;
    const detail =
      first.status === 0 ? '' : `${how}\n${lastLines(`${first.stdout}${first.stderr}`)}`;
    const outcome = first.status === 0 ? 'passed' : 'unsteady';
    report(works ? outcome : 'failed', version, program, detail);
  }
}
if (!installOnly) process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
