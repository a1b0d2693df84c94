/**
 * A host: this thread's attachment to an array, and the sockets it has there.
 *
 * Invariants
 *   - What another host can write is never believed: geometry, identity and ports come from the
 *     grant and from the member's own event ring, which only the director writes.
 *   - When stpd dies (`detached`), established streams go on; only new ones are refused.
 * One host belongs to the thread that attached it. A worker may attach for itself, or borrow a
 * stream (`StpSocket.detach`).
 */
import { EventEmitter } from 'node:events';
import { join } from 'node:path';
import type * as z from 'zod';
import { codeOfErrno, isCoded, stpError } from '../errors.js';
import {
  firstExtent,
  nextExtent,
  readyBytes,
  SEGMENT_MAP,
  type StgExtent,
  type StgGeometry,
  stgGeometry,
} from '../layout/geometry.js';
import { layoutHash } from '../layout/hash.js';
import {
  LAYOUT_VERSION,
  MEMBER,
  MEMBER_RING,
  NUMBERS,
  STG_HEADER,
  SUPERBLOCK,
} from '../layout/tables.js';
import {
  ATTACH_MESSAGE_BYTES_MAX,
  LAZY_BELL_MS,
  PAGE_TIMEOUT_MS,
  PAGE_TIMEOUT_MS_MAX,
  POLL_US_MAX,
  SAFETY_PERIOD_MS,
} from '../limits.js';
import { addressWords } from '../memory/address-words.js';
import {
  addSource,
  blockingTurn,
  countHealed,
  dropCable,
  loopCounters,
  RING_READY,
  removeSource,
  SourceBudgets,
  setPollBudget,
  throwLater,
  watchCable,
} from '../memory/event-loop.js';
import {
  type Command,
  commandOf,
  type DirectorEvent,
  MemberRing,
  noEvent,
} from '../memory/member-ring.js';
import { Segment } from '../memory/segment.js';
import { type CopyChoice, type LoopSourceOptions, native } from '../native.js';
import { resolveRunDirectory } from '../run-directory.js';
import { type ConnectArguments, connectForm, type StpSocketOptions } from './arguments.js';
import {
  ATTACH_DESCRIPTORS,
  ATTACH_VERSION,
  type AttachGrant,
  attachAnswer,
  channelMessage,
} from './attach-protocol.js';
import { releaseIdlePages } from './idle-pages.js';
import { lackText } from './lack.js';
import type { PagePlace } from './no-page.js';
import { PageQueue } from './page-queue.js';
import { attachReasons, lacking } from './reason.js';
import { StpServer, type StpServerOptions } from './stp-server.js';
import { StpSocket } from './stp-socket.js';
import { StreamEnd } from './stream-end.js';

/** Which array and STG to join. */
export interface AttachOptions {
  /** Run directory of the array; `STPD_RUN_DIR` and the defaults of `stpd` where absent. */
  readonly runDirectory?: string;
  /** Name of the STG to join. */
  readonly stg: string;
  /** Shown in `stpctl host list`; up to 255 characters. */
  readonly name?: string;
  /** Milliseconds until an stpd that does not answer is given up; 5000 by default. */
  readonly timeoutMs?: number;
  /**
   * Milliseconds until a write that finds no free page in the STG fails with ENOBUFS, 0 to a day;
   * 30,000 by default, 0 waits without end.
   */
  readonly pageTimeoutMs?: number;
}

/** Of a host's thread and process, since they began. */
export interface HostCounters {
  /** Looks of the thread's event loop before it slept: such that found work, and such in vain. */
  readonly pollHits: number;
  readonly pollMisses: number;
  /** Work that nobody has announced and only the timer of a second has found; expected: 0. */
  readonly safetyFirings: number;
  /** How this process copies 16 KiB and more into pages, and what its probe measured. */
  readonly copy: CopyChoice;
}

type GrownWord = Extract<z.infer<typeof channelMessage>, { grown: unknown }>['grown'];

/** Who listens on a port: gets what the director brings. */
export interface HostListener {
  onIncoming(event: DirectorEvent): void;
  /** stpd is gone: nobody brings connections any more. */
  onLost(): void;
  close(): unknown;
}

/** A TCP connection as `stpctl socket list` shows it. */
export interface NetworkEntry {
  readonly localPort: number;
  readonly remotePort: number;
  readonly remoteAddress: string;
  /** Why it does not go through the array: a REASON_ number. */
  readonly reason: number;
}

/** POLLIN and POLLRDHUP of poll(2). */
const POLL_OWN = 0x2001;
const READABLE = 1;
const DISCONNECT = 4;

interface Attachment {
  readonly pageTimeoutMs: number;
  readonly fd: number;
  readonly runDirectory: string;
  readonly grant: AttachGrant;
  readonly descriptors: number[];
}

