/**
 * From memory to figures: one pass over an array's superblock, registers and STGs.
 *
 * The same code runs in stpd for the control API and in a reader that maps stpd's files read-only.
 * It needs no answer of anybody, so it works while stpd or any host stands still. The STGs' memory
 * is hostile input (see connection.ts); who the members are comes from the registers, which only
 * stpd writes. Any thread.
 */
import { readFileSync } from 'node:fs';
import { monotonicMs } from '../clock.js';
import { SEGMENT_MAP } from '../layout/geometry.js';
import {
  BOARD,
  BOARDS_MAX,
  DIRECTORS_MAX,
  MEMBER,
  NUMBERS,
  PAGE_BYTES,
  SUPERBLOCK,
} from '../layout/tables.js';
import { ArrayRegister, type RegisteredMember } from '../memory/register.js';
import type { Segment } from '../memory/segment.js';
import {
  type ConnectionSample,
  type DirectionCounts,
  readConnection,
  stateOf,
} from './connection.js';
import type {
  ArrayFigures,
  BoardFigures,
  DirectorFigures,
  Figures,
  HostFigures,
  SocketReport,
  StgFigures,
} from './figures.js';
import { type StgPlace, stgPlaces } from './places.js';

/** ISO 8601 of microseconds since 1970; foreign numbers may be no time at all. */
export function isoTime(us: number): string {
  const date = new Date(us / 1000);
  return Number.isNaN(date.getTime()) ? new Date(0).toISOString() : date.toISOString();
}

/** What the parts of an STG's figures share while they are read. */
interface StgReading {
  readonly place: StgPlace;
  readonly members: ReadonlyMap<number, RegisteredMember>;
  readonly owned: OwnedPages;
}

/** What the owner words of an STG say. */
interface OwnedPages {
  /** Of each of its boards. */
  readonly onBoards: readonly number[];
  readonly ofConnections: number;
  /** By member, and its generation: what one that is gone had is not its successor's. */
  readonly ofMembers: ReadonlyMap<number, number>;
}

const noPages: OwnedPages = { onBoards: [], ofConnections: 0, ofMembers: new Map() };

/** The owner word of a member's pages: see OWNER_MEMBER. */
const memberWord = (index: number, generation: number): number =>
  ((NUMBERS.OWNER_MEMBER << 30) | (generation << 16) | index) >>> 0;

function readOwnedPages(segment: Segment, { offset, geometry, extents }: StgPlace): OwnedPages {
  const { boardBytes, owners } = geometry;
  const pagesOfBoard = boardBytes / PAGE_BYTES;
  const ofMembers = new Map<number, number>();
  let ofConnections = 0;
  const onBoards = extents.flatMap(({ firstBoard, boardCount }) => {
    const used = new Array<number>(boardCount).fill(0);
    for (let page = 0; page < boardCount * pagesOfBoard; page++) {
      const at = offset + owners + (firstBoard * pagesOfBoard + page) * 4;
      const word = segment.load(at);
      if (word === NUMBERS.OWNER_FREE) continue;
      used[page % boardCount] = (used[page % boardCount] as number) + 1;
      if (word >>> 30 === NUMBERS.OWNER_MEMBER) ofMembers.set(word, (ofMembers.get(word) ?? 0) + 1);
      else ofConnections++;
    }
    return used;
  });
  return { onBoards, ofConnections, ofMembers };
}

function readMembers(place: StgPlace): Map<number, RegisteredMember> {
  const members = new Map<number, RegisteredMember>();
  for (let index = 0; index < place.geometry.memberCount; index++) {
    const member = place.register.member(index);
    if (member !== undefined) members.set(index, member);
  }
  return members;
}

const nameOf = (member: RegisteredMember | undefined): string | null =>
  member === undefined || member.name === '' ? null : member.name;

