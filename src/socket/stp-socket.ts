/**
 * A stream socket through the array, with the face of `net.Socket`.
 *
 * Bytes go from the caller's buffer into a page and from a page into the reader's buffer: two
 * copies, no system call while both sides are awake. Back-pressure is the window: a write that
 * finds no room arms the ring and goes on when the peer has read. Event loop's thread.
 */
import { Duplex } from 'node:stream';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import type { DirectorEvent } from '../memory/member-ring.js';
import {
  RING_CONTENDED,
  RING_END,
  RING_NO_PAGE,
  type RingOptions,
  ringError,
} from '../memory/page-ring.js';
import type { SegmentHandle } from '../memory/segment.js';
import { native } from '../native.js';
import type { ConnectOptions, Host } from './host.js';
import { IdleTimer } from './idle-timer.js';
import { Liveness } from './liveness.js';
import { receiveAt, receiveRoom, takeReceived } from './receive-slabs.js';
import { type Peer, StreamEnd } from './stream-end.js';

/** As `net`'s option of that name: one buffer for all reads, and no 'data' events. */
export interface OnReadOptions {
  /** Where to read to, or what gives a buffer for each read. */
  readonly buffer: Uint8Array | (() => Uint8Array);
  /** The bytes lie in `buffer[0, bytes)` until it returns; false: no more until `resume()`. */
  readonly callback: (bytes: number, buffer: Uint8Array) => boolean;
}

export interface StpSocketOptions {
  readonly allowHalfOpen?: boolean;
  readonly onread?: OnReadOptions;
}

/** A stream on its way to a worker thread: post it with `transferList: [handle.port]`. */
export interface StreamHandle {
  readonly segment: SegmentHandle;
  readonly ring: RingOptions;
  readonly txCursor: number;
  readonly rxCursor: number;
  /** Bytes that the event loop had read already. */
  readonly leading: Uint8Array;
  readonly localPort: number;
  readonly remotePort: number;
  readonly peer: Peer;
  readonly port: MessagePort;
}

/** Bytes read at once into one buffer. */
const READ_BYTES = 65536;
/** Reads of one socket before others have their turn: a whole window. */
const READS_PER_TURN = 64;
/** A full pool is tried again after this. */
const NO_PAGE_RETRY_MS = 2;

export interface StpAddress {
  readonly port: number;
  readonly family: 'stp';
  /** Name of the STG, where TCP has the interface's address. */
  readonly address: string;
}

/** Who reads into a buffer of the caller. */
class OnRead {
  buffer: Uint8Array;
  readonly #next: (() => Uint8Array) | undefined;
  readonly #callback: OnReadOptions['callback'];

  constructor({ buffer, callback }: OnReadOptions) {
    this.#next = typeof buffer === 'function' ? buffer : undefined;
    this.buffer = typeof buffer === 'function' ? buffer() : buffer;
    this.#callback = callback;
  }

  deliver(bytes: number): boolean {
    const more = this.#callback(bytes, this.buffer);
    if (this.#next !== undefined) this.buffer = this.#next();
    return more !== false;
  }
}

export class StpSocket extends Duplex {
  readonly host: Host;
  connecting = false;
  bytesRead = 0;
  timeout = 0;
  #end: StreamEnd | undefined;
  #bytesSent = 0;
  #pending: { chunk: Buffer; offset: number; done: (error?: Error | null) => void } | undefined;
  #wantsRead = false;
  #lent = false;
  /** The next try of a write, or of a read, that found a page or a board taken. */
  #writeLater: NodeJS.Timeout | NodeJS.Immediate | undefined;
  #readLater: NodeJS.Immediate | undefined;
  /** A ready bit will come with the next bytes: nothing is to be read before it. */
  #rxArmed = false;
  #onread: OnRead | undefined;
  /** Who has `onread` wants nothing before `resume`, whatever the stream asks for meanwhile. */
  #held = false;
  #aborted = false;
  /** Made by the first setTimeout: most sockets have none. */
  #idle: IdleTimer | undefined;
  readonly #liveness: Liveness;

  constructor(host: Host, options: StpSocketOptions) {
    super({ allowHalfOpen: options.allowHalfOpen ?? false, autoDestroy: true, emitClose: true });
    this.host = host;
    this.#onread = options.onread === undefined ? undefined : new OnRead(options.onread);
    this.#liveness = new Liveness(host);
    this.on('end', () => {
      if (!this.allowHalfOpen && !this.writableEnded) this.end();
    });
  }

  // --- connecting -------------------------------------------------------------------------------

  /** For Host.connect. */
  startConnect(options: ConnectOptions): void {
    this.connecting = true;
    this.#liveness.open();
    const { signal } = options;
    const onAbort = (): void => {
      this.destroy(
        signal?.reason instanceof Error ? signal.reason : stpError('ABORT_ERR', 'aborted'),
      );
    };
    if (signal?.aborted) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    this.host
      .command({
        op: NUMBERS.OP_CONNECT,
        port: options.port,
        localPort: options.localPort ?? 0,
      })
      .then(
        (event) => {
          signal?.removeEventListener('abort', onAbort);
          this.#onAnswer(event, options.port);
        },
        (error: Error) => {
          signal?.removeEventListener('abort', onAbort);
          this.connecting = false;
          this.destroy(error);
        },
      );
  }

