/** The daemon's life, with an array that has no memory: `fake-stpd.ts`. */
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { native } from '../../../src/native.js';
import { findHolder, isAlive } from '../../../src/run-directory.js';
import {
  compiled,
  type Outcome,
  runProgram,
  startProgram,
  temporaryDirectory,
  until,
} from '../daemon/workbench.js';

const script = compiled('test/unit/ctl/fake-stpd.js');
const SMALL = ['--boards=8', '--board-size=1MiB'];

interface Place {
  readonly run: string;
  readonly stpd: (verb: string, args?: readonly string[], fault?: string) => Promise<Outcome>;
}

const findIn = (run: string) => findHolder(run, (fd) => native().lockFile(fd));

/** A run directory whose daemon does not outlive the test. */
function place(t: ExecutionContext): Place {
  const run = join(temporaryDirectory(t), 'run');
  t.teardown(async () => {
    const holder = existsSync(run) ? await findIn(run) : undefined;
    if (holder !== undefined) process.kill(holder.pid, 'SIGKILL');
  });
  const stpd: Place['stpd'] = (verb, args = [], fault = '') =>
    runProgram(t, script, [verb, '--run-dir', run, ...args], { STPD_TEST_ARRAY: fault });
  return { run, stpd };
}

const pidOf = (text: string): number => Number(/pid ([0-9]+)/.exec(text)?.[1]);

test.serial('start, status, stop: a life without traces', async (t) => {
  const { run, stpd } = place(t);
  const started = await stpd('start', SMALL);
  t.deepEqual([started.code, started.stderr], [0, '']);
  t.regex(started.stdout, /^stpd \(pid \d+\) serves \S+: 8 boards of 1MiB, log \S+stpd\.log\n$/);
  t.deepEqual(readdirSync(run).sort(), ['control.sock', 'stpd.lock', 'stpd.log']);
  t.is(statSync(join(run, 'control.sock')).mode & 0o777, 0o600);
  t.is(statSync(run).mode & 0o777, 0o755);

  const status = await stpd('status');
  t.is(status.code, 0);
  t.regex(status.stdout, /serves .*: up 1 h 2 min, 0 of 8 boards of 1 MiB in use, STGs: 0/);

  const holder = await findIn(run);
  t.is(holder?.pid, pidOf(started.stdout));
  const stopped = await stpd('stop');
  t.deepEqual([stopped.code, stopped.stderr], [0, '']);
  t.regex(stopped.stdout, /\(pid \d+\) on \S+ has ended/);
  t.deepEqual(readdirSync(run), []);
  t.false(holder !== undefined && isAlive(holder));
  t.is((await stpd('status')).code, 5);
});

test.serial('the background daemon is in its own session, not in our directory', async (t) => {
  const { stpd } = place(t);
  const pid = pidOf((await stpd('start', SMALL)).stdout);
  const session = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3];
  t.is(Number(session), pid);
  t.is(readlinkSync(`/proc/${pid}/cwd`), '/');
});

test.serial('status as JSON is one document with stable names', async (t) => {
  const { run, stpd } = place(t);
  const names = ['running', 'answering', 'pid', 'runDirectory', 'array', 'problem'].sort();
  const none = await stpd('status', ['--json']);
  t.is(none.code, 5);
  const { status } = JSON.parse(none.stdout);
  t.deepEqual(Object.keys(status).sort(), names);
  t.like(status, { running: false, answering: false, pid: null, runDirectory: run, array: null });
  const started = await stpd('start', SMALL);
  const some = JSON.parse((await stpd('status', ['--json'])).stdout).status;
  t.deepEqual(Object.keys(some).sort(), names);
  t.like(some, { running: true, answering: true, pid: pidOf(started.stdout), problem: null });
  t.is(some.array.boardsTotal, 8);
});

test.serial(
  'a second start on the same run directory is refused with PID and directory',
  async (t) => {
    const { run, stpd } = place(t);
    const first = pidOf((await stpd('start', SMALL)).stdout);
    for (const args of [SMALL, [...SMALL, '--foreground']]) {
      const second = await stpd('start', args);
      t.is(second.code, 1);
      t.true(second.stderr.includes(`(pid ${first}) already serves ${run}`));
    }
    t.is((await stpd('status')).code, 0);
  },
);

