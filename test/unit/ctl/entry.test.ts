/** Programs run their bundles, and their modules where these are newer. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { mainOf } from '../../../src/ctl/entry.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));

for (const program of ['stpd', 'stpctl', 'stpbackup']) {
  test(`${program} is bundled`, (t) => {
    t.true(mainOf(program).endsWith(`dist/bundle/${program}.js`));
  });
}

test('modules that were compiled after the bundle run in its place', (t) => {
  const copy = mkdtempSync(join(tmpdir(), 'stpd-entry-'));
  t.teardown(() => rmSync(copy, { recursive: true, force: true }));
  for (const part of ['package.json', 'dist/src', 'dist/bundle']) {
    cpSync(join(root, part), join(copy, part), { recursive: true, preserveTimestamps: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  const loaded = (): string => {
    const script = `import { mainOf } from './dist/src/ctl/entry.js'; console.log(mainOf('stpctl'))`;
    const options = { cwd: copy, encoding: 'utf8' as const };
    return spawnSync(
      process.execPath,
      ['--input-type=module', '-e', script],
      options,
    ).stdout.trim();
  };
  t.true(loaded().endsWith('dist/bundle/stpctl.js'));
  const later = Date.now() / 1000 + 10;
  utimesSync(join(copy, 'dist/src/ctl/entry.js'), later, later);
  t.true(loaded().endsWith('dist/src/ctl/stpctl/main.js'));
});
