/**
 * Who is at the other end, and whose a port is: stpd says so, and another user of the STG cannot
 * change it.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';
import { attach, type Host, type StpServer, type StpSocket } from '../../src/index.js';
import { startArray, until } from '../support/array.js';
import { startHost } from '../support/host-program.js';
import { OTHER_UID, startAsOther, whyNoOtherUser } from '../support/other-user.js';

async function listen(host: Host, port = 0): Promise<StpServer> {
  const server = host.createServer((socket) => socket.on('error', () => {}).resume());
  server.listen(port);
  await once(server, 'listening');
  return server;
}

const portOf = (server: StpServer): number => server.address()?.port ?? 0;

/** The next line that a child says. */
async function line(child: ChildProcess): Promise<string> {
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  for await (const text of lines) return text;
  throw new Error('the other user said nothing');
}

function skipped(t: ExecutionContext): boolean {
  const why = whyNoOtherUser();
  if (why === undefined) return false;
  t.log(`skipped: ${why}`);
  t.pass();
  return true;
}

test('an accepted socket says who its peer is, and so does the one that connects', async (t) => {
  if (skipped(t)) return;
  const array = await startArray(t, { allowUids: [0, OTHER_UID] });
  await using host = await attach({ runDirectory: array.runDirectory, stg: 'test', name: 'mine' });
  const server = await listen(host);
  const arrived = once(server, 'connection') as Promise<[StpSocket]>;
  const child = startAsOther(
    t,
    array.runDirectory,
    `import { attach } from 'ENTRY';
     const host = await attach({ runDirectory: '${array.runDirectory}', stg: 'test' });
     const socket = host.connect(${portOf(server)}, () => {
       console.log(JSON.stringify({ host: host.hostId, peer: socket.peer }));
     });`,
  );
  const said = JSON.parse(await line(child));
  const [socket] = await arrived;
  t.deepEqual(socket.peer, {
    hostId: said.host,
    uid: OTHER_UID,
    gid: OTHER_UID,
    pid: child.pid as number,
  });
  t.deepEqual(said.peer, {
    hostId: host.hostId,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
    pid: process.pid,
  });
  const hosts = await array.list<{ id: number; uid: number }>('host', 'list');
  t.is(hosts.find((row) => row.id === socket.peer?.hostId)?.uid, OTHER_UID);
  socket.destroy();
  server.close();
});

test('another user cannot take, give back or come from a port that is owned', async (t) => {
  if (skipped(t)) return;
  const array = await startArray(t, { allowUids: [0, OTHER_UID] });
  await using host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  const server = await listen(host);
  const bound = await host.bind(0);
  const child = startAsOther(
    t,
    array.runDirectory,
    `import { attach } from 'ENTRY';
     const host = await attach({ runDirectory: '${array.runDirectory}', stg: 'test' });
     const fails = (emitter) => new Promise((resolve) => {
       emitter.once('error', (error) => resolve(error.code + ' ' + error.syscall));
       emitter.once('listening', () => resolve('listens'));
       emitter.once('connect', () => resolve('connects'));
     });
     const said = [];
     for (const port of [${portOf(server)}, ${bound}]) {
       said.push(await fails(host.createServer().listen(port)));
       said.push(await host.bind(port).then(() => 'bound', (error) => error.code));
       await host.unbind(port);
       said.push(await fails(host.connect({ port: ${portOf(server)}, localPort: port })));
     }
     said.push(await fails(host.connect(${portOf(server)})));
     console.log(said.join());
     await host.close();`,
  );
  const refused = ['EADDRINUSE listen', 'EADDRINUSE', 'EADDRINUSE bind'];
  t.is(await line(child), [...refused, ...refused, 'connects'].join());
  await host.unbind(bound);
  server.close();
});

test('a port of another user is free once he is dead', async (t) => {
  if (skipped(t)) return;
  const array = await startArray(t, { allowUids: [0, OTHER_UID] });
  await using host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  const child = startAsOther(
    t,
    array.runDirectory,
    `import { attach } from 'ENTRY';
     const host = await attach({ runDirectory: '${array.runDirectory}', stg: 'test' });
     host.createServer().listen(7000, () => console.log('listens'));`,
  );
  t.is(await line(child), 'listens');
  await t.throwsAsync(host.bind(7000), { code: 'EADDRINUSE' });
  child.kill('SIGKILL');
  await once(child, 'exit');
  const server = await listen(host, 7000);
  t.is(portOf(server), 7000);
  server.close();
});

test('a port is free in the moment in which its owner is dead, twenty times over', async (t) => {
  const array = await startArray(t);
  await using host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  for (let i = 0; i < 20; i++) {
    const owner = await startHost(t, array.runDirectory);
    const { port = 0 } = await owner.ask({ do: 'listen', port: 7001 });
    t.is(port, 7001);
    await t.throwsAsync(host.bind(7001), { code: 'EADDRINUSE' });
    await owner.kill();
    const refused = host.connect(7001);
    const [error] = await once(refused, 'error');
    t.is(error.code, 'ECONNREFUSED');
    t.is(await host.bind(7001), 7001);
    await host.unbind(7001);
  }
});

test('a port that a server gave up stays with the one that has it by now', async (t) => {
  const array = await startArray(t);
  await using host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  const first = await listen(host, 7002);
  const late = host.createServer();
  const failed = once(late, 'error');
  late.listen(7002);
  late.close(); /* gives up a port that it never had */
  t.is(portOf(await listen(host)) > 0, true);
  await Promise.race([failed, new Promise((resolve) => setImmediate(resolve))]);
  const connected = host.connect(7002);
  await once(connected, 'connect');
  t.pass('the first server has kept it');
  connected.destroy();
  first.close();
});

test('a port that an owner has closed, and one of a host that has left, are free', async (t) => {
  const array = await startArray(t, { ports: 4 });
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  const other = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => Promise.all([host.close(), other.close()]));
  const server = await listen(host, 7003);
  const closed = once(server, 'close');
  server.close();
  await closed;
  await until('the port is free', () =>
    other.bind(7003).then(
      () => true,
      () => false,
    ),
  );
  await other.close();
  await until('the port is free again', () =>
    host.bind(7003).then(
      () => true,
      () => false,
    ),
  );
  t.pass();
});
