/**
 * Rounds of work in which somebody is killed at a random moment, and what must hold after each:
 * every listed set passes `check --data` and restores as the tree was when it was made; nothing
 * half-made is listed; locks are free; `tmp` is empty after the next open; no process is left; and
 * whoever was not killed works on.
 */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from '../../src/clock.js';
import { checkLibrary } from '../../src/library/check-library.js';
import { Library } from '../../src/library/library.js';
import { RestoreWriter, restoreSet } from '../../src/library/restore.js';
import { sendSet } from '../../src/library/send-set.js';
import { openChain } from '../../src/library/set-tree.js';
import { withLock } from '../../src/library/waiting-lock.js';
import { type Finished, until } from '../support/array.js';
import { flipBit, portrait } from '../unit/library/flips.js';
import { lockFile, MemoryPipe, randomFrom, testNative } from '../unit/library/stand-ins.js';
import { type KillsHouse, type Role, type Running, WATCHDOG_MS } from './kills-house.js';

/** A verb as its victim stands for whoever typed it. */
type Victim = Role | 'verb';

export const operations = [
  'full',
  'incremental',
  'restore',
  'forget',
  'repair',
  'command',
  'wal-push',
] as const;
type Operation = (typeof operations)[number];

const victims: Readonly<Record<Operation, readonly Victim[][]>> = {
  full: [['client'], ['server'], ['stpd'], ['verb'], ['client', 'server', 'stpd', 'verb']],
  incremental: [['client'], ['server'], ['stpd'], ['verb'], ['client', 'server', 'stpd', 'verb']],
  restore: [['client'], ['server'], ['stpd'], ['verb']],
  forget: [['verb'], ['server']],
  repair: [['verb'], ['server']],
  command: [['verb'], ['server'], ['stpd'], ['verb', 'server']],
  'wal-push': [['client'], ['server'], ['stpd'], ['verb']],
};

const FILES = 500;
/** Large enough for a stream of its own, several volumes and block deltas. */
const LARGE_BYTES = 4_300_000;
/** How a backup is asked for: what lies on the disk, and who writes it, is another each time. */
const hows: readonly (readonly string[])[] = [
  [],
  ['--streams', '3'],
  ['--compress', 'zstd'],
  ['--volume-size', '1MiB', '--streams', '2'],
];
/** Every so many rounds every listed set is restored, else the newest and one more. */
const RESTORE_ALL_ROUNDS = 10;
const SEGMENT_BYTES = 1 << 20;
/** Sets that `forget` leaves, so that a check of all of them stays cheap. */
const KEEP = 4;
/** Kills lie between nothing and somewhat more than the time that the work took here and now. */
const KILL_SPREAD = 1.1;
/** Most kills shall hit the work; the others hit the start of the verb and the handshake, too. */
const KILLS_AT_WORK = 0.75;
const LOOK_MS = 3;

export interface Told {
  killed: number;
  readonly byVictim: Map<string, number>;
  readonly byOperation: Map<string, number>;
  made: number;
  failed: number;
  restored: number;
}

