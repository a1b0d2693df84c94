/**
 * One end of a connection on an event loop: sends and receives as its plan says, checks every byte,
 * and tells how it ended. `detachAt` gives the stream to a worker on the way.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { onRecords, RecordWriter, type StpSocket, type StreamHandle } from '../../src/index.js';
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

const SMALL_MAX = 64;

export class LoopEnd {
  readonly task: EndTask;
  readonly socket: StpSocket;
  readonly #dice: Dice;
  readonly #out: Content;
  readonly #in: Content;
  readonly #onFailure: (error: unknown) => void;
  sent = 0;
  received = 0;
  #ended = false;
  #own = false;
  #code: string | undefined;
  #writeCode: string | undefined;
  #left = false;
  readonly done: Promise<EndReport>;

  constructor(task: EndTask, socket: StpSocket, onFailure: (error: unknown) => void) {
    this.task = task;
    this.socket = socket;
    this.#dice = new Dice(seedOfEnd(task));
    this.#out = new Content(task.seed, task.plan.id, task.end);
    this.#in = new Content(task.seed, task.plan.id, 1 - task.end);
    this.#onFailure = onFailure;
    socket.on('error', (error: Error & { code?: string; syscall?: string }) => {
      if (error.syscall === 'write') this.#writeCode = codeOf(error);
      else this.#code = codeOf(error);
    });
    socket.once('end', () => this.#onEnd());
    this.done = new Promise((resolve) => {
      socket.once('close', () => resolve(this.report()));
    });
  }

  /** The process lets go of all its sockets. */
  leave(): void {
    this.#left = true;
  }

  report(): EndReport {
    const { plan, end } = this.task;
    const fallback = this.#left ? 'left' : 'closed without a word';
    const heard = this.#ended ? 'end' : (this.#code ?? this.#writeCode ?? fallback);
    return {
      id: plan.id,
      end,
      sent: this.sent,
      received: this.received,
      heard: this.#own && !this.#ended ? 'own' : heard,
      ...(this.#writeCode === undefined ? {} : { writeCode: this.#writeCode }),
    };
  }

  /** Both directions; the connection is established. */
  start(): void {
    const { plan, end } = this.task;
    this.socket.setWindow(plan.windowBytes);
    this.#guard(this.#receive());
    if (plan.both || end === 0) this.#guard(this.#send());
  }

  #guard(work: Promise<void> | void): void {
    Promise.resolve(work).catch((error) => {
      if (!this.socket.destroyed) this.#onFailure(error);
    });
  }

  #onEnd(): void {
    this.#ended = true;
    const { plan, end } = this.task;
    if (!plan.both && end === 1) this.#guard(this.#send());
  }

  // --- sending ----------------------------------------------------------------------------------

  async #send(): Promise<void> {
    const { socket, task } = this;
    const direction = task.plan.directions[task.end];
    const total = bytesToSend(task);
    const records = direction.send === 'records' ? new RecordWriter(socket) : undefined;
    while (this.sent < total && socket.writable) {
      if (this.#dice.chance(direction.pause)) await this.#pause();
      if (!socket.writable) return;
      if (!this.#put(total - this.sent, direction.send, records)) await this.#room();
      if (this.#dice.chance(0.02)) await delay(0);
    }
    if (!socket.writable) return;
    if (breakOf(task)?.how === 'abort') {
      this.#own = true;
      socket.resetAndDestroy();
    } else if (records !== undefined) records.end();
    else socket.end();
  }

  /** False where the socket has enough. */
  #put(left: number, way: string, records: RecordWriter | undefined): boolean {
    const { socket } = this;
    const next = (most: number): Buffer => {
      const bytes = this.#out.bytes(Math.min(left, most), this.sent);
      this.sent += bytes.length;
      left -= bytes.length;
      return bytes;
    };
    if (records !== undefined) return records.send(next(this.#dice.size(RECORD_BYTES)));
    if (way === 'small writes') return socket.write(next(this.#dice.whole(1, SMALL_MAX)));
    if (way === 'write') return socket.write(next(this.#dice.size(PIECE_BYTES_MAX)));
    let enough = false;
    socket.cork();
    for (let i = this.#dice.whole(2, 20); i > 0 && left > 0; i--) {
      enough = !socket.write(next(this.#dice.size(PIECE_BYTES_MAX / 4))) || enough;
    }
    socket.uncork();
    return !enough;
  }

  #room(): Promise<void> {
    const { socket } = this;
    if (socket.destroyed || !socket.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve) => {
      const go = (): void => {
        socket.off('drain', go);
        socket.off('close', go);
        resolve();
      };
      socket.on('drain', go);
      socket.on('close', go);
    });
  }

  #pause(): Promise<void> {
    const long = this.#dice.chance(0.05);
    return delay(long ? LONG_PAUSE_MS : this.#dice.whole(0, PAUSE_MS_MAX));
  }

  // --- receiving --------------------------------------------------------------------------------

  #receive(): Promise<void> | void {
    const { socket, task } = this;
    switch (task.plan.directions[1 - task.end]?.receive) {
      case 'read':
        return this.#receiveByReading();
      case 'iterate':
        return this.#receiveByIteration();
      case 'records':
        onRecords(socket, (record) => this.#take(record));
        socket.resume();
        return;
      case 'onread':
        socket.resume(); /* readInto, or the option, was before */
        return;
      default:
        socket.on('data', (data: Buffer) => {
          this.#take(data);
          this.#restNowAndThen();
        });
        socket.resume();
    }
  }

  #receiveByReading(): void {
    const { socket } = this;
    socket.on('readable', () => {
      for (;;) {
        const most = this.#dice.chance(0.3) ? this.#dice.size(10_000) : undefined;
        let data = socket.read(most) as Buffer | null;
        /* Less than was asked for is there, or nothing. */
        if (data === null && most !== undefined) data = socket.read() as Buffer | null;
        if (data === null) return;
        this.#take(data);
        if (socket.destroyed) return;
      }
    });
  }

  async #receiveByIteration(): Promise<void> {
    const { pause } = this.#inPlan;
    try {
      for await (const data of this.socket.iterator({ destroyOnReturn: false })) {
        this.#take(data as Buffer);
        if (this.#dice.chance(pause)) await this.#pause();
        if (this.socket.destroyed) return;
      }
    } catch (error) {
      /* The socket has told its errors already. */
      if (!this.socket.destroyed) throw error;
    }
  }

  get #inPlan() {
    return this.task.plan.directions[1 - this.task.end] as EndTask['plan']['directions'][0];
  }

  /** What `onread` calls. */
  readonly onRead = (bytes: number, buffer: Uint8Array): boolean => {
    this.#take(buffer.subarray(0, bytes));
    if (this.socket.destroyed || !this.#dice.chance(this.#inPlan.pause)) return true;
    setTimeout(() => this.socket.resume(), this.#dice.whole(0, PAUSE_MS_MAX));
    return false;
  };

  #restNowAndThen(): void {
    if (!this.#dice.chance(this.#inPlan.pause) || this.socket.destroyed) return;
    this.socket.pause();
    void this.#pause().then(() => this.socket.resume());
  }

  #take(data: Uint8Array): void {
    try {
      this.#in.check(data, this.received);
    } catch (error) {
      this.#onFailure(error);
      this.socket.destroy();
      return;
    }
    this.received += data.length;
    if (this.received < bytesToReceive(this.task) || this.#own) return;
    this.#own = true;
    if (this.#dice.chance(0.5)) this.socket.destroy();
    else this.socket.resetAndDestroy();
  }
}

/**
 * Reads a little on the event loop and then gives the stream away: with what was read too much.
 * @returns undefined where the stream failed before
 */
export function handOver(
  task: EndTask,
  socket: StpSocket,
  onFailure: (error: unknown) => void,
): Promise<{ handle: StreamHandle; received: number } | undefined> {
  const content = new Content(task.seed, task.plan.id, 1 - task.end);
  const dice = new Dice(seedOfEnd(task) ^ 0x5a5a5a5a);
  const bytes = task.plan.directions[1 - task.end]?.bytes ?? 0;
  const enough = Math.min(dice.size(Math.max(1, bytes)), bytes, bytesToReceive(task) - 1);
  let received = 0;
  return new Promise((resolve) => {
    const give = (): void => {
      socket.off('readable', look);
      socket.off('end', give);
      socket.off('close', gone);
      resolve({ handle: socket.detach(), received });
    };
    const gone = (): void => resolve(undefined);
    const look = (): void => {
      while (received < enough) {
        /* No more than wanted: an end that is read cannot be given away. */
        const data = socket.read(Math.min(enough - received, dice.size(60_000))) as Buffer | null;
        if (data === null) return;
        try {
          content.check(data, received);
        } catch (error) {
          onFailure(error);
        }
        received += data.length;
      }
      give();
    };
    socket.once('close', gone);
    socket.once('end', give);
    /* End 0 sends first: nothing comes before it has. */
    if (task.end === 0 || enough < 1) give();
    else socket.on('readable', look);
  });
}
