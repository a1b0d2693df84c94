/** A worker that attaches for itself and sends back what it is sent. Tells its port; ends when told. */
import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from '../../src/index.js';

const host = await attach({ runDirectory: workerData.runDirectory, stg: 'test' });
const server = host.createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', (chunk) => socket.write(chunk));
});
server.listen(0);
await once(server, 'listening');
parentPort?.once('message', async () => {
  await host.close();
  parentPort?.close();
});
parentPort?.postMessage(server.address()?.port);
