/** A connection that is reset before its event loop has seen that it stands. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { attach } from '../../src/index.js';
import { startArray } from '../support/array.js';
import { fate } from '../support/forward.js';

const WORKER = new URL('../support/echo-worker.js', import.meta.url);
const sleeper = new Int32Array(new SharedArrayBuffer(4));

test("who waits for 'connect' by a promise can listen for the reset, as with net", async (t) => {
  const { runDirectory } = await startArray(t);
  const worker = new Worker(WORKER, { workerData: { runDirectory, resets: true } });
  const [port] = await once(worker, 'message');
  const host = await attach({ runDirectory, stg: 'test' });
  t.teardown(async () => {
    await host.close();
    worker.postMessage('end');
    await once(worker, 'exit');
  });
  const socket = host.connect({ port });
  // When this thread goes on, both are there: that it was connected, and that it was reset.
  setImmediate(() => Atomics.wait(sleeper, 0, 0, 500));
  await once(socket, 'connect');
  t.is(socket.destroyed, false);
  t.is(await fate(socket), 'ECONNRESET');
});