const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export class KillsRounds {
  readonly told: Told = {
    ...{ killed: 0, made: 0, failed: 0, restored: 0 },
    byVictim: new Map(),
    byOperation: new Map(),
  };
  readonly #house: KillsHouse;
  readonly #random: () => number;
  /** What each set must restore as. */
  readonly #portraits = new Map<string, string>();
  /** Of each kind of work, from its spawn, and from the first sign of it, to its end: the least. */
  readonly #spawnMs = new Map<Operation, number>();
  readonly #workMs = new Map<Operation, number>();
  readonly #segments = new Map<string, Buffer>();
  #count = 0;
  #round = 0;

  constructor(house: KillsHouse, seed: number) {
    this.#house = house;
    this.#random = randomFrom(seed);
    const { source } = house;
    for (let i = 0; i < FILES; i++) {
      const directory = join(source, `d${i % 20}`);
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, `f${i}`), `${i} `.repeat(this.#pick(300)));
    }
    for (const name of ['large-a', 'large-b'])
      writeFileSync(join(source, name), Buffer.alloc(LARGE_BYTES, name));
  }

  /** Each kind of work once, to its end: how long it takes, and sets to work on. */
  async calibrate(): Promise<void> {
    for (const operation of operations) await this.#doRound(operation, []);
  }

  async round(): Promise<string> {
    const operation = operations[this.#pick(operations.length)] as Operation;
    const kinds = victims[operation];
    return await this.#doRound(operation, kinds[this.#pick(kinds.length)] as Victim[]);
  }

  #pick(n: number): number {
    return Math.floor(this.#random() * n);
  }

  /** @returns what happened, in words */
  async #doRound(operation: Operation, who: readonly Victim[]): Promise<string> {
    this.#round++;
    const house = this.#house;
    this.#change();
    const damaged = operation === 'repair' ? this.#damage() : null;
    const before = this.#listed();
    const startMs = monotonicMs();
    const verb = this.#begin(operation);
    const atWork = who.length === 0 || this.#random() < KILLS_AT_WORK;
    if (atWork) await this.#begun(operation, verb);
    const workStartMs = monotonicMs();
    const spread = (atWork ? this.#workMs : this.#spawnMs).get(operation) ?? 0;
    const killMs = this.#random() * spread * KILL_SPREAD;
    const killed = who.length > 0 && (await this.#kill(verb, who, killMs));
    const done = await this.#endOf(verb, operation);
    if (!killed) {
      if (done.code !== 0) throw new Error(`${operation} failed untouched: ${done.stderr}`);
      this.#learn(this.#spawnMs, operation, monotonicMs() - startMs);
      if (atWork) this.#learn(this.#workMs, operation, monotonicMs() - workStartMs);
    }
    const what =
      `round ${this.#round}: ${operation}, ` +
      (killed
        ? `${who.join(' and ')} killed ${Math.round(killMs)} ms after ${atWork ? 'its work began' : 'its start'}`
        : 'nobody killed') +
      `, ended with ${done.code ?? done.signal}`;
    try {
      await this.#judge(operation, done, before, damaged);
    } catch (e) {
      const said = (['stpd', 'client', 'server'] as const).map((r) => house.role(r).said).join('');
      throw new Error(`${what}\n${verb.said}\n${said}`, { cause: e });
    }
    this.#tell(operation, who, killed, done);
    return what;
  }

  #tell(operation: string, who: readonly Victim[], killed: boolean, done: Finished): void {
    if (done.code !== 0) this.told.failed++;
    if (!killed) return;
    this.told.killed++;
    const { byVictim, byOperation } = this.told;
    for (const victim of who) byVictim.set(victim, (byVictim.get(victim) ?? 0) + 1);
    byOperation.set(operation, (byOperation.get(operation) ?? 0) + 1);
  }

  #begin(operation: Operation): Running {
    const house = this.#house;
    const { source, out, library, serverConfig, clientConfig } = house;
    const begin = (...args: string[]): Running => house.begin('stpbackup', ...args);
    const tree = `host1:${source}`;
    const how = hows[this.#pick(hows.length)] as readonly string[];
    switch (operation) {
      case 'full':
        return begin('fs', tree, ...how, '--config', serverConfig);
      case 'incremental':
        return begin('fs', tree, '--incremental', ...how, '--config', serverConfig);
      case 'restore': {
        const sets = this.#listed().filter((id) => this.#setsOfTrees().has(id));
        const set = sets[this.#pick(sets.length)] as string;
        return begin('restore', set, `host1:${join(out, 'r')}`, '--config', serverConfig);
      }
      case 'forget':
        return begin('forget', '--keep-last', `${KEEP}`, '--prune', '--library', library);
      case 'repair':
        return begin('repair', '--library', library);
      case 'command': {
        // Its data is the tree's own, so that it changes; it ends by itself when nobody reads.
        const line = `cat ${join(source, 'large-a')} ${join(source, 'growing')}`;
        return begin('db', '--command', line, '--name', 'orders', '--config', clientConfig);
      }
      case 'wal-push':
        return begin('wal-push', '--control', house.walControl, this.#newSegment());
    }
  }

  /** The least: what took longer once was the machine's doing, and kills would come too late. */
  #learn(times: Map<Operation, number>, operation: Operation, ms: number): void {
    times.set(operation, Math.min(ms, times.get(operation) ?? ms));
  }

  /** Until there is a first sign of the work, or it has ended. */
  async #begun(operation: Operation, verb: Running): Promise<void> {
    const { library, out } = this.#house;
    const signs = {
      restore: () => existsSync(join(out, 'r')),
      forget: () => existsSync(this.#forgotten()) && readdirSync(this.#forgotten()).length > 0,
      'wal-push': () => this.#segmentsComing() > 0,
    };
    const inTmp = () => readdirSync(join(library, 'tmp')).length > 0;
    const sign = signs[operation as keyof typeof signs] ?? inTmp;
    while (!verb.over && !sign()) await sleep(LOOK_MS);
  }

  #segmentsComing(): number {
    const home = join(this.#house.library, 'wal');
    if (!existsSync(home)) return 0;
    return readdirSync(home, { recursive: true, encoding: 'utf8' }).filter((name) =>
      /\/\.[^/]*$/.test(name),
    ).length;
  }

  /** @returns false if there was nothing to kill any more */
  async #kill(verb: Running, who: readonly Victim[], afterMs: number): Promise<boolean> {
    await Promise.race([sleep(afterMs), verb.ended]);
    if (verb.over) return false;
    for (const victim of who) {
      (victim === 'verb' ? verb : this.#house.role(victim)).child.kill('SIGKILL');
    }
    for (const victim of who) {
      await (victim === 'verb' ? verb : this.#house.role(victim)).ended;
    }
    return true;
  }

  async #endOf(verb: Running, operation: string): Promise<Finished> {
    const watchdog = sleep(WATCHDOG_MS, null, { ref: false });
    const done = await Promise.race([verb.ended, watchdog]);
    if (done) return done;
    verb.child.kill('SIGKILL');
    throw new Error(`${operation} never ended: ${verb.said}`);
  }

  /** Some of the tree is another before each round. */
  #change(): void {
    const { source } = this.#house;
    const name = () => join(source, `d${this.#pick(20)}`, `f${this.#pick(FILES)}`);
    for (let i = 0; i < 20; i++) {
      appendFileSync(name(), `round ${this.#round}\n`);
      rmSync(name(), { force: true });
    }
    appendFileSync(join(source, 'growing'), `${this.#round} `.repeat(1000));
    const fd = openSync(join(source, 'large-b'), 'r+');
    writeSync(fd, `round ${this.#round}`, this.#pick(LARGE_BYTES - 100));
    closeSync(fd);
  }

  /** Spoils what `repair` can make anew. @returns the set */
  #damage(): string {
    const ids = this.#listed();
    const id = ids[this.#pick(ids.length)] as string;
    flipBit(join(this.#house.library, 'sets', id, 'set.json'), this.#random);
    return id;
  }

  /** A segment that was never pushed. */
  #newSegment(): string {
    const name = (this.#count++).toString(16).toUpperCase().padStart(24, '0');
    const path = join(this.#house.base, name);
    const data = Buffer.alloc(SEGMENT_BYTES, `segment ${name} `);
    writeFileSync(path, data);
    this.#segments.set(name, data);
    return path;
  }

  #read(): Library {
    return Library.read(this.#house.library, { lockFile });
  }

  #listed(): string[] {
    if (!existsSync(join(this.#house.library, 'stpd-library.json'))) return [];
    const { sets, damaged } = this.#read().list();
    return [...sets, ...damaged].map((s) => s.id).sort();
  }

  #setsOfTrees(): Set<string> {
    const { sets } = this.#read().list();
    return new Set(sets.filter((s) => !s.roots[0]?.startsWith('command:')).map((s) => s.id));
  }

  async #judge(
    operation: Operation,
    done: Finished,
    before: readonly string[],
    damaged: string | null,
  ): Promise<void> {
    const house = this.#house;
    const failed = done.code !== 0;
    await until('nothing is left in tmp', () => this.#openedTmp().length === 0, WATCHDOG_MS);
    this.#locksAreFree();
    this.#nothingIsDamaged(damaged === null ? [] : this.#standingOn(damaged));
    if (damaged !== null && failed)
      await house.run('stpbackup', 'repair', '--library', house.library);
    rmSync(join(house.library, 'damaged'), { recursive: true, force: true });
    this.#nothingIsDamaged([]);
    this.#newSets(operation, done, before);
    this.#someRestore();
    this.#restoreIsWhole(operation, failed);
    this.#walIsWhole(operation, failed);
    await house.revive();
    await until('no process is left', () => house.strays().length === 0, WATCHDOG_MS);
  }

  /** What is in `tmp` once somebody has opened the library. */
  #openedTmp(): string[] {
    Library.open(this.#house.library, { lockFile });
    return readdirSync(join(this.#house.library, 'tmp'));
  }

  #locksAreFree(): void {
    for (const name of ['library.lock', 'catalog.lock'])
      withLock(this.#house.library, name, lockFile, () => {});
  }

  /** The set itself, and those that were made against it. */
  #standingOn(id: string): string[] {
    const { sets } = this.#read().list();
    const above = sets.filter((s) => s.chain?.some((link) => link.id === id));
    return [id, ...above.map((s) => s.id)];
  }

  #nothingIsDamaged(except: readonly string[]): void {
    const problems: string[] = [];
    checkLibrary(
      this.#read(),
      [],
      { kind: 'data' },
      {
        onProblem: (p) => {
          if (!except.includes(p.set)) problems.push(`${p.set}: ${p.message}`);
        },
      },
    );
    if (problems.length > 0) throw new Error(problems.join('\n'));
  }

  /** What came and what went. */
  #newSets(operation: Operation, done: Finished, before: readonly string[]): void {
    const listed = this.#listed();
    const come = listed.filter((id) => !before.includes(id));
    const gone = before.filter((id) => !listed.includes(id));
    const makes = ['full', 'incremental', 'command'].includes(operation);
    if (come.length > (makes ? 1 : 0)) throw new Error(`new sets: ${come.join()}`);
    if (makes && done.code === 0 && come.length !== 1) throw new Error('it made no set');
    if (gone.length > 0 && operation !== 'forget') throw new Error(`lost: ${gone.join()}`);
    if (operation === 'forget' && done.code === 0 && existsSync(this.#forgotten()))
      if (readdirSync(this.#forgotten()).length > 0) throw new Error('forgotten and not pruned');
    const [id] = come;
    if (id === undefined) return;
    this.told.made++;
    this.#portraits.set(id, operation === 'command' ? this.#orders() : this.#sourceNow());
  }

  #forgotten(): string {
    return join(this.#house.library, 'forgotten');
  }

  #sourceNow(): string {
    return digestOf(portrait(this.#house.source));
  }

  #orders(): string {
    const { source } = this.#house;
    const files = ['large-a', 'growing'].map((name) => readFileSync(join(source, name)));
    return digestOf(Buffer.concat(files).toString('latin1'));
  }

  /** In this process: they must be what was there. */
  #someRestore(): void {
    const ids = this.#listed();
    if (this.#round % RESTORE_ALL_ROUNDS === 0) return this.restoreAll();
    const some = new Set([ids.at(-1), ids[this.#pick(ids.length)]]);
    for (const id of some) if (id !== undefined) this.#restores(id);
  }

  /** Every listed set. */
  restoreAll(): void {
    for (const id of this.#listed()) this.#restores(id);
  }

  #restores(id: string): void {
    const target = join(this.#house.base, 'target');
    const library = this.#read();
    const set = library.openSet(id);
    const pipe = new MemoryPipe();
    sendSet(pipe, set, { chain: openChain(library, set) });
    const onProblem = (p: { message: string }): void => {
      throw new Error(`${id}: ${p.message}`);
    };
    restoreSet(pipe, new RestoreWriter(target, { native: testNative, onProblem }));
    const isTree = this.#setsOfTrees().has(id);
    const found = isTree
      ? digestOf(portrait(join(target, this.#house.source)))
      : digestOf(readFileSync(join(target, 'orders'), 'latin1'));
    rmSync(target, { recursive: true });
    if (found !== this.#portraits.get(id)) throw new Error(`${id} restores as something else`);
    this.told.restored++;
  }

  /** A restore that says it is done is. What a failed one leaves is the user's to remove. */
  #restoreIsWhole(operation: Operation, failed: boolean): void {
    const target = join(this.#house.out, 'r');
    if (operation === 'restore' && !failed) {
      const found = digestOf(portrait(join(target, this.#house.source)));
      if (![...this.#portraits.values()].includes(found)) throw new Error('it restored wrongly');
    }
    rmSync(target, { recursive: true, force: true });
  }

  /** Each name of the archive has all of its segment, and each that was said to be stored is there. */
  #walIsWhole(operation: Operation, failed: boolean): void {
    const home = join(this.#house.library, 'wal');
    const stored = new Set<string>();
    if (existsSync(home)) {
      for (const entry of readdirSync(home, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || entry.name.startsWith('.')) continue;
        const name = entry.name.slice(0, 24);
        const data = readFileSync(join(entry.parentPath, entry.name));
        if (!this.#segments.get(name)?.equals(data))
          throw new Error(`segment ${name} is not whole`);
        stored.add(name);
      }
    }
    if (operation !== 'wal-push') return;
    const last = [...this.#segments.keys()].at(-1) as string;
    if (!failed && !stored.has(last)) throw new Error(`segment ${last} was lost`);
    rmSync(join(this.#house.base, last), { force: true });
  }
}