/** Waits until the descriptor is readable or the time is over. */
function readable(fd: number, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const watch = native().watchStart(fd, READABLE | DISCONNECT, () => done(true));
    const timer = setTimeout(() => done(false), timeoutMs);
    native().watchRef(watch, true);
    function done(result: boolean): void {
      clearTimeout(timer);
      native().watchStop(watch);
      resolve(result);
    }
  });
}

async function ask(options: AttachOptions): Promise<Attachment> {
  const runDirectory = resolveRunDirectory(options.runDirectory);
  const path = join(runDirectory, 'attach.sock');
  let fd: number;
  try {
    fd = native().unixConnect(path);
  } catch (error) {
    if (!isCoded(error)) throw error;
    if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
      throw lacking(
        NUMBERS.REASON_NO_STPD,
        stpError(
          error.code,
          `no stpd serves ${runDirectory}; start it with: stpd start --run-dir ${runDirectory}`,
          'attach',
        ),
      );
    }
    const { REASON_NO_ACCESS, REASON_NO_ANSWER, REASON_NONE } = NUMBERS;
    throw lacking(
      error.code === 'EACCES'
        ? REASON_NO_ACCESS
        : error.code === 'EAGAIN'
          ? REASON_NO_ANSWER
          : REASON_NONE,
      error,
    );
  }
  try {
    const request = {
      op: 'attach',
      version: ATTACH_VERSION,
      layoutVersion: LAYOUT_VERSION,
      layoutHash: layoutHash(),
      stg: options.stg,
      name: options.name ?? '',
    };
    if (!native().sendMessage(fd, Buffer.from(JSON.stringify(request)), [])) {
      throw lacking(
        NUMBERS.REASON_NO_ANSWER,
        stpError('EAGAIN', `stpd on ${runDirectory} takes no message`, 'attach'),
      );
    }
    const timeoutMs = options.timeoutMs ?? 5000;
    if (!(await readable(fd, timeoutMs))) {
      throw lacking(
        NUMBERS.REASON_NO_ANSWER,
        stpError(
          'ETIMEDOUT',
          `stpd on ${runDirectory} did not answer within ${timeoutMs} ms; see 'stpd status'`,
          'attach',
        ),
      );
    }
    const message = native().receiveMessage(fd, ATTACH_MESSAGE_BYTES_MAX);
    if (message === undefined || message.data.length === 0) {
      throw lacking(
        NUMBERS.REASON_NO_STPD,
        stpError('ECONNRESET', `stpd on ${runDirectory} closed the attach socket`, 'attach'),
      );
    }
    const answer = attachAnswer.parse(JSON.parse(message.data.toString()));
    if (!answer.ok) {
      const { code, message: why } = answer;
      throw lacking(attachReasons[code] ?? NUMBERS.REASON_NONE, stpError(code, why, 'attach'));
    }
    if (message.fds.length !== ATTACH_DESCRIPTORS + answer.stg.extents.length) {
      for (const extra of message.fds) native().closeDescriptor(extra);
      throw stpError('EPROTO', `stpd sent ${message.fds.length} descriptors`, 'attach');
    }
    const { pageTimeoutMs = PAGE_TIMEOUT_MS } = options;
    return { fd, runDirectory, grant: answer, descriptors: message.fds, pageTimeoutMs };
  } catch (error) {
    native().closeDescriptor(fd);
    throw error;
  }
}

/**
 * Attaches this thread to an array and joins one STG. Reserves 4 GiB or more of address space until
 * the process ends; a process can do so 1024 times, so attach once and keep the host. Any thread.
 * @throws ENOENT or ECONNREFUSED (no stpd there, or no such STG), EACCES (not in the STG's access
 *   list), EPROTONOSUPPORT (another layout), ETIMEDOUT, ENOBUFS (the STG has its hosts), EINVAL
 *   (STPD_COPY, pageTimeoutMs), ERR_STPD_NATIVE (the addon does not load)
 */
