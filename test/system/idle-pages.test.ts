/**
 * An idle connection holds no pages, whoever has it: an event loop, a thread that blocks in it or in
 * something else of the array, or one that turns its own event loop.
 */
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import type { StgReport } from '../../src/daemon/reports.js';
import { attach, type Host, type StpSocket } from '../../src/index.js';
import { type ArrayForTest, startArray, until } from '../support/array.js';
import type { IdleTask } from '../support/idle-worker.js';

const BYTES = 1 << 20;

interface Place {
  readonly array: ArrayForTest;
  readonly host: Host;
  readonly port: number;
  /** Bytes that the sinks have taken. */
  received(): number;
}

async function place(t: ExecutionContext<unknown>): Promise<Place> {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  let received = 0;
  const server = host.createServer((socket) => {
    socket
      .on('error', () => {})
      .on('data', (data: Buffer) => {
        received += data.length;
      });
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  return { array, host, port: server.address()?.port ?? 0, received: () => received };
}

const connected = ({ host, port }: Place): Promise<StpSocket> =>
  new Promise((resolve, reject) => {
    const socket = host.connect({ port }, () => resolve(socket));
    socket.once('error', reject);
  });

async function noPages({ array }: Place): Promise<void> {
  await until('no page is held', async () => {
    const [stg] = await array.list<StgReport>('stg', 'list');
    return stg?.pagesFree === stg?.pagesTotal;
  });
}

for (const how of ['receive', 'other', 'loop', 'connect-receive', 'connect-accept'] as const) {
  test.serial(`a worker that has sent gives its pages back: ${how}`, async (t) => {
    const on = await place(t);
    const own = how.startsWith('connect');
    const sockets = own ? [] : [await connected(on), await connected(on)];
    const streams = sockets.map((socket) => socket.detach());
    const task: IdleTask = {
      how,
      bytes: BYTES,
      ...(own ? { runDirectory: on.array.runDirectory, port: on.port } : { streams }),
    };
    const worker = new Worker(new URL('../support/idle-worker.js', import.meta.url), {
      workerData: task,
      transferList: streams.map(({ port }) => port),
    });
    t.teardown(() => worker.terminate());
    const failed = new Promise((_, reject) => worker.once('error', reject));
    await Promise.race([new Promise((resolve) => worker.once('message', resolve)), failed]);
    await until('all has arrived', () => on.received() === BYTES);
    await noPages(on);
    t.pass();
  });
}

test.serial(
  'a socket that has sent gives its pages back; what it sends next arrives',
  async (t) => {
    const on = await place(t);
    const socket = await connected(on);
    for (let round = 1; round <= 2; round++) {
      socket.write(Buffer.alloc(BYTES));
      await until('all has arrived', () => on.received() === round * BYTES);
      await noPages(on);
    }
    t.pass();
  },
);
