/**
 * A channel director: takes hosts' commands for the STGs it owns, makes connections, gives out
 * ports, and reclaims everything of a host that is gone.
 *
 * Invariants
 *   - An STG belongs to one director, so its ports and connection slots have one writer thread.
 *   - What a host may do follows from which ring a command came through, never from its contents.
 *   - A slot is used again only after both its ends have let go or are dead.
 * Bulk data never passes here. Runs on its worker thread's event loop; nothing blocks.
 */
import { assert } from '../assert.js';
import { errnoOfCode, stpError } from '../errors.js';
import {
  connectionOffset,
  firstExtent,
  registerGeometry,
  SEGMENT_MAP,
  type StgExtent,
} from '../layout/geometry.js';
import {
  BOARD,
  CONNECTION,
  DIRECTION,
  DIRECTOR,
  MEMBER,
  MEMBER_RING,
  NUMBERS,
  STG_HEADER,
} from '../layout/tables.js';
import {
  BACKLOG_MAX,
  EXPECT_US,
  GROW_RETRY_MS,
  NETWORK_SLOTS_SHARE,
  PORT_DYNAMIC_MIN,
  PORT_MAX,
} from '../limits.js';
import {
  addSource,
  countLoop,
  dropCable,
  RING_READY,
  removeSource,
  watchCable,
} from '../memory/event-loop.js';
import {
  type Command,
  type DirectorEvent,
  MemberRing,
  noEvent,
  RingSpoiled,
} from '../memory/member-ring.js';
import {
  type ControlEvent,
  directorOffset,
  noControlEvent,
  StgRegister,
} from '../memory/register.js';
import type { Segment } from '../memory/segment.js';
import { native } from '../native.js';
import { type PortHolder, PortTable } from './port-table.js';
import type {
  DirectorReport,
  DirectorRequest,
  MemberAdd,
  MemberAdded,
  MemberGone,
  StgGrow,
  StgOpen,
} from './protocol.js';

/** Commands of one member that are handled before the next member has its turn. */
const COMMANDS_PER_TURN = 64;
/** Events that wait in memory for a host which does not read; then it is sent away. */
const OVERFLOW_MAX = 16384;
/** While events overflow, the ring is tried again this often. */
const OVERFLOW_RETRY_MS = 2;
/** Connects that wait for a place in a listener's backlog, beyond the backlog itself. */
const PENDING_MAX = 4096;
/** What a refusal tells of what is used up. */
type Lack = Pick<DirectorEvent, 'end' | 'connection' | 'generation'>;
const lack = (what: number, used: number, of: number): Lack => ({
  end: what,
  connection: used,
  generation: of,
});
/** 14 bits of an owner word; 0 is never used. */
const GENERATION_MAX = 0x3fff;

interface Member {
  readonly stg: Stg;
  readonly index: number;
  readonly generation: number;
  readonly host: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly ring: MemberRing;
  /** The channel to the host: bell, descriptors, and its end is the host's death. */
  readonly channel: number;
  readonly channelFd: number;
  readonly sleepOffset: number;
  source: number;
  readonly connections: Set<Connection>;
  readonly ports: Set<Port>;
  readonly overflow: DirectorEvent[];
  /** Files of the STG that it was told of, and that it has said it has mapped. */
  told: number;
  mapped: number;
}

interface Port extends PortHolder<Member> {
  socket: number;
  backlog: number;
  /** Connected, and not yet accepted by the host. */
  waiting: number;
  readonly pending: { member: Member; command: Command }[];
  /** Of its record in the register; -1 for a connection's port, which has none. */
  place: number;
}

interface End {
  member: Member;
  port: number;
  closed: boolean;
}

interface Connection {
  readonly slot: number;
  readonly generation: number;
  readonly ends: readonly [End, End];
  /** Until accepted: the listener whose backlog it takes up. */
  listener: Port | undefined;
  readonly cable: number;
  /** A host died with its end open: a page may have an owner word and stand in no list. */
  torn: boolean;
  /** A TCP connection of end 0's host, which is only listed here; end 1 is closed from the start. */
  readonly network: Network | undefined;
}

interface Network {
  readonly reason: number;
  readonly address: readonly [number, number, number, number];
}

/** The connection slots of one file of an STG. */
interface SlotPool {
  readonly free: number[];
  /** The next that was never used, and the end of them. */
  next: number;
  readonly end: number;
}

interface Stg {
  readonly number: number;
  readonly name: string;
  readonly offset: number;
  readonly geometry: StgOpen['geometry'];
  readonly portsMax: number;
  /** Number of the native view. */
  readonly view: number;
  /** What people see of it; nothing is read back. */
  readonly register: StgRegister;
  readonly ports: PortTable<Member, Port>;
  readonly members: (Member | undefined)[];
  readonly memberGenerations: number[];
  readonly connections: (Connection | undefined)[];
  readonly slotGenerations: Uint16Array;
  readonly slots: SlotPool[];
  /** Its files; grows. */
  readonly extents: StgExtent[];
  /** Descriptors of all but the first, which hosts get with the grant. */
  readonly extentFds: (number | undefined)[];
  connectionCount: number;
  /** Those of them that only list a network connection. */
  networkCount: number;
  /** Number of the cable of two members: "a:b" with a <= b. */
  readonly cables: Map<string, number>;
}

export class ChannelDirector {
  readonly #segment: Segment;
  readonly #notice: (notice: MemberGone) => void;
  readonly #stgs = new Map<number, Stg>();
  readonly #overflowing = new Set<Member>();
  #overflowTimer: NodeJS.Timeout | undefined;
  #growTimer: NodeJS.Timeout | undefined;
  #cableNext = 1;
  #commands = 0;
  #wakesSent = 0;
  #wakesSuppressed = 0;
  #utilization = performance.eventLoopUtilization();
  readonly #event: ControlEvent = { ...noControlEvent };
  /** Segment offset of its record in the array register. */
  readonly #figures: number;