export async function attach(options: AttachOptions): Promise<Host> {
  if (!native().copyProbe()) {
    throw stpError(
      'EINVAL',
      `STPD_COPY is '${process.env.STPD_COPY}'; it may be auto, cached or streaming`,
      'attach',
    );
  }
  const { pageTimeoutMs = 0 } = options;
  if (
    !Number.isInteger(pageTimeoutMs) ||
    pageTimeoutMs < 0 ||
    pageTimeoutMs > PAGE_TIMEOUT_MS_MAX
  ) {
    throw stpError(
      'EINVAL',
      `pageTimeoutMs is ${pageTimeoutMs}; it may be 0 to ${PAGE_TIMEOUT_MS_MAX}`,
      'attach',
    );
  }
  const attachment = await ask(options);
  const { grant, descriptors } = attachment;
  const [superblock, stgFile, ringFile, channel, ...further] = descriptors as [
    number,
    number,
    number,
    number,
    ...number[],
  ];
  try {
    const geometry = stgGeometry(grant.stg);
    const segment = Segment.reserve(grant.segmentBytes);
    native().verifySealed(superblock, grant.superblockBytes);
    native().verifySealed(stgFile, geometry.bytes);
    native().verifySealed(ringFile, grant.ringBytes);
    segment.map(SEGMENT_MAP.superblock, superblock, grant.superblockBytes, false);
    segment.map(grant.stg.offset, stgFile, geometry.bytes, true);
    segment.map(grant.ringOffset, ringFile, grant.ringBytes, true);
    const extents = [firstExtent(geometry, grant.stg.offset)];
    for (const [i, file] of grant.stg.extents.entries()) {
      const extent = nextExtent(extents.at(-1) as StgExtent, {
        ...file,
        boardBytes: geometry.boardBytes,
      });
      native().verifySealed(further[i] as number, extent.bytes);
      segment.map(extent.offset, further[i] as number, extent.bytes, true);
      extents.push(extent);
    }
    const hash = Buffer.from(
      segment.u8.subarray(SUPERBLOCK.at.layoutHash, SUPERBLOCK.at.layoutHash + 32),
    );
    if (hash.toString('hex') !== layoutHash()) {
      throw lacking(
        NUMBERS.REASON_OTHER_VERSION,
        stpError('EPROTONOSUPPORT', 'the superblock carries another layout', 'attach'),
      );
    }
    return new Host(attachment, segment, geometry, extents, channel);
  } catch (error) {
    native().closeDescriptor(channel);
    native().closeDescriptor(attachment.fd);
    throw error;
  } finally {
    for (const fd of [superblock, stgFile, ringFile, ...further]) native().closeDescriptor(fd);
  }
}

/** The hosts of this thread: one hook on its exit ends all their streams in order. */
const openHosts = new Set<Host>();
let exitHook = false;

function letGoAtExit(host: Host): void {
  openHosts.add(host);
  if (exitHook) return;
  exitHook = true;
  process.once('exit', () => {
    for (const open of openHosts) open.letGo();
  });
}

interface HostEvents {
  /** stpd is gone; established streams go on. */
  detached: [error: Error];
}

/**
 * A thread's attachment to one STG. It stands for the module `node:net`: `connect`, `createServer`,
 * `Socket` and `Server` take what its own take. Only the thread that attached may call it.
 */
export class Host extends EventEmitter<HostEvents> {
  /** Number of the host in its array, as `stpctl host list` shows it. */
  readonly hostId: number;
  /** Name of the STG. */
  readonly stg: string;
  /** Of the array. */
  readonly runDirectory: string;
  /** All of the array that this host may see; views of it are for the few who know the layout. */
  readonly segment: Segment;
  /** Where things lie in the STG's first file. */
  readonly geometry: StgGeometry;
  /** Process-wide number of the STG's native view. */
  readonly stgView: number;
  readonly member: number;
  readonly memberGeneration: number;
  /** What it has mapped of the STG: its files, in their order. */
  readonly #extents: StgExtent[];
  /** Further files are mapped one after the other. */
  #growing: Promise<void> = Promise.resolve();
  readonly #sourceAt: Omit<LoopSourceOptions, 'summaryBytes' | 'bitsBytes'>;
  readonly #ring: MemberRing;
  readonly #channel: number;
  readonly #directorSleep: number;
  /** Segment offset: connects wait for what this host accepts. */
  readonly #hurry: number;
  #source: number;
  readonly #budgets: SourceBudgets;
  readonly #channelCable: number;
  readonly #attachFd: number;
  /** Owns the attach socket: closed with this thread, however it ends. */
  readonly #attachCable: number;
  #watches: number[];
  #detached: Error | undefined;
  #closed = false;
  #seq = 1;
  #socketNumber = 1;
  readonly #answers = new Map<number, (event: DirectorEvent) => void>();
  readonly #unsent: Command[] = [];
  readonly #streams = new Map<number, StreamEnd>();
  readonly #servers = new Map<number, HostListener>();
  /** The director's number of a cable, and ours. */
  readonly #cables = new Map<number, number>();
  /** For sockets: those that wait for a page. */
  readonly pages: PageQueue;
  /** Where this host's streams find pages, and how long they look. */
  readonly pagePlace: PagePlace;
  /** Commands lie in the ring for which the director has not been rung. */
  #unrung = false;
  #bellTimer: NodeJS.Timeout | undefined;
  #safetyTimer: NodeJS.Timeout | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #references = 0;
  #socketClass: Host['Socket'] | undefined;
  #serverClass: Host['Server'] | undefined;

