/**
 * One run with hostile hosts: two victims transfer in a clean and in a spoiled STG of one array,
 * while others write noise into the spoiled one, into their own member rings, and at the attach
 * socket. Nobody but the hostile may end, the clean STG is as if nothing were, and in the end
 * everything that can be counted is free. The seed replays what is written, not when.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { StgReport } from '../../src/daemon/reports.js';
import { attach } from '../../src/index.js';
import { type ArrayForTest, startArray } from '../support/array.js';
import type { HostileKind, HostileSetup } from './hostile-host.js';
import { StressFailure } from './run.js';
import type { VictimSetup, VictimWord } from './victim.js';

export interface HostileShape {
  /** Rounds of each kind of hostile host; 0 leaves it out. */
  readonly memory: number;
  readonly ring: number;
  readonly attach: number;
}

export interface HostileResult {
  /** Streams of the clean STG, and of the spoiled one: that came to their end, and that broke. */
  readonly clean: number;
  readonly whole: number;
  readonly broken: number;
  /** With what they broke. */
  readonly codes: readonly string[];
}

const VICTIMS = 2;
const TICK_MS = 1000;
/** A run has rounds and no time; this many seconds are a hang. */
const TICKS_MAX = 240;
const LOOK_MS = 50;

const program = (name: string): string => fileURLToPath(new URL(`./${name}.js`, import.meta.url));

interface Child {
  readonly name: string;
  readonly child: ChildProcess;
  readonly said: string[];
  listening: boolean;
  counted: Extract<VictimWord, { word: 'counted' }> | undefined;
  exit: string | undefined;
}

export class HostileRun {
  readonly #seed: number;
  readonly #shape: HostileShape;
  readonly #teardowns: (() => unknown)[] = [];
  readonly #children: Child[] = [];
  #failure: string | undefined;
  #ticks = 0;

  constructor(seed: number, shape: HostileShape) {
    this.#seed = seed;
    this.#shape = shape;
  }

  /** @throws StressFailure */
  async run(): Promise<HostileResult> {
    const watchdog = setInterval(() => {
      if (++this.#ticks === TICKS_MAX) this.#fail('it does not come to its end');
    }, TICK_MS);
    try {
      return await this.#course();
    } finally {
      clearInterval(watchdog);
      for (const { child } of this.#children) child.kill('SIGKILL');
      for (const teardown of this.#teardowns.reverse()) await teardown();
    }
  }

  async #course(): Promise<HostileResult> {
    const array = await startArray(
      { teardown: (fn) => void this.#teardowns.push(fn) },
      { boards: 16, boardSize: '2MiB', stgs: ['clean', 'spoiled'], connections: 64 },
    );
    const baseline = readdirSync(`/proc/${array.stpd.pid}/fd`).length;
    const { runDirectory } = array;
    const victims = Array.from({ length: VICTIMS }, (_, index) => {
      const setup: VictimSetup = { runDirectory, seed: this.#seed, index, victims: VICTIMS };
      return this.#start(`victim ${index}`, 'victim', setup);
    });
    await this.#until('victims listen', () => victims.every(({ listening }) => listening));
    for (const { child } of victims) child.send('go');
    const kinds = (['memory', 'ring', 'attach'] as const).filter((kind) => this.#shape[kind] > 0);
    const hostile = kinds.map((kind) => this.#startHostile(runDirectory, kind));
    await this.#until('the hostile have ended', () => hostile.every(({ exit }) => exit));
    for (const { child } of victims) child.send('stop');
    await this.#until('the victims have ended', () => victims.every(({ exit }) => exit));
    if (array.stpd.exitCode !== null) this.#fail(`stpd has ended with ${array.stpd.exitCode}`);
    await this.#checkLeft(array, baseline);
    const counts = victims.map(({ counted }) => counted);
    const sum = (field: 'clean' | 'whole' | 'broken'): number =>
      counts.reduce((total, count) => total + (count?.[field] ?? 0), 0);
    return {
      clean: sum('clean'),
      whole: sum('whole'),
      broken: sum('broken'),
      codes: [...new Set(counts.flatMap((count) => count?.codes ?? []))],
    };
  }

  #startHostile(runDirectory: string, kind: HostileKind): Child {
    const setup: HostileSetup = {
      kind,
      runDirectory,
      stg: 'spoiled',
      seed: this.#seed,
      rounds: this.#shape[kind],
    };
    return this.#start(`hostile: ${kind}`, 'hostile-host', setup);
  }

  #start(name: string, file: string, setup: object): Child {
    const child = spawn(process.execPath, [program(file), JSON.stringify(setup)], {
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    const entry: Child = {
      name,
      child,
      said: [],
      listening: false,
      counted: undefined,
      exit: undefined,
    };
    this.#children.push(entry);
    child.stderr?.on('data', (text: Buffer) => entry.said.push(text.toString()));
    child.on('message', (word: VictimWord) => {
      if (word.word === 'listening') entry.listening = true;
      else if (word.word === 'counted') entry.counted = word;
      else this.#fail(`${name}: ${word.why}`);
    });
    child.once('exit', (code, signal) => {
      entry.exit = signal ?? `exit code ${code}`;
      if (code !== 0) this.#fail(`${name} ended with ${entry.exit}: ${entry.said.join('')}`);
    });
    return entry;
  }

  #fail(why: string): void {
    const states = this.#children.map(({ name, exit }) => `${name}: ${exit ?? 'runs'}`);
    this.#failure ??= `${why}\n${states.join('\n')}`;
  }

  async #until(what: string, look: () => unknown): Promise<void> {
    for (;;) {
      if (this.#failure !== undefined) throw new StressFailure(`${what}: ${this.#failure}`);
      if (await look()) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /**
   * The clean STG has everything back. Of the spoiled one, what the director knows from its own
   * memory; its pages may be lost to lying owner words, until it is deleted.
   */
  async #checkLeft(array: ArrayForTest, baseline: number): Promise<void> {
    let left = '';
    await this.#until('nothing is left over', async () => {
      /* None while stpd does not answer: whether for too long is the watchdog's affair. */
      const stgs = await array.list<StgReport>('stg', 'list').catch(() => []);
      const descriptors = readdirSync(`/proc/${array.stpd.pid}/fd`).length;
      left = `${descriptors} descriptors, ${baseline} before; ${JSON.stringify(stgs)}`;
      const free = stgs.every(
        (stg) => stg.connectionsUsed === 0 && stg.portsUsed === 0 && stg.members.length === 0,
      );
      const [clean] = stgs.filter(({ name }) => name === 'clean');
      return (
        clean !== undefined &&
        free &&
        clean.pagesFree === clean.pagesTotal &&
        descriptors <= baseline
      );
    }).catch((error: Error) => {
      throw new StressFailure(`${error.message}\n${left}`);
    });
    await array.stpctl('stg', 'delete', 'spoiled');
    await array.stpctl('stg', 'create', 'spoiled', '--boards', '8', '--ports', '8');
    const host = await attach({ runDirectory: array.runDirectory, stg: 'spoiled' });
    await host.bind(1000);
    await host.close();
  }
}
