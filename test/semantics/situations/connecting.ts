/** Situations: how a socket comes to be connected, or does not. */
import { once } from 'node:events';
import { group } from '../situation.js';
import { LOOPBACK, portOf } from '../stage.js';

export const connecting = group('Connecting', {
  'connect, then the connecting side ends': async (s) => {
    const { server, client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    client.end();
    await s.closed(client, accepted);
    server.close();
    await s.closed(server);
  },

  'connect, then the accepting side ends': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.end();
    client.resume();
    accepted.resume();
    await s.closed(client, accepted);
  },

  'readyState and its like from new to closed': async (s) => {
    const { port, server } = await s.listening();
    server.on('connection', (socket) => socket.resume());
    const client = s.watch(new s.face.Socket(), 'client');
    s.state(client);
    client.connect({ port, host: LOOPBACK });
    s.state(client);
    await s.seen('client: connect');
    s.state(client);
    client.end('x');
    s.state(client);
    client.resume();
    await s.closed(client);
    s.state(client);
  },

  'state inside of the listeners of connect, ready, end, finish and close': async (s) => {
    const { port } = await s.listening({ allowHalfOpen: false });
    const client = s.connect(port);
    for (const event of ['connect', 'ready', 'end', 'finish', 'close']) {
      client.on(event, () => s.state(client));
    }
    await s.seen('client: ready');
    client.resume();
    client.end();
    await s.closed(client);
  },

  'connect(port, host, callback)': async (s) => {
    const { port } = await s.listening();
    const client = s.watch(s.face.connect(port, LOOPBACK, s.callback('connected')), 'client');
    await s.seen('client: ready');
    client.destroy();
    await s.closed(client);
  },

  'connect(options, callback)': async (s) => {
    const { port } = await s.listening();
    const client = s.watch(
      s.face.connect({ port, host: LOOPBACK }, s.callback('connected')),
      'client',
    );
    await s.seen('client: ready');
    client.destroy();
    await s.closed(client);
  },

  'createConnection(options, callback)': async (s) => {
    const { port } = await s.listening();
    const client = s.watch(
      s.face.createConnection({ port, host: LOOPBACK }, s.callback('connected')),
      'client',
    );
    await s.seen('client: ready');
    client.destroy();
    await s.closed(client);
  },

  'new Socket().connect(port, host, callback)': async (s) => {
    const { port } = await s.listening();
    const client = s.watch(new s.face.Socket({ allowHalfOpen: true }), 'client');
    const same = client.connect(port, LOOPBACK, s.callback('connected'));
    s.log(`the same socket: ${same === client}, allowHalfOpen ${client.allowHalfOpen}`);
    await s.seen('client: ready');
    client.destroy();
    await s.closed(client);
  },

  'the port as a string': async (s) => {
    const { port } = await s.listening();
    const client = s.watch(
      s.face.connect({ port: String(port) as unknown as number, host: LOOPBACK }),
      'client',
    );
    await s.seen('client: ready');
    client.destroy();
    await s.closed(client);
  },

  'connect where nobody listens': async (s) => {
    const client = s.connect(await s.unusedPort());
    s.state(client);
    client.on('error', () => s.state(client));
    await s.closed(client);
    s.state(client);
  },

  'connect to port 0': async (s) => {
    await s.closed(s.connect(0));
  },

  'write and end before a connect that fails': async (s) => {
    const client = s.connect(await s.unusedPort());
    client.write('one', s.callback('write one'));
    client.write('two', s.callback('write two'));
    client.end(s.callback('end'));
    s.state(client);
    await s.closed(client);
    s.state(client);
  },

  'write and end before connect': async (s) => {
    const { port, server } = await s.listening();
    server.on('connection', (socket) => socket.resume());
    const client = s.connect(port);
    client.resume();
    s.log(`write returns ${client.write('one', s.callback('write one'))}`);
    s.log(`write returns ${client.write('two', s.callback('write two'))}`);
    client.end('three', s.callback('end'));
    s.state(client);
    await s.closed(client);
    await s.seen('accepted: data 11');
    s.state(client);
  },

  'ports that are none': async (s) => {
    for (const port of [-1, 65536, 1.5, Number.NaN, 'x', '', '-1', true, {}, []] as never[]) {
      const socket = new s.face.Socket();
      socket.on('error', () => {});
      s.try(`connect to ${JSON.stringify(port)}`, () => {
        socket.connect({ port, host: LOOPBACK });
      });
      socket.destroy();
    }
  },

  'connect without a port': async (s) => {
    s.try('connect({})', () => new s.face.Socket().connect({} as never));
    s.try('connect()', () => (new s.face.Socket().connect as () => unknown)());
  },

  'wrong kinds of options': async (s) => {
    const port = 1;
    s.try('objectMode', () => new s.face.Socket({ objectMode: true } as never));
    s.try('readableObjectMode', () => new s.face.Socket({ readableObjectMode: true } as never));
    s.try('signal', () => new s.face.Socket({ signal: 'now' } as never));
    s.try(
      'keepAliveInitialDelay',
      () => new s.face.Socket({ keepAliveInitialDelay: 'x' } as never),
    );
    s.try('localPort', () => {
      new s.face.Socket().connect({ port, host: LOOPBACK, localPort: 'x' as never });
    });
  },

  'end of a socket that was never connected': async (s) => {
    const client = s.watch(new s.face.Socket(), 'client');
    client.end(s.callback('end'));
    await s.quiet();
    s.state(client);
  },

  'destroy right after connect': async (s) => {
    const { port } = await s.listening();
    const client = s.connect(port);
    client.destroy();
    s.state(client);
    await s.closed(client);
    await s.quiet();
    s.state(client);
  },

  'destroy with an error right after connect, with writes waiting': async (s) => {
    const { port } = await s.listening();
    const client = s.connect(port);
    client.write('one', s.callback('write one'));
    client.write('two', s.callback('write two'));
    client.end(s.callback('end'));
    client.destroy(new Error('given up'));
    await s.closed(client);
    await s.quiet();
  },

  'destroySoon before connect': async (s) => {
    const { port, server } = await s.listening();
    server.on('connection', (socket) => socket.resume());
    const client = s.connect(port);
    client.write('one');
    client.destroySoon();
    await s.closed(client);
    await s.seen('accepted: data 3');
    await s.seen('accepted: close false');
  },

  'resetAndDestroy before connect': async (s) => {
    const { port } = await s.listening();
    const client = s.connect(port);
    const same = client.resetAndDestroy();
    s.log(`the same socket: ${same === client}`);
    s.state(client);
    await s.closed(client);
    await s.seen(/^accepted: close/);
  },

  'resetAndDestroy of a socket that was never connected': async (s) => {
    const client = s.watch(new s.face.Socket(), 'client');
    client.resetAndDestroy();
    await s.closed(client);
    client.resetAndDestroy();
    await s.quiet();
  },

  'destroy of a socket that was never connected': async (s) => {
    const client = s.watch(new s.face.Socket(), 'client');
    client.destroy();
    await s.closed(client);
    s.state(client);
  },

  'write to a socket that was never connected': async (s) => {
    const client = s.watch(new s.face.Socket(), 'client');
    client.write('x', s.callback('write'));
    await s.closed(client);
  },

  'connect again after close, with the same socket': async (s) => {
    s.apart();
    const { port, server } = await s.listening();
    server.on('connection', (socket) => socket.end('hello'));
    const client = s.connect(port);
    client.resume();
    await s.seen('client: close false');
    s.state(client);
    client.connect({ port, host: LOOPBACK }, s.callback('connected again'));
    s.state(client);
    await once(client, 'close');
    s.state(client);
  },

  'connect again in the turn of destroy': async (s) => {
    s.apart();
    const { client, accepted, port } = await s.pair();
    accepted.resume();
    client.destroy();
    client.connect({ port, host: LOOPBACK }, s.callback('connected again'));
    s.state(client);
    await s.seen('connected again()');
    await s.quiet();
    s.state(client);
    client.write('x', s.callback('write'));
    await s.seen('write()');
  },

  'connect again in the listener of close': async (s) => {
    s.apart();
    const { client, accepted, port } = await s.pair();
    accepted.resume();
    client.once('close', () => {
      client.connect({ port, host: LOOPBACK }, s.callback('connected again'));
    });
    client.resetAndDestroy();
    await s.seen('connected again()');
    client.write('x', s.callback('write'));
    await s.seen('write()');
  },

  'connect again in the listener of error': async (s) => {
    const { port } = await s.listening();
    const client = s.connect(await s.unusedPort());
    client.once('error', () => {
      client.connect({ port, host: LOOPBACK }, s.callback('connected at last'));
    });
    await s.seen('connected at last()');
    await s.quiet();
    s.state(client);
  },

  'connect again after a refusal, with the same socket': async (s) => {
    const client = s.connect(await s.unusedPort());
    await s.closed(client);
    const { port } = await s.listening();
    client.connect({ port, host: LOOPBACK });
    await s.seen('client: ready');
    client.resume();
    client.end('x');
    await s.quiet(200);
    s.state(client);
  },

  'a signal that was aborted before': async (s) => {
    const { port } = await s.listening();
    s.connect(port, { signal: AbortSignal.abort() });
    await s.seen('client: close');
    await s.quiet();
  },

  'a signal aborted while it connects': async (s) => {
    const { port } = await s.listening();
    const control = new AbortController();
    const client = s.connect(port, { signal: control.signal });
    control.abort();
    await s.closed(client);
    await s.quiet();
    s.state(client);
  },

  'a signal aborted with a reason, once connected': async (s) => {
    const control = new AbortController();
    const { client, accepted } = await s.pair({}, { signal: control.signal });
    accepted.resume();
    client.on('error', (error) => {
      s.log(`cause ${s.journal.show((error as { cause?: unknown }).cause)}`);
    });
    control.abort(new Error('enough'));
    await s.closed(client, accepted);
  },

  'a signal for new Socket': async (s) => {
    const { port } = await s.listening();
    const control = new AbortController();
    const client = s.watch(new s.face.Socket({ signal: control.signal }), 'client');
    client.connect({ port, host: LOOPBACK });
    await s.seen('client: ready');
    control.abort();
    await s.closed(client);
  },

  'a signal aborted after close': async (s) => {
    const control = new AbortController();
    const { client } = await s.pair({}, { signal: control.signal });
    client.destroy();
    await s.closed(client);
    control.abort();
    await s.quiet();
  },

  'localPort: the peer sees it': async (s) => {
    const localPort = await s.unusedPort();
    const { client, accepted } = await s.pair({}, { localPort });
    s.log(`${client.localPort === localPort}, ${accepted.remotePort === localPort}`);
    client.destroy();
    await s.closed(client);
  },

  'localPort on which somebody listens': async (s) => {
    const { port } = await s.listening();
    const { port: localPort } = await s.listening({}, 'server two');
    await s.closed(s.connect(port, { localPort }));
  },

  'ports of both ends': async (s) => {
    const { client, accepted, server, port } = await s.pair();
    s.log(`${client.remotePort === port}, ${accepted.localPort === port}`);
    s.log(`${client.localPort === accepted.remotePort}, ${portOf(server) === port}`);
    s.log(`typeof ${typeof client.remoteAddress}, ${typeof client.remoteFamily}`);
    s.log(`typeof ${typeof client.localAddress}, ${typeof client.localFamily}`);
    s.log(`keys ${Object.keys(client.address()).sort()}`);
    s.log(`keys ${Object.keys(server.address() ?? {}).sort()}`);
    client.destroy();
    await s.closed(client, accepted);
  },

  'ports of a socket that is not connected': async (s) => {
    const client = new s.face.Socket();
    s.log(`${client.localPort}, ${client.remotePort}, ${client.remoteAddress}`);
    s.log(`${JSON.stringify(client.address())}, ${client.remoteFamily}, ${client.localAddress}`);
  },

  'ports after close': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.destroy();
    await s.closed(client, accepted);
    s.log(`remotePort ${typeof client.remotePort}, localPort ${typeof client.localPort}`);
    s.log(`remoteAddress ${typeof client.remoteAddress}, ${Object.keys(client.address())}`);
  },
});
