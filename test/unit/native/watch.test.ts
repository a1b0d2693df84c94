/**
 * Watching descriptors on a thread's event loop, and what remains of it when the thread ends.
 */
import { once } from 'node:events';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { native } from '../../../src/native.js';
import { addon, runChild } from './child.js';

const READABLE = 1;
const WRITABLE = 2;
const DISCONNECT = 4;
const NEVER_MS = 50;

/** The next event of a descriptor; the watch is stopped with it. */
function nextEvent(fd: number, events: number): Promise<number> {
  return new Promise((resolve) => {
    const watch = native().watchStart(fd, events, (seen) => {
      native().watchStop(watch);
      resolve(seen);
    });
    native().watchRef(watch, true);
  });
}

function closeAll(...fds: readonly number[]): void {
  for (const fd of fds) native().closeDescriptor(fd);
}

test('readable when a message comes, not before', async (t) => {
  const [a, b] = native().socketPair(false);
  const seen: number[] = [];
  const watch = native().watchStart(a, READABLE, (events) => {
    seen.push(events);
    native().receiveMessage(a, 64);
  });
  await new Promise((resolve) => setTimeout(resolve, NEVER_MS));
  t.deepEqual(seen, []);
  native().sendMessage(b, Buffer.from('!'), []);
  while (seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  native().watchStop(watch);
  t.deepEqual(seen, [READABLE]);
  closeAll(a, b);
});

test('writable while there is room', async (t) => {
  const [a, b] = native().socketPair(true);
  t.is(await nextEvent(a, WRITABLE), WRITABLE);
  closeAll(a, b);
});

test('a connection shows as a readable listener', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-watch-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const listener = native().unixListen(join(directory, 'socket'), 1, 0o600);
  const client = native().unixConnect(join(directory, 'socket'));
  t.is(await nextEvent(listener, READABLE), READABLE);
  closeAll(native().unixAccept(listener), listener, client);
});

for (const stream of [true, false]) {
  const kind = stream ? 'stream' : 'message';

  test(`the end of the peer is seen at once (${kind})`, async (t) => {
    const [a, b] = native().socketPair(stream);
    native().closeDescriptor(b);
    const events = await nextEvent(a, READABLE | DISCONNECT);
    t.is(events, READABLE | DISCONNECT);
    t.is(native().receiveMessage(a, 64)?.data.length, 0);
    closeAll(a);
  });

  test(`a peer that ends with our bytes unread is ECONNRESET (${kind})`, async (t) => {
    const [a, b] = native().socketPair(stream);
    native().sendMessage(a, Buffer.from('!'), []);
    native().closeDescriptor(b);
    t.is(await nextEvent(a, READABLE | DISCONNECT), -104);
    closeAll(a);
  });
}

test('a peer that is killed is seen, whatever it was doing', async (t) => {
  const [a, b] = native().socketPair(false);
  const { signal } = runChild(`process.kill(process.pid, 'SIGKILL');`, { fds: [b] });
  t.is(signal, 'SIGKILL');
  closeAll(b);
  t.is(await nextEvent(a, READABLE | DISCONNECT), READABLE | DISCONNECT);
  closeAll(a);
});

test('nothing comes after stop, which may be repeated', async (t) => {
  const [a, b] = native().socketPair(false);
  let calls = 0;
  const watch = native().watchStart(a, READABLE, () => {
    calls++;
    native().watchStop(watch);
    native().watchStop(watch);
  });
  native().sendMessage(b, Buffer.from('!'), []);
  while (calls === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, NEVER_MS));
  t.is(calls, 1);
  native().watchStop(watch);
  native().watchRef(watch, true);
  closeAll(a, b);
});

test('a callback may stop other watches that are due in the same turn', async (t) => {
  const pairs = Array.from({ length: 8 }, () => native().socketPair(false));
  const watches: number[] = [];
  let calls = 0;
  for (const [a] of pairs) {
    watches.push(
      native().watchStart(a, READABLE, () => {
        calls++;
        for (const watch of watches) native().watchStop(watch);
        for (const fds of pairs) closeAll(...fds);
      }),
    );
  }
  for (const [, b] of pairs) native().sendMessage(b, Buffer.from('!'), []);
  while (calls === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, NEVER_MS));
  t.is(calls, 1);
});