  constructor(
    attachment: Attachment,
    segment: Segment,
    geometry: StgGeometry,
    extents: StgExtent[],
    channel: number,
  ) {
    super();
    const { grant } = attachment;
    this.hostId = grant.host;
    this.stg = grant.stg.name;
    this.runDirectory = attachment.runDirectory;
    this.segment = segment;
    this.geometry = geometry;
    this.member = grant.member;
    this.memberGeneration = grant.memberGeneration;
    this.stgView = native().stgOpen(segment.number, grant.stg.offset, geometry);
    for (const extent of extents.slice(1)) native().stgGrow(this.stgView, extent);
    this.#extents = extents;
    this.#attachFd = attachment.fd;
    this.#attachCable = native().cableOpen(attachment.fd);
    const { pageTimeoutMs } = attachment;
    this.pages = new PageQueue(pageTimeoutMs);
    this.pagePlace = { stg: this.stg, view: this.stgView, pageTimeoutMs };
    this.#ring = new MemberRing(segment, grant.ringOffset);
    this.#directorSleep = grant.ringOffset + MEMBER_RING.at.directorSleep;
    this.#hurry = grant.ringOffset + MEMBER_RING.at.hurry;
    this.#channel = channel;
    this.#channelCable = native().cableOpen(channel);
    const at = grant.stg.offset;
    this.#sourceAt = {
      segment: segment.number,
      sleep: at + geometry.members + this.member * MEMBER.bytes + MEMBER.at.sleep,
      summary: at + geometry.readySummary + this.member * geometry.readySummaryBytes,
      bits: at + geometry.readyBits + this.member * geometry.readyBitsBytes,
      ringTail: grant.ringOffset + MEMBER_RING.at.eventTail,
      ringSeen: 0,
      pollers: at + geometry.header + STG_HEADER.at.pollers,
      member: at + geometry.members + this.member * MEMBER.bytes,
    };
    this.#source = this.#addSource();
    this.#budgets = new SourceBudgets(this.#source);
    this.#watches = [
      native().watchStart(channel, READABLE | DISCONNECT, () => this.#onChannel(true)),
      native().watchStart(attachment.fd, READABLE | DISCONNECT, () => this.#onAttach()),
    ];
    /* A host of the STG may have spoiled our sleep word, also before the first stream. */
    native().loopSafety(true);
    letGoAtExit(this);
  }

  /** Looks at the ready bits of the connections that there are, not of all there may be. */
  #addSource(): number {
    const { bits, summary } = readyBytes(this.connectionsMax);
    return addSource({ ...this.#sourceAt, summaryBytes: summary, bitsBytes: bits }, (index) =>
      index === RING_READY ? this.#onEvents() : this.#streams.get(index)?.onReady(),
    );
  }

  /** Connection slots of the STG, as far as this host has mapped them. */
  get connectionsMax(): number {
    const last = this.#extents.at(-1) as StgExtent;
    return last.firstConnection + last.connectionCount;
  }

  /**
   * What this thread's event loop and this process have counted; all hosts of a thread say the same.
   * What one stream has waited for: `BlockingStream.counters`, and `stpctl socket list`.
   */
  counters(): HostCounters {
    return { ...loopCounters(), copy: native().copyChoice() };
  }

  /**
   * Longest look of this thread's event loop before it sleeps, microseconds: 50 by default. Below it
   * the loop adapts: hits double it, misses halve it, down to none. 0 never looks. Holds for all hosts
   * of the thread; a stream or socket may have its own (`setSpin`).
   * @param microseconds 0 to 1000000
   * @throws EINVAL
   */
  setPollBudget(microseconds: number): void {
    if (!(microseconds >= 0 && microseconds <= POLL_US_MAX)) {
      throw stpError('EINVAL', `a poll budget is 0 to ${POLL_US_MAX} µs: ${microseconds}`);
    }
    setPollBudget(microseconds);
  }

  // --- calls ----------------------------------------------------------------------------------

  /**
   * Connects to a port of the STG; 'connect' or 'error' follows. Takes the forms of `net.connect`.
   * @throws ERR_SOCKET_BAD_PORT, ERR_MISSING_ARGS, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  connect(...args: ConnectArguments): StpSocket {
    const { options, callback } = connectForm(args);
    const socket = new StpSocket(this, options);
    if (options.timeout) socket.setTimeout(options.timeout);
    return socket.connect(options, callback);
  }

  /** As `net.createConnection`: the same as `connect`. */
  createConnection(...args: ConnectArguments): StpSocket {
    return this.connect(...args);
  }

  /** As `net.createServer`: the options may be left out. */
  createServer(
    options?: StpServerOptions | ((socket: StpSocket) => void) | null,
    onConnection?: (socket: StpSocket) => void,
  ): StpServer {
    return new StpServer(this, options, onConnection);
  }

