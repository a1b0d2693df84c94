/** The client's control socket against callers that break its rules; no PostgreSQL is needed. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  ASKED_BACKUPS_MAX,
  ASKED_BYTES_MAX,
  UNIDENTIFIED_MAX,
} from '../../../src/backup/limits.js';
import { native } from '../../../src/native.js';
import { runProgram, until } from '../../support/array.js';
import { BEGIN, copyData, END, member, serve } from '../source/fake-postgresql.js';
import { type Asked, ask, heard, openOf, REQUEST, untilOpen } from './asked-rig.js';
import { type DatabaseHouse, type Service, startDatabaseHouse } from './database-rig.js';

interface Running {
  readonly h: DatabaseHouse;
  readonly client: Service;
  readonly pid: number;
}

/** A client that has done everything once. */
async function start(t: ExecutionContext): Promise<Running> {
  const h = await startDatabaseHouse(t);
  const client = await h.startClient();
  await stillServes(t, h);
  return { h, client, pid: client.child.pid as number };
}

const SEGMENT = '000000010000000000000001';

async function stillServes(t: ExecutionContext, h: DatabaseHouse): Promise<void> {
  const path = join(h.base, SEGMENT);
  writeFileSync(path, 'a segment');
  const { code, stderr } = await runProgram('stpbackup', [
    'wal-push',
    '--control',
    h.control,
    path,
  ]);
  t.is(code, 0, stderr);
}

/** Two ends of a connection; both are closed with the test. */
function pair(t: ExecutionContext): readonly [Socket, number] {
  const [left, right] = native().socketPair(true);
  const socket = new Socket({ fd: left, allowHalfOpen: true });
  socket.on('error', () => {});
  t.teardown(() => {
    socket.destroy();
    native().closeDescriptor(right);
  });
  return [socket, right];
}

const withSettings = (more: object): object => ({
  ...REQUEST,
  settings: { ...REQUEST.settings, ...more },
});

test.serial('requests that are none are refused with the reason', async (t) => {
  const { h, pid } = await start(t);
  const [, fd] = pair(t);
  const before = openOf(pid);
  const bad: readonly (readonly [string, object | string, RegExp])[] = [
    ['no JSON', 'nonsense\n', /EPROTO.*no line of JSON/],
    ['no object', 'null\n', /EPROTO/],
    ['no operation', {}, /EPROTO.*op:/],
    ['another operation', { op: 'fs' }, /EPROTO.*op:/],
    ['more than there is', { ...REQUEST, set: 'x' }, /EPROTO.*set/],
    ['a name that leads out', { ...REQUEST, name: '../x' }, /EPROTO.*name:/],
    ['a rate of nothing', { ...REQUEST, bytesPerSecond: 0 }, /EPROTO.*bytesPerSecond/],
    ['a connection string', withSettings({ connectionString: 'x' }), /connectionString/],
    ['a path of a key', withSettings({ sslkey: '/etc/shadow' }), /EPROTO.*sslkey/],
    ['a path in TLS', withSettings({ tls: { sslrootcert: '/x' } }), /EPROTO.*settings/],
    ['what the client would look up', withSettings({ user: '' }), /EPROTO.*settings.user/],
    ['the same of the database', withSettings({ database: '' }), /EPROTO.*settings.database/],
    ['the same of the host', withSettings({ host: '' }), /EPROTO.*settings.host/],
    ['something after it', `${JSON.stringify(REQUEST)}\nmore`, /EPROTO.*nothing after it/],
    ['WAL with a descriptor', { op: 'fetch', segment: SEGMENT }, /EPROTO.*no descriptor/],
    ['an unknown server', { ...REQUEST, server: 'vault' }, /EINVAL.*no server vault.*server1/],
  ];
  for (const [what, request, reason] of bad) {
    t.regex(await ask(h.control, request, [fd]).answer, reason, what);
  }
  t.regex(await ask(h.control, REQUEST).answer, /EPROTO.*should come with it/);
  await untilOpen(pid, before);
  await stillServes(t, h);
});

