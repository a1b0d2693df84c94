import { existsSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { type ControlApi, serveControlApi } from '../../../src/daemon/control-api.js';
import { stpError } from '../../../src/errors.js';
import { exampleHost, exampleSocket, FakeArray } from './fake-array.js';
import { quietLog, smallConfiguration, temporaryDirectory } from './workbench.js';

interface Served {
  readonly array: FakeArray;
  readonly api: ControlApi;
  readonly path: string;
  readonly ask: (method: string, url: string, body?: unknown) => Promise<Answer>;
}

interface Answer {
  readonly status: number | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: the shape is what the tests look at
  readonly json: any;
}

/** @param body text is sent as it is */
function askSocket(path: string, method: string, url: string, body?: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const call = request({ socketPath: path, method, path: url, headers, agent: false });
    call.once('error', reject);
    call.once('response', async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode, json: JSON.parse(text) });
    });
    call.end(
      body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    );
  });
}

async function serve(t: ExecutionContext, configuration = smallConfiguration): Promise<Served> {
  const runDirectory = temporaryDirectory(t);
  const path = join(runDirectory, 'control.sock');
  const array = new FakeArray({ configuration, runDirectory });
  const api = await serveControlApi({ array, configuration, path, log: quietLog() });
  t.teardown(() => api.close());
  return { array, api, path, ask: (...args) => askSocket(path, ...args) };
}

test('the socket is its owner’s only, and the umask is as before', async (t) => {
  const before = process.umask();
  const { path } = await serve(t);
  t.is(statSync(path).mode & 0o777, 0o600);
  t.is(process.umask(), before);
});

test('each listing is one document with one name', async (t) => {
  const { array, ask } = await serve(t);
  array.hosts = [exampleHost];
  array.sockets = [exampleSocket];
  const array1 = (await ask('GET', '/v1/array')).json;
  t.deepEqual(Object.keys(array1), ['array']);
  t.is(array1.array.boardsTotal, 8);
  const { boards } = (await ask('GET', '/v1/boards')).json;
  t.is(boards.length, 8);
  t.is(boards[0].stg, null);
  t.deepEqual((await ask('GET', '/v1/stgs')).json, { stgs: [] });
  t.deepEqual((await ask('GET', '/v1/hosts')).json, { hosts: [exampleHost] });
  t.deepEqual((await ask('GET', '/v1/sockets')).json, { sockets: [exampleSocket] });
});

test('an STG is created, shown, listed and deleted', async (t) => {
  const { ask } = await serve(t);
  const created = await ask('POST', '/v1/stgs', { name: 'a', boardCount: 4, ports: 2 });
  t.is(created.status, 201);
  t.like(created.json.stg, { name: 'a', boards: [0, 1, 2, 3], portsMax: 2, connectionsMax: 64 });
  t.deepEqual((await ask('GET', '/v1/stgs/a')).json, created.json);
  t.is((await ask('GET', '/v1/stgs')).json.stgs.length, 1);
  t.deepEqual((await ask('DELETE', '/v1/stgs/a')).json, { deleted: 'a' });
  t.is((await ask('GET', '/v1/stgs/a')).status, 404);
});

const lists: [string, object, object, number[], number[]][] = [
  ['nothing anywhere: the owner of stpd', {}, {}, [process.geteuid?.() ?? 0], []],
  ['configured lists', { allowUids: [5], allowGids: [6] }, {}, [5], [6]],
  ['asked lists replace both configured ones', { allowUids: [5] }, { allowGids: [7] }, [], [7]],
  ['asked for nobody', { allowUids: [5] }, { allowUids: [], allowGids: [] }, [], []],
];
for (const [what, configured, asked, uids, gids] of lists) {
  test(`access list: ${what}`, async (t) => {
    const { ask, array } = await serve(t, { ...smallConfiguration, ...configured });
    await ask('POST', '/v1/stgs', { name: 'a', boardCount: 4, ports: 2, ...asked });
    t.like(array.requests[0], { allowUids: uids, allowGids: gids });
  });
}

const refusals: [string, string, string, unknown, number, string, RegExp][] = [
  [
    'a broken rule',
    'POST',
    '/v1/stgs',
    { name: 'a', boardCount: 3, ports: 1 },
    400,
    'EINVAL',
    /^boardCount: 3 is too few/,
  ],
  ['broken JSON', 'POST', '/v1/stgs', '{"name":', 400, 'EINVAL', /./],
  ['no body', 'POST', '/v1/stgs', undefined, 400, 'EINVAL', /not an object/],
  ['a huge body', 'POST', '/v1/stgs', `"${'x'.repeat(300_000)}"`, 413, 'EFBIG', /./],
  [
    'too few boards left',
    'POST',
    '/v1/stgs',
    { name: 'a', boardCount: 9, ports: 1 },
    507,
    'ENOSPC',
    /^9 boards/,
  ],
  ['no such STG', 'GET', '/v1/stgs/none', undefined, 404, 'ENOENT', /^there is no STG none$/],
  ['a name that is none', 'GET', '/v1/stgs/%2e%2e', undefined, 400, 'EINVAL', /^name: "\.\."/],
  ['no such STG to delete', 'DELETE', '/v1/stgs/none', undefined, 404, 'ENOENT', /no STG/],
  ['a strange force', 'DELETE', '/v1/stgs/a?force=yes', undefined, 400, 'EINVAL', /^force: "yes"/],
  ['an unknown parameter', 'DELETE', '/v1/stgs/a?farce=1', undefined, 400, 'EINVAL', /"farce"/],
  ['an unknown route', 'GET', '/v2/array', undefined, 404, 'ENOENT', /GET \/v2\/array/],
  ['a wrong method', 'PUT', '/v1/stgs', undefined, 404, 'ENOENT', /PUT/],
];
for (const [what, method, url, body, status, code, message] of refusals) {
  test(`${what} gives ${status} and ${code}`, async (t) => {
    const { ask } = await serve(t);
    const answer = await ask(method, url, body);
    t.is(answer.status, status);
    t.deepEqual(Object.keys(answer.json), ['error']);
    t.is(answer.json.error.code, code);
    t.regex(answer.json.error.message, message);
  });
}

