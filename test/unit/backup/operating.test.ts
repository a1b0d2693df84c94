/** The backup as it is operated: commands around it, limits, events and summaries. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { freePair } from '../../../bench/harness/free-pair.js';
import { eventSchema } from '../../../src/ctl/stpbackup/events-schema.js';
import { type Finished, finished, startArray, until } from '../../support/array.js';
import { eventsOf, lastEvent } from '../../support/events.js';

const stpbackup = fileURLToPath(new URL('../../../src/ctl/stpbackup.js', import.meta.url));

interface Role {
  readonly child: ChildProcess;
  readonly ended: Promise<Finished>;
  said: string;
}

async function startRole(t: ExecutionContext, role: string, config: string): Promise<Role> {
  const child = spawn(process.execPath, [stpbackup, role, '--config', config]);
  const started: Role = { child, ended: finished(child), said: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text: Buffer) => {
      started.said += text.toString();
    });
  }
  t.teardown(async () => {
    child.kill('SIGKILL');
    await started.ended;
  });
  await until(`${role} is ready`, () => /listens on|answers on/.test(started.said));
  return started;
}

/** A client and a server with what the test adds to their configurations. */
async function startRoles(t: ExecutionContext, ofClient: object, ofServer: object = {}) {
  const { runDirectory } = await startArray(t, { boards: 8, boardSize: '1MiB' });
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-test-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  for (const name of ['src', 'out']) mkdirSync(join(base, name));
  const wkp = await freePair();
  const [client, server] = [join(base, 'client.json'), join(base, 'server.json')];
  const tls = false;
  const common = { runDirectory, tls };
  const roots = { roots: ['src'], restoreRoots: ['out'] };
  writeFileSync(client, JSON.stringify({ name: 'host1', wkp, ...common, ...roots, ...ofClient }));
  writeFileSync(
    server,
    JSON.stringify({
      ...{ name: 'server1', stg: 'test', library: 'library', control: 'control.sock' },
      ...{ hosts: { host1: { wkp } }, wkp: await freePair(), ...common, ...ofServer },
    }),
  );
  const run = (...args: string[]): { child: ChildProcess; ended: Promise<Finished> } => {
    const child = spawn(process.execPath, [stpbackup, ...args, '--config', server]);
    return { child, ended: finished(child) };
  };
  return {
    base,
    src: join(base, 'src'),
    client: await startRole(t, 'client', client),
    server: await startRole(t, 'server', server),
    run,
    ask: (...args: string[]): Promise<Finished> => run(...args).ended,
    sets: (): string[] => readdirSync(join(base, 'library/sets')),
  };
}

const say = (base: string, what: string): string => `echo "${what}" >> ${join(base, 'said')}`;

test.serial('commands frame a backup; before fails it, after is a warning', async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-said-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const h = await startRoles(t, {
    before: `${say(base, 'before $STPBACKUP_PATHS')}; test ! -e ${join(base, 'no')}`,
    after: `${say(base, 'after $STPBACKUP_OUTCOME $STPBACKUP_SET')}; test ! -e ${join(base, 'bad')}`,
  });
  const said = (): string[] => {
    const lines = readFileSync(join(base, 'said'), 'utf8').trim().split('\n');
    rmSync(join(base, 'said'));
    return lines;
  };
  writeFileSync(join(h.src, 'file'), 'data');

  const made = await h.ask('fs', `host1:${h.src}`);
  t.is(made.code, 0, made.stderr);
  const [set = ''] = h.sets();
  t.deepEqual(said(), [`before ${h.src}`, `after complete ${set}`]);

  t.is((await h.ask('fs', `host1:${h.src}`, '--dry-run')).code, 0);
  t.is((await h.ask('fs', 'host1:/etc')).code, 1);
  t.false(existsSync(join(base, 'said')), 'a dry run and a refused path run nothing');

  writeFileSync(join(base, 'bad'), '');
  const warned = await h.ask('fs', `host1:${h.src}`);
  t.is(warned.code, 3, warned.stderr);
  t.regex(warned.stderr, /warning: after \(.*\) failed with exit status 1 \(ECHILD\)/);
  t.is(h.sets().length, 2, 'the set stands');
  said();

  writeFileSync(join(base, 'no'), '');
  const failed = await h.ask('fs', `host1:${h.src}`);
  t.is(failed.code, 1);
  t.regex(failed.stderr, /client host1: before \(.*\) failed with exit status 1/);
  t.is(h.sets().length, 2);
  await until('after has run', () => existsSync(join(base, 'said')));
  await until('after has run', () => readFileSync(join(base, 'said'), 'utf8').includes('after'));
  t.deepEqual(said(), [`before ${h.src}`, 'after failed']);
});

test.serial('a session that is given up ends its command, and the client its own', async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-said-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const at = (name: string): string => join(base, name);
  const h = await startRoles(t, {
    before: `echo $$ > ${at('pid.new')}; mv ${at('pid.new')} ${at('pid')}; exec sleep 1000`,
    after: `echo $STPBACKUP_OUTCOME >> ${at('after')}`,
  });
  const isThere = (pid: string): boolean => existsSync(`/proc/${pid.trim()}/cwd`);
  const begun = async (): Promise<string> => {
    await until('before runs', () => existsSync(at('pid')));
    const pid = readFileSync(at('pid'), 'utf8');
    rmSync(at('pid'));
    return pid;
  };
  const one = h.run('fs', `host1:${h.src}`);
  const first = await begun();
  one.child.kill('SIGINT');
  t.is((await one.ended).code, 1);
  await until('before is gone', () => !isThere(first));
  await until('after has run', () => existsSync(at('after')));

  const two = h.run('fs', `host1:${h.src}`);
  const second = await begun();
  h.client.child.kill('SIGTERM');
  t.is((await h.client.ended).code, 0, h.client.said);
  t.is((await two.ended).code, 1);
  t.false(isThere(second));
  t.is(readFileSync(at('after'), 'utf8'), 'failed\nfailed\n');
});

