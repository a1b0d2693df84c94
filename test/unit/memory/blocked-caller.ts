/**
 * A thread that makes one call on a direction of connection 0 of an STG, and tells what it said: the
 * consumer reads or takes a page, the producer writes.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { openRing } from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import { GENERATION } from './rig.js';

export interface BlockedCall {
  readonly call: 'read' | 'takePage' | 'write';
  readonly stg: number;
  readonly end: 0 | 1;
  readonly cable: number;
  readonly sliceMs: number;
  /** As adaptive as usual where absent. */
  readonly spinUs?: number;
  /** Of a write. */
  readonly bytes?: number;
  /** Most bytes in flight. */
  readonly window?: number;
  /** Where the ring stands. */
  readonly cursor?: number;
}

const { call, stg, end, sliceMs, cable, spinUs, bytes, window, cursor } = workerData as BlockedCall;
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
const ring = openRing(options, call === 'write', cursor);
if (spinUs !== undefined) native().ringSetSpin(ring, spinUs);
if (window !== undefined) native().ringSetLimit(ring, window);
native().ringState(ring); /* a ring that does not begin at the start learns of the other's cursor */

function result(): number {
  if (call === 'takePage') return native().ringTakePage(ring, sliceMs) % 2 ** 17;
  if (call === 'read') return native().ringRead(ring, Buffer.alloc(64), 0, 64, sliceMs);
  return native().ringWrite(ring, Buffer.alloc(bytes ?? 0), 0, bytes ?? 0, sliceMs);
}

parentPort?.postMessage(result());
