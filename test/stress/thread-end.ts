/**
 * One end of a connection in a worker thread, with calls that block: one direction after the other,
 * each in the way of its plan, every byte checked.
 */
import { closeSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  BlockingStream,
  type Page,
  RecordReceiver,
  RecordSender,
  type StreamHandle,
} from '../../src/index.js';
import { PAGE_BYTES } from '../../src/layout/tables.js';
import { Dice } from '../support/random.js';
import { Content } from './content.js';
import {
  breakOf,
  bytesToReceive,
  bytesToSend,
  codeOf,
  type EndReport,
  type EndTask,
  LONG_PAUSE_MS,
  PAUSE_MS_MAX,
  PIECE_BYTES_MAX,
  RECORD_BYTES,
  seedOfEnd,
} from './end-report.js';

const sleepWord = new Int32Array(new SharedArrayBuffer(4));
/** Pages that are kept for a while. */
const PAGES_KEPT = 3;

/** The end was told to go no further. */
class Enough extends Error {}

export class ThreadEnd {
  readonly #task: EndTask;
  readonly #stream: BlockingStream;
  readonly #dice: Dice;
  readonly #in: Content;
  readonly #out: Content;
  readonly #onTerminate: () => never;
  #sent = 0;
  #received: number;

  /** @param received bytes that the event loop has read before it gave the stream away */
  constructor(task: EndTask, handle: StreamHandle, received: number, onTerminate: () => never) {
    this.#task = task;
    this.#stream = new BlockingStream(handle);
    this.#dice = new Dice(seedOfEnd(task));
    this.#in = new Content(task.seed, task.plan.id, 1 - task.end);
    this.#out = new Content(task.seed, task.plan.id, task.end);
    this.#received = received;
    this.#onTerminate = onTerminate;
    this.#stream.setWindow(task.plan.windowBytes);
    if (!task.polls) this.#stream.setSpin(0);
  }