function portRows({ place, members }: StgReading): SocketReport[] {
  return place.register.ports().map((port) => {
    const holder = members.get(port.member);
    return {
      id: `${place.name}:${port.port}`,
      stg: place.name,
      mechanism: 'stp',
      reason: null,
      remoteAddress: null,
      state: port.listening ? 'LISTEN' : 'BOUND',
      end: null,
      localPort: port.port,
      localHost: holder?.host ?? null,
      localName: nameOf(holder),
      localPid: holder?.pid ?? null,
      localUid: holder?.uid ?? null,
      remotePort: null,
      peerHost: null,
      peerName: null,
      peerPid: null,
      peerUid: null,
      sendQueueBytes: 0,
      receiveQueueBytes: 0,
      bytesSent: 0,
      bytesReceived: 0,
      sendBytesPerSecond: null,
      receiveBytesPerSecond: null,
      sendWaits: 0,
      receiveWaits: 0,
      wakesSent: 0,
      wakesSuppressed: 0,
      pollHits: 0,
      pollMisses: 0,
      safetyFirings: 0,
      sendPages: 0,
      receivePages: 0,
      waiting: port.listening ? port.waiting : null,
      backlog: port.listening ? port.backlog : null,
      pending: port.listening ? port.pending : null,
      openedAt: null,
    };
  });
}

/** What an end has counted as the producer of one direction and the consumer of the other. */
function addCounts(produced: DirectionCounts, consumed: DirectionCounts): DirectionCounts {
  return {
    wakesSent: produced.wakesSent + consumed.wakesSent,
    wakesSuppressed: produced.wakesSuppressed + consumed.wakesSuppressed,
    pollHits: produced.pollHits + consumed.pollHits,
    pollMisses: produced.pollMisses + consumed.pollMisses,
    safetyFirings: produced.safetyFirings + consumed.safetyFirings,
  };
}

function connectionRow(
  { place, members }: StgReading,
  sample: ConnectionSample,
  end: 0 | 1,
): SocketReport {
  const other = end === 0 ? 1 : 0;
  const local = members.get(sample.members[end]);
  /* A listed network connection has its peer elsewhere. */
  const peer = sample.mechanism === 'tcp' ? undefined : members.get(sample.members[other]);
  const out = sample.directions[end];
  const inn = sample.directions[other];
  return {
    id: `${place.name}/${sample.slot}.${sample.generation}`,
    stg: place.name,
    mechanism: sample.mechanism,
    reason: sample.reason,
    remoteAddress: sample.remoteAddress,
    state: stateOf(sample, end),
    end,
    localPort: sample.ports[end],
    localHost: local?.host ?? null,
    localName: nameOf(local),
    localPid: local?.pid ?? null,
    localUid: local?.uid ?? null,
    remotePort: sample.ports[other],
    peerHost: peer?.host ?? null,
    peerName: nameOf(peer),
    peerPid: peer?.pid ?? null,
    peerUid: peer?.uid ?? null,
    sendQueueBytes: out.queuedBytes,
    receiveQueueBytes: inn.queuedBytes,
    bytesSent: out.bytesProduced,
    bytesReceived: inn.bytesConsumed,
    sendBytesPerSecond: null,
    receiveBytesPerSecond: null,
    sendWaits: out.producerWaits,
    receiveWaits: inn.consumerWaits,
    ...addCounts(out.producerCounts, inn.consumerCounts),
    sendPages: out.pages,
    receivePages: inn.pages,
    waiting: null,
    backlog: null,
    pending: null,
    openedAt: isoTime(sample.openedAtUs),
  };
}

function socketRows(segment: Segment, reading: StgReading): SocketReport[] {
  const rows = portRows(reading);
  const { connectionCount } = reading.place;
  for (let slot = 0; slot < connectionCount; slot++) {
    const sample = readConnection(segment, reading.place, slot);
    if (sample === undefined) continue;
    for (const end of [0, 1] as const) {
      if ((sample.closedEnds & (1 << end)) === 0) rows.push(connectionRow(reading, sample, end));
    }
  }
  return rows;
}

