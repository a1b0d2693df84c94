/**
 * STPD_COPY decides how bytes get into pages; whatever it says, they are the same bytes. Without a
 * word of it a process tries once which way is faster, and its hosts tell what came out.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { CopyChoice } from '../../src/index.js';
import { attach } from '../../src/index.js';
import { native } from '../../src/native.js';
import { type ArrayForTest, finished, startArray } from '../support/array.js';

const PROGRAM = fileURLToPath(new URL('../support/copy-program.js', import.meta.url));

let array: ArrayForTest;
const cleanUps: (() => unknown)[] = [];
test.before('an array', async () => {
  array = await startArray({ teardown: (fn: () => unknown) => void cleanUps.push(fn) });
});
test.after.always('leave it', async () => {
  for (const cleanUp of cleanUps) await cleanUp();
});

interface Said {
  readonly wrong?: number;
  readonly copy?: CopyChoice;
  readonly of?: { readonly copy: CopyChoice };
  readonly error?: string;
}

async function run(wish: string | undefined, ...args: string[]): Promise<Said> {
  const { STPD_COPY: _, ...env } = process.env;
  const child = spawn(process.execPath, [PROGRAM, array.runDirectory, ...args], {
    env: wish === undefined ? env : { ...env, STPD_COPY: wish },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { code, stdout, stderr } = await finished(child);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Said;
}

const hasChoice = process.arch === 'x64';
const probes = hasChoice && native().usableCores() >= 2;

for (const wish of ['cached', 'streaming'] as const) {
  test(`STPD_COPY=${wish}: the bytes are right, and nothing is tried`, async (t) => {
    const { wrong, copy } = await run(wish);
    t.is(wrong, 0);
    t.is(copy?.mode, hasChoice ? wish : 'cached');
    t.is(copy?.probes, 0);
    t.is(copy?.tookMs, 0);
  });
}

for (const wish of ['auto', '', undefined]) {
  const name = wish === undefined ? 'without STPD_COPY' : `STPD_COPY='${wish}'`;
  test(`${name}: the process tries once, however many hosts it has`, async (t) => {
    const { wrong, copy, of } = await run(wish, ...(probes ? ['probed'] : []));
    t.is(wrong, 0);
    if (!probes) t.log('skipped: one core, or no choice: nothing is tried here');
    t.is(copy?.probes, probes ? 1 : 0);
    t.is((copy?.tookMs ?? 0) > 0, probes, 'how long it took is told');
    t.log(copy);
    t.deepEqual(of?.copy, copy, 'every host of the process says the same');
  });
}

for (const wish of ['nonsense', 'Cached', ' ']) {
  test(`STPD_COPY='${wish}' is refused by attach, with what it may be`, async (t) => {
    const { error } = await run(wish);
    t.is(error, `EINVAL: STPD_COPY is '${wish}'; it may be auto, cached or streaming`);
  });
}

test('the poll budget of a thread: 0 to a second', async (t) => {
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  for (const wrong of [-1, 1_000_001, Number.NaN, undefined as never]) {
    t.throws(() => host.setPollBudget(wrong), { code: 'EINVAL' });
  }
  host.setPollBudget(0);
  const before = host.counters();
  for (let i = 0; i < 300; i++) await host.unbind(await host.bind(0));
  await new Promise((resolve) => setTimeout(resolve, 20));
  const after = host.counters();
  t.is(after.pollHits + after.pollMisses, before.pollHits + before.pollMisses, 'it never looks');
});
