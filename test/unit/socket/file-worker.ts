/** A thread that sends a file over the stream lent to it, and tells how much it moved, or why not. */
import { parentPort, workerData } from 'node:worker_threads';
import { BlockingStream } from '../../../src/socket/blocking-stream.js';

const { handle, fd, bytes } = workerData;
const stream = new BlockingStream(handle);
try {
  parentPort?.postMessage({ moved: stream.sendFile(fd, 0, bytes) });
} catch (error) {
  parentPort?.postMessage({ code: (error as { code?: string }).code, sent: stream.bytesSent });
} finally {
  stream.close();
}
