/**
 * Two threads that ask and answer, each of which looks before it sleeps, until most looks have found
 * an answer. To be started on one core. Prints how many rounds that took.
 */
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { BlockingStream } from '../../../src/socket/blocking-stream.js';
import type { StreamHandle } from '../../../src/socket/stp-socket.js';
import { handleOf } from '../socket/pair.js';
import { ringRig } from './rig.js';

const ROUND = 200;
const LOOK_US = 50;
const message = Buffer.alloc(64);

function open(handle: StreamHandle): BlockingStream {
  const stream = new BlockingStream(handle);
  stream.setSpin(LOOK_US); /* on one core it is off by default */
  return stream;
}

if (isMainThread) {
  const rig = ringRig();
  const peer = handleOf(rig, 0, 1);
  const worker = new Worker(new URL(import.meta.url), {
    workerData: peer,
    transferList: [peer.port],
  });
  const stream = open(handleOf(rig, 0, 0));
  for (let rounds = 1; ; rounds++) {
    const before = stream.counters();
    for (let i = 0; i < ROUND; i++) stream.sendReceive(message, message);
    const after = stream.counters();
    const hits = after.pollHits - before.pollHits;
    if (hits > ROUND / 2 && hits > after.pollMisses - before.pollMisses) {
      console.log(rounds);
      break;
    }
  }
  stream.close();
  worker.once('exit', () => process.exit(0));
} else {
  const stream = open(workerData);
  while (stream.receive(message) > 0) stream.send(message);
  stream.close();
}
