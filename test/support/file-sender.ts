/** A worker that sends a file, which may be a pipe nobody writes to, over the stream lent to it. */
import { openSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { BlockingStream } from '../../src/index.js';

const { handle, path } = workerData;
const stream = new BlockingStream(handle);
const fd = openSync(path, 'r+');
parentPort?.postMessage('sending');
try {
  stream.sendFile(fd, -1, 65536);
} finally {
  stream.close();
}
