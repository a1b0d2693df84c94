/**
 * An array's memory without an array: what stpd, a director and hosts would have written, in a
 * buffer of this process.
 */
import {
  registerGeometry,
  SEGMENT_MAP,
  type StgGeometry,
  stgGeometry,
} from '../../../src/layout/geometry.js';
import {
  CONNECTION,
  DIRECTION,
  NUMBERS,
  STG_ENTRY,
  STG_EXTENT,
  SUPERBLOCK,
} from '../../../src/layout/tables.js';
import { STG_CONNECTIONS_MAX } from '../../../src/limits.js';
import { ArrayRegister, StgRegister } from '../../../src/memory/register.js';
import { Segment } from '../../../src/memory/segment.js';

export const BOARD_BYTES = 1 << 20;
export const PORTS_MAX = 8;
export const OPENED_AT = 1_700_000_000_000_000;

export interface ArrayRig {
  readonly segment: Segment;
  readonly geometry: StgGeometry;
  readonly register: StgRegister;
  /** Segment offset of the STG's file. */
  readonly offset: number;
  /** Makes slot `slot` an established connection of members 0 and 1. */
  connect(slot: number, generation?: number): void;
  /** Sets a field of the direction that end `end` sends on. */
  set(slot: number, end: 0 | 1, field: keyof typeof DIRECTION.at, value: number): void;
  setConnection(slot: number, field: keyof typeof CONNECTION.at, value: number): void;
}

/** One STG `demo` of four boards with two members, hosts 11 and 12. */
export function arrayRig(): ArrayRig {
  const geometry = stgGeometry({
    boardCount: 4,
    boardBytes: BOARD_BYTES,
    connectionCount: 16,
    memberCount: 4,
    boardMax: 6,
    connectionMax: STG_CONNECTIONS_MAX,
  });
  const offset = SEGMENT_MAP.stgs;
  const segment = new Segment({
    number: 0,
    buffer: new SharedArrayBuffer(offset + geometry.bytes),
  });
  const entry = 2;
  const at = SUPERBLOCK.at.directory + entry * STG_ENTRY.bytes;
  segment.store(SUPERBLOCK.at.state, 1);
  segment.store(SUPERBLOCK.at.pid, 4711);
  segment.store(SUPERBLOCK.at.boardCount, 6);
  segment.store(SUPERBLOCK.at.directorCount, 1);
  segment.storeCounter(SUPERBLOCK.at.boardBytes, BOARD_BYTES);
  for (const board of [1, 2, 4, 5]) segment.u8[SUPERBLOCK.at.boardStgs + board] = entry + 1;
  segment.store(at + STG_ENTRY.at.generation, 5);
  segment.storeCounter(at + STG_ENTRY.at.offset, offset);
  segment.storeCounter(at + STG_ENTRY.at.bytes, geometry.bytes);
  segment.storeCounter(at + STG_ENTRY.at.boardBytes, BOARD_BYTES);
  segment.store(at + STG_ENTRY.at.boardCount, 4);
  segment.store(at + STG_ENTRY.at.connectionCount, 16);
  segment.store(at + STG_ENTRY.at.memberCount, 4);
  segment.store(at + STG_ENTRY.at.extentCount, 1);
  const extent = at + STG_ENTRY.at.extents;
  segment.storeCounter(extent + STG_EXTENT.at.offset, offset);
  segment.store(extent + STG_EXTENT.at.boardCount, 4);
  segment.store(extent + STG_EXTENT.at.connectionCount, 16);
  segment.u8.set(Buffer.from('demo'), at + STG_ENTRY.at.name);
  segment.store(at + STG_ENTRY.at.state, NUMBERS.STG_LIVE);
  const registerAt = SEGMENT_MAP.stgRegisters + entry * SEGMENT_MAP.stgRegisterBytesMax;
  const array = new ArrayRegister(segment, SEGMENT_MAP.arrayRegister);
  array.open(Buffer.alloc(16, 0xab), OPENED_AT);
  array.setStg(entry, {
    generation: 5,
    files: [30],
    registerFile: 31,
    portsMax: PORTS_MAX,
    offset: registerAt,
  });
  array.setBoards([1, 2, 4, 5]);
  const register = new StgRegister(segment, registerAt, registerGeometry(4, PORTS_MAX));
  register.open(5);
  for (const index of [0, 1]) {
    register.setMember(index, {
      generation: 1,
      host: 11 + index,
      uid: 1000 + index,
      gid: 100,
      pid: 500 + index,
      attachedAt: OPENED_AT,
      name: index === 0 ? 'client' : 'server',
    });
  }
  const slotAt = (slot: number): number => offset + geometry.connections + slot * CONNECTION.bytes;
  const rig: ArrayRig = {
    segment,
    geometry,
    register,
    offset,
    setConnection: (slot, field, value) =>
      segment.store(slotAt(slot) + CONNECTION.at[field], value),
    set(slot, end, field, value) {
      const direction = slotAt(slot) + CONNECTION.at.directions + end * DIRECTION.bytes;
      const { type } = DIRECTION.fields.find(({ name }) => name === field) ?? { type: 'u32' };
      if (type === 'u64') segment.storeCounter(direction + DIRECTION.at[field], value);
      else segment.store(direction + DIRECTION.at[field], value);
    },
    connect(slot, generation = 1) {
      const base = slotAt(slot);
      segment.u8.fill(0, base, base + CONNECTION.bytes);
      for (const end of [0, 1] as const) {
        segment.store(base + CONNECTION.at.members + end * 4, end);
        segment.store(base + CONNECTION.at.ports + end * 4, end === 0 ? 40000 + slot : 7000);
        segment.store(base + CONNECTION.at.hosts + end * 4, 11 + end);
        rig.set(slot, end, 'head', NUMBERS.CURSOR_START);
        rig.set(slot, end, 'tail', NUMBERS.CURSOR_START);
      }
      segment.storeCounter(base + CONNECTION.at.openedAt, OPENED_AT);
      segment.store(base + CONNECTION.at.generation, generation);
      segment.store(base + CONNECTION.at.state, NUMBERS.CONNECTION_ESTABLISHED);
    },
  };
  return rig;
}
