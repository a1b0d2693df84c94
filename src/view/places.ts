/**
 * Where an array's parts lie, by the superblock and the array register: for whoever has the segment
 * mapped, stpd or a reader beside it.
 *
 * Both are written by stpd only. What does not fit together (an entry that changes just now, or
 * that lies outside of the segment) is left out: a reader looks again at its next sample. Any
 * thread.
 */
import {
  firstExtent,
  nextExtent,
  registerGeometry,
  SEGMENT_MAP,
  type StgExtent,
  type StgGeometry,
  stgGeometry,
} from '../layout/geometry.js';
import {
  BOARDS_MAX,
  NUMBERS,
  PAGE_BYTES,
  STG_DIRECTORY_ENTRIES,
  STG_ENTRY,
  STG_EXTENT,
  STG_EXTENTS_MAX,
  STG_NAME_BYTES,
  SUPERBLOCK,
} from '../layout/tables.js';
import { STG_CONNECTIONS_MAX, STG_NAME_PATTERN, STG_PORTS_MAX } from '../limits.js';
import { ArrayRegister, type RegisteredStg, StgRegister } from '../memory/register.js';
import type { Segment } from '../memory/segment.js';

/** Members that an attach grant can name. */
const MEMBERS_MAX = 65535;

export interface StgPlace {
  readonly entry: number;
  readonly name: string;
  readonly generation: number;
  readonly deleting: boolean;
  readonly director: number;
  /** Of the STG's first file in the segment, bytes. */
  readonly offset: number;
  /** Of the first file. */
  readonly geometry: StgGeometry;
  /** Its files: one, and one for each time it grew. */
  readonly extents: readonly StgExtent[];
  /** Of all files together. */
  readonly boardCount: number;
  readonly connectionCount: number;
  readonly registered: RegisteredStg;
  readonly register: StgRegister;
  readonly registerBytes: number;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

/** Text of a field that ends with its first zero. */
export function fieldText(segment: Segment, offset: number, bytes: number): string {
  const field = Buffer.from(segment.u8.slice(offset, offset + bytes));
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? bytes : end);
}

/** The STG of a directory entry; undefined where there is none, or none that makes sense. */
export function stgPlace(segment: Segment, entry: number): StgPlace | undefined {
  const at = SUPERBLOCK.at.directory + entry * STG_ENTRY.bytes;
  const field = STG_ENTRY.at;
  const state = segment.load(at + field.state);
  if (state !== NUMBERS.STG_LIVE && state !== NUMBERS.STG_DELETING) return undefined;
  const generation = segment.load(at + field.generation);
  const registered = new ArrayRegister(segment, SEGMENT_MAP.arrayRegister).stg(entry);
  if (registered?.generation !== generation) return undefined;
  const boardCount = segment.load(at + field.boardCount);
  const connectionCount = segment.load(at + field.connectionCount);
  const extentCount = segment.load(at + field.extentCount);
  const files = Array.from({ length: Math.min(extentCount, STG_EXTENTS_MAX) }, (_, i) => {
    const of = at + field.extents + i * STG_EXTENT.bytes;
    return {
      offset: segment.counter(of + STG_EXTENT.at.offset),
      boardCount: segment.load(of + STG_EXTENT.at.boardCount),
      connectionCount: segment.load(of + STG_EXTENT.at.connectionCount),
    };
  });
  const [first, ...further] = files;
  const boardMax = segment.load(SUPERBLOCK.at.boardCount);
  if (first === undefined || boardMax > BOARDS_MAX) return undefined;
  const shape = {
    boardCount: first.boardCount,
    boardBytes: segment.counter(at + field.boardBytes),
    connectionCount: first.connectionCount,
    memberCount: segment.load(at + field.memberCount),
    boardMax,
    connectionMax: STG_CONNECTIONS_MAX,
  };
  const name = fieldText(segment, at + field.name, STG_NAME_BYTES);
  const possible =
    STG_NAME_PATTERN.test(name) &&
    files.every((file) => file.boardCount <= boardMax) &&
    files.every((file) => file.connectionCount <= STG_CONNECTIONS_MAX) &&
    sum(files.map((file) => file.boardCount)) === boardCount &&
    sum(files.map((file) => file.connectionCount)) === connectionCount &&
    boardCount >= 1 &&
    boardCount <= boardMax &&
    shape.boardBytes % PAGE_BYTES === 0 &&
    connectionCount <= STG_CONNECTIONS_MAX &&
    shape.memberCount <= MEMBERS_MAX &&
    registered.portsMax <= STG_PORTS_MAX;
  if (!possible) return undefined;
  const offset = segment.counter(at + field.offset);
  const geometry = stgGeometry(shape);
  const { boardBytes } = shape;
  const extents = [firstExtent(geometry, offset)];
  for (const file of further) {
    extents.push(nextExtent(extents.at(-1) as StgExtent, { ...file, boardBytes }));
  }
  const { bytes: registerBytes, ...register } = registerGeometry(
    shape.memberCount,
    registered.portsMax,
  );
  const place = SEGMENT_MAP.stgRegisters + entry * SEGMENT_MAP.stgRegisterBytesMax;
  const fits =
    sum(extents.map(({ bytes }) => bytes)) === segment.counter(at + field.bytes) &&
    extents.every((e) => e.offset >= SEGMENT_MAP.stgs) &&
    extents.every((e) => e.offset + e.bytes <= segment.u8.length) &&
    registered.offset === place &&
    registerBytes <= SEGMENT_MAP.stgRegisterBytesMax;
  if (!fits) return undefined;
  return {
    entry,
    name,
    generation,
    deleting: state === NUMBERS.STG_DELETING,
    director: segment.load(at + field.director),
    offset,
    geometry,
    extents,
    boardCount,
    connectionCount,
    registered,
    register: new StgRegister(segment, registered.offset, { ...register, bytes: registerBytes }),
    registerBytes,
  };
}

export function stgPlaces(segment: Segment): StgPlace[] {
  const places: StgPlace[] = [];
  for (let entry = 0; entry < STG_DIRECTORY_ENTRIES; entry++) {
    const place = stgPlace(segment, entry);
    if (place !== undefined) places.push(place);
  }
  return places;
}
