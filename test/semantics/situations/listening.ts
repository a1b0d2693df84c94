/** Situations: servers. */
import { EventEmitter, once } from 'node:events';
import type { Server } from 'node:net';
import { alone, group } from '../situation.js';
import { LOOPBACK, portOf, type Stage } from '../stage.js';

async function listens(s: Stage, listen: (server: Server) => Server): Promise<void> {
  const server = s.server();
  const same = listen(server);
  await s.seen('server: listening');
  s.log(`${same === server}, ${server.listening}, ${typeof portOf(server)}`);
  server.close(s.callback('closed'));
  s.log(`${server.listening}, ${server.address()}`);
  await s.closed(server);
}

export const listening = group('Listening', {
  'listen(port, callback)': (s) => listens(s, (server) => server.listen(0, s.callback('listens'))),

  'listen(port, host, callback)': (s) =>
    listens(s, (server) => server.listen(0, LOOPBACK, s.callback('listens'))),

  'listen(port, host, backlog, callback)': (s) =>
    listens(s, (server) => server.listen(0, LOOPBACK, 5, s.callback('listens'))),

  'listen(port, backlog)': (s) => listens(s, (server) => server.listen(0, 5)),

  'listen(callback)': (s) => listens(s, (server) => server.listen(s.callback('listens'))),

  'listen()': (s) => listens(s, (server) => server.listen()),

  'listen({ port, host, backlog, exclusive }, callback)': (s) =>
    listens(s, (server) =>
      server.listen(
        { port: 0, host: LOOPBACK, backlog: 5, exclusive: true },
        s.callback('listens'),
      ),
    ),

  'listen without a host: when address() is known': async (s) => {
    const server = s.server();
    server.listen(0);
    s.log(`listening ${server.listening}, address ${server.address() !== null}`);
    await s.seen('server: listening');
    s.log(`listening ${server.listening}, address ${server.address() !== null}`);
  },

  'listen with a host: when address() is known': async (s) => {
    const server = s.server();
    server.listen(0, LOOPBACK);
    s.log(`listening ${server.listening}, address ${server.address() !== null}`);
    await s.seen('server: listening');
    s.log(`listening ${server.listening}, address ${server.address() !== null}`);
  },

  'a port in use, then another': async (s) => {
    const { port } = await s.listening();
    const other = s.server({}, 'server two');
    other.once('error', () => {
      s.log(`listening ${other.listening}`, 'server');
      other.listen(0, LOOPBACK);
    });
    other.listen({ port, host: LOOPBACK }, s.callback('listens', 'server'));
    await s.seen('server two: listening');
  },

  'a port in use that nobody hears of': alone(async (s) => {
    const { port } = await s.listening();
    const other = s.face.createServer();
    s.watch(other, 'server two', { unheard: true });
    other.listen({ port, host: LOOPBACK });
    await s.seen(/^uncaught/);
  }),

  'listen while listening': async (s) => {
    const { server, port } = await s.listening();
    s.try('listen', () => server.listen(0), 'server');
    s.log(`still ${portOf(server) === port}`);
  },

  'listen twice in one turn': async (s) => {
    const server = s.server();
    server.listen(0);
    s.try('listen', () => server.listen(0), 'server');
    await s.seen('server: listening');
  },

  'listen on ports that are none': async (s) => {
    for (const port of [-1, 65536, 1.5, Number.NaN, '-1', '65536'] as never[]) {
      s.try(`listen(${JSON.stringify(port)})`, () => {
        s.face.createServer().listen({ port });
      });
    }
    s.try('listen({})', () => void s.face.createServer().listen({}));
    s.try('listen({ port: true })', () => {
      s.face.createServer().listen({ port: true as never });
    });
  },

  'wrong kinds of server options': async (s) => {
    s.try('number', () => void s.face.createServer(5 as never));
    s.try('highWaterMark', () => void s.face.createServer({ highWaterMark: 'x' as never }));
    s.try('keepAliveInitialDelay', () => {
      s.face.createServer({ keepAliveInitialDelay: 'x' as never });
    });
  },

  'createServer(listener) and createServer(options, listener)': async (s) => {
    for (const server of [
      s.face.createServer(s.callback('connection', 'server')),
      s.face.createServer({ pauseOnConnect: true }, s.callback('connection', 'server')),
      new s.face.Server(s.callback('connection', 'server')),
    ]) {
      s.log(`${server.listenerCount('connection')}`);
    }
  },

  'what a server says of its options': async (s) => {
    const shown = (server: Server): string => {
      const { maxConnections, ...rest } = server as unknown as Record<string, unknown>;
      const { allowHalfOpen, pauseOnConnect, noDelay, keepAlive, keepAliveInitialDelay } = rest;
      const all = [allowHalfOpen, pauseOnConnect, noDelay, keepAlive, keepAliveInitialDelay];
      return `${all.join(' ')} ${maxConnections} ${server.listening} ${server.address()}`;
    };
    s.log(shown(s.face.createServer()));
    s.log(
      shown(
        s.face.createServer({
          allowHalfOpen: true,
          pauseOnConnect: true,
          noDelay: true,
          keepAlive: true,
          keepAliveInitialDelay: 2500,
        }),
      ),
    );
  },

  'a signal aborted while it listens': async (s) => {
    const control = new AbortController();
    const server = s.server();
    server.listen({ port: 0, host: LOOPBACK, signal: control.signal });
    await s.seen('server: listening');
    control.abort();
    s.log(`listening ${server.listening}`, 'server');
    await s.closed(server);
  },

  'listen with a signal that was aborted before': async (s) => {
    const server = s.server();
    server.listen({ port: 0, signal: AbortSignal.abort() });
    await s.closed(server);
    await s.quiet();
    s.log(`listening ${server.listening}`, 'server');
  },

  'listen with a signal that is none': async (s) => {
    s.try('listen', () => {
      s.face.createServer().listen({ port: 0, signal: 'now' as never });
    });
  },

  'close of a server that never listened': async (s) => {
    const server = s.server();
    const same = server.close(s.callback('closed', 'server'));
    s.log(`${same === server}`);
    await s.closed(server);
  },

  'close twice': async (s) => {
    const { server } = await s.listening();
    server.close(s.callback('closed', 'server'));
    server.close(s.callback('closed again', 'server'));
    await s.closed(server);
    await s.quiet();
  },

  'close again after close': async (s) => {
    const { server } = await s.listening();
    server.close();
    await s.closed(server);
    server.close(s.callback('closed again', 'server'));
    await s.seen(/^closed again/);
  },

  'close in the turn of listen': async (s) => {
    const server = s.server();
    server.listen(0, s.callback('listens', 'server'));
    server.close(s.callback('closed', 'server'));
    await s.closed(server);
    await s.quiet();
    s.log(`listening ${server.listening}`, 'server');
  },

  'close with a connection open': async (s) => {
    const { server, client, accepted, port } = await s.pair();
    client.resume();
    accepted.resume();
    server.close(s.callback('closed', 'server'));
    s.log(`listening ${server.listening}`, 'server');
    await s.quiet();
    const late = s.connect(port, {}, 'client two', { lane: 'late' });
    await s.closed(late);
    accepted.write('still here');
    await s.seen('client: data 10');
    client.end();
    await s.closed(server, client, accepted);
  },

  'close with three connections open, which end one after the other': async (s) => {
    s.apart();
    const { server, port } = await s.listening();
    const clients = [];
    for (let i = 1; i <= 3; i++) {
      const client = s.connect(port, {}, `client ${i}`, { lane: `client ${i}` });
      await once(client, 'connect');
      clients.push(client);
    }
    const counted = (): Promise<void> =>
      new Promise((resolve) => {
        server.getConnections((error, count) => {
          s.log(`connections ${error} ${count}`);
          resolve();
        });
      });
    await s.journal.when('three connections', () => {
      return (s.journal.lanes.get('server') ?? []).length === 4;
    });
    await counted();
    server.close();
    for (const [i, client] of clients.entries()) {
      client.destroy();
      await s.closed(client);
      await s.journal.when(
        `end of connection ${i + 1}`,
        () => s.journal.lanes.get(`accepted ${i + 1}`)?.includes('accepted: close false') === true,
      );
      await counted();
    }
    await s.closed(server);
  },

  'listen again after close, on the same port': async (s) => {
    const { server, port } = await s.listening();
    server.close();
    await s.closed(server);
    server.listen({ port, host: LOOPBACK }, s.callback('listens again', 'server'));
    await s.seen('listens again()');
    s.log(`the same port: ${portOf(server) === port}`);
  },

  'getConnections of a server that never listened': async (s) => {
    const server = s.server();
    const same = server.getConnections(s.callback('counted', 'server'));
    s.log(`${(same as unknown) === server}`);
    await s.seen(/^counted/);
  },

  'maxConnections: the surplus is dropped': async (s) => {
    const { server, client, accepted, port } = await s.pair();
    server.maxConnections = 1;
    accepted.resume();
    const late = s.connect(port, {}, 'client two', { lane: 'late' });
    late.resume();
    await s.closed(late);
    client.end();
    client.resume();
    await s.closed(client, accepted);
    const next = s.connect(port, {}, 'client three', { lane: 'next' });
    await s.seen('client three: ready');
    next.destroy();
    await s.closed(next);
  },

  'maxConnections 0': async (s) => {
    const { server, port } = await s.listening();
    server.maxConnections = 0;
    const client = s.connect(port);
    client.resume();
    await s.seen('client: connect');
    await s.quiet();
    client.destroy();
    await s.closed(client);
  },

  'what drop tells': async (s) => {
    const { server, client, port } = await s.pair();
    server.maxConnections = 1;
    const dropped = once(server, 'drop');
    const late = s.connect(port, {}, 'client two', { lane: 'late' });
    await s.seen('client two: connect');
    const [data] = await dropped;
    s.log(`keys ${Object.keys(data).sort()}`, 'server');
    s.log(`${data.localPort === port}`, 'server');
    await s.seen('client two: end');
    client.destroy();
    await s.closed(client, late);
  },

  'pauseOnConnect: data waits': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    s.log(`paused ${accepted.isPaused()}, flowing ${accepted.readableFlowing}`, 'server');
    client.end('early');
    await s.quiet();
    s.log(`unread ${accepted.readableLength}, read ${accepted.bytesRead}`, 'server');
    accepted.on('data', () => {});
    await s.quiet();
    s.log(`paused ${accepted.isPaused()}`, 'server');
    accepted.resume();
    await s.seen('accepted: end');
    client.resume();
    await s.closed(client, accepted);
  },

  'a listener of connection that throws': alone(async (s) => {
    s.apart();
    const { server, port } = await s.listening();
    server.once('connection', () => {
      throw s.thrown('of connection', 'server');
    });
    const client = s.connect(port);
    await s.seen('uncaught Error of connection');
    const next = s.connect(port, {}, 'client two', { lane: 'next' });
    await s.seen('client two: ready');
    await s.seen('server: connection socket');
    client.end();
    client.resume();
    next.destroy();
    await s.closed(client, next);
  }),

  'a listener of listening that throws': alone(async (s) => {
    const server = s.server();
    server.once('listening', () => {
      throw s.thrown('of listening', 'server');
    });
    server.listen(0, LOOPBACK);
    await s.seen('uncaught Error of listening');
    s.log(`listening ${server.listening}`, 'server');
    server.close();
    await s.closed(server);
  }),

  'captureRejections: a listener of connection that rejects': async (s) => {
    EventEmitter.captureRejections = true;
    const server = s.server();
    EventEmitter.captureRejections = false;
    server.on('connection', async (socket) => {
      s.watch(socket, 'accepted');
      throw new Error('rejected');
    });
    server.listen({ port: 0, host: LOOPBACK });
    await s.seen('server: listening');
    const client = s.connect(portOf(server));
    client.resume();
    await s.closed(client);
    await s.seen('accepted: close true');
  },

  'await using: Symbol.asyncDispose of a server': async (s) => {
    const { server, client } = await s.pair();
    client.destroy();
    await s.closed(client);
    await (server as unknown as AsyncDisposable)[Symbol.asyncDispose]();
    s.log(`disposed, listening ${server.listening}`, 'server');
    await (server as unknown as AsyncDisposable)[Symbol.asyncDispose]();
    s.log('disposed again', 'server');
  },

  'accepted sockets know their server': async (s) => {
    const { server, client, accepted } = await s.pair();
    const of = (socket: unknown): unknown => (socket as { server: unknown }).server;
    s.log(`${of(accepted) === server}, ${of(client)}`);
  },

  'options of a server reach its sockets': async (s) => {
    const { accepted, client } = await s.pair({ allowHalfOpen: true, highWaterMark: 3000 });
    s.log(`${accepted.allowHalfOpen}, ${client.allowHalfOpen}`);
    s.log(`${accepted.readableHighWaterMark} ${accepted.writableHighWaterMark}`);
  },

  'a full backlog: the surplus waits and is not lost': async (s) => {
    const child = s.child('listen and block');
    const port = await child.port();
    await s.seen('blocks');
    for (let i = 1; i <= 6; i++) {
      const client = s.connect(port, {}, `client ${i}`, { lane: `client ${i}` });
      client.write('x'); /* TCP's handshake may need a push */
    }
    await s.seen(/^client \d: connect/);
    await s.quiet(150);
    const connected = [...s.journal.lanes.keys()].filter((lane) => lane.startsWith('client '));
    s.log(`all at once: ${connected.length === 6}`, 'main');
    child.release();
    for (let i = 1; i <= 6; i++) await s.seen(`client ${i}: ready`);
    await s.seen('accepted 6');
  },
});