  /** @param number from 0, as its record in the array register */
  constructor(segment: Segment, number: number, notice: (notice: MemberGone) => void) {
    this.#segment = segment;
    this.#notice = notice;
    this.#figures = directorOffset(SEGMENT_MAP.arrayRegister, number);
    countLoop(segment, this.#figures);
  }

  /** One request of the main thread. Throws coded errors; the thread's loop sends them back. */
  handle(request: DirectorRequest): MemberAdded | DirectorReport | undefined {
    switch (request.op) {
      case 'stg-open':
        this.#openStg(request);
        return undefined;
      case 'stg-grow':
        this.#growStg(request);
        return undefined;
      case 'stg-close':
        this.#closeStg(request.stg, request.force);
        return undefined;
      case 'member-add':
        return this.#addMember(request);
      case 'member-remove': {
        const member = this.#stgs.get(request.stg)?.members[request.member];
        /* The number may be another host's by now. */
        if (member?.host === request.host) this.#endMember(member);
        return undefined;
      }
      case 'report':
        return this.#report();
    }
  }

  // --- STGs and members ---------------------------------------------------------------------

  #openStg(request: StgOpen): void {
    const { geometry, offset } = request;
    const register = new StgRegister(
      this.#segment,
      request.register,
      registerGeometry(geometry.memberCount, request.portsMax),
    );
    register.open(request.generation);
    this.#stgs.set(request.stg, {
      number: request.stg,
      name: request.name,
      offset,
      geometry,
      portsMax: request.portsMax,
      view: native().stgOpen(this.#segment.number, offset, geometry),
      register,
      ports: new PortTable(),
      members: new Array(geometry.memberCount).fill(undefined),
      memberGenerations: new Array(geometry.memberCount).fill(0),
      connections: new Array(geometry.connectionCount).fill(undefined),
      slotGenerations: new Uint16Array(geometry.connectionMax),
      slots: [{ free: [], next: 0, end: geometry.connectionCount }],
      extents: [firstExtent(geometry, offset)],
      extentFds: [undefined],
      connectionCount: 0,
      networkCount: 0,
      cables: new Map(),
    });
  }

  /**
   * A further file. Nobody waits for anybody: each member is told, and as soon as it says that it
   * has mapped the file, it is used between it and those that have too (docs/decisions/0013).
   */
  #growStg({ stg: number, extent, fd }: StgGrow): void {
    const stg = this.#stgs.get(number);
    if (stg === undefined) throw stpError('ENOENT', 'the STG is gone');
    native().stgGrow(stg.view, extent);
    const { firstConnection, connectionCount } = extent;
    stg.connections.push(...new Array<undefined>(connectionCount).fill(undefined));
    stg.slots.push({ free: [], next: firstConnection, end: firstConnection + connectionCount });
    stg.extents.push(extent);
    stg.extentFds.push(fd);
    this.#tellGrowth();
  }

  /** Every member of what it has not been told of; those whose channel is full, again later. */
  #tellGrowth(): void {
    let again = false;
    for (const stg of this.#stgs.values()) {
      for (const member of stg.members) {
        if (member !== undefined && !this.#tellMember(stg, member)) again = true;
      }
    }
    if (!again) return;
    this.#growTimer ??= setTimeout(() => {
      this.#growTimer = undefined;
      this.#tellGrowth();
    }, GROW_RETRY_MS);
  }

  #tellMember(stg: Stg, member: Member): boolean {
    for (; member.told < stg.extents.length; member.told++) {
      const { offset, boardCount, connectionCount } = stg.extents[member.told] as StgExtent;
      const message = { grown: { extent: member.told, offset, boardCount, connectionCount } };
      const fd = stg.extentFds[member.told] as number;
      if (!this.#sendDescriptors(member, Buffer.from(JSON.stringify(message)), [fd])) return false;
    }
    return true;
  }

  /** A member has mapped so many files: its peers may give it their pages from now on. */
  #onGrew(member: Member, command: Command): void {
    const mapped = command.connection;
    if (mapped <= member.mapped || mapped > member.told) return;
    member.mapped = mapped;
    this.#publishMapped(member);
  }

  #publishMapped({ stg, index, mapped }: Member): void {
    const at = stg.offset + stg.geometry.members + index * MEMBER.bytes;
    this.#segment.store(at + MEMBER.at.extents, mapped);
  }

  #closeStg(number: number, force: boolean): void {
    const stg = this.#stgs.get(number);
    if (stg === undefined) return;
    const members = stg.members.filter((m) => m !== undefined);
    if (members.length > 0 && !force) {
      const hosts = members.map((m) => `${m.host} (pid ${m.pid})`).join(', ');
      throw stpError(
        'EBUSY',
        `STG '${stg.name}' is in use by ${members.length} host(s): ${hosts}. End them, or delete it with --force, which resets their connections`,
      );
    }
    for (const member of members) {
      this.#sendDescriptors(member, Buffer.from(JSON.stringify({ deleted: true })), []);
      this.#endMember(member);
    }
    native().stgClose(stg.view);
    this.#stgs.delete(number);
  }

  #addMember(request: MemberAdd): MemberAdded {
    const stg = this.#stgs.get(request.stg);
    if (stg === undefined) {
      native().closeDescriptor(request.channel);
      throw stpError('ENOENT', 'the STG is gone');
    }
    const index = stg.members.indexOf(undefined);
    if (index < 0) {
      native().closeDescriptor(request.channel);
      const { length } = stg.members;
      throw stpError(
        'ENOBUFS',
        `STG '${stg.name}' has ${length} of its ${length} hosts; let one leave ('stpctl host list' ` +
          'shows them), or make another STG for more: stpctl stg create',
      );
    }
    const generation = ((stg.memberGenerations[index] as number) % GENERATION_MAX) + 1;
    stg.memberGenerations[index] = generation;
    const sleepOffset = stg.offset + stg.geometry.members + index * MEMBER.bytes + MEMBER.at.sleep;
    this.#clearMember(stg, index);
    const member: Member = {
      stg,
      index,
      generation,
      host: request.host,
      uid: request.uid,
      gid: request.gid,
      pid: request.pid,
      ring: new MemberRing(this.#segment, request.ring),
      channel: native().cableOpen(request.channel),
      channelFd: request.channel,
      sleepOffset,
      source: -1,
      connections: new Set(),
      ports: new Set(),
      overflow: [],
      told: stg.extents.length,
      mapped: stg.extents.length,
    };
    this.#publishMapped(member);
    member.source = addSource(
      {
        segment: this.#segment.number,
        sleep: request.ring + MEMBER_RING.at.directorSleep,
        ringTail: request.ring + MEMBER_RING.at.commandTail,
        ringSeen: this.#segment.load(request.ring + MEMBER_RING.at.commandTail),
        pollers: stg.offset + stg.geometry.header + STG_HEADER.at.pollers,
      },
      (ready) => ready === RING_READY && this.#onCommands(member),
    );
    stg.members[index] = member;
    stg.register.setMember(index, {
      generation,
      host: request.host,
      uid: request.uid,
      gid: request.gid,
      pid: request.pid,
      attachedAt: native().wallClockUs(),
      name: request.name,
    });
    native().loopSafety(true);
    watchCable(member.channel, () => this.#endMember(member));
    return { member: index, generation, extents: stg.extents.length };
  }

  /** A new member finds its counters, bits and sleep word as if nobody had been there. */
  #clearMember(stg: Stg, index: number): void {
    const g = stg.geometry;
    const clear = (offset: number, bytes: number): void => {
      this.#segment.u8.fill(0, stg.offset + offset, stg.offset + offset + bytes);
    };
    clear(g.members + index * MEMBER.bytes, MEMBER.bytes);
    clear(g.readySummary + index * g.readySummaryBytes, g.readySummaryBytes);
    clear(g.readyBits + index * g.readyBitsBytes, g.readyBitsBytes);
  }

  /** The host is gone, or must go: everything it had is freed, its peers get a reset. */
  #endMember(member: Member): void {
    const { stg } = member;
    if (stg.members[member.index] !== member) return;
    /* From here on nothing is sent to it, and nothing can connect to it or for it. */
    stg.members[member.index] = undefined;
    stg.register.clearMember(member.index);
    removeSource(member.source);
    dropCable(member.channel);
    this.#overflowing.delete(member);
    for (const holder of stg.ports.values()) {
      for (let i = holder.pending.length - 1; i >= 0; i--) {
        if (holder.pending[i]?.member === member) holder.pending.splice(i, 1);
      }
      this.#showPort(holder);
    }
    for (const port of [...member.ports]) {
      if (port.kind !== 'connection') this.#releasePort(port);
    }
    for (const connection of [...member.connections]) {
      for (const end of [0, 1] as const) {
        if (connection.ends[end].member === member && !connection.ends[end].closed) {
          if (connection.network === undefined) {
            connection.torn = true;
            const peer = connection.ends[end === 0 ? 1 : 0].member;
            native().connectionAbort(stg.view, connection.slot, end, peer.index, peer.channel);
          }
          this.#recordEnd(NUMBERS.CONTROL_HOST_GONE, connection, end);
          this.#closeEnd(connection, end);
        }
      }
    }
    for (const port of [...member.ports]) this.#releasePort(port);
    for (const key of [...stg.cables.keys()]) {
      const [a, b] = key.split(':').map(Number);
      if (a === member.index || b === member.index) stg.cables.delete(key);
    }
    const owner = ((NUMBERS.OWNER_MEMBER << 30) | (member.generation << 16) | member.index) >>> 0;
    native().pageSweep(stg.view, owner);
    native().pagesUsed(stg.view); /* it may have died between a page and its count */
    /* It may have died while it polled. */
    this.#segment.store(stg.offset + stg.geometry.header + STG_HEADER.at.pollers, 0);
    this.#notice({ notice: 'member-gone', stg: stg.number, host: member.host });
  }

  // --- commands -----------------------------------------------------------------------------

  #onCommands(member: Member): void {
    try {
      for (let i = 0; i < COMMANDS_PER_TURN; i++) {
        const command = member.ring.readCommand();
        if (command === undefined) return;
        this.#commands++;
        this.#segment.storeCounter(this.#figures + DIRECTOR.at.commands, this.#commands);
        this.#onCommand(member, command);
        /* It is accepted and closed soon, and where one connects more will. */
        if (command.op === NUMBERS.OP_CONNECT) native().loopExpect(EXPECT_US);
        if (member.stg.members[member.index] !== member) return;
      }
    } catch (error) {
      if (!(error instanceof RingSpoiled)) throw error;
      this.#endMember(member);
      return;
    }
    setImmediate(() => {
      if (member.stg.members[member.index] === member) this.#onCommands(member);
    });
  }

  #onCommand(member: Member, command: Command): void {
    switch (command.op) {
      case NUMBERS.OP_BIND:
        return this.#onBind(member, command);
      case NUMBERS.OP_UNBIND:
        return this.#onUnbind(member, command);
      case NUMBERS.OP_LISTEN:
        return this.#onListen(member, command);
      case NUMBERS.OP_CONNECT:
        return this.#onConnect(member, command);
      case NUMBERS.OP_ACCEPT:
        return this.#onAccept(member, command);
      case NUMBERS.OP_CLOSE:
        return this.#onClose(member, command);
      case NUMBERS.OP_GREW:
        return this.#onGrew(member, command);
      case NUMBERS.OP_NETWORK_OPEN:
        return this.#onNetworkOpen(member, command);
      default:
        this.#answer(member, command, 0, 'EOPNOTSUPP');
    }
  }

  #onBind(member: Member, command: Command): void {
    const taken = this.#takePort(member, command, 'bound');
    if (typeof taken === 'string') {
      return this.#refusePort(member, command, NUMBERS.EVENT_BOUND, taken);
    }
    this.#send(member, {
      ...noEvent,
      kind: NUMBERS.EVENT_BOUND,
      seq: command.seq,
      socket: command.socket,
      localPort: taken.port,
    });
  }

  #onListen(member: Member, command: Command): void {
    const bound = member.stg.ports.get(command.port);
    let port: Port;
    if (bound?.kind === 'bound' && bound.member === member && command.port !== 0) {
      port = bound;
      port.kind = 'listening';
      this.#recordPort(NUMBERS.CONTROL_LISTENING, port);
    } else {
      const taken = this.#takePort(member, command, 'listening');
      if (typeof taken === 'string') {
        return this.#refusePort(member, command, NUMBERS.EVENT_LISTENING, taken);
      }
      port = taken;
    }
    port.socket = command.socket;
    port.backlog = Math.min(Math.max(command.backlog, 1), BACKLOG_MAX);
    this.#showPort(port);
    this.#send(member, {
      ...noEvent,
      kind: NUMBERS.EVENT_LISTENING,
      seq: command.seq,
      socket: command.socket,
      localPort: port.port,
    });
  }

  #refusePort(member: Member, command: Command, kind: number, code: string): void {
    this.#answer(member, command, kind, code, reasonOfCode(code), portLack(member.stg, code));
  }

  /** A port for the member, or the code of the reason why not. */
  #takePort(member: Member, command: Command, kind: 'bound' | 'listening'): Port | string {
    const { ports } = member.stg;
    if (command.port > PORT_MAX) return 'EINVAL';
    const holder = command.port === 0 ? undefined : ports.get(command.port);
    if (holder !== undefined) {
      /* A port is free as soon as its owner is dead, not when this loop comes to hear of it. */
      if (holder.member === member || !isDead(holder.member)) return 'EADDRINUSE';
      this.#endMember(holder.member);
    }
    if (ports.counted >= member.stg.portsMax) return 'ENOBUFS';
    const number = command.port === 0 ? ports.dynamic() : command.port;
    if (number === 0) return 'EADDRNOTAVAIL';
    return this.#addPort(member, number, kind, command.socket);
  }

  #addPort(member: Member, number: number, kind: Port['kind'], socket: number): Port {
    const port: Port = {
      port: number,
      member,
      kind,
      socket,
      backlog: 0,
      waiting: 0,
      pending: [],
      place: -1,
    };
    member.stg.ports.add(port);
    member.ports.add(port);
    if (kind !== 'connection') {
      port.place = member.stg.register.addPort({
        port: number,
        member: member.index,
        listening: kind === 'listening',
        backlog: 0,
        waiting: 0,
        pending: 0,
      });
      const listening = kind === 'listening';
      this.#recordPort(listening ? NUMBERS.CONTROL_LISTENING : NUMBERS.CONTROL_BOUND, port);
    }
    return port;
  }

  #releasePort(port: Port): void {
    const { member } = port;
    if (member.stg.ports.get(port.port) !== port) return;
    member.stg.ports.remove(port.port);
    member.ports.delete(port);
    if (port.kind !== 'connection') {
      member.stg.register.removePort(port.place);
      this.#recordPort(NUMBERS.CONTROL_UNBOUND, port);
    }
    for (const { member: waiting, command } of port.pending.splice(0)) {
      this.#refuse(waiting, command);
    }
  }

  #onUnbind(member: Member, command: Command): void {
    const port = member.stg.ports.get(command.port);
    const own = port !== undefined && port.member === member && port.kind !== 'connection';
    /* A server gives up its own port only, not one that another server of its host has by now. */
    if (own && (command.socket === 0 || command.socket === port.socket)) this.#releasePort(port);
    this.#answer(member, command, NUMBERS.EVENT_UNBOUND);
  }

  #onConnect(member: Member, command: Command): void {
    const listener = member.stg.ports.get(command.port);
    if (
      listener === undefined ||
      listener.kind !== 'listening' ||
      (listener.member !== member && isDead(listener.member))
    ) {
      return this.#refuse(member, command);
    }
    if (listener.waiting >= listener.backlog) {
      /* As TCP does: the connecting side waits until there is a place, or gives up itself. */
      const { length } = listener.pending;
      if (length >= PENDING_MAX) {
        const full = lack(NUMBERS.LACK_BACKLOG, length, PENDING_MAX);
        const { REASON_STG_FULL } = NUMBERS;
        return this.#refuseConnect(member, command, 'ENOBUFS', REASON_STG_FULL, full);
      }
      listener.pending.push({ member, command });
      this.#hurry(listener.member);
      this.#showPort(listener);
      this.#recordConnect(NUMBERS.CONTROL_QUEUED, member, command, 0);
      return;
    }
    this.#connect(member, command, listener);
  }

  #refuseConnect(
    member: Member,
    command: Command,
    code: string,
    reason: number,
    lacks?: Lack,
  ): void {
    this.#recordConnect(NUMBERS.CONTROL_REFUSED, member, command, errnoOfCode(code));
    this.#answer(member, command, NUMBERS.EVENT_CONNECTED, code, reason, lacks);
  }

  /** Nobody takes the connection: is there anybody else at all? */
  #refuse(member: Member, command: Command): void {
    const alone = !member.stg.members.some((other) => other !== undefined && other !== member);
    const reason = alone ? NUMBERS.REASON_PEER_NOT_ATTACHED : NUMBERS.REASON_PEER_NOT_LISTENING;
    this.#refuseConnect(member, command, 'ECONNREFUSED', reason);
  }

  #connect(member: Member, command: Command, listener: Port): void {
    const { stg } = member;
    const fail = (code: string, lacks?: Lack): void =>
      this.#refuseConnect(member, command, code, reasonOfCode(code), lacks);
    let port: Port | undefined;
    if (command.localPort !== 0) {
      port = stg.ports.get(command.localPort);
      if (command.localPort > PORT_MAX) return fail('EINVAL');
      if (port !== undefined && (port.member !== member || port.kind !== 'bound')) {
        return fail('EADDRINUSE');
      }
    }
    const extents = Math.min(member.mapped, listener.member.mapped);
    const slot = this.#takeSlot(stg, extents);
    if (slot < 0) return fail('ENOBUFS', slotLack(stg, extents));
    const number = command.localPort || stg.ports.dynamic();
    const cable = number === 0 ? 0 : this.#cableOf(member, listener.member);
    if (cable === 0) {
      this.#freeSlot(stg, slot);
      if (number === 0) return fail('EADDRNOTAVAIL', portLack(stg, 'EADDRNOTAVAIL'));
      return fail('ENOBUFS', lack(NUMBERS.LACK_CABLE, 0, 0));
    }
    if (port === undefined) this.#addPort(member, number, 'connection', command.socket);
    const connection: Connection = {
      slot,
      generation: this.#nextGeneration(stg, slot),
      ends: [
        { member, port: number, closed: false },
        { member: listener.member, port: listener.port, closed: false },
      ],
      listener,
      cable,
      torn: false,
      network: undefined,
    };
    this.#establish(stg, connection);
    listener.member.connections.add(connection);
    listener.waiting++;
    this.#showPort(listener);
    /* Who waits comes first: it wakes up while the other is rung. */
    this.#send(member, {
      ...this.#describe(connection, 0),
      kind: NUMBERS.EVENT_CONNECTED,
      seq: command.seq,
      socket: command.socket,
    });
    this.#send(listener.member, {
      ...this.#describe(connection, 1),
      kind: NUMBERS.EVENT_INCOMING,
      socket: listener.socket,
    });
  }

  /** SYNC: pairs with Host.tellLater. The loop looks at its ring before this thread sleeps. */
  #hurry(member: Member): void {
    let hurry = 0;
    for (const port of member.ports) if (port.pending.length > 0) hurry = 1;
    this.#segment.store(member.ring.offset + MEMBER_RING.at.hurry, hurry);
  }

  #nextGeneration(stg: Stg, slot: number): number {
    const generation = ((stg.slotGenerations[slot] as number) % GENERATION_MAX) + 1;
    stg.slotGenerations[slot] = generation;
    return generation;
  }

  #establish(stg: Stg, connection: Connection): void {
    native().connectionInit(stg.view, connection.slot);
    this.#publishHeader(stg, connection);
    this.#recordEnd(NUMBERS.CONTROL_OPENED, connection, 0);
    stg.connections[connection.slot] = connection;
    stg.connectionCount++;
    connection.ends[0].member.connections.add(connection);
  }

  /**
   * A host says that it has a TCP connection: it is listed, nothing more. What it says is shown and
   * never used. With its share of slots used up it is refused, and the host goes on unlisted.
   */
  #onNetworkOpen(member: Member, command: Command): void {
    const { stg } = member;
    const kind = NUMBERS.EVENT_NETWORK_OPENED;
    const { port, localPort, reason, address0, address1, address2, address3 } = command;
    if (port > PORT_MAX || localPort > PORT_MAX)
      return this.#answer(member, command, kind, 'EINVAL');
    const share = Math.floor(stg.connections.length / NETWORK_SLOTS_SHARE);
    const slot = stg.networkCount < share ? this.#takeSlot(stg, member.mapped) : -1;
    if (slot < 0) return this.#answer(member, command, kind, 'ENOBUFS');
    const connection: Connection = {
      slot,
      generation: this.#nextGeneration(stg, slot),
      ends: [
        { member, port: localPort, closed: false },
        { member, port, closed: true },
      ],
      listener: undefined,
      cable: 0,
      torn: false,
      network: { reason, address: [address0, address1, address2, address3] },
    };
    this.#establish(stg, connection);
    stg.networkCount++;
    this.#send(member, {
      ...noEvent,
      kind,
      seq: command.seq,
      socket: command.socket,
      connection: slot,
      generation: connection.generation,
    });
  }

  #describe(connection: Connection, end: 0 | 1): DirectorEvent {
    const self = connection.ends[end];
    const peer = connection.ends[end === 0 ? 1 : 0];
    return {
      ...noEvent,
      connection: connection.slot,
      generation: connection.generation,
      end,
      cable: connection.cable,
      localPort: self.port,
      remotePort: peer.port,
      peerMember: peer.member.index,
      peerHost: peer.member.host,
      peerUid: peer.member.uid,
      peerGid: peer.member.gid,
      peerPid: peer.member.pid,
    };
  }

  #publishHeader(stg: Stg, connection: Connection): void {
    const at = connectionOffset(stg.extents, connection.slot);
    const segment = this.#segment;
    const { network } = connection;
    connection.ends.forEach((end, i) => {
      segment.store(at + CONNECTION.at.members + i * 4, end.member.index);
      segment.store(at + CONNECTION.at.ports + i * 4, end.port);
      const host = network !== undefined && i === 1 ? 0 : end.member.host;
      segment.store(at + CONNECTION.at.hosts + i * 4, host);
    });
    segment.store(
      at + CONNECTION.at.mechanism,
      network === undefined ? NUMBERS.MECHANISM_STORAGE : NUMBERS.MECHANISM_NETWORK,
    );
    segment.store(at + CONNECTION.at.reason, network?.reason ?? NUMBERS.REASON_NONE);
    for (let i = 0; i < 4; i++) {
      segment.store(at + CONNECTION.at.remoteAddress + i * 4, network?.address[i] ?? 0);
    }
    segment.storeCounter(at + CONNECTION.at.openedAt, native().wallClockUs());
    segment.store(at + CONNECTION.at.generation, connection.generation);
    this.#publishState(stg, connection, NUMBERS.CONNECTION_ESTABLISHED);
  }

  /** What changes while a connection lives. */
  #publishState(stg: Stg, connection: Connection, state: number): void {
    const at = connectionOffset(stg.extents, connection.slot);
    const [a, b] = connection.ends;
    const closedEnds = (a.closed ? 1 : 0) | (b.closed ? 2 : 0);
    this.#segment.store(at + CONNECTION.at.closedEnds, closedEnds);
    this.#segment.store(at + CONNECTION.at.state, state);
  }

  /** The doorbell of two members, made at their first connection and sent to both; 0: no room. */
  #cableOf(a: Member, b: Member): number {
    const key = a.index <= b.index ? `${a.index}:${b.index}` : `${b.index}:${a.index}`;
    const known = a.stg.cables.get(key);
    if (known !== undefined) return known;
    const cable = this.#cableNext++;
    const pair = socketPair();
    if (pair === undefined) return 0;
    const [one, other] = pair;
    const message = Buffer.from(JSON.stringify({ cable }));
    const sent =
      a === b
        ? this.#sendDescriptors(a, message, [one, other])
        : this.#sendDescriptors(a, message, [one]) && this.#sendDescriptors(b, message, [other]);
    native().closeDescriptor(one);
    native().closeDescriptor(other);
    if (!sent) return 0;
    a.stg.cables.set(key, cable);
    return cable;
  }

  #sendDescriptors(member: Member, message: Buffer, fds: number[]): boolean {
    try {
      return native().sendMessage(member.channelFd, message, fds);
    } catch {
      return false; /* it is dying: its end-of-file comes next */
    }
  }

  #onAccept(member: Member, command: Command): void {
    const connection = this.#connectionOf(member, command);
    const listener = connection?.listener;
    if (connection === undefined || listener === undefined || listener.member !== member) return;
    connection.listener = undefined;
    this.#recordEnd(NUMBERS.CONTROL_ACCEPTED, connection, 1);
    this.#leaveBacklog(listener);
  }

  #leaveBacklog(listener: Port): void {
    listener.waiting--;
    assert(listener.waiting >= 0, 'a backlog holds what was put there');
    const next = listener.pending.shift();
    this.#showPort(listener);
    if (next === undefined) return;
    if (listener.pending.length === 0) this.#hurry(listener.member);
    this.#onConnect(next.member, next.command);
  }

  #connectionOf(member: Member, command: Command): Connection | undefined {
    const connection = member.stg.connections[command.connection];
    if (connection === undefined || connection.generation !== command.generation) return undefined;
    return connection;
  }

  /** The host has let go of its end; `backlog` names the end where a host holds both. */
  #onClose(member: Member, command: Command): void {
    const connection = this.#connectionOf(member, command);
    if (connection === undefined) return;
    const end = command.backlog === 1 ? 1 : 0;
    if (connection.ends[end].member !== member || connection.ends[end].closed) return;
    this.#recordEnd(NUMBERS.CONTROL_CLOSED, connection, end);
    this.#closeEnd(connection, end);
  }

  #closeEnd(connection: Connection, end: 0 | 1): void {
    const self = connection.ends[end];
    const peer = connection.ends[end === 0 ? 1 : 0];
    const { stg } = self.member;
    self.closed = true;
    if (self.member !== peer.member || peer.closed) self.member.connections.delete(connection);
    if (end === 1 && connection.listener !== undefined) {
      const { listener } = connection;
      connection.listener = undefined;
      this.#leaveBacklog(listener);
    }
    if (end === 0 && connection.network === undefined) {
      const port = stg.ports.get(self.port);
      if (port?.kind === 'connection' && port.member === self.member) this.#releasePort(port);
    }
    if (!peer.closed) {
      this.#publishState(stg, connection, NUMBERS.CONNECTION_CLOSING);
      /* An orderly end has woken whoever waits for it; a reset is also for who does not. */
      if (!this.#wasReset(connection, end)) return;
      native().memberNotify(
        stg.view,
        peer.member.index,
        connection.slot * 2 + (end === 0 ? 1 : 0),
        peer.member.channel,
      );
      return;
    }
    native().connectionRelease(stg.view, connection.slot, connection.generation);
    if (connection.torn) {
      const { slot, generation } = connection;
      native().pageSweep(
        stg.view,
        ((NUMBERS.OWNER_CONNECTION << 30) | (generation << 16) | slot) >>> 0,
      );
    }
    this.#publishState(stg, connection, NUMBERS.CONNECTION_FREE);
    this.#recordEnd(NUMBERS.CONTROL_FREED, connection, end);
    stg.connections[connection.slot] = undefined;
    this.#freeSlot(stg, connection.slot);
    stg.connectionCount--;
    if (connection.network !== undefined) stg.networkCount--;
  }

  /** A slot of the first `extents` files, or -1. */
  #takeSlot(stg: Stg, extents: number): number {
    for (const pool of stg.slots.slice(0, extents)) {
      const slot = pool.free.pop() ?? (pool.next < pool.end ? pool.next++ : -1);
      if (slot >= 0) return slot;
    }
    return -1;
  }

  #freeSlot(stg: Stg, slot: number): void {
    stg.slots.find((pool) => slot < pool.end)?.free.push(slot);
  }

  /** What the end that let go has left in memory: only whether its peer is told depends on it. */
  #wasReset(connection: Connection, end: 0 | 1): boolean {
    const { stg } = connection.ends[end].member;
    const at = connectionOffset(stg.extents, connection.slot) + CONNECTION.at.directions;
    const segment = this.#segment;
    return (
      segment.load(at + end * DIRECTION.bytes + DIRECTION.at.reset) !== 0 ||
      segment.load(at + (1 - end) * DIRECTION.bytes + DIRECTION.at.closed) !==
        NUMBERS.CLOSED_ORDERLY
    );
  }

  // --- for people ---------------------------------------------------------------------------

  /** The event to be filled, blank but for its kind: one object, since events are frequent. */
  #newEvent(kind: number): ControlEvent {
    const event = this.#event;
    event.at = native().wallClockUs();
    event.kind = kind;
    event.connection = 0;
    event.generation = 0;
    event.end = 0;
    event.port = 0;
    event.remotePort = 0;
    event.host = 0;
    event.peerHost = 0;
    event.status = 0;
    event.flags = 0;
    event.sent = 0;
    event.received = 0;
    return event;
  }

  #recordPort(kind: number, port: Port): void {
    const event = this.#newEvent(kind);
    event.port = port.port;
    event.host = port.member.host;
    port.member.stg.register.writeEvent(event);
  }

  /** A connect that did not become a connection: `status` 0 while it still may. */
  #recordConnect(kind: number, member: Member, command: Command, status: number): void {
    const event = this.#newEvent(kind);
    event.port = command.localPort;
    event.remotePort = command.port;
    event.host = member.host;
    event.status = status;
    member.stg.register.writeEvent(event);
  }

  /** What the directions say is the hosts' word, for display only. */
  #recordEnd(kind: number, connection: Connection, end: 0 | 1): void {
    const self = connection.ends[end];
    const peer = connection.ends[end === 0 ? 1 : 0];
    const { stg } = self.member;
    const event = this.#newEvent(kind);
    event.connection = connection.slot;
    event.generation = connection.generation;
    event.end = end;
    event.port = self.port;
    event.remotePort = peer.port;
    event.host = self.member.host;
    if (connection.network !== undefined) {
      event.status = connection.network.reason;
      event.flags = NUMBERS.CONTROL_FLAG_NETWORK;
    } else event.peerHost = peer.member.host;
    if (kind === NUMBERS.CONTROL_CLOSED || kind === NUMBERS.CONTROL_HOST_GONE) {
      this.#addDirections(event, stg, connection.slot, end);
    }
    stg.register.writeEvent(event);
  }

  #addDirections(event: ControlEvent, stg: Stg, slot: number, end: 0 | 1): void {
    const segment = this.#segment;
    const directions = connectionOffset(stg.extents, slot) + CONNECTION.at.directions;
    const out = directions + end * DIRECTION.bytes;
    const inn = directions + (1 - end) * DIRECTION.bytes;
    const load = (direction: number, field: keyof typeof DIRECTION.at): number =>
      segment.load(direction + DIRECTION.at[field]);
    const aborted = (sent: number, received: number): boolean =>
      load(sent, 'reset') !== 0 || load(received, 'closed') === NUMBERS.CLOSED_RESET;
    if (load(out, 'fin') !== 0) event.flags |= NUMBERS.CONTROL_FLAG_FIN;
    if (aborted(out, inn)) event.flags |= NUMBERS.CONTROL_FLAG_RESET;
    if (load(inn, 'fin') !== 0) event.flags |= NUMBERS.CONTROL_FLAG_PEER_FIN;
    if (aborted(inn, out)) event.flags |= NUMBERS.CONTROL_FLAG_PEER_RESET;
    if (load(inn, 'tail') !== load(inn, 'head')) event.flags |= NUMBERS.CONTROL_FLAG_UNREAD;
    event.sent = segment.counter(out + DIRECTION.at.bytesProduced);
    event.received = segment.counter(inn + DIRECTION.at.bytesConsumed);
  }

  #showPort(port: Port): void {
    port.member.stg.register.updatePort(port.place, {
      listening: port.kind === 'listening',
      backlog: port.backlog,
      waiting: port.waiting,
      pending: port.pending.length,
    });
  }

  /** Rings a host for an event, if it sleeps. */
  #wake(member: Member): void {
    const rung = native().wordWake(this.#segment.number, member.sleepOffset, member.channel);
    if (rung) this.#segment.store(this.#figures + DIRECTOR.at.wakesSent, ++this.#wakesSent);
    else {
      this.#segment.store(this.#figures + DIRECTOR.at.wakesSuppressed, ++this.#wakesSuppressed);
    }
  }

  // --- answers ------------------------------------------------------------------------------

  #answer(
    member: Member,
    command: Command,
    kind: number,
    code?: string,
    reason: number = NUMBERS.REASON_NONE,
    lacks?: Lack,
  ): void {
    this.#send(member, {
      ...noEvent,
      ...lacks,
      kind,
      seq: command.seq,
      socket: command.socket,
      status: code === undefined ? 0 : errnoOfCode(code),
      remotePort: command.port,
      reason,
    });
  }

  #send(member: Member, event: DirectorEvent): void {
    if (member.stg.members[member.index] !== member) return;
    try {
      if (member.overflow.length === 0 && member.ring.writeEvent(event)) {
        this.#wake(member);
        return;
      }
    } catch (error) {
      if (!(error instanceof RingSpoiled)) throw error;
      /* Later: whoever made us send is in the middle of something, and may be somebody else. */
      setImmediate(() => this.#endMember(member));
      return;
    }
    member.overflow.push(event);
    if (member.overflow.length > OVERFLOW_MAX) {
      setImmediate(() => this.#endMember(member));
      return;
    }
    this.#overflowing.add(member);
    this.#overflowTimer ??= setTimeout(() => this.#retryOverflow(), OVERFLOW_RETRY_MS);
  }

  #retryOverflow(): void {
    this.#overflowTimer = undefined;
    for (const member of [...this.#overflowing]) {
      try {
        while (member.overflow.length > 0) {
          if (!member.ring.writeEvent(member.overflow[0] as DirectorEvent)) break;
          member.overflow.shift();
        }
      } catch (error) {
        if (!(error instanceof RingSpoiled)) throw error;
        this.#endMember(member);
        continue;
      }
      this.#wake(member);
      if (member.overflow.length === 0) this.#overflowing.delete(member);
    }
    if (this.#overflowing.size > 0) {
      this.#overflowTimer = setTimeout(() => this.#retryOverflow(), OVERFLOW_RETRY_MS);
    }
  }

  // --- reports ------------------------------------------------------------------------------

  #report(): DirectorReport {
    let sockets = 0;
    const hostSockets = new Map<string, { host: number; stg: number; sockets: number }>();
    const count = (host: number, stg: number): void => {
      const key = `${host}:${stg}`;
      const row = hostSockets.get(key) ?? { host, stg, sockets: 0 };
      row.sockets++;
      sockets++;
      hostSockets.set(key, row);
    };
    for (const stg of this.#stgs.values()) {
      for (const port of stg.ports.values()) {
        if (port.kind !== 'connection') count(port.member.host, stg.number);
      }
      for (const connection of stg.connections) {
        if (connection === undefined) continue;
        for (const { closed, member } of connection.ends) {
          if (!closed) count(member.host, stg.number);
        }
      }
    }
    return {
      stgs: [...this.#stgs.values()].map((stg) => ({
        stg: stg.number,
        members: stg.members.filter((m) => m !== undefined).length,
        connections: stg.connectionCount,
        ports: stg.ports.counted,
        pagesUsed: native().pagesUsed(stg.view),
        behind: stg.members.flatMap((m) =>
          m !== undefined && m.mapped < stg.extents.length ? [m.host] : [],
        ),
      })),
      sockets,
      hostSockets: [...hostSockets.values()],
      commands: this.#commands,
      load: this.#load(),
    };
  }

  #load(): number {
    const now = performance.eventLoopUtilization();
    const since = performance.eventLoopUtilization(now, this.#utilization);
    this.#utilization = now;
    return since.utilization;
  }
}

