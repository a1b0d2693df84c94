/** For tests that run parts of the package as another user: only root can. */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';

/** Users who have nothing to do with each other. */
export const OTHER_UID = 65534;
export const THIRD_UID = 65533;

export const isRoot = process.getuid?.() === 0;

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** What is only needed to build and to test. */
const NOT_NEEDED =
  /node_modules\/(?:\.cache|@biomejs|@types|typescript|@typescript|echarts|zeromq)/;

/** The package where that user can read it: in place, or else a copy that goes with the test. */
export function packageFor(t: Pick<ExecutionContext<unknown>, 'teardown'>, uid: number): string {
  const main = join(root, 'dist/src/index.js');
  const look = `require('fs').readFileSync(${JSON.stringify(main)})`;
  const { status } = spawnSync(process.execPath, ['-e', look], { uid, gid: uid, cwd: '/' });
  if (status === 0) return root;
  const base = mkdtempSync(join(tmpdir(), 'stpd-package-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  for (const part of ['dist', 'build/Release', 'package.json', 'node_modules']) {
    const filter = (path: string): boolean => !NOT_NEEDED.test(path);
    cpSync(join(root, part), join(base, part), { recursive: true, filter });
  }
  chmodSync(base, 0o755);
  return base;
}
