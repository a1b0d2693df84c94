/**
 * Where things lie: the map of the segment, and the sections of an STG's file.
 *
 * stpd computes these numbers from its configuration and tells a host in the grant; a host computes
 * the same ones from the grant's counts. Nothing here is read from shared memory.
 */
import {
  ARRAY_REGISTER,
  BOARD,
  CONNECTION,
  CONTROL_EVENT,
  CONTROL_EVENT_ENTRIES,
  MEMBER,
  MEMBER_RING,
  PAGE_BYTES,
  REGISTERED_MEMBER,
  REGISTERED_PORT,
  STG_HEADER,
  STG_REGISTER,
  SUPERBLOCK,
} from './tables.js';

/** Member rings that fit in the segment's map: hosts times STGs, all together. */
export const MEMBER_RING_SLOTS = 1024;

/** The fixed part of every segment's map; offsets in bytes from the start of the range. */
export const SEGMENT_MAP = {
  superblock: 0,
  superblockBytes: SUPERBLOCK.bytes,
  memberRings: 1 << 20,
  memberRingBytes: MEMBER_RING.bytes,
  /** Of stpd only; in hosts, zero memory that nobody writes. */
  arrayRegister: 48 << 20,
  arrayRegisterBytes: ARRAY_REGISTER.bytes,
  /** One place for each entry of the superblock's directory. */
  stgRegisters: 64 << 20,
  stgRegisterBytesMax: 2 << 20,
  stgs: 256 << 20,
} as const;

/** STGs start on multiples of this, so that huge pages stay possible. */
export const STG_ALIGN_BYTES = 2 << 20;

export interface StgShape {
  readonly boardCount: number;
  readonly boardBytes: number;
  readonly connectionCount: number;
  readonly memberCount: number;
}

/** Offsets in bytes from the start of the STG's file. */
export interface StgGeometry extends StgShape {
  readonly header: number;
  readonly boards: number;
  readonly members: number;
  /** One bit a word of `readyBits`, for each member. */
  readonly readySummary: number;
  readonly readySummaryBytes: number;
  /** Bit 2 * connection + end, for each member. */
  readonly readyBits: number;
  readonly readyBitsBytes: number;
  readonly connections: number;
  /** One owner word a page. */
  readonly owners: number;
  readonly memory: number;
  readonly pageCount: number;
  readonly bytes: number;
}

const up = (n: number, unit: number): number => Math.ceil(n / unit) * unit;

export function stgGeometry(shape: StgShape): StgGeometry {
  const { boardCount, boardBytes, connectionCount, memberCount } = shape;
  const pageCount = (boardCount * boardBytes) / PAGE_BYTES;
  const readyBitsBytes = up((connectionCount * 2) / 8, 128);
  const readySummaryBytes = up(readyBitsBytes / 4 / 8, 128);
  const header = 0;
  const boards = header + STG_HEADER.bytes;
  const members = boards + boardCount * BOARD.bytes;
  const readySummary = members + memberCount * MEMBER.bytes;
  const readyBits = readySummary + memberCount * readySummaryBytes;
  const connections = readyBits + memberCount * readyBitsBytes;
  const owners = connections + connectionCount * CONNECTION.bytes;
  const memory = up(owners + pageCount * 4, PAGE_BYTES);
  return {
    ...shape,
    header,
    boards,
    members,
    readySummary,
    readySummaryBytes,
    readyBits,
    readyBitsBytes,
    connections,
    owners,
    memory,
    pageCount,
    bytes: memory + boardCount * boardBytes,
  };
}

/** Offsets in bytes from the start of an STG's register. */
export interface RegisterGeometry {
  readonly memberCount: number;
  readonly portCount: number;
  readonly members: number;
  readonly ports: number;
  readonly events: number;
  /** Of the file: whole pages of memory. */
  readonly bytes: number;
}

/** @param portCount listeners and binds that the STG may have */
export function registerGeometry(memberCount: number, portCount: number): RegisterGeometry {
  const members = STG_REGISTER.bytes;
  const ports = members + memberCount * REGISTERED_MEMBER.bytes;
  const events = up(ports + portCount * REGISTERED_PORT.bytes, CONTROL_EVENT.bytes);
  const bytes = up(events + CONTROL_EVENT_ENTRIES * CONTROL_EVENT.bytes, PAGE_BYTES);
  return { memberCount, portCount, members, ports, events, bytes };
}

/** Neighbouring pages lie on different boards. */
export function pageOffset(g: StgGeometry, page: number): number {
  const board = page % g.boardCount;
  return g.memory + board * g.boardBytes + Math.floor(page / g.boardCount) * PAGE_BYTES;
}
