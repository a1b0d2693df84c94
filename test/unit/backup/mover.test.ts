/** Threads of movers: what stop promises at any moment, and that a thread serves one job after the other. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import type { SendTreeJob } from '../../../src/backup/jobs.js';
import { EarlyMover, Mover } from '../../../src/backup/mover.js';
import { native } from '../../../src/native.js';
import { randomFrom } from '../library/stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

const tree = mkdtempSync(join(tmpdir(), 'stpd-mover-'));
writeFileSync(join(tree, 'file'), 'data');
test.after.always(() => rmSync(tree, { recursive: true, force: true }));

const job: SendTreeJob = {
  roots: [Buffer.from(tree)],
  selection: { exclude: [], oneFileSystem: false, excludeCaches: false },
  listBytes: 0,
  dryRun: false,
  incremental: false,
  firstMedium: 0,
  deltaFrom: 0,
  lanes: [],
};

/** Sends the tree over a socket to somebody who reads all of it. */
function sendTree(early?: EarlyMover): Mover<null> {
  const [own, others] = native().socketPair(true);
  const socket = native().tcpDispatch(others);
  native().closeDescriptor(others);
  new net.Socket({ fd: own }).on('error', () => {}).resume();
  return Mover.start('backup-sender', { mechanism: 'inet', socket }, job, () => {}, { early });
}

const threads = (): number => readdirSync('/proc/self/task').length;

test.serial('one thread does one job after the other', async (t) => {
  await sendTree().done;
  const before = threads();
  for (let i = 0; i < 5; i++) {
    const { totals } = await sendTree().done;
    t.is(totals.entries, 2);
    t.is(threads(), before);
  }
});

test.serial('a mover that is done is not the one that its thread works for', async (t) => {
  const first = sendTree();
  await first.done;
  const second = sendTree();
  await first.stop();
  t.is((await second.done).totals.entries, 2);
});

test.serial("a thread that began early is its mover's, and keeps nothing of it", async (t) => {
  const warnings: string[] = [];
  const onWarning = (e: Error): number => warnings.push(e.message);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  for (let i = 0; i < 12; i++) {
    const early = EarlyMover.begin('backup-sender', job);
    await sendTree(early).done;
    // The thread has another job by now, which goes on.
    const next = sendTree();
    await early.stop();
    t.is((await next.done).totals.entries, 2);
  }
  t.deepEqual(warnings, []);
});

test.serial('a thread that began early and got no mover ends', async (t) => {
  const before = threads();
  const early = EarlyMover.begin('lane-reader', job);
  t.false(early.hasEnded);
  await early.stop();
  t.true(early.hasEnded);
  t.is(threads(), before);
});

test.serial('stop comes back whenever it is called', async (t) => {
  t.log(`seed ${seed}`);
  t.timeout(120_000);
  const random = randomFrom(seed);
  let stopped = 0;
  for (let i = 0; i < 60; i++) {
    const mover = sendTree();
    mover.done.catch(() => stopped++);
    // Most often when word that it is done is on its way.
    if (random() < 0.3) await sleep(random() * 30);
    else for (const end = performance.now() + random() * 30; performance.now() < end; );
    await mover.stop();
    await mover.stop();
  }
  t.log(`${stopped} of 60 were stopped before they were done`);
  t.is((await sendTree().done).totals.entries, 2);
});
