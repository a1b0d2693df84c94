/** A worker that attaches for itself, connects and either waits or never returns from 'data'. */
import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from '../../src/index.js';

const { runDirectory, port, busy } = workerData;
const host = await attach({ runDirectory, stg: 'test' });
const socket = host.connect({ port });
await once(socket, 'connect');
socket.on('data', () => {
  if (!busy) return;
  parentPort?.postMessage('busy');
  for (;;);
});
parentPort?.postMessage('connected');
