/**
 * A process in two STGs of one array: in 'clean' its streams must be perfect, in 'spoiled' another
 * host writes noise, and they may break with ECONNRESET, EPIPE, or show other bytes; nothing may
 * happen to the process. It connects to itself and to the other process of its kind, on the event
 * loop and in worker threads, until it is told to stop. Argument: a VictimSetup as JSON.
 */
import { Worker } from 'node:worker_threads';
import { attach, type Host, type StpSocket } from '../../src/index.js';
import { Dice } from '../support/random.js';
import { Content } from './content.js';
import { codeOf } from './end-report.js';

export interface VictimSetup {
  readonly runDirectory: string;
  readonly seed: number;
  readonly index: number;
  /** How many of its kind there are. */
  readonly victims: number;
}

export type VictimWord =
  | { readonly word: 'listening' }
  | { readonly word: 'failed'; readonly why: string }
  | {
      readonly word: 'counted';
      readonly clean: number;
      readonly whole: number;
      readonly broken: number;
      readonly codes: readonly string[];
    };

const portOf = (index: number): number => 1000 + index;
/** A stream of the spoiled STG whose end was wiped out would wait for ever. */
const PATIENCE_MS = 400;
const CLEAN_BYTES_MAX = 600_000;
const SPOILED_BYTES_MAX = 3_000_000;
const PIECE_BYTES = 100_000;
/** Streams that each process has under way in the spoiled STG: as many as noise aims at. */
const SPOILED_AT_ONCE = 4;
/** A worker gets every so many-th connection of the spoiled STG. */
const WORKER_EVERY = 5;
/** Ports name a content: the reader of a clean stream knows it by its peer's. */
const CONTENTS = 16;

/** What streams of the spoiled STG may end with; undefined is an orderly end. */
const ALLOWED = new Set([undefined, 'ECONNRESET', 'EPIPE', 'ECANCELED', 'ENOBUFS']);

const say = (word: VictimWord): void => void process.send?.(word);
const onFailure = (error: unknown): void =>
  say({ word: 'failed', why: (error as Error).stack ?? String(error) });

class Victim {
  readonly #setup: VictimSetup;
  readonly #dice: Dice;
  readonly #contents: readonly Content[];
  readonly #codes = new Set<string>();
  #stopping = false;
  #clean = 0;
  #whole = 0;
  #broken = 0;

  constructor(setup: VictimSetup) {
    this.#setup = setup;
    this.#dice = new Dice(setup.seed + setup.index);
    this.#contents = Array.from({ length: CONTENTS }, (_, i) => new Content(7, i, 0));
  }

