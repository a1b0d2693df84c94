/**
 * `stpctl forward` in a process of its own, and both of its neighbours: a client that dials an
 * address, and a server behind one, whatever their kind. All half-open: nothing ends by itself.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext, TestFn } from 'ava';
import { attach, type Host, type StpSocket } from '../../src/index.js';
import { type ArrayForTest, type Finished, finished, startArray, until } from './array.js';

type Test = Pick<ExecutionContext<unknown>, 'teardown'>;

export const STPCTL = fileURLToPath(new URL('../../src/ctl/stpctl.js', import.meta.url));

/** One array for all tests of a file, which run one after the other. */
export function sharedArray(test: TestFn): () => ArrayForTest {
  const cleanUps: (() => unknown)[] = [];
  let array: ArrayForTest | undefined;
  test.before('an array', async () => {
    array = await startArray({ teardown: (fn) => void cleanUps.unshift(fn) });
  });
  test.after.always('leave it', async () => {
    for (const cleanUp of cleanUps) await cleanUp();
  });
  return () => array as ArrayForTest;
}

/** A stream socket of any kind. */
export type AnySocket = Socket | StpSocket;

export interface Forward {
  readonly child: ChildProcess;
  /** The address that it listens on, with its port. */
  readonly from: string;
  /** What it has written to stderr so far. */
  readonly said: () => string;
  readonly ended: Promise<Finished>;
}

export interface ForwardSpawn {
  readonly runDirectory: string;
  readonly args: readonly string[];
  /** Ours where absent: pipes. */
  readonly stdio?: ['ignore' | 'pipe' | number, 'pipe' | number, 'pipe'];
}

/** Starts one without waiting for anything. */
export function spawnForward(t: Test, { runDirectory, args, stdio }: ForwardSpawn): Forward {
  const child = spawn(process.execPath, [STPCTL, 'forward', ...args], {
    env: { ...process.env, STPD_RUN_DIR: runDirectory },
    stdio: stdio ?? ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const ended = finished(child);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, from: '', said: () => said, ended };
}

/** Starts one and waits until it listens. */
export async function startForward(t: Test, options: ForwardSpawn): Promise<Forward> {
  const forward = spawnForward(t, options);
  const from = await until('the forward listens', () => {
    if (forward.child.exitCode !== null) throw new Error(`it ended: ${forward.said()}`);
    return /forwarding (\S+) to /.exec(forward.said())?.[1];
  });
  return { ...forward, from };
}

/** A host of the array that goes with the test. */
export async function hostFor(t: Test, runDirectory: string, stg = 'test'): Promise<Host> {
  const host = await attach({ runDirectory, stg });
  t.teardown(() => host.close());
  return host;
}

export function scratchDirectory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'stpd-forward-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const partsOf = (address: string): { kind: string; name: string; port: number } => {
  const [, kind = '', rest = ''] = /^(\w+):(.*)$/.exec(address) ?? [];
  const colon = rest.lastIndexOf(':');
  if (kind === 'unix') return { kind, name: rest, port: 0 };
  const name = rest.slice(0, colon).replace(/^\[|\]$/g, '');
  return { kind, name, port: Number(rest.slice(colon + 1)) };
};

/** Of sockets that were dialled, before anybody else listened. */
const failures = new WeakMap<AnySocket, NodeJS.ErrnoException>();

/** Dials an address as it stands on the command line; connected when it resolves. */
export async function dial(t: Test, host: Host | undefined, address: string): Promise<AnySocket> {
  const { kind, name, port } = partsOf(address);
  let socket: AnySocket;
  if (kind === 'stp') socket = (host as Host).connect({ port, allowHalfOpen: true });
  else if (kind === 'unix') socket = connect({ path: name, allowHalfOpen: true });
  else socket = connect({ host: name, port, allowHalfOpen: true });
  t.teardown(() => void socket.destroy());
  /* A test that cares listens itself; a reset may come in the same turn as the connection. */
  socket.on('error', (e) => void failures.set(socket, e));
  await once(socket, 'connect');
  return socket;
}

export interface Served {
  readonly address: string;
  /** The connections so far. */
  readonly sockets: AnySocket[];
  close(): void;
}

/** Listens with any kind; paused sockets are handed to `onSocket` as they come. */
export async function serve(
  t: Test,
  host: Host | undefined,
  kind: 'stp' | 'tcp' | 'unix',
  onSocket: (socket: AnySocket) => void = () => {},
): Promise<Served> {
  const sockets: AnySocket[] = [];
  const onConnection = (socket: AnySocket): void => {
    socket.on('error', () => {}); /* a test that cares listens itself */
    sockets.push(socket);
    onSocket(socket);
  };
  const options = { allowHalfOpen: true, pauseOnConnect: true };
  let address: string;
  let close: () => void;
  if (kind === 'stp') {
    const server = (host as Host).createServer(options, onConnection);
    server.listen({ port: 0, backlog: 1024 });
    await once(server, 'listening');
    address = `stp:${(host as Host).stg}:${server.address()?.port}`;
    close = () => void server.close();
  } else {
    const path = join(scratchDirectory(t), 'server.sock');
    const server = createServer(options, onConnection);
    if (kind === 'unix') server.listen({ path, backlog: 1024 });
    else server.listen({ port: 0, host: '127.0.0.1', backlog: 1024 });
    await once(server, 'listening');
    const bound = server.address();
    address = typeof bound === 'object' ? `tcp:127.0.0.1:${bound?.port}` : `unix:${path}`;
    close = () => void server.close();
  }
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    close();
  });
  return { address, sockets, close };
}

/** Everything a stream has to say, as its length and digest. Leaves the stream's other half alone. */
export function drain(input: Readable): Promise<{ bytes: number; digest: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  return new Promise((resolve, reject) => {
    input.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      bytes += chunk.length;
    });
    input.once('end', () => resolve({ bytes, digest: hash.digest('hex') }));
    input.once('error', reject);
    input.once('close', () => reject(new Error('closed before its end')));
    input.resume();
  });
}

/** Writes bytes that depend on `seed` alone, and says what it wrote. */
export async function pour(
  output: Writable,
  bytes: number,
  seed: number,
): Promise<{ bytes: number; digest: string }> {
  const hash = createHash('sha256');
  let state = seed >>> 0 || 1;
  for (let left = bytes; left > 0; ) {
    /* Pieces of odd sizes; xorshift32. */
    const piece = Buffer.allocUnsafe(Math.min(left, 1 + (state % 150_000)));
    for (let i = 0; i < piece.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      piece[i] = state;
    }
    state >>>= 0;
    hash.update(piece);
    left -= piece.length;
    if (!output.write(piece)) await once(output, 'drain');
  }
  return { bytes, digest: hash.digest('hex') };
}

/** Dials what resets at once, maybe before Node has seen that it was connected: how that ends. */
export const fateOf = (t: Test, host: Host | undefined, address: string): Promise<string> =>
  dial(t, host, address).then(fate, (e: NodeJS.ErrnoException) => e.code ?? e.message);

/** How a socket's input ends: its error's code, `end` in order, or `close` without either. */
export function fate(socket: AnySocket): Promise<string> {
  const before = failures.get(socket);
  if (before !== undefined) return Promise.resolve(before.code ?? before.message);
  return new Promise((resolve) => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.once('end', () => resolve('end'));
    socket.once('close', () => resolve('close'));
    socket.resume();
  });
}

export { until } from './array.js';
