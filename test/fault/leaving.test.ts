/**
 * A host that leaves while its sockets, workers and threads are still at it.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import type { StgReport } from '../../src/daemon/reports.js';
import { attach, type Host, type StpServer, type StpSocket } from '../../src/index.js';
import { type ArrayForTest, startArray, until } from '../support/array.js';

/** Unlike `once`, an 'error' in between does not matter. */
const emitted = (emitter: NodeJS.EventEmitter, event: string): Promise<void> =>
  new Promise((resolve) => emitter.once(event, () => resolve()));

interface Pair {
  readonly array: ArrayForTest;
  readonly server: Host;
  readonly listener: StpServer;
  readonly client: Host;
  connect(host?: Host): Promise<{ near: StpSocket; far: StpSocket }>;
}

async function pair(t: ExecutionContext): Promise<Pair> {
  const array = await startArray(t);
  const options = { runDirectory: array.runDirectory, stg: 'test' };
  const server = await attach(options);
  const client = await attach(options);
  t.teardown(() => Promise.all([server.close(), client.close()]));
  const listener = server.createServer({ pauseOnConnect: true });
  listener.listen({ port: 5000 });
  await once(listener, 'listening');
  return {
    array,
    server,
    listener,
    client,
    async connect(host = client) {
      const accepted = once(listener, 'connection') as Promise<[StpSocket]>;
      const near = host.connect({ port: 5000 });
      near.on('error', () => {});
      await once(near, 'connect');
      const [far] = await accepted;
      far.on('error', () => {});
      return { near, far };
    },
  };
}

test('the sockets of a host that is closed close with it, and write nowhere else', async (t) => {
  const { array, client, connect } = await pair(t);
  const { near } = await connect();
  const closed = emitted(near, 'close');
  await client.close();
  const other = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => other.close());
  const { far } = await connect(other);
  const got: Buffer[] = [];
  far.on('data', (data: Buffer) => got.push(data));
  far.resume();
  near.write('not for you', () => {});
  await closed;
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.is(Buffer.concat(got).toString(), '');
});

test('the sockets of a deleted STG close with ECONNRESET', async (t) => {
  const { array, connect } = await pair(t);
  const { near } = await connect();
  const failed = once(near, 'error') as Promise<[Error & { code?: string }]>;
  const closed = emitted(near, 'close');
  await array.stpctl('stg', 'delete', 'test', '--force');
  t.is((await failed)[0].code, 'ECONNRESET');
  await closed;
});

test('a worker that still fills a page when its host is closed writes into no other stream', async (t) => {
  const { array, client, connect } = await pair(t);
  const directory = mkdtempSync(join(tmpdir(), 'stpd-leaving-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'pipe');
  execFileSync('mkfifo', [path]);
  const { near, far } = await connect();
  const handle = near.detach();
  const worker = new Worker(new URL('../support/file-sender.js', import.meta.url), {
    workerData: { handle, path },
    transferList: [handle.port],
  });
  worker.on('error', () => {});
  const exited = emitted(worker, 'exit');
  await once(worker, 'message');
  await new Promise((resolve) => setTimeout(resolve, 200)); /* now it is in read(2) */
  const closing = client.close();
  far.resume();
  far.destroy();
  const other = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => other.close());
  const streams = [await connect(other), await connect(other)];
  const content = Buffer.alloc(4096, 'a');
  for (const { near: tx } of streams) tx.write(content);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const pipe = openSync(path, 'r+');
  writeSync(pipe, Buffer.alloc(4096, 'b'));
  await exited;
  closeSync(pipe);
  await closing;
  for (const { far: rx } of streams) {
    rx.resume();
    const [data] = (await once(rx, 'data')) as [Buffer];
    t.is(data.indexOf('b'), -1);
  }
});

test('a write that a destroy interrupts is called back', async (t) => {
  const { connect } = await pair(t);
  const { near } = await connect();
  const written = new Promise<Error | null | undefined>((resolve) => {
    near.write(Buffer.alloc(16 << 20), resolve);
  });
  setImmediate(() => near.destroy());
  await emitted(near, 'close');
  const called = await Promise.race([
    written.then(() => true),
    new Promise((resolve) => setTimeout(resolve, 1000, false)),
  ]);
  t.true(called);
});

test('a server that is closed before it listens closes, and can listen again', async (t) => {
  const { server } = await pair(t);
  const listener = server.createServer();
  listener.listen({ port: 5001 });
  const closed = new Promise((resolve) => listener.close(resolve));
  const emitted = once(listener, 'close');
  t.is(await closed, undefined);
  await emitted;
  listener.listen({ port: 5001 });
  await once(listener, 'listening');
  await new Promise((resolve) => listener.close(resolve));
});

for (const busy of [false, true]) {
  test(`a terminated thread's host leaves (${busy ? 'in' : 'outside'} a callback)`, async (t) => {
    const { array, listener } = await pair(t);
    const accepted = once(listener, 'connection') as Promise<[StpSocket]>;
    const worker = new Worker(new URL('../support/host-worker.js', import.meta.url), {
      workerData: { runDirectory: array.runDirectory, port: 5000, busy },
    });
    await once(worker, 'message');
    const [socket] = await accepted;
    const ended = Promise.race([once(socket, 'error'), once(socket, 'end')]);
    socket.resume();
    if (busy) {
      socket.write('x');
      await once(worker, 'message');
    }
    await worker.terminate();
    await ended;
    await until('the host is gone', async () => {
      const [stg] = await array.list<StgReport>('stg', 'list');
      return stg?.members.length === 2;
    });
    t.pass();
  });
}
