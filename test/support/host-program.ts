/**
 * A host in a process of its own, told by a test over IPC what to do: the only way to show what
 * happens when a host dies. Each command is answered with `{ id, ... }` or `{ id, error, code }`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { ExecutionContext } from 'ava';
import { attach, type Host, type StpSocket } from '../../src/index.js';

export interface HostCommand {
  readonly do: 'attach' | 'listen' | 'connect' | 'send' | 'state' | 'stream' | 'block' | 'close';
  readonly runDirectory?: string;
  readonly stg?: string;
  /** What the host calls itself. */
  readonly name?: string;
  readonly port?: number;
  readonly bytes?: number;
  readonly backlog?: number;
  readonly socket?: number;
}

export interface HostAnswer {
  readonly port?: number;
  readonly socket?: number;
  readonly received?: number;
  readonly sent?: number;
  readonly code?: string;
  readonly message?: string;
  readonly closed?: boolean;
  readonly error?: string;
}

export interface HostProcess {
  readonly child: ChildProcess;
  ask(command: HostCommand): Promise<HostAnswer>;
  kill(): Promise<void>;
}

/** Starts one and attaches it. */
export async function startHost(
  t: ExecutionContext<unknown>,
  runDirectory: string,
  stg = 'test',
  name = '',
): Promise<HostProcess> {
  const child = fork(fileURLToPath(import.meta.url), ['host'], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const waiting = new Map<
    number,
    { resolve: (a: HostAnswer) => void; reject: (e: Error) => void }
  >();
  let next = 1;
  child.on('message', (answer: HostAnswer & { id: number; failed?: boolean }) => {
    const entry = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (answer.failed === true) {
      entry?.reject(Object.assign(new Error(answer.error), { code: answer.code }));
    } else entry?.resolve(answer);
  });
  child.once('exit', () => {
    for (const { reject } of waiting.values()) reject(new Error('the host process ended'));
  });
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  t.teardown(kill);
  const host: HostProcess = {
    child,
    kill,
    ask: (command) =>
      new Promise((resolve, reject) => {
        const id = next++;
        waiting.set(id, { resolve, reject });
        child.send({ id, command });
      }),
  };
  await host.ask({ do: 'attach', runDirectory, stg, name });
  return host;
}

// --- in the host's process ---------------------------------------------------------------------

interface Tracked {
  readonly socket: StpSocket;
  received: number;
  sent: number;
  closed: boolean;
  code: string | undefined;
  message: string | undefined;
}

const sockets: Tracked[] = [];
let host: Host | undefined;

function track(socket: StpSocket): number {
  const entry: Tracked = {
    socket,
    received: 0,
    sent: 0,
    closed: false,
    code: undefined,
    message: undefined,
  };
  socket.on('data', (data: Buffer) => {
    entry.received += data.length;
  });
  socket.on('error', (error: Error & { code?: string }) => {
    entry.code = error.code;
    entry.message = error.message;
  });
  socket.on('close', () => {
    entry.closed = true;
  });
  return sockets.push(entry) - 1;
}

function pour(entry: Tracked): void {
  const chunk = randomFillSync(Buffer.alloc(65536));
  const more = (): void => {
    while (!entry.socket.destroyed) {
      entry.sent += chunk.length;
      if (!entry.socket.write(chunk)) {
        entry.socket.once('drain', more);
        return;
      }
    }
  };
  more();
}

function entryOf(command: HostCommand): Tracked {
  const entry = sockets[command.socket ?? 0];
  if (entry === undefined) throw new Error('no such socket');
  return entry;
}

async function carryOut(command: HostCommand): Promise<HostAnswer> {
  switch (command.do) {
    case 'attach':
      host = await attach({
        runDirectory: command.runDirectory ?? '',
        stg: command.stg ?? '',
        name: command.name ?? '',
      });
      return {};
    case 'listen': {
      const server = (host as Host).createServer({ allowHalfOpen: true }, track);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen({ port: command.port ?? 0, backlog: command.backlog ?? 511 }, resolve);
      });
      return { port: server.address()?.port ?? 0 };
    }
    case 'connect': {
      const socket = (host as Host).connect({ port: command.port ?? 0, allowHalfOpen: true });
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      });
      return { socket: track(socket) };
    }
    case 'send': {
      const entry = entryOf(command);
      entry.socket.write(Buffer.alloc(command.bytes ?? 1));
      return {};
    }
    case 'stream':
      pour(entryOf(command));
      return {};
    case 'block': {
      const handle = entryOf(command).socket.detach();
      const worker = new Worker(new URL('./blocking-worker.js', import.meta.url), {
        workerData: handle,
        transferList: [handle.port],
      });
      worker.on('error', (error: Error & { code?: string }) => {
        entryOf(command).code = error.code;
      });
      await new Promise((resolve) => worker.once('message', resolve));
      return {};
    }
    case 'close':
      entryOf(command).socket.end();
      return {};
    case 'state': {
      if (sockets[command.socket ?? 0] === undefined) return {}; /* not accepted yet */
      const { received, sent, closed, code, message } = entryOf(command);
      return {
        received,
        sent,
        closed,
        ...(code === undefined ? {} : { code }),
        ...(message === undefined ? {} : { message }),
      };
    }
  }
}

if (process.argv[2] === 'host' && process.argv[1] === fileURLToPath(import.meta.url)) {
  process.on('disconnect', () => process.exit(0));
  process.on('message', ({ id, command }: { id: number; command: HostCommand }) => {
    carryOut(command).then(
      (answer) => process.send?.({ id, ...answer }),
      (error: Error & { code?: string }) =>
        process.send?.({ id, failed: true, error: error.message, code: error.code }),
    );
  });
}