test.serial('descriptors that are no connection are refused, and closed', async (t) => {
  const { h, pid } = await start(t);
  const before = openOf(pid);
  const fifo = join(h.base, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const open = [
    openSync(h.clientConfig, constants.O_RDONLY),
    openSync(fifo, constants.O_RDWR),
    openSync('/dev/null', constants.O_RDWR),
    openSync(h.base, constants.O_RDONLY),
    native().unixListen(join(h.base, 'listening'), 1, 0o600, true),
    ...native().socketPair(false),
  ];
  t.teardown(() => open.forEach((fd) => void closeSync(fd)));
  for (const fd of open) {
    t.regex(await ask(h.control, REQUEST, [fd]).answer, /EINVAL.*no connection to PostgreSQL/);
  }
  const [, fd] = pair(t);
  t.regex(await ask(h.control, REQUEST, [fd, fd]).answer, /EPROTO.*more than one descriptor/);
  const many = ask(h.control, 'x', Array(32).fill(fd));
  t.regex(await many.answer, /EPROTO.*more than one descriptor/);
  // Itself: the client would hold both ends.
  const self = native().unixConnect(h.control, true);
  native().sendMessage(self, Buffer.from(`${JSON.stringify(REQUEST)}\n`), [self]);
  t.regex(await heard(self).answer, /EINVAL.*to this client itself/);
  await untilOpen(pid, before);
  await stillServes(t, h);
});

test.serial('a request has its bounds, however it comes', async (t) => {
  const { h, pid } = await start(t);
  const before = openOf(pid);
  const long = ask(h.control, 'x');
  for (let sent = 1; sent < ASKED_BYTES_MAX; sent += 1 << 16)
    long.socket.write('y'.repeat(1 << 16));
  t.regex(await long.answer, /EMSGSIZE.*longer than/);
  // What fits comes in pieces, with its descriptor in front.
  const [, fd] = pair(t);
  const ca = 'z'.repeat(300_000);
  const line = `${JSON.stringify({ ...withSettings({ tls: { ca } }), server: 'vault' })}\n`;
  const whole = ask(h.control, line.slice(0, 10), [fd]);
  for (let at = 10; at < line.length; at += 50_000) {
    whole.socket.write(line.slice(at, at + 50_000));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  t.regex(await whole.answer, /EINVAL.*no server vault/);
  await untilOpen(pid, before);
});

test.serial('silent callers are refused in the end, and hold nothing', async (t) => {
  t.timeout(180_000);
  const { h, pid } = await start(t);
  const before = openOf(pid);
  const callers: Asked[] = [];
  for (let i = 0; i < 100; i++) {
    const fd = await until('there is room to call', () => {
      try {
        return native().unixConnect(h.control, true);
      } catch {
        return undefined;
      }
    });
    callers.push(heard(fd, true));
  }
  t.teardown(() => callers.forEach(({ socket }) => void socket.destroy()));
  const answers = await Promise.all(callers.map(({ answer }) => answer));
  const count = (code: string): number => answers.filter((said) => said.includes(code)).length;
  t.is(count('EBUSY') + count('ETIMEDOUT'), 100);
  t.true(count('ETIMEDOUT') >= UNIDENTIFIED_MAX);
  t.true(count('EBUSY') > 0);
  // None of them has closed its end.
  await untilOpen(pid, before);
  await stillServes(t, h);
});

const WHOLE = Buffer.concat([
  BEGIN,
  copyData('n', 'base.tar\0\0'),
  member('PG_VERSION', Buffer.from('15\n')),
  member('base', randomBytes(300_000)),
  copyData('m', ''),
  copyData('d', '{}'),
  END,
]);

test.serial('many backups leave nothing open, whatever PostgreSQL does in the end', async (t) => {
  t.timeout(300_000);
  const { h, pid } = await start(t);
  const good = await serve(t, { answer: WHOLE, cut: 8192 });
  const held = await serve(t, { answer: WHOLE, cut: 8192, holds: true });
  const cut = await serve(t, { answer: WHOLE.subarray(0, 100_000), cut: 8192, end: true });
  const db = (from: string) => h.db('--postgresql', from, '--name', 'main');
  const first = await db(good);
  t.is(first.code, 0, first.stderr);
  const before = openOf(pid);
  for (let i = 0; i < 3; i++) {
    const failed = await db(cut);
    t.is(failed.code, 1);
    t.regex(failed.stderr, /PostgreSQL ended the connection/);
    t.is((await db(held)).code, 0);
    t.is((await db(good)).code, 0);
  }
  await untilOpen(pid, before);
  t.is((await h.list()).length, 7);
  t.deepEqual(h.partial(), []);
});

test.serial('a backup whose caller leaves is given up, and its connection ends', async (t) => {
  const { h, pid } = await start(t);
  const before = openOf(pid);
  for (const leave of ['destroy', 'end', 'write'] as const) {
    // The caller keeps its own descriptor of the connection, and PostgreSQL says nothing.
    const [postgresql, fd] = pair(t);
    const ended = new Promise<void>((resolve) => {
      postgresql.once('end', resolve).resume();
    });
    const asked = ask(h.control, REQUEST, [fd], true);
    await until('it began', () => h.partial().length > 0 && postgresql.bytesRead > 0);
    if (leave === 'write') {
      asked.socket.write('more');
      t.regex(await asked.answer, /EPROTO.*nothing after it/);
    } else asked.socket[leave]();
    await ended;
    await until('it is tidy', () => h.partial().length === 0);
    asked.socket.destroy();
  }
  await untilOpen(pid, before);
  t.deepEqual(await h.list(), []);
  await stillServes(t, h);
});

test.serial('a client that stops tells its callers, and waits for none', async (t) => {
  const { h, client } = await start(t);
  const [, fd] = pair(t);
  const waits = ask(h.control, REQUEST, [fd], true);
  // One that never reads.
  const deaf = native().unixConnect(h.control, true);
  t.teardown(() => native().closeDescriptor(deaf));
  native().sendMessage(deaf, Buffer.from('{"op":"fs"}\n'), []);
  await until('it began', () => h.partial().length > 0);
  client.child.kill('SIGTERM');
  t.regex(await waits.answer, /"refused".*the client was stopped/);
  t.is((await client.ended).code, 0);
  waits.socket.destroy();
  t.deepEqual(await h.list(), []);
  await until('it is tidy', () => h.partial().length === 0);
});

test.serial('there is a bound to the backups at one time', async (t) => {
  t.timeout(300_000);
  const { h, pid } = await start(t);
  const before = openOf(pid);
  const [, fd] = pair(t);
  const asked = Array.from({ length: ASKED_BACKUPS_MAX }, () => ask(h.control, REQUEST, [fd]));
  const onceMore = ask(h.control, REQUEST, [fd]);
  t.regex(await onceMore.answer, /EBUSY.*backups already/);
  for (const { socket } of asked) socket.destroy();
  await untilOpen(pid, before);
  await stillServes(t, h);
});
