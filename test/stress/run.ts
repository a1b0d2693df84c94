/**
 * One run of the stress test: an array of its own, the processes of a plan, what becomes of them,
 * and in the end nothing that is left over.
 *
 * The length of a run follows from its plan. A run that stands still is a failure: it says what
 * every process, socket and stream was doing. The watchdog counts its own ticks, not a clock, so
 * that a machine which was suspended does not look like a hang.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SocketReport, StgReport } from '../../src/daemon/reports.js';
import type { Figures } from '../../src/view/figures.js';
import { type ArrayForTest, startArray } from '../support/array.js';
import type { EndReport, ThreadCounters } from './end-report.js';
import { wrongWith } from './judge.js';
import { makePlan, type Plan, type PlanShape, type ProcessPlan, WRAP_BYTES } from './plan.js';
import type { HostOrder, HostSetup, HostWord } from './stress-host.js';

/** Ticks of a second each in which nothing at all has moved. */
const STILL_TICKS_MAX = 60;
const TICK_MS = 1000;
const LOOK_MS = 50;
/** A holder of a board lock is stolen from after this: see native/stg.cc. */
const STEAL_MS = 10;
/** A thread that waits looks again after this, an event loop after a second. */
const SLICE_MS = 50;

const hostProgram = fileURLToPath(new URL('./stress-host.js', import.meta.url));
const stpctlProgram = fileURLToPath(new URL('../../src/ctl/stpctl.js', import.meta.url));

interface Process {
  readonly plan: ProcessPlan;
  readonly child: ChildProcess;
  readonly started: Set<number>;
  readonly said: string[];
  listening: boolean;
  moved: number;
  settled: { threads: ThreadCounters; sockets: number } | undefined;
  described: readonly string[];
  /** How it ended, if it has. */
  exit: string | undefined;
  /** The run ended it, or it was told to leave. */
  gone: boolean;
}

export interface RunResult {
  readonly ends: number;
  readonly bytes: number;
  /** Directions whose cursors have passed 2^32. */
  readonly wraps: number;
  readonly steals: number;
  readonly safetyFirings: number;
  readonly delayedMs: number;
}

/** What went wrong, with the seed that plans it again. */
export class StressFailure extends Error {
  override readonly name = 'StressFailure';
}

