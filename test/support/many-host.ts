/**
 * A host with thousands of connections in a process of its own, told by a test over IPC what to do:
 * greedy ones that write without end, modest ones that ask and wait for the answer, idle ones.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { attach, type Host, type StpSocket } from '../../src/index.js';

/** What a modest stream sends, and gets back. */
export const MODEST_BYTES = 64;
/** Connects that are under way at a time: less than a backlog. */
const CONNECTS_AT_ONCE = 256;
/** What a greedy stream writes at a time. */
const CHUNK_BYTES = 262_144;

export interface ManyCommand {
  readonly do:
    | 'attach'
    | 'serve'
    | 'open'
    | 'exchange'
    | 'pour'
    | 'ask'
    | 'counts'
    | 'close'
    | 'resources';
  readonly runDirectory?: string;
  readonly name?: string;
  readonly pageTimeoutMs?: number;
  readonly port?: number;
  /** serve: what becomes of what arrives. */
  readonly kind?: 'echo' | 'sink' | 'ignore';
  readonly count?: number;
  readonly bytes?: number;
}

export interface ManyAnswer {
  readonly port?: number;
  /** Of each connection, in the order in which they were opened or accepted. */
  readonly counts?: number[];
  /** ask: bytes that had arrived in this process's sinks when each answer came. */
  readonly marks?: number[];
  readonly milliseconds?: number[];
  readonly open?: number;
  readonly rssAnonBytes?: number;
  readonly descriptors?: number;
  readonly errors?: string[];
}

export interface ManyHost {
  readonly child: ChildProcess;
  ask(command: ManyCommand): Promise<ManyAnswer>;
}

/** Starts one and attaches it. */
export async function startManyHost(
  t: Pick<ExecutionContext<unknown>, 'teardown'>,
  runDirectory: string,
  options: { name?: string; pageTimeoutMs?: number } = {},
): Promise<ManyHost> {
  const child = fork(fileURLToPath(import.meta.url), ['many-host'], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    execArgv: ['--expose-gc'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  let next = 1;
  const waiting = new Map<number, (answer: ManyAnswer & { failed?: string }) => void>();
  child.on('message', (answer: ManyAnswer & { id: number; failed?: string }) => {
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  child.once('exit', () => {
    for (const tell of waiting.values()) tell({ failed: 'the host process ended' });
  });
  const host: ManyHost = {
    child,
    ask: (command) =>
      new Promise((resolve, reject) => {
        const id = next++;
        waiting.set(id, (answer) =>
          answer.failed === undefined ? resolve(answer) : reject(new Error(answer.failed)),
        );
        child.send({ id, command });
      }),
  };
  await host.ask({ do: 'attach', runDirectory, ...options });
  return host;
}

// --- in the host's process ---------------------------------------------------------------------

interface Connection {
  readonly socket: StpSocket;
  received: number;
  sent: number;
}

let host: Host;
const opened: Connection[] = [];
const accepted: Connection[] = [];
const errors: string[] = [];
let open = 0;

function track(socket: StpSocket, list: Connection[]): Connection {
  const connection = { socket, received: 0, sent: 0 };
  list.push(connection);
  open++;
  socket.on('error', (error) => {
    if (errors.length < 100) errors.push(error.message);
  });
  socket.once('close', () => open--);
  return connection;
}

async function serve(port: number, kind: ManyCommand['kind']): Promise<number> {
  const server = host.createServer({ pauseOnConnect: kind === 'ignore' }, (socket) => {
    const connection = track(socket, accepted);
    if (kind === 'ignore') return;
    socket.on('data', (data: Buffer) => {
      connection.received += data.length;
      if (kind === 'echo') socket.write(data);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, backlog: 511 }, resolve);
  });
  return server.address()?.port ?? 0;
}

async function connect(port: number): Promise<Connection> {
  const socket = host.connect({ port });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  const connection = track(socket, opened);
  socket.on('data', (data: Buffer) => {
    connection.received += data.length;
  });
  return connection;
}

async function openMany(port: number, count: number): Promise<Connection[]> {
  const connections: Connection[] = [];
  while (connections.length < count) {
    const some = Math.min(CONNECTS_AT_ONCE, count - connections.length);
    connections.push(...(await Promise.all(Array.from({ length: some }, () => connect(port)))));
  }
  return connections;
}

/** Sends so many bytes and waits for as many. */
function exchange(connection: Connection, bytes: Buffer): Promise<void> {
  const until = connection.received + bytes.length;
  return new Promise((resolve, reject) => {
    const { socket } = connection;
    const look = (): void => {
      if (connection.received < until) return;
      socket.off('data', look).off('close', lost);
      resolve();
    };
    const lost = (): void => reject(new Error(`closed in an exchange: ${errors[0]}`));
    socket.on('data', look).on('close', lost);
    socket.write(bytes);
  });
}

function pour(connection: Connection): void {
  const chunk = Buffer.alloc(CHUNK_BYTES, 7);
  const { socket } = connection;
  const more = (): void => {
    while (!socket.destroyed) {
      connection.sent += chunk.length;
      if (!socket.write(chunk)) return;
    }
  };
  socket.on('drain', more);
  more();
}

const received = (): number => accepted.reduce((sum, { received: bytes }) => sum + bytes, 0);

async function ask(connection: Connection, count: number): Promise<ManyAnswer> {
  const bytes = Buffer.alloc(MODEST_BYTES, 1);
  const milliseconds: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await exchange(connection, bytes);
    milliseconds.push(performance.now() - start);
  }
  return { milliseconds };
}

function rssAnonBytes(): number {
  const [, kilobytes] =
    /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}

async function carryOut(command: ManyCommand): Promise<ManyAnswer> {
  const { port = 0, count = 1, bytes = 64 } = command;
  switch (command.do) {
    case 'attach':
      host = await attach({
        runDirectory: command.runDirectory ?? '',
        stg: 'test',
        name: command.name ?? '',
        ...(command.pageTimeoutMs === undefined ? {} : { pageTimeoutMs: command.pageTimeoutMs }),
      });
      return {};
    case 'serve':
      return { port: await serve(port, command.kind) };
    case 'open':
      await openMany(port, count);
      return { open };
    case 'exchange': {
      const data = Buffer.alloc(bytes, 3);
      await Promise.all(opened.map((connection) => exchange(connection, data)));
      return { counts: opened.map((connection) => connection.received) };
    }
    case 'pour':
      for (const connection of await openMany(port, count)) pour(connection);
      return { open };
    case 'ask':
      return ask(await connect(port), count);
    case 'counts':
      return { counts: accepted.map((connection) => connection.received), errors, open };
    case 'close':
      for (const { socket } of opened.splice(0)) socket.end();
      return {};
    case 'resources':
      (globalThis as { gc?: () => void }).gc?.();
      return {
        open,
        errors,
        rssAnonBytes: rssAnonBytes(),
        descriptors: readdirSync('/proc/self/fd').length,
        counts: [received()],
      };
  }
}

if (process.argv[2] === 'many-host' && process.argv[1] === fileURLToPath(import.meta.url)) {
  process.on('disconnect', () => process.exit(0));
  process.on('message', ({ id, command }: { id: number; command: ManyCommand }) => {
    carryOut(command).then(
      (answer) => process.send?.({ id, ...answer }),
      (error: Error) => process.send?.({ id, failed: error.message }),
    );
  });
}
