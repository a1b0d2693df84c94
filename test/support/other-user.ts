/** What a test needs to run a program of this package as another user than root. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';

/** `nobody` of Debian. */
export const OTHER_UID = 65534;
/** Somebody else still. */
export const THIRD_UID = 65533;

export const isRoot = process.getuid?.() === 0;

/**
 * A copy of the package that the other user may read, in a directory where it may make files, and
 * a run directory that it can reach.
 */
export function packageForOthers(
  t: Pick<ExecutionContext<unknown>, 'teardown'>,
  runDirectory: string,
): { root: string } {
  const root = mkdtempSync(join(tmpdir(), 'stpd-other-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const ours = fileURLToPath(new URL('../../../', import.meta.url));
  for (const part of [
    'dist/src',
    'build/Release',
    'package.json',
    'node_modules/zod',
    'node_modules/commander',
    'node_modules/cli-table3',
    'node_modules/string-width',
    'node_modules/strip-ansi',
    'node_modules/ansi-regex',
    'node_modules/emoji-regex',
    'node_modules/is-fullwidth-code-point',
  ]) {
    if (existsSync(join(ours, part))) {
      cpSync(join(ours, part), join(root, part), { recursive: true, dereference: true });
    }
  }
  chmodSync(root, 0o777);
  chmodSync(dirname(runDirectory), 0o755);
  return { root };
}

/** Why tests with another user cannot run here, if so. */
export const whyNoOtherUser = (): string | undefined =>
  process.getuid?.() === 0 ? undefined : 'needs root, to become another user';

/**
 * Starts a module as the other user, on an array of this one.
 * @param script its text; `ENTRY` in it stands for the package's entry
 */
export function startAsOther(
  t: Pick<ExecutionContext<unknown>, 'teardown'>,
  runDirectory: string,
  script: string,
): ChildProcess {
  const { root } = packageForOthers(t, runDirectory);
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', script.replaceAll('ENTRY', `${root}/dist/src/index.js`)],
    { uid: OTHER_UID, gid: OTHER_UID, cwd: '/', stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.teardown(() => void child.kill('SIGKILL'));
  return child;
}

/** What is only needed to build and to test. */
const NOT_NEEDED =
  /node_modules\/(?:\.cache|@biomejs|@types|typescript|@typescript|echarts|zeromq)/;

/** The whole package where that user can read it: in place, or else a copy that goes with the test. */
export function packageFor(t: Pick<ExecutionContext<unknown>, 'teardown'>, uid: number): string {
  const ours = fileURLToPath(new URL('../../../', import.meta.url));
  const look = `require('fs').readFileSync(${JSON.stringify(join(ours, 'dist/src/index.js'))})`;
  const { status } = spawnSync(process.execPath, ['-e', look], { uid, gid: uid, cwd: '/' });
  if (status === 0) return ours;
  const root = mkdtempSync(join(tmpdir(), 'stpd-package-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const filter = (path: string): boolean => !NOT_NEEDED.test(path);
  for (const part of ['dist', 'build/Release', 'package.json', 'node_modules']) {
    cpSync(join(ours, part), join(root, part), { recursive: true, filter });
  }
  chmodSync(root, 0o755);
  return root;
}
