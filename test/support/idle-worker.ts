/**
 * A worker thread that sends, and then waits in the way that its test names. It posts 'waits' before
 * it does.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { AF_STP, BlockingConnect, BlockingStream, type StreamHandle } from '../../src/index.js';

export interface IdleTask {
  /** receive: of the stream that has sent. other: of another one. loop: on the event loop. */
  readonly how: 'receive' | 'other' | 'loop' | 'connect-receive' | 'connect-accept';
  readonly streams?: readonly StreamHandle[];
  readonly runDirectory?: string;
  readonly port?: number;
  readonly bytes: number;
}

const task = workerData as IdleTask;
const data = Buffer.alloc(task.bytes, 5);
const one = Buffer.alloc(1);
const waits = (): void => parentPort?.postMessage('waits');

if (task.streams !== undefined) {
  const streams = task.streams.map((handle) => new BlockingStream(handle));
  const [first, second] = streams as [BlockingStream, BlockingStream?];
  first.send(data);
  waits();
  if (task.how === 'receive') first.receive(one);
  else if (task.how === 'other') second?.receive(one);
  else setInterval(() => {}, 1000);
} else {
  const layer = await BlockingConnect.open({
    array: { runDirectory: task.runDirectory ?? '', stg: 'test' },
  });
  const fd = layer.socket(AF_STP);
  layer.connect(fd, { port: task.port ?? 0 });
  for (let sent = 0; sent < data.length; ) sent += layer.send(fd, data.subarray(sent));
  const listener = layer.socket(AF_STP);
  layer.listen(listener);
  waits();
  if (task.how === 'connect-receive') layer.receive(fd, 1);
  else layer.accept(listener);
}
