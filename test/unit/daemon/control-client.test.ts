import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createSocketServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { serveControlApi } from '../../../src/daemon/control-api.js';
import { ControlClient, NotRunningError } from '../../../src/daemon/control-client.js';
import { CONTROL_TIMEOUT_MS } from '../../../src/limits.js';
import { exampleHost, FakeArray } from './fake-array.js';
import { quietLog, smallConfiguration, temporaryDirectory, until } from './workbench.js';

/** For those who do answer, on however busy a machine. */
const PATIENT_MS = 30_000;

const body = { name: 'a', boardCount: 4, ports: 1 };

/** A run directory with a socket on which this server listens. */
async function listenIn(
  t: ExecutionContext,
  server: Server | ReturnType<typeof createSocketServer>,
) {
  const runDirectory = temporaryDirectory(t);
  await new Promise((resolve) => {
    server.listen(join(runDirectory, 'control.sock'), () => resolve(undefined));
  });
  t.teardown(() => {
    if ('closeAllConnections' in server) server.closeAllConnections();
    server.close();
  });
  return runDirectory;
}

test('client and API understand each other', async (t) => {
  const runDirectory = temporaryDirectory(t);
  const configuration = smallConfiguration;
  const array = new FakeArray({ configuration, runDirectory });
  const path = join(runDirectory, 'control.sock');
  const api = await serveControlApi({ array, configuration, path, log: quietLog() });
  t.teardown(() => api.close());
  const client = new ControlClient(runDirectory, PATIENT_MS);
  const created = await client.createStg(body);
  t.deepEqual(created, { stg: await array.stgReport('a') });
  t.deepEqual(await client.stg('a'), created);
  t.deepEqual(await client.stgs(), { stgs: [created.stg] });
  t.deepEqual(await client.array(), { array: await array.arrayReport() });
  t.deepEqual(await client.boards(), { boards: await array.boardReports() });
  array.hosts = [{ ...exampleHost, stgs: ['a'] }];
  t.deepEqual(await client.hosts(), { hosts: array.hosts });
  t.deepEqual(await client.sockets(), { sockets: [] });
  await t.throwsAsync(client.deleteStg('a', false), { code: 'EBUSY', message: /in use/ });
  t.deepEqual(await client.deleteStg('a', true), { deleted: 'a' });
  await t.throwsAsync(client.stg('a'), { code: 'ENOENT', message: 'ENOENT: there is no STG a' });
});

test('without a run directory, without a socket, or with a stale one, stpd is not running', async (t) => {
  const runDirectory = temporaryDirectory(t);
  const notRunning = { instanceOf: NotRunningError, message: /not running.*stpd start --run-dir/ };
  await t.throwsAsync(new ControlClient(join(runDirectory, 'none')).array(), notRunning);
  await t.throwsAsync(new ControlClient(runDirectory).array(), notRunning);
  const path = JSON.stringify(join(runDirectory, 'control.sock'));
  const script = `require('net').createServer().listen(${path}, () => process.kill(process.pid, 'SIGKILL'))`;
  await new Promise((resolve) => spawn(process.execPath, ['-e', script]).once('exit', resolve));
  await t.throwsAsync(new ControlClient(runDirectory).array(), notRunning);
});

test('the default patience is CONTROL_TIMEOUT_MS', async (t) => {
  const runDirectory = await listenIn(
    t,
    createSocketServer(() => undefined),
  );
  writeFileSync(join(runDirectory, 'stpd.lock'), '4711\n');
  const start = performance.now();
  await t.throwsAsync(new ControlClient(runDirectory).array(), {
    code: 'ETIMEDOUT',
    message: /stpd \(pid 4711\) on .* has not answered for 1 s/,
  });
  t.true(performance.now() - start >= CONTROL_TIMEOUT_MS - 5);
});

test('half an answer does not buy more time', async (t) => {
  const server = createServer((_request, response) => {
    response.writeHead(200);
    response.write('{"array":');
  });
  const runDirectory = await listenIn(t, server);
  await t.throwsAsync(new ControlClient(runDirectory, 50).array(), { code: 'ETIMEDOUT' });
});

