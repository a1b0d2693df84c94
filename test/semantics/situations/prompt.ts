/** Situations: bytes, an end or a reset that are there when the connection is first seen. */
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { group } from '../situation.js';
import { LOOPBACK, type Stage } from '../stage.js';

const nextImmediate = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Logs what listeners that are added now hear. */
function listen(s: Stage, socket: Socket, lane = 'client'): void {
  s.log('listens', lane);
  for (const event of ['data', 'end', 'error', 'close']) {
    socket.on(event, (...given: unknown[]) => {
      const said = given[0] instanceof Error ? s.journal.show(given[0]) : String(given[0] ?? '');
      s.log(`hears ${event} ${said}`.trimEnd(), lane);
    });
  }
}

/** Reads all of it, and logs what came. */
async function iterate(s: Stage, socket: Socket, lane = 'client'): Promise<void> {
  s.log('iterates', lane);
  try {
    for await (const chunk of socket) s.log(`gets ${chunk}`, lane);
    s.log('has all', lane);
  } catch (error) {
    s.log(`rejects ${s.journal.show(error)}`, lane);
  }
}

/** Awaits 'connect' as programs do. */
async function connected(s: Stage, client: Socket): Promise<boolean> {
  try {
    await once(client, 'connect');
    return true;
  } catch (error) {
    s.log(`rejects ${s.journal.show(error)}`);
    return false;
  }
}

/** An option `onread` that logs. */
function onread(s: Stage): object {
  const callback = (bytes: number, buffer: Buffer): boolean => {
    s.log(`reads ${buffer.subarray(0, bytes)}`);
    return true;
  };
  return { onread: { buffer: Buffer.alloc(100), callback } };
}

/** A server that does so with each connection. */
async function serving(
  s: Stage,
  accept: (socket: Socket) => Promise<void> | void,
  options = {},
): Promise<{ server: Server; port: number }> {
  const { server, port } = await s.listening(options);
  server.on('connection', (socket) => void accept(socket));
  return { server, port };
}

