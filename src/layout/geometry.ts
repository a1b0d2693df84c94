/**
 * Where things lie: the map of the segment, and the sections of an STG's file.
 *
 * stpd computes these numbers from its configuration and tells a host in the grant; a host computes
 * the same ones from the grant's counts. Nothing here is read from shared memory.
 */
import { LINE_BYTES } from './define.js';
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
  /** In its first file. */
  readonly boardCount: number;
  readonly boardBytes: number;
  /** In its first file. */
  readonly connectionCount: number;
  readonly memberCount: number;
  /** What it may grow to; absent where it does not grow. */
  readonly boardMax?: number;
  readonly connectionMax?: number;
}

/**
 * The first file of an STG: its control area, then connections, then boards. Offsets in bytes from
 * the start of the file. Board locks, ready bits and owner words have room for all it may grow to.
 */
export interface StgGeometry extends StgShape {
  readonly boardMax: number;
  readonly connectionMax: number;
  readonly header: number;
  readonly boards: number;
  readonly members: number;
  /** One bit a word of `readyBits`, for each member. */
  readonly readySummary: number;
  readonly readySummaryBytes: number;
  /** Bit 2 * connection + end, for each member. */
  readonly readyBits: number;
  readonly readyBitsBytes: number;
  /** One owner word a page. */
  readonly owners: number;
  readonly connections: number;
  readonly memory: number;
  /** In the first file. */
  readonly pageCount: number;
  readonly pageMax: number;
  readonly bytes: number;
}

const up = (n: number, unit: number): number => Math.ceil(n / unit) * unit;

/** Bytes of the ready bits, and of their summary, that so many connections need. */
export function readyBytes(connectionCount: number): { bits: number; summary: number } {
  const bits = up((connectionCount * 2) / 8, LINE_BYTES);
  return { bits, summary: up(bits / 4 / 8, LINE_BYTES) };
}

export function stgGeometry(shape: StgShape): StgGeometry {
  const { boardCount, boardBytes, connectionCount, memberCount } = shape;
  const boardMax = Math.max(shape.boardMax ?? 0, boardCount);
  const connectionMax = Math.max(shape.connectionMax ?? 0, connectionCount);
  const pagesOfBoard = boardBytes / PAGE_BYTES;
  const { bits: readyBitsBytes, summary: readySummaryBytes } = readyBytes(connectionMax);
  const header = 0;
  const boards = header + STG_HEADER.bytes;
  const members = boards + boardMax * BOARD.bytes;
  const readySummary = members + memberCount * MEMBER.bytes;
  const readyBits = readySummary + memberCount * readySummaryBytes;
  const owners = readyBits + memberCount * readyBitsBytes;
  const connections = up(owners + boardMax * pagesOfBoard * 4, LINE_BYTES);
  const memory = up(connections + connectionCount * CONNECTION.bytes, PAGE_BYTES);
  return {
    ...shape,
    boardMax,
    connectionMax,
    header,
    boards,
    members,
    readySummary,
    readySummaryBytes,
    readyBits,
    readyBitsBytes,
    owners,
    connections,
    memory,
    pageCount: boardCount * pagesOfBoard,
    pageMax: boardMax * pagesOfBoard,
    bytes: memory + boardCount * boardBytes,
  };
}

/**
 * What one file gives an STG: boards and connection slots, numbered on from those of the files
 * before it. The first is the STG's own file.
 */
export interface StgExtent {
  /** Where the file is mapped in every segment. */
  readonly offset: number;
  readonly bytes: number;
  readonly firstBoard: number;
  readonly boardCount: number;
  readonly firstConnection: number;
  readonly connectionCount: number;
  /** Offsets from the start of the file. */
  readonly connections: number;
  readonly memory: number;
}

/** @param offset where the STG's file is mapped */
export function firstExtent(g: StgGeometry, offset: number): StgExtent {
  const { bytes, boardCount, connectionCount, connections, memory } = g;
  return {
    offset,
    bytes,
    firstBoard: 0,
    boardCount,
    firstConnection: 0,
    connectionCount,
    connections,
    memory,
  };
}

/** A further file: connection slots, then boards. */
export function nextExtent(
  before: StgExtent,
  file: { offset: number; boardBytes: number; boardCount: number; connectionCount: number },
): StgExtent {
  const { offset, boardBytes, boardCount, connectionCount } = file;
  const memory = up(connectionCount * CONNECTION.bytes, PAGE_BYTES);
  return {
    offset,
    bytes: memory + boardCount * boardBytes,
    firstBoard: before.firstBoard + before.boardCount,
    boardCount,
    firstConnection: before.firstConnection + before.connectionCount,
    connectionCount,
    connections: 0,
    memory,
  };
}

/** Where a slot lies in the segment; the slot must be in one of the files. */
export function connectionOffset(extents: readonly StgExtent[], slot: number): number {
  const extent = extents.find((e) => slot < e.firstConnection + e.connectionCount) as StgExtent;
  return extent.offset + extent.connections + (slot - extent.firstConnection) * CONNECTION.bytes;
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
