/** A thread that reads from connection 0 of an STG until the call returns, and tells what it said. */
import { parentPort, workerData } from 'node:worker_threads';
import { openRing } from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import { GENERATION } from './rig.js';

const { stg, end, sliceMs, cable } = workerData;
const options = {
  stg,
  connection: 0,
  generation: GENERATION,
  end,
  selfMember: end,
  selfGeneration: 1,
  peerMember: 1 - end,
  cable,
};
const ring = openRing(options, false);
parentPort?.postMessage(native().ringRead(ring, Buffer.alloc(64), 0, 64, sliceMs));
