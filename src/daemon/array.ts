/**
 * The array: one segment, its boards, the STGs made of them, the directors that serve them and the
 * hosts that are attached.
 *
 * Invariants
 *   - A board belongs to one STG or to none; an STG's memory is made for it and destroyed with it,
 *     never handed on.
 *   - A host gets descriptors only of an STG whose access list it passes, checked against what the
 *     kernel says of it.
 * Main thread; reports ask the directors and never wait for a host.
 */
import { constants } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { Piscina } from 'piscina';
import { assert } from '../assert.js';
import { boardCounters } from '../director/channel-director.js';
import type { DirectorReport as Measured, MemberAdded, MemberGone } from '../director/protocol.js';
import { stpError } from '../errors.js';
import {
  firstExtent,
  MEMBER_RING_SLOTS,
  nextExtent,
  registerGeometry,
  SEGMENT_MAP,
  STG_ALIGN_BYTES,
  type StgExtent,
  type StgGeometry,
  stgGeometry,
} from '../layout/geometry.js';
import { layoutHash } from '../layout/hash.js';
import {
  LAYOUT_VERSION,
  NUMBERS,
  PAGE_BYTES,
  STG_DIRECTORY_ENTRIES,
  STG_ENTRY,
  STG_EXTENT,
  STG_EXTENTS_MAX,
  SUPERBLOCK,
  SUPERBLOCK_MAGIC,
} from '../layout/tables.js';
import {
  GROW_ANSWER_MS,
  SEGMENT_BYTES_DEFAULT,
  STG_CONNECTIONS_DEFAULT,
  STG_CONNECTIONS_MAX,
  STG_MEMBERS_DEFAULT,
} from '../limits.js';
import { ArrayRegister } from '../memory/register.js';
import { Segment } from '../memory/segment.js';
import { native } from '../native.js';
import { workerFile } from '../package-files.js';
import { ATTACH_SOCKET } from '../run-directory.js';
import { ATTACH_VERSION, type AttachRequest } from '../socket/attach-protocol.js';
import { decodeFigures, decodeSockets } from '../view/decode.js';
import type { Figures, SocketReport } from '../view/figures.js';
import { stgPlace } from '../view/places.js';
import { readTrace, type TraceReading } from '../view/trace.js';
import { type AttachAnswer, AttachServer, type Credentials } from './attach-server.js';
import { DirectorPool } from './director-pool.js';
import type {
  ArrayControl,
  ArrayOptions,
  ArrayReport,
  BoardReport,
  GrowRequest,
  HostReport,
  StgReport,
  StgRequest,
} from './reports.js';
import { VERSION } from './version.js';

/** Of the connections that use most pages; `socket list` shows all. */
const CONNECTION_PAGES_SHOWN = 16;

interface Stg {
  /** Entry of the superblock's directory; also the directors' number for it. */
  readonly entry: number;
  readonly name: string;
  readonly generation: number;
  readonly director: number;
  /** In the order of its files. */
  readonly boards: number[];
  readonly offset: number;
  readonly geometry: StgGeometry;
  /** The first, and one for each time it grew: where they are, and their descriptors. */
  readonly files: StgFile[];
  readonly register: RegisterFile;
  readonly portsMax: number;
  readonly allowUids: readonly number[];
  readonly allowGids: readonly number[];
  readonly hosts: Set<AttachedHost>;
  deleting: boolean;
}

interface StgFile {
  readonly extent: StgExtent;
  readonly fd: number;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
const memoryBytes = (stg: Stg): number => sum(stg.files.map(({ extent }) => extent.bytes));
const connectionsOf = (stg: Stg): number =>
  sum(stg.files.map(({ extent }) => extent.connectionCount));

/** What people may read of an STG: see memory/register.ts. */
interface RegisterFile {
  readonly fd: number;
  /** Where it is mapped in the segment. */
  readonly offset: number;
  readonly bytes: number;
}

interface AttachedHost {
  readonly id: number;
  readonly fd: number;
  readonly who: Credentials;
  readonly name: string;
  readonly stg: Stg;
  readonly member: number;
  readonly ringSlot: number;
  readonly attachedAt: Date;
}

export class StorageArray implements ArrayControl {
  readonly #options: ArrayOptions;
  readonly #segmentBytes: number;
  readonly #instance = randomBytes(16);
  readonly #startedAt = new Date();
  readonly #startedMs = performance.now();
  readonly #stgs = new Map<string, Stg>();
  readonly #entries: (Stg | undefined)[] = new Array(STG_DIRECTORY_ENTRIES).fill(undefined);
  readonly #boards: (Stg | undefined)[];
  readonly #hosts = new Map<number, AttachedHost>();
  readonly #ringSlots = new Array<boolean>(MEMBER_RING_SLOTS).fill(false);
  readonly #attach: AttachServer;
  #segment: Segment | undefined;
  #directors: DirectorPool | undefined;
  #claimers: Piscina | undefined;
  #superblockFd = -1;
  #registerFd = -1;
  #hostNext = 1;
  #generationNext = 1;

