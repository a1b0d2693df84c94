/** Figs. 5 and 5A: the steps on both sides, and callers that break the rules. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { freePair } from '../../../bench/harness/free-pair.js';
import type { ServerConfig } from '../../../src/backup/config.js';
import { DatabaseSession } from '../../../src/backup/database-client.js';
import {
  DatabaseServer,
  type DatabaseServerOptions,
  type EstablishedDatabase,
} from '../../../src/backup/database-server.js';
import { databaseJob } from '../../../src/backup/database-server-jobs.js';
import {
  type DatabaseConnections,
  type DatabaseHandshakeOptions,
  databaseHandshake,
  FIG5_CLIENT,
} from '../../../src/backup/handshake-database-client.js';
import { FIG5_SERVER } from '../../../src/backup/handshake-database-server.js';
import {
  StepError,
  type StepNumber,
  type StepRecord,
} from '../../../src/backup/handshake-steps.js';
import { LineChannel } from '../../../src/backup/line-channel.js';
import {
  receiveDescriptor,
  sendDynamicPort,
  sendPreamble,
  sendStg,
} from '../../../src/backup/wire.js';
import { POLLIN } from '../../../src/connect/channel.js';
import { AF_INET, type STPConnect } from '../../../src/connect/stp-connect.js';
import { stpError } from '../../../src/errors.js';
import { LoopbackConnect, until } from './rig.js';

const CLIENT: StepNumber[] = [
  ...[182, 184, 186, 188, 190, 192, 194, 196],
  '196A',
  ...[198, 200, 202, 204, 206, 208, 210, 212, 214],
];
const SERVER: StepNumber[] = [222, 224, 226, 228, 230, 234, 236, 238, 240, 242, 244, 246];

interface Rig {
  readonly server: DatabaseServer;
  readonly config: ServerConfig;
  readonly wkp: number;
  readonly key: Buffer;
  readonly logs: string[];
  readonly steps: StepRecord[];
  readonly sessions: EstablishedDatabase[];
  connect(overrides?: Partial<DatabaseHandshakeOptions>): Promise<DatabaseConnections>;
  newConnect(): STPConnect;
  stop(): Promise<void>;
}

async function startRig(overrides: Partial<DatabaseServerOptions> = {}, tls = true): Promise<Rig> {
  const key = randomBytes(32);
  for (let attempt = 0; ; attempt++) {
    const wkp = await freePair();
    const made: STPConnect[] = [];
    const newConnect = (): STPConnect => {
      const c = new LoopbackConnect();
      made.push(c);
      return c;
    };
    const logs: string[] = [];
    const steps: StepRecord[] = [];
    const sessions: EstablishedDatabase[] = [];
    const log = (message: string): void => void logs.push(message);
    const hostKey = tls ? key : null;
    const address = '127.0.0.1';
    const config: ServerConfig = {
      name: 'server1',
      library: '/nonexistent',
      runDirectory: undefined,
      stg: 'stg1',
      address,
      wkp,
      control: '/nonexistent',
      hosts: new Map([['host1', { name: 'host1', address, wkp: 1, key: hostKey }]]),
    };
    const server = new DatabaseServer({
      config,
      network: newConnect(),
      storageOf: async () => newConnect(),
      job: async (session) => void sessions.push(session),
      log: { info: log, warn: log, error: log },
      onStep: (_host, record) => steps.push(record),
      ...overrides,
    });
    const stop = async (): Promise<void> => {
      await server.stop();
      await Promise.all(made.map((c) => c.closeAll()));
    };
    try {
      await server.start();
    } catch (e) {
      await stop();
      if (attempt === 5) throw e;
      continue;
    }
    const connect = (more: Partial<DatabaseHandshakeOptions> = {}): Promise<DatabaseConnections> =>
      databaseHandshake({
        network: newConnect(),
        storageOf: async () => newConnect(),
        identity: 'host1',
        server: { name: 'server1', address, wkp, key: hostKey },
        address,
        ports: { from: 0, to: 0 },
        onRefused: (peer, reason) => log(`client refused ${peer}: ${reason}`),
        ...more,
      });
    return { server, config, wkp, key, logs, steps, sessions, connect, newConnect, stop };
  }
}

const REQUEST = Buffer.from('{"op":"store","kind":"command","name":"db1"}\n');

/** A connection to the WKP that has the key and no manners. */
async function caller(rig: Rig, key = rig.key): Promise<{ c: STPConnect; fd: number }> {
  const c = rig.newConnect();
  const fd = c.socket(AF_INET);
  c.setsockopt(fd, 'psk', { identity: 'host1', key });
  await c.connect(fd, { host: '127.0.0.1', port: rig.wkp });
  return { c, fd };
}

