/**
 * The command and event ring between one host and the director of one STG.
 *
 * Two single-producer, single-consumer rings of 64-byte entries in a file that only these two map,
 * so what stands in it was written by the other party and by no other host. A cursor beyond the
 * ring is hostile: `read…` reports it instead of following it. One thread on each side.
 *
 * An entry is written (plain stores), then the tail is published (seq-cst), then the sleeper's word is exchanged
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

/** Words of an entry: fields by name, since this is read and written for each connection. */
const wordsOf = <Field extends string>(
  at: Readonly<Record<Field, number>>,
): Record<Field, number> =>
  Object.fromEntries(
    Object.entries<number>(at).map(([field, bytes]) => [field, bytes >>> 2]),
  ) as Record<Field, number>;
const C = wordsOf(COMMAND.at);
const E = wordsOf(EVENT.at);

/** A command that says nothing but this. */
export const commandOf = (said: Partial<Command> & { op: number }): Command => ({
  op: said.op,
  seq: said.seq ?? 0,
  socket: said.socket ?? 0,
  port: said.port ?? 0,
  backlog: said.backlog ?? 0,
  connection: said.connection ?? 0,
  generation: said.generation ?? 0,
  localPort: said.localPort ?? 0,
  reason: said.reason ?? 0,
  address0: said.address0 ?? 0,
  address1: said.address1 ?? 0,
  address2: said.address2 ?? 0,
  address3: said.address3 ?? 0,
});

/** What an event says where it says nothing. */
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
    const words = this.#words;
    words[entry + C.op] = command.op;
    words[entry + C.seq] = command.seq;
    words[entry + C.socket] = command.socket;
    words[entry + C.port] = command.port;
    words[entry + C.backlog] = command.backlog;
    words[entry + C.connection] = command.connection;
    words[entry + C.generation] = command.generation;
    words[entry + C.localPort] = command.localPort;
    words[entry + C.reason] = command.reason;
    words[entry + C.address0] = command.address0;
    words[entry + C.address1] = command.address1;
    words[entry + C.address2] = command.address2;
    words[entry + C.address3] = command.address3;
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
    const words = this.#words;
    const command: Command = {
      op: words[entry + C.op] as number,
      seq: words[entry + C.seq] as number,
      socket: words[entry + C.socket] as number,
      port: words[entry + C.port] as number,
      backlog: words[entry + C.backlog] as number,
      connection: words[entry + C.connection] as number,
      generation: words[entry + C.generation] as number,
      localPort: words[entry + C.localPort] as number,
      reason: words[entry + C.reason] as number,
      address0: words[entry + C.address0] as number,
      address1: words[entry + C.address1] as number,
      address2: words[entry + C.address2] as number,
      address3: words[entry + C.address3] as number,
    };
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
    const words = this.#words;
    words[entry + E.kind] = event.kind;
    words[entry + E.seq] = event.seq;
    words[entry + E.status] = event.status;
    words[entry + E.socket] = event.socket;
    words[entry + E.connection] = event.connection;
    words[entry + E.generation] = event.generation;
    words[entry + E.end] = event.end;
    words[entry + E.cable] = event.cable;
    words[entry + E.localPort] = event.localPort;
    words[entry + E.remotePort] = event.remotePort;
    words[entry + E.peerMember] = event.peerMember;
    words[entry + E.peerHost] = event.peerHost;
    words[entry + E.peerUid] = event.peerUid;
    words[entry + E.peerGid] = event.peerGid;
    words[entry + E.peerPid] = event.peerPid;
    words[entry + E.reason] = event.reason;
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
    const words = this.#words;
    const event: DirectorEvent = {
      kind: words[entry + E.kind] as number,
      seq: words[entry + E.seq] as number,
      status: words[entry + E.status] as number,
      socket: words[entry + E.socket] as number,
      connection: words[entry + E.connection] as number,
      generation: words[entry + E.generation] as number,
      end: words[entry + E.end] as number,
      cable: words[entry + E.cable] as number,
      localPort: words[entry + E.localPort] as number,
      remotePort: words[entry + E.remotePort] as number,
      peerMember: words[entry + E.peerMember] as number,
      peerHost: words[entry + E.peerHost] as number,
      peerUid: words[entry + E.peerUid] as number,
      peerGid: words[entry + E.peerGid] as number,
      peerPid: words[entry + E.peerPid] as number,
      reason: words[entry + E.reason] as number,
    };
    Atomics.store(this.#words, headWord, head + 1);
    return event;
  }
}
