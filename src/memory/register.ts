/**
 * The registers: what stpd writes down for people, in memory that no host maps.
 *
 *     array register   the array's descriptors and what each director has done
 *     STG register     who the members are, which ports are held, and the last control events
 *
 * Whoever may read stpd's descriptors maps the same files read-only, also while stpd stands still,
 * so nothing here may need an answer of a writer.
 *
 * Invariants
 *   - An STG's register has one writer, its director's thread; the array register has stpd's main
 *     thread, but for the directors' records.
 *   - A record is valid if and only if its first published word (generation, port) is not 0 and is
 *     the same after reading as before.
 *   - Control event n lies in entry n mod CONTROL_EVENT_ENTRIES. A reader believes it if n is below
 *     the tail, and the writer was not about to come round to it when it had been read.
 */
import type { RegisterGeometry } from '../layout/geometry.js';
import {
  ARRAY_REGISTER,
  CONTROL_EVENT,
  CONTROL_EVENT_ENTRIES,
  DIRECTOR,
  REGISTERED_MEMBER,
  REGISTERED_PORT,
  REGISTERED_STG,
  STG_EXTENTS_MAX,
  STG_REGISTER,
} from '../layout/tables.js';
import type { Segment } from './segment.js';

export interface RegisteredMember {
  readonly generation: number;
  readonly host: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Microseconds since 1970. */
  readonly attachedAt: number;
  /** What the host calls itself: foreign text, cut to what fits. */
  readonly name: string;
}

export interface RegisteredPort {
  readonly port: number;
  /** Index of the holder. */
  readonly member: number;
  readonly listening: boolean;
  readonly backlog: number;
  readonly waiting: number;
  readonly pending: number;
}

export interface ControlEvent {
  /** Microseconds since 1970. */
  at: number;
  /** A CONTROL_ number. */
  kind: number;
  connection: number;
  /** 0: of no connection. */
  generation: number;
  end: number;
  port: number;
  remotePort: number;
  host: number;
  peerHost: number;
  status: number;
  /** CONTROL_FLAG_ bits. */
  flags: number;
  sent: number;
  received: number;
}

/** What an event says where it says nothing. */
export const noControlEvent: ControlEvent = {
  at: 0,
  kind: 0,
  connection: 0,
  generation: 0,
  end: 0,
  port: 0,
  remotePort: 0,
  host: 0,
  peerHost: 0,
  status: 0,
  flags: 0,
  sent: 0,
  received: 0,
};

export interface NumberedEvent extends ControlEvent {
  /** Of this STG: one more than the one before it, wrapping at 2^32. */
  readonly number: number;
}

export interface EventsRead {
  /** Where to go on. */
  readonly next: number;
  /** Events that were overwritten before they were read. */
  readonly lost: number;
  readonly events: readonly NumberedEvent[];
}

const wordFields = [
  'kind',
  'connection',
  'generation',
  'end',
  'port',
  'remotePort',
  'host',
  'peerHost',
  'status',
  'flags',
] as const;
const counterFields = ['at', 'sent', 'received'] as const;

/** Entries just ahead of the tail may be half written: stores of the next event may be seen early. */
const EVENTS_BEHIND_TAIL = CONTROL_EVENT_ENTRIES - 8;
const NAME_BYTES = REGISTERED_MEMBER.bytes - REGISTERED_MEMBER.at.name;

/** The first `bytes` of a text, without a broken character at the end. */
function cutUtf8(text: string, bytes: number): Uint8Array {
  const all = Buffer.from(text);
  if (all.length <= bytes) return all;
  let end = bytes;
  while (end > 0 && ((all[end] as number) & 0xc0) === 0x80) end--;
  return all.subarray(0, end);
}

function storeCounterAt(words: Uint32Array, at: number, value: number): void {
  words[at] = value >>> 0;
  words[at + 1] = Math.floor(value / 2 ** 32);
}

/** One STG's register. The director's thread writes; any thread and process reads. */
export class StgRegister {
  readonly #segment: Segment;
  readonly #offset: number;
  readonly #geometry: RegisterGeometry;
  /** Writer's: places of ports that are free. */
  readonly #freePorts: number[] = [];
  #portsUsed = 0;
  /** Writer's copy of the tail. */
  #tail = 0;

