/**
 * An STG without a daemon: one memory file in this process, and both ends of a connection in it.
 */

import { type StgGeometry, stgGeometry } from '../../../src/layout/geometry.js';
import { CONNECTION, DIRECTION } from '../../../src/layout/tables.js';
import { openRing, type RingOptions } from '../../../src/memory/page-ring.js';
import { Segment } from '../../../src/memory/segment.js';
import { native } from '../../../src/native.js';

export { random } from '../../support/random.js';

export interface RingRig {
  readonly segment: Segment;
  readonly geometry: StgGeometry;
  readonly stg: number;
  /** The ends of the doorbell between members 0 and 1. */
  readonly cables: readonly [number, number];
  /** Whether a bell has come to an end of it; takes the bell. */
  rung(end: 0 | 1): boolean;
  /** Producer and consumer of direction 0 of connection 0. */
  readonly tx: number;
  readonly rx: number;
  open(connection: number, producer: boolean, cursor?: number): number;
  /** What an end of a connection is opened with. */
  end(connection: number, end: 0 | 1): RingOptions;
  /** Segment offset of a field of a connection's direction, of 0 where absent. */
  direction(field: keyof typeof DIRECTION.at, connection?: number, end?: number): number;
  pagesUsed(): number;
}

export const GENERATION = 7;

export function ringRig(
  options: { boards?: number; boardBytes?: number; cursor?: number; boardMax?: number } = {},
): RingRig {
  const geometry = stgGeometry({
    boardCount: options.boards ?? 4,
    boardBytes: options.boardBytes ?? 2 << 20,
    connectionCount: 64,
    memberCount: 4,
    ...(options.boardMax === undefined ? {} : { boardMax: options.boardMax, connectionMax: 128 }),
  });
  /* Room behind it, for an STG that grows. */
  const segment = Segment.reserve(geometry.bytes * 2);
  const fd = native().memfdCreate('stpd-test-stg');
  native().claim(fd, geometry.bytes);
  segment.map(0, fd, geometry.bytes, true);
  native().closeDescriptor(fd);
  const stg = native().stgOpen(segment.number, 0, geometry);
  const [one, other] = native().socketPair(true);
  const cables = [native().cableOpen(one), native().cableOpen(other)] as const;
  const ringEnd = (connection: number, end: 0 | 1): RingOptions => ({
    stg,
    connection,
    generation: GENERATION,
    end,
    selfMember: end,
    selfGeneration: 1,
    peerMember: 1 - end,
    cable: cables[end],
  });
  const open = (connection: number, producer: boolean, cursor?: number): number =>
    openRing(ringEnd(connection, producer ? 0 : 1), producer, cursor);
  native().connectionInit(stg, 0);
  const direction = (field: keyof typeof DIRECTION.at, connection = 0, end = 0): number =>
    geometry.connections +
    connection * CONNECTION.bytes +
    CONNECTION.at.directions +
    end * DIRECTION.bytes +
    DIRECTION.at[field];
  if (options.cursor !== undefined) {
    segment.store(direction('head'), options.cursor);
    segment.store(direction('tail'), options.cursor);
  }
  return {
    segment,
    geometry,
    stg,
    cables,
    rung: (end) => native().receiveMessage(end === 0 ? one : other, 64) !== undefined,
    tx: open(0, true, options.cursor),
    rx: open(0, false, options.cursor),
    open,
    end: ringEnd,
    direction,
    pagesUsed: () =>
      native()
        .pagesUsed(stg)
        .reduce((sum, n) => sum + n, 0),
  };
}
