/**
 * A stream for a worker thread: calls that block, and pages in place.
 *
 * Waiting is native, in slices of 50 ms that return to JavaScript, so that `process.exit`,
 * uncaught exceptions and `worker.terminate()` work while a call blocks. The thread that owns the
 * socket need not run meanwhile: the peer's bells and its death are seen here.
 *
 * One thread at a time for each direction. The views of `reserve` and `peek` lie in shared memory
 * and are valid until `commit` or `consume`.
 */
import { writeSync } from 'node:fs';
import { stpError } from '../errors.js';
import { PAGE_BYTES, WINDOW_BYTES } from '../layout/tables.js';
import { PAGES_AT_ONCE_MAX, POLL_US_MAX, RECORD_HEADER_BYTES, WAIT_SLICE_MS } from '../limits.js';
import {
  fileError,
  openRing,
  RING_BUSY,
  RING_END,
  RING_INVALID,
  RING_NO_PAGE,
  RING_NOT_NOW,
  ringError,
  viewBytes,
  viewOffset,
} from '../memory/page-ring.js';
import { PageViews } from '../memory/page-views.js';
import { Segment } from '../memory/segment.js';
import { native } from '../native.js';
import { checkFileRange } from './file-transfer.js';
import { forgetPages, type PageUser, releaseIdlePages, watchPages } from './idle-pages.js';
import { PagePatience, type PagePlace } from './no-page.js';
import { Page, type PageHolder } from './page.js';
import type { StreamHandle } from './stp-socket.js';
import { type StreamCounters, streamCounters } from './stream-counters.js';
import type { Peer } from './stream-end.js';

/** Where views of several pages are put by a native call; JavaScript takes them out at once. */
const packedViews = new Float64Array(PAGES_AT_ONCE_MAX);

/**
 * A stream that StpSocket.detach has given up, for a thread that may block. It belongs to the thread
 * that made it of its handle; every call but `close` and `abort` is EBADF once it is closed.
 */
export class BlockingStream {
  readonly localPort: number;
  readonly remotePort: number;
  /** Who is at the other end, attested by stpd. */
  readonly peer: Peer;
  /** What the views of pages are of. */
  readonly segment: Segment;
  /** Bytes that are in the array, by whatever call; of a call that failed those before. */
  bytesSent = 0;
  /** Bytes taken out of the array, in the same way. */
  bytesReceived = 0;
  readonly #tx: number;
  readonly #rx: number;
  readonly #user: PageUser;
  readonly #place: PagePlace;
  readonly #patience = new PagePatience();
  readonly #port: StreamHandle['port'];
  readonly #native = native();
  readonly #views: PageViews;
  /** What reservePages and peekPages return: one array, used again. */
  readonly #several: Uint8Array[] = [];
  readonly #pages = new Set<Page>();
  readonly #holder: PageHolder;
  #leading: Uint8Array;
  #leadingPeeked = false;
  /** Pages taken and claimed so far. */
  #taken = 0;
  #closed = false;
  #finished = false;

  /** @param handle what `detach` gave, in the thread that is to have the stream: once */
  constructor(handle: StreamHandle) {
    this.segment = new Segment(handle.segment);
    this.localPort = handle.localPort;
    this.remotePort = handle.remotePort;
    this.peer = handle.peer;
    this.#tx = openRing(handle.ring, true, handle.txCursor);
    this.#rx = openRing(handle.ring, false, handle.rxCursor);
    this.#place = handle.pages;
    this.#user = { tx: this.#tx, spare: this.#rx, view: handle.ring.stg, dirty: false };
    watchPages(this.#user); /* whoever had it before may have sent */
    this.#leading = handle.leading;
    this.#port = handle.port;
    this.#views = new PageViews(this.segment);
    this.#holder = {
      stg: handle.ring.stg,
      ring: this.#rx,
      giveBack: (page) => this.#giveBack(page),
      watch: () => this.#watch(),
    };
  }