export const prompt = group('What comes with the connection', {
  'data and end with the answer: listeners behind await once(connect)': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    await connected(s, client);
    listen(s, client);
    await s.closed(client);
    s.state(client);
  },

  'an end with the answer: listeners behind await once(connect)': async (s) => {
    const client = await s.connectToPrompt('ends');
    await connected(s, client);
    listen(s, client);
    await s.closed(client);
    s.state(client);
  },

  'data and end with the answer: listeners some promises later': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    await connected(s, client);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => process.nextTick(resolve));
    listen(s, client);
    await s.closed(client);
  },

  'an end with the answer: listeners in the immediate behind it': async (s) => {
    const client = await s.connectToPrompt('ends');
    await connected(s, client);
    await nextImmediate();
    listen(s, client);
    await s.closed(client);
  },

  'an end with the answer, and nobody who listens': async (s) => {
    await s.closed(await s.connectToPrompt('ends'));
  },

  'data and end with the answer: for await behind await once(connect)': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    await connected(s, client);
    await iterate(s, client);
    await s.closed(client);
  },

  'an end with the answer: for await behind await once(connect)': async (s) => {
    const client = await s.connectToPrompt('ends');
    await connected(s, client);
    await iterate(s, client);
    await s.closed(client);
  },

  'an end with the answer: finished() behind await once(connect)': async (s) => {
    const client = await s.connectToPrompt('ends');
    await connected(s, client);
    s.log('waits');
    await finished(client, { writable: false });
    s.log('is finished');
    await s.closed(client);
  },

  'data and end with the answer: pipeline() behind await once(connect)': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    await connected(s, client);
    s.log('pipes');
    s.journal.ignore(/pause|resume/);
    const into = new Writable({
      write: (chunk, _encoding, done) => {
        s.log(`gets ${chunk}`);
        done();
      },
    });
    await pipeline(client, into);
    s.log('has all');
    await s.closed(client);
  },

  'data and end with the answer: listeners from before connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    listen(s, client);
    client.on('connect', () => s.state(client));
    await s.closed(client);
  },

  'data and end with the answer: listeners in the callback of connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends', {}, (port) => {
      const socket = s.watch(new s.face.Socket(), 'client');
      return socket.connect({ port, host: LOOPBACK }, () => listen(s, socket));
    });
    await s.closed(client);
  },

  'data and end with the answer: resume() before connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    client.resume();
    await connected(s, client);
    s.log(`read ${client.bytesRead}`);
    await s.closed(client);
  },

  'data and end with the answer: pause() before connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    client.pause();
    await connected(s, client);
    await s.quiet();
    s.state(client);
    listen(s, client);
    client.resume();
    await s.closed(client);
  },

  'data and end with the answer: pause() behind await once(connect)': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    await connected(s, client);
    client.pause();
    await s.quiet();
    s.log(`destroyed ${client.destroyed}, read ${client.bytesRead}`);
    listen(s, client);
    client.resume();
    await s.closed(client);
  },

  'data and end with the answer: read() in the listener of readable': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    await connected(s, client);
    client.on('readable', () => {
      for (let part = client.read(3); part !== null; part = client.read(3)) s.log(`reads ${part}`);
      const rest = client.read();
      if (rest !== null) s.log(`reads ${rest}`);
    });
    await s.closed(client);
  },

  'data and end with the answer: onread': async (s) => {
    const client = await s.connectToPrompt('writes and ends', onread(s) as never);
    await connected(s, client);
    listen(s, client);
    await s.closed(client);
  },

  'data and end with the answer: onread, paused before connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends', onread(s) as never);
    client.pause();
    await connected(s, client);
    listen(s, client);
    await s.quiet();
    s.log(`read ${client.bytesRead}`);
    client.resume();
    await s.closed(client);
  },

  'a reset with the answer: onread': async (s) => {
    const client = await s.connectToPrompt('resets', onread(s) as never);
    if (await connected(s, client)) listen(s, client);
    await s.closed(client);
  },

  'a reset with the answer: await once(connect) rejects': async (s) => {
    const client = await s.connectToPrompt('resets');
    if (await connected(s, client)) listen(s, client);
    await s.closed(client);
    s.state(client);
  },

  'data and a reset with the answer: await once(connect) rejects': async (s) => {
    const client = await s.connectToPrompt('writes and resets');
    if (await connected(s, client)) listen(s, client);
    await s.closed(client);
    s.state(client);
  },

  'a reset with the answer, with writes waiting': async (s) => {
    const client = await s.connectToPrompt('resets');
    client.write('one', s.callback('write one'));
    client.write('two', s.callback('write two'));
    client.end(s.callback('end'));
    await s.closed(client);
    await s.quiet();
  },

  'a reset with the answer, connect again': async (s) => {
    const client = await s.connectToPrompt('resets');
    await s.closed(client);
    const { port } = await s.listening();
    client.connect({ port, host: LOOPBACK }, s.callback('connected at last'));
    await s.seen('connected at last()');
    client.destroy();
    await s.seen('client: close false');
  },

  'data and end with the answer: destroy() before connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends', {}, (port) => {
      const socket = s.connect(port);
      process.nextTick(() => process.nextTick(() => socket.destroy()));
      return socket;
    });
    listen(s, client);
    await s.closed(client);
    await s.quiet();
  },

  'data and end with the answer: destroy() in the listener of connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    listen(s, client);
    client.on('connect', () => client.destroy());
    await s.closed(client);
    await s.quiet();
  },

  'data and end with the answer: destroy() behind await once(connect)': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    await connected(s, client);
    listen(s, client);
    client.destroy();
    await s.closed(client);
    await s.quiet();
  },

  'data and end with the answer: destroySoon() before connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    listen(s, client);
    client.write('one', s.callback('write one'));
    client.destroySoon();
    await s.closed(client);
    await s.quiet();
  },

  'data and end with the answer: end() before connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    client.end('one', s.callback('end'));
    await connected(s, client);
    listen(s, client);
    await s.closed(client);
  },

  'data and end with the answer: resetAndDestroy() before connect': async (s) => {
    const client = await s.connectToPrompt('writes and ends');
    client.resetAndDestroy();
    listen(s, client);
    await s.closed(client);
  },

  'data and end with the answer: allowHalfOpen': async (s) => {
    const client = await s.connectToPrompt('writes and ends', { allowHalfOpen: true });
    await connected(s, client);
    listen(s, client);
    await s.seen('client: end');
    await s.quiet();
    s.state(client);
    client.end('answer', s.callback('end'));
    await s.closed(client);
  },

  'data and end with the connection: a listener that awaits first': async (s) => {
    const { port } = await serving(s, async (socket) => {
      await null;
      listen(s, socket, 'server');
    });
    await s.promptArrival('writes and ends', port);
    await s.seen('accepted: close false');
  },

  'an end with the connection: a listener that awaits first': async (s) => {
    const { port } = await serving(s, async (socket) => {
      for (let i = 0; i < 20; i++) await new Promise((resolve) => process.nextTick(resolve));
      listen(s, socket, 'server');
    });
    await s.promptArrival('ends', port);
    await s.seen('accepted: close false');
  },

  'an end with the connection: a listener that awaits an immediate first': async (s) => {
    const { port } = await serving(s, async (socket) => {
      await nextImmediate();
      listen(s, socket, 'server');
    });
    await s.promptArrival('ends', port);
    await s.seen('accepted: close false');
  },

  'an end with the connection: for await': async (s) => {
    const { port } = await serving(s, async (socket) => {
      await null;
      await iterate(s, socket, 'server');
    });
    await s.promptArrival('ends', port);
    await s.seen('accepted: close false');
  },

  'a reset with the connection: a listener that awaits first': async (s) => {
    const { port } = await serving(s, async (socket) => {
      await null;
      listen(s, socket, 'server');
    });
    await s.promptArrival('resets', port);
    await s.seen(/^accepted: close/);
  },

  'data and a reset with the connection: for await': async (s) => {
    const { port } = await serving(s, async (socket) => {
      await null;
      await iterate(s, socket, 'server');
    });
    await s.promptArrival('writes and resets', port);
    await s.seen(/^accepted: close/);
  },

  'data and end with the connection: pauseOnConnect': async (s) => {
    const { port } = await serving(
      s,
      async (socket) => {
        await s.quiet();
        s.log(`read ${socket.bytesRead}`, 'server');
        listen(s, socket, 'server');
        socket.resume();
      },
      { pauseOnConnect: true },
    );
    await s.promptArrival('writes and ends', port);
    await s.seen('accepted: close false');
  },

  'data and end with the connection: pauseOnConnect, resumed at once': async (s) => {
    const { port } = await serving(
      s,
      async (socket) => {
        socket.resume();
        await null;
        listen(s, socket, 'server');
      },
      { pauseOnConnect: true },
    );
    await s.promptArrival('writes and ends', port);
    await s.seen('accepted: close false');
  },

  'an end with the connection: destroy() in the listener': async (s) => {
    const { port } = await serving(s, (socket) => {
      listen(s, socket, 'server');
      socket.destroy();
    });
    await s.promptArrival('ends', port);
    await s.seen('accepted: close false');
  },

  'an end with the connection: end() in the listener': async (s) => {
    const { port } = await serving(s, (socket) => {
      listen(s, socket, 'server');
      socket.end('bye', s.callback('end', 'server'));
    });
    await s.promptArrival('ends', port);
    await s.seen('accepted: close false');
  },
});
