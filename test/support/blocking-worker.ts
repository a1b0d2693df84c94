/** A worker that blocks in receive until its stream ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { BlockingStream } from '../../src/index.js';

const stream = new BlockingStream(workerData);
parentPort?.postMessage('blocking');
const into = Buffer.alloc(65536);
while (stream.receive(into) > 0);
stream.close();
