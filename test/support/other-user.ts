/**
 * Programs of another user: a copy of the package that everybody may read, and processes that run it
 * under another uid. Needs root.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';

/** nobody, on Debian */
export const OTHER_UID = 65534;

/** Why these tests cannot run here, if so. */
export const whyNoOtherUser = (): string | undefined =>
  process.getuid?.() === 0 ? undefined : 'needs root, to become another user';

/**
 * Starts a module of which `index` is the package, as another user, on an array of this one.
 * @param script its text; `ENTRY` in it stands for the package's entry
 */
export function startAsOther(
  t: ExecutionContext<unknown>,
  runDirectory: string,
  script: string,
): ChildProcess {
  const base = mkdtempSync(join(tmpdir(), 'stpd-other-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const root = fileURLToPath(new URL('../../../', import.meta.url));
  for (const part of ['dist/src', 'build/Release', 'package.json', 'node_modules/zod']) {
    if (existsSync(join(root, part)))
      cpSync(join(root, part), join(base, part), { recursive: true });
  }
  chmodSync(base, 0o755);
  chmodSync(dirname(runDirectory), 0o755);
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', script.replaceAll('ENTRY', `${base}/dist/src/index.js`)],
    { uid: OTHER_UID, gid: OTHER_UID, cwd: '/', stdio: ['pipe', 'pipe', 'pipe'] },
  );
  t.teardown(() => void child.kill('SIGKILL'));
  return child;
}
