/**
 * The streaming calls over one established link: send, receive, shut down, close, abort.
 *
 * Invariants:
 * - Nothing is read before a call asks for bytes or poll() for readiness; from then on at most the
 *   stream's high-water mark and one chunk lie here.
 * - send() resolves once the mechanism has taken the bytes (kernel, or array), not before.
 * - The bytes of one send, and of one receiveExactly, are never interleaved with another's.
 * - The peer sees an orderly end only behind whole sends: a send that is given up half-way
 *   (closed, aborted, timed out) resets the connection, so that a torso does not pass for the end.
 *
 * Runs on the thread of its STPConnect.
 */
import { constants } from 'node:os';
import { isCoded, type StpError, stpError } from '../errors.js';
import type { StreamHandle } from '../socket/stp-socket.js';
import { CLOSE_LINGER_MS, RECEIVE_EXACTLY_BYTES_MAX, SEND_SLICE_BYTES } from './bounds.js';
import { checkBytes, checkData, endedEarly, nameOf, shutDown } from './checks.js';
import type { Link } from './endpoint.js';
import type { Transfer } from './hand-over.js';
import { type Limit, Turns, WaitList } from './limit.js';

/** What poll() reports of a descriptor; the numbers of poll(2). */
export const POLLIN = 0x1;
export const POLLOUT = 0x4;
export const POLLERR = 0x8;
export const POLLHUP = 0x10;
export const POLLNVAL = 0x20;

const EMPTY = Buffer.alloc(0);

/** The message without the code in front, which the new error has as well. */
const reasonOf = (e: StpError): string =>
  e.message.startsWith(`${e.code}: `) ? e.message.slice(e.code.length + 2) : e.message;

/** POSIX's code for what Node says; undefined where it only says that the stream is gone. */
function causeCode(cause: Error | undefined): string | undefined {
  if (!isCoded(cause)) return undefined;
  if (cause.code in constants.errno) return cause.code;
  return cause.code.startsWith('ERR_SSL_') ? 'EPROTO' : undefined;
}

export class Channel {
  readonly link: Link;
  /** Woken by whatever may let a waiting call go on. */
  readonly changes = new WaitList();
  readonly #receives = new Turns();
  /** Sends and shutdowns: the end goes out behind the sends that were called before it. */
  readonly #sends = new Turns();
  #sendsUnderWay = 0;
  #failure: StpError | undefined;
  #reading = false;
  #readShut = false;
  #writeShut = false;
  /** The peer's end has been read. */
  #ended = false;
  #closing = false;
  #closed = false;
  /** Given out by stream(): the calls that move bytes are refused. */
  #lent = false;
  readonly #onReadable = (): void => this.changes.wakeAll();

  constructor(link: Link) {
    this.link = link;
    const { duplex } = link;
    duplex.on('error', (error: Error) => this.#fail(error));
    duplex.on('end', () => this.#onEnd());
    duplex.on('close', () => {
      this.#closed = true;
      if (!this.#ended && !this.#closing) this.#fail(undefined);
      this.changes.wakeAll();
    });
    // What has happened between the event that announced the stream and now.
    if (duplex.readableEnded) this.#onEnd();
    if (duplex.closed) {
      this.#closed = true;
      if (!this.#ended) this.#fail(duplex.errored ?? undefined);
    }
  }

  /** Why the stream broke, if it did. */
  get failure(): StpError | undefined {
    return this.#failure;
  }

  /** At least 1 and at most `bytesMax` bytes; empty once the peer has ended its half. */
  async receive(bytesMax: number, limit: Limit): Promise<Buffer> {
    this.#checkBytes(bytesMax, 1, Number.MAX_SAFE_INTEGER, limit.call);
    return this.#inTurn(this.#receives, limit, async () => {
      for (;;) {
        limit.check();
        const chunk = this.#take(bytesMax);
        if (chunk !== undefined) return chunk;
        await this.changes.wait(limit);
      }
    });
  }

  /** Exactly `bytes`. One that gives up (signal, time limit) has taken nothing. */
  async receiveExactly(bytes: number, limit: Limit): Promise<Buffer> {
    this.#checkBytes(bytes, 0, RECEIVE_EXACTLY_BYTES_MAX, limit.call);
    if (bytes === 0) return EMPTY;
    return this.#inTurn(this.#receives, limit, async () => {
      let whole: Buffer | undefined;
      let got = 0;
      for (;;) {
        const chunk = limit.expired === undefined ? this.#take(bytes - got) : undefined;
        if (chunk === undefined) {
          const over = limit.expired ?? limit.blocked;
          if (over !== undefined) {
            if (whole !== undefined) this.#putBack(whole.subarray(0, got));
            throw over;
          }
          await this.changes.wait(limit);
        } else if (chunk.length === 0) {
          throw endedEarly(this.link.remote, got, bytes, limit.call);
        } else if (chunk.length === bytes) {
          return chunk;
        } else {
          whole ??= Buffer.allocUnsafe(bytes);
          whole.set(chunk, got);
          got += chunk.length;
          if (got === bytes) return whole;
        }
      }
    });
  }

