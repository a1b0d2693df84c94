/**
 * The install step says what the machine lacks, before anything else fails.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';

const script = fileURLToPath(new URL('../../../scripts/install.mjs', import.meta.url));

/** Runs the script where the given tools, and no others, can be found. */
function installWith(t: ExecutionContext, tools: Readonly<Record<string, string>>) {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-install-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  for (const [name, says] of Object.entries(tools)) {
    writeFileSync(join(directory, name), `#!/bin/sh\necho "${says}"\n`, { mode: 0o755 });
  }
  return spawnSync(process.execPath, [script], { env: { PATH: directory }, encoding: 'utf8' });
}

test('names everything that is missing, and how to get it', (t) => {
  const { status, stderr } = installWith(t, {});
  t.is(status, 1);
  for (const what of [/^ {2}cmake$/m, /C\+\+17 compiler/, /^ {2}make/m]) t.regex(stderr, what);
  t.regex(stderr, /apt-get install cmake g\+\+ make/);
  t.regex(stderr, /dnf install cmake gcc-c\+\+ make/);
});

test('names only what is missing', (t) => {
  const { status, stderr } = installWith(t, { 'g++': 'g++ 12.2.0', make: 'GNU Make 4.3' });
  t.is(status, 1);
  t.regex(stderr, /apt-get install cmake$/m);
});

test('an old cmake is missing too', (t) => {
  const tools = { 'g++': 'g++ 12.2.0', make: 'GNU Make 4.3', cmake: 'cmake version 3.10.2' };
  const { status, stderr } = installWith(t, tools);
  t.is(status, 1);
  t.regex(stderr, /cmake 3\.15 or later \(found 3\.10\.2\)/);
});