  constructor(segment: Segment, offset: number, geometry: RegisterGeometry) {
    this.#segment = segment;
    this.#offset = offset;
    this.#geometry = geometry;
  }

  get memberCount(): number {
    return this.#geometry.memberCount;
  }

  get generation(): number {
    return this.#segment.load(this.#offset + STG_REGISTER.at.generation);
  }

  // --- writing ------------------------------------------------------------------------------

  /** Once, on memory that is zero. */
  open(generation: number): void {
    const { at } = STG_REGISTER;
    this.#segment.store(this.#offset + at.members, this.#geometry.memberCount);
    this.#segment.store(this.#offset + at.ports, this.#geometry.portCount);
    this.#segment.store(this.#offset + at.generation, generation);
  }

  #memberAt(index: number): number {
    return this.#offset + this.#geometry.members + index * REGISTERED_MEMBER.bytes;
  }

  setMember(index: number, member: RegisteredMember): void {
    const { at } = REGISTERED_MEMBER;
    const base = this.#memberAt(index);
    const segment = this.#segment;
    const name = cutUtf8(member.name, NAME_BYTES);
    segment.store(base + at.generation, 0);
    segment.store(base + at.host, member.host);
    segment.store(base + at.uid, member.uid);
    segment.store(base + at.gid, member.gid);
    segment.store(base + at.pid, member.pid);
    segment.store(base + at.nameBytes, name.length);
    segment.storeCounter(base + at.attachedAt, member.attachedAt);
    segment.u8.set(name, base + at.name);
    segment.store(base + at.generation, member.generation);
  }

  clearMember(index: number): void {
    this.#segment.store(this.#memberAt(index) + REGISTERED_MEMBER.at.generation, 0);
  }

  #portAt(place: number): number {
    return this.#offset + this.#geometry.ports + place * REGISTERED_PORT.bytes;
  }

  /** The place of a new port, or -1 when the register is full: then it is not shown. */
  addPort(port: RegisteredPort): number {
    const place =
      this.#freePorts.pop() ??
      (this.#portsUsed < this.#geometry.portCount ? this.#portsUsed++ : -1);
    if (place < 0) return place;
    const base = this.#portAt(place);
    this.#segment.store(base + REGISTERED_PORT.at.member, port.member);
    this.updatePort(place, port);
    this.#segment.store(base + REGISTERED_PORT.at.port, port.port);
    return place;
  }

  updatePort(place: number, port: Omit<RegisteredPort, 'port' | 'member'>): void {
    if (place < 0) return;
    const { at } = REGISTERED_PORT;
    const base = this.#portAt(place);
    this.#segment.store(base + at.listening, port.listening ? 1 : 0);
    this.#segment.store(base + at.backlog, port.backlog);
    this.#segment.store(base + at.waiting, port.waiting);
    this.#segment.store(base + at.pending, port.pending);
  }

  removePort(place: number): void {
    if (place < 0) return;
    this.#segment.store(this.#portAt(place) + REGISTERED_PORT.at.port, 0);
    this.#freePorts.push(place);
  }

  #eventAt(number: number): number {
    const entry = number % CONTROL_EVENT_ENTRIES;
    return this.#offset + this.#geometry.events + entry * CONTROL_EVENT.bytes;
  }

  /** SYNC: plain stores, then the tail (seq-cst); pairs with `events`, which reads the tail twice. */
  writeEvent(event: ControlEvent): void {
    const base = this.#eventAt(this.#tail) / 4;
    const words = this.#segment.u32;
    const { at } = CONTROL_EVENT;
    /* Field by field: several for each connection. */
    words[base + (at.kind >>> 2)] = event.kind;
    words[base + (at.connection >>> 2)] = event.connection;
    words[base + (at.generation >>> 2)] = event.generation;
    words[base + (at.end >>> 2)] = event.end;
    words[base + (at.port >>> 2)] = event.port;
    words[base + (at.remotePort >>> 2)] = event.remotePort;
    words[base + (at.host >>> 2)] = event.host;
    words[base + (at.peerHost >>> 2)] = event.peerHost;
    words[base + (at.status >>> 2)] = event.status;
    words[base + (at.flags >>> 2)] = event.flags;
    storeCounterAt(words, base + (at.at >>> 2), event.at);
    storeCounterAt(words, base + (at.sent >>> 2), event.sent);
    storeCounterAt(words, base + (at.received >>> 2), event.received);
    this.#tail = (this.#tail + 1) >>> 0;
    this.#segment.store(this.#offset + STG_REGISTER.at.eventTail, this.#tail);
  }

  // --- reading ------------------------------------------------------------------------------

  /** Undefined where nobody is, or where it changed meanwhile. */
  member(index: number): RegisteredMember | undefined {
    if (index >= this.#geometry.memberCount) return undefined;
    const { at } = REGISTERED_MEMBER;
    const base = this.#memberAt(index);
    const segment = this.#segment;
    const generation = segment.load(base + at.generation);
    if (generation === 0) return undefined;
    const nameBytes = Math.min(segment.load(base + at.nameBytes), NAME_BYTES);
    const name = Buffer.from(segment.u8.slice(base + at.name, base + at.name + nameBytes));
    const member = {
      generation,
      host: segment.load(base + at.host),
      uid: segment.load(base + at.uid),
      gid: segment.load(base + at.gid),
      pid: segment.load(base + at.pid),
      attachedAt: segment.counter(base + at.attachedAt),
      name: name.toString('utf8'),
    };
    return segment.load(base + at.generation) === generation ? member : undefined;
  }

  /** Listeners and bound ports, in no order. */
  ports(): RegisteredPort[] {
    const { at } = REGISTERED_PORT;
    const segment = this.#segment;
    const ports: RegisteredPort[] = [];
    for (let place = 0; place < this.#geometry.portCount; place++) {
      const base = this.#portAt(place);
      const port = segment.load(base + at.port);
      if (port === 0) continue;
      ports.push({
        port,
        member: segment.load(base + at.member),
        listening: segment.load(base + at.listening) !== 0,
        backlog: segment.load(base + at.backlog),
        waiting: segment.load(base + at.waiting),
        pending: segment.load(base + at.pending),
      });
    }
    return ports;
  }

  /** The oldest event that is still there. */
  get eventsFrom(): number {
    const tail = this.#segment.load(this.#offset + STG_REGISTER.at.eventTail);
    return tail > EVENTS_BEHIND_TAIL ? tail - EVENTS_BEHIND_TAIL : 0;
  }

  /** What was written from event `since` on. */
  events(since: number): EventsRead {
    const tailAt = this.#offset + STG_REGISTER.at.eventTail;
    const tail = this.#segment.load(tailAt);
    const wanted = (tail - since) >>> 0;
    const count = Math.min(wanted, EVENTS_BEHIND_TAIL);
    const read: NumberedEvent[] = [];
    for (let i = count; i > 0; i--) read.push(this.#readEvent((tail - i) >>> 0));
    /* While we read, the writer may have come round to the first of them. */
    const overtaken = (this.#segment.load(tailAt) - tail) >>> 0;
    const spoiled = Math.min(Math.max(overtaken - (EVENTS_BEHIND_TAIL - count), 0), count);
    return { next: tail, lost: wanted - count + spoiled, events: read.slice(spoiled) };
  }

  #readEvent(number: number): NumberedEvent {
    const base = this.#eventAt(number);
    const event = { ...noControlEvent, number };
    for (const field of wordFields) {
      event[field] = this.#segment.load(base + CONTROL_EVENT.at[field]);
    }
    for (const field of counterFields) {
      event[field] = this.#segment.counter(base + CONTROL_EVENT.at[field]);
    }
    return event;
  }
}

/** What the array register says of one STG. */
export interface RegisteredStg {
  readonly generation: number;
  /** Descriptors in stpd, of the STG's files and of its register. */
  readonly files: readonly number[];
  readonly registerFile: number;
  readonly portsMax: number;
  /** Where its register lies in the segment, bytes. */
  readonly offset: number;
}

export interface DirectorRecord {
  /** Number of its thread in stpd's PID namespace; 0 before it runs. */
  readonly thread: number;
  readonly commands: number;
  readonly loops: number;
  readonly pollHits: number;
  readonly pollMisses: number;
  readonly safetyFirings: number;
  readonly wakesSent: number;
  readonly wakesSuppressed: number;
}

/** Segment offset of a director's record, which its thread writes. */
export const directorOffset = (arrayRegister: number, director: number): number =>
  arrayRegister + ARRAY_REGISTER.at.directors + director * DIRECTOR.bytes;

export class ArrayRegister {
  readonly #segment: Segment;
  readonly #offset: number;

  constructor(segment: Segment, offset: number) {
    this.#segment = segment;
    this.#offset = offset;
  }

  // --- writing ------------------------------------------------------------------------------

  open(instance: Uint8Array, startedAtUs: number): void {
    this.#segment.storeCounter(this.#offset + ARRAY_REGISTER.at.startedAt, startedAtUs);
    this.#segment.u8.set(instance, this.#offset + ARRAY_REGISTER.at.instance);
  }

  #stgAt(entry: number): number {
    return this.#offset + ARRAY_REGISTER.at.stgs + entry * REGISTERED_STG.bytes;
  }

  setStg(entry: number, stg: RegisteredStg): void {
    const base = this.#stgAt(entry);
    const { at } = REGISTERED_STG;
    for (const [i, file] of stg.files.entries()) this.#segment.store(base + at.files + i * 4, file);
    this.#segment.store(base + at.registerFile, stg.registerFile);
    this.#segment.store(base + at.portsMax, stg.portsMax);
    this.#segment.storeCounter(base + at.offset, stg.offset);
    this.#segment.store(base + at.generation, stg.generation);
  }

  /** @param boards of the array, in the order in which the STG has them */
  setBoards(boards: readonly number[]): void {
    const at = this.#offset + ARRAY_REGISTER.at.boardIndexes;
    for (const [index, board] of boards.entries()) this.#segment.store(at + board * 4, index);
  }

  clearStg(entry: number): void {
    this.#segment.store(this.#stgAt(entry) + REGISTERED_STG.at.generation, 0);
  }

  // --- reading ------------------------------------------------------------------------------

  /** 32 hexadecimal digits. */
  get instance(): string {
    const at = this.#offset + ARRAY_REGISTER.at.instance;
    return Buffer.from(this.#segment.u8.slice(at, at + 16)).toString('hex');
  }

  /** Microseconds since 1970. */
  get startedAt(): number {
    return this.#segment.counter(this.#offset + ARRAY_REGISTER.at.startedAt);
  }

  stg(entry: number): RegisteredStg | undefined {
    const base = this.#stgAt(entry);
    const { at } = REGISTERED_STG;
    const generation = this.#segment.load(base + at.generation);
    if (generation === 0) return undefined;
    const stg = {
      generation,
      files: Array.from({ length: STG_EXTENTS_MAX }, (_, i) =>
        this.#segment.load(base + at.files + i * 4),
      ),
      registerFile: this.#segment.load(base + at.registerFile),
      portsMax: this.#segment.load(base + at.portsMax),
      offset: this.#segment.counter(base + at.offset),
    };
    return this.#segment.load(base + at.generation) === generation ? stg : undefined;
  }

  /** Number of the array's board in its STG; may be anything for a board that is free. */
  boardIndex(board: number): number {
    return this.#segment.load(this.#offset + ARRAY_REGISTER.at.boardIndexes + board * 4);
  }

  director(number: number): DirectorRecord {
    const base = directorOffset(this.#offset, number);
    const { at } = DIRECTOR;
    return {
      thread: this.#segment.load(base + at.thread),
      commands: this.#segment.counter(base + at.commands),
      loops: this.#segment.counter(base + at.loops),
      pollHits: this.#segment.load(base + at.pollHits),
      pollMisses: this.#segment.load(base + at.pollMisses),
      safetyFirings: this.#segment.load(base + at.safetyFirings),
      wakesSent: this.#segment.load(base + at.wakesSent),
      wakesSuppressed: this.#segment.load(base + at.wakesSuppressed),
    };
  }
}
