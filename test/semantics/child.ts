/**
 * A process of its own in a situation, in one of the roles below; what it says enters lane 'child'
 * of the journal. Over STP it attaches for itself.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { attach } from '../../src/index.js';
import { type Face, netFace, stpFace } from './face.js';
import { LOOPBACK } from './loopback.js';

export class Child {
  readonly process: ChildProcess;
  readonly #folder = mkdtempSync(join(tmpdir(), 'stpd-child-'));
  readonly #port: Promise<number>;
  #stderr = '';

  /** @param array run directory and STG of an array; none for `node:net` */
  constructor(array: readonly string[], role: string, port: number, log: (text: string) => void) {
    this.process = fork(
      fileURLToPath(import.meta.url),
      [role, String(port), join(this.#folder, 'go'), ...array],
      { stdio: ['ignore', 'inherit', 'pipe', 'ipc'] },
    );
    this.process.stderr?.on('data', (text: Buffer) => {
      this.#stderr += text.toString();
    });
    this.#port = new Promise((resolve) => {
      this.process.on('message', (message: { say?: string; port?: number }) => {
        if (message.say !== undefined) log(message.say);
        if (message.port !== undefined) resolve(message.port);
      });
    });
    this.process.on('exit', (code, signal) => {
      log(`exit ${code} ${signal}`);
      if (code !== 0 && signal === null && !/on purpose/.test(this.#stderr)) {
        process.stderr.write(this.#stderr);
      }
    });
  }

  /** Where it listens. */
  port(): Promise<number> {
    return this.#port;
  }

  /** Lets it go on: also where its event loop is blocked. */
  release(): void {
    writeFileSync(join(this.#folder, 'go'), '');
  }

  end(): void {
    this.process.kill('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

// --- in the child's process ----------------------------------------------------------------------

interface Part {
  readonly face: Face;
  readonly port: number;
  say(text: string): Promise<void>;
  tellPort(port: number): Promise<void>;
  /** Blocks the thread until the parent lets go. */
  block(): void;
  /** Resolves when the parent lets go; keeps the process alive meanwhile, or not. */
  released(): Promise<void>;
}

const roles: Readonly<Record<string, (part: Part) => Promise<void> | void>> = {
  'listen and block': async ({ face, say, tellPort, block }) => {
    let accepted = 0;
    const server = face.createServer(() => void say(`accepted ${++accepted}`));
    await new Promise<void>((resolve) => {
      server.listen({ port: 0, host: LOOPBACK, backlog: 1 }, resolve);
    });
    await tellPort((server.address() as AddressInfo).port);
    await say('blocks');
    block();
    await say('goes on');
  },

  /** For being killed. */
  listen: async ({ face, tellPort, say }) => {
    const server = face.createServer((socket) => {
      socket.on('error', () => {}).resume();
      void say('accepted');
    });
    await new Promise<void>((resolve) => {
      server.listen({ port: 0, host: LOOPBACK }, resolve);
    });
    await tellPort((server.address() as AddressInfo).port);
  },

  'connect and wait': ({ face, port, say }) => {
    const socket = face.connect({ port, host: LOOPBACK }, () => socket.write('hello'));
    socket.on('data', (data) => void say(`got ${data.length}`));
    socket.on('error', () => {});
  },

  'connect and exit': ({ face, port, released }) => {
    const socket = face.connect({ port, host: LOOPBACK }, async () => {
      await new Promise((resolve) => socket.write('last words', resolve));
      await released();
      process.exit(0);
    });
  },

  'connect and throw': ({ face, port, released }) => {
    const socket = face.connect({ port, host: LOOPBACK }, async () => {
      await new Promise((resolve) => socket.write('last words', resolve));
      await released();
      setImmediate(() => {
        throw new Error('uncaught on purpose');
      });
    });
  },

  'a socket that is referenced': ({ face, port, say }) => {
    face.connect({ port, host: LOOPBACK }, () => void say('connected'));
  },

  'a socket that is not': ({ face, port, say }) => {
    const socket = face.connect({ port, host: LOOPBACK }, async () => {
      await say('connected');
      say(`the same: ${socket.unref() === socket}`);
    });
  },

  'a socket that is not, from before connect': ({ face, port, say }) => {
    const socket = new face.Socket();
    socket.unref();
    socket.connect({ port, host: LOOPBACK }, () => void say('connected'));
    setTimeout(() => {}, 400);
  },

  'a socket that is again': ({ face, port, say }) => {
    const socket = face.connect({ port, host: LOOPBACK }, async () => {
      await say('connected');
      socket.unref();
      say(`the same: ${socket.ref() === socket}`);
    });
  },

  'a socket with a time-out': ({ face, port, say }) => {
    const socket = face.connect({ port, host: LOOPBACK }, async () => {
      socket.setTimeout(60_000);
      socket.unref();
      await say('connected');
    });
  },

  'a server that is referenced': ({ face, say }) => {
    face.createServer().listen({ port: 0, host: LOOPBACK }, () => void say('listens'));
  },

  'a server that is not': ({ face, say }) => {
    const server = face.createServer();
    server.unref();
    server.listen({ port: 0 }, () => void say(`the same: ${server.unref() === server}`));
  },

  'a server that is again': ({ face, say }) => {
    const server = face.createServer();
    server.unref();
    server.listen({ port: 0 }, () => void say(`the same: ${server.ref() === server}`));
  },
};

async function play(): Promise<void> {
  const [role = '', port = '', go = '', runDirectory, stg] = process.argv.slice(2);
  const send = (message: object): Promise<void> =>
    new Promise((resolve) => process.send?.(message, () => resolve()));
  let face: Face = netFace;
  if (runDirectory !== undefined && stg !== undefined) {
    const name = `situation: ${role}`;
    const host = await attach({ runDirectory, stg, name, timeoutMs: 60_000 });
    face = stpFace(host, host);
  }
  /* The way to the parent keeps no process alive: only its sockets do. */
  process.channel?.unref();
  const tick = new Int32Array(new SharedArrayBuffer(4));
  await roles[role]?.({
    face,
    port: Number(port),
    say: (say) => send({ say }),
    tellPort: (told) => send({ port: told }),
    block: () => {
      while (!existsSync(go)) Atomics.wait(tick, 0, 0, 10);
    },
    released: async () => {
      while (!existsSync(go)) await new Promise((resolve) => setTimeout(resolve, 10));
    },
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await play();
}
