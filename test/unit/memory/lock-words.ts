/** A thread of member 0 that writes through one connection of an STG until its array says stop. */
import { parentPort, workerData } from 'node:worker_threads';
import { openRing } from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import { GENERATION } from './rig.js';

const { stg, connection, cable } = workerData;
const stop: Int32Array = workerData.stop;
const shared = { stg, connection, generation: GENERATION, selfGeneration: 1, cable };
const tx = openRing({ ...shared, end: 0, selfMember: 0, peerMember: 1 }, true);
const rx = openRing({ ...shared, end: 1, selfMember: 0, peerMember: 0 }, false);
const bytes = Buffer.alloc(65536);
parentPort?.postMessage('writes');
while (Atomics.load(stop, 0) === 0) {
  native().ringWrite(tx, bytes, 0, bytes.length, 50);
  native().ringRead(rx, bytes, 0, bytes.length, 50);
}