  /** What this stream has waited for and whom it has woken, since this thread has it. */
  counters(): StreamCounters {
    this.#open();
    return streamCounters(this.#tx, this.#rx);
  }

  /** `waitsForEmptyPage` and `waitsForFullPage` together: for who asks after each call. @throws EBADF */
  get waits(): number {
    this.#open();
    return native().ringWaits(this.#tx) + native().ringWaits(this.#rx);
  }

  /**
   * Longest look of a call before it sleeps, microseconds: 50 by default, 0 on one core. Below it
   * the stream adapts: where looking finds nothing it looks less. 0 never looks. A thread that waits
   * for short answers may look longer: others have its core only while it yields, every 8 µs.
   * @param microseconds 0 to 1000000
   * @throws EINVAL, EBADF
   */
  setSpin(microseconds: number): void {
    this.#open();
    checkRange('a spin', microseconds, 0, POLL_US_MAX, 'µs');
    this.#native.ringSetSpin(this.#tx, microseconds);
    this.#native.ringSetSpin(this.#rx, microseconds);
  }

  /**
   * Most bytes in flight from here.
   * @param bytes 65536 to 4194304, the default
   * @throws EINVAL, EBADF
   */
  setWindow(bytes: number): void {
    this.#open();
    checkRange('a window', bytes, PAGE_BYTES, WINDOW_BYTES, 'bytes');
    this.#native.ringSetLimit(this.#tx, bytes);
  }

  /**
   * Puts all bytes into the array; blocks while the window is full.
   * @param offset where in `data`, 0 where absent
   * @param bytes how many of it; the rest where absent
   * @throws ECONNRESET, EPIPE (the peer reads no more, or shutdown was called), EBUSY (a view of
   *   reserve is out), ERANGE (not within `data`), ENOBUFS (the STG has had no page for as long as
   *   `attach` was told)
   */
  send(data: Uint8Array, offset = 0, bytes = data.length - offset): void {
    this.#writable();
    const sent = this.#native.ringWrite(this.#tx, data, offset, bytes, WAIT_SLICE_MS);
    if (sent === bytes) this.bytesSent += bytes;
    else this.#sendRest(data, offset, bytes, sent);
  }

  /* Apart from send: what its closure needs would be allocated for each message. */
  #sendRest(data: Uint8Array, offset: number, bytes: number, sent: number): void {
    this.#sendOn(sent, bytes, (done) =>
      this.#native.ringWrite(this.#tx, data, offset + done, bytes - done, WAIT_SLICE_MS),
    );
  }

  /**
   * Puts all bytes of several buffers into the array, in their order: one native call for up to 1024.
   * @throws as send; EINVAL (not a Uint8Array)
   */
  sendv(buffers: readonly Uint8Array[]): void {
    this.#writable();
    const at = new BufferRow(buffers, 0);
    const write = (done: number): number => {
      at.seek(done);
      return this.#native.ringWriteVector(this.#tx, buffers, at.index, at.skip, WAIT_SLICE_MS);
    };
    this.#sendOn(write(0), at.bytes, write);
  }

  /**
   * As sendv, without an object for each message.
   * @param data where they all lie
   * @param spans offset and length of each, in turn
   * @param count of messages; as many as `spans` has where absent
   * @throws as send; ERANGE (a span that is not within `data`)
   */
  sendvFlat(data: Uint8Array, spans: Uint32Array, count = spans.length >>> 1): void {
    this.#writable();
    const write = (done: number): number =>
      this.#native.ringWriteFlat(this.#tx, data, spans, count, done, WAIT_SLICE_MS);
    this.#sendOn(write(0), spanBytes(spans, count), write);
  }

  /** As sendv, each with its length in front: what RecordReceiver takes apart. @throws as sendv */
  sendRecords(records: readonly Uint8Array[]): void {
    this.#writable();
    const at = new BufferRow(records, RECORD_HEADER_BYTES);
    const write = (done: number): number => {
      at.seek(done);
      return this.#native.ringWriteRecords(this.#tx, records, at.index, at.skip, WAIT_SLICE_MS);
    };
    this.#sendOn(write(0), at.bytes, write);
  }

