/**
 * A worker thread with the calls that block: what it does is named by the test that starts it. It
 * posts what it sees; `blocking` means that its next call does not return by itself.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { BlockingConnect } from '../../src/connect/blocking-connect.js';
import { AF_INET, AF_STP, type HandedOver, POLLIN } from '../../src/connect/stp-connect.js';

export type Blocked = 'accept' | 'receive' | 'poll' | 'connect' | 'send';

export interface Task {
  readonly what: 'echo-handed' | 'mixed' | 'block' | 'stay';
  readonly runDirectory?: string;
  /** 'echo-handed': what the event loop gave away. */
  readonly given?: readonly HandedOver[];
  /** 'block': in which call, over which mechanism; 'connect' and 'send' need a port. */
  readonly call?: Blocked;
  readonly mechanism?: 'inet' | 'stp';
  readonly port?: number;
  readonly stop?: Int32Array;
}

const say = (word: unknown): void => parentPort?.postMessage(word);
const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error);

async function open(task: Task): Promise<BlockingConnect> {
  const { runDirectory, stop } = task;
  return BlockingConnect.open({
    ...(runDirectory !== undefined && { array: { runDirectory, stg: 'test', name: 'worker' } }),
    ...(stop !== undefined && { stop }),
  });
}

/** Sends everything back, over whichever descriptor it comes, until all have ended. */
function echo(layer: BlockingConnect, open: Set<number>): void {
  while (open.size > 0) {
    for (const { fd } of layer.poll(
      [...open].map((fd) => ({ fd, events: POLLIN })),
      -1,
    )) {
      const bytes = layer.receive(fd, 65536);
      if (bytes.length > 0) layer.send(fd, bytes);
      else {
        layer.close(fd);
        open.delete(fd);
      }
    }
  }
}

/** Listeners on both mechanisms in one set; a line for each thing that poll tells. */
function mixed(layer: BlockingConnect): void {
  const listeners = [AF_INET, AF_STP].map((family) => {
    const fd = layer.socket(family);
    layer.listen(fd);
    return fd;
  });
  say(listeners.map((fd) => layer.getsockname(fd).port));
  const streams = new Set<number>();
  for (;;) {
    const set = [...listeners, ...streams].map((fd) => ({ fd, events: POLLIN }));
    for (const { fd } of layer.poll(set, -1)) {
      const mechanism = layer.getsockopt(fd, 'mechanism');
      if (listeners.includes(fd)) {
        streams.add(layer.accept(fd));
        say(`${mechanism} accepted`);
        continue;
      }
      const bytes = layer.receive(fd, 100);
      say(`${mechanism} ${bytes.length === 0 ? 'ended' : bytes}`);
      if (bytes.length > 0) continue;
      layer.close(fd);
      streams.delete(fd);
      if (streams.size === 0) return;
    }
  }
}

function block(layer: BlockingConnect, task: Task): void {
  const fd = layer.socket(task.mechanism === 'stp' ? AF_STP : AF_INET);
  const port = task.port ?? 0;
  if (task.call === 'accept') {
    layer.listen(fd);
    say('blocking');
    layer.accept(fd);
  } else if (task.call === 'connect') {
    say('blocking');
    layer.connect(fd, { port });
  } else {
    layer.connect(fd, { port });
    say('blocking');
    if (task.call === 'receive') layer.receive(fd, 1);
    else if (task.call === 'poll') layer.poll([{ fd, events: POLLIN }], -1);
    else layer.send(fd, Buffer.alloc(64 << 20));
  }
  say('returned');
}

const task = workerData as Task;
const layer = await open(task);
try {
  if (task.what === 'echo-handed') {
    echo(layer, new Set((task.given ?? []).map((given) => layer.adopt(given))));
  } else if (task.what === 'mixed') {
    mixed(layer);
  } else if (task.what === 'block') {
    block(layer, task);
  } else {
    // Loops alive, nothing to do: the worker ends when it is told to.
    setInterval(() => {}, 1000);
  }
} catch (error) {
  say(codeOf(error));
}
if (task.what !== 'stay') await layer[Symbol.asyncDispose]();
