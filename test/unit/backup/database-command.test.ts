/** `stpbackup db --command`, as people run it: separate processes through a real array. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { until } from '../../support/array.js';
import { lastEvent } from '../../support/events.js';
import { startDatabaseHouse, tcpOf } from './database-rig.js';

test.serial('a program is backed up, listed, read by tar, and restored both ways', async (t) => {
  const h = await startDatabaseHouse(t);
  const source = join(h.base, 'source');
  const data = randomBytes(5_000_001);
  writeFileSync(source, data);
  const made = await h.db('--command', `cat ${source}`, '--name', 'orders', 'server1', '--trace');
  t.is(made.code, 0, made.stderr);
  t.regex(made.stderr, /Fig\. 5A {2}client {2}214 {2}close/);
  t.regex(h.server.said, /Fig\. 5A {2}server {2}246 {2}close/);
  const [set] = await h.list();
  t.like(set, { host: 'host1', entries: 1, bytes: data.length, roots: ['command:orders'] });

  const media = join(h.base, 'library/sets', set?.id ?? '', 'media.tar');
  const out = mkdtempSync(join(tmpdir(), 'stpbackup-tar-'));
  t.teardown(() => rmSync(out, { recursive: true, force: true }));
  execFileSync('tar', ['xf', media, '-C', out]);
  t.true(readFileSync(join(out, 'orders')).equals(data));

  const file = join(h.base, 'restored');
  const back = await h.db('restore', 'latest', '--name', 'orders', '--to-file', file, '--json');
  t.is(back.code, 0, back.stderr);
  t.is(lastEvent(back.stdout).bytes, data.length);
  t.true(readFileSync(file).equals(data));
  const piped = join(h.base, 'piped');
  const shell = await h.db('restore', set?.id ?? '', '--to-command', `sleep 0.2; cat > ${piped}`);
  t.is(shell.code, 0, shell.stderr);
  t.true(readFileSync(piped).equals(data));

  const empty = await h.db('--command', 'true', '--name', 'nothing');
  t.is(empty.code, 0, empty.stderr);
  const none = await h.db('restore', 'latest', '--name', 'nothing', '--to-file', `${file}.0`);
  t.is(none.code, 0, none.stderr);
  t.is(readFileSync(`${file}.0`).length, 0);
});

test.serial(
  'nobody reads the events any more: the backup goes on, and the exit code tells of it',
  async (t) => {
    const h = await startDatabaseHouse(t);
    const line = 'head -c 3000000 /dev/zero; sleep 3; head -c 3000000 /dev/zero';
    const { child, ended } = h.spawnDb('--command', line, '--name', 'flow', '--json');
    child.stdout?.destroy();
    const { code, stderr } = await ended;
    t.is(code, 0, stderr);
    t.is((await h.list())[0]?.bytes, 6_000_000);
    const failing = h.spawnDb('--command', 'sleep 2; exit 3', '--name', 'bad', '--json');
    failing.child.stdout?.destroy();
    t.is((await failing.ended).code, 1);
  },
);

test.serial('while data flows there is no TCP connection between the two', async (t) => {
  const h = await startDatabaseHouse(t);
  const go = join(h.base, 'go');
  const wait = `until [ -e ${go} ]; do sleep 0.05; done`;
  const line = `head -c 3000000 /dev/zero; ${wait}; head -c 3000000 /dev/zero`;
  const running = h.spawnDb('--command', line, '--name', 'flow', '--trace');
  let said = '';
  running.child.stderr?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const spool = (): boolean => h.partial().some((name) => name.endsWith('.partial'));
  await until('data flows', () => / 214 {2}close/.test(said) && spool());
  await until('both sides have closed', () => / 246 {2}close/.test(h.server.said));
  const [client, server] = [
    tcpOf(running.child.pid as number),
    tcpOf(h.server.child.pid as number),
  ];
  writeFileSync(go, '');
  const made = await running.ended;
  t.is(made.code, 0, made.stderr);
  t.deepEqual(client, { connections: [], listeners: 0 });
  // The WKP itself stays.
  t.deepEqual(server, { connections: [], listeners: 1 });
  t.is((await h.list())[0]?.bytes, 6_000_000);
});

test.serial('a program that fails fails the backup, and leaves no set', async (t) => {
  const h = await startDatabaseHouse(t);
  for (const [line, reason] of [
    ['head -c 1000000 /dev/zero; exit 7', /failed with exit status 7/],
    ['kill -9 $$', /was ended by SIGKILL/],
    ['/nonexistent/program', /failed with exit status 127/],
  ] as const) {
    const failed = await h.db('--command', line, '--name', 'bad');
    t.is(failed.code, 1, failed.stderr);
    t.regex(failed.stderr, reason);
  }
  await until('the server knows why', () => /client host1: .*exit status 7/.test(h.server.said));
  await until('all is tidy', () => h.partial().length === 0);
  t.deepEqual(await h.list(), []);
});

test.serial('what is refused, and what a failed restore leaves', async (t) => {
  const h = await startDatabaseHouse(t);
  t.is((await h.db('--command', 'true')).code, 2);
  t.is((await h.db('--command', 'true', '--name', '../x')).code, 2);
  t.is((await h.db('--command', 'true', '--name', 'x', 'server9')).code, 2);
  const missing = await h.db('restore', 'latest', '--to-file', join(h.base, 'r'));
  t.is(missing.code, 1);
  t.regex(missing.stderr, /server server1: the library has no set latest of host host1/);
  t.is((await h.db('--command', 'head -c 2000000 /dev/zero', '--name', 'z')).code, 0);
  const [set] = await h.list();
  const refused = await h.db('restore', 'latest', '--to-command', 'head -c 10 >/dev/null; exit 9');
  t.is(refused.code, 1);
  t.regex(refused.stderr, /failed with exit status 9/);

  const deaf = await h.db('restore', 'latest', '--to-command', 'head -c 10 >/dev/null');
  t.is(deaf.code, 1);
  t.regex(deaf.stderr, /ended well, but did not read all of the data/);
  for (const [place, reason] of [
    [join(h.base, 'none/r'), /none is not there; make it first/],
    [h.base, /is a directory; name a file, or use --to-directory/],
    [join(h.clientConfig, 'r'), /client\.json is no directory/],
  ] as const) {
    const nowhere = await h.db('restore', 'latest', '--to-file', place);
    t.is(nowhere.code, 1);
    t.regex(nowhere.stderr, reason);
  }

  // A flipped byte of the media is found, and no file appears.
  const media = join(h.base, 'library/sets', set?.id ?? '', 'media.tar');
  const bytes = readFileSync(media);
  bytes[1_000_000] = 1;
  writeFileSync(media, bytes);
  const damaged = await h.db('restore', 'latest', '--to-file', join(h.base, 'r'));
  t.is(damaged.code, 1);
  t.regex(damaged.stderr, /not what was backed up/);
  t.false(existsSync(join(h.base, 'r')));
  t.deepEqual(
    readdirSync(h.base).filter((name) => name.endsWith('.partial')),
    [],
  );
});

test.serial('kill -9 of the client: no set, and the server goes on', async (t) => {
  const h = await startDatabaseHouse(t);
  const running = h.spawnDb('--command', 'cat /dev/zero', '--name', 'huge');
  await until('the set begins', () => h.partial().some((name) => name.endsWith('.partial')));
  running.child.kill('SIGKILL');
  await running.ended;
  await until('all is tidy', () => h.partial().length === 0);
  await until('it says why', () => /session of host1 failed: .+/.test(h.server.said));
  t.deepEqual(await h.list(), []);
  t.is((await h.db('--command', 'echo x', '--name', 'x')).code, 0);
});
