/** Commands before and after a backup, without one. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BackupCommands, commandsEnded } from '../../../src/backup/commands.js';
import type { Commands } from '../../../src/backup/config.js';
import { until } from '../../support/array.js';

const never = new AbortController().signal;
const complete = { set: 's1', entries: 2, bytes: 3, complaints: 0 };

function place(t: ExecutionContext) {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-test-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  for (const name of ['a', 'a/b', 'c']) mkdirSync(join(base, name));
  const out = join(base, 'out');
  const logs: string[] = [];
  const keep = (text: string): void => void logs.push(text);
  const commands = (given: Partial<Commands>, paths = [join(base, 'a')]): BackupCommands =>
    new BackupCommands(
      { timeoutMs: 60_000, roots: new Map(), ...given },
      paths.map((path) => Buffer.from(path)),
      { STPBACKUP_HOST: 'h1', OUT: out },
      { info: keep, warn: keep },
    );
  const said = (): string[] => readFileSync(out, 'utf8').trim().split('\n');
  return { base, out, logs, commands, said };
}

const say = (what: string): string => `echo ${what} >> "$OUT"`;

test('before in order, after in the reverse; only of roots that the backup reads', async (t) => {
  const { base, commands, said } = place(t);
  const frame = (name: string) => ({ before: say(`${name}1`), after: say(`${name}2`) });
  const roots = new Map([
    [join(base, 'a'), frame('a')],
    [join(base, 'a/b'), frame('b')],
    [join(base, 'c'), frame('c')],
    [join(base, 'gone'), frame('d')],
  ]);
  const all = commands({ before: say('x1'), after: say('x2'), roots });
  await all.before(never);
  t.deepEqual(await all.after(complete), []);
  t.deepEqual(said(), ['x1', 'a1', 'b1', 'b2', 'a2', 'x2']);
});

test('a command is told what it is for, and how it went', async (t) => {
  const { base, commands, said } = place(t);
  const line = 'echo "$STPBACKUP_WHEN $STPBACKUP_HOST $STPBACKUP_ROOT" >> "$OUT"';
  const after =
    'echo "$STPBACKUP_OUTCOME $STPBACKUP_SET $STPBACKUP_WARNINGS $STPBACKUP_REASON" >> "$OUT"';
  const of = () => commands({ after, roots: new Map([[join(base, 'a'), { before: line }]]) });
  const one = of();
  await one.before(never);
  await one.after(complete);
  await one.after({ ...complete, complaints: 2 });
  await one.after({ failure: new Error('the disk is full') });
  t.deepEqual(said(), [
    `before h1 ${base}/a`,
    'complete s1 0 ',
    'warnings s1 2 ',
    'failed   the disk is full',
  ]);
});

test('before that fails names exit status and last words; after still runs', async (t) => {
  const { commands, said } = place(t);
  const all = commands({
    before: 'echo one >&2; echo no snapshot >&2; exit 7',
    after: say('after'),
  });
  const e = await t.throwsAsync(all.before(never), { code: 'ECHILD' });
  t.regex(e?.message ?? '', /^ECHILD: before \(.*\) failed with exit status 7: one; no snapshot$/);
  t.deepEqual(await all.after({ failure: e }), []);
  t.deepEqual(said(), ['after']);
});

test('after that fails is a reason, and the others run', async (t) => {
  const { base, commands, said } = place(t);
  const roots = new Map([[join(base, 'a'), { after: 'exit 3' }]]);
  const all = commands({ after: say('last'), roots });
  await all.before(never);
  const failures = await all.after(complete);
  t.is(failures.length, 1);
  t.regex(failures[0]?.message ?? '', /after of .*\/a \(exit 3\) failed with exit status 3/);
  t.deepEqual(said(), ['last']);
});

test('no after without a before that was begun', async (t) => {
  const { commands } = place(t);
  const all = commands({ after: 'exit 3' });
  t.deepEqual(await all.after(complete), []);
  t.true(all.hasAfter);
});

const isGone = (pid: number): boolean => {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
};

test('a command that does not end in its time is killed with what it started', async (t) => {
  const { commands, said } = place(t);
  const before = 'sleep 1000 & echo $! >> "$OUT"; trap "" TERM; wait';
  const e = await t.throwsAsync(commands({ before, timeoutMs: 300 }).before(never));
  t.regex(e?.message ?? '', /^ETIMEDOUT: before .* did not end within 0.3 s .* was killed$/);
  const pid = Number(said()[0]);
  t.true(pid > 0);
  await until('what it started is gone', () => isGone(pid));
});

test('a command ends with its session, for the same reason', async (t) => {
  const { commands, out, said } = place(t);
  const over = new AbortController();
  const ended = commands({ before: 'echo $$ >> "$OUT"; exec sleep 1000' }).before(over.signal);
  const failed = t.throwsAsync(ended, { message: 'the server gave up' });
  await until('it runs', () => {
    try {
      return readFileSync(out, 'utf8') !== '';
    } catch {
      return false;
    }
  });
  over.abort(new Error('the server gave up'));
  await failed;
  await commandsEnded();
  t.true(isGone(Number(said()[0])));
});
