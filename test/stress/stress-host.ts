/**
 * One process of the stress test: a host with a listener, its ends of the planned connections on
 * the event loop and in worker threads. Told by the run over IPC which wave to begin and when to
 * leave; reports each end.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { attach, type Host, type StpSocket, type StreamHandle } from '../../src/index.js';
import { setPollBudget } from '../../src/memory/event-loop.js';
import {
  codeOf,
  connectionById,
  type EndReport,
  type EndTask,
  listeningPort,
  PORT_OF_FIRST,
  portOf,
  type ThreadCounters,
} from './end-report.js';
import { handOver, LoopEnd } from './loop-end.js';
import { type ConnectionPlan, makePlan, type Plan, type PlanShape } from './plan.js';
import type { WorkerJob, WorkerSetup, WorkerWord } from './stress-worker.js';

export interface HostSetup {
  readonly runDirectory: string;
  readonly stg: string;
  readonly directory: string;
  readonly seed: number;
  readonly shape: PlanShape;
  readonly index: number;
}

export type HostOrder =
  | { readonly order: 'wave'; readonly wave: number }
  | { readonly order: 'settle' }
  | { readonly order: 'describe' }
  | { readonly order: 'leave'; readonly how: 'close' | 'exit' };

export type HostWord =
  | { readonly word: 'listening' }
  | { readonly word: 'report'; readonly report: EndReport }
  | { readonly word: 'started'; readonly wave: number }
  | { readonly word: 'moved'; readonly bytes: number }
  | { readonly word: 'failed'; readonly why: string }
  | { readonly word: 'settled'; readonly threads: ThreadCounters; readonly sockets: number }
  | { readonly word: 'described'; readonly lines: readonly string[] };

/** Connections of one process that are under way at a time. */
const AT_ONCE = 12;
const MOVED_EVERY_MS = 500;

const say = (word: HostWord): void => void process.send?.(word);
const onFailure = (error: unknown): void =>
  say({ word: 'failed', why: (error as Error).stack ?? String(error) });

/** Workers that are used again: one that is idle, else a new one, so that no job waits. */
class Crew {
  readonly #setup: WorkerSetup;
  readonly #idle: Worker[] = [];
  #retired = false;
  counters: ThreadCounters = { delayedMs: 0, safetyFirings: 0 };

  constructor(setup: WorkerSetup) {
    this.#setup = setup;
  }

  /** Undefined where the worker was ended, as planned. */
  async carryOut(
    job: WorkerJob,
    transfer: readonly StreamHandle[],
  ): Promise<EndReport | undefined> {
    const worker = this.#idle.pop() ?? this.#start();
    worker.postMessage(
      job,
      transfer.map(({ port }) => port),
    );
    const word = await this.#next(worker);
    if (word === undefined) return undefined;
    if (word.word === 'failed') throw new Error(word.why);
    if (word.word === 'ended') throw new Error('a worker ended in the middle');
    this.#count({ delayedMs: 0, safetyFirings: word.safetyFirings });
    this.#idle.push(worker);
    if (this.#retired) await this.dismiss();
    return word.report;
  }

  #start(): Worker {
    const worker = new Worker(new URL('./stress-worker.js', import.meta.url), {
      workerData: this.#setup,
    });
    worker.once('error', onFailure);
    return worker;
  }

  #next(worker: Worker): Promise<WorkerWord | undefined> {
    return new Promise((resolve) => {
      const exit = (): void => resolve(undefined);
      worker.once('exit', exit);
      worker.once('message', (word: WorkerWord) => {
        worker.off('exit', exit);
        resolve(word);
      });
    });
  }

  #count(more: ThreadCounters): void {
    this.counters = {
      delayedMs: this.counters.delayedMs + more.delayedMs,
      safetyFirings: this.counters.safetyFirings + more.safetyFirings,
    };
  }

  /** From now on nobody waits for work. */
  async retire(): Promise<void> {
    this.#retired = true;
    await this.dismiss();
  }

  /** Those that are idle. */
  async dismiss(): Promise<void> {
    await Promise.all(
      this.#idle.splice(0).map(async (worker) => {
        const exited = new Promise((resolve) => worker.once('exit', resolve));
        worker.postMessage({ do: 'end' } satisfies WorkerJob);
        const word = await this.#next(worker);
        if (word?.word === 'ended') this.#count(word.counters);
        await exited;
      }),
    );
  }
}

