/** `wal-push` and `wal-fetch` through the running client, without a PostgreSQL. */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { finished, runProgram, until } from '../../support/array.js';
import { type DatabaseHouse, startDatabaseHouse } from './database-rig.js';

const FIRST = '000000010000000000000001';
const SECOND = '000000010000000000000002';

const push = (h: DatabaseHouse, path: string) =>
  runProgram('stpbackup', ['wal-push', '--control', h.control, path]);
const fetch = (h: DatabaseHouse, segment: string, path: string) =>
  runProgram('stpbackup', ['wal-fetch', '--control', h.control, segment, path]);
const archive = (h: DatabaseHouse): string =>
  join(h.base, 'library/wal/host1/main', FIRST.slice(0, 16));

test.serial(
  'the same content again is success, another is an error; a fetch gives it back',
  async (t) => {
    const h = await startDatabaseHouse(t);
    const client = await h.startClient();
    t.is(statSync(h.control).mode & 0o777, 0o600);
    const path = join(h.base, FIRST);
    const data = randomBytes(3_000_001);
    writeFileSync(path, data);
    const first = await push(h, path);
    t.is(first.code, 0, first.stderr);
    t.is((await push(h, path)).code, 0);
    writeFileSync(path, randomBytes(3_000_001));
    const other = await push(h, path);
    t.is(other.code, 1);
    t.regex(other.stderr, /another content of this segment/);
    t.is(readdirSync(archive(h)).length, 1);

    const to = join(h.base, 'fetched');
    const back = await fetch(h, FIRST, to);
    t.is(back.code, 0, back.stderr);
    t.true(readFileSync(to).equals(data));
    // To PostgreSQL 1 is the end of the archive, and above 125 a failure that is none.
    t.is((await fetch(h, SECOND, `${to}.2`)).code, 1);
    t.is((await fetch(h, '00000002.history', `${to}.2`)).code, 1);
    t.is((await fetch(h, '../../../set', `${to}.2`)).code, 200);
    t.false(existsSync(`${to}.2`));
    t.is(client.said.match(/WAL session with server1 stands/g)?.length, 1, client.said);
  },
);

test.serial('a damaged segment is never given back', async (t) => {
  const h = await startDatabaseHouse(t);
  await h.startClient();
  const path = join(h.base, FIRST);
  writeFileSync(path, randomBytes(100_000));
  t.is((await push(h, path)).code, 0);
  const [name] = readdirSync(archive(h));
  const stored = join(archive(h), name as string);
  const bytes = readFileSync(stored);
  bytes[50_000] = (bytes[50_000] as number) ^ 1;
  writeFileSync(stored, bytes);
  const to = join(h.base, 'fetched');
  const back = await fetch(h, FIRST, to);
  t.is(back.code, 200);
  t.regex(back.stderr, /is damaged; it is not restored/);
  t.false(existsSync(to));
});

test.serial(
  'the server dies and comes back; without client or server nothing is a success',
  async (t) => {
    const h = await startDatabaseHouse(t);
    const path = join(h.base, FIRST);
    writeFileSync(path, randomBytes(1000));
    const none = await push(h, path);
    t.is(none.code, 1);
    t.regex(none.stderr, /no stpbackup client answers/);
    t.is((await fetch(h, FIRST, `${path}.x`)).code, 200);
    const client = await h.startClient();
    t.is((await push(h, path)).code, 0);
    h.server.child.kill('SIGKILL');
    await h.server.ended;
    writeFileSync(join(h.base, SECOND), randomBytes(1000));
    t.is((await push(h, join(h.base, SECOND))).code, 1);
    t.is((await fetch(h, FIRST, `${path}.x`)).code, 200);
    await h.startServer();
    const again = await push(h, join(h.base, SECOND));
    t.is(again.code, 0, again.stderr);
    t.is(readdirSync(archive(h)).length, 2);
    t.is(client.said.match(/WAL session with server1 stands/g)?.length, 2);
  },
);