  /** As sendvFlat, each with its length in front. @throws as sendvFlat */
  sendRecordsFlat(data: Uint8Array, spans: Uint32Array, count = spans.length >>> 1): void {
    this.#writable();
    const write = (done: number): number =>
      this.#native.ringWriteFlatRecords(this.#tx, data, spans, count, done, WAIT_SLICE_MS);
    this.#sendOn(write(0), spanBytes(spans, count) + count * RECORD_HEADER_BYTES, write);
  }

  /** The first try has moved `sent`, or says why not; goes on until all is in the array. */
  #sendOn(sent: number, bytes: number, more: (done: number) => number): void {
    let done = 0;
    for (let last = sent; ; last = more(done)) {
      if (last > 0) {
        done += last;
        this.bytesSent += last;
      } else if (last < 0) this.#again(last, 'write');
      if (done >= bytes) return;
    }
  }

  /**
   * Blocks until bytes are there.
   * @returns 1 to `into.length` bytes, or 0 at the orderly end
   * @throws ECONNRESET, EBUSY (a view of peek is out)
   */
  receive(into: Uint8Array): number {
    this.#open();
    if (this.#leading.length > 0) return this.#receiveLeading(into);
    if (into.length === 0) return 0;
    const got = this.#native.ringRead(this.#rx, into, 0, into.length, WAIT_SLICE_MS);
    if (got <= 0) return this.#receiveLater(into, got);
    this.bytesReceived += got;
    return got;
  }

  #receiveLater(into: Uint8Array, got: number): number {
    return this.#receiveOn(got, () =>
      this.#native.ringRead(this.#rx, into, 0, into.length, WAIT_SLICE_MS),
    );
  }

  /**
   * Blocks until bytes are there, and fills the buffers one after the other with them.
   * @returns bytes in all buffers together, or 0 at the orderly end
   * @throws as receive; EINVAL (not a Uint8Array)
   */
  recvv(buffers: readonly Uint8Array[]): number {
    this.#open();
    if (this.#leading.length > 0) return this.#receiveLeadingInto(buffers);
    if (buffers.every((buffer) => buffer.length === 0)) return 0;
    const read = (): number => this.#native.ringReadVector(this.#rx, buffers, 0, 0, WAIT_SLICE_MS);
    return this.#receiveOn(read(), read);
  }

  /** As recvv: pairs of offset and length within one buffer. @throws as recvv; see sendvFlat */
  recvvFlat(data: Uint8Array, spans: Uint32Array, count = spans.length >>> 1): number {
    this.#open();
    if (this.#leading.length > 0) {
      const parts: Uint8Array[] = [];
      for (let i = 0; i < count; i++) {
        const offset = spans[2 * i] as number;
        parts.push(data.subarray(offset, offset + (spans[2 * i + 1] as number)));
      }
      return this.#receiveLeadingInto(parts);
    }
    const read = (): number =>
      this.#native.ringReadFlat(this.#rx, data, spans, count, 0, WAIT_SLICE_MS);
    return this.#receiveOn(read(), read);
  }

  #receiveOn(got: number, again: () => number): number {
    for (let last = got; ; last = again()) {
      if (last > 0) {
        this.bytesReceived += last;
        return last;
      }
      if (last === RING_END) return 0;
      if (last < 0) this.#again(last, 'read');
      else releaseIdlePages(); /* a slice went by: what this thread has sent may be read */
    }
  }

  /**
   * Sends a message and blocks for what comes back: one native call, for those who ask and answer.
   * @returns as receive. The answer may need more calls of receive to be whole
   * @throws as send and receive
   */
  sendReceive(data: Uint8Array, into: Uint8Array): number {
    this.#writable();
    this.#leadingFree();
    if (this.#leading.length === 0 && into.length > 0) {
      const { length } = data;
      const got = this.#native.ringCall(this.#tx, data, 0, length, this.#rx, into, WAIT_SLICE_MS);
      if (got > 0) {
        this.bytesSent += length;
        this.bytesReceived += got;
        return got;
      }
      if (got !== RING_NOT_NOW) {
        this.bytesSent += length;
        return this.#receiveLater(into, got);
      }
    }
    this.send(data);
    return this.receive(into);
  }

  #receiveLeading(into: Uint8Array): number {
    this.#leadingFree();
    const bytes = Math.min(into.length, this.#leading.length);
    into.set(this.#leading.subarray(0, bytes));
    this.#leading = this.#leading.subarray(bytes);
    this.bytesReceived += bytes;
    return bytes;
  }

  #receiveLeadingInto(buffers: readonly Uint8Array[]): number {
    let bytes = 0;
    for (const buffer of buffers) bytes += this.#receiveLeading(buffer);
    return bytes;
  }

  /** @throws EBUSY: they were peeked, and not consumed */
  #leadingFree(): void {
    if (this.#leadingPeeked) throw ringError(RING_BUSY, 'read');
  }

  // --- pages in place ---------------------------------------------------------------------------

  /**
   * Blocks for room; a view of 1 to 65536 bytes of one page. Each byte that is committed must be
   * written: what stands there is old. A second call without a commit gives the same place again.
   * @throws as send
   */
  reserve(): Uint8Array {
    return this.#reserve(-1);
  }

  /** commit and reserve in one call. @throws as both */
  commitAndReserve(bytes: number): Uint8Array {
    checkWhole(bytes, 'write');
    return this.#reserve(bytes);
  }

  #reserve(done: number): Uint8Array {
    this.#writable();
    let committed = done;
    for (;;) {
      const packed = this.#native.ringReserve(this.#tx, WAIT_SLICE_MS, committed);
      if (committed > 0) committed = this.#committed(packed, committed);
      if (packed > 0) return this.#views.at(packed);
      if (packed < 0) this.#again(packed, 'write');
    }
  }

  /** Commits at the first of several tries only. */
  #committed(result: number, bytes: number): number {
    if (result === RING_INVALID) throw ringError(result, 'write');
    this.bytesSent += bytes;
    return -1;
  }

  /**
   * Blocks for room; views of the next pages that are free, in their order, each up to the end of its
   * page. One commit, of the bytes of all together, or of less, takes them all.
   * @param pagesMax 1 to 32
   * @param done bytes of the views before that are committed first; none where absent
   * @returns one array, which the next call uses again
   * @throws as reserve and commit; EINVAL (pagesMax)
   */
  reservePages(pagesMax: number, done = -1): readonly Uint8Array[] {
    this.#writable();
    if (done !== -1) checkWhole(done, 'write');
    checkPages(pagesMax);
    let committed = done;
    for (;;) {
      const count = this.#native.ringReservePages(
        this.#tx,
        packedViews,
        pagesMax,
        WAIT_SLICE_MS,
        committed,
      );
      if (committed > 0) committed = this.#committed(count, committed);
      if (count > 0) return this.#unpack(count);
      if (count < 0) this.#again(count, 'write');
    }
  }

  /**
   * Publishes the first `bytes` of what was reserved; the rest is free again.
   * @throws EINVAL (more than was reserved, or nothing was)
   */
  commit(bytes: number): void {
    this.#open();
    checkWhole(bytes, 'write');
    const done = this.#native.ringCommit(this.#tx, bytes);
    if (done < 0) throw ringError(done, 'write');
    this.bytesSent += bytes;
  }

  /**
   * Blocks for bytes; a view up to the end of their page, or null at the orderly end. The peer can
   * still change them: copy numbers out before you check them.
   * @throws ECONNRESET
   */
  peek(): Uint8Array | null {
    return this.#peek(-1);
  }

  /** consume and peek in one call. @throws as both */
  consumeAndPeek(bytes: number): Uint8Array | null {
    checkWhole(bytes, 'read');
    if (this.#leadingPeeked) {
      this.consume(bytes);
      return this.#peek(-1);
    }
    return this.#peek(bytes);
  }

  #peek(done: number): Uint8Array | null {
    this.#open();
    if (this.#leading.length > 0) {
      this.#leadingPeeked = true;
      return this.#leading;
    }
    let consumed = done;
    for (;;) {
      const packed = this.#native.ringPeek(this.#rx, WAIT_SLICE_MS, consumed);
      if (consumed > 0) consumed = this.#consumed(packed, consumed);
      if (packed > 0) return this.#views.at(packed);
      if (packed === RING_END) return null;
      if (packed < 0) this.#again(packed, 'read');
      else releaseIdlePages();
    }
  }

  #consumed(result: number, bytes: number): number {
    if (result === RING_INVALID) throw ringError(result, 'read');
    this.bytesReceived += bytes;
    return -1;
  }

  /**
   * Blocks for bytes; views of all pages that have some, in their order, or null at the orderly end.
   * One consume, of the bytes of all together, or of less, takes them all.
   * @param pagesMax 1 to 32
   * @param done bytes of the views before that are consumed first; none where absent
   * @returns one array, which the next call uses again
   * @throws as peek and consume; EINVAL (pagesMax)
   */
  peekPages(pagesMax: number, done = -1): readonly Uint8Array[] | null {
    this.#open();
    checkPages(pagesMax);
    let consumed = done;
    if (done !== -1) checkWhole(done, 'read');
    if (this.#leadingPeeked && done !== -1) {
      this.consume(done);
      consumed = -1;
    }
    if (this.#leading.length > 0) {
      this.#leadingPeeked = true;
      this.#several.length = 1;
      this.#several[0] = this.#leading;
      return this.#several;
    }
    for (;;) {
      const count = this.#native.ringPeekPages(
        this.#rx,
        packedViews,
        pagesMax,
        WAIT_SLICE_MS,
        consumed,
      );
      if (consumed > 0) consumed = this.#consumed(count, consumed);
      if (count > 0) return this.#unpack(count);
      if (count === RING_END) return null;
      if (count < 0) this.#again(count, 'read');
      else releaseIdlePages();
    }
  }

  /**
   * Gives the first `bytes` of what was peeked back; the rest stays to be read.
   * @throws EINVAL (more than was peeked, or nothing was)
   */
  consume(bytes: number): void {
    this.#open();
    checkWhole(bytes, 'read');
    if (this.#leadingPeeked) {
      if (bytes > this.#leading.length) throw ringError(RING_INVALID, 'read');
      this.#leadingPeeked = false;
      this.#leading = this.#leading.subarray(bytes);
    } else {
      const done = this.#native.ringConsume(this.#rx, bytes);
      if (done < 0) throw ringError(done, 'read');
    }
    this.bytesReceived += bytes;
  }

  #unpack(count: number): readonly Uint8Array[] {
    const views = this.#several;
    views.length = count;
    for (let i = 0; i < count; i++) views[i] = this.#views.at(packedViews[i] as number);
    return views;
  }

  // --- whole pages ------------------------------------------------------------------------------

  /**
   * Takes the next page out of the stream and keeps it, while the stream goes on: a full one is
   * exchanged for an empty one, without a copy; what does not fill its page (the stream does not
   * stand at a page's start, or ends) is copied into a page. Blocks until the page is full or the
   * stream ends, and while the STG has no page to give for it.
   * @returns null at the orderly end
   * @throws ECONNRESET, EBUSY (a view of peek is out)
   */
  takePage(): Page | null {
    this.#open();
    if (this.#leading.length > 0) {
      this.#leadingFree();
      const page = this.#claim(Math.min(this.#leading.length, PAGE_BYTES));
      this.#receiveLeading(page.data);
      return page;
    }
    for (;;) {
      const got = this.#native.ringTakePage(this.#rx, WAIT_SLICE_MS);
      if (got > 0) {
        const bytes = viewBytes(got);
        const both = viewOffset(got);
        this.bytesReceived += bytes;
        return this.#hold(Math.floor(both / 2), bytes, both % 2 === 1);
      }
      if (got === RING_END) return null;
      if (got < 0) this.#again(got, 'read');
      else releaseIdlePages();
    }
  }

  /**
   * An empty page, to be filled and given. Blocks while the STG has none.
   * @throws EBADF
   */
  claimPage(): Page {
    this.#open();
    return this.#claim(0);
  }

  /**
   * Sends the first `bytes` of a page that this or another stream of the same host has taken or
   * claimed. A whole one changes hands without a copy where this stream stands at a page's start;
   * else its bytes are copied. The handle is over either way.
   * @param bytes 1 to 65536; what was taken where absent, and all of a page that was claimed
   * @returns true if it went without a copy
   * @throws as send; EXDEV (a page of another STG, or of another attach), EBADF (given or released
   *   already), EINVAL (bytes)
   */
  givePage(page: Page, bytes = page.bytes === 0 ? PAGE_BYTES : page.bytes): boolean {
    this.#writable();
    const holder = page.holder('write');
    if (holder.stg !== this.#holder.stg) {
      throw stpError('EXDEV', 'the page belongs to another STG or attach: send its bytes', 'write');
    }
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > PAGE_BYTES) {
      throw stpError('EINVAL', `a page has 1 to ${PAGE_BYTES} bytes, not ${bytes}`, 'write');
    }
    while (bytes === PAGE_BYTES) {
      const given = this.#native.ringGivePage(this.#tx, page.number, holder.ring, WAIT_SLICE_MS);
      if (given > 0) {
        this.bytesSent += bytes;
        page.forget();
        holder.watch();
        return true;
      }
      if (given === RING_NOT_NOW) break;
      if (given < 0) throw ringError(given, 'write');
    }
    this.send(page.data, 0, bytes);
    page.release();
    return false;
  }

  #claim(bytes: number): Page {
    for (;;) {
      const number = this.#native.ringClaimPage(this.#rx);
      if (number >= 0) return this.#hold(number, bytes, false);
      this.#again(number, 'read');
    }
  }

  #hold(number: number, bytes: number, exchanged: boolean): Page {
    const at = this.#native.ringPageOffset(this.#rx, number);
    const data = this.#views.page(at);
    const page = new Page(this.#holder, { number, data, bytes, exchanged });
    this.#pages.add(page);
    this.#watch();
    this.#taken++;
    return page;
  }

  #giveBack(page: Page): void {
    this.#pages.delete(page);
    page.forget();
    if (!this.#closed) this.#native.ringReleasePage(this.#rx, page.number);
  }

  // --- files ------------------------------------------------------------------------------------

  /**
   * read(2) from the file straight into pages. A pipe, a socket or a terminal may be read too, where
   * it stands; the call blocks until it gives something.
   * @param fd stays open
   * @param position where in the file; -1: where it stands
   * @param bytes the most to be sent; Infinity: all
   * @returns bytes moved; less than `bytes` only at the end of the file
   * @throws the file's errors (EBADF, EISDIR, EIO, ESPIPE, ...) as well as those of send. What was
   *   moved before is sent, and counted in `bytesSent`
   */
  sendFile(fd: number, position: number, bytes: number): number {
    this.#writable();
    const most = checkFileRange(fd, position, bytes, 'read');
    let moved = 0;
    while (moved < most) {
      const at = position < 0 ? -1 : position + moved;
      const got = this.#native.ringFillFromFile(this.#tx, fd, at, most - moved, WAIT_SLICE_MS);
      if (got > 0) {
        moved += got;
        this.bytesSent += got;
      } else if (got === RING_END) break;
      else if (got < 0) this.#againFile(got, 'read', fd, moved);
    }
    return moved;
  }

  /**
   * write(2) from pages straight into the file, which may be a pipe, a socket or a terminal too.
   * @param fd stays open
   * @param position where in the file; -1: where it stands
   * @param bytes the most to be taken; Infinity: all
   * @returns bytes moved; less than `bytes` only at the orderly end
   * @throws the file's errors (EBADF, ENOSPC, EIO, EPIPE, ...) as well as ECONNRESET. What was moved
   *   before is counted in `bytesReceived`; the rest is still there to be received
   */
  receiveToFile(fd: number, position: number, bytes: number): number {
    this.#open();
    const most = checkFileRange(fd, position, bytes, 'write');
    let moved = this.#leading.length > 0 ? this.#leadingToFile(fd, position, most) : 0;
    while (moved < most) {
      const at = position < 0 ? -1 : position + moved;
      const got = this.#native.ringDrainToFile(this.#rx, fd, at, most - moved, WAIT_SLICE_MS);
      if (got > 0) {
        moved += got;
        this.bytesReceived += got;
      } else if (got === RING_END) break;
      else if (got < 0) this.#againFile(got, 'write', fd, moved);
      else releaseIdlePages();
    }
    return moved;
  }

  #leadingToFile(fd: number, position: number, bytes: number): number {
    this.#leadingFree();
    let moved = 0;
    while (moved < bytes && this.#leading.length > 0) {
      const part = this.#leading.subarray(0, bytes - moved);
      const written = writeSync(fd, part, 0, part.length, position < 0 ? null : position + moved);
      this.#leading = this.#leading.subarray(written);
      moved += written;
      this.bytesReceived += written;
    }
    return moved;
  }

  /** No more bytes from here; the peer reads the rest and then the end. Twice does nothing. */
  shutdown(): void {
    this.#open();
    if (this.#finished) return;
    this.#finished = true;
    this.#native.ringFinish(this.#tx);
  }

  /** Lets go: an orderly end, or a reset where bytes were left unread. Twice does nothing. */
  close(): void {
    this.#release(false);
  }

  /** Lets go with a reset: the peer gets ECONNRESET. */
  abort(): void {
    this.#release(true);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #release(reset: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    forgetPages(this.#user);
    /* Their memory goes back with the ring. */
    for (const page of this.#pages) page.forget();
    this.#pages.clear();
    const unread = this.#native.ringState(this.#rx) > 0 || this.#leading.length > 0;
    if (reset || unread) this.#native.ringAbort(this.#tx);
    else this.#native.ringFinish(this.#tx);
    this.#native.ringCloseReading(this.#rx, reset || unread ? 1 : 0);
    this.#native.ringClose(this.#tx);
    this.#native.ringClose(this.#rx);
    this.#port.close();
  }

  #open(): void {
    if (this.#closed) throw stpError('EBADF', 'the stream is closed');
  }

  #writable(): void {
    this.#open();
    if (this.#finished) throw stpError('EPIPE', 'shutdown was called', 'write');
    this.#watch();
  }

  /** From now on this stream may hold pages. */
  #watch(): void {
    if (!this.#user.dirty) watchPages(this.#user);
  }

  /** A full pool is waited for, until ENOBUFS; everything else negative is an error. */
  #again(result: number, syscall: string): void {
    if (result !== RING_NO_PAGE) throw ringError(result, syscall);
    releaseIdlePages();
    this.#patience.pause(this.#place, this.bytesSent + this.bytesReceived + this.#taken);
  }

  /** The same of a call between the stream and a file. */
  #againFile(result: number, file: 'read' | 'write', fd: number, moved: number): void {
    if (result !== RING_NO_PAGE) throw fileError(result, file, fd, moved);
    this.#again(result, file);
  }
}