function hostRows(
  segment: Segment,
  { place, members, owned }: StgReading,
  sockets: readonly SocketReport[],
): HostFigures[] {
  const none = { sockets: 0, pages: 0, sent: 0, received: 0 };
  const totals = new Map<number, typeof none>();
  for (const socket of sockets) {
    if (socket.localHost === null) continue;
    const total = totals.get(socket.localHost) ?? { ...none };
    total.sockets++;
    total.pages += socket.sendPages;
    total.sent += socket.bytesSent;
    total.received += socket.bytesReceived;
    totals.set(socket.localHost, total);
  }
  return [...members].map(([index, member]) => {
    const base = place.offset + place.geometry.members + index * MEMBER.bytes;
    const total = totals.get(member.host);
    return {
      id: member.host,
      stg: place.name,
      name: nameOf(member),
      pid: member.pid,
      uid: member.uid,
      gid: member.gid,
      attachedAt: isoTime(member.attachedAt),
      sockets: total?.sockets ?? 0,
      sendPages: total?.pages ?? 0,
      heldPages: owned.ofMembers.get(memberWord(index, member.generation)) ?? 0,
      bytesSent: total?.sent ?? 0,
      bytesReceived: total?.received ?? 0,
      sendBytesPerSecond: null,
      receiveBytesPerSecond: null,
      wakesSent: segment.load(base + MEMBER.at.wakesSent),
      wakesSuppressed: segment.load(base + MEMBER.at.wakesSuppressed),
      wakesSentPerSecond: null,
      wakesSuppressedPerSecond: null,
      pollHits: segment.load(base + MEMBER.at.pollHits),
      pollMisses: segment.load(base + MEMBER.at.pollMisses),
      pollHitsPerSecond: null,
      pollMissesPerSecond: null,
      safetyFirings: segment.load(base + MEMBER.at.safetyFirings),
    };
  });
}

function boardRows(segment: Segment, readings: readonly StgReading[]): BoardFigures[] {
  const count = Math.min(segment.load(SUPERBLOCK.at.boardCount), BOARDS_MAX);
  const boardPages = Math.floor(segment.counter(SUPERBLOCK.at.boardBytes) / PAGE_BYTES);
  const register = new ArrayRegister(segment, SEGMENT_MAP.arrayRegister);
  return Array.from({ length: count }, (_, number) => {
    const entry = (segment.u8[SUPERBLOCK.at.boardStgs + number] as number) - 1;
    const index = register.boardIndex(number);
    const reading = readings.find(({ place }) => place.entry === entry);
    const known = reading !== undefined && index < reading.place.boardCount;
    const base = known
      ? reading.place.offset + reading.place.geometry.boards + index * BOARD.bytes
      : -1;
    const counter = (field: keyof typeof BOARD.at): number =>
      base < 0 ? 0 : segment.counter(base + BOARD.at[field]);
    return {
      number,
      stg: known ? reading.place.name : null,
      pages: boardPages,
      pagesUsed: known ? (reading.owned.onBoards[index] ?? 0) : 0,
      accesses: counter('accesses'),
      contended: counter('contended'),
      bypassed: counter('bypassed'),
      bytesMoved: counter('bytes') + counter('bypassedBytes'),
      steals: base < 0 ? 0 : segment.load(base + BOARD.at.steals),
      accessesPerSecond: null,
      bytesPerSecond: null,
      contendedPerSecond: null,
    };
  });
}

const sumOf = (numbers: readonly number[]): number => numbers.reduce((sum, n) => sum + n, 0);

