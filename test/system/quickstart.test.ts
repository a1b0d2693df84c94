/**
 * The README's first command, on a small tree of its own.
 */
import { spawn } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { type Finished, finished, until } from '../support/array.js';

const script = fileURLToPath(new URL('../../../scripts/quickstart.mjs', import.meta.url));

interface Place {
  readonly tree: string;
  /** TMPDIR of the quickstart: what it leaves there is seen. */
  readonly scratch: string;
}

function place(t: ExecutionContext<unknown>, files = 300): Place {
  const base = mkdtempSync(join(tmpdir(), 'stpd-qs-test-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const tree = join(base, 'tree');
  const scratch = join(base, 'tmp');
  mkdirSync(scratch);
  for (let i = 0; i < files; i++) {
    const directory = join(tree, `d${i % 10}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `file-${i}`), Buffer.alloc((i * 997) % 50_000, i));
  }
  writeFileSync(Buffer.from(`${tree}/not-utf8-\xff\xfe`, 'latin1'), 'bytes');
  linkSync(join(tree, 'd1', 'file-1'), join(tree, 'hard'));
  symlinkSync('d1/file-1', join(tree, 'soft'));
  return { tree, scratch };
}

function quickstart(scratch: string, args: string[]): ReturnType<typeof spawn> {
  return spawn(process.execPath, [script, ...args], {
    env: { ...process.env, TMPDIR: scratch },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

const show = (result: Finished): string => `${result.stdout}${result.stderr}`;

test('backs a tree up, restores it, compares, and leaves nothing', async (t) => {
  const { tree, scratch } = place(t);
  const result = await finished(quickstart(scratch, [tree]));
  t.is(result.code, 0, show(result));
  t.regex(result.stdout, /backup: 314 entries/);
  t.regex(result.stdout, /314 entries, .*: the same/);
  t.is([...result.stdout.matchAll(/TCP carried \d+\.\d+ %/g)].length, 2);
  t.deepEqual(readdirSync(scratch), []);
});

test('two at the same time do not disturb each other', async (t) => {
  const one = place(t, 50);
  const other = place(t, 60);
  const results = await Promise.all(
    [one, other].map(({ tree, scratch }) => finished(quickstart(scratch, [tree]))),
  );
  t.deepEqual(
    results.map((result) => result.code),
    [0, 0],
    results.map(show).join('\n'),
  );
});

test('interrupted, it stops everything and leaves nothing', async (t) => {
  const { tree, scratch } = place(t);
  const child = quickstart(scratch, [tree]);
  let said = '';
  child.stdout?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const end = finished(child);
  await until('the server is ready', () => /server backup1 answers/.test(said));
  child.kill('SIGINT');
  const result = await end;
  t.is(result.code, 130, show(result));
  t.deepEqual(readdirSync(scratch), []);
});

test('a tree that is not there, and an unknown flag, are told plainly', async (t) => {
  const { tree, scratch } = place(t, 2);
  const missing = await finished(quickstart(scratch, [join(tree, 'nowhere')]));
  t.is(missing.code, 1);
  t.regex(missing.stdout, /nowhere does not exist/);
  const flag = await finished(quickstart(scratch, ['--fast']));
  t.is(flag.code, 2);
  t.deepEqual(readdirSync(scratch), []);
});
