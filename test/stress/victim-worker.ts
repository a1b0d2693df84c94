/**
 * A worker of a victim: every way of receiving and sending that blocks, on a stream whose memory
 * another host spoils. Errors of the stream are as they should be; others are told.
 */
import { closeSync, openSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { BlockingStream, type StreamHandle } from '../../src/index.js';
import { Dice } from '../support/random.js';
import { codeOf } from './end-report.js';

const ALLOWED = ['ECONNRESET', 'EPIPE', 'ENOBUFS', 'EBUSY', 'EINVAL'];
const CALLS_MAX = 500;

const { handle, seed } = workerData as { handle: StreamHandle; seed: number };
const dice = new Dice(seed);
const stream = new BlockingStream(handle);
const into = Buffer.alloc(200_000);
const nowhere = openSync('/dev/null', 'w');
const zeros = openSync('/dev/zero', 'r');

const receives: (() => boolean)[] = [
  () => stream.receive(into) > 0,
  () => stream.recvv([into.subarray(0, 70_000), into.subarray(70_000)]) > 0,
  () => {
    const view = stream.peek();
    if (view !== null) stream.consume(dice.whole(0, view.length));
    return view !== null;
  },
  () => {
    const views = stream.peekPages(dice.whole(1, 32));
    if (views === null) return false;
    let sum = 0;
    for (const view of views) sum += view.reduce((a, b) => a ^ b, view.length);
    stream.consume((views[0]?.length ?? 1) & sum);
    return true;
  },
  () => {
    const page = stream.takePage();
    if (page !== null && dice.chance(0.5)) stream.givePage(page);
    else page?.release();
    return page !== null;
  },
  () => stream.receiveToFile(nowhere, -1, 100_000) > 0,
];
const sends: (() => void)[] = [
  () => stream.send(into, 0, dice.size(into.length)),
  () => {
    const view = stream.reserve();
    view.fill(1);
    stream.commit(dice.whole(0, view.length));
  },
  () => {
    const views = stream.reservePages(dice.whole(1, 32));
    for (const view of views) view.fill(2);
    stream.commit(views[0]?.length ?? 0);
  },
  () => stream.sendFile(zeros, -1, dice.size(100_000)) > 0,
  () => void stream.givePage(stream.claimPage()),
];

try {
  for (let i = 0; i < CALLS_MAX; i++) {
    if (dice.chance(0.6)) {
      if (!dice.one(receives)()) break;
    } else dice.one(sends)();
  }
} catch (error) {
  if (!ALLOWED.includes(codeOf(error))) throw error;
} finally {
  stream.close();
  closeSync(nowhere);
  closeSync(zeros);
}