test.serial('of several starts at once one serves', async (t) => {
  const { run, stpd } = place(t);
  const outcomes = await Promise.all([1, 2, 3].map(() => stpd('start', SMALL, 'slow')));
  t.deepEqual(outcomes.map(({ code }) => code).sort(), [0, 1, 1]);
  for (const { code, stderr } of outcomes) if (code === 1) t.regex(stderr, /already serves/);
  t.is((await stpd('stop')).code, 0);
  t.deepEqual(readdirSync(run), []);
});

test.serial('what is stale of a killed daemon does not keep the next from starting', async (t) => {
  const { run, stpd } = place(t);
  const first = pidOf((await stpd('start', SMALL)).stdout);
  const holder = await findIn(run);
  process.kill(first, 'SIGKILL');
  await until(() => holder === undefined || !isAlive(holder), 'the daemon dies');
  t.true(existsSync(join(run, 'control.sock')));
  t.is((await stpd('status')).code, 5);
  t.is((await stpd('stop')).code, 0);
  t.is((await stpd('start', SMALL)).code, 0);
  t.is((await stpd('status')).code, 0);
  t.is((await stpd('stop')).code, 0);
  t.deepEqual(readdirSync(run), []);
});

test.serial('stop does not touch a process whose number lies beside a free lock', async (t) => {
  const { run, stpd } = place(t);
  await stpd('start', SMALL);
  await stpd('stop');
  const { child } = startProgram(t, '-e', ['setTimeout(() => undefined, 100000)']);
  writeFileSync(join(run, 'stpd.lock'), `${child.pid}\n`, { mode: 0o600 });
  const stopped = await stpd('stop');
  t.is(stopped.code, 0);
  t.regex(stopped.stdout, /not running/);
  t.is(child.exitCode, null);
  t.is(child.signalCode, null);
});

test.serial(
  'stop of a daemon that is stopped gives up with advice, and ends it once it goes on',
  async (t) => {
    const { stpd } = place(t);
    const pid = pidOf((await stpd('start', SMALL)).stdout);
    process.kill(pid, 'SIGSTOP');
    const status = await stpd('status');
    t.is(status.code, 1);
    t.true(status.stdout.includes(`(pid ${pid})`) && status.stdout.includes('has not answered'));
    const stopped = await stpd('stop', ['--timeout=1']);
    t.is(stopped.code, 1);
    t.true(stopped.stderr.includes(`kill -CONT ${pid}`));
    process.kill(pid, 'SIGCONT');
    t.is((await stpd('stop')).code, 0);
  },
);

test.serial('an interrupt of a start ends what it has started', async (t) => {
  const { run } = place(t);
  const args = ['start', '--run-dir', run, ...SMALL];
  const { child, outcome } = startProgram(t, script, args, { STPD_TEST_ARRAY: 'slow' });
  await until(() => existsSync(join(run, 'stpd.lock')), 'the daemon has the lock');
  child.kill('SIGINT');
  const { code, stderr } = await outcome;
  t.deepEqual([code, stderr], [1, 'stpd: interrupted: stpd was ended before it served\n']);
  t.is(await findIn(run), undefined);
  t.deepEqual(readdirSync(run), []);
});

test.serial('an array that cannot start is told on the terminal, and logged', async (t) => {
  const { run, stpd } = place(t);
  const started = await stpd('start', SMALL, 'refuse');
  t.is(started.code, 1);
  t.is(started.stderr, `stpd: the boards are out of stock; see ${run}/stpd.log\n`);
  t.deepEqual(readdirSync(run), ['stpd.log']);
  t.regex(readFileSync(join(run, 'stpd.log'), 'utf8'), /"level":"fatal".*out of stock/);
});

test.serial(
  'a daemon that dies without a word leaves its last words on the terminal',
  async (t) => {
    const { stpd } = place(t);
    const started = await stpd('start', SMALL, 'abort');
    t.is(started.code, 1);
    t.regex(started.stderr, /ended of SIGABRT before it served; the end of .*stpd\.log:/);
  },
);

for (const [fault, words] of [
  ['fatal', 'a board burns'],
  ['crash', 'nobody expected this'],
] as const) {
  test.serial(`a running daemon that fails (${fault}) ends, and its log tells why`, async (t) => {
    const { run, stpd } = place(t);
    t.is((await stpd('start', SMALL, fault)).code, 0);
    await until(() => !existsSync(join(run, 'stpd.lock')), 'it ends');
    t.deepEqual(readdirSync(run), ['stpd.log']);
    t.true(readFileSync(join(run, 'stpd.log'), 'utf8').includes(words));
  });
}