class StressHost {
  readonly #setup: HostSetup;
  readonly #plan: Plan;
  readonly #polls: boolean;
  readonly #host: Host;
  readonly #crew: Crew;
  readonly #loopEnds = new Set<LoopEnd>();
  readonly #open = new Map<string, string>();
  #moved = 0;
  #told = -1;
  readonly #timer: NodeJS.Timeout;

  constructor(setup: HostSetup, host: Host) {
    this.#setup = setup;
    this.#plan = makePlan(setup.seed, setup.shape);
    this.#host = host;
    this.#crew = new Crew({ runDirectory: setup.runDirectory, stg: setup.stg });
    this.#polls = this.#plan.processes[setup.index]?.polls === true;
    if (!this.#polls) setPollBudget(0);
    this.#timer = setInterval(() => this.#tellMoved(), MOVED_EVERY_MS);
  }

  listen(): Promise<void> {
    const server = this.#host.createServer(
      { allowHalfOpen: true, pauseOnConnect: true },
      (socket) => this.#onConnection(socket),
    );
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port: listeningPort(this.#setup.index), backlog: 4 }, resolve);
    });
  }

  /** A sign of life for the watchdog: bytes that the event loop has seen, and ends that are done. */
  #tellMoved(): void {
    let bytes = this.#moved;
    for (const end of this.#loopEnds) bytes += end.received;
    if (bytes === this.#told) return;
    this.#told = bytes;
    say({ word: 'moved', bytes });
  }

  #task(plan: ConnectionPlan, end: 0 | 1): EndTask {
    const { seed, directory } = this.#setup;
    return { seed, plan, end, polls: this.#polls, directory };
  }

  #report(report: EndReport): void {
    this.#open.delete(`${report.id}.${report.end}`);
    this.#moved += report.received;
    say({ word: 'report', report });
  }

  // --- ends -------------------------------------------------------------------------------------

  async wave(wave: number): Promise<void> {
    const { index } = this.#setup;
    const own = this.#plan.connections.filter((c) => c.wave === wave && c.processes[0] === index);
    const startNext = async (): Promise<void> => {
      for (let plan = own.shift(); plan !== undefined; plan = own.shift()) {
        await this.#connect(plan);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, startNext));
    say({ word: 'started', wave });
  }

  async #connect(plan: ConnectionPlan): Promise<void> {
    const task = this.#task(plan, 0);
    this.#open.set(`${plan.id}.0`, `${plan.forms[0]}, connects`);
    if (plan.forms[0] === 'calls') {
      const report = await this.#crew.carryOut({ do: 'calls', task }, []);
      if (report !== undefined) this.#report(report);
      return;
    }
    const socket = this.#newSocket(task);
    const failed = await new Promise<Error | undefined>((resolve) => {
      socket.once('connect', () => resolve(undefined));
      socket.once('error', resolve);
    });
    if (failed === undefined) return this.#carryOut(task, socket);
    const none = { id: plan.id, end: 0, sent: 0, received: 0 } as const;
    this.#report({ ...none, heard: codeOf(failed) });
  }

  #newSocket(task: EndTask): StpSocket {
    const { plan } = task;
    const target = { port: listeningPort(plan.processes[1]), localPort: portOf(plan) };
    const reads = plan.forms[0] === 'loop' && plan.directions[1].receive === 'onread';
    let end: LoopEnd | undefined;
    const onread = {
      buffer: Buffer.alloc(50_000),
      callback: (bytes: number, buffer: Uint8Array) => end?.onRead(bytes, buffer) ?? true,
    };
    const socket = this.#host.connect({
      ...target,
      allowHalfOpen: true,
      ...(reads ? { onread } : {}),
    });
    if (plan.forms[0] === 'loop') {
      end = this.#loopEnd(task, socket);
      socket.once('connect', () => end?.start());
    } else socket.pause();
    return socket;
  }

  #loopEnd(task: EndTask, socket: StpSocket): LoopEnd {
    const end = new LoopEnd(task, socket, onFailure);
    this.#loopEnds.add(end);
    void end.done.then(() => this.#loopEnds.delete(end));
    return end;
  }

  #onConnection(socket: StpSocket): void {
    const plan = connectionById(this.#plan, (socket.remotePort ?? 0) - PORT_OF_FIRST);
    const task = this.#task(plan, 1);
    this.#open.set(`${plan.id}.1`, `${plan.forms[1]}, accepted`);
    if (plan.forms[1] === 'loop') {
      const end = this.#loopEnd(task, socket);
      if (plan.directions[0].receive === 'onread') {
        socket.readInto({ buffer: Buffer.alloc(70_000), callback: end.onRead });
      }
      end.start();
    } else socket.on('error', () => {});
    this.#carryOut(task, socket).catch(onFailure);
  }

  /** An established connection, until this end of it is over. */
  async #carryOut(task: EndTask, socket: StpSocket): Promise<void> {
    const { plan, end } = task;
    for (const loopEnd of this.#loopEnds) {
      if (loopEnd.task.plan.id === plan.id && loopEnd.task.end === end) {
        return this.#report(await loopEnd.done);
      }
    }
    const none = { id: plan.id, end, sent: 0, received: 0 };
    let code = '';
    socket.on('error', (error) => {
      code = codeOf(error);
    });
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const given =
      plan.forms[end] === 'handed'
        ? await handOver(task, socket, onFailure)
        : { handle: socket.detach(), received: 0 };
    if (given === undefined) return this.#report({ ...none, heard: code === '' ? 'left' : code });
    const report = await this.#crew.carryOut({ do: 'stream', task, ...given }, [given.handle]);
    await closed;
    this.#report(report ?? { ...none, heard: 'own' });
  }

  // --- the end ----------------------------------------------------------------------------------

  /** Everything has come to its end; what is open now is left over. */
  async settle(): Promise<void> {
    await this.#crew.dismiss();
    const { delayedMs, safetyFirings } = this.#crew.counters;
    const [, waitedNs = '0'] = readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ');
    const sockets = readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
      } catch {
        return false; /* that of the listing itself */
      }
    }).length;
    const threads = { delayedMs: delayedMs + Number(waitedNs) / 1e6, safetyFirings };
    say({ word: 'settled', threads, sockets });
  }

  describe(): void {
    const lines = [...this.#open].map(([name, what]) => `${name}: ${what}`);
    for (const end of this.#loopEnds) lines.push(JSON.stringify(end.report()));
    lines.push(`kept by ${process.getActiveResourcesInfo().join(', ')}`);
    say({ word: 'described', lines });
  }

  leave(how: 'close' | 'exit'): void {
    clearInterval(this.#timer);
    for (const end of this.#loopEnds) end.leave();
    if (how === 'exit') process.exit(0);
    /* Nothing keeps the process any more, once it is closed. */
    this.#crew.retire().catch(onFailure);
    this.#host.close().catch(onFailure);
    /* It can still be asked what does keep it. */
    process.channel?.unref();
  }
}

async function main(setup: HostSetup): Promise<void> {
  const { runDirectory, stg, index } = setup;
  const host = await attach({ runDirectory, stg, name: `stress ${index}` });
  const stress = new StressHost(setup, host);
  await stress.listen();
  process.on('message', (order: HostOrder) => {
    if (order.order === 'wave') stress.wave(order.wave).catch(onFailure);
    else if (order.order === 'settle') stress.settle().catch(onFailure);
    else if (order.order === 'describe') stress.describe();
    else stress.leave(order.how);
  });
  say({ word: 'listening' });
}

process.on('uncaughtException', onFailure);
process.on('unhandledRejection', onFailure);
await main(JSON.parse(process.argv[2] ?? '') as HostSetup);
