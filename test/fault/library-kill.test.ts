/** kill -9 at random moments of repair, forget and prune: listed sets are whole, none is lost. */
import { fork } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { monotonicMs } from '../../src/clock.js';
import { checkLibrary } from '../../src/library/check-library.js';
import { Library } from '../../src/library/library.js';
import { repairLibrary } from '../../src/library/repair.js';
import { backUp, makeSmallTree } from '../unit/library/flips.js';
import { lockFile, randomFrom } from '../unit/library/stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const rounds = Number(process.env.KILLS ?? 15);
const worker = fileURLToPath(new URL('./library-worker.js', import.meta.url));
/** Kills lie between nothing and somewhat more than the time that the work takes here and now. */
const KILL_SPREAD = 1.2;
/** For the one run that is not killed. */
const WATCHDOG_MS = 120_000;

interface Run {
  readonly killed: boolean;
  readonly workMs: number;
}

/** Runs the worker and kills it so many milliseconds after it began. */
function runAndKill(directory: string, forgotten: string[], killMs: number): Promise<Run> {
  const child = fork(worker, [directory, ...forgotten], { stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    let startMs = 0;
    let timer: NodeJS.Timeout | undefined;
    child.once('message', () => {
      child.send('go');
      startMs = monotonicMs();
      timer = setTimeout(() => child.kill('SIGKILL'), killMs);
    });
    child.once('exit', (_code, signal) => {
      clearTimeout(timer);
      resolve({ killed: signal === 'SIGKILL', workMs: monotonicMs() - startMs });
    });
  });
}

function change(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
}

const dataOf = (library: Library, id: string): number => {
  for (const r of library.openSet(id).manifest()) {
    if (r.kind === 'entry' && r.size === 3000) return r.dataOffset;
  }
  throw new Error('the file is not there');
};

test('kill -9 during repair, forget and prune', async (t) => {
  t.log(`seed ${seed}, ${rounds} rounds`);
  const random = randomFrom(seed);
  const base = mkdtempSync(join(tmpdir(), 'stpd-kill-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const source = join(base, 'source');
  makeSmallTree(source);
  const model = Library.open(join(base, 'model'), { lockFile });
  const full = backUp(model, source);
  const child = backUp(model, source, { parent: full });
  const grandchild = backUp(model, source, { parent: child });
  const others = [backUp(model, source), backUp(model, source)];
  const [lost, orphan] = [backUp(model, source)].flatMap((id) => [
    id,
    backUp(model, source, { parent: id }),
  ]) as [string, string];
  const mended = ['set.json', 'manifest.jsonl', 'media.tar'].map((file) => {
    const id = backUp(model, source);
    change(join(model.directory, 'sets', id, file), 101);
    return id;
  });
  change(join(model.directory, 'sets', lost, 'media.tar'), dataOf(model, lost));
  const forgotten = [full, child, grandchild, others[0] as string];
  const whole = join(base, 'whole');
  cpSync(model.directory, whole, { recursive: true });
  const first = await runAndKill(whole, forgotten, WATCHDOG_MS);
  t.false(first.killed);
  // Half of the rounds have nothing to repair, so that many kills hit forget and prune.
  const sound = join(base, 'sound');
  cpSync(model.directory, sound, { recursive: true });
  repairLibrary(Library.open(sound, { lockFile }), false);
  const kinds = [
    { from: model.directory, workMs: first.workMs },
    { from: sound, workMs: first.workMs },
  ];
  t.is(readdirSync(join(whole, 'forgotten')).length, 0, 'the worker comes to its end');
  let [killed, forgot] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const directory = join(base, `round-${round}`);
    const kind = kinds[round % 2] as (typeof kinds)[number];
    cpSync(kind.from, directory, { recursive: true });
    const killMs = Math.floor(random() * kind.workMs * KILL_SPREAD);
    const run = await runAndKill(directory, forgotten, killMs);
    if (run.killed) killed++;
    else kind.workMs = Math.min(kind.workMs, run.workMs);
    if (existsSync(join(directory, 'forgotten'))) forgot++;
    const library = Library.open(directory, { lockFile });
    const damaged = [lost, ...mended];
    const problems: string[] = [];
    const onProblem = (p: { set: string; message: string }) => {
      if (!damaged.includes(p.set)) problems.push(`${p.set}: ${p.message}`);
    };
    checkLibrary(library, [], { kind: 'data' }, { onProblem });
    t.deepEqual(problems, [], `round ${round}, killed after ${killMs} ms: sound sets stay sound`);

    repairLibrary(library, false);
    t.is(checkLibrary(library, [], { kind: 'data' }, { onProblem() {} }).problems, 0);
    const listed = library.list().sets.map((s) => s.id);
    for (const id of [others[1] as string, ...mended]) t.true(listed.includes(id), id);
    for (const id of [lost, orphan])
      t.true(existsSync(join(directory, 'damaged', id, 'media.tar')));
    rmSync(directory, { recursive: true });
  }
  t.log(`${killed} of ${rounds} were killed at work, ${forgot} had begun to forget`);
});
