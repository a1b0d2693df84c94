/**
 * Nothing spins when idle, and nothing is left when it ends.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import test from 'ava';
import { startArray, until } from '../support/array.js';
import { startHost } from '../support/host-program.js';

/** V8 collects the garbage of the start once, some seconds after it: about 50 ms a thread. */
const SETTLE_SECONDS = 12;
const IDLE_SECONDS = 8;

/** CPU seconds of a process, all its threads, as the scheduler counts them (not in clock ticks). */
function cpuSeconds(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const ns = tasks.map((task) => {
    const [onCpu] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ');
    return Number(onCpu);
  });
  return ns.reduce((sum, n) => sum + n, 0) / 1e9;
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
  const before = pids.map(cpuSeconds);
  const start = performance.now();
  await new Promise((resolve) => setTimeout(resolve, IDLE_SECONDS * 1000));
  const seconds = (performance.now() - start) / 1000;
  const used = pids.map((pid, i) => cpuSeconds(pid) - (before[i] ?? 0));
  const stpd = (used[0] ?? 0) / seconds;
  const all = used.reduce((sum, n) => sum + n, 0) / seconds;
  t.log(
    `stpd ${(stpd * 100).toFixed(2)} %, with its ten hosts ${(all * 100).toFixed(2)} % of one core`,
  );
  t.true(stpd < 0.01);
});

test('SIGTERM leaves nothing: no file, no process, no memory file', async (t) => {
  const array = await startArray(t);
  const host = await startHost(t, array.runDirectory);
  await host.ask({ do: 'listen', port: 0 });
  const pid = array.stpd.pid ?? 0;
  const shmBefore = readdirSync('/dev/shm');
  array.stpd.kill('SIGTERM');
  await until(
    'stpd has ended',
    () => array.stpd.exitCode !== null || array.stpd.signalCode !== null,
  );
  t.is(array.stpd.exitCode, 0);
  t.deepEqual(readdirSync(array.runDirectory), []);
  t.false(readdirSync('/proc').includes(String(pid)));
  t.deepEqual(readdirSync('/dev/shm'), shmBefore);
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
