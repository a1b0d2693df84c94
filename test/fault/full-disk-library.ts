/**
 * Runs with the shim of full-disk-shim.ts: each operation on a small library, with its n-th call on
 * the disk failing, for every n. After each: the run failed with a reason that names the error and
 * a path, earlier sets are whole, nothing half-made is listed, nothing lies in `tmp`, and the same
 * operation works once the disk does.
 *
 *   full-disk-library.js CONTROL UNDER MODE CODE STEP     prints one JSON object a line
 */
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { isCoded, messageOf } from '../../src/errors.js';
import { Catalog } from '../../src/library/catalog.js';
import { checkLibrary } from '../../src/library/check-library.js';
import { forgetSets, prune } from '../../src/library/forget.js';
import { Library } from '../../src/library/library.js';
import { repairLibrary } from '../../src/library/repair.js';
import { RestoreWriter, restoreSet } from '../../src/library/restore.js';
import { sendSet } from '../../src/library/send-set.js';
import { openChain } from '../../src/library/set-tree.js';
import { SPREAD_BYTES_MIN } from '../../src/library/spread.js';
import { sendStream, storeStream } from '../../src/library/stream-set.js';
import { WalArchive } from '../../src/library/wal-archive.js';
import { backUp, flipBit, listing, makeSmallTree, portrait } from '../unit/library/flips.js';
import { Generations } from '../unit/library/generations.js';
import * as interrupting from '../unit/library/interrupting.js';
import { type Kind, kinds } from '../unit/library/media-kinds.js';
import { lockFile, MemoryPipe, randomFrom, testNative } from '../unit/library/stand-ins.js';
import { type Fault, FaultControl, type Mode } from './full-disk-shim.js';

const [controlPath, under, mode, code, step] = process.argv.slice(2) as [
  string,
  string,
  Mode,
  Fault['code'],
  string,
];
const control = new FaultControl(controlPath);
/** What the shim watches; beside it lies what the operations start from. */
const place = join(under, 'work');
const pristine = join(under, '..', 'pristine');
const source = join(place, 'source');
const target = join(place, 'target');
/** Stands for the output of a program. */
const program = join(source, 'f3000');
const segment = '000000010000000000000001';
/** The largest file: it has a stream of its own where there are several, and block deltas. */
const LARGE_BYTES = SPREAD_BYTES_MIN;
const DELTA = { deltaFrom: LARGE_BYTES };
/** All at once: zstd in age in volumes. */
const coded = kinds.at(-1) as Kind;
const openLibrary = (name = 'library'): Library =>
  Library.open(join(place, name), { lockFile, access: coded.access });

interface Case {
  /** Damages or forgets something first. */
  prepare?(library: Library): void;
  run(library: Library): unknown;
  /** What must hold once it has ended well. Throws. */
  done(library: Library): void;
  /** Sets that may be gone from the listing, or damaged, until it has ended well. */
  readonly loose?: (library: Library) => string[];
  /** It reports single files and goes on: that counts as failed, too. */
  /** The beginning of a call that may fail without harm. */
  readonly survives?: string;
  readonly problems?: { count: number; text: string };
}

const idsOf = (library: Library): string[] => {
  const { sets, damaged } = library.list();
  return [...sets, ...damaged].map((s) => s.id).sort();
};

function problemsOf(library: Library, except: readonly string[]): string[] {
  const found: string[] = [];
  checkLibrary(
    library,
    [],
    { kind: 'data' },
    {
      onProblem: (p) => {
        if (!except.includes(p.set)) found.push(`${p.set}: ${p.message}`);
      },
    },
  );
  return found;
}

function restoreSetOf(
  library: Library,
  id: string,
  report: (message: string) => void,
  to = target,
): void {
  const set = library.openSet(id);
  const pipe = new MemoryPipe();
  sendSet(pipe, set, { chain: openChain(library, set) });
  const writer = new RestoreWriter(to, {
    native: testNative,
    onProblem: (p) => report(p.message),
  });
  restoreSet(pipe, writer);
}

/** What one of the sets that were there before restores as; or why it does not. */
function portraitOf(library: Library, id: string): string {
  const to = join(place, 'earlier');
  const problems: string[] = [];
  try {
    restoreSetOf(library, id, (message) => void problems.push(message), to);
    return problems[0] ?? portrait(join(to, source));
  } catch (e) {
    if (!isCoded(e)) throw e;
    return messageOf(e);
  } finally {
    rmSync(to, { recursive: true, force: true });
  }
}

/** What each of them restores as while nothing fails. */
const portraits = new Map<string, string>();
const earlierSets = (library: Library): string[] =>
  idsOf(library)
    .filter((id) => portraits.has(id))
    .filter((id) => portraitOf(library, id) !== portraits.get(id))
    .map((id) => `set ${id} does not restore as it was`);

