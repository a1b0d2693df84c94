/** Scheduling of threads: native/process.cc. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import test from 'ava';

const SCHED_BATCH = 3;
/** Fields of /proc/PID/stat behind the name; its policy is number 41 of all: proc(5). */
const fieldsOf = (stat: string): string[] => stat.slice(stat.lastIndexOf(')') + 2).split(' ');
const POLICY = 41 - 3;

const NATIVE = new URL('../../../src/native.js', import.meta.url).href;
const SCRIPT = `
const { parentPort, workerData } = require('node:worker_threads');
import(workerData.native).then(({ native }) => {
  if (workerData.asks) native().setBatchScheduling();
  parentPort.postMessage(require('node:fs').readFileSync('/proc/thread-self/stat', 'utf8'));
});`;

/** The policy of a new thread. */
async function policyOf(asks: boolean): Promise<number> {
  const worker = new Worker(SCRIPT, { eval: true, workerData: { native: NATIVE, asks } });
  const [stat] = (await once(worker, 'message')) as [string];
  return Number(fieldsOf(stat)[POLICY]);
}

test('a thread is scheduled in batches once it asks for it, and no other is', async (t) => {
  const own = (): string | undefined =>
    fieldsOf(readFileSync('/proc/thread-self/stat', 'utf8'))[POLICY];
  const before = own();
  t.is(await policyOf(true), SCHED_BATCH);
  t.is(String(await policyOf(false)), before ?? '');
  t.is(own(), before);
});