  /**
   * All of `data`, which must not change before this resolves. Under a soft limit what the stream
   * takes in time, at least a byte; that is a copy, which goes on its way after this has resolved.
   * @returns bytes taken
   */
  async send(data: Uint8Array, limit: Limit): Promise<number> {
    checkData(data, limit.call);
    this.#checkLent(limit.call);
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#writeShut) throw shutDown(this.link.remote, limit.call);
    this.#sendsUnderWay++;
    try {
      return await this.#inTurn(this.#sends, limit, async () => {
        limit.check();
        let at = 0;
        while (at < data.length) {
          if (at > 0 && limit.expired !== undefined) throw this.#giveUp(limit.expired);
          if (at > 0 && limit.blocked !== undefined) return at;
          const slice = data.subarray(at, at + SEND_SLICE_BYTES);
          if (limit.isSoft) await this.#writeSoftly(slice, limit);
          else await this.#write(slice, limit);
          at += slice.length;
        }
        return at;
      });
    } finally {
      this.#sendsUnderWay--;
    }
  }

  async shutdown(how: 'read' | 'write' | 'both', limit: Limit): Promise<void> {
    this.#checkLent(limit.call);
    if (how !== 'write') this.#shutdownRead();
    if (how !== 'read') await this.#shutdownWrite(limit);
  }

  /**
   * Orderly, unless a send waits or bytes lie unread. Resolves when the descriptor below is gone.
   * @param lingerMs how long what is unsent may take, then it is a reset; 0 is one at once
   */
  async close(lingerMs: number | null): Promise<void> {
    if (!this.#closing) {
      this.#closing = true;
      // As a kernel does: with unread bytes it is a reset, also where they lie here already.
      const unread = this.link.duplex.readableLength > 0 && !this.#readShut && !this.#lent;
      if (this.#sendsUnderWay > 0 || lingerMs === 0 || unread) this.link.reset();
      else this.link.endSoon();
    }
    if (this.#closed) return;
    const linger = setTimeout(() => this.link.reset(), lingerMs ?? CLOSE_LINGER_MS);
    await new Promise<void>((resolve) => this.link.duplex.once('close', resolve));
    clearTimeout(linger);
  }

  abort(): void {
    this.#closing = true;
    if (!this.#closed) this.link.reset();
  }

  /** The stream itself, paused; close() and abort() stay with the descriptor. */
  lend(call: string): Link['duplex'] {
    this.#checkIdle(call);
    this.#lent = true;
    this.#stopReading();
    return this.link.duplex;
  }

  /** After it, nothing here touches the stream any more; bytes read ahead go with the handle. */
  detach(call: string): StreamHandle {
    this.#checkIdle(call);
    this.#stopReading();
    const handle = this.link.detach();
    this.#closing = true;
    return handle;
  }

  /** As detach, of either mechanism. */
  handOver(call: string): Transfer {
    this.#checkIdle(call);
    this.#stopReading();
    const given = this.link.handOver();
    this.#closing = true;
    return given;
  }

  /** What could be done without waiting. Asks for bytes, as a receive would, when IN is wanted. */
  readiness(events: number): number {
    const { duplex } = this.link;
    let ready = 0;
    if (this.#failure !== undefined) return POLLERR | POLLHUP | (events & POLLIN);
    if (events & POLLIN && !this.#lent && this.#readable()) ready |= POLLIN;
    if (events & POLLOUT && !this.#writeShut) {
      if (this.#sends.count === 0 && !duplex.writableNeedDrain) ready |= POLLOUT;
    }
    if (this.#ended && this.#writeShut) ready |= POLLHUP;
    return ready;
  }

  #onEnd(): void {
    const ended = (): void => {
      this.#ended = true;
      this.changes.wakeAll();
    };
    const { link } = this;
    // A write under way meets a reset by itself; one behind it could wait for ever.
    if (this.#writeShut || link.confirmEnd === undefined || link.duplex.writableLength > 0) ended();
    else link.confirmEnd((reset) => (reset === undefined ? ended() : this.#fail(reset)));
  }

  #fail(cause: Error | undefined): void {
    if (this.#failure === undefined && !this.#closing) {
      const who = nameOf(this.link.remote);
      const code = causeCode(cause);
      this.#failure =
        code === undefined || !isCoded(cause)
          ? stpError('ECONNRESET', `${who} closed the stream without an end`, 'read')
          : stpError(code, `the stream with ${who} broke: ${reasonOf(cause)}`, cause.syscall);
    }
    this.changes.wakeAll();
  }

  async #inTurn<T>(turns: Turns, limit: Limit, body: () => Promise<T>): Promise<T> {
    const turn = turns.enter();
    try {
      while (!turns.mine(turn)) {
        limit.check();
        await this.changes.wait(limit);
      }
      return await body();
    } finally {
      turns.leave(turn);
      if (turns.count > 0 || turns === this.#sends) this.changes.wakeAll();
    }
  }

  /** undefined: nothing there yet. */
  #take(bytesMax: number): Buffer | undefined {
    this.#checkLent('receive');
    if (!this.#readable()) return undefined;
    if (this.#readShut) return EMPTY;
    const { duplex } = this.link;
    // What came before a failure is still delivered.
    if (duplex.readableLength > 0) {
      const chunk: Buffer | null = duplex.read(Math.min(bytesMax, duplex.readableLength));
      if (chunk !== null) return chunk;
    }
    // An end that was seen stays one, whatever happens to the other half later.
    if (this.#ended) return EMPTY;
    if (this.#failure !== undefined) throw this.#failure;
    return undefined;
  }

  /** True if a receive would not wait: bytes, the end, or a failure. */
  #readable(): boolean {
    if (this.#readShut) return true;
    const { duplex } = this.link;
    if (!this.#reading) {
      this.#reading = true;
      duplex.on('readable', this.#onReadable);
    }
    // read(0) asks the mechanism; behind the last byte it also makes the stream emit its end.
    if (duplex.readableLength === 0) duplex.read(0);
    return duplex.readableLength > 0 || this.#ended || this.#failure !== undefined;
  }

  #stopReading(): void {
    this.link.duplex.off('readable', this.#onReadable);
    this.#reading = false;
  }

  #putBack(chunk: Buffer): void {
    const { duplex } = this.link;
    if (chunk.length > 0 && !duplex.destroyed && !duplex.readableEnded) duplex.unshift(chunk);
  }

  async #write(slice: Uint8Array, limit: Limit): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    let taken = false;
    let broken: Error | null | undefined;
    this.link.duplex.write(slice, (error) => {
      taken = true;
      broken = error;
      if (error) this.#fail(error);
      this.changes.wakeAll();
    });
    while (!taken) {
      if (this.#failure !== undefined) throw this.#failure;
      if (limit.expired !== undefined) throw this.#giveUp(limit.expired);
      // Under a soft limit the slice is a copy: the stream has it, and goes on with it.
      if (limit.blocked !== undefined) return;
      await this.changes.wait(limit);
    }
    // Without a failure of the stream it was our own close or abort that destroyed it.
    if (broken) throw this.#failure ?? limit.expired ?? broken;
  }

  /** Waits for the stream to take more at all; the bytes are the caller's again at once. */
  async #writeSoftly(slice: Uint8Array, limit: Limit): Promise<void> {
    while (this.link.duplex.writableNeedDrain) {
      if (this.#failure !== undefined) throw this.#failure;
      await this.changes.wait(limit);
    }
    await this.#write(Buffer.from(slice), limit);
  }

  /** Ends a send of which a part is on its way. */
  #giveUp(why: StpError): StpError {
    this.#fail(stpError('ECONNRESET', 'reset, because a send was given up half-way', why.syscall));
    this.link.reset();
    return why;
  }

  #shutdownRead(): void {
    if (this.#readShut) return;
    this.#readShut = true;
    this.#stopReading();
    // Discarded, as the peer's window must not stay shut for ever.
    this.link.duplex.resume();
    this.changes.wakeAll();
  }

  async #shutdownWrite(limit: Limit): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#writeShut) return;
    this.#writeShut = true;
    await this.#inTurn(this.#sends, limit, async () => {
      const { duplex } = this.link;
      duplex.end(() => this.changes.wakeAll());
      while (!duplex.writableFinished) {
        limit.check();
        if (this.#failure !== undefined) throw this.#failure;
        await this.changes.wait(limit);
      }
    });
  }

  #checkIdle(call: string): void {
    this.#checkLent(call);
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#receives.count > 0 || this.#sends.count > 0) {
      throw stpError('EBUSY', 'a send or receive on it is still under way', call);
    }
  }

  #checkLent(call: string): void {
    if (this.#lent) {
      throw stpError('EBUSY', 'its stream was given out by stream(): read and write that', call);
    }
  }

  #checkBytes(bytes: number, min: number, max: number, call: string): void {
    this.#checkLent(call);
    checkBytes(bytes, min, max, call);
  }
}