/** Into the target, and nothing else is there then. */
function restoreNewSet(library: Library): void {
  rmSync(target, { recursive: true, force: true });
  const [id] = idsOf(library).filter((one) => !made.includes(one));
  restoreSetOf(library, id as string, (message) => {
    throw new Error(message);
  });
}

function restoresAsProgram(library: Library): void {
  restoreNewSet(library);
  const [name] = readdirSync(target);
  const same = readFileSync(join(target, name as string)).equals(readFileSync(program));
  if (!same) throw new Error('what was restored is not what the program wrote');
}

function restoresAsSource(library: Library): void {
  restoreNewSet(library);
  const same = portrait(join(target, source)) === portrait(source);
  if (!same) throw new Error('what was restored is not what was backed up');
}

/** What a restore of the newest set gives, with a disk that has room. */
let whole = '';
function isWhole(): void {
  const same = portrait(join(target, source)) === whole;
  if (!same) throw new Error('what was restored is not what was backed up');
}

function storeProgram(library: Library): void {
  const fd = openSync(program, 'r');
  const pipe = new MemoryPipe();
  try {
    sendStream(pipe, fd, 'orders', new Float64Array(2)).finish();
  } finally {
    closeSync(fd);
  }
  const meta = { host: 'h', roots: ['command:orders'], stpd: '0' };
  const set = library.beginSet(meta, { hasList: false });
  const spool = join(library.directory, 'tmp', `${set.id}.partial`, 'stream');
  storeStream(pipe, set, spool, new Float64Array(2));
  set.commit();
}

async function storeSegment(library: Library): Promise<void> {
  const archive = new WalArchive(library.directory, 'h', 'main');
  const incoming = await archive.begin(segment);
  try {
    for (let i = 0; i < 3; i++) await incoming.write(Buffer.alloc(5000, `${i}`));
    await incoming.keep('0'.repeat(64));
  } finally {
    await incoming.drop();
  }
}

/** The sets that each operation finds: a chain of three, and a full one. */
const made: string[] = [];
const restoring = { count: 0, text: '' };
const byName = (name: string) => readdirSync(join(place, 'library', name));

const cases: Readonly<Record<string, Case>> = {
  open: {
    run: () => void openLibrary('new'),
    done: () => void Library.read(join(place, 'new'), { lockFile }).list(),
  },
  full: { run: (library) => void backUp(library, source), done: restoresAsSource },
  incremental: {
    run: () => void new Generations(place).incremental(),
    done: restoresAsSource,
  },
  'block deltas': {
    prepare: () => {
      const fd = openSync(join(source, 'large'), 'r+');
      writeSync(fd, 'changed', LARGE_BYTES / 2);
      closeSync(fd);
    },
    run: () => void new Generations(place).incremental(DELTA),
    done: restoresAsSource,
  },
  'several media': {
    run: () => void new Generations(place, { streams: 3 }).full(),
    done: restoresAsSource,
  },
  'coded media': {
    run: () => void new Generations(place, coded).full(),
    done: restoresAsSource,
  },
  resume: {
    prepare: () => void interrupting.backUp(new Generations(place), { share: 0.9 }),
    run: () => void interrupting.backUp(new Generations(place)),
    done: restoresAsSource,
  },
  command: { run: storeProgram, done: restoresAsProgram },
  forget: {
    run: (library) =>
      forgetSets(library, {
        judge: ({ sets }) => sets.map((set) => ({ set, reasons: [] })),
        dryRun: false,
      }),
    loose: idsOf,
    done: (library) => {
      if (idsOf(library).length > 0 || byName('forgotten').length !== 4)
        throw new Error('not all were forgotten');
    },
  },
  prune: {
    prepare: (library) => {
      forgetSets(library, {
        judge: ({ sets }) =>
          sets.map((set) => ({ set, reasons: made.slice(2).includes(set.id) ? [] : ['kept'] })),
        dryRun: false,
      });
    },
    run: (library) => void prune(library, false),
    // It needs no room: what it cannot move away first it removes where it lies.
    survives: 'open ',
    done: () => {
      if (byName('forgotten').length > 0) throw new Error('not all was pruned');
    },
  },
  repair: {
    prepare: (library) => {
      const random = randomFrom(1);
      const at = (id: string, name: string) => join(library.directory, 'sets', id, name);
      // Each by itself: what stands on another damaged one may have to wait for a second run.
      flipBit(at(made[0] as string, 'set.json'), random);
      flipBit(at(made[3] as string, 'manifest.jsonl'), random);
    },
    run: (library) => void repairLibrary(library, false),
    loose: idsOf,
    done: (library) => {
      // Each of them can be made whole: a full disk must not make them worse.
      if (idsOf(library).length !== made.length) throw new Error('a set is not listed any more');
    },
  },
  catalog: {
    run: (library) => void new Catalog(library).rebuild(),
    done: (library) => {
      if (listing(library, new Catalog(library)) !== listing(library, null))
        throw new Error('the catalog says something else');
    },
  },
  restore: {
    run: (library) =>
      restoreSetOf(library, made[2] as string, (message) => {
        restoring.count++;
        restoring.text = message;
      }),
    done: isWhole,
    problems: restoring,
  },
  'wal-push': {
    run: storeSegment,
    done: () => {
      const group = byName(`wal/h/main/${segment.slice(0, 16)}`);
      if (group.length !== 1) throw new Error(`the archive has ${group.join()}`);
    },
  },
};