function stgRow(
  { place, members, owned }: StgReading,
  sockets: readonly SocketReport[],
  boards: readonly BoardFigures[],
): StgFigures {
  const own = boards.filter((board) => board.stg === place.name);
  const connections = new Set<string>();
  let ports = 0;
  for (const { end, id } of sockets) {
    if (end === null) ports++;
    else connections.add(id);
  }
  return {
    name: place.name,
    generation: place.generation,
    state: place.deleting ? 'deleting' : 'live',
    director: place.director,
    boards: place.boardCount,
    pagesTotal: (place.boardCount * place.geometry.boardBytes) / PAGE_BYTES,
    pagesUsed: sumOf(owned.onBoards),
    pagesOfConnections: owned.ofConnections,
    pagesOfHosts: sumOf([...owned.ofMembers.values()]),
    connectionsUsed: connections.size,
    connectionsMax: place.connectionCount,
    portsUsed: ports,
    portsMax: place.registered.portsMax,
    hosts: members.size,
    bytesMoved: own.reduce((sum, board) => sum + board.bytesMoved, 0),
    bytesPerSecond: null,
  };
}

/** Milliseconds that a thread has run; null where the kernel does not tell. See proc(5). */
function threadCpuMs(pid: number | 'self', thread: number): number | null {
  if (thread === 0) return null;
  try {
    const text = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8');
    const ns = Number(text.split(' ')[0]);
    return Number.isFinite(ns) ? ns / 1e6 : null;
  } catch {
    return null;
  }
}

function directorRows(
  segment: Segment,
  places: readonly StgPlace[],
  pid: number | 'self',
): DirectorFigures[] {
  const register = new ArrayRegister(segment, SEGMENT_MAP.arrayRegister);
  const count = Math.min(segment.load(SUPERBLOCK.at.directorCount), DIRECTORS_MAX);
  return Array.from({ length: count }, (_, number) => {
    const { thread, ...record } = register.director(number);
    return {
      number,
      stgs: places.filter((place) => place.director === number).map((place) => place.name),
      ...record,
      cpuMs: threadCpuMs(pid, thread),
      commandsPerSecond: null,
      loopsPerSecond: null,
      load: null,
    };
  });
}

const STATES = ['stopped', 'serving', 'stopping', 'stopped'] as const;

function arrayFigures(segment: Segment, boards: readonly BoardFigures[]): ArrayFigures {
  const register = new ArrayRegister(segment, SEGMENT_MAP.arrayRegister);
  return {
    instance: register.instance,
    state: STATES[segment.load(SUPERBLOCK.at.state)] ?? 'stopped',
    pid: segment.load(SUPERBLOCK.at.pid),
    startedAt: isoTime(register.startedAt),
    boardBytes: segment.counter(SUPERBLOCK.at.boardBytes),
    boardsTotal: boards.length,
    boardsUsed: boards.filter((board) => board.stg !== null).length,
  };
}

export interface DecodeOptions {
  /** STGs whose memory this process has mapped; all of them by default. */
  readonly places?: readonly StgPlace[];
  /** Where /proc shows stpd's threads. */
  readonly pid: number | 'self';
}

/** Everything of one moment, or as near to one as reading takes. */
export function decodeFigures(segment: Segment, options: DecodeOptions): Figures {
  const { places = stgPlaces(segment), pid } = options;
  const takenMs = monotonicMs();
  const readings = places.map((place) => ({
    place,
    members: readMembers(place),
    owned: readOwnedPages(segment, place),
  }));
  const boards = boardRows(segment, readings);
  const sockets: SocketReport[] = [];
  const hosts: HostFigures[] = [];
  const stgs: StgFigures[] = [];
  for (const reading of readings) {
    const own = socketRows(segment, reading);
    hosts.push(...hostRows(segment, reading, own));
    stgs.push(stgRow(reading, own, boards));
    for (const socket of own) sockets.push(socket);
  }
  return {
    takenMs,
    takenAt: new Date().toISOString(),
    intervalMs: null,
    array: arrayFigures(segment, boards),
    boards,
    stgs,
    sockets,
    hosts,
    directors: directorRows(segment, places, pid),
  };
}

/** The sockets only. */
export function decodeSockets(segment: Segment): SocketReport[] {
  return stgPlaces(segment).flatMap((place) =>
    socketRows(segment, { place, members: readMembers(place), owned: noPages }),
  );
}
