/**
 * A peer in a thread of its own that has written, ended or reset before the event loop of this thread
 * looks: all of it lies there together with the connection. Over STP it attaches for itself.
 */
import type { AddressInfo, Socket } from 'node:net';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { netFace, stpFace } from './face.js';
import { LOOPBACK } from './loopback.js';

/** What it does with the connection, and nothing but that. */
export type Deed = 'ends' | 'writes and ends' | 'resets' | 'writes and resets';

interface Part {
  readonly deed: Deed;
  /** Where to connect; 0: it listens. */
  readonly port: number;
  /** Run directory and STG of an array; none for `node:net`. */
  readonly array: readonly string[];
  /** 1 once it is done. */
  readonly progress: Int32Array;
}

/** For the rest of its way: a packet through loopback, a word of the director. */
const WAY_MS = 20;
const WATCHDOG_MS = 40_000;
const KEY = 'prompt peer';

export class PromptPeer {
  readonly #worker: Worker;
  readonly #progress = new Int32Array(new SharedArrayBuffer(4));
  /** Where it listens, once it does; 0 where it connects. */
  readonly port: Promise<number>;

  constructor(array: readonly string[], deed: Deed, port = 0) {
    const part: Part = { deed, port, array, progress: this.#progress };
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { [KEY]: part } });
    this.port = new Promise((resolve, reject) => {
      this.#worker.once('message', resolve);
      this.#worker.once('error', reject);
    });
  }

  /** Blocks this thread until the peer has done it. */
  block(): void {
    if (Atomics.wait(this.#progress, 0, 0, WATCHDOG_MS) === 'timed-out') {
      throw new Error('the peer was never connected');
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAY_MS);
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

// --- in the peer's thread ------------------------------------------------------------------------

function act(socket: Socket, { deed, progress }: Part): void {
  const done = (): void => {
    Atomics.store(progress, 0, 1);
    Atomics.notify(progress, 0);
  };
  socket.on('error', () => {});
  socket.resume();
  const reset = (): void => void socket.resetAndDestroy().once('close', done);
  if (deed === 'ends') socket.end(done);
  else if (deed === 'writes and ends') socket.end('hello', done);
  else if (deed === 'resets') reset();
  else socket.write('hello', reset);
}

async function play(part: Part): Promise<void> {
  const [runDirectory, stg] = part.array;
  let face = netFace;
  if (runDirectory !== undefined && stg !== undefined) {
    const { attach } = await import('../../src/socket/host.js'); /* one in two needs it */
    const host = await attach({ runDirectory, stg, name: KEY, timeoutMs: 60_000 });
    face = stpFace(host, host);
  }
  const told = (port: number): void => parentPort?.postMessage(port);
  if (part.port > 0) {
    told(0);
    const socket = face.connect({ port: part.port, host: LOOPBACK }, () => act(socket, part));
    return;
  }
  const server = face.createServer((socket) => act(socket, part));
  server.listen({ port: 0, host: LOOPBACK }, () => told((server.address() as AddressInfo).port));
}

const given = (workerData as { [KEY]?: Part } | null)?.[KEY];
if (given !== undefined) await play(given);
