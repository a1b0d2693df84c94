/**
 * A host that spoils what it shares with the director and dies. Arguments: run directory.
 * It listens with a backlog of one, connects to itself three times, never takes an event again.
 */

import { attach } from '../../src/index.js';
import { SEGMENT_MAP } from '../../src/layout/geometry.js';
import { MEMBER_RING, NUMBERS } from '../../src/layout/tables.js';

const host = await attach({ runDirectory: process.argv[2] ?? '', stg: 'test' });
await host.command({ op: NUMBERS.OP_LISTEN, port: 5000, backlog: 1, socket: 1 });
for (let i = 0; i < 3; i++) host.command({ op: NUMBERS.OP_CONNECT, port: 5000 }).catch(() => {});
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
host.segment.store(SEGMENT_MAP.memberRings + MEMBER_RING.at.eventHead, 0x40000000);
process.kill(process.pid, 'SIGKILL');