/** Undefined where stpd has no descriptor left. */
function socketPair(): [number, number] | undefined {
  try {
    return native().socketPair(true);
  } catch {
    return undefined;
  }
}

function slotLack(stg: Stg, extents: number): Lack {
  const pools = stg.slots.slice(0, extents);
  const free = pools.reduce((sum, pool) => sum + pool.free.length + pool.end - pool.next, 0);
  const all = pools.at(-1)?.end ?? 0;
  return lack(NUMBERS.LACK_SLOTS, all - free, all);
}

function portLack(stg: Stg, code: string): Lack | undefined {
  if (code === 'ENOBUFS') return lack(NUMBERS.LACK_PORTS, stg.ports.counted, stg.portsMax);
  if (code !== 'EADDRNOTAVAIL') return undefined;
  const ports = PORT_MAX - PORT_DYNAMIC_MIN + 1;
  return lack(NUMBERS.LACK_DYNAMIC_PORTS, ports, ports);
}

/** What the STG lacks, where a refusal says that it lacks something. */
const reasonOfCode = (code: string): number =>
  code === 'ENOBUFS' || code === 'EADDRNOTAVAIL' ? NUMBERS.REASON_STG_FULL : NUMBERS.REASON_NONE;

/** Whether the host's process, or thread, is gone: the kernel knows before the event loop does. */
const isDead = (member: Member): boolean => native().cableDead(member.channel);

/** Counters of one board, read from memory; for the control API. */
export function boardCounters(
  segment: Segment,
  stgOffset: number,
  boards: number,
  index: number,
): {
  accesses: number;
  contended: number;
  bytes: number;
  steals: number;
  bypassed: number;
  bypassedBytes: number;
} {
  const at = stgOffset + boards + index * BOARD.bytes;
  return {
    accesses: segment.counter(at + BOARD.at.accesses),
    contended: segment.counter(at + BOARD.at.contended),
    bytes: segment.counter(at + BOARD.at.bytes),
    steals: segment.load(at + BOARD.at.steals),
    bypassed: segment.counter(at + BOARD.at.bypassed),
    bypassedBytes: segment.counter(at + BOARD.at.bypassedBytes),
  };
}