test.serial('a caller of the control socket that breaks the rules is refused', async (t) => {
  const h = await startDatabaseHouse(t);
  await h.startClient();
  const ask = (text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = createConnection({ path: h.control });
      let said = '';
      socket.on('data', (piece: Buffer) => {
        said += piece.toString();
      });
      socket.once('error', reject);
      socket.once('close', () => resolve(said));
      socket.write(text);
    });
  t.regex(await ask('nonsense\n'), /"refused".*EPROTO/);
  t.regex(await ask('x'.repeat(1 << 20)), /EMSGSIZE/);
  t.regex(await ask('{"op":"fetch","segment":"../x"}\n'), /EPROTO/);
  const path = join(h.base, FIRST);
  writeFileSync(path, 'x');
  await until('the next is served', async () => (await push(h, path)).code === 0);
  t.pass();
});

const hasStrace = spawnSync('strace', ['-V'], { stdio: 'ignore' }).error === undefined;
if (!hasStrace) console.log('skipped: the order of fsync, for want of strace (package strace)');
const straceTest = hasStrace ? test.serial : test.skip;

/** Traces calls of a process, with what is done to them; the returned function ends it: its lines. */
async function traceCalls(
  t: ExecutionContext,
  h: DatabaseHouse,
  ...inject: string[]
): Promise<(() => Promise<string[]>) | null> {
  const log = join(h.base, 'strace');
  const calls = ['-e', 'trace=fsync,fdatasync,/^link', ...inject.flatMap((e) => ['-e', e])];
  const args = ['-f', '-y', '-o', log, ...calls, '-p', String(h.server.child.pid)];
  const strace = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = finished(strace);
  let said = '';
  strace.stderr.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const stop = async (): Promise<string[]> => {
    strace.kill('SIGINT');
    await ended;
    return readFileSync(log, 'utf8').split('\n');
  };
  t.teardown(stop);
  await until('it is attached', () => / attached/.test(said) || strace.exitCode !== null);
  if (strace.exitCode === null) return stop;
  t.log(`skipped: strace may not look into a process of this user: ${said.trim()}`);
  return null;
}

straceTest(
  'success is told when segment, name and directory are on the disk, in this order',
  async (t) => {
    const h = await startDatabaseHouse(t);
    await h.startClient();
    const path = join(h.base, FIRST);
    writeFileSync(path, randomBytes(1 << 20));
    t.is((await push(h, path)).code, 0);
    const delayMs = 700;
    // A server that tells before its disk has answered would tell too early by this.
    const stop = await traceCalls(t, h, `inject=fsync:delay_exit=${delayMs * 1000}`);
    if (stop === null) return t.pass();
    const next = join(h.base, SECOND);
    writeFileSync(next, randomBytes(1 << 20));
    const began = performance.now();
    t.is((await push(h, next)).code, 0);
    const lines = await stop();
    t.true(performance.now() - began > 2 * delayMs);
    const at = (pattern: RegExp): number => lines.findIndex((line) => pattern.test(line));
    const [data, name, directory] = [
      at(new RegExp(`fsync\\(.*/\\.${SECOND}\\.`)),
      at(new RegExp(`link.*/${SECOND}\\.`)),
      at(new RegExp(`fsync\\(.*/${SECOND.slice(0, 16)}>`)),
    ];
    t.true(0 <= data && data < name && name < directory, lines.join('\n'));
  },
);

straceTest(
  'a disk that does not keep a segment fails the push, and nothing is listed',
  async (t) => {
    const h = await startDatabaseHouse(t);
    await h.startClient();
    const path = join(h.base, FIRST);
    writeFileSync(path, randomBytes(1 << 20));
    t.is((await push(h, path)).code, 0);
    const stop = await traceCalls(t, h, 'inject=fsync:error=EIO');
    if (stop === null) return t.pass();
    const next = join(h.base, SECOND);
    writeFileSync(next, randomBytes(1 << 20));
    const failed = await push(h, next);
    await stop();
    t.is(failed.code, 1);
    t.regex(failed.stderr, /EIO/);
    t.is(readdirSync(archive(h)).length, 1);
    t.is((await push(h, next)).code, 0);
  },
);