  #onAnswer(event: DirectorEvent, port: number): void {
    this.connecting = false;
    if (event.status !== 0) {
      this.destroy(this.host.refusal(event, 'connect', port));
      return;
    }
    if (!this.#open(event)) return;
    if (this.destroyed) {
      this.#end?.release(true);
      return;
    }
    this.emit('connect');
    this.emit('ready');
    this.#pump();
    this.#startReading();
  }

  /** For StpServer: an accepted connection. */
  accepted(event: DirectorEvent, paused: boolean): boolean {
    this.#liveness.open();
    if (paused) this.pause();
    if (!this.#open(event)) return false;
    process.nextTick(() => this.#startReading());
    return true;
  }

  #open(event: DirectorEvent): boolean {
    const cable = this.host.cable(event.cable);
    if (cable === undefined) {
      /* The peer died between the director's word and ours. */
      const { connection, generation, end } = event;
      native().connectionAbort(this.host.stgView, connection, end);
      this.host.tell({ op: NUMBERS.OP_CLOSE, connection, generation, backlog: end });
      this.destroy(stpError('ECONNRESET', 'the peer is gone', 'connect'));
      return false;
    }
    const end = new StreamEnd(this.host, event, cable);
    end.onReady = () => this.#onReady();
    end.onLost = (error) => this.destroy(error);
    this.#end = end;
    this.host.addStream(end);
    return true;
  }

  // --- properties -------------------------------------------------------------------------------

  get localPort(): number | undefined {
    return this.#end?.localPort;
  }

  get remotePort(): number | undefined {
    return this.#end?.remotePort;
  }

  get stg(): string {
    return this.host.stg;
  }

  /** Who is at the other end, attested by stpd. */
  get peer(): Peer | undefined {
    return this.#end?.peer;
  }

  get pending(): boolean {
    return this.#end === undefined;
  }

  /** Bytes written, those included that wait in this process. */
  get bytesWritten(): number {
    const waiting =
      this.#pending === undefined ? 0 : this.#pending.chunk.length - this.#pending.offset;
    return this.#bytesSent + waiting + (this.writableLength - (this.#pending?.chunk.length ?? 0));
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
    return port === undefined ? {} : { port, family: 'stp', address: this.stg };
  }

  // --- writing ----------------------------------------------------------------------------------

  /**
   * As `stream.Writable.write`. A short write that nothing stands before goes into the array in one
   * native call, past the stream's queue: with what follows, that queue would see the same.
   */
  // biome-ignore lint/suspicious/noExplicitAny: the signature of stream.Writable
  override write(chunk: any, encoding?: any, callback?: any): boolean {
    if (
      encoding !== undefined ||
      callback !== undefined ||
      this.#end === undefined ||
      this.#pending !== undefined ||
      !(chunk instanceof Uint8Array) ||
      chunk.length >= this.writableHighWaterMark ||
      !this.writable ||
      this.writableLength !== 0 ||
      this.writableCorked !== 0 ||
      this.writableNeedDrain ||
      this.#lent
    ) {
      return super.write(chunk, encoding, callback);
    }
    const bytes = chunk.length;
    const sent = native().ringWrite(this.#end.tx, chunk, 0, bytes, 0);
    if (sent <= 0) return super.write(chunk);
    this.#bytesSent += sent;
    this.#end.sent();
    this.#idle?.touch();
    return sent === bytes || super.write(chunk.subarray(sent));
  }

  override _write(
    chunk: Buffer,
    _encoding: BufferEncoding,
    done: (error?: Error | null) => void,
  ): void {
    this.#pending = { chunk, offset: 0, done };
    if (!this.connecting) this.#pump();
  }

  #pump(): void {
    const pending = this.#pending;
    const end = this.#end;
    if (pending === undefined || end === undefined || this.destroyed || this.#lent) return;
    if (this.#writeLater !== undefined) return;
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
        end.sent();
        continue;
      }
      if (sent === RING_CONTENDED) {
        this.#writeLater = setImmediate(later);
        return;
      }
      if (sent === RING_NO_PAGE) {
        this.#writeLater = setTimeout(later, NO_PAGE_RETRY_MS);
        return;
      }
      if (sent === 0) {
        const armed = native().ringArm(end.tx);
        if (armed === 0) return;
        if (armed > 0) continue;
        this.#failWrite(armed);
        return;
      }
      this.#failWrite(sent);
      return;
    }
    this.#pending = undefined;
    this.#idle?.touch();
    pending.done();
  }

  #failWrite(result: number): void {
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.done(ringError(result, 'write'));
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.connecting) {
      this.once('connect', () => this._final(done));
      return;
    }
    if (this.#end !== undefined && !this.#lent) native().ringFinish(this.#end.tx);
    done();
  }

