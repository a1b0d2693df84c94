/** The programs as people run them: separate processes, one of which is killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { freePair } from '../../../bench/harness/free-pair.js';
import { type Finished, finished, runProgram, startArray, until } from '../../support/array.js';
import { lastEvent } from '../../support/events.js';

const stpbackup = fileURLToPath(new URL('../../../src/ctl/stpbackup.js', import.meta.url));

interface Service {
  readonly child: ChildProcess;
  readonly ended: Promise<Finished>;
  said: string;
}

/** Starts a role and waits for its readiness line. */
async function startRole(t: ExecutionContext, ...args: string[]): Promise<Service> {
  const child = spawn(process.execPath, [stpbackup, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const service: Service = { child, ended: finished(child), said: '' };
  const hear = (text: Buffer): void => {
    service.said += text.toString();
  };
  child.stdout?.on('data', hear);
  child.stderr?.on('data', hear);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await service.ended;
  });
  await until(`${args[0]} is ready`, () => /listens on|answers on/.test(service.said));
  return service;
}

interface House {
  readonly base: string;
  readonly server: string;
  client(): Promise<Service>;
  ask(...args: string[]): Promise<Finished>;
  partial(): string[];
}

async function startHouse(t: ExecutionContext): Promise<House> {
  const { runDirectory } = await startArray(t, { boards: 8, boardSize: '1MiB' });
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-test-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  for (const name of ['src', 'out']) mkdirSync(join(base, name));
  const keyFile = join(base, 'pair.key');
  t.is((await runProgram('stpbackup', ['key', 'new', keyFile])).code, 0);
  const wkp = await freePair();
  const client = join(base, 'client.json');
  const server = join(base, 'server.json');
  const roots = { roots: ['src'], restoreRoots: ['out'] };
  writeFileSync(client, JSON.stringify({ name: 'host1', runDirectory, wkp, keyFile, ...roots }));
  writeFileSync(
    server,
    JSON.stringify({
      name: 'server1',
      runDirectory,
      stg: 'test',
      library: 'library',
      control: 'control.sock',
      hosts: { host1: { wkp, keyFile } },
    }),
  );
  return {
    base,
    server,
    client: () => startRole(t, 'client', '--config', client, '--trace'),
    ask: (...args) => runProgram('stpbackup', [...args, '--config', server]),
    partial: () => readdirSync(join(base, 'library/tmp')),
  };
}

test.serial(
  'trap 15: back up, list and restore; partial success has its exit code; SIGTERM ends both roles',
  async (t) => {
    const h = await startHouse(t);
    const client = await h.client();
    const server = await startRole(t, 'server', '--config', h.server);
    const src = join(h.base, 'src');
    writeFileSync(join(src, 'file'), 'data');

    const made = await h.ask('fs', `host1:${src}`, '--trace');
    t.is(made.code, 0, made.stderr);
    t.regex(made.stdout, /entries +2\n/);
    t.regex(made.stderr, /Fig\. 4A {2}server {2}146 {2}STPconnect/);
    t.regex(client.said, /Fig\. 4A {2}client {2}172 {2}STPaccept/);

    const listed = JSON.parse((await h.ask('list', '--json')).stdout);
    t.is(listed.sets.length, 1);
    t.is(listed.sets[0].entries, 2);

    const back = await h.ask('restore', 'latest', `host1:${join(h.base, 'out/r')}`, '--json');
    t.is(back.code, 0, back.stderr);
    t.is(lastEvent(back.stdout).bytes, 4);

    t.is((await h.ask('fs', 'host1:relative')).code, 2);
    t.is((await h.ask('fs', `host2:${src}`)).code, 2);
    t.is((await h.ask('fs', 'host1:/etc')).code, 1);
    const socket = createServer();
    await new Promise<void>((resolve) => socket.listen(join(src, 'sock'), resolve));
    t.teardown(() => socket.close());
    const warned = await h.ask('fs', `host1:${src}`);
    t.is(warned.code, 3);
    t.regex(warned.stderr, /warning: .*sock/);

    for (const role of [client, server]) {
      role.child.kill('SIGTERM');
      t.is((await role.ended).code, 0, role.said);
    }
    t.false(existsSync(join(h.base, 'control.sock')));
    const gone = await h.ask('list');
    t.is(gone.code, 5);
    t.regex(gone.stderr, /no stpbackup server answers on .*control\.sock; start it with/);
  },
);

test.serial(
  'trap 13: kill -9 of the client: a clear reason, no set, and the next run works',
  async (t) => {
    const h = await startHouse(t);
    const client = await h.client();
    await startRole(t, 'server', '--config', h.server);
    const src = join(h.base, 'src');
    closeSync(openSync(join(src, 'huge'), 'w'));
    truncateSync(join(src, 'huge'), 2 ** 38);
    const running = h.ask('fs', `host1:${src}`);
    await until('the set begins', () => /backup for host1/.test(client.said));
    client.child.kill('SIGKILL');
    const failed = await running;
    t.is(failed.code, 1);
    t.regex(failed.stderr, /client host1 ended the session: it was stopped or killed/);
    t.deepEqual(h.partial(), []);
    t.deepEqual(JSON.parse((await h.ask('list', '--json')).stdout).sets, []);
    rmSync(join(src, 'huge'));
    await h.client();
    const again = await h.ask('fs', `host1:${src}`);
    t.is(again.code, 0, again.stderr);
  },
);

test.serial('kill -9 of the server: the client says so and serves the next one', async (t) => {
  const h = await startHouse(t);
  const client = await h.client();
  const server = await startRole(t, 'server', '--config', h.server);
  const src = join(h.base, 'src');
  closeSync(openSync(join(src, 'huge'), 'w'));
  truncateSync(join(src, 'huge'), 2 ** 38);
  const running = h.ask('fs', `host1:${src}`);
  await until('the set begins', () => /backup for host1/.test(client.said));
  server.child.kill('SIGKILL');
  const failed = await running;
  t.is(failed.code, 1);
  t.regex(failed.stderr, /the server ended before the session did/);
  await until('the client notices', () => /the server ended the session/.test(client.said));
  rmSync(join(src, 'huge'));
  await startRole(t, 'server', '--config', h.server);
  t.deepEqual(h.partial(), []);
  const again = await h.ask('fs', `host1:${src}`);
  t.is(again.code, 0, again.stderr);
});