/** The first cores that this process may use. */
function usableCores(): number[] {
  const list = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return (list ?? '0').split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class StressRun {
  readonly #plan: Plan;
  readonly #directory = mkdtempSync(join(tmpdir(), 'stpd-stress-'));
  readonly #teardowns: (() => unknown)[] = [];
  readonly #processes: Process[] = [];
  readonly #reports = new Map<string, EndReport>();
  #array: ArrayForTest | undefined;
  #failure: Promise<string> | undefined;
  #moves = 0;
  #lateMs = 0;
  #ends = 0;
  /** Descriptors of stpd before anybody came. */
  #baseline = 0;

  constructor(seed: number, shape: PlanShape) {
    this.#plan = makePlan(seed, shape);
  }

  /** @throws StressFailure */
  async run(): Promise<RunResult> {
    const watchdog = this.#watch();
    try {
      await this.#start();
      for (const wave of [0, 1]) await this.#wave(wave);
      this.#judge();
      return await this.#finish();
    } finally {
      clearInterval(watchdog);
      for (const { child } of this.#processes) child.kill('SIGKILL');
      for (const teardown of this.#teardowns.reverse()) await teardown();
      rmSync(this.#directory, { recursive: true, force: true });
    }
  }

  // --- watching ---------------------------------------------------------------------------------

  #watch(): NodeJS.Timeout {
    let still = 0;
    let seen = -1;
    let last = performance.now();
    return setInterval(() => {
      const now = performance.now();
      this.#lateMs += Math.max(0, now - last - TICK_MS);
      last = now;
      still = this.#moves === seen ? still + 1 : 0;
      seen = this.#moves;
      if (still === STILL_TICKS_MAX) this.#fail(`nothing has moved for ${still} seconds`);
    }, TICK_MS);
  }

  /** Waits for something; whoever finds a fault meanwhile ends the wait. */
  async #until(what: string, look: () => boolean | Promise<boolean>): Promise<void> {
    for (;;) {
      if (this.#failure !== undefined) throw new StressFailure(`${what}: ${await this.#failure}`);
      if (await look()) return;
      await pause(LOOK_MS);
    }
  }

  /** The first fault, with what everybody was doing; others follow from it. */
  #fail(why: string): void {
    this.#failure ??= this.#describe().then((lines) => [why, ...lines].join('\n'));
  }

  async #describe(): Promise<string[]> {
    const alive = this.#processes.filter(({ exit }) => exit === undefined);
    for (const { child } of alive) this.#tell(child, { order: 'describe' });
    await pause(2 * TICK_MS); /* those that are stopped or hang say nothing */
    const lines = [`plan: ${JSON.stringify(this.#plan.processes)}`];
    for (const process of this.#processes) {
      const { plan, exit, described, said } = process;
      lines.push(`process ${plan.index}: ${exit ?? 'runs'}, started ${[...process.started]}`);
      for (const line of [...described, ...said]) lines.push(`  ${line}`);
      for (const name of described) {
        const id = Number(/^(\d+)\./.exec(name)?.[1] ?? -1);
        if (id >= 0) lines.push(`  ${JSON.stringify(this.#plan.connections[id])}`);
      }
    }
    return [...lines, ...this.#viewLines()];
  }

  /** From beside stpd: it may hang too. */
  #viewLines(): string[] {
    if (this.#array === undefined) return [];
    const look = (...args: string[]): string => {
      const all = [stpctlProgram, ...args, '--json', '--run-dir', this.#array?.runDirectory ?? ''];
      const result = spawnSync(process.execPath, all, { encoding: 'utf8', timeout: 20_000 });
      return result.stdout + result.stderr;
    };
    const listing = look('socket', 'list');
    const lines = ['stpctl socket list --json:'];
    try {
      const { sockets } = JSON.parse(listing) as { sockets: SocketReport[] };
      lines.push(...sockets.map((socket) => `  ${JSON.stringify(socket)}`));
      const ids = sockets.filter(({ end }) => end === 0).map(({ id }) => id);
      for (const id of ids.slice(0, 8)) {
        lines.push(`stpctl trace ${id}:`, look('trace', id, '--no-follow'));
      }
    } catch {
      lines.push(listing);
    }
    return lines;
  }

  // --- processes --------------------------------------------------------------------------------

  async #start(): Promise<void> {
    const { oneCore, boardBytes } = this.#plan.shape;
    const teardown = (fn: () => unknown): void => void this.#teardowns.push(fn);
    this.#array = await startArray(
      { teardown },
      { boardSize: `${boardBytes / 2 ** 20}MiB`, ports: 512, connections: 512 },
    );
    if (oneCore) {
      const [core = 0] = usableCores();
      spawnSync('taskset', ['-a', '-c', '-p', String(core), String(this.#array.stpd.pid)]);
    }
    this.#baseline = readdirSync(`/proc/${this.#array.stpd.pid}/fd`).length;
    for (const plan of this.#plan.processes) this.#startProcess(plan);
    await this.#until('processes listen', () => this.#processes.every((p) => p.listening));
  }

  #startProcess(plan: ProcessPlan): void {
    const { seed, shape } = this.#plan;
    const setup: HostSetup = {
      runDirectory: this.#array?.runDirectory ?? '',
      stg: 'test',
      directory: this.#directory,
      seed,
      shape,
      index: plan.index,
    };
    const cores = usableCores();
    const core = shape.oneCore ? cores[0] : cores[plan.index % cores.length];
    const pinned = shape.oneCore || plan.pinned;
    const node = [process.execPath, hostProgram, JSON.stringify(setup)] as const;
    const command = pinned ? ['taskset', '-c', String(core), ...node] : [...node];
    const child = spawn(command[0] as string, command.slice(1), {
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    const process_: Process = {
      plan,
      child,
      started: new Set(),
      said: [],
      listening: false,
      moved: 0,
      settled: undefined,
      described: [],
      exit: undefined,
      gone: false,
    };
    this.#processes.push(process_);
    child.stderr?.on('data', (text: Buffer) => process_.said.push(text.toString().trimEnd()));
    child.on('message', (word: HostWord) => this.#onWord(process_, word));
    child.once('exit', (code, signal) => {
      process_.exit = signal ?? `exit code ${code}`;
      this.#moves++;
      const expected = process_.gone && (signal === 'SIGKILL' || code === 0);
      if (!expected) this.#fail(`process ${plan.index} ended by itself: ${process_.exit}`);
    });
  }

  #onWord(process: Process, word: HostWord): void {
    switch (word.word) {
      case 'listening':
        process.listening = true;
        break;
      case 'started':
        process.started.add(word.wave);
        break;
      case 'moved':
        process.moved = word.bytes;
        break;
      case 'report':
        this.#reports.set(`${word.report.id}.${word.report.end}`, word.report);
        if (this.#plan.connections[word.report.id]?.wave === 1) this.#ends++;
        break;
      case 'settled':
        process.settled = word;
        break;
      case 'described':
        process.described = word.lines;
        return;
      case 'failed':
        this.#fail(`process ${process.plan.index}: ${word.why}`);
        return;
    }
    this.#moves++;
  }

  #tell(child: ChildProcess, order: HostOrder): void {
    if (child.connected) child.send(order, () => {});
  }

  // --- the course of a run ----------------------------------------------------------------------

  async #wave(wave: number): Promise<void> {
    for (const { child } of this.#processes) this.#tell(child, { order: 'wave', wave });
    const fates = wave === 0 ? [] : this.#processes.map((process) => this.#befall(process));
    await Promise.all(fates);
    await this.#until(`wave ${wave} has started all`, () =>
      this.#processes.every((p) => p.gone || p.started.has(wave)),
    );
    await this.#until('those that leave have left', () =>
      this.#processes.every((p) => !p.gone || p.exit !== undefined),
    );
    await this.#until(`no connection of wave ${wave} is left`, async () => {
      return (await this.#stg())?.connectionsUsed === 0;
    });
    await this.#until(`the last reports of wave ${wave}`, async () => this.#allReported(wave));
  }

  /** Undefined while stpd does not answer: whether for too long is the watchdog's affair. */
  async #stg(): Promise<StgReport | undefined> {
    const array = this.#array as ArrayForTest;
    if (array.stpd.exitCode !== null) this.#fail(`stpd has ended with ${array.stpd.exitCode}`);
    const stgs = await array.list<StgReport>('stg', 'list').catch(() => []);
    return stgs[0];
  }

  /** What both ends have begun, both have told; a report may be on its way when its slot is free. */
  #allReported(wave: number): boolean {
    return this.#plan.connections.every((connection) => {
      if (connection.wave !== wave || connection.breaks !== undefined) return true;
      if (connection.processes.some((p) => this.#processes[p]?.gone)) return true;
      return [0, 1].every((end) => this.#reports.has(`${connection.id}.${end}`));
    });
  }

  /** What the plan has in store for a process in the second wave. */
  async #befall(process: Process): Promise<void> {
    const { fate, afterEnds, stopMs, stops } = process.plan;
    if (fate === 'stays') return;
    await this.#until(`${afterEnds} ends were reported`, () => {
      return this.#ends >= afterEnds || this.#processes.every((p) => p.started.has(1));
    });
    if (fate === 'stopped') {
      for (let i = 0; i < stops; i++) {
        process.child.kill('SIGSTOP');
        await pause(stopMs);
        process.child.kill('SIGCONT');
        await pause(stopMs / 4);
      }
      return;
    }
    process.gone = true;
    if (fate === 'killed') process.child.kill('SIGKILL');
    else this.#tell(process.child, { order: 'leave', how: fate === 'closes' ? 'close' : 'exit' });
  }

  #judge(): void {
    for (const connection of this.#plan.connections) {
      const ends = [0, 1].map((end) => this.#reports.get(`${connection.id}.${end}`));
      const wrong = wrongWith(this.#plan, connection, [ends[0], ends[1]]);
      if (wrong !== undefined) {
        throw new StressFailure(`${wrong}\n${JSON.stringify(connection)}`);
      }
    }
  }

  // --- nothing is left over ---------------------------------------------------------------------

  async #finish(): Promise<RunResult> {
    const array = this.#array as ArrayForTest;
    const here = this.#processes.filter(({ gone }) => !gone);
    await this.#until('pages, ports and slots are free', async () => {
      const stg = await this.#stg();
      return (
        stg !== undefined &&
        stg.pagesFree === stg.pagesTotal &&
        stg.portsUsed === here.length &&
        stg.members.length === here.length &&
        stg.connectionsUsed === 0
      );
    });
    for (const { child } of here) this.#tell(child, { order: 'settle' });
    await this.#until('they settle', () => here.every(({ settled }) => settled !== undefined));
    for (const { plan, settled } of here) this.#checkSockets(plan.index, settled?.sockets ?? 0);
    const figures = JSON.parse(await array.stpctl('top', '--once', '--json')).top as Figures;
    const result = this.#count(figures, here);
    await this.#leave(here);
    return result;
  }

  /** Two of the attachment, one for each process it has met, one of IPC and those of stdio. */
  #checkSockets(index: number, sockets: number): void {
    const met = this.#processes.filter(({ gone }) => !gone).length;
    const most = 2 + met + 1 /* itself */ + 1 + 3;
    if (sockets > most) {
      throw new StressFailure(`process ${index} has ${sockets} sockets, at most ${most} are its`);
    }
  }

  /**
   * A lock is taken over from a holder that stood still for 10 ms, a wake-up is found by the end of
   * a slice where whoever should have sent it stood still for 50. Each such moment is a process
   * that was killed or stopped, or a time in which a thread was ready and had no core.
   */
  #count(figures: Figures, here: readonly Process[]): RunResult {
    const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
    const threads = here.map(({ settled }) => settled?.threads as ThreadCounters);
    const delayedMs = sum(threads.map((t) => t.delayedMs)) + this.#lateMs * here.length;
    const steals = sum(figures.boards.map((board) => board.steals));
    const safetyFirings =
      sum(figures.hosts.map((host) => host.safetyFirings)) +
      sum(figures.directors.map((director) => director.safetyFirings)) +
      sum(threads.map((t) => t.safetyFirings));
    const faults = sum(
      this.#processes.map(({ plan }) =>
        plan.fate === 'stays'
          ? 0
          : plan.fate === 'stopped'
            ? plan.stops * figures.boards.length
            : 8,
      ),
    );
    const stealsMost = faults + Math.floor(delayedMs / STEAL_MS);
    const firingsMost = faults + Math.floor(delayedMs / SLICE_MS);
    const counted = `${Math.round(delayedMs)} ms without a core, ${faults} moments of faults`;
    if (steals > stealsMost) {
      throw new StressFailure(`${steals} locks were taken over, ${counted} explain ${stealsMost}`);
    }
    if (safetyFirings > firingsMost) {
      throw new StressFailure(
        `${safetyFirings} wake-ups were lost, ${counted} explain ${firingsMost}`,
      );
    }
    const reports = [...this.#reports.values()];
    return {
      ends: reports.length,
      bytes: sum(reports.map(({ received }) => received)),
      wraps: reports.filter(({ received }) => received > WRAP_BYTES).length,
      steals,
      safetyFirings,
      delayedMs: Math.round(delayedMs),
    };
  }

  async #leave(here: readonly Process[]): Promise<void> {
    const array = this.#array as ArrayForTest;
    for (const process of here) {
      process.gone = true;
      const how = process.plan.index % 2 === 0 ? 'close' : 'exit';
      this.#tell(process.child, { order: 'leave', how });
    }
    await this.#until('every process ends', () => here.every(({ exit }) => exit !== undefined));
    await this.#until('no member, port and descriptor is left', async () => {
      const stg = await this.#stg();
      const descriptors = readdirSync(`/proc/${array.stpd.pid}/fd`).length;
      return stg?.members.length === 0 && stg.portsUsed === 0 && descriptors <= this.#baseline;
    });
    if (array.stpd.exitCode !== null) throw new StressFailure('stpd has ended');
  }
}