test.serial('the next owner of a number is not seen by the last one’s watch', async (t) => {
  const [a, b] = native().socketPair(false);
  const watch = native().watchStart(a, READABLE, () => t.fail());
  native().watchStop(watch);
  closeAll(a, b);
  const [c, d] = native().socketPair(false);
  t.is(c, a, 'the kernel gives the lowest number');
  native().sendMessage(d, Buffer.from('!'), []);
  t.is(await nextEvent(c, READABLE), READABLE);
  closeAll(c, d);
});

test('a watched descriptor is not closed', (t) => {
  const [a, b] = native().socketPair(false);
  const watch = native().watchStart(a, READABLE, () => {});
  t.throws(() => native().closeDescriptor(a), { code: 'EBUSY', message: /watched/ });
  native().watchStop(watch);
  closeAll(a, b);
});

test('what cannot be watched is refused', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-watch-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'file'), '');
  const file = openSync(join(directory, 'file'), 'r');
  const [a, b] = native().socketPair(false);
  const ignore = () => {};
  t.throws(() => native().watchStart(file, READABLE, ignore), { code: 'EPERM' });
  t.throws(() => native().watchStart(1_000_000, READABLE, ignore), { code: 'EBADF' });
  for (const events of [0, 8, -1, 1.5]) {
    t.throws(() => native().watchStart(a, events, ignore), { instanceOf: RangeError });
  }
  const nothing = undefined as unknown as () => void;
  t.throws(() => native().watchStart(a, READABLE, nothing), { instanceOf: TypeError });
  for (const watch of [0, -1, 1e9]) {
    t.throws(() => native().watchStop(watch), { instanceOf: RangeError });
  }
  const watch = native().watchStart(a, READABLE, ignore);
  t.throws(() => native().watchStart(a, WRITABLE, ignore), { code: 'EEXIST' });
  native().watchStop(watch);
  closeAll(file, a, b);
});

test('promises and ticks run after each callback', async (t) => {
  const [a, b] = native().socketPair(false);
  const [c, d] = native().socketPair(false);
  const order: string[] = [];
  const done = new Promise<void>((resolve) => {
    for (const fd of [a, c]) {
      const watch = native().watchStart(fd, READABLE, () => {
        native().watchStop(watch);
        order.push('event');
        process.nextTick(() => order.push('tick'));
        Promise.resolve().then(() => {
          order.push('promise');
          if (order.length === 6) resolve();
        });
      });
    }
  });
  native().sendMessage(b, Buffer.from('!'), []);
  native().sendMessage(d, Buffer.from('!'), []);
  const alive = setInterval(() => {}, 1000);
  await done;
  clearInterval(alive);
  t.deepEqual(order, ['event', 'tick', 'promise', 'event', 'tick', 'promise']);
  closeAll(a, b, c, d);
});

test('an exception in a callback is uncaught, and the next event still comes', (t) => {
  const { stdout, stderr, status } = runChild(
    `const [a, b] = native().socketPair(false);
     let calls = 0;
     process.on('uncaughtException', (e) => console.log('uncaught', e.message));
     const watch = native().watchStart(a, 1, () => {
       calls++;
       native().receiveMessage(a, 64);
       if (calls === 2) native().watchStop(watch);
       else native().sendMessage(b, Buffer.from('!'), []);
       throw new Error('number ' + calls);
     });
     native().watchRef(watch, true);
     native().sendMessage(b, Buffer.from('!'), []);`,
  );
  t.is(stderr, '');
  t.is(status, 0);
  t.is(stdout, 'uncaught number 1\nuncaught number 2\n');
});

test('an exception that nobody handles ends the process', (t) => {
  const { stderr, status } = runChild(
    `const [a, b] = native().socketPair(false);
     const watch = native().watchStart(a, 1, () => { throw new Error('in a callback'); });
     native().watchRef(watch, true);
     native().sendMessage(b, Buffer.from('!'), []);`,
  );
  t.is(status, 1);
  t.regex(stderr, /Error: in a callback/);
});

