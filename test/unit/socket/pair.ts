/**
 * Both ends of a stream as blocking streams of one thread, without a daemon. Only calls that find
 * what they need at once may be made on them: nobody else could end a wait.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import type { ExecutionContext } from 'ava';
import { CURSOR_START } from '../../../src/memory/page-ring.js';
import { native } from '../../../src/native.js';
import { BlockingStream } from '../../../src/socket/blocking-stream.js';
import type { StreamHandle } from '../../../src/socket/stp-socket.js';
import { type RingRig, ringRig } from '../memory/rig.js';

export interface StreamPair {
  readonly rig: RingRig;
  /** End 0 of connection 1 and its peer. */
  readonly a: BlockingStream;
  readonly b: BlockingStream;
}

const PEER = { hostId: 1, uid: 0, gid: 0, pid: 0 };

/** A handle as StpSocket.detach gives it. */
export function handleOf(
  rig: RingRig,
  connection: number,
  end: 0 | 1,
  options: { cursor?: number; leading?: Uint8Array; pageTimeoutMs?: number } = {},
): StreamHandle {
  const { port1, port2 } = new MessageChannel();
  port1.unref();
  const cursor = options.cursor ?? CURSOR_START;
  return {
    segment: rig.segment.handle,
    ring: rig.end(connection, end),
    pages: { stg: 'rig', view: rig.stg, pageTimeoutMs: options.pageTimeoutMs ?? 0 },
    txCursor: cursor,
    rxCursor: cursor,
    leading: options.leading ?? new Uint8Array(0),
    localPort: 1 + end,
    remotePort: 2 - end,
    peer: PEER,
    port: port2,
  };
}

/** A new connection of the rig. @param connection 1 to 63 */
export function connect(
  rig: RingRig,
  connection: number,
  options: { cursor?: number; leading?: Uint8Array } = {},
): { a: BlockingStream; b: BlockingStream } {
  const { stg } = rig;
  native().connectionInit(stg, connection);
  const { cursor } = options;
  if (cursor !== undefined) {
    for (const end of [0, 1] as const) {
      for (const word of ['head', 'tail'] as const) {
        rig.segment.store(rig.direction(word, connection, end), cursor);
      }
    }
  }
  return {
    a: new BlockingStream(handleOf(rig, connection, 0, cursor === undefined ? {} : { cursor })),
    b: new BlockingStream(handleOf(rig, connection, 1, options)),
  };
}

export function streamPair(
  t: Pick<ExecutionContext<unknown>, 'teardown'>,
  options: { cursor?: number; leading?: Uint8Array; boardBytes?: number } = {},
): StreamPair {
  const rig = ringRig({ boardBytes: options.boardBytes ?? 4 << 20 });
  const pair = connect(rig, 1, options);
  t.teardown(() => {
    pair.a.close();
    pair.b.close();
  });
  return { rig, ...pair };
}

/** A private directory that goes with the test. */
export function directory(t: Pick<ExecutionContext<unknown>, 'teardown'>): string {
  const path = mkdtempSync(join(tmpdir(), 'stpd-socket-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Bytes that differ from place to place, and from seed to seed. */
export function content(bytes: number, seed = 1): Buffer {
  const out = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) out[i] = (i * 31 + (i >>> 8) * 7 + seed) & 0xff;
  return out;
}