  /** For programs that make a socket before they connect it, as `new net.Socket`. */
  get Socket(): new (
    options?: StpSocketOptions,
  ) => StpSocket {
    const host = this;
    this.#socketClass ??= class Socket extends StpSocket {
      constructor(options?: StpSocketOptions) {
        super(host, options);
      }
    };
    return this.#socketClass;
  }

  /** For programs that say `new net.Server`. */
  get Server(): new (
    ...args: Parameters<Host['createServer']>
  ) => StpServer {
    const host = this;
    this.#serverClass ??= class Server extends StpServer {
      constructor(...args: Parameters<Host['createServer']>) {
        super(host, ...args);
      }
    };
    return this.#serverClass;
  }

  /**
   * Reserves a port for `listen` or as `localPort`, until `unbind` or the host's end.
   * @param port 1 to 65535, or 0 for a dynamic one, 32768 and above
   * @returns the port
   * @throws EADDRINUSE, ENOBUFS (the STG's ports are used up), ENETDOWN
   */
  async bind(port: number): Promise<number> {
    const event = await this.command({ op: NUMBERS.OP_BIND, port });
    if (event.status !== 0) throw this.refusal(event, 'bind', port);
    return event.localPort;
  }

  /** Gives back a port that `bind` reserved; of one that was not, nothing happens. @throws ENETDOWN */
  async unbind(port: number): Promise<void> {
    await this.command({ op: NUMBERS.OP_UNBIND, port });
  }

  /**
   * Every stream ends in order, then the host leaves the array. Streams that workers have are reset;
   * if there are any, the host leaves when the last of them is back. Twice does nothing.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    for (const server of [...this.#servers.values()]) server.close();
    for (const stream of [...this.#streams.values()]) {
      if (stream.lent) stream.abort();
      else stream.onLost();
    }
    this.letGo();
    this.#closed = true;
    openHosts.delete(this);
    this.#fail(
      lacking(NUMBERS.REASON_NOT_HERE, stpError('ECANCELED', 'the host was closed', 'attach')),
    );
    for (const watch of this.#watches) native().watchStop(watch);
    removeSource(this.#source);
    for (const cable of this.#cables.values()) dropCable(cable);
    this.#cables.clear();
    this.pages.close();
    clearTimeout(this.#bellTimer);
    clearInterval(this.#safetyTimer);
    clearInterval(this.#keepAlive);
    if (this.#streams.size === 0) this.#hangUp();
  }

  /** From here on the director gives pages and slots of this host to others. */
  #hangUp(): void {
    native().cableClose(this.#channelCable);
    native().cableClose(this.#attachCable);
    native().stgClose(this.stgView);
    this.#revoke();
  }

  /** Its memory goes back; what still points there reads zeros. */
  #revoke(): void {
    for (const { offset, bytes } of this.#extents) this.segment.revoke(offset, bytes);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // --- for sockets and servers ------------------------------------------------------------------

  /** One command to the director and its answer. Rejects with ENETDOWN when stpd is gone. */
  command(fields: Partial<Command> & { op: number }): Promise<DirectorEvent> {
    return new Promise((resolve, reject) => {
      if (this.#detached !== undefined) return reject(this.#detached);
      this.ref();
      this.ask(fields, (event) => {
        this.unref();
        if (event.kind === 0 && this.#detached !== undefined) reject(this.#detached);
        else resolve(event);
      });
    });
  }

  /**
   * A command for who cannot wait for a promise. `onAnswer` is called once, with an event of kind 0
   * when no answer can come any more; it must not throw.
   */
  ask(fields: Partial<Command> & { op: number }, onAnswer: (event: DirectorEvent) => void): void {
    if (this.#detached !== undefined) return onAnswer(noEvent);
    const seq = this.#seq;
    this.#seq = (this.#seq % 0xffffffff) + 1;
    this.#answers.set(seq, onAnswer);
    const command = commandOf(fields);
    command.seq = seq;
    this.#write(command);
  }

  /** A command that has no answer. */
  tell(fields: Partial<Command> & { op: number }): void {
    if (this.#detached === undefined && !this.#closed) this.#write(commandOf(fields));
  }

  /**
   * Shows a TCP connection of this process in `stpctl socket list`. Unlisted, and no worse, where
   * the STG's share of slots for it is used up or stpd is gone.
   * @returns takes it off the list; may be called at any time, and twice
   */
  listNetwork(entry: NetworkEntry): () => void {
    let slot: { connection: number; generation: number } | undefined;
    let gone = false;
    const close = (): void => {
      if (slot !== undefined) this.tell({ op: NUMBERS.OP_CLOSE, ...slot, backlog: 0 });
      slot = undefined;
      gone = true;
    };
    const [address0, address1, address2, address3] = addressWords(entry.remoteAddress);
    const { localPort, remotePort: port, reason } = entry;
    const words = { port, localPort, reason, address0, address1, address2, address3 };
    this.ask(
      { op: NUMBERS.OP_NETWORK_OPEN, ...words },
      ({ status, connection, generation, kind }) => {
        if (kind !== NUMBERS.EVENT_NETWORK_OPENED || status !== 0) return;
        slot = { connection, generation };
        if (gone) close();
      },
    );
    return close;
  }

  /**
   * A command that has no answer and for which a sleeping director is not woken at once: the next
   * command that rings, or a timer, takes it along.
   * SYNC: the command, then `hurry`; pairs with the director, which writes `hurry` and looks at the
   * ring once more before it sleeps.
   */
  tellLater(fields: Partial<Command> & { op: number }): void {
    if (this.#detached !== undefined || this.#closed) return;
    const command = commandOf(fields);
    const full = this.#unsent.length > 0 || !this.#ring.writeCommand(command);
    if (full) return this.#write(command);
    if (this.segment.load(this.#hurry) !== 0) return this.#ringDirector();
    this.#unrung = true;
    this.#bellTimer ??= setTimeout(() => {
      this.#bellTimer = undefined;
      if (this.#unrung && !this.#closed && this.#detached === undefined) this.#ringDirector();
    }, LAZY_BELL_MS).unref();
  }

  /** Takes along what waits for a timer or the event loop: a thread that blocks has neither. */
  hurry(): void {
    if (this.#closed || this.#detached !== undefined) return;
    if (this.#unsent.length > 0) this.#writeUnsent();
    else if (this.#unrung) this.#ringDirector();
  }

  newSocketNumber(): number {
    return this.#socketNumber++;
  }

  addServer(number: number, server: HostListener): void {
    this.#servers.set(number, server);
  }

  removeServer(number: number): void {
    this.#servers.delete(number);
  }

  addStream(stream: StreamEnd): void {
    this.#streams.set(stream.key, stream);
    this.#budgets.set(stream.key, undefined, this.#streams.size);
    if (this.#safetyTimer === undefined) {
      native().loopSafety(true);
      this.#safetyTimer = setInterval(() => this.#lookAgain(), SAFETY_PERIOD_MS).unref();
    }
  }

  /** For StpSocket: how long the loop may look on its account; undefined: as the thread does. */
  setSpin(stream: StreamEnd, microseconds: number | undefined): void {
    if (!this.#closed) this.#budgets.set(stream.key, microseconds, this.#streams.size);
  }

  /** Our end of a connection that the director made; undefined if the peer has died meanwhile. */
  openEnd(event: DirectorEvent): StreamEnd | undefined {
    const cable = this.cable(event.cable);
    if (cable === undefined) {
      this.refuse(event);
      return undefined;
    }
    const end = new StreamEnd(this, event, cable);
    this.addStream(end);
    return end;
  }

  forget(stream: StreamEnd): void {
    if (this.#streams.get(stream.key) === stream) {
      this.#streams.delete(stream.key);
      if (!this.#closed) this.#budgets.set(stream.key, undefined, this.#streams.size);
    }
    const { connection, generation, end } = stream.options;
    this.tellLater({ op: NUMBERS.OP_CLOSE, connection, generation, backlog: end });
    if (this.#streams.size === 0 && this.#closed) this.#hangUp();
  }

  /**
   * One turn without the event loop, for a thread that blocks: waits until the director or a peer
   * has something for this host (which is dealt with then), a descriptor is ready, or the time is
   * over. Sockets of this host that live on the event loop are served meanwhile.
   * @param watched descriptors and their poll(2) events, in turn
   * @param spinUs how long it looks before it sleeps
   * @returns what came of each descriptor
   */
  waitTurn(timeoutMs: number, watched: readonly number[], spinUs: number): number[] {
    this.hurry();
    releaseIdlePages();
    const own = this.#closed || this.#detached !== undefined ? [] : [this.#channel, this.#attachFd];
    const entries = new Int32Array((own.length + watched.length / 2) * 3);
    for (const [i, fd] of own.entries()) entries.set([fd, POLL_OWN], i * 3);
    for (let i = 0; i < watched.length; i += 2) {
      entries.set([watched[i] as number, watched[i + 1] as number], (own.length + i / 2) * 3);
    }
    blockingTurn(timeoutMs, entries, spinUs);
    const ready = (i: number): number => entries[i * 3 + 2] as number;
    if (own.length > 0 && ready(0) !== 0) this.#onChannel(true);
    if (own.length > 0 && ready(1) !== 0) this.#onAttach();
    return Array.from({ length: watched.length / 2 }, (_, i) => ready(own.length + i));
  }

  /** Our number of the cable that the director gave `number` to. */
  cable(number: number): number | undefined {
    if (!this.#cables.has(number)) this.#onChannel();
    return this.#cables.get(number);
  }

  ref(): void {
    /* A timer and not the attach socket: streams outlive stpd. Kept, since connections come and go. */
    if (this.#keepAlive === undefined) this.#keepAlive = setInterval(() => {}, 0x7fffffff);
    else if (this.#references === 0) this.#keepAlive.ref();
    this.#references++;
  }

  unref(): void {
    if (--this.#references === 0) this.#keepAlive?.unref();
  }

  refusal(event: DirectorEvent, syscall: string, port: number): Error {
    const code = codeOfErrno(event.status);
    const why: Record<string, string> = {
      ECONNREFUSED: `nobody listens on port ${port} of STG '${this.stg}'`,
      EADDRINUSE: `port ${port} of STG '${this.stg}' is taken`,
      EINVAL: `port ${port} cannot be used so`,
      ENOBUFS: lackText(event, this.stg, port),
      EADDRNOTAVAIL: lackText(event, this.stg, port),
    };
    const error = lacking(
      event.reason,
      stpError(code, why[code] ?? `refused for port ${port} of STG '${this.stg}'`, syscall),
    );
    error.address = this.stg;
    if (port > 0) error.port = port;
    return error;
  }

  // --- the director's side --------------------------------------------------------------------

  #write(command: Command): void {
    if (this.#unsent.length > 0 || !this.#ring.writeCommand(command)) {
      if (this.#unsent.push(command) === 1) setImmediate(() => this.#writeUnsent());
      return;
    }
    this.#ringDirector();
  }

  #ringDirector(): void {
    this.#unrung = false;
    native().wordWake(this.segment.number, this.#directorSleep, this.#channelCable);
  }

  #writeUnsent(): void {
    if (this.#closed || this.#detached !== undefined) return;
    while (this.#unsent.length > 0 && this.#ring.writeCommand(this.#unsent[0] as Command)) {
      this.#unsent.shift();
    }
    this.#ringDirector();
    if (this.#unsent.length > 0) setImmediate(() => this.#writeUnsent());
  }

  #onEvents(): void {
    for (;;) {
      const event = this.#ring.readEvent();
      if (event === undefined) return;
      if (event.kind === NUMBERS.EVENT_INCOMING) {
        const server = this.#servers.get(event.socket);
        try {
          if (server === undefined) this.refuse(event);
          else server.onIncoming(event);
        } catch (error) {
          throwLater(error);
        }
        if (this.#closed) return;
        continue;
      }
      const answer = this.#answers.get(event.seq);
      this.#answers.delete(event.seq);
      try {
        answer?.(event);
      } catch (error) {
        throwLater(error); /* of the application's listener */
      }
      if (this.#closed) return;
    }
  }

  /** A connection that nobody here takes: for a listener or a connect that was given up. */
  refuse(event: DirectorEvent): void {
    const { connection, generation, end, peerMember } = event;
    const cable = this.cable(event.cable) ?? 0;
    native().connectionAbort(this.stgView, connection, end, peerMember, cable);
    this.tell({ op: NUMBERS.OP_CLOSE, connection, generation, backlog: end });
  }

  /**
   * Cables of new peers come here; bells only wake; its end is the end of the director.
   * @param once one message will do: the watch calls again for the next
   */
  #onChannel(once = false): void {
    if (this.#closed || this.#detached !== undefined) return;
    for (;;) {
      let message: { data: Buffer; fds: number[] } | undefined;
      try {
        message = native().receiveMessage(this.#channel, ATTACH_MESSAGE_BYTES_MAX);
      } catch (error) {
        /* No descriptor was free here to take a cable: its connection fails, the others go on. */
        if (isCoded(error) && error.code === 'EMSGSIZE') continue;
        return this.#onDetached();
      }
      if (message === undefined) return;
      if (message.data.length === 0 && message.fds.length === 0) return this.#onDetached();
      if (message.data.length === 1) {
        if (once) return; /* a bell */
        continue;
      }
      const word = channelMessage.parse(JSON.parse(message.data.toString()));
      if ('deleted' in word) return this.#onDeleted();
      if ('grown' in word) {
        const [fd = -1] = message.fds;
        this.#growing = this.#growing
          .then(() => this.#onGrown(word.grown, fd))
          .catch((error: Error) => this.#cannotGrow(error));
        continue;
      }
      const { cable } = word;
      const [mine, other] = message.fds.map((fd) => native().cableOpen(fd)) as [number, number?];
      this.#cables.set(cable, mine);
      watchCable(mine, () => this.#onCableEnd(cable, mine));
      if (other !== undefined) {
        /* Connected to itself: both ends are ours. */
        this.#cables.set(-cable, other);
        watchCable(other, () => {});
      }
    }
  }

  /** The STG is no more: its memory goes back at once, what still points there reads zeros. */
  #onDeleted(): void {
    const error = lacking(
      NUMBERS.REASON_NO_STG,
      stpError('ENETDOWN', `STG '${this.stg}' was deleted`, 'attach'),
    );
    for (const stream of [...this.#streams.values()]) stream.onReady();
    for (const cable of this.#cables.values()) native().cableEnd(cable);
    for (const stream of [...this.#streams.values()]) {
      if (!stream.lent) {
        stream.onLost(stpError('ECONNRESET', `STG '${this.stg}' was deleted`, 'read'));
        stream.release(true);
      }
    }
    this.#leave(error);
    this.#revoke();
  }

  /**
   * The STG has a further file. Others give this host its pages and slots only after it has said
   * here that they are mapped, so a map that fails costs nothing but that.
   */
  async #onGrown(word: GrownWord, fd: number): Promise<void> {
    if (this.#closed || this.#detached !== undefined) return native().closeDescriptor(fd);
    const before = this.#extents.at(-1) as StgExtent;
    const extent = nextExtent(before, { ...word, boardBytes: this.geometry.boardBytes });
    const { offset, bytes } = extent;
    try {
      native().verifySealed(fd, bytes);
      const overlaps = this.#extents.some(
        (e) => offset < e.offset + e.bytes && e.offset < offset + bytes,
      );
      if (word.extent !== this.#extents.length || offset < SEGMENT_MAP.stgs || overlaps) {
        throw stpError('EPROTO', `stpd sent a file that does not fit STG '${this.stg}'`, 'attach');
      }
    } catch (error) {
      native().closeDescriptor(fd);
      throw error;
    }
    await native().mapLater(this.segment.number, offset, fd, bytes, true);
    if (this.#closed || this.#detached !== undefined) {
      this.segment.revoke(offset, bytes);
      return;
    }
    native().stgGrow(this.stgView, extent);
    this.#extents.push(extent);
    removeSource(this.#source);
    this.#source = this.#addSource();
    this.#budgets.move(this.#source, this.#streams.size);
    this.tell({ op: NUMBERS.OP_GREW, connection: this.#extents.length });
  }

  /** The host goes on with what it has; stpctl shows that it is behind. */
  #cannotGrow(error: Error): void {
    process.emitWarning(
      `STG '${this.stg}' has grown, and this host cannot map it: ${error.message}. It goes on with the memory it has`,
      { code: 'ENOMEM' },
    );
  }

  #onAttach(): void {
    if (this.#closed || this.#detached !== undefined) return;
    try {
      const message = native().receiveMessage(this.#attachFd, ATTACH_MESSAGE_BYTES_MAX);
      if (message === undefined || message.data.length > 0) return;
    } catch {
      /* reset: the same */
    }
    this.#onDetached();
  }

  #onDetached(): void {
    try {
      this.#onEvents(); /* its last words are as good as the others */
    } catch {
      /* a spoiled ring says nothing */
    }
    this.#leave(
      lacking(
        NUMBERS.REASON_NO_STPD,
        stpError(
          'ENETDOWN',
          `stpd on ${this.runDirectory} is gone; established streams go on, new ones need a running stpd`,
          'attach',
        ),
      ),
    );
  }

  #leave(error: Error): void {
    this.#fail(error);
    for (const watch of this.#watches) native().watchStop(watch);
    this.#watches = [];
    native().cableClose(this.#attachCable);
    for (const server of [...this.#servers.values()]) server.onLost();
    this.emit('detached', error);
  }

  /** Why the host can make no new connections, if it cannot. */
  get detached(): Error | undefined {
    return this.#detached;
  }

  /** Every command that waits gets the reason. */
  #fail(error: Error): void {
    this.#detached ??= error;
    this.#unsent.length = 0;
    const waiting = [...this.#answers.values()];
    this.#answers.clear();
    for (const answer of waiting) answer(noEvent);
  }

  #onCableEnd(number: number, cable: number): void {
    this.#cables.delete(number);
    native().cableClose(cable);
    for (const stream of [...this.#streams.values()]) {
      if (stream.cable === cable) stream.onReady();
    }
  }

  // --- timers -----------------------------------------------------------------------------------

  /** A host of the STG may have spoiled a wait word: nobody hangs longer than two of these. */
  #lookAgain(): void {
    if (this.#streams.size === 0) {
      /* Here, and not when the last one goes: the next may be just about to come. */
      clearInterval(this.#safetyTimer);
      this.#safetyTimer = undefined;
    }
    for (const stream of this.#streams.values()) {
      if (stream.lookAgain()) countHealed();
    }
  }

  /** Every stream that no worker has ends in order; for this file's exit hook too. */
  letGo(): void {
    for (const stream of [...this.#streams.values()]) {
      /* A borrower may be filling a page: its slot is let go when it is back, or by our death. */
      if (stream.lent) continue;
      const unread = stream.rx >= 0 && native().ringState(stream.rx) > 0;
      stream.release(unread);
    }
  }
}