const numbers = (records: readonly StepRecord[]): StepNumber[] => records.map((r) => r.step);

test('the tables have the steps of Figs. 5 and 5A, in their order', (t) => {
  for (const [table, steps, side] of [
    [FIG5_CLIENT, CLIENT, 'client'],
    [FIG5_SERVER, SERVER, 'server'],
  ] as const) {
    t.deepEqual(
      table.map((row) => row.step),
      steps,
    );
    t.deepEqual(
      table.map((row) => row.next),
      [...steps.slice(1), 'done'],
    );
    t.true(table.every((row) => row.side === side && row.figure.startsWith('5')));
  }
});

for (const tls of [true, false]) {
  test(`a handshake over ${tls ? 'TLS-PSK' : 'plain TCP'}: the steps, and no network connection after it`, async (t) => {
    const rig = await startRig({}, tls);
    t.teardown(rig.stop);
    const trace: StepRecord[] = [];
    const network = rig.newConnect();
    const opened: number[] = [];
    const [socket, accept] = [network.socket.bind(network), network.accept.bind(network)];
    network.socket = (...args) => {
      const fd = socket(...args);
      opened.push(fd);
      return fd;
    };
    network.accept = async (...args) => {
      const fd = await accept(...args);
      opened.push(fd);
      return fd;
    };
    const c = await rig.connect({ network, trace: (r) => trace.push(r) });
    t.deepEqual(numbers(trace), CLIENT);
    t.is(c.stg, 'stg1');
    await c.storage.send(c.control, REQUEST);
    await until(() => rig.sessions.length === 1);
    t.deepEqual(numbers(rig.steps), SERVER);
    t.is(rig.sessions[0]?.host, 'host1');
    t.true([...trace, ...rig.steps].every((r) => r.error === undefined));
    t.is(opened.length, 3);
    for (const fd of opened) t.throws(() => network.getsockname(fd), { code: 'EBADF' });
  });
}

test('the dynamic port comes from the range', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const from = await freePair();
  const taken = rig.newConnect();
  const fd = taken.socket(AF_INET);
  await taken.bind(fd, { host: '127.0.0.1', port: from });
  await taken.listen(fd, 1);
  const c = await rig.connect({ ports: { from, to: from + 1 } });
  t.is(c.stg, 'stg1');
  await t.throwsAsync(rig.connect({ ports: { from, to: from } }), {
    instanceOf: StepError,
    message: /step 184 .*EADDRINUSE/,
  });
});

test('garbage, and another version, on the WKP are refused with a reason', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const one = await caller(rig);
  await one.c.send(one.fd, randomBytes(4096));
  await t.throwsAsync(receiveDescriptor(one.c, one.fd), { message: /refused: a message of/ });
  const two = await caller(rig);
  const body = Buffer.alloc(4 + 31);
  body.writeUInt32BE(31, 0);
  body.write('STPBKUP\0', 4, 'latin1');
  body.writeUInt16BE(9, 12);
  await two.c.send(two.fd, body);
  await t.throwsAsync(receiveDescriptor(two.c, two.fd), { message: /protocol version 9/ });
  t.is((await rig.connect()).stg, 'stg1');
});

test('who says nothing is cut off; who has another key gets nowhere', async (t) => {
  const rig = await startRig({ timeoutMs: 1500 });
  t.teardown(rig.stop);
  const silent = await caller(rig);
  await t.throwsAsync(receiveDescriptor(silent.c, silent.fd), { message: /said nothing for 1.5/ });
  await t.throwsAsync(caller(rig, randomBytes(32)));
  t.is((await rig.connect()).stg, 'stg1');
});

test('a host under the name of another, and an unknown one, are refused', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const one = await caller(rig);
  const call = { host: 'host2', port: 9, token: randomBytes(16) };
  await sendDynamicPort(one.c, one.fd, call);
  await t.throwsAsync(receiveDescriptor(one.c, one.fd), { message: /not the one that its key/ });
  const plain = await startRig({}, false);
  t.teardown(plain.stop);
  await t.throwsAsync(plain.connect({ identity: 'host2' }), {
    message: /step 196A .*not in the server's configuration/,
  });
});

test('a dynamic port at which nobody listens: the client learns of it over the WKP', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const { c, fd } = await caller(rig);
  const port = await freePair();
  await sendDynamicPort(c, fd, { host: 'host1', port, token: randomBytes(16) });
  t.is((await receiveDescriptor(c, fd)).descriptor, port);
  await t.throwsAsync(receiveDescriptor(c, fd), { message: /refused: .*step 234 .*ECONNREFUSED/ });
});

