/**
 * A program, not a test file: STPConnect in both forms, in the Node that runs it, on the addon as it
 * is built. `npm run test:nodes` runs it in each supported Node, test/system/connect.test.ts in this
 * one. It leans on what Node does not promise: that node:net takes over a descriptor that is bound,
 * and that a thread in a native call can be ended. Prints a line a step; exit code 0 or 1.
 *
 * With an argument it is one of its own children: a process that ends in the named way while a
 * worker of its blocks in the named call.
 */
import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { BlockingConnect } from '../../src/connect/blocking-connect.js';
import { AF_INET, AF_STP, STPConnect } from '../../src/connect/stp-connect.js';
import { attach } from '../../src/socket/host.js';
import { startArray } from '../support/array.js';
import type { Blocked } from '../support/blocking-task.js';

const WATCHDOG_MS = 60_000;
/** A process that should have ended and has not counts as hanging. */
const HANGS_MS = 10_000;
const say = (text: string): boolean => process.stdout.write(`${text}\n`);
const self = fileURLToPath(import.meta.url);

function blocked(runDirectory: string, call: Blocked, mechanism: string): Worker {
  return new Worker(fileURLToPath(new URL('../support/blocking-task.js', import.meta.url)), {
    workerData: { what: 'block', runDirectory, call, mechanism },
  });
}

/** An event loop and a thread that blocks, over each mechanism, from a bound port. */
async function echo(runDirectory: string): Promise<void> {
  const array = { runDirectory, stg: 'test' };
  const host = await attach(array);
  const loop = new STPConnect({ host });
  const thread = await BlockingConnect.open({ array });
  for (const family of [AF_INET, AF_STP]) {
    const listener = loop.socket(family);
    await loop.bind(listener, { port: 0 });
    await loop.listen(listener);
    const a = thread.socket(family);
    thread.bind(a, { port: 0 });
    thread.connect(a, { port: loop.getsockname(listener).port });
    const b = await loop.accept(listener);
    assert.equal(loop.getpeername(b).port, thread.getsockname(a).port);
    thread.send(a, Buffer.from('from the thread'));
    assert.equal(String(await loop.receiveExactly(b, 15)), 'from the thread');
    const back = loop.socket(family);
    await loop.bind(back, { port: 0 });
    const { port } = loop.getsockname(back);
    const server = thread.socket(family);
    thread.listen(server);
    await loop.connect(back, { port: thread.getsockname(server).port });
    const served = thread.accept(server, { timeoutMs: 5000 });
    assert.equal(thread.getpeername(served).port, port);
    await loop.send(back, Buffer.from('from the loop'));
    assert.equal(String(thread.receiveExactly(served, 13)), 'from the loop');
  }
  await loop.closeAll();
  await thread[Symbol.asyncDispose]();
  await host.close();
}

/** A child that ends in the given way; milliseconds until it had. */
async function childEnds(way: string, ...rest: string[]): Promise<number> {
  const child = spawn(process.execPath, [self, way, ...rest], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(child.stdout, 'data');
  const start = performance.now();
  const hangs = setTimeout(() => child.kill('SIGKILL'), HANGS_MS);
  const [code, signal] = await once(child, 'exit');
  clearTimeout(hangs);
  assert.equal(signal, null, `${way} while ${rest} did not end`);
  assert.equal(code, way === 'exit' ? 7 : 1);
  return performance.now() - start;
}

async function endingChild(
  way: string,
  call: string,
  mechanism: string,
  run: string,
): Promise<void> {
  const worker = blocked(run, call as Blocked, mechanism);
  await once(worker, 'message');
  setTimeout(() => {
    process.stdout.write('ending\n');
    if (way === 'exit') process.exit(7);
    throw new Error('uncaught on purpose');
  }, 120);
}

async function runMain(): Promise<void> {
  const ends: (() => Promise<void> | void)[] = [];
  const { runDirectory } = await startArray({ teardown: (end) => void ends.push(end) });
  try {
    await echo(runDirectory);
    say('event loop and thread, both mechanisms, bound ports: ok');
    for (const mechanism of ['inet', 'stp']) {
      const worker = blocked(runDirectory, 'accept', mechanism);
      await once(worker, 'message');
      await worker.terminate();
      for (const way of ['exit', 'throw']) {
        const ms = await childEnds(way, 'accept', mechanism, runDirectory);
        say(`${way} while a worker blocks in accept, ${mechanism}: ${ms.toFixed(0)} ms`);
      }
    }
  } finally {
    for (const end of ends) await end();
  }
  say('ok');
}

const [way, call = '', mechanism = '', run = ''] = process.argv.slice(2);
if (way !== undefined) await endingChild(way, call, mechanism, run);
else {
  const watchdog = setTimeout(() => {
    say('hangs');
    process.exit(1);
  }, WATCHDOG_MS);
  await runMain();
  clearTimeout(watchdog);
}