test.serial('a log with a warning stays', async (t) => {
  const { run, stpd } = place(t);
  await stpd('start', SMALL, 'warn');
  await stpd('stop');
  t.deepEqual(readdirSync(run), ['stpd.log']);
});

test.serial('a log that the configuration puts elsewhere stays', async (t) => {
  const { run, stpd } = place(t);
  const logFile = join(temporaryDirectory(t), 'elsewhere.log');
  await stpd('start', [...SMALL, `--log-file=${logFile}`]);
  t.deepEqual(readdirSync(run).sort(), ['control.sock', 'stpd.lock']);
  await stpd('stop');
  t.deepEqual(readdirSync(run), []);
  t.regex(readFileSync(logFile, 'utf8'), /"msg":"serving"[\s\S]*SIGTERM: ending/);
});

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test.serial(`in the foreground ${signal} ends it in order, logs are readable`, async (t) => {
    const { run } = place(t);
    const args = ['start', '--foreground', '--run-dir', run, ...SMALL];
    const { child, outcome } = startProgram(t, script, args);
    await until(() => existsSync(join(run, 'control.sock')), 'it serves');
    t.deepEqual(readdirSync(run).sort(), ['control.sock', 'stpd.lock']);
    child.kill(signal);
    const { code, stderr, stdout } = await outcome;
    t.is(code, 0);
    t.is(stdout, '');
    t.regex(stderr, new RegExp(`INFO {2}serving\n.*INFO {2}${signal}: ending\n.*INFO {2}ended\n$`));
    t.deepEqual(readdirSync(run), []);
  });
}

test.serial('an array that cannot end in order makes the exit code say so', async (t) => {
  const { run } = place(t);
  const args = ['start', '--foreground', '--run-dir', run, ...SMALL];
  const { child, outcome } = startProgram(t, script, args, { STPD_TEST_ARRAY: 'bad-stop' });
  await until(() => existsSync(join(run, 'control.sock')), 'it serves');
  child.kill('SIGTERM');
  const { code, stderr } = await outcome;
  t.is(code, 1);
  t.regex(stderr, /could not end in order\n.*a board is stuck/);
  t.deepEqual(readdirSync(run), []);
});

test.serial('restart makes a new daemon with the new options', async (t) => {
  const { run, stpd } = place(t);
  const first = pidOf((await stpd('start', SMALL)).stdout);
  const again = await stpd('restart', ['--boards=4', '--board-size=1MiB']);
  t.is(again.code, 0);
  const [ended, serves] = again.stdout.split('\n');
  t.is(pidOf(ended ?? ''), first);
  t.not(pidOf(serves ?? ''), first);
  t.regex(serves ?? '', /4 boards of 1MiB/);
  t.is((await stpd('stop')).code, 0);
  t.deepEqual(readdirSync(run), []);
});

test.serial('restart with a refused option ends nothing', async (t) => {
  const { stpd } = place(t);
  const first = pidOf((await stpd('start', SMALL)).stdout);
  const again = await stpd('restart', ['--boards=3']);
  t.is(again.code, 2);
  t.is(pidOf((await stpd('status')).stdout), first);
});

test.serial('refused values leave no trace: exit code 2, no directory', async (t) => {
  const { run, stpd } = place(t);
  for (const [args, message] of [
    [['--boards=3'], /^stpd: --boards: 3 is too few: an array has at least 4, so that/],
    [['--boards=8x'], /^stpd: --boards: "8x" is not a whole number/],
    [['--memory=1023GiB', '--board-size=1GiB'], /^stpd: memory: .* can give .*--memory/],
    [['--directors=1000'], /^stpd: --directors: 1000 is too many/],
    [['--config=/nonexistent.json'], /^stpd: \/nonexistent\.json: cannot be read/],
    [['--bords=8'], /unknown option '--bords=8'/],
  ] as const) {
    const { code, stderr } = await stpd('start', args);
    t.is(code, 2);
    t.regex(stderr, message);
  }
  t.false(existsSync(run));
});

test.serial('the configuration file is used, flags override it', async (t) => {
  const { stpd } = place(t);
  const file = join(temporaryDirectory(t), 'stpd.json');
  writeFileSync(file, '{"memory": "8MiB", "boardSize": "1MiB"}');
  const started = await stpd('start', ['--config', file, '--boards=5']);
  t.is(started.code, 0);
  t.regex(started.stdout, /: 5 boards of 1MiB/);
});