/** Four sets: a chain of three, and a full one. */
function makePristine(): void {
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  makeSmallTree(source);
  writeFileSync(join(source, 'large'), Buffer.alloc(LARGE_BYTES, 'large '));
  const generations = new Generations(place);
  made.push(generations.full(DELTA).set.id);
  for (const text of ['second', 'third']) {
    writeFileSync(join(source, text), text);
    made.push(generations.incremental().set.id);
  }
  made.push(backUp(generations.library, source));
  cpSync(place, pristine, { recursive: true, preserveTimestamps: true });
}

function reset(): void {
  rmSync(place, { recursive: true, force: true });
  cpSync(pristine, place, { recursive: true, preserveTimestamps: true });
  restoring.count = 0;
  restoring.text = '';
}

interface Outcome {
  readonly calls: number;
  readonly failed: number;
  readonly first: string;
  /** The reason; null: it ended well. */
  readonly reason: string | null;
}

async function runWith(one: Case, library: Library, fault: Fault): Promise<Outcome> {
  control.arm(fault);
  let reason: string | null = null;
  try {
    await one.run(library);
    if (one.problems !== undefined && one.problems.count > 0) reason = one.problems.text;
  } catch (e) {
    if (!isCoded(e)) throw e;
    reason = messageOf(e);
  }
  return { ...control.disarm(), reason };
}

/** @returns what is wrong after it */
async function judge(one: Case, before: readonly string[], outcome: Outcome): Promise<string[]> {
  const { reason, failed } = outcome;
  const wrong: string[] = [];
  if (one.problems && reason !== null) rmSync(target, { recursive: true, force: true });
  const library = openLibrary();
  const left = readdirSync(join(library.directory, 'tmp'));
  if (left.length > 0) wrong.push(`left in tmp: ${left.join()}`);
  const loose = one.loose ? before : [];
  wrong.push(...problemsOf(library, loose));
  const listed = idsOf(library);
  wrong.push(...before.filter((id) => !listed.includes(id) && !loose.includes(id)));
  if (reason === null) {
    const mayGoOn = one.survives !== undefined && outcome.first.startsWith(one.survives);
    if (failed > 0 && mode !== 'short' && !mayGoOn) wrong.push('it says that all is well');
  } else if (mode === 'short') wrong.push(`a short write is no failure: ${reason}`);
  else {
    // Node tells nothing better of an EIO when it makes a directory and those above it.
    const isMkdir = code === 'EIO' && outcome.first.startsWith('mkdir');
    if (!reason.includes(code) && !isMkdir)
      wrong.push(`its reason does not name ${code}: ${reason}`);
    if (!reason.includes(place)) wrong.push(`its reason names no path: ${reason}`);
  }
  if (one.loose === undefined) wrong.push(...earlierSets(library));
  if (reason !== null) {
    const again = await runWith(one, library, { mode: 'once', at: 0, code });
    if (again.reason !== null) wrong.push(`afterwards it fails, too: ${again.reason}`);
  }
  try {
    one.done(library);
  } catch (e) {
    wrong.push(`afterwards: ${messageOf(e)}`);
  }
  wrong.push(...problemsOf(library, []));
  return wrong;
}

makePristine();
reset();
for (const id of made) portraits.set(id, portraitOf(openLibrary(), id));
whole = portraits.get(made[2] as string) as string;
for (const text of portraits.values())
  if (!text.includes('/f3000 ')) throw new Error(`before any call fails: ${text}`);
for (const [name, one] of Object.entries(cases)) {
  let tried = 0;
  for (let at = 1; ; at += Number(step)) {
    reset();
    const library = openLibrary();
    one.prepare?.(library);
    const before = idsOf(library);
    const outcome = await runWith(one, library, { mode, at, code });
    if (at > outcome.calls) {
      process.stdout.write(`${JSON.stringify({ name, calls: outcome.calls, tried })}\n`);
      break;
    }
    tried++;
    for (const wrong of await judge(one, before, outcome))
      process.stdout.write(`${JSON.stringify({ name, at, call: outcome.first, wrong })}\n`);
  }
}