  /** @throws WrongContent */
  run(): EndReport {
    const { plan, end } = this.#task;
    const broken = breakOf(this.#task);
    let heard = '';
    let writeCode: string | undefined;
    let sending = false;
    const send = (): void => {
      sending = true;
      this.#send();
      if (broken?.how === 'abort') throw new Enough();
      this.#stream.shutdown();
      sending = false;
    };
    try {
      if (end === 0) send();
      this.#receive();
      heard = 'end';
      if (end === 1) send();
    } catch (error) {
      /* The orderly end of a peer that let go in the middle of a record. */
      const cutOff = codeOf(error) === 'EBADMSG';
      if (!(error instanceof Enough) && !isCode(error) && !cutOff) throw error;
      if (error instanceof Enough) heard = 'own';
      else if (cutOff) heard = 'end';
      else if (sending) writeCode = codeOf(error);
      heard = heard === '' ? codeOf(error) : heard;
    }
    if (heard === 'own' && this.#dice.chance(0.5)) this.#stream.abort();
    else if (broken?.how === 'abort') this.#stream.abort();
    else this.#stream.close();
    return {
      id: plan.id,
      end,
      sent: this.#sent,
      received: this.#received,
      heard,
      ...(writeCode === undefined ? {} : { writeCode }),
    };
  }

  #pause(chance: number): void {
    if (!this.#dice.chance(chance)) return;
    const long = this.#dice.chance(0.05);
    Atomics.wait(sleepWord, 0, 0, long ? LONG_PAUSE_MS : this.#dice.whole(0, PAUSE_MS_MAX));
  }

  // --- sending ----------------------------------------------------------------------------------

  #send(): void {
    const { plan, end } = this.#task;
    const total = bytesToSend(this.#task);
    const { send, pause } = plan.directions[end];
    if (send === 'sendFile') return this.#sendFile(total);
    if (send === 'records') return this.#sendRecords(total, pause);
    while (this.#sent < total) {
      this.#pause(pause);
      this.#sent += this.#sendPiece(send, total - this.#sent);
    }
  }

  /** Bytes sent. */
  #sendPiece(way: string, left: number): number {
    const stream = this.#stream;
    const size = (most = PIECE_BYTES_MAX): number => Math.min(left, this.#dice.size(most));
    switch (way) {
      case 'sendv': {
        const parts = this.#parts(left);
        stream.sendv(parts);
        return parts.reduce((sum, { length }) => sum + length, 0);
      }
      case 'sendvFlat': {
        const bytes = size();
        const first = Math.floor(bytes / 3);
        const data = this.#out.bytes(bytes, this.#sent);
        stream.sendvFlat(data, Uint32Array.of(0, first, first, 0, first, bytes - first));
        return bytes;
      }
      case 'reserve': {
        const view = stream.reserve();
        const bytes = Math.min(size(), view.length);
        this.#out.fill(view.subarray(0, bytes), this.#sent);
        stream.commit(bytes);
        return bytes;
      }
      case 'reservePages':
        return this.#sendInPlace(left);
      case 'givePage': {
        const page = stream.claimPage();
        const bytes = this.#dice.chance(0.8) ? Math.min(left, PAGE_BYTES) : size(PAGE_BYTES);
        this.#out.fill(page.data.subarray(0, bytes), this.#sent);
        stream.givePage(page, bytes);
        return bytes;
      }
      default: {
        const bytes = size();
        stream.send(this.#out.bytes(bytes, this.#sent));
        return bytes;
      }
    }
  }

  #parts(left: number): Buffer[] {
    const parts: Buffer[] = [];
    for (let at = 0, i = this.#dice.whole(1, 12); i > 0 && at < left; i--) {
      const part = this.#out.bytes(Math.min(left - at, this.#dice.size(40_000)), this.#sent + at);
      parts.push(part);
      at += part.length;
    }
    return parts;
  }

  #sendInPlace(left: number): number {
    const views = this.#stream.reservePages(this.#dice.whole(1, 32));
    const all = views.reduce((sum, { length }) => sum + length, 0);
    const bytes = Math.min(left, this.#dice.chance(0.5) ? all : this.#dice.whole(1, all));
    let at = 0;
    for (const view of views) {
      const part = view.subarray(0, Math.min(view.length, bytes - at));
      this.#out.fill(part, this.#sent + at);
      at += part.length;
    }
    this.#stream.commit(bytes);
    return bytes;
  }

  #sendFile(total: number): void {
    const { plan, end, directory } = this.#task;
    const path = join(directory, `out-${plan.id}-${end}`);
    writeFileSync(path, this.#out.bytes(total, 0));
    const fd = openSync(path, 'r');
    try {
      while (this.#sent < total) {
        const bytes = Math.min(total - this.#sent, this.#dice.size(PIECE_BYTES_MAX * 4));
        /* With a position, or where the file stands: its reads leave that alone. */
        this.#sent += this.#stream.sendFile(fd, this.#sent, bytes);
      }
    } finally {
      closeSync(fd);
      rmSync(path);
    }
  }

  #sendRecords(total: number, pause: number): void {
    const sender = new RecordSender(this.#stream);
    while (this.#sent < total) {
      this.#pause(pause);
      const left = total - this.#sent;
      if (this.#dice.chance(0.2)) {
        const parts = this.#parts(left);
        sender.sendAll(parts);
        for (const { length } of parts) this.#sent += length;
        continue;
      }
      const record = this.#out.bytes(Math.min(left, this.#dice.size(RECORD_BYTES)), this.#sent);
      sender.send(record);
      this.#sent += record.length;
    }
    sender.flush();
  }

  // --- receiving --------------------------------------------------------------------------------

  /** Until the orderly end. */
  #receive(): void {
    const { plan, end } = this.#task;
    const { receive, pause, bytes } = plan.directions[1 - end] as (typeof plan.directions)[0];
    if (receive === 'receiveToFile') return this.#receiveToFile(bytes);
    if (receive === 'records') {
      const receiver = new RecordReceiver(this.#stream);
      for (let r = receiver.receive(); r !== null; r = receiver.receive()) this.#take(r);
      return;
    }
    const kept: Page[] = [];
    while (this.#receivePiece(receive, kept)) this.#pause(pause);
    for (const page of kept) page.release();
  }

  /** False at the end. */
  #receivePiece(way: string, kept: Page[]): boolean {
    const stream = this.#stream;
    const room = (): Buffer => Buffer.allocUnsafe(this.#dice.size(PIECE_BYTES_MAX));
    switch (way) {
      case 'recvv': {
        const buffers = [room(), room(), room()];
        return this.#takeSplit(stream.recvv(buffers), buffers);
      }
      case 'recvvFlat': {
        const into = room();
        const half = into.length >>> 1;
        const got = stream.recvvFlat(into, Uint32Array.of(0, half, half, into.length - half));
        this.#take(into.subarray(0, got));
        return got > 0;
      }
      case 'peek': {
        const view = stream.peek();
        if (view === null) return false;
        const bytes = this.#dice.chance(0.5) ? view.length : this.#dice.whole(1, view.length);
        this.#take(view.subarray(0, bytes));
        stream.consume(bytes);
        return true;
      }
      case 'peekPages':
        return this.#receiveInPlace();
      case 'takePage':
        return this.#receivePage(kept);
      default: {
        const into = room();
        const got = stream.receive(into);
        this.#take(into.subarray(0, got));
        return got > 0;
      }
    }
  }

  #takeSplit(got: number, buffers: readonly Buffer[]): boolean {
    let left = got;
    for (const buffer of buffers) {
      this.#take(buffer.subarray(0, Math.min(left, buffer.length)));
      left -= Math.min(left, buffer.length);
    }
    return got > 0;
  }

  #receiveInPlace(): boolean {
    const views = this.#stream.peekPages(this.#dice.whole(1, 32));
    if (views === null) return false;
    const all = views.reduce((sum, { length }) => sum + length, 0);
    const bytes = this.#dice.chance(0.5) ? all : this.#dice.whole(1, all);
    let left = bytes;
    for (const view of views) {
      this.#take(view.subarray(0, Math.min(left, view.length)));
      left -= Math.min(left, view.length);
    }
    this.#stream.consume(bytes);
    return true;
  }

  /** What is kept must stay as it is while the stream goes on. */
  #receivePage(kept: Page[]): boolean {
    const page = this.#stream.takePage();
    if (page === null) return false;
    const at = this.#received;
    this.#take(page.data.subarray(0, page.bytes));
    kept.push(page);
    if (kept.length > PAGES_KEPT || this.#dice.chance(0.4)) {
      for (const old of kept) {
        if (old === page) this.#in.check(page.data.subarray(0, page.bytes), at);
        old.release();
      }
      kept.length = 0;
    }
    return true;
  }

  #receiveToFile(bytes: number): void {
    const { plan, end, directory } = this.#task;
    const path = join(directory, `in-${plan.id}-${end}`);
    const first = this.#received;
    const fd = openSync(path, 'w+');
    try {
      for (let got = -1; got !== 0; ) {
        const most = this.#dice.size(PIECE_BYTES_MAX * 4);
        const at = this.#received - first;
        const before = this.#stream.bytesReceived;
        try {
          got = this.#stream.receiveToFile(fd, at, most);
        } finally {
          /* Also what came before an error. */
          const moved = this.#stream.bytesReceived - before;
          const read = Buffer.alloc(moved);
          readSync(fd, read, 0, moved, at);
          this.#take(read);
        }
        if (this.#received > bytes) throw new Error('more bytes than were sent');
      }
    } finally {
      closeSync(fd);
      rmSync(path);
    }
  }

  #take(data: Uint8Array): void {
    this.#in.check(data, this.#received);
    this.#received += data.length;
    if (this.#received < bytesToReceive(this.#task)) return;
    if (breakOf(this.#task)?.how === 'terminate') this.#onTerminate();
    throw new Enough();
  }
}

/** An error that a stream may give, and no fault of the test or of the stream. */
export const isCode = (error: unknown): boolean => ['ECONNRESET', 'EPIPE'].includes(codeOf(error));
