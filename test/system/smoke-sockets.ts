/**
 * A program, not a test file: sockets through an array, in the Node that runs it, on the addon as
 * it is built. `npm run test:nodes` runs it in each supported Node, test/system/nodes.test.ts in
 * this one. Prints a line a step; exit code 0 or 1.
 *
 * With an argument it is one of its own children: a process that ends in the named way while a
 * worker of its blocks in receive.
 */
import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { attach, BlockingStream, type Host, type StpSocket } from '../../src/index.js';

const STG = 'smoke';
/** Beyond this a process or a worker that should have ended counts as hanging. */
const END_WITHIN_MS = 1000;
const WATCHDOG_MS = 60_000;
const say = (text: string): boolean => process.stdout.write(`${text}\n`);
const program = (name: string): string =>
  fileURLToPath(new URL(`../../src/ctl/${name}.js`, import.meta.url));

async function pair(host: Host): Promise<[StpSocket, StpSocket]> {
  const server = host.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(0);
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const client = host.connect({ port: server.address()?.port ?? 0, allowHalfOpen: true });
  await once(client, 'connect');
  const [socket] = (await accepted) as [StpSocket];
  server.close();
  return [client, socket];
}

function inWorker(socket: StpSocket, role: string): Worker {
  const handle = socket.detach();
  return new Worker(fileURLToPath(import.meta.url), {
    workerData: { role, handle },
    transferList: [handle.port],
  });
}

async function echo(host: Host): Promise<void> {
  const [client, server] = await pair(host);
  server.pipe(server);
  const data = randomBytes(3_000_001);
  client.end(data);
  const parts: Buffer[] = [];
  for await (const part of client) parts.push(part as Buffer);
  assert.ok(Buffer.concat(parts).equals(data));
}

async function workerEcho(host: Host): Promise<void> {
  const [client, server] = await pair(host);
  const worker = inWorker(server, 'echo');
  const exited = once(worker, 'exit');
  const data = randomBytes(10_000_019);
  client.end(data);
  const parts: Buffer[] = [];
  for await (const part of client) parts.push(part as Buffer);
  assert.ok(Buffer.concat(parts).equals(data));
  await exited;
}

async function terminated(host: Host): Promise<number> {
  const [client, server] = await pair(host);
  const reset = once(client.resume(), 'error');
  const worker = inWorker(server, 'block');
  await once(worker, 'message');
  const start = performance.now();
  await worker.terminate();
  const took = performance.now() - start;
  const [error] = await reset;
  assert.equal(error.code, 'ECONNRESET');
  return took;
}

/** A child that ends in the given way; how long that took after it said so. */
async function childEnds(runDirectory: string, way: string): Promise<number> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), way, runDirectory], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(child.stdout, 'data');
  const start = performance.now();
  await once(child, 'exit');
  return performance.now() - start;
}

async function endingChild(way: string, runDirectory: string): Promise<void> {
  const host = await attach({ runDirectory, stg: STG, name: way });
  const [, server] = await pair(host);
  const worker = inWorker(server, 'block');
  await once(worker, 'message');
  setTimeout(() => {
    process.stdout.write('ending\n');
    if (way === 'exit') process.exit(0);
    throw new Error('uncaught on purpose');
  }, 120);
}

function runWorker(): void {
  const { role, handle } = workerData;
  const stream = new BlockingStream(handle);
  const buffer = Buffer.alloc(65536);
  parentPort?.postMessage(role);
  for (;;) {
    const got = stream.receive(buffer);
    if (got === 0) break;
    if (role === 'echo') stream.send(buffer, 0, got);
  }
  stream.close();
}

async function runMain(): Promise<void> {
  const base = mkdtempSync(join(tmpdir(), 'stpd-smoke-'));
  const runDirectory = join(base, 'run');
  const stpd = spawn(
    process.execPath,
    [
      program('stpd'),
      'start',
      '--foreground',
      '--run-dir',
      runDirectory,
      '--boards',
      '4',
      '--board-size',
      '4MiB',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const gone = once(stpd, 'exit');
  try {
    await new Promise<void>((resolve, reject) => {
      let said = '';
      stpd.stderr.on('data', (text: Buffer) => {
        said += text.toString();
        if (/ serving/.test(said)) resolve();
      });
      stpd.once('exit', () => reject(new Error(`stpd ended: ${said}`)));
    });
    const create = [
      'stg',
      'create',
      STG,
      '--boards',
      '4',
      '--ports',
      '16',
      '--run-dir',
      runDirectory,
    ];
    const created = spawn(process.execPath, [program('stpctl'), ...create], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    assert.deepEqual(await once(created, 'exit'), [0, null]);
    const host = await attach({ runDirectory, stg: STG, name: 'smoke' });
    say('attach: ok');
    await echo(host);
    say('connect, send, receive: 3 MB came back');
    await workerEcho(host);
    say('from a worker: 10 MB came back');
    const ends: Record<string, number> = { 'worker.terminate()': await terminated(host) };
    ends['process.exit()'] = await childEnds(runDirectory, 'exit');
    ends['uncaught exception'] = await childEnds(runDirectory, 'throw');
    for (const [way, ms] of Object.entries(ends)) {
      say(`${way} while a worker blocks in receive: ended after ${ms.toFixed(0)} ms`);
      assert.ok(ms < END_WITHIN_MS, `${way} took ${ms} ms`);
    }
    await host.close();
  } finally {
    stpd.kill('SIGTERM');
    await gone;
    rmSync(base, { recursive: true, force: true });
  }
  say('ok');
}

if (!isMainThread) runWorker();
else if (process.argv[2] !== undefined) await endingChild(process.argv[2], process.argv[3] ?? '');
else {
  const watchdog = setTimeout(() => {
    say('hangs');
    process.exit(1);
  }, WATCHDOG_MS);
  await runMain();
  clearTimeout(watchdog);
}