test('a caller of the dynamic port without the token is refused; the server still comes in', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const thief = rig.newConnect();
  const network = rig.newConnect();
  let attacked: Promise<void> | undefined;
  // The thief comes between 188 and 196, before the server can know the port.
  const listen = network.listen.bind(network);
  network.listen = async (fd, backlog) => {
    await listen(fd, backlog);
    const { port } = network.getsockname(fd);
    attacked = (async () => {
      const dynamic = thief.socket(AF_INET);
      thief.setsockopt(dynamic, 'psk', { identity: 'server1', key: rig.key });
      await thief.connect(dynamic, { host: '127.0.0.1', port });
      await sendStg(thief, dynamic, 'stolen', randomBytes(16));
    })();
  };
  const c = await rig.connect({ network });
  await attacked;
  t.is(c.stg, 'stg1');
});

test('a storage connection without the token is reset; the session stands', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const storage = rig.newConnect();
  const thief = rig.newConnect();
  const listen = storage.listen.bind(storage);
  let attacked: Promise<void> | undefined;
  storage.listen = async (fd, backlog) => {
    await listen(fd, backlog);
    const { port } = storage.getsockname(fd);
    attacked = (async () => {
      const socket = thief.STPsocket();
      await thief.connect(socket, { port });
      await sendPreamble(thief, socket, randomBytes(16), 0);
    })();
  };
  const c = await rig.connect({ storageOf: async () => storage });
  await attacked;
  await c.storage.send(c.control, REQUEST);
  await until(() => rig.sessions.length === 1);
  t.is(rig.server.sessionCount <= 1, true);
});

test('an STG that the client cannot reach: both sides name it', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const storageOf = async (): Promise<never> => {
    throw new Error('EACCES: no access to STG stg1');
  };
  await t.throwsAsync(rig.connect({ storageOf }), { message: /step 202 .*EACCES: no access/ });
  await until(() => rig.logs.some((line) => /step 238 .*refused: .*EACCES: no access/.test(line)));
});

test('a request out of protocol ends its session with the reason', async (t) => {
  const rig = await startRig();
  t.teardown(rig.stop);
  const c = await rig.connect();
  await c.storage.send(c.control, Buffer.from('{"op":"format","disk":"/"}\n'));
  const answer = JSON.parse((await c.storage.receive(c.control, 4096)).toString());
  t.is(answer.type, 'cancel');
  t.regex(answer.reason, /out of protocol: op/);
});

test('a client that breaks its data stream and tells why a moment later is heard', async (t) => {
  let config: ServerConfig | undefined;
  const quiet = { info: () => {}, warn: () => {}, error: () => {} };
  const rig = await startRig({
    job: async (session) => {
      // TCP is looked at only when asked; the array tells by itself.
      await session.storage.poll([{ fd: session.data, events: POLLIN }], 60_000);
      await databaseJob({
        config: config as ServerConfig,
        library: { lockFile: () => true },
        version: '0.0.0',
        log: quiet,
      })(session);
    },
  });
  t.teardown(rig.stop);
  config = rig.config;
  const { storage, data, control } = await rig.connect();
  const words = new LineChannel(storage, control, 'the server');
  storage.abort(data);
  await words.send({ op: 'store', kind: 'command', name: 'db1' });
  await sleep(200);
  await words.send({ type: 'failed', reason: 'the program failed' });
  await until(() => rig.logs.some((line) => line.includes('session of host1 failed')));
  t.regex(rig.logs.join('\n'), /failed: client host1: the program failed/);
});

test('a server that breaks its data stream and tells why a moment later is heard', async (t) => {
  const rig = await startRig({
    job: async ({ storage, data, control }) => {
      storage.abort(data);
      await sleep(100);
      await control.send({ type: 'ready', set: '', roots: [] });
      await sleep(200);
      throw stpError('ENOSPC', 'the disk of the library is full');
    },
  });
  t.teardown(rig.stop);
  const { address, wkp } = rig.config;
  const session = await DatabaseSession.open(
    {
      config: {
        ...{ name: 'host1', runDirectory: undefined, address, wkp: 1, key: rig.key },
        ...{ roots: [], restoreRoots: [] },
      },
      server: { name: 'server1', address, wkp },
      network: rig.newConnect(),
      storageOf: async () => rig.newConnect(),
      signal: new AbortController().signal,
    },
    { op: 'store', kind: 'command', name: 'db1' },
  );
  t.teardown(() => session.close());
  await t.throwsAsync(session.start('stream-sender', { fd: -1, path: 'db1' }), {
    message: /the disk of the library is full/,
  });
});