  constructor(options: ArrayOptions) {
    this.#options = options;
    const { boards, boardBytes } = options.configuration;
    this.#boards = new Array(boards).fill(undefined);
    const needed = SEGMENT_MAP.stgs + boards * (boardBytes + STG_ALIGN_BYTES) + 2 ** 30;
    this.#segmentBytes = Math.ceil(needed / SEGMENT_BYTES_DEFAULT) * SEGMENT_BYTES_DEFAULT;
    if (this.#segmentBytes > constants.MAX_LENGTH) {
      throw stpError(
        'ENOMEM',
        `boards of ${boards * boardBytes} bytes need a segment of ${this.#segmentBytes} bytes, and a buffer of Node ` +
          `${process.version} has at most ${constants.MAX_LENGTH}; use fewer boards, or a newer Node for stpd and its hosts`,
      );
    }
    this.#attach = new AttachServer({
      onAttach: (fd, request, who) => this.#onAttach(fd, request, who),
      onAnswered: (fd, sent) => {
        if (!sent) this.#onHostGone(fd);
      },
      onGone: (fd) => this.#onHostGone(fd),
    });
  }

  // --- life ---------------------------------------------------------------------------------

  async start(): Promise<void> {
    const segment = Segment.reserve(this.#segmentBytes);
    this.#segment = segment;
    this.#superblockFd = native().memfdCreate('stpd-superblock');
    native().claim(this.#superblockFd, SEGMENT_MAP.superblockBytes);
    segment.map(SEGMENT_MAP.superblock, this.#superblockFd, SEGMENT_MAP.superblockBytes, true);
    /* From now on nobody, not even by reopening the file, can map it writable. */
    native().seal(this.#superblockFd, true);
    this.#openRegister(segment);
    this.#writeSuperblock(segment);
    this.#directors = new DirectorPool({
      segment,
      count: this.#options.configuration.directors,
      onMemberGone: (notice) => this.#onMemberGone(notice),
      onFatal: this.#options.onFatal,
    });
    this.#claimers = new Piscina({
      filename: workerFile('claim-memory').href,
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: 1000,
    });
    this.#attach.listen(join(this.#options.runDirectory, ATTACH_SOCKET));
  }

  /** Before the directors, who have their records in it. */
  #openRegister(segment: Segment): void {
    const { arrayRegister, arrayRegisterBytes } = SEGMENT_MAP;
    this.#registerFd = this.#claimRegister('stpd-register', arrayRegister, arrayRegisterBytes);
    new ArrayRegister(segment, arrayRegister).open(this.#instance, native().wallClockUs());
  }

  /** A memory file of zeros that only stpd maps; its descriptor. */
  #claimRegister(name: string, offset: number, bytes: number): number {
    const fd = native().memfdCreate(name);
    try {
      native().claim(fd, bytes);
      native().seal(fd, false);
      this.#segment?.map(offset, fd, bytes, true);
    } catch (error) {
      native().closeDescriptor(fd);
      throw error;
    }
    return fd;
  }

  #writeSuperblock(segment: Segment): void {
    const { at } = SUPERBLOCK;
    const { boards, boardBytes, directors } = this.#options.configuration;
    segment.u8.set(Buffer.from(layoutHash(), 'hex'), at.layoutHash);
    segment.u8.set(this.#instance, at.instance);
    segment.storeCounter(at.segmentBytes, this.#segmentBytes);
    segment.storeCounter(at.boardBytes, boardBytes);
    segment.store(at.layoutVersion, LAYOUT_VERSION);
    segment.store(at.boardCount, boards);
    segment.store(at.directorCount, directors);
    segment.store(at.pid, process.pid);
    segment.store(at.state, 1);
    /* More bits than a number has. */
    segment.store(at.magic + 4, Number(SUPERBLOCK_MAGIC >> 32n));
    segment.store(at.magic, Number(SUPERBLOCK_MAGIC & 0xffffffffn));
  }

  async stop(): Promise<void> {
    this.#segment?.store(SUPERBLOCK.at.state, 2);
    this.#attach.closeDoor();
    // Before hosts hear of it: a director would take who lets go of it for dead, and their streams,
    // which are to go on, with them.
    await this.#directors?.stop();
    this.#attach.close();
    await this.#claimers?.destroy();
    this.#directors = undefined;
    this.#claimers = undefined;
    for (const stg of this.#stgs.values()) this.#destroy(stg);
    this.#stgs.clear();
    for (const fd of [this.#superblockFd, this.#registerFd]) {
      if (fd >= 0) native().closeDescriptor(fd);
    }
    this.#superblockFd = -1;
    this.#registerFd = -1;
    this.#segment?.store(SUPERBLOCK.at.state, 3);
  }

  get #running(): { segment: Segment; directors: DirectorPool; claimers: Piscina } {
    const segment = this.#segment;
    const directors = this.#directors;
    const claimers = this.#claimers;
    if (segment === undefined || directors === undefined || claimers === undefined) {
      throw stpError('ESHUTDOWN', 'the array is not running');
    }
    return { segment, directors, claimers };
  }

  // --- STGs ---------------------------------------------------------------------------------

  async createStg(request: StgRequest): Promise<StgReport> {
    const { directors } = this.#running;
    if (this.#stgs.has(request.name)) {
      throw stpError(
        'EEXIST',
        `STG '${request.name}' exists already; see 'stpctl stg show ${request.name}'`,
      );
    }
    const { boardCount } = request;
    const boards = this.#freeBoards(boardCount, `STG '${request.name}' needs ${boardCount} boards`);
    const entry = this.#entries.indexOf(undefined);
    if (entry < 0)
      throw stpError('ENOSPC', `the array has its ${this.#entries.length} STGs already`);
    const geometry = stgGeometry({
      boardCount: request.boardCount,
      boardBytes: this.#options.configuration.boardBytes,
      connectionCount: request.connections ?? STG_CONNECTIONS_DEFAULT,
      memberCount: STG_MEMBERS_DEFAULT,
      boardMax: this.#boards.length,
      connectionMax: STG_CONNECTIONS_MAX,
    });
    const offset = this.#place(geometry.bytes);
    const register = this.#claimStgRegister(request, entry, geometry.memberCount);
    const stg: Stg = {
      entry,
      name: request.name,
      generation: this.#generationNext++,
      director: entry % this.#options.configuration.directors,
      boards,
      offset,
      geometry,
      files: [
        {
          extent: firstExtent(geometry, offset),
          fd: native().memfdCreate(`stpd-stg-${request.name}`),
        },
      ],
      register,
      portsMax: request.ports,
      allowUids: request.allowUids,
      allowGids: request.allowGids,
      hosts: new Set(),
      deleting: false,
    };
    /* Taken before the first await: the next request sees them as used. */
    this.#stgs.set(stg.name, stg);
    this.#entries[entry] = stg;
    for (const board of stg.boards) this.#boards[board] = stg;
    try {
      await this.#claimFile(stg.files[0] as StgFile);
      await directors.ask(stg.director, {
        op: 'stg-open',
        stg: entry,
        name: stg.name,
        generation: stg.generation,
        offset,
        geometry,
        portsMax: stg.portsMax,
        register: stg.register.offset,
      });
    } catch (error) {
      this.#forget(stg);
      throw error;
    }
    this.#publish(stg);
    return this.stgReport(stg.name);
  }

  /** So many free boards, or ENOSPC with the numbers. */
  #freeBoards(wanted: number, who: string): number[] {
    const free = this.#boards.flatMap((stg, number) => (stg === undefined ? [number] : []));
    if (free.length >= wanted) return free.slice(0, wanted);
    throw stpError(
      'ENOSPC',
      `${who}, ${free.length} of ${this.#boards.length} are free; ` +
        'delete an STG, or start stpd with more --boards',
    );
  }

  async #claimFile({ extent, fd }: StgFile): Promise<void> {
    const { segment, claimers } = this.#running;
    const { offset, bytes } = extent;
    await claimers.run({ segment: segment.number, fd, offset, bytes });
    native().seal(fd, false);
  }

  #claimStgRegister(request: StgRequest, entry: number, members: number): RegisterFile {
    const { bytes } = registerGeometry(members, request.ports);
    assert(bytes <= SEGMENT_MAP.stgRegisterBytesMax, 'a register fits into its place');
    const offset = SEGMENT_MAP.stgRegisters + entry * SEGMENT_MAP.stgRegisterBytesMax;
    return {
      fd: this.#claimRegister(`stpd-register-${request.name}`, offset, bytes),
      offset,
      bytes,
    };
  }

  /** The lowest gap of the range that holds so many bytes. */
  #place(bytes: number): number {
    const taken = [...this.#stgs.values()]
      .flatMap((stg) => stg.files)
      .map(({ extent }) => [extent.offset, extent.offset + extent.bytes] as const)
      .sort((a, b) => a[0] - b[0]);
    let at: number = SEGMENT_MAP.stgs;
    for (const [start, end] of taken) {
      if (start - at >= bytes) break;
      at = Math.ceil(end / STG_ALIGN_BYTES) * STG_ALIGN_BYTES;
    }
    if (at + bytes > this.#segmentBytes) {
      throw stpError(
        'ENOSPC',
        `the segment of ${this.#segmentBytes} bytes has no room for ${bytes} more`,
      );
    }
    return at;
  }

  /**
   * Adds boards and connection slots in a further file. Hosts map it as they come to it; streams
   * between two that have use it at once, the others go on with what they have.
   */
  async growStg(name: string, request: GrowRequest): Promise<StgReport> {
    const { directors } = this.#running;
    const stg = this.#find(name);
    if (stg.deleting) throw stpError('EBUSY', `STG '${name}' is being deleted`);
    const file = this.#nextFile(stg, request);
    try {
      await this.#claimFile(file);
      await directors.ask(stg.director, {
        op: 'stg-grow',
        stg: stg.entry,
        extent: file.extent,
        fd: file.fd,
      });
    } catch (error) {
      this.#segment?.revoke(file.extent.offset, file.extent.bytes);
      native().closeDescriptor(file.fd);
      stg.files.pop();
      for (const board of stg.boards.splice(file.extent.firstBoard)) {
        this.#boards[board] = undefined;
      }
      throw error;
    }
    this.#publish(stg);
    return this.#grown(stg);
  }

  /** Taken before the first await: the next request sees its boards and its place as used. */
  #nextFile(stg: Stg, { boardCount, connections }: GrowRequest): StgFile {
    const { name, files } = stg;
    const last = files.at(-1) as StgFile;
    if (files.length === STG_EXTENTS_MAX) {
      throw stpError(
        'ENOSPC',
        `STG '${name}' has grown ${files.length - 1} times, which is the most; make a new one, or grow by more at a time`,
      );
    }
    const has = connectionsOf(stg);
    if (has + connections > STG_CONNECTIONS_MAX) {
      throw stpError(
        'ENOSPC',
        `STG '${name}' has ${has} connections and was to get ${connections} more; an STG has at most ${STG_CONNECTIONS_MAX}`,
      );
    }
    const boards = this.#freeBoards(
      boardCount,
      `STG '${name}' has ${stg.boards.length} boards and was to get ${boardCount} more`,
    );
    const { boardBytes } = stg.geometry;
    const place = (offset: number): StgExtent =>
      nextExtent(last.extent, { offset, boardBytes, boardCount, connectionCount: connections });
    const extent = place(this.#place(place(0).bytes));
    const file = { extent, fd: native().memfdCreate(`stpd-stg-${name}-${files.length}`) };
    files.push(file);
    stg.boards.push(...boards);
    for (const board of boards) this.#boards[board] = stg;
    return file;
  }

  /** The report, after the hosts have had a moment to answer. */
  async #grown(stg: Stg): Promise<StgReport> {
    const deadline = performance.now() + GROW_ANSWER_MS;
    for (;;) {
      const report = await this.stgReport(stg.name);
      if (report.membersBehind.length === 0 || performance.now() > deadline) return report;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  #publish(stg: Stg): void {
    const { segment } = this.#running;
    const at = SUPERBLOCK.at.directory + stg.entry * STG_ENTRY.bytes;
    const field = STG_ENTRY.at;
    segment.store(at + field.generation, stg.generation);
    segment.storeCounter(at + field.offset, stg.offset);
    segment.storeCounter(at + field.bytes, memoryBytes(stg));
    segment.storeCounter(at + field.boardBytes, stg.geometry.boardBytes);
    segment.store(at + field.boardCount, stg.boards.length);
    segment.store(at + field.director, stg.director);
    segment.store(at + field.connectionCount, connectionsOf(stg));
    for (const [i, { extent }] of stg.files.entries()) {
      const of = at + field.extents + i * STG_EXTENT.bytes;
      segment.storeCounter(of + STG_EXTENT.at.offset, extent.offset);
      segment.store(of + STG_EXTENT.at.boardCount, extent.boardCount);
      segment.store(of + STG_EXTENT.at.connectionCount, extent.connectionCount);
    }
    segment.store(at + field.extentCount, stg.files.length);
    segment.store(at + field.memberCount, stg.geometry.memberCount);
    segment.u8.fill(0, at + field.name, at + field.name + 64);
    segment.u8.set(Buffer.from(stg.name), at + field.name);
    for (const board of stg.boards) segment.u8[SUPERBLOCK.at.boardStgs + board] = stg.entry + 1;
    const register = new ArrayRegister(segment, SEGMENT_MAP.arrayRegister);
    register.setBoards(stg.boards);
    register.setStg(stg.entry, {
      generation: stg.generation,
      files: stg.files.map(({ fd }) => fd),
      registerFile: stg.register.fd,
      portsMax: stg.portsMax,
      offset: stg.register.offset,
    });
    segment.store(at + field.state, NUMBERS.STG_LIVE);
  }

  async deleteStg(name: string, force: boolean): Promise<void> {
    const { segment, directors } = this.#running;
    const stg = this.#find(name);
    if (stg.deleting) throw stpError('EBUSY', `STG '${name}' is being deleted already`);
    stg.deleting = true; /* no host is let in from now on */
    const state = SUPERBLOCK.at.directory + stg.entry * STG_ENTRY.bytes + STG_ENTRY.at.state;
    try {
      segment.store(state, NUMBERS.STG_DELETING);
      await directors.ask(stg.director, { op: 'stg-close', stg: stg.entry, force });
    } catch (error) {
      segment.store(state, NUMBERS.STG_LIVE);
      stg.deleting = false;
      throw error;
    }
    for (const host of [...stg.hosts]) this.#attach.dismiss(host.fd);
    segment.store(state, 0);
    for (const board of stg.boards) segment.u8[SUPERBLOCK.at.boardStgs + board] = 0;
    this.#forget(stg);
  }

  #forget(stg: Stg): void {
    this.#destroy(stg);
    this.#stgs.delete(stg.name);
    this.#entries[stg.entry] = undefined;
    for (const board of stg.boards) this.#boards[board] = undefined;
  }

  #destroy(stg: Stg): void {
    for (const { extent, fd } of stg.files) {
      this.#segment?.revoke(extent.offset, extent.bytes);
      native().closeDescriptor(fd);
    }
    if (this.#segment !== undefined) {
      new ArrayRegister(this.#segment, SEGMENT_MAP.arrayRegister).clearStg(stg.entry);
      this.#segment.revoke(stg.register.offset, stg.register.bytes);
    }
    native().closeDescriptor(stg.register.fd);
  }

  #find(name: string): Stg {
    const stg = this.#stgs.get(name);
    if (stg === undefined) {
      throw stpError('ENOENT', `there is no STG '${name}'; see 'stpctl stg list'`);
    }
    return stg;
  }

  // --- hosts --------------------------------------------------------------------------------

  async #onAttach(fd: number, request: AttachRequest, who: Credentials): Promise<AttachAnswer> {
    const { segment, directors } = this.#running;
    if (request.version !== ATTACH_VERSION || request.layoutHash !== layoutHash()) {
      throw stpError(
        'EPROTONOSUPPORT',
        `the host has layout version ${request.layoutVersion} (${request.layoutHash.slice(0, 12)}), ` +
          `stpd ${VERSION} has ${LAYOUT_VERSION} (${layoutHash().slice(0, 12)}); install the same stpd on both`,
      );
    }
    const stg = this.#stgs.get(request.stg);
    const allowed = stg !== undefined && !stg.deleting && mayAttach(stg, who);
    if (stg === undefined || stg.deleting) {
      throw stpError('ENOENT', `there is no STG '${request.stg}'; see 'stpctl stg list'`);
    }
    if (!allowed) {
      throw stpError(
        'EACCES',
        `uid ${who.uid} is not in the access list of STG '${stg.name}'; its owner can make one with --allow-uid or --allow-gid`,
      );
    }
    const ringSlot = this.#ringSlots.indexOf(false);
    if (ringSlot < 0) {
      const { length } = this.#ringSlots;
      throw stpError(
        'ENOBUFS',
        `the array has ${length} of its ${length} hosts; let one leave ('stpctl host list' shows them)`,
      );
    }
    this.#ringSlots[ringSlot] = true;
    const ringOffset = SEGMENT_MAP.memberRings + ringSlot * SEGMENT_MAP.memberRingBytes;
    const id = this.#hostNext++;
    /* Closed unless they are handed on. */
    const descriptors: number[] = [];
    try {
      const ringFd = native().memfdCreate('stpd-ring');
      descriptors.push(ringFd);
      const [theirs, mine] = native().socketPair(false);
      descriptors.push(theirs, mine);
      native().claim(ringFd, SEGMENT_MAP.memberRingBytes);
      segment.map(ringOffset, ringFd, SEGMENT_MAP.memberRingBytes, true);
      native().seal(ringFd, false);
      descriptors.pop(); /* the director's, whatever it answers */
      const added = await directors.ask<MemberAdded>(stg.director, {
        op: 'member-add',
        stg: stg.entry,
        host: id,
        uid: who.uid,
        gid: who.gid,
        pid: who.pid,
        name: request.name,
        ring: ringOffset,
        channel: mine,
      });
      const host: AttachedHost = {
        id,
        fd,
        who,
        name: request.name,
        stg,
        member: added.member,
        ringSlot,
        attachedAt: new Date(),
      };
      this.#hosts.set(id, host);
      stg.hosts.add(host);
      /* Sent by the caller in this turn; the descriptors are closed in the next. */
      setImmediate(() => {
        native().closeDescriptor(ringFd);
        native().closeDescriptor(theirs);
      });
      this.#options.log.info(
        { host: id, pid: who.pid, uid: who.uid, stg: stg.name },
        'host attached',
      );
      const [{ fd: stgFd } = { fd: -1 }, ...further] = stg.files.slice(0, added.extents);
      return {
        message: this.#grant(host, added, ringOffset),
        descriptors: [this.#superblockFd, stgFd, ringFd, theirs, ...further.map(({ fd }) => fd)],
      };
    } catch (error) {
      for (const descriptor of descriptors) native().closeDescriptor(descriptor);
      this.#freeRing(ringSlot);
      throw error;
    }
  }

  #grant(host: AttachedHost, added: MemberAdded, ringOffset: number): object {
    const { stg } = host;
    const { boardCount, boardBytes, connectionCount, memberCount, boardMax, connectionMax } =
      stg.geometry;
    return {
      ok: true,
      host: host.id,
      instance: this.#instance.toString('hex'),
      segmentBytes: this.#segmentBytes,
      superblockBytes: SEGMENT_MAP.superblockBytes,
      stg: {
        name: stg.name,
        generation: stg.generation,
        offset: stg.offset,
        boardCount,
        boardBytes,
        connectionCount,
        memberCount,
        boardMax,
        connectionMax,
        extents: stg.files.slice(1, added.extents).map(({ extent }) => ({
          offset: extent.offset,
          boardCount: extent.boardCount,
          connectionCount: extent.connectionCount,
        })),
      },
      member: added.member,
      memberGeneration: added.generation,
      ringOffset,
      ringBytes: SEGMENT_MAP.memberRingBytes,
    };
  }

  /** The attach socket has ended: the director takes everything back and says so. */
  #onHostGone(fd: number): void {
    for (const host of this.#hosts.values()) {
      if (host.fd !== fd) continue;
      this.#options.log.info({ host: host.id, pid: host.who.pid, stg: host.stg.name }, 'host gone');
      this.#directors
        ?.ask(host.stg.director, {
          op: 'member-remove',
          stg: host.stg.entry,
          member: host.member,
          host: host.id,
        })
        .catch(() => {});
      this.#removeHost(host);
      return;
    }
  }

  /** The director has freed all that the host had; its ring may be used again. */
  #onMemberGone(notice: MemberGone): void {
    const host = this.#hosts.get(notice.host) ?? this.#leaving.get(notice.host);
    if (host === undefined) return;
    if (this.#hosts.has(host.id)) {
      this.#removeHost(host);
      this.#attach.dismiss(host.fd);
    }
    this.#leaving.delete(host.id);
    this.#freeRing(host.ringSlot);
  }

  readonly #leaving = new Map<number, AttachedHost>();

  #removeHost(host: AttachedHost): void {
    this.#hosts.delete(host.id);
    host.stg.hosts.delete(host);
    this.#leaving.set(host.id, host);
  }

  #freeRing(slot: number): void {
    this.#segment?.revoke(
      SEGMENT_MAP.memberRings + slot * SEGMENT_MAP.memberRingBytes,
      SEGMENT_MAP.memberRingBytes,
    );
    this.#ringSlots[slot] = false;
  }

  // --- reports ------------------------------------------------------------------------------

  async #measured(): Promise<Measured[]> {
    return this.#running.directors.reports();
  }

  async arrayReport(): Promise<ArrayReport> {
    const { configuration, runDirectory } = this.#options;
    const measured = await this.#measured();
    const stgs = [...this.#stgs.values()];
    return {
      instance: this.#instance.toString('hex'),
      state: 'serving',
      pid: process.pid,
      version: VERSION,
      layoutVersion: LAYOUT_VERSION,
      layoutHash: layoutHash(),
      startedAt: this.#startedAt.toISOString(),
      uptimeSeconds: Math.round((performance.now() - this.#startedMs) / 1000),
      runDirectory,
      boardsTotal: this.#boards.length,
      boardsUsed: this.#boards.filter((stg) => stg !== undefined).length,
      boardBytes: configuration.boardBytes,
      memoryBytes:
        SEGMENT_MAP.superblockBytes +
        SEGMENT_MAP.arrayRegisterBytes +
        this.#hosts.size * SEGMENT_MAP.memberRingBytes +
        sum(stgs.map(memoryBytes)) +
        sum(stgs.map((stg) => stg.register.bytes)),
      directors: measured.map((report, number) => ({
        number,
        state: 'running',
        load: Math.round(report.load * 1000) / 1000,
        stgs: stgs.filter((stg) => stg.director === number).map((stg) => stg.name),
        commands: report.commands,
      })),
      hosts: this.#hosts.size,
      stgs: stgs.length,
      sockets: sum(measured.map((report) => report.sockets)),
    };
  }

  async boardReports(): Promise<BoardReport[]> {
    const { segment } = this.#running;
    const rows = (await this.#measured()).flatMap((report) => report.stgs);
    const { boardBytes } = this.#options.configuration;
    return this.#boards.map((stg, number) => {
      const pages = boardBytes / PAGE_BYTES;
      const index = stg?.boards.indexOf(number) ?? -1;
      if (stg === undefined || index < 0) {
        return {
          number,
          stg: null,
          bytes: boardBytes,
          pages,
          pagesUsed: 0,
          accesses: 0,
          contended: 0,
          bypassed: 0,
          bytesMoved: 0,
          steals: 0,
        };
      }
      const counters = boardCounters(segment, stg.offset, stg.geometry.boards, index);
      return {
        number,
        stg: stg.name,
        bytes: boardBytes,
        pages,
        pagesUsed: rows.find((row) => row.stg === stg.entry)?.pagesUsed[index] ?? 0,
        accesses: counters.accesses,
        contended: counters.contended,
        bypassed: counters.bypassed,
        bytesMoved: counters.bytes + counters.bypassedBytes,
        steals: counters.steals,
      };
    });
  }

  async stgReports(): Promise<StgReport[]> {
    const rows = (await this.#measured()).flatMap((report) => report.stgs);
    const figures = await this.figures();
    return [...this.#stgs.values()].map((stg) => {
      const row = rows.find((candidate) => candidate.stg === stg.entry);
      const used = sum(row?.pagesUsed ?? []);
      const pagesTotal = (stg.boards.length * stg.geometry.boardBytes) / PAGE_BYTES;
      return {
        name: stg.name,
        generation: stg.generation,
        state: stg.deleting ? 'deleting' : 'live',
        director: stg.director,
        boards: stg.boards,
        memoryBytes: memoryBytes(stg),
        pagesTotal,
        pagesFree: pagesTotal - used,
        ...pagesByUser(figures, stg.name),
        portsUsed: row?.ports ?? 0,
        portsMax: stg.portsMax,
        connectionsUsed: row?.connections ?? 0,
        connectionsMax: connectionsOf(stg),
        members: [...stg.hosts].map((host) => host.id),
        membersBehind: row?.behind ?? [],
        allowUids: stg.allowUids,
        allowGids: stg.allowGids,
      };
    });
  }

  async stgReport(name: string): Promise<StgReport> {
    this.#find(name);
    const report = (await this.stgReports()).find((stg) => stg.name === name);
    if (report === undefined) throw stpError('ENOENT', `STG '${name}' was deleted meanwhile`);
    return report;
  }

  async hostReports(): Promise<HostReport[]> {
    const rows = (await this.#measured()).flatMap((report) => report.hostSockets);
    const figures = new Map((await this.figures()).hosts.map((host) => [host.id, host]));
    return [...this.#hosts.values()].map((host) => ({
      id: host.id,
      pid: host.who.pid,
      uid: host.who.uid,
      gid: host.who.gid,
      name: host.name === '' ? null : host.name,
      stgs: [host.stg.name],
      sockets: rows.find((row) => row.host === host.id)?.sockets ?? 0,
      sendPages: figures.get(host.id)?.sendPages ?? 0,
      heldPages: figures.get(host.id)?.heldPages ?? 0,
      attachedAt: host.attachedAt.toISOString(),
    }));
  }

  // --- read from memory, as a tool beside stpd reads it ---------------------------------------

  async socketReports(): Promise<SocketReport[]> {
    return decodeSockets(this.#running.segment);
  }

  async figures(): Promise<Figures> {
    return decodeFigures(this.#running.segment, { pid: 'self' });
  }

  async trace(name: string, since?: number, slot?: number): Promise<TraceReading> {
    const { segment } = this.#running;
    const place = stgPlace(segment, this.#find(name).entry);
    if (place === undefined) throw stpError('EBUSY', `STG '${name}' is just coming or going`);
    return readTrace(segment, place, native().wallClockUs(), since, slot);
  }
}

type PagesByUser = Pick<
  StgReport,
  'pagesOfConnections' | 'pagesOfHosts' | 'hostPages' | 'connectionPages'
>;

function pagesByUser({ stgs, hosts, sockets }: Figures, name: string): PagesByUser {
  const stg = stgs.find((one) => one.name === name);
  /* A connection is one socket or two, whose lists are the same. */
  const connections = new Map<string, number>();
  for (const { stg: of, end, id, sendPages, receivePages } of sockets) {
    const pages = sendPages + receivePages;
    if (of === name && end !== null && pages > 0) connections.set(id, pages);
  }
  return {
    pagesOfConnections: stg?.pagesOfConnections ?? 0,
    pagesOfHosts: stg?.pagesOfHosts ?? 0,
    hostPages: hosts
      .filter((host) => host.stg === name && host.sendPages + host.heldPages > 0)
      .map(({ id, sendPages, heldPages }) => ({ host: id, sendPages, heldPages }))
      .sort((a, b) => b.sendPages + b.heldPages - a.sendPages - a.heldPages),
    connectionPages: [...connections]
      .map(([id, pages]) => ({ id, pages }))
      .sort((a, b) => b.pages - a.pages)
      .slice(0, CONNECTION_PAGES_SHOWN),
  };
}

/** The user or one of the groups stands in the list. Both lists empty let nobody in. */
function mayAttach(stg: Stg, who: Credentials): boolean {
  return (
    stg.allowUids.includes(who.uid) ||
    stg.allowGids.includes(who.gid) ||
    who.groups.some((group) => stg.allowGids.includes(group))
  );
}
