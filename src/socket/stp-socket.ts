/**
 * A stream socket through the array, with the face of `net.Socket`: the same events in the same
 * order, which test/semantics compares (docs/sockets.md).
 *
 * Bytes go from the caller's buffer into a page and from a page into the reader's buffer: two
 * copies, no system call while both sides are awake. Back-pressure is the window: a write that
 * finds no room arms the ring and goes on when the peer has read. Event loop's thread.
 *
 * Invariant: `#end` is the connection of the latest `connect`; an answer that comes for an earlier
 * one is given back to the director.
 */
import { addAbortSignal, Duplex, type DuplexOptions, Readable } from 'node:stream';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { codeOfErrno, nodeError, stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { EXPECT_US } from '../limits.js';
import { lookNextTurn, runSoon } from '../memory/event-loop.js';
import type { DirectorEvent } from '../memory/member-ring.js';
import {
  RING_CLOSED,
  RING_CONTENDED,
  RING_END,
  RING_NO_PAGE,
  RING_RESET,
  type RingOptions,
  ringError,
} from '../memory/page-ring.js';
import type { SegmentHandle } from '../memory/segment.js';
import { native } from '../native.js';
import {
  type ConnectArguments,
  type ConnectRequest,
  checkFunction,
  checkSocketOptions,
  checkSpin,
  checkTimeout,
  connectForm,
  connectRequest,
  isHere,
  type StpSocketOptions,
} from './arguments.js';
import { checkFileRange, FileTransfer, type FileTransferOptions } from './file-transfer.js';
import type { Host } from './host.js';
import { IdleTimer } from './idle-timer.js';
import { Liveness } from './liveness.js';
import { noPageError, type PagePlace } from './no-page.js';
import { OnRead, type OnReadOptions } from './onread.js';
import { receive, takeReceived } from './receive-slabs.js';
import type { StpServer } from './stp-server.js';
import { type SocketCounters, socketCounters } from './stream-counters.js';
import { AWAITS_BYTES, AWAITS_ROOM, type Peer, type StreamEnd } from './stream-end.js';

/** A stream on its way to a worker thread: post it with `transferList: [handle.port]`. */
export interface StreamHandle {
  readonly segment: SegmentHandle;
  readonly ring: RingOptions;
  readonly pages: PagePlace;
  readonly txCursor: number;
  readonly rxCursor: number;
  /** Bytes that the event loop had read already. */
  readonly leading: Uint8Array;
  readonly localPort: number;
  readonly remotePort: number;
  readonly peer: Peer;
  readonly port: MessagePort;
}

/** What a shorter read counts for, where a turn is bounded. */
const SHORT_READ_BYTES = 65536;
/** A buffer of so many short reads, or more, is taken out of the stream for them. */
const SHORT_READS_MIN = 16;
/** Bytes of one socket before others have their turn: a whole window. */
const TURN_BYTES_MAX = 4 << 20;
/** Chunks that waited together are copied together up to so much, for one native call. */
const GATHER_BYTES_MAX = 65536;

export interface StpAddress {
  readonly port: number;
  readonly family: 'stp';
  /** Name of the STG, where TCP has the interface's address. */
  readonly address: string;
}

/** What `net.Socket` puts in the place of `write` once the peer has ended and so has this side. */
function writeAfterEnd(
  this: StpSocket,
  chunk: unknown,
  encoding?: BufferEncoding | ((error?: Error | null) => void) | null,
  callback?: (error?: Error | null) => void,
): boolean {
  if (!this.writableEnded) {
    return Duplex.prototype.write.call(this, chunk, encoding as BufferEncoding, callback);
  }
  const done = typeof encoding === 'function' ? encoding : callback;
  const error = nodeError(Error, 'EPIPE', 'the peer has ended the stream, and so has this side');
  if (typeof done === 'function') process.nextTick(done, error);
  this.destroy(error);
  return false;
}

function onEnd(this: StpSocket): void {
  if (!this.allowHalfOpen) this.write = writeAfterEnd;
}

/** A write on its way into the array. */
interface Pending {
  readonly chunk: Buffer;
  offset: number;
  readonly done: (error?: Error | null) => void;
}

/** A file on its way into the array, or waiting for its turn. */
interface FileSend {
  readonly transfer: FileTransfer;
  /** Set when its turn has come: the stream's callback. */
  done: ((error?: Error | null) => void) | undefined;
}

/** Of `stream.Readable` and `stream.Writable`, as `net.Socket` uses it to connect again. */
interface Renewable {
  _undestroy(): void;
  readableFlowing: boolean | null;
}

export class StpSocket extends Duplex {
  readonly host: Host;
  connecting = false;
  bytesRead = 0;
  /** Milliseconds; undefined until `setTimeout`. */
  timeout: number | undefined;
  /** The server that accepted it; null for a socket that connects. May be overwritten, as net's. */
  server: unknown = null;
  #listener: StpServer | undefined;
  #end: StreamEnd | undefined;
  #bytesSent = 0;
  /** Those of them that the stream still counts as waiting. */
  #sentOfWrite = 0;
  #pending: Pending | undefined;
  /** By the empty chunk that stands for each in the stream's queue; made by the first. */
  #fileSends: Map<Buffer, FileSend> | undefined;
  #fileReceive: FileTransfer | undefined;
  #wantsRead = false;
  #lent = false;
  /** Until the turn behind the one that brought the connection: nothing is read before. */
  #fresh = false;
  /** The next try of a write, or of a read, that found a board taken. */
  #writeLater: NodeJS.Immediate | undefined;
  #waitsForPage = false;
  /** The queue for pages has just called it. */
  #inTurn = false;
  #readLater: NodeJS.Immediate | undefined;
  /** A ready bit will come with the next bytes: nothing is to be read before it. */
  #rxArmed = false;
  /** And one with the next room. */
  #txArmed = false;
  #onread: OnRead | undefined;
  /** Who has `onread` wants nothing before `resume`, whatever the stream asks for meanwhile. */
  #held = false;
  #aborted = false;
  /** The peer's orderly end was read. */
  #ended = false;
  /** Counts calls of `connect`; 0 for a socket that was neither connected nor accepted. */
  #attempt = 0;
  readonly #signal: AbortSignal | undefined;
  /** Made by the first setTimeout: most sockets have none. */
  #idle: IdleTimer | undefined;
  /** See setSpin; undefined: as the thread does. */
  #spin: number | undefined;
  readonly #liveness: Liveness;
  /** Nothing stands before the next short write. */
  #direct = false;
  readonly #directMax: number;
  /** See `#findPlain`. */
  #isPlain = false;
  /** Taken out of the stream's buffer for short reads, from `#restAt` on; it comes before that. */
  #rest: Buffer | undefined;
  #restAt = 0;

  /** @throws ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
  constructor(host: Host, options: StpSocketOptions = {}) {
    checkSocketOptions(options);
    const { signal, ...rest } = options;
    super({
      ...(rest as DuplexOptions),
      allowHalfOpen: options.allowHalfOpen === true,
      autoDestroy: true,
      emitClose: false /* with hadError: see _destroy */,
    });
    this.host = host;
    this.#directMax = this.writableHighWaterMark;
    this.#onread = OnRead.of(options.onread);
    this.#liveness = new Liveness(host);
    this.#signal = signal;
    this.on('end', onEnd);
    if (signal !== undefined) addAbortSignal(signal, this);
  }

  // --- connecting -------------------------------------------------------------------------------

  /**
   * Connects to a port of the STG, again too once it is closed; 'connect' or 'error' follows. Takes
   * the forms of `net.Socket.connect`.
   * @throws ERR_SOCKET_BAD_PORT, ERR_MISSING_ARGS, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  connect(...args: ConnectArguments): this {
    const { options, callback } = connectForm(args);
    if (callback !== undefined) this.once('connect', callback);
    const request = connectRequest(options);
    if (this.#signal?.aborted === true) return this; /* its error is on its way */
    if (this.destroyed) this.#renew();
    this.#idle?.touch();
    this.connecting = true;
    this.#liveness.open();
    const attempt = ++this.#attempt;
    process.nextTick(() => {
      if (this.connecting && this.#attempt === attempt) this.#askToConnect(request, attempt);
    });
    return this;
  }

  /** A closed socket becomes as a new one. */
  #renew(): void {
    (this as unknown as Renewable)._undestroy();
    if (Object.hasOwn(this, 'write')) Reflect.deleteProperty(this, 'write');
    this.#end = undefined;
    this.bytesRead = 0;
    this.#bytesSent = 0;
    this.#wantsRead = false;
    this.#rxArmed = false;
    this.#txArmed = false;
    this.#aborted = false;
    this.#ended = false;
    this.#isPlain = false;
    this.#lent = false;
    this.#liveness.want(true);
  }

  #askToConnect(request: ConnectRequest, attempt: number): void {
    const { port, host, localPort } = request;
    if (!isHere(host, this.host.stg)) {
      const why = `'${host}' is not in STG '${this.host.stg}': leave the host out, or use TCP`;
      this.destroy(stpError('EHOSTUNREACH', why, 'connect'));
      return;
    }
    native().loopExpect(EXPECT_US);
    this.host.ask({ op: NUMBERS.OP_CONNECT, port, localPort }, (event) =>
      this.#onAnswer(event, request, attempt),
    );
  }

  #onAnswer(event: DirectorEvent, request: ConnectRequest, attempt: number): void {
    const made = event.kind !== 0 && event.status === 0;
    let end = made ? this.host.openEnd(event) : undefined;
    if (!this.connecting || this.#attempt !== attempt) {
      end?.release(end.isTorn());
      return;
    }
    if (end !== undefined && native().ringWasReset(end.rx) === 1) {
      /* As a kernel: who has reset already was never connected to, whatever was sent before. */
      end.release(true);
      end = undefined;
    }
    if (end === undefined) {
      this.destroy(made ? this.#resetError(request) : this.#why(event, request));
      return;
    }
    this.connecting = false;
    this.#adopt(end);
    this.#idle?.touch();
    this.emit('connect');
    this.emit('ready');
    /* As net: the end and a reset are noticed also where nobody has asked for data yet. */
    if (!this.destroyed && !this.#lent && !this.isPaused()) this.read(0);
  }

  #resetError({ port }: ConnectRequest): Error {
    const why = `the peer on port ${port} of STG '${this.stg}' has reset the connection, or is gone`;
    return Object.assign(stpError('ECONNRESET', why, 'connect'), { address: this.stg, port });
  }

  #why(event: DirectorEvent, { port, localPort }: ConnectRequest): Error {
    if (event.kind === 0) {
      return this.host.detached ?? stpError('ENETDOWN', 'the array is gone', 'connect');
    }
    return codeOfErrno(event.status) === 'EADDRINUSE'
      ? this.host.refusal(event, 'bind', localPort)
      : this.host.refusal(event, 'connect', port);
  }

  /** For StpServer: a connection that was accepted. */
  accepted(end: StreamEnd, server: StpServer): void {
    this.#attempt = 1;
    this.#listener = server;
    this.server = server;
    this.#liveness.open();
    this.#adopt(end);
    if (server.pauseOnConnect) (this as unknown as Renewable).readableFlowing = false;
    else this.read(0);
  }

  /**
   * What has come along with the connection is read in the next turn: a program that awaits 'connect',
   * or something in its listener of 'connection', listens by then.
   */
  #adopt(end: StreamEnd): void {
    this.#fresh = true;
    lookNextTurn(() => (this.#end === end ? this.#firstLook(end) : undefined));
    end.onReady = () => this.#onReady();
    end.awaits = () => this.#awaits();
    end.onLost = (error) => this.destroy(error);
    this.#end = end;
    if (this.#spin !== undefined) this.host.setSpin(end, this.#spin);
  }

  /** Returns the first read, if there is something to be read. */
  #firstLook(end: StreamEnd): (() => void) | undefined {
    this.#fresh = false;
    if (!this.#wantsRead || this.destroyed || this.#lent || this.#fileReceive) return undefined;
    this.#rxArmed = native().ringArm(end.rx) === 0;
    return this.#rxArmed ? undefined : () => this.#readSome();
  }

  #awaits(): number {
    let awaits = this.#rxArmed || this.#fileReceive?.armed ? AWAITS_BYTES : 0;
    if (this.#txArmed) awaits |= AWAITS_ROOM;
    for (const { transfer } of this.#fileSends?.values() ?? []) {
      if (transfer.armed) awaits |= AWAITS_ROOM;
    }
    return awaits;
  }

  // --- properties -------------------------------------------------------------------------------

  get localPort(): number | undefined {
    return this.#end?.localPort;
  }

  get remotePort(): number | undefined {
    return this.#end?.remotePort;
  }

  /** Name of the STG, where TCP has the interface's address. */
  get localAddress(): string | undefined {
    return this.#end === undefined ? undefined : this.stg;
  }

  get remoteAddress(): string | undefined {
    return this.localAddress;
  }

  get localFamily(): 'stp' | undefined {
    return this.#end === undefined ? undefined : 'stp';
  }

  get remoteFamily(): 'stp' | undefined {
    return this.localFamily;
  }

  get stg(): string {
    return this.host.stg;
  }

  /** Who is at the other end, attested by stpd. */
  get peer(): Peer | undefined {
    return this.#end?.peer;
  }

  get pending(): boolean {
    return this.#attempt === 0 || this.connecting || this.destroyed;
  }

  /** Deprecated, as net's: use `writableLength`. */
  get bufferSize(): number | undefined {
    return this.pending && !this.connecting ? undefined : this.writableLength;
  }

  /** Bytes written, those included that wait in this process. */
  get bytesWritten(): number {
    return this.#bytesSent + this.writableLength - this.#sentOfWrite;
  }

  get readyState(): 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.connecting) return 'opening';
    if (this.readable && this.writable) return 'open';
    if (this.readable) return 'readOnly';
    if (this.writable) return 'writeOnly';
    return 'closed';
  }

  address(): StpAddress | Record<string, never> {
    const port = this.localPort;
    return port === undefined ? {} : { address: this.stg, family: 'stp', port };
  }

  // --- writing ----------------------------------------------------------------------------------

  /**
   * As `stream.Writable.write`. A short write that nothing stands before goes into the array in one
   * native call, past the stream's queue: with what follows, that queue would see the same.
   */
  // biome-ignore lint/suspicious/noExplicitAny: the signature of stream.Writable
  override write(chunk: any, encoding?: any, callback?: any): boolean {
    const end = this.#end;
    if (
      end === undefined ||
      encoding !== undefined ||
      callback !== undefined ||
      !(chunk instanceof Uint8Array) ||
      chunk.length >= this.#directMax ||
      (!this.#direct && !this.#mayWriteDirectly())
    ) {
      this.#direct = false;
      return super.write(chunk, encoding, callback);
    }
    const bytes = chunk.length;
    const sent = native().ringPut(end.tx, chunk);
    if (sent > 0) {
      this.#bytesSent += sent;
      end.sent();
      this.#idle?.touch();
      if (sent === bytes) return true;
    }
    this.#direct = false;
    return super.write(sent > 0 ? chunk.subarray(sent) : chunk);
  }

  /** Until something is written, corked or ended in another way, or the socket is destroyed. */
  #mayWriteDirectly(): boolean {
    this.#direct =
      this.#pending === undefined &&
      this.writable &&
      this.writableLength === 0 &&
      this.writableCorked === 0 &&
      !this.writableNeedDrain &&
      !this.#fileSends?.size &&
      !this.#lent;
    return this.#direct;
  }

  override cork(): void {
    this.#direct = false;
    super.cork();
  }

  // biome-ignore lint/suspicious/noExplicitAny: the signature of stream.Writable
  override end(...args: any[]): this {
    this.#direct = false;
    return super.end(...args);
  }

  override _write(
    chunk: Buffer,
    _encoding: BufferEncoding,
    done: (error?: Error | null) => void,
  ): void {
    if (this.#end === undefined && !this.connecting) {
      return done(nodeError(Error, 'ERR_SOCKET_CLOSED', 'the socket is not connected'));
    }
    const file = this.#fileSends?.get(chunk);
    if (file !== undefined) return this.#startFile(file, done);
    this.#send({ chunk, offset: 0, done: (error) => this.#written(done, error) });
  }

  #send(pending: Pending): void {
    this.#idle?.touch();
    this.#pending = pending;
    if (this.connecting) this.once('connect', () => this.#pump());
    else this.#pump();
  }

  #written(done: (error?: Error | null) => void, error?: Error | null): void {
    this.#sentOfWrite = 0;
    done(error);
  }

  /** What waited while a write was under way: short chunks go as one. */
  override _writev(
    chunks: { chunk: Buffer; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    if (this.#end === undefined && !this.connecting) {
      return done(nodeError(Error, 'ERR_SOCKET_CLOSED', 'the socket is not connected'));
    }
    let at = 0;
    const next = (error?: Error | null): void => {
      if (at === chunks.length || error) return this.#written(done, error);
      const first = at;
      let bytes = 0;
      const file = this.#fileSends?.get((chunks[first] as { chunk: Buffer }).chunk);
      if (file !== undefined) {
        at++;
        return this.#startFile(file, next);
      }
      do {
        bytes += (chunks[at++] as { chunk: Buffer }).chunk.length;
      } while (
        at < chunks.length &&
        !this.#fileSends?.has((chunks[at] as { chunk: Buffer }).chunk) &&
        bytes + (chunks[at] as { chunk: Buffer }).chunk.length <= GATHER_BYTES_MAX
      );
      const parts = chunks.slice(first, at).map(({ chunk }) => chunk);
      const chunk = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts, bytes);
      this.#send({ chunk, offset: 0, done: next });
    };
    next();
  }

  /**
   * Sends bytes of a file, straight into pages, behind what was written before; what is written
   * meanwhile comes behind them. libuv's pool reads, and no JavaScript touches the bytes.
   * @param fd of a file or a block device; must stay open until the promise settles
   * @param position where in the file; -1: where it stands
   * @param bytes the most to be sent; Infinity for all to its end
   * @returns bytes moved; less than `bytes` only at the end of the file
   * @throws the file's errors (EBADF, EISDIR, EIO, ...), EINVAL (position, bytes, not a file), EPIPE
   *   (after `end`), ENOTCONN, ABORT_ERR: the socket is as before, and what was moved is sent and
   *   counted in `bytesWritten`. What ends the stream (ECONNRESET, EPIPE) is its error too; ECANCELED: destroyed
   */
  async sendFile(
    fd: number,
    position: number,
    bytes: number,
    options: FileTransferOptions = {},
  ): Promise<number> {
    checkFileRange(fd, position, bytes, 'read');
    this.#checkFileUse();
    if (!this.writable) throw stpError('EPIPE', 'this side has ended the stream', 'write');
    const marker = Buffer.alloc(0);
    const transfer = new FileTransfer(
      true,
      { fd, position, bytes, ...options },
      {
        moved: (moved) => {
          this.#bytesSent += moved;
          this.#idle?.touch();
        },
        over: (state) => {
          const done = this.#fileSends?.get(marker)?.done;
          if (done === undefined) return; /* skipped when its turn comes */
          this.#fileSends?.delete(marker);
          if (state < 0) done(this.#writeError(state));
          else done();
        },
      },
    );
    this.#direct = false;
    this.#fileSends ??= new Map();
    this.#fileSends.set(marker, { transfer, done: undefined });
    transfer.listen();
    super.write(marker, () => {
      /* Without its turn where the stream was destroyed; it is cancelled then. */
      this.#fileSends?.delete(marker);
    });
    return transfer.done;
  }

  #startFile(file: FileSend, done: (error?: Error | null) => void): void {
    if (file.transfer.isOver) return done();
    file.done = done;
    this.#idle?.touch();
    const end = this.#end;
    if (end !== undefined) file.transfer.start(end);
    else this.once('connect', () => file.transfer.start(this.#end as StreamEnd));
  }

  #checkFileUse(): void {
    if (this.destroyed || this.#lent || (this.#end === undefined && !this.connecting)) {
      throw stpError('ENOTCONN', 'the socket is not connected');
    }
  }

  #cancelFiles(reason: Error | null): void {
    /* Where there are none, no error is made: its stack costs more than the rest of a destroy. */
    if (this.#fileSends === undefined && this.#fileReceive === undefined) return;
    const error = reason ?? stpError('ECANCELED', 'the socket was destroyed', 'write');
    const receive = this.#fileReceive;
    const sends = this.#fileSends;
    this.#fileReceive = undefined;
    this.#fileSends = undefined;
    for (const { transfer } of sends?.values() ?? []) transfer.cancel(error);
    receive?.cancel(error);
  }

  #pump(): void {
    const pending = this.#pending;
    const end = this.#end;
    if (pending === undefined || end === undefined || this.destroyed || this.#lent) return;
    if (this.#writeLater !== undefined || this.#waitsForPage) return;
    const later = (): void => {
      this.#writeLater = undefined;
      this.#pump();
    };
    for (;;) {
      const left = pending.chunk.length - pending.offset;
      if (left === 0) break;
      const sent = native().ringWrite(end.tx, pending.chunk, pending.offset, left, 0);
      if (sent > 0) {
        pending.offset += sent;
        this.#bytesSent += sent;
        this.#sentOfWrite += sent;
        end.sent();
        this.#idle?.touch();
        continue;
      }
      if (sent === RING_CONTENDED) {
        this.#writeLater = setImmediate(later);
        return;
      }
      if (sent === RING_NO_PAGE) return this.#waitForPage();
      if (sent === 0) {
        const armed = native().ringArm(end.tx);
        this.#txArmed = armed === 0;
        if (this.#txArmed) return;
        if (armed > 0) continue;
        this.#failWrite(armed);
        return;
      }
      this.#failWrite(sent);
      return;
    }
    this.#pending = undefined;
    pending.done();
  }

  /** It holds none: see PageQueue. */
  #waitForPage(): void {
    this.#waitsForPage = true;
    if (this.#inTurn) return;
    this.host.pages.add({
      tryAgain: () => this.#pumpInTurn(),
      onNoPage: (waitedMs) => {
        this.#waitsForPage = false;
        const pending = this.#pending;
        this.#pending = undefined;
        pending?.done(noPageError(this.host.pagePlace, waitedMs));
      },
    });
  }

  /** Returns false if there was no page again. */
  #pumpInTurn(): boolean {
    const before = this.#bytesSent;
    this.#waitsForPage = false;
    this.#inTurn = true;
    this.#pump();
    this.#inTurn = false;
    if (!this.#waitsForPage) return true;
    if (this.#bytesSent === before) return false;
    this.#waitForPage(); /* it has had a page, and used it: behind the others */
    return true;
  }

  #failWrite(result: number): void {
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.done(this.#writeError(result));
  }

  /** As a kernel: behind the peer's end, a reset is nobody's reading any more. */
  #writeError(result: number): Error {
    return ringError(result === RING_RESET && this.#ended ? RING_CLOSED : result, 'write');
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.connecting) {
      this.once('connect', () => this._final(done));
      return;
    }
    if (this.#end === undefined || this.#lent) return done();
    native().ringFinish(this.#end.tx);
    native().loopExpect(EXPECT_US); /* the peer's end */
    /* As a kernel's shutdown: who destroys the socket in this turn sees no 'finish'. */
    runSoon(done);
  }

  // --- reading ----------------------------------------------------------------------------------

  override _read(): void {
    if (this.#held) return;
    this.#wantsRead = true;
    /* Armed: a ready bit comes with what is next. Not here: who reads is still in the middle of it. */
    if (this.#end === undefined || this.#rxArmed || this.#fresh) return;
    process.nextTick(StpSocket.#readSomeOf, this);
  }

  /**
   * As `stream.Readable.read`. Many short reads of a long buffer take it out once: the stream's own
   * way through its list of chunks would cost each of them more than the rest of its journey.
   */
  // biome-ignore lint/suspicious/noExplicitAny: the signature of stream.Readable
  override read(bytes?: number): any {
    if (bytes === 0) return super.read(0);
    if (this.#rest === undefined) {
      if (bytes === undefined || !this.#mayTakeAll(bytes)) return super.read(bytes);
      const all: Buffer | null = super.read();
      if (all === null) return null;
      this.#rest = all;
      this.#restAt = 0;
    }
    const rest = this.#rest;
    const at = this.#restAt;
    if (bytes !== undefined && bytes > 0 && rest.length - at > bytes && this.#isQuiet()) {
      this.#restAt = at + bytes;
      return rest.subarray(at, at + bytes);
    }
    this.#putRestBack();
    return super.read(bytes);
  }

  #mayTakeAll(bytes: number): boolean {
    return (
      bytes > 0 &&
      this.readableLength >= bytes * SHORT_READS_MIN &&
      this.readableFlowing !== true &&
      this.readableEncoding === null &&
      !this.#ended &&
      this.#isQuiet()
    );
  }

  /** `read` emits what it returns for those that listen. */
  #isQuiet(): boolean {
    return this.listenerCount('data') === 0;
  }

  #putRestBack(): void {
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest !== undefined) super.unshift(rest.subarray(this.#restAt));
  }

  override unshift(chunk: unknown, encoding?: BufferEncoding): void {
    this.#putRestBack();
    super.unshift(chunk, encoding);
  }

  override setEncoding(encoding: BufferEncoding): this {
    this.#putRestBack();
    this.#isPlain = false;
    return super.setEncoding(encoding);
  }

  static {
    const { get } = Object.getOwnPropertyDescriptor(Readable.prototype, 'readableLength') as {
      get: () => number;
    };
    Object.defineProperty(StpSocket.prototype, 'readableLength', {
      get(this: StpSocket): number {
        const rest = this.#rest;
        return get.call(this) + (rest === undefined ? 0 : rest.length - this.#restAt);
      },
    });
  }

  static readonly #readSomeOf = (socket: StpSocket): void => socket.#readSome();

  #readSome(): void {
    const end = this.#end;
    if (end === undefined || this.#lent || this.destroyed || this.#fileReceive) return;
    if (this.#fresh) return;
    if (this.#readLater !== undefined || this.#rxArmed) return;
    const onread = this.#onread;
    for (let read = 0; this.#wantsRead; ) {
      /* A producer that keeps up would keep this thread from everything else. */
      if (read >= TURN_BYTES_MAX) return this.#readSoon();
      const taken =
        onread === undefined
          ? receive(end.rx)
          : native().ringTake(end.rx, onread.buffer, 0, onread.buffer.length);
      /* What was read in this turn goes to who awaits it before an error destroys the stream. */
      if (taken < 0 && taken !== RING_END && read > 0) return this.#readSoon();
      if (taken < 0) return this.#onReadState(taken);
      this.#rxArmed = (taken & 1) === 1;
      const got = taken >> 1;
      /* However short they are: each has its callback. */
      read += Math.max(got, SHORT_READ_BYTES);
      if (got > 0) {
        this.bytesRead += got;
        this.#idle?.touch();
        try {
          const more =
            onread === undefined ? this.#deliver(takeReceived(got)) : onread.deliver(got);
          if (!more) {
            this.#wantsRead = false;
            this.#held = onread !== undefined;
          }
        } catch (error) {
          /* Of the application's 'data' listener, if the program goes on after it, so do we. */
          this.#rxArmed = false;
          this.#readSoon();
          throw error;
        }
        if (this.destroyed || this.#lent) return;
      }
      if (this.#rxArmed) return;
    }
  }

  /**
   * From here on as if `onread` had been an option: for accepted sockets, which have no options of
   * their own. The socket must be paused (`pauseOnConnect`), and nothing of it read; `resume` begins.
   * @throws EBUSY, EINVAL (no buffer or no callback)
   */
  readInto(options: OnReadOptions): this {
    if (this.#wantsRead || this.readableLength > 0 || this.readableFlowing !== false) {
      throw stpError('EBUSY', 'the socket is read already; pause it before anything is', 'read');
    }
    const onread = OnRead.of(options);
    if (onread === undefined)
      throw stpError('EINVAL', 'a buffer and a callback are needed', 'read');
    this.#onread = onread;
    return this;
  }

  /**
   * Puts what comes next into a file, straight out of pages; nothing else reads meanwhile, and 'data'
   * goes on behind it. What the stream has read already goes first. libuv's pool writes, and no
   * JavaScript touches the bytes that come out of pages.
   * @param fd of a file or a block device; must stay open until the promise settles
   * @param position where in the file; -1: where it stands
   * @param bytes the most to be taken; Infinity for all to the stream's end
   * @returns bytes moved; less than `bytes` only at the orderly end
   * @throws the file's errors (EBADF, ENOSPC, EIO, ...), EINVAL (position, bytes, not a file),
   *   ENOTCONN, ABORT_ERR, EBUSY (another receiveToFile runs; there is text, or there are bytes that
   *   'data' listeners would get too): the socket is as before, what was moved is in the file and
   *   counted in `bytesRead`, and the rest is still there to be read. ECONNRESET is the
   *   stream's error too; ECANCELED: destroyed
   */
  async receiveToFile(
    fd: number,
    position: number,
    bytes: number,
    options: FileTransferOptions = {},
  ): Promise<number> {
    checkFileRange(fd, position, bytes, 'write');
    this.#checkFileUse();
    if (this.#fileReceive !== undefined) {
      throw stpError('EBUSY', 'another receiveToFile runs: wait for it', 'read');
    }
    if (this.readableLength > 0 && this.listenerCount('data') > 0) {
      throw stpError('EBUSY', "bytes are read already: take the 'data' listeners off", 'read');
    }
    if (this.readableEncoding !== null) {
      throw stpError('EBUSY', 'the stream is read as text (setEncoding)', 'read');
    }
    const range = { fd, position, bytes, ...options };
    const over = (state: number, rest: Buffer): void => {
      if (this.#fileReceive !== transfer) return; /* the socket was destroyed */
      this.#fileReceive = undefined;
      if (rest.length > 0) this.unshift(rest);
      if (state < 0 && !this.#ended) this.#onReadState(state);
      else if (this.#wantsRead) process.nextTick(StpSocket.#readSomeOf, this);
    };
    const moved = (more: number): void => {
      this.bytesRead += more;
      this.#idle?.touch();
    };
    const already = Math.min(bytes, this.readableLength);
    const head = already === 0 ? undefined : (this.read(already) as Buffer);
    const transfer = new FileTransfer(false, range, { moved, over }, head);
    this.#fileReceive = transfer;
    transfer.listen();
    const end = this.#end;
    if (end !== undefined) transfer.start(end);
    else this.once('connect', () => transfer.start(this.#end as StreamEnd));
    return transfer.done;
  }

  override pause(): this {
    if (this.#onread !== undefined) {
      this.#wantsRead = false;
      this.#held = true;
    }
    return super.pause();
  }

  override resume(): this {
    this.#held = false;
    super.resume();
    if (this.#onread !== undefined && !this.#wantsRead) this._read(); /* behind 'resume' */
    return this;
  }

  /** What `push` does for a stream that flows, without its way round by the next tick. */
  #deliver(chunk: Buffer): boolean {
    if (
      !(this.#isPlain || this.#findPlain()) ||
      this.readableFlowing !== true ||
      this.readableLength !== 0 ||
      this.listenerCount('data') === 0
    ) {
      return this.push(chunk);
    }
    this.emit('data', chunk);
    return true;
  }

  /** Bytes, of which the first have gone through `push`. */
  #findPlain(): boolean {
    this.#isPlain = this.readableDidRead && this.readableEncoding === null;
    return this.#isPlain;
  }

  #readSoon(): void {
    this.#readLater = setImmediate(() => {
      this.#readLater = undefined;
      this.#readSome();
    });
  }

  #onReadState(state: number): void {
    if (state === RING_CONTENDED) return this.#readSoon();
    this.#wantsRead = false;
    if (state === RING_END) {
      this.#ended = true;
      this.#putRestBack();
      this.push(null);
      this.read(0); /* 'end' also where nobody reads, as net has it */
    } else this.destroy(ringError(state, 'read'));
  }

  /** Reading comes first, as in libuv: a reset is told as one of reading where somebody reads. */
  #onReady(): void {
    if (this.#lent) return;
    this.#rxArmed = false;
    this.#txArmed = false;
    this.#fileReceive?.ready();
    if (this.#wantsRead) this.#readSome();
    if (this.#fileSends?.size) for (const file of this.#fileSends.values()) file.transfer.ready();
    if (this.#pending === undefined || this.#end === undefined) return;
    if (!this.#waitsForPage) return this.#pump();
    /* Who waits for a page is not armed: the end of the stream is looked for here. */
    const state = native().ringState(this.#end.tx);
    if (state < 0) this.#failWrite(state);
  }

  // --- the end ----------------------------------------------------------------------------------

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#direct = false;
    this.connecting = false;
    this.#idle?.stop();
    this.#stopRetries();
    this.#cancelFiles(error);
    const end = this.#end;
    const pending = this.#pending;
    this.#pending = undefined;
    /* The stream counts the whole chunk as its own until it is called back: see bytesWritten. */
    this.#bytesSent -= this.#sentOfWrite;
    this.#sentOfWrite = 0;
    if (end !== undefined && !this.#lent && end.open) {
      /* As a kernel does: closing with unread bytes resets. */
      end.release(this.#aborted || end.isTorn());
    }
    this.#liveness.close();
    done(error);
    if (this.#attempt === 0) process.nextTick(() => this.emit('close'));
    else runSoon(() => this.#onClosed(error !== null, end !== undefined, pending));
    this.#listener?.onSocketGone();
    this.#listener = undefined;
  }

  /** What net does in the callback of its handle's close. */
  #onClosed(hadError: boolean, connected: boolean, pending: Pending | undefined): void {
    if (pending !== undefined) this.#bytesSent += pending.chunk.length;
    if (connected) {
      pending?.done(stpError('ECANCELED', 'the socket was destroyed', 'write'));
      this.emit('close', hadError);
      return;
    }
    this.emit('close', hadError);
    pending?.done(
      nodeError(
        Error,
        'ERR_SOCKET_CLOSED_BEFORE_CONNECTION',
        'the socket was closed before it was connected',
      ),
    );
  }

  #stopRetries(): void {
    clearImmediate(this.#writeLater);
    clearImmediate(this.#readLater);
    this.#writeLater = undefined;
    this.#readLater = undefined;
  }

  /** Ends writing once everything is written, then destroys. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** Aborts: the peer gets ECONNRESET. One that is not connected is destroyed with an error. */
  resetAndDestroy(): this {
    if (this.#attempt === 0 || this.destroyed) {
      return this.destroy(nodeError(Error, 'ERR_SOCKET_CLOSED', 'the socket is not connected'));
    }
    if (this.connecting) this.once('connect', () => this.#reset());
    else this.#reset();
    return this;
  }

  #reset(): void {
    this.#aborted = true;
    this.destroy();
  }

  /**
   * 'timeout' when nothing has moved for so long.
   * @param ms 0 for never
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  setTimeout(ms: number, onTimeout?: () => void): this {
    if (this.destroyed) return this;
    this.timeout = ms;
    checkTimeout(ms);
    this.#idle ??= new IdleTimer(() => this.emit('timeout'));
    this.#idle.set(ms);
    if (onTimeout === undefined) return this;
    checkFunction(onTimeout, 'callback');
    return ms === 0 ? this.off('timeout', onTimeout) : this.once('timeout', onTimeout);
  }

  ref(): this {
    return this.#want(true);
  }

  /** Does not keep the process alive any more; before `connect`, from the connection on. */
  unref(): this {
    return this.#want(false);
  }

  #want(wanted: boolean): this {
    if (this.#attempt === 0 || this.destroyed) {
      this.once('connect', () => this.#liveness.want(wanted));
    } else this.#liveness.want(wanted);
    return this;
  }

  /** Small writes are never delayed here; kept for programs that ask. */
  setNoDelay(_noDelay?: boolean): this {
    return this;
  }

  /** The peer's death is noticed without probes; kept for programs that ask. */
  setKeepAlive(_enable?: boolean, _initialDelayMs?: number): this {
    return this;
  }

  /** Most bytes in flight from here, 64 KiB to 4 MiB; without effect before it is connected. */
  setWindow(bytes: number): this {
    const end = this.#end;
    if (end?.open && end.tx >= 0) native().ringSetLimit(end.tx, bytes);
    return this;
  }

  /**
   * How long the event loop of this thread may look for more before it sleeps, on account of this
   * socket: it takes the largest budget of the sockets that had something to read or room to write in
   * the last 10 to 20 ms, and below that it adapts. Stays with the socket when it connects again.
   * @param microseconds 0 to 1,000,000; 0: never, null: 50, as without a call
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  setSpin(microseconds: number | null): this {
    checkSpin(microseconds);
    this.#spin = microseconds ?? undefined;
    if (this.#end?.open) this.host.setSpin(this.#end, this.#spin);
    return this;
  }

  /**
   * Whom this socket has woken and what it has waited for since it was connected. What its event loop
   * has found by looking: `host.counters()`.
   * @throws ENOTCONN (not connected, closed, or detached)
   */
  counters(): SocketCounters {
    const end = this.#end;
    if (end === undefined || end.tx < 0) {
      throw stpError('ENOTCONN', 'the socket is not connected, so nothing counts', 'counters');
    }
    return socketCounters(end.tx, end.rx);
  }

  // --- lending ----------------------------------------------------------------------------------

  /**
   * Gives the stream to a worker thread for blocking use. This socket is finished: it emits
   * 'close' when the worker has closed the stream or ended, and keeps the process alive till then.
   * @throws ENOTCONN, EBUSY (writes are still waiting)
   */
  detach(): StreamHandle {
    const end = this.#end;
    if (end === undefined || this.destroyed || this.#lent) {
      throw stpError('ENOTCONN', 'the socket is not connected', 'detach');
    }
    if (this.writableLength > 0 || this.#fileSends?.size || this.#fileReceive) {
      throw stpError('EBUSY', 'writes or files are still waiting', 'detach');
    }
    const parts: Buffer[] = [];
    for (let chunk = this.read(); chunk !== null; chunk = this.read()) parts.push(chunk);
    this.#lent = true;
    this.#direct = false;
    const { port1, port2 } = new MessageChannel();
    const handle: StreamHandle = {
      segment: this.host.segment.handle,
      ring: end.options,
      pages: this.host.pagePlace,
      txCursor: native().ringCursor(end.tx),
      rxCursor: native().ringCursor(end.rx),
      leading: Buffer.concat(parts),
      localPort: end.localPort,
      remotePort: end.remotePort,
      peer: end.peer,
      port: port2,
    };
    end.lend();
    port1.once('close', () => {
      end.release(false);
      this.destroy();
    });
    return handle;
  }
}