  async run(): Promise<void> {
    const { runDirectory, index } = this.#setup;
    const hosts = await Promise.all(
      ['clean', 'spoiled'].map((stg) => attach({ runDirectory, stg, name: `victim ${index}` })),
    );
    const [clean, spoiled] = hosts as [Host, Host];
    await this.#listen(clean, (socket) => this.#receive(socket, true));
    await this.#listen(spoiled, (socket) => this.#receive(socket, false));
    say({ word: 'listening' });
    await new Promise((resolve) => process.once('message', resolve));
    const stopped = new Promise((resolve) => process.once('message', resolve)).then(() => {
      this.#stopping = true;
    });
    const spoiling = Array.from({ length: SPOILED_AT_ONCE }, () => this.#send(spoiled, false));
    await Promise.all([this.#send(clean, true), ...spoiling, stopped]);
    await Promise.all(hosts.map((host) => host.close()));
    const { word, ...counts } = this.#counts();
    say({ word, ...counts });
    process.disconnect();
  }

  #counts() {
    const [clean, whole, broken] = [this.#clean, this.#whole, this.#broken];
    return { word: 'counted' as const, clean, whole, broken, codes: [...this.#codes] };
  }

  async #listen(host: Host, onConnection: (socket: StpSocket) => void): Promise<void> {
    const server = host.createServer({ allowHalfOpen: true, pauseOnConnect: true }, onConnection);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port: portOf(this.#setup.index) }, resolve);
    });
  }

  /** Streams one after the other, to both processes. */
  async #send(host: Host, clean: boolean): Promise<void> {
    while (!this.#stopping) {
      const code = await this.#sendOne(host, clean);
      if (clean) {
        if (code !== undefined) throw new Error(`a stream of the clean STG ended with ${code}`);
        this.#clean++;
      } else this.#count(code);
    }
  }

  #count(code: string | undefined): void {
    if (code === undefined) this.#whole++;
    else this.#broken++;
    if (code !== undefined) this.#codes.add(code);
    if (!ALLOWED.has(code) && code !== 'patience') {
      throw new Error(`a stream of the spoiled STG ended with ${code}`);
    }
  }

  /** Its code, or undefined. The first byte names the content. */
  #sendOne(host: Host, clean: boolean): Promise<string | undefined> {
    const dice = this.#dice;
    const number = dice.whole(0, CONTENTS - 1);
    const content = this.#contents[number] as Content;
    const bytes = dice.size(clean ? CLEAN_BYTES_MAX : SPOILED_BYTES_MAX);
    const socket = host.connect({
      port: portOf(dice.whole(0, this.#setup.victims - 1)),
      allowHalfOpen: true,
    });
    const end = this.#endOf(socket, clean);
    socket.write(Buffer.of(number));
    let sent = 0;
    const more = (): void => {
      while (sent < bytes && socket.writable) {
        const piece = content.bytes(Math.min(bytes - sent, dice.size(PIECE_BYTES)), sent);
        sent += piece.length;
        if (!socket.write(piece)) return void socket.once('drain', more);
      }
      if (socket.writable) socket.end();
    };
    more();
    /* The other side answers with how much it got. */
    let answer = '';
    socket.on('data', (data: Buffer) => {
      answer += data.toString('latin1').slice(0, 100);
    });
    return end.then((code) => {
      if (clean && code === undefined && answer !== String(bytes)) {
        throw new Error(`${bytes} bytes were sent in the clean STG, and '${answer}' arrived`);
      }
      return code;
    });
  }

  #endOf(socket: StpSocket, clean: boolean): Promise<string | undefined> {
    let code: string | undefined;
    socket.on('error', (error) => {
      code = codeOf(error);
    });
    if (!clean) {
      socket.setTimeout(PATIENCE_MS, () => {
        code = 'patience';
        socket.destroy();
      });
    }
    return new Promise((resolve) => socket.once('close', () => resolve(code)));
  }

  #receive(socket: StpSocket, clean: boolean): void {
    const end = this.#endOf(socket, clean);
    if (!clean && this.#dice.chance(1 / WORKER_EVERY)) {
      this.#inWorker(socket).catch(onFailure);
      return;
    }
    let content: Content | undefined;
    let received = 0;
    socket.on('data', (data: Buffer) => {
      if (!clean) return;
      let rest = data;
      if (content === undefined) {
        content = this.#contents[data[0] as number] as Content;
        rest = data.subarray(1);
      }
      try {
        content.check(rest, received);
      } catch (error) {
        onFailure(error);
      }
      received += rest.length;
    });
    socket.once('end', () => socket.end(String(received)));
    socket.resume();
    end
      .then((code) => {
        if (clean && code !== undefined) throw new Error(`a clean stream ended with ${code}`);
      })
      .catch(onFailure);
  }

  /** Blocking calls on memory that changes under them, for a while. */
  async #inWorker(socket: StpSocket): Promise<void> {
    const handle = socket.detach();
    const worker = new Worker(new URL('./victim-worker.js', import.meta.url), {
      workerData: { handle, seed: this.#dice.whole(0, 2 ** 31) },
      transferList: [handle.port],
    });
    worker.on('error', onFailure);
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    /* Whatever it waits for: it comes back to JavaScript. */
    const timer = setTimeout(() => void worker.terminate(), PATIENCE_MS);
    await exited;
    clearTimeout(timer);
  }
}

process.on('uncaughtException', onFailure);
process.on('unhandledRejection', onFailure);
new Victim(JSON.parse(process.argv[2] ?? '') as VictimSetup).run().catch(onFailure);
