/**
 * What brings a stream to a worker thread, where calls may block. Copy what you need.
 *
 * `host` is what `attach({ stg })` gives.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** The next connection to a port (0: a dynamic one, which `onPort` is told), with all its bytes. */
export async function acceptOne(host, port, onPort) {
  const server = host.createServer({ pauseOnConnect: true, allowHalfOpen: true });
  server.listen(port);
  await once(server, 'listening');
  onPort?.(server.address().port);
  const [socket] = await once(server, 'connection');
  server.close();
  return socket;
}

export async function connectTo(host, port) {
  const socket = host.connect({ port, allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
}

/** Runs a program in a worker: there, `new BlockingStream(workerData.handle)` is the stream. */
export async function inWorker(socket, program, data) {
  const handle = socket.detach();
  const worker = new Worker(program, {
    workerData: { ...data, handle },
    transferList: [handle.port],
  });
  await once(worker, 'exit'); // rejects with what the worker throws
}