test('a watch does not keep the process, unless it is referenced', (t) => {
  const start = `const [a, b] = native().socketPair(false);
    const watch = native().watchStart(a, 1, () => { console.log('event'); native().watchStop(watch); });`;
  t.is(runChild(start).stdout, '');
  const referenced = `${start} native().watchRef(watch, true);
    setTimeout(() => native().sendMessage(b, Buffer.from('!'), []), 20).unref();`;
  // The timer does not keep the process either, so only the watch can have.
  const { status, stdout } = runChild(referenced);
  t.is(status, 0);
  t.is(stdout, 'event\n');
  t.is(runChild(`${referenced} native().watchRef(watch, false);`).stdout, '');
});

test('process.exit ends a process with watches on every thread', (t) => {
  const { status, stderr, stdout } = runChild(
    `import { Worker } from 'node:worker_threads';
     const watchMany = () => {
       for (let i = 0; i < 20; i++) native().watchStart(native().socketPair(true)[0], 3, () => {});
     };
     const workers = [1, 2].map(() => new Worker(
       "import { parentPort } from 'node:worker_threads';" +
       "const { native } = await import(process.env.ADDON);" +
       "(" + watchMany + ")(); parentPort.postMessage('ready'); setInterval(() => {}, 1000);",
       { eval: true }));
     await Promise.all(workers.map((w) => new Promise((resolve, reject) => {
       w.once('message', resolve); w.once('error', reject);
     })));
     watchMany();
     process.on('exit', () => console.log('exit'));
     process.exit(5);`,
    { env: { ADDON: addon } },
  );
  t.is(stderr, '');
  t.is(stdout, 'exit\n');
  t.is(status, 5);
});

const workerProgram = `
  const { parentPort, workerData } = require('node:worker_threads');
  import(workerData.addon).then(({ native }) => {
    const watch = native().watchStart(workerData.fd, workerData.events, () => {
      if (workerData.throws) throw new Error('in a worker');
    });
    native().watchRef(watch, true);
    parentPort.postMessage('ready');
  });`;

const startWorker = async (fd: number, events: number, throws = false): Promise<Worker> => {
  const workerData = { addon, fd, events, throws };
  const worker = new Worker(workerProgram, { eval: true, workerData });
  await once(worker, 'message');
  return worker;
};

test('terminate ends a worker that watches, idle or busy', async (t) => {
  for (const events of [READABLE, WRITABLE]) {
    for (let round = 0; round < 5; round++) {
      const [a, b] = native().socketPair(true);
      // WRITABLE is due without end: terminate comes in the midst of callbacks.
      const worker = await startWorker(a, events);
      t.is(await worker.terminate(), 1);
      // The watch has gone with the worker: the number is free for ours.
      native().sendMessage(b, Buffer.from('!'), []);
      t.is(await nextEvent(a, READABLE), READABLE);
      closeAll(a, b);
    }
  }
});

test('an exception in a worker’s callback is that worker’s error', async (t) => {
  const [a, b] = native().socketPair(true);
  const worker = await startWorker(a, READABLE, true);
  const failed = once(worker, 'error');
  native().sendMessage(b, Buffer.from('!'), []);
  t.is(((await failed)[0] as Error).message, 'in a worker');
  closeAll(a, b);
});

test('a worker that ends by itself takes its watches with it', async (t) => {
  const [a, b] = native().socketPair(true);
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
     import(workerData.addon).then(({ native }) => native().watchStart(workerData.fd, 1, () => {}));`,
    { eval: true, workerData: { addon, fd: a } },
  );
  const [code] = await once(worker, 'exit');
  t.is(code, 0);
  closeAll(a, b);
});

test('callbacks of stopped watches are collected', (t) => {
  const { stdout, stderr } = runChild(
    `let collected = 0;
     const registry = new FinalizationRegistry(() => collected++);
     const [a] = native().socketPair(true);
     for (let i = 0; i < 100; i++) {
       const callback = () => i;
       registry.register(callback, i);
       native().watchStop(native().watchStart(a, 1, callback));
     }
     for (let i = 0; i < 100 && collected < 100; i++) {
       gc();
       await new Promise((resolve) => setTimeout(resolve, 5));
     }
     console.log(collected >= 99);`,
    { flags: ['--expose-gc'] },
  );
  t.is(stderr, '');
  t.is(stdout, 'true\n');
});
