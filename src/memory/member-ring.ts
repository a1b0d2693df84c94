/**
 * The command and event ring between one host and the director of one STG.
 *
 * Two single-producer, single-consumer rings of 64-byte entries in a file that only these two map,
 * so what stands in it was written by the other party and by no other host. A cursor beyond the
 * ring is hostile: `read…` reports it instead of following it. One thread on each side.
 *
 * An entry is written, then the tail is published (seq-cst), then the sleeper's word is exchanged
 * (`wordWake`); pairs with the event loop's sleep word, full barrier, tail. What has a SYNC label
 * is found again in test/model/member-ring.pml.
 */
import {
  COMMAND,
  COMMAND_RING_ENTRIES,
  EVENT,
  EVENT_RING_ENTRIES,
  MEMBER_RING,
} from '../layout/tables.js';
import type { Segment } from './segment.js';

export interface Command {
  op: number;
  seq: number;
  socket: number;
  port: number;
  backlog: number;
  connection: number;
  generation: number;
  localPort: number;
  reason: number;
  address0: number;
  address1: number;
  address2: number;
  address3: number;
}

export interface DirectorEvent {
  kind: number;
  seq: number;
  status: number;
  socket: number;
  connection: number;
  generation: number;
  end: number;
  cable: number;
  localPort: number;
  remotePort: number;
  peerMember: number;
  peerHost: number;
  peerUid: number;
  peerGid: number;
  peerPid: number;
  reason: number;
}

const commandFields = [
  'op',
  'seq',
  'socket',
  'port',
  'backlog',
  'connection',
  'generation',
  'localPort',
  'reason',
  'address0',
  'address1',
  'address2',
  'address3',
] as const;
const eventFields = [
  'kind',
  'seq',
  'status',
  'socket',
  'connection',
  'generation',
  'end',
  'cable',
  'localPort',
  'remotePort',
  'peerMember',
  'peerHost',
  'peerUid',
  'peerGid',
  'peerPid',
  'reason',
] as const;

/** What a command or an event says where it says nothing. */
export const noCommand: Command = {
  op: 0,
  seq: 0,
  socket: 0,
  port: 0,
  backlog: 0,
  connection: 0,
  generation: 0,
  localPort: 0,
  reason: 0,
  address0: 0,
  address1: 0,
  address2: 0,
  address3: 0,
};

export const noEvent: DirectorEvent = {
  kind: 0,
  seq: 0,
  status: 0,
  socket: 0,
  connection: 0,
  generation: 0,
  end: 0,
  cable: 0,
  localPort: 0,
  remotePort: 0,
  peerMember: 0,
  peerHost: 0,
  peerUid: 0,
  peerGid: 0,
  peerPid: 0,
  reason: 0,
};

/** Thrown when the other side's cursor cannot be true. */
export class RingSpoiled extends Error {
  override readonly name = 'RingSpoiled';
}

export class MemberRing {
  readonly #words: Uint32Array;
  readonly #base: number;
  /** Segment offset of the ring, bytes. */
  readonly offset: number;

  constructor(segment: Segment, offset: number) {
    this.#words = segment.u32;
    this.#base = offset / 4;
    this.offset = offset;
  }

  #word(at: number): number {
    return this.#base + (at >>> 2);
  }

  /** Host. False when the ring is full: the director has not kept up. */
  writeCommand(command: Command): boolean {
    const tailWord = this.#word(MEMBER_RING.at.commandTail);
    const tail = Atomics.load(this.#words, tailWord);
    /* SYNC[ring.head] pairs with [ring.taken] */
    const head = Atomics.load(this.#words, this.#word(MEMBER_RING.at.commandHead));
    if ((tail - head) >>> 0 >= COMMAND_RING_ENTRIES) return false;
    const entry =
      this.#word(MEMBER_RING.at.commands) + (tail % COMMAND_RING_ENTRIES) * (COMMAND.bytes / 4);
    for (const field of commandFields) {
      Atomics.store(this.#words, entry + (COMMAND.at[field] >>> 2), command[field]);
    }
    Atomics.store(this.#words, tailWord, tail + 1); /* SYNC[ring.tail] pairs with [ring.look] */
    return true;
  }

  /** Director. The next command, or undefined. */
  readCommand(): Command | undefined {
    const headWord = this.#word(MEMBER_RING.at.commandHead);
    const head = Atomics.load(this.#words, headWord);
    /* SYNC[ring.look] pairs with [ring.tail] */
    const tail = Atomics.load(this.#words, this.#word(MEMBER_RING.at.commandTail));
    const waiting = (tail - head) >>> 0;
    if (waiting === 0) return undefined;
    if (waiting > COMMAND_RING_ENTRIES) throw new RingSpoiled(`${waiting} commands in the ring`);
    const entry =
      this.#word(MEMBER_RING.at.commands) + (head % COMMAND_RING_ENTRIES) * (COMMAND.bytes / 4);
    const command = {} as Command;
    for (const field of commandFields) {
      command[field] = Atomics.load(this.#words, entry + (COMMAND.at[field] >>> 2));
    }
    Atomics.store(this.#words, headWord, head + 1); /* SYNC[ring.taken] pairs with [ring.head] */
    return command;
  }

  /** Director. False when the ring is full: the host has not kept up. */
  writeEvent(event: DirectorEvent): boolean {
    const tailWord = this.#word(MEMBER_RING.at.eventTail);
    const tail = Atomics.load(this.#words, tailWord);
    const head = Atomics.load(this.#words, this.#word(MEMBER_RING.at.eventHead));
    const waiting = (tail - head) >>> 0;
    if (waiting > EVENT_RING_ENTRIES) throw new RingSpoiled(`${waiting} events in the ring`);
    if (waiting === EVENT_RING_ENTRIES) return false;
    const entry =
      this.#word(MEMBER_RING.at.events) + (tail % EVENT_RING_ENTRIES) * (EVENT.bytes / 4);
    for (const field of eventFields) {
      Atomics.store(this.#words, entry + (EVENT.at[field] >>> 2), event[field]);
    }
    Atomics.store(this.#words, tailWord, tail + 1);
    return true;
  }

  /** Host. The next event, or undefined. */
  readEvent(): DirectorEvent | undefined {
    const headWord = this.#word(MEMBER_RING.at.eventHead);
    const head = Atomics.load(this.#words, headWord);
    const tail = Atomics.load(this.#words, this.#word(MEMBER_RING.at.eventTail));
    const waiting = (tail - head) >>> 0;
    if (waiting === 0) return undefined;
    if (waiting > EVENT_RING_ENTRIES) throw new RingSpoiled(`${waiting} events in the ring`);
    const entry =
      this.#word(MEMBER_RING.at.events) + (head % EVENT_RING_ENTRIES) * (EVENT.bytes / 4);
    const event = {} as DirectorEvent;
    for (const field of eventFields) {
      event[field] = Atomics.load(this.#words, entry + (EVENT.at[field] >>> 2));
    }
    Atomics.store(this.#words, headWord, head + 1);
    return event;
  }
}
