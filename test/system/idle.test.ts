/**
 * Nothing spins when idle, and nothing is left when it ends.
 */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import test from 'ava';
import { startArray, until } from '../support/array.js';
import { startHost } from '../support/host-program.js';
import { namesInSharedMemory } from '../support/shared-memory.js';

/**
 * V8 collects the garbage of the start once, some seconds after it: about 50 ms a thread, later on a
 * busy machine. So the quietest of some windows counts: what spins does so in all of them.
 */
const SETTLE_SECONDS = 10;
const IDLE_SECONDS = 5;
const WINDOWS_MAX = 8;
const SHARE_MAX = 0.01;

/** CPU seconds of a process, all its threads, as the scheduler counts them (not in clock ticks). */
function cpuSeconds(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const ns = tasks.map((task) => {
    const [onCpu] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ');
    return Number(onCpu);
  });
  return ns.reduce((sum, n) => sum + n, 0) / 1e9;
}

const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;

/** What the first of them, and all together, use of a core. */
async function shares(pids: readonly number[], seconds: number) {
  const before = pids.map(cpuSeconds);
  const start = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const took = (performance.now() - start) / 1000;
  const used = pids.map((pid, i) => cpuSeconds(pid) - (before[i] ?? 0));
  return { stpd: (used[0] ?? 0) / took, all: used.reduce((sum, n) => sum + n, 0) / took };
}

test('idle stpd with ten attached idle hosts uses under 1 % of one core', async (t) => {
  const array = await startArray(t);
  const hosts = await Promise.all(
    Array.from({ length: 10 }, () => startHost(t, array.runDirectory)),
  );
  /* Not only attached: half of them connected to the other half. */
  for (let i = 0; i < 10; i += 2) {
    const { port = 0 } = (await hosts[i]?.ask({ do: 'listen', port: 0 })) ?? {};
    await hosts[i + 1]?.ask({ do: 'connect', port });
  }
  await new Promise((resolve) => setTimeout(resolve, SETTLE_SECONDS * 1000));
  const pids = [array.stpd.pid ?? 0, ...hosts.map((host) => host.child.pid ?? 0)];
  let least = Number.POSITIVE_INFINITY;
  for (let window = 0; window < WINDOWS_MAX && least >= SHARE_MAX / 2; window++) {
    const { stpd, all } = await shares(pids, IDLE_SECONDS);
    t.log(`stpd ${percent(stpd)}, with its ten hosts ${percent(all)} of one core`);
    least = Math.min(least, stpd);
  }
  t.true(least < SHARE_MAX);
});

test('SIGTERM leaves nothing: no file, no process, no memory file', async (t) => {
  const array = await startArray(t);
  const host = await startHost(t, array.runDirectory);
  await host.ask({ do: 'listen', port: 0 });
  const pid = array.stpd.pid ?? 0;
  const shmBefore = namesInSharedMemory();
  array.stpd.kill('SIGTERM');
  await until(
    'stpd has ended',
    () => array.stpd.exitCode !== null || array.stpd.signalCode !== null,
  );
  t.is(array.stpd.exitCode, 0);
  t.deepEqual(readdirSync(array.runDirectory), []);
  t.false(readdirSync('/proc').includes(String(pid)));
  t.deepEqual(namesInSharedMemory(), shmBefore);
  await host.kill();
  t.deepEqual(holdersOfMemoryFiles(dirname(array.runDirectory)), []);
});

/** Processes of this test that still have an stpd memory file open. */
function holdersOfMemoryFiles(mark: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(mark)) return false;
      return readdirSync(`/proc/${pid}/fd`).some((fd) =>
        readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('/memfd:stpd'),
      );
    } catch {
      return false; /* ended while we looked */
    }
  });
}

test('stpctl says within its time that a stopped stpd does not answer', async (t) => {
  const array = await startArray(t);
  array.stpd.kill('SIGSTOP');
  t.teardown(() => array.stpd.kill('SIGCONT'));
  const error = await t.throwsAsync(array.stpctl('array', 'show'));
  t.regex(error?.message ?? '', /has not answered for 1 s/);
});
