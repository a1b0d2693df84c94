/**
 * Where a side of a script runs: on the test's event loop with STPConnect, or in a worker thread
 * with BlockingConnect, which blocks in every call. The two sides talk over a MessagePort and a
 * counter, so that a thread that blocks hears as well.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  isMainThread,
  MessageChannel,
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  Worker,
  workerData,
} from 'node:worker_threads';
import { BlockingConnect } from '../../src/connect/blocking-connect.js';
import { AF_INET, AF_STP, STPConnect } from '../../src/connect/stp-connect.js';
import type { AttachOptions, Host } from '../../src/socket/host.js';
import { type Side, scripts } from './scripts.js';

export type Place = 'loop' | 'worker';

export interface Setting {
  readonly family: 'inet' | 'stp';
  /** For workers, which attach themselves. */
  readonly array?: AttachOptions;
  /** For loops: a host for each side. */
  readonly hosts?: { readonly server: Host; readonly client: Host };
  readonly prepare?: (layer: STPConnect, fd: number, role: 'connecting' | 'listening') => void;
}

interface Line {
  readonly port: MessagePort;
  /** Values told to this end. */
  readonly count: Int32Array;
  /** Values told to the other end. */
  readonly other: Int32Array;
}

/** What both sides of a script have in common, whichever way they wait. */
function side(
  line: Line,
  setting: Pick<Setting, 'family'>,
  rest: Pick<Side, 'layer' | 'socket' | 'hear' | 'pause'>,
  notes: unknown[],
): Side {
  const { family } = setting;
  return {
    ...rest,
    family,
    at: (port) => (family === 'stp' ? { port } : { host: '127.0.0.1', port }),
    tell: (value) => {
      line.port.postMessage(value);
      Atomics.add(line.other, 0, 1);
      Atomics.notify(line.other, 0);
    },
    heard: () => {
      let there = false;
      return () => {
        there ||= receiveMessageOnPort(line.port) !== undefined;
        return there;
      };
    },
    note: (what) => void notes.push(what),
  };
}

async function onLoop(
  setting: Setting,
  role: 'server' | 'client',
  script: string,
  line: Line,
): Promise<unknown[]> {
  const host = setting.hosts?.[role];
  const layer = new STPConnect(host === undefined ? {} : { host });
  const notes: unknown[] = [];
  const hear = async (): Promise<unknown> => {
    for (;;) {
      const got = receiveMessageOnPort(line.port) as { message: unknown } | undefined;
      if (got !== undefined) return got.message;
      await sleep(1);
    }
  };
  const socket = (): number => {
    const fd = layer.socket(setting.family === 'stp' ? AF_STP : AF_INET);
    setting.prepare?.(layer, fd, role === 'server' ? 'listening' : 'connecting');
    return fd;
  };
  try {
    const rest = { layer, socket, hear, pause: (ms: number) => sleep(ms) };
    await (scripts[script] as (typeof scripts)[string])[role](side(line, setting, rest, notes));
  } catch (error) {
    notes.push(String(error));
  } finally {
    await layer.closeAll();
  }
  return notes;
}

interface WorkerTask {
  readonly role: 'server' | 'client';
  readonly script: string;
  readonly line: Line;
  readonly family: 'inet' | 'stp';
  readonly array?: AttachOptions;
}

async function inWorker(
  setting: Setting,
  role: 'server' | 'client',
  script: string,
  line: Line,
): Promise<unknown[]> {
  const { family, array } = setting;
  const task: WorkerTask = { role, script, line, family, ...(array !== undefined && { array }) };
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: task,
    transferList: [line.port],
  });
  const exited = once(worker, 'exit');
  const [notes] = (await once(worker, 'message')) as [unknown[]];
  await exited;
  return notes;
}

/** The worker's half. */
async function work({ role, script, line, family, array }: WorkerTask): Promise<void> {
  const layer = await BlockingConnect.open(
    family === 'stp' && array !== undefined ? { array: { ...array, name: role } } : {},
  );
  const pauseWord = new Int32Array(new SharedArrayBuffer(4));
  const notes: unknown[] = [];
  const hear = (): unknown => {
    for (;;) {
      const seen = Atomics.load(line.count, 0);
      const got = receiveMessageOnPort(line.port) as { message: unknown } | undefined;
      if (got !== undefined) return got.message;
      Atomics.wait(line.count, 0, seen, 50);
    }
  };
  const pause = (ms: number): void => void Atomics.wait(pauseWord, 0, 0, ms);
  const socket = (): number => layer.socket(family === 'stp' ? AF_STP : AF_INET);
  try {
    const rest = { layer, socket, hear, pause };
    await (scripts[script] as (typeof scripts)[string])[role](side(line, { family }, rest, notes));
  } catch (error) {
    notes.push(String(error));
  }
  await layer[Symbol.asyncDispose]();
  parentPort?.postMessage(notes);
}

/** Both sides of a script; what each has noted. */
export async function play(
  script: string,
  setting: Setting,
  places: { readonly server: Place; readonly client: Place },
): Promise<{ server: unknown[]; client: unknown[] }> {
  const { port1, port2 } = new MessageChannel();
  const counts = [0, 1].map(() => new Int32Array(new SharedArrayBuffer(4))) as [
    Int32Array,
    Int32Array,
  ];
  const run = (role: 'server' | 'client', line: Line): Promise<unknown[]> =>
    (places[role] === 'loop' ? onLoop : inWorker)(setting, role, script, line);
  const [server, client] = await Promise.all([
    run('server', { port: port1, count: counts[0], other: counts[1] }),
    run('client', { port: port2, count: counts[1], other: counts[0] }),
  ]);
  if (places.server === 'loop') port1.close();
  if (places.client === 'loop') port2.close();
  return { server, client };
}

if (!isMainThread && workerData?.script !== undefined) void work(workerData as WorkerTask);