function checkRange(what: string, value: number, min: number, max: number, unit: string): void {
  if (!(value >= min && value <= max)) {
    throw stpError('EINVAL', `${what} is ${min} to ${max} ${unit}, not ${value}`);
  }
}

/** A number that native code can compare with what is out. */
function checkWhole(bytes: number, syscall: string): void {
  if (bytes >>> 0 !== bytes) throw stpError('EINVAL', `not a number of bytes: ${bytes}`, syscall);
}

function checkPages(count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > PAGES_AT_ONCE_MAX) {
    throw stpError('EINVAL', `1 to ${PAGES_AT_ONCE_MAX} pages at once, not ${count}`);
  }
}

function spanBytes(spans: Uint32Array, count: number): number {
  let bytes = 0;
  for (let i = 0; i < count; i++) bytes += spans[2 * i + 1] as number;
  return bytes;
}

/** A place in a row of buffers, each of which has so many bytes more in front of it. */
class BufferRow {
  /** Of all, with what stands in front. */
  readonly bytes: number;
  index = 0;
  skip = 0;
  #before = 0;

  constructor(
    readonly buffers: readonly Uint8Array[],
    readonly front: number,
  ) {
    let bytes = 0;
    for (const { length } of buffers) bytes += length + front;
    this.bytes = bytes;
  }

  /** @param done bytes from the start of the row; never less than before */
  seek(done: number): void {
    while (done < this.bytes) {
      const bytes = (this.buffers[this.index] as Uint8Array).length + this.front;
      if (done - this.#before < bytes) break;
      this.#before += bytes;
      this.index++;
    }
    this.skip = done - this.#before;
  }
}