/** Threads of a process with a niceness. */
function threadsWith(pid: number, nice: number): string[] {
  return readdirSync(`/proc/${pid}/task`).filter((tid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/task/${tid}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return Number(fields[16]) === nice;
    } catch {
      // A thread that has ended.
      return false;
    }
  });
}

function ioClassOf(tid: string): string {
  try {
    return execFileSync('ionice', ['-p', tid], { encoding: 'utf8' }).trim();
  } catch {
    return '';
  }
}

test.serial('limits: movers of both sides are nice, and keep to their rate', async (t) => {
  const h = await startRoles(
    t,
    { nice: 7, ionice: 'idle', limitRate: '16M' },
    { nice: 9, ionice: 'best-effort:6', limitRate: '64M' },
  );
  const file = join(h.src, 'large');
  closeSync(openSync(file, 'w'));
  writeFileSync(file, Buffer.alloc(40 << 20, 'x'));
  // Slow enough to be looked at on a machine that is busy with something else.
  const looked = h.run('fs', `host1:${h.src}`, '--limit-rate', '256K');
  const [client, server] = [h.client.child.pid as number, h.server.child.pid as number];
  const has = (pid: number, nice: number, io: string): boolean =>
    threadsWith(pid, nice).some((tid) => ioClassOf(tid) === io);
  await until("the client's mover is nice", () => has(client, 7, 'idle'));
  await until("the server's mover is nice", () => has(server, 9, 'best-effort: prio 6'));
  t.true(threadsWith(client, 0).length > 0, 'the event loop is not');
  looked.child.kill('SIGINT');
  t.is((await looked.ended).code, 1);
  const made = await h.ask('fs', `host1:${h.src}`, '--no-resume', '--json');
  t.is(made.code, 0, made.stderr);
  const summary = lastEvent(made.stdout);
  // 40 MiB at 16 MiB/s; the summary's seconds have the handshake, too.
  t.true(summary.seconds > 2.3, `${summary.seconds} s`);
  const progress = eventsOf(made.stdout).filter(({ event }) => event === 'progress');
  t.true(progress.length >= 1);
  for (const event of eventsOf(made.stdout)) t.notThrows(() => eventSchema.parse(event));

  const out = join(h.base, 'out/r');
  const back = await h.ask('restore', 'latest', `host1:${out}`, '--limit-rate', '8M', '--json');
  t.is(back.code, 0, back.stderr);
  t.true(lastEvent(back.stdout).seconds > 4.7, `${lastEvent(back.stdout).seconds} s`);
  const late = eventsOf(back.stdout).filter(({ event }) => event === 'progress');
  t.true(late.every(({ totalEntries, totalBytes }) => totalEntries === 2 && totalBytes > 0));
  t.true(late.some(({ secondsLeft }) => secondsLeft !== null));
  t.true(readFileSync(join(out, file)).equals(readFileSync(file)));

  const refused = await h.ask('fs', `host1:${h.src}`, '--limit-rate', 'fast');
  t.is(refused.code, 2);
  t.regex(refused.stderr, /--limit-rate fast: must be bytes a second/);
});

test.serial('quiet is quiet unless something is wrong; events name it', async (t) => {
  const h = await startRoles(t, {});
  writeFileSync(join(h.src, 'file'), 'data');
  const quiet = await h.ask('fs', `host1:${h.src}`, '--quiet');
  t.deepEqual([quiet.code, quiet.stdout, quiet.stderr], [0, '', '']);
  const plain = await h.ask('fs', `host1:${h.src}`);
  t.is(plain.stderr, '', 'no progress where nobody watches');
  t.regex(plain.stdout, /^waited for +client disk \d+ %, array \d+ %, server disk \d+ %: /m);
  t.regex(plain.stdout, /^client +\d+\.\d\d s at work \(CPU .*waiting for the other side$/m);
  const socket = createServer();
  await new Promise<void>((resolve) => socket.listen(join(h.src, 's'), resolve));
  t.teardown(() => socket.close());
  const warned = await h.ask('fs', `host1:${h.src}`, '--json');
  t.is(warned.code, 3);
  const [warning, summary] = eventsOf(warned.stdout).filter(({ event }) => event !== 'progress');
  t.is(warning.event, 'warning');
  t.regex(warning.message, /s/);
  t.like(summary, { event: 'summary', op: 'backup', entries: 2, warnings: 1 });
  for (const event of eventsOf(warned.stdout)) t.notThrows(() => eventSchema.parse(event));
  const failed = await h.ask('fs', 'host1:/etc', '--json');
  t.is(failed.code, 1);
  t.like(lastEvent(failed.stdout), { event: 'error', exitCode: 1 });
  t.regex(failed.stderr, /^stpbackup: client host1: \/etc is not below a root/);
});
