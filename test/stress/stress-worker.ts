/**
 * A worker thread of the stress test. It carries out what it is given, one after the other: ends
 * of streams that the event loop gives away ('stream'), and whole connections of a host of its own,
 * through BlockingConnect ('calls').
 */
import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { AF_STP, attach, BlockingConnect, type Host, type StreamHandle } from '../../src/index.js';
import { MEMBER } from '../../src/layout/tables.js';
import { Dice } from '../support/random.js';
import { stgOffset } from '../support/stg-offset.js';
import { Content } from './content.js';
import {
  breakOf,
  bytesToReceive,
  codeOf,
  type EndReport,
  type EndTask,
  listeningPort,
  PIECE_BYTES_MAX,
  portOf,
  seedOfEnd,
  type ThreadCounters,
} from './end-report.js';
import { isCode, ThreadEnd } from './thread-end.js';

export type WorkerJob =
  | { readonly do: 'stream'; task: EndTask; handle: StreamHandle; received: number }
  | { readonly do: 'calls'; task: EndTask }
  | { readonly do: 'end' };

export interface WorkerSetup {
  readonly runDirectory: string;
  readonly stg: string;
}

export type WorkerWord =
  | { readonly word: 'report'; report: EndReport; safetyFirings: number }
  | { readonly word: 'failed'; why: string }
  | { readonly word: 'ended'; counters: ThreadCounters };

const setup = workerData as WorkerSetup;
const say = (word: WorkerWord): void => parentPort?.postMessage(word);

/** The member's counter: of its event loop and of all its threads. */
const firingsOf = (host: Host): number => {
  const g = host.geometry;
  const members = stgOffset(host) + g.members + host.member * MEMBER.bytes;
  return host.segment.load(members + MEMBER.at.safetyFirings);
};

async function calls(task: EndTask): Promise<{ report: EndReport; safetyFirings: number }> {
  const host = await attach({ ...setup, name: 'calls' });
  const layer = new BlockingConnect({ host });
  const dice = new Dice(seedOfEnd(task));
  const { plan } = task;
  const out = new Content(task.seed, plan.id, 0);
  const into = new Content(task.seed, plan.id, 1);
  let [sent, received, heard] = [0, 0, ''];
  const fd = layer.socket(AF_STP);
  try {
    layer.bind(fd, { port: portOf(plan) });
    layer.connect(fd, { port: listeningPort(plan.processes[1]) });
    while (sent < plan.directions[0].bytes) {
      const left = plan.directions[0].bytes - sent;
      const piece = out.bytes(Math.min(left, dice.size(PIECE_BYTES_MAX)), sent);
      sent += layer.send(fd, piece);
    }
    layer.shutdown(fd, 'write');
    while (heard === '') {
      const data = layer.receive(fd, dice.size(PIECE_BYTES_MAX));
      into.check(data, received);
      received += data.length;
      if (data.length === 0) heard = 'end';
      else if (received >= bytesToReceive(task)) heard = 'own';
    }
  } catch (error) {
    heard = codeOf(error);
    if (!isCode(error) && heard !== 'ECONNREFUSED') throw error;
  }
  if (breakOf(task) !== undefined && dice.chance(0.5)) layer.abort(fd);
  else layer.close(fd);
  const safetyFirings = firingsOf(host);
  await layer[Symbol.asyncDispose]();
  await host.close();
  return { report: { id: plan.id, end: 0, sent, received, heard }, safetyFirings };
}

function delayedMs(): number {
  const [, waitedNs = '0'] = readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ');
  return Number(waitedNs) / 1e6;
}

function streamEnd(task: EndTask, handle: StreamHandle, received: number): EndReport {
  let end: ThreadEnd;
  try {
    end = new ThreadEnd(task, handle, received, () => process.exit(0));
  } catch (error) {
    /* The peer's process has gone on the way here. */
    if (!isCode(error)) throw error;
    return { id: task.plan.id, end: task.end, sent: 0, received, heard: codeOf(error) };
  }
  return end.run();
}

async function carryOut(job: WorkerJob): Promise<void> {
  if (job.do === 'end') {
    say({ word: 'ended', counters: { delayedMs: delayedMs(), safetyFirings: 0 } });
    parentPort?.close();
    return;
  }
  if (job.do === 'calls') return say({ word: 'report', ...(await calls(job.task)) });
  /* What its rings count is counted for the host as well, which is asked at the end. */
  const report = streamEnd(job.task, job.handle, job.received);
  say({ word: 'report', report, safetyFirings: 0 });
}

parentPort?.on('message', (job: WorkerJob) => {
  carryOut(job).catch((error: Error) => say({ word: 'failed', why: `${error.stack}` }));
});