  // --- reading ----------------------------------------------------------------------------------

  override _read(): void {
    if (this.#held) return;
    this.#wantsRead = true;
    /* Armed: a ready bit comes with what is next. Not here: who reads is still in the middle of it. */
    if (this.#end !== undefined && !this.#rxArmed) process.nextTick(StpSocket.#readSomeOf, this);
  }

  static readonly #readSomeOf = (socket: StpSocket): void => socket.#readSome();

  #readSome(): void {
    const end = this.#end;
    if (end === undefined || this.#lent || this.destroyed) return;
    if (this.#readLater !== undefined || this.#rxArmed) return;
    const onread = this.#onread;
    for (let reads = 0; this.#wantsRead; reads++) {
      /* A producer that keeps up would keep this thread from everything else. */
      if (reads === READS_PER_TURN) return this.#readSoon();
      const into = onread === undefined ? receiveRoom() : onread.buffer;
      const at = onread === undefined ? receiveAt() : 0;
      const bytes = onread === undefined ? READ_BYTES : into.length;
      const taken = native().ringTake(end.rx, into, at, bytes);
      if (taken < 0) return this.#onReadState(taken);
      this.#rxArmed = (taken & 1) === 1;
      const got = taken >> 1;
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
   * @throws EBUSY
   */
  readInto(options: OnReadOptions): this {
    if (this.#wantsRead || this.readableLength > 0 || this.readableFlowing !== false) {
      throw stpError('EBUSY', 'the socket is read already; pause it before anything is', 'read');
    }
    this.#onread = new OnRead(options);
    return this;
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
    if (this.#onread !== undefined && !this.#wantsRead) this._read();
    return super.resume();
  }

  /** What `push` does for a stream that flows, without its way round by the next tick. */
  #deliver(chunk: Buffer): boolean {
    if (
      this.readableFlowing !== true ||
      this.readableLength !== 0 ||
      this.readableEncoding !== null ||
      !this.readableDidRead ||
      this.listenerCount('data') === 0
    ) {
      return this.push(chunk);
    }
    this.emit('data', chunk);
    return true;
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
      this.push(null);
      this.read(0); /* 'end' also where nobody reads, as net has it */
    } else this.destroy(ringError(state, 'read'));
  }

  /** As net: the end and a reset are noticed also where nobody has asked for data yet. */
  #startReading(): void {
    if (this.destroyed || this.#lent) return;
    if (this.#wantsRead) this.#readSome();
    else if (!this.isPaused()) this.read(0);
  }

  #onReady(): void {
    if (this.#lent) return;
    this.#rxArmed = false;
    if (this.#pending !== undefined) this.#pump();
    if (this.#wantsRead) this.#readSome();
    else this.#lookForReset();
  }

  /** A socket that nobody reads still hears of a reset; an orderly end waits until it is read. */
  #lookForReset(): void {
    const end = this.#end;
    if (end === undefined || this.destroyed) return;
    const state = native().ringState(end.rx);
    if (state < 0 && state !== RING_END) this.destroy(ringError(state, 'read'));
  }

  // --- the end ----------------------------------------------------------------------------------

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#idle?.stop();
    const pending = this.#pending;
    this.#pending = undefined;
    const end = this.#end;
    if (end !== undefined && !this.#lent && end.open) {
      /* As a kernel does: closing with unread bytes resets. */
      const unread = this.readableLength > 0 || native().ringState(end.rx) > 0;
      end.release(this.#aborted || unread);
    }
    this.#liveness.close();
    done(error);
    /* The stream calls back what still waits for its turn; the write under way is ours to call. */
    if (pending !== undefined) {
      const reason = error ?? stpError('ECANCELED', 'the socket was destroyed', 'write');
      process.nextTick(() => pending.done(reason));
    }
  }

  /** Ends writing once everything is written, then destroys. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** Aborts: the peer gets ECONNRESET. */
  resetAndDestroy(): this {
    this.#aborted = true;
    return this.destroy();
  }

  setTimeout(ms: number, onTimeout?: () => void): this {
    this.timeout = ms;
    if (onTimeout !== undefined) {
      if (ms === 0) this.off('timeout', onTimeout);
      else this.once('timeout', onTimeout);
    }
    this.#idle ??= new IdleTimer(() => this.emit('timeout'));
    this.#idle.set(ms);
    return this;
  }

  ref(): this {
    this.#liveness.want(true);
    return this;
  }

  unref(): this {
    this.#liveness.want(false);
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
    if (this.writableLength > 0) throw stpError('EBUSY', 'writes are still waiting', 'detach');
    const parts: Buffer[] = [];
    for (let chunk = this.read(); chunk !== null; chunk = this.read()) parts.push(chunk);
    this.#lent = true;
    const { port1, port2 } = new MessageChannel();
    const handle: StreamHandle = {
      segment: this.host.segment.handle,
      ring: end.options,
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
