/**
 * A thread that is terminated while a native call of its fails: the error has nobody left to hear it,
 * and must not end the process.
 */
import { spawnSync } from 'node:child_process';
import test from 'ava';

const native = new URL('../../src/native.js', import.meta.url).href;

/** Threads that do nothing but fail, terminated at any moment. */
const program = `
  import { Worker } from 'node:worker_threads';
  const work = \`
    import { parentPort } from 'node:worker_threads';
    import { native } from ${JSON.stringify(native)};
    const { setTimesNs } = native();
    parentPort.postMessage('failing');
    for (;;) try { setTimesNs('/nonexistent/file', 1n, true); } catch {}
  \`;
  for (let i = 0; i < 100; i++) {
    const worker = new Worker(work, { eval: true, execArgv: ['--input-type=module'] });
    await new Promise((resolve) => worker.once('message', resolve));
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
    await worker.terminate();
  }
  console.log('all of them are gone');
`;

test('terminate ends a thread in whose native calls errors come and go, and nothing else', (t) => {
  t.timeout(300_000);
  const args = ['--input-type=module', '-e', program];
  const { stdout, stderr, signal } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  t.is(signal, null, stderr);
  t.is(stdout, 'all of them are gone\n', stderr);
});