test('a change is not sent to a daemon that does not answer', async (t) => {
  const asked: string[] = [];
  const server = createServer((request) => void asked.push(`${request.method} ${request.url}`));
  const runDirectory = await listenIn(t, server);
  const client = new ControlClient(runDirectory, 300);
  await t.throwsAsync(client.createStg(body), { code: 'ETIMEDOUT' });
  await t.throwsAsync(client.deleteStg('a', true), { code: 'ETIMEDOUT' });
  t.deepEqual(
    asked.filter((question) => question !== 'GET /v1/array'),
    [],
  );
});

test('a change may take longer than a daemon may be silent', async (t) => {
  const runDirectory = temporaryDirectory(t);
  const configuration = smallConfiguration;
  const array = new FakeArray({ configuration, runDirectory });
  array.beforeCreate = delay(2 * CONTROL_TIMEOUT_MS);
  const path = join(runDirectory, 'control.sock');
  const api = await serveControlApi({ array, configuration, path, log: quietLog() });
  t.teardown(() => api.close());
  t.is((await new ControlClient(runDirectory).createStg(body)).stg.name, 'a');
});

test('a daemon that is stopped in mid-air is given up', async (t) => {
  const runDirectory = temporaryDirectory(t);
  const path = JSON.stringify(join(runDirectory, 'control.sock'));
  const script = `require('net').createServer().listen(${path}, () => process.kill(process.pid, 'SIGSTOP'))`;
  const child: ChildProcess = spawn(process.execPath, ['-e', script]);
  t.teardown(() => child.kill('SIGKILL'));
  await until(() => readFileSync(`/proc/${child.pid}/stat`, 'utf8').includes(') T '), 'it stops');
  await t.throwsAsync(new ControlClient(runDirectory, 100).array(), { code: 'ETIMEDOUT' });
});

test('a daemon that dies while it is asked has broken off', async (t) => {
  const server = createServer((request) => request.socket.destroy());
  const runDirectory = await listenIn(t, server);
  await t.throwsAsync(new ControlClient(runDirectory, PATIENT_MS).array(), {
    code: 'ECONNRESET',
    message: /broke off.*stpd\.log/,
  });
});

for (const [what, status, text] of [
  ['no JSON', 200, 'hello'],
  ['another document', 200, '{"boards":[]}'],
  ['no document', 200, 'null'],
  ['an error without a code', 500, '{"error":"x"}'],
] as const) {
  test(`${what} is not understood`, async (t) => {
    const server = createServer((_request, response) => response.writeHead(status).end(text));
    const runDirectory = await listenIn(t, server);
    await t.throwsAsync(new ControlClient(runDirectory, PATIENT_MS).array(), {
      code: 'EPROTO',
      message: /another version/,
    });
  });
}

test('who may not open the socket learns who may', async (t) => {
  if (process.geteuid?.() !== 0 || process.seteuid === undefined) {
    t.log('skipped: becoming another user needs root');
    t.pass();
    return;
  }
  const parent = temporaryDirectory(t);
  chmodSync(parent, 0o755);
  const runDirectory = join(parent, 'run');
  mkdirSync(runDirectory, { mode: 0o755 });
  const server = createServer();
  await new Promise((resolve) =>
    server.listen(join(runDirectory, 'control.sock'), () => resolve(undefined)),
  );
  t.teardown(() => server.close());
  chmodSync(join(runDirectory, 'control.sock'), 0o600);
  const client = new URL('../../../src/daemon/control-client.js', import.meta.url).href;
  const script = `import(${JSON.stringify(client)}).then(async ({ ControlClient }) => {
    process.setuid(65534);
    await new ControlClient(${JSON.stringify(runDirectory)}).array();
  }).catch((error) => console.log(error.code, error.message))`;
  const child = spawn(process.execPath, ['-e', script]);
  let said = '';
  child.stdout.on('data', (data) => {
    said += data;
  });
  await new Promise((resolve) => child.once('close', resolve));
  t.regex(said, /^EACCES EACCES: stpd on .* may be controlled by uid 0 and root only/);
});