test('a name that is taken gives 409 and EEXIST', async (t) => {
  const { ask } = await serve(t);
  const body = { name: 'a', boardCount: 4, ports: 2 };
  await ask('POST', '/v1/stgs', body);
  const again = await ask('POST', '/v1/stgs', body);
  t.is(again.status, 409);
  t.is(again.json.error.code, 'EEXIST');
});

test('an STG in use gives 409 and EBUSY unless it is forced', async (t) => {
  const { ask, array } = await serve(t);
  await ask('POST', '/v1/stgs', { name: 'backup', boardCount: 4, ports: 2 });
  array.hosts = [exampleHost];
  t.is((await ask('DELETE', '/v1/stgs/backup')).json.error.code, 'EBUSY');
  t.is((await ask('DELETE', '/v1/stgs/backup?force=0')).status, 409);
  t.is((await ask('DELETE', '/v1/stgs/backup?force=1')).status, 200);
});

test('an array that breaks gives 500, and the API goes on', async (t) => {
  const { ask, array } = await serve(t);
  array.boardReports = async () => {
    throw new Error('board fell out');
  };
  const broken = await ask('GET', '/v1/boards');
  t.is(broken.status, 500);
  t.deepEqual(broken.json.error, { code: 'EIO', message: 'board fell out' });
  array.hostReports = async () => {
    throw stpError('EACCES', 'no');
  };
  t.deepEqual((await ask('GET', '/v1/hosts')).json.error, { code: 'EACCES', message: 'no' });
  t.is((await ask('GET', '/v1/stgs')).status, 200);
});

test('changes wait for each other, and listings wait for none', async (t) => {
  const { ask, array } = await serve(t);
  let release: () => void = () => undefined;
  array.beforeCreate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const both = ['a', 'b'].map((name) => ask('POST', '/v1/stgs', { name, boardCount: 4, ports: 1 }));
  let finished = 0;
  for (const one of both) void one.then(() => (finished += 1));
  t.is((await ask('GET', '/v1/array')).status, 200);
  t.is(finished, 0);
  release();
  for (const answer of await Promise.all(both)) t.is(answer.status, 201);
});

test('close ends the change that is under way and removes the socket', async (t) => {
  const { ask, array, api, path } = await serve(t);
  array.beforeCreate = delay(50);
  const created = ask('POST', '/v1/stgs', { name: 'a', boardCount: 4, ports: 1 });
  while (array.requests.length === 0) await new Promise(setImmediate);
  await api.close();
  t.is(array.changesNow, 0);
  t.is((await created).status, 201);
  t.false(existsSync(path));
});

test('close is not held up by a client that keeps its connection', async (t) => {
  const { api, path } = await serve(t);
  const idle = connect(path);
  const gone = new Promise((resolve) => idle.once('close', resolve));
  await new Promise((resolve) => idle.once('connect', resolve));
  idle.on('error', () => undefined);
  idle.write('GET /v1/array HTTP/1.1\r\nhost: x\r\n');
  await api.close();
  await gone;
  t.pass();
});

test('a path that is taken is refused', async (t) => {
  const runDirectory = temporaryDirectory(t);
  const path = join(runDirectory, 'control.sock');
  writeFileSync(path, '');
  const configuration = smallConfiguration;
  const array = new FakeArray({ configuration, runDirectory });
  const serving = serveControlApi({ array, configuration, path, log: quietLog() });
  await t.throwsAsync(serving, { code: 'EADDRINUSE' });
});

test('whatever body is sent, the answer is a new STG or an error document', async (t) => {
  const { ask, array } = await serve(t);
  const values = fc.oneof(fc.jsonValue(), fc.constantFrom('a', 4, 8, [0]));
  const keys = fc.oneof(fc.constantFrom('name', 'boardCount', 'ports', '__proto__'), fc.string());
  const bodies = fc.oneof(fc.jsonValue(), fc.dictionary(keys, values));
  await fc.assert(
    fc.asyncProperty(bodies, async (body) => {
      const made = array.requests.length;
      const answer = await ask('POST', '/v1/stgs', JSON.stringify(body));
      if (array.requests.length === made) t.is(answer.json.error.code, 'EINVAL');
    }),
    { numRuns: 200 },
  );
});
