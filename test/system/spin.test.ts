/**
 * The budget of a socket: how long its event loop may look before it sleeps. Shown by what the loop
 * counts, not by time. The other side is a thread with a loop of its own.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { AF_STP, attach, type Host, SO_SPIN, STPConnect, type StpSocket } from '../../src/index.js';
import { startArray } from '../support/array.js';

const WORKER = new URL('../support/echo-worker.js', import.meta.url);
/** So long that the answer comes within it, whatever else this machine does. */
const LONG_US = 1_000_000;
const ROUNDS = 100;

interface Setting {
  readonly host: Host;
  readonly runDirectory: string;
  readonly port: number;
  connect(): Promise<StpSocket>;
}

async function setting(t: ExecutionContext<unknown>): Promise<Setting> {
  const { runDirectory } = await startArray(t);
  const worker = new Worker(WORKER, { workerData: { runDirectory } });
  t.teardown(async () => {
    worker.postMessage('end');
    await once(worker, 'exit');
  });
  const [port] = await once(worker, 'message');
  const host = await attach({ runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const connect = async (): Promise<StpSocket> => {
    const socket = host.connect({ port });
    await once(socket, 'connect');
    return socket;
  };
  return { host, runDirectory, port, connect };
}

async function ask(socket: StpSocket, rounds = ROUNDS): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    socket.write('?');
    await once(socket, 'data');
  }
}

function polls(host: Host): number {
  const { pollHits, pollMisses } = host.counters();
  return pollHits + pollMisses;
}

test.serial('a loop whose sockets all have a budget of 0 never looks', async (t) => {
  const { host, connect } = await setting(t);
  const sockets = [(await connect()).setSpin(0), (await connect()).setSpin(0)];
  const before = polls(host);
  for (const socket of sockets) await ask(socket);
  t.is(polls(host), before);
  const further = (await connect()).setSpin(LONG_US);
  await ask(further);
  t.true(polls(host) > before, 'it is the setting that has kept it from looking');
  further.destroy();
  await once(further, 'close');
  await ask(sockets[0] as StpSocket, 1);
  const after = polls(host);
  for (const socket of sockets) await ask(socket);
  t.is(polls(host), after, 'a closed socket has no budget');
});

test.serial('the budget is that of who was active lately, not of who is open', async (t) => {
  const { host, connect } = await setting(t);
  const quiet = (await connect()).setSpin(0);
  const eager = (await connect()).setSpin(LONG_US);
  await ask(eager);
  await sleep(50);
  await ask(quiet, 1);
  const before = polls(host);
  await ask(quiet);
  t.is(polls(host), before, 'the eager one is idle');
  eager.on('data', () => eager.write('?'));
  eager.write('?');
  await ask(quiet);
  t.true(polls(host) > before, 'it takes the largest of both');
});

test.serial('null is as without a call, and a setting lasts for the next connection', async (t) => {
  const { host, port, connect } = await setting(t);
  const socket = await connect();
  socket.setSpin(0);
  socket.destroy();
  await once(socket, 'close');
  socket.connect({ port });
  await once(socket, 'connect');
  const before = polls(host);
  await ask(socket);
  t.is(polls(host), before);
  socket.setSpin(null).setSpin(LONG_US);
  await ask(socket);
  t.true(polls(host) > before);
});

test.serial('SO_SPIN is the budget of a descriptor on an event loop', async (t) => {
  const { host, port } = await setting(t);
  const layer = new STPConnect({ host });
  const fd = layer.socket(AF_STP);
  layer.setsockopt(fd, SO_SPIN, 0);
  await layer.connect(fd, { port });
  /* What looks for the answer to connect is no budget of the descriptor. */
  await new Promise((resolve) => setTimeout(resolve, 20));
  const before = polls(host);
  for (let i = 0; i < ROUNDS; i++) {
    await layer.send(fd, Buffer.from('?'));
    await layer.receive(fd, 1);
  }
  t.is(polls(host), before);
  layer.setsockopt(fd, SO_SPIN, LONG_US);
  /* Not at once: where looking was in vain, it is tried again only after some sleeps. */
  for (let i = 0; i < ROUNDS * 50 && polls(host) === before; i++) {
    await layer.send(fd, Buffer.from('?'));
    await layer.receive(fd, 1);
  }
  t.true(polls(host) > before);
  await layer.close(fd);
});

test.serial('a budget that is none is refused', async (t) => {
  const { connect } = await setting(t);
  const socket = await connect();
  for (const wrong of [-1, 1.5, 1_000_001, Number.NaN]) {
    t.throws(() => socket.setSpin(wrong), { code: 'ERR_OUT_OF_RANGE' }, String(wrong));
  }
  t.throws(() => socket.setSpin('50' as unknown as number), { code: 'ERR_INVALID_ARG_TYPE' });
  socket.destroy();
});
