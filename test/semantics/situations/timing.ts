/** Situations: time-outs, and what keeps a process alive or ends it. */
import { group } from '../situation.js';
import { pattern, type Stage } from '../stage.js';

async function livesOn(s: Stage, role: string, line: string): Promise<void> {
  const { server, port } = await s.listening();
  server.on('connection', (socket) => socket.resume());
  s.journal.ignore(/./);
  const child = s.child(role, port);
  await s.seen(line);
  await s.quiet(600);
  s.log(`still there: ${child.process.exitCode === null}`, 'child');
}

async function ends(s: Stage, role: string): Promise<void> {
  const { server, port } = await s.listening();
  server.on('connection', (socket) => socket.resume());
  s.journal.ignore(/./);
  s.child(role, port);
  await s.seen(/^exit/);
}

export const timing = group('Time-outs, processes and options', {
  'setTimeout: idle once, and again after traffic': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    const same = client.setTimeout(100);
    s.log(`the same: ${same === client}, timeout ${client.timeout}`);
    await s.seen('client: timeout');
    await s.quiet(250);
    client.write('x');
    await s.quiet(400);
    client.destroy();
    await s.closed(client, accepted);
  },

  'setTimeout with a callback': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.setTimeout(50, s.callback('timed out'));
    await s.seen('timed out()');
    client.write('x');
    await s.quiet(200);
    client.destroy();
    await s.closed(client, accepted);
  },

  'setTimeout: writing and reading put it off': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.resume();
    client.setTimeout(1500);
    for (let i = 0; i < 25; i++) {
      if (i % 2 === 0) client.write('x');
      else accepted.write('x');
      await s.quiet(100);
    }
    s.log(`timed out: ${s.journal.lanes.get('client')?.includes('client: timeout')}`);
    client.destroy();
    await s.closed(client, accepted);
  },

  'setTimeout: a write that makes headway puts it off': async (s) => {
    const { client, accepted } = await s.pair({ pauseOnConnect: true });
    const data = pattern(24 << 20);
    client.setTimeout(1000);
    client.write(data, s.callback('write', 'callbacks'));
    let read = 0;
    let rest = 1 << 20;
    accepted.on('readable', () => {});
    while (read < data.length) {
      const part = accepted.read() as Buffer | null;
      read += part?.length ?? 0;
      if (read >= rest) {
        rest += 1 << 20;
        await s.quiet(80);
      } else await new Promise((resolve) => setImmediate(resolve));
    }
    s.log(`timed out: ${s.journal.lanes.get('client')?.includes('client: timeout')}`);
    client.destroy();
    await s.closed(client, accepted);
  },

  'setTimeout(0) takes it back, and its callback': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    const callback = s.callback('timed out');
    client.setTimeout(60, callback);
    client.setTimeout(0, callback);
    s.log(`timeout ${client.timeout}, listeners ${client.listenerCount('timeout')}`);
    await s.quiet(200);
    client.destroy();
    await s.closed(client, accepted);
  },

  'setTimeout with what is no time': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    for (const ms of [
      -1,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      '100',
      undefined,
      null,
    ] as never[]) {
      s.try(`setTimeout(${String(ms)})`, () => {
        client.setTimeout(ms);
      });
      s.log(`timeout ${client.timeout}`);
    }
    s.try('callback', () => {
      client.setTimeout(1000, 'x' as never);
    });
    client.destroy();
    await s.closed(client, accepted);
  },

  'setTimeout after destroy': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.destroy();
    const same = client.setTimeout(30, s.callback('timed out'));
    s.log(`the same: ${same === client}, timeout ${client.timeout}`);
    await s.closed(client, accepted);
    await s.quiet(100);
  },

  'setTimeout before connect': async (s) => {
    const { port } = await s.listening();
    const client = s.watch(new s.face.Socket(), 'client');
    client.setTimeout(80);
    await s.seen('client: timeout');
    client.setTimeout(0);
    client.connect({ port, host: '127.0.0.1' });
    await s.seen('client: ready');
    client.destroy();
    await s.closed(client);
  },

  'the option timeout of connect': async (s) => {
    const { client } = await s.pair({}, { timeout: 2000 });
    s.log(`timeout ${client.timeout}`);
    await s.seen('client: timeout');
    client.destroy();
    await s.closed(client);
  },

  'a time-out that destroys': async (s) => {
    const { client, accepted } = await s.pair();
    accepted.resume();
    client.setTimeout(40, () => client.destroy(new Error('idle')));
    await s.closed(client, accepted);
    await s.quiet(100);
  },

  'setNoDelay and setKeepAlive return the socket at any time': async (s) => {
    const { port } = await s.listening();
    const client = s.watch(
      new s.face.Socket({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 1000 } as never),
      'client',
    );
    const all = (): void => {
      s.log(`${client.setNoDelay() === client}, ${client.setNoDelay(false) === client}`);
      s.log(`${client.setKeepAlive() === client}, ${client.setKeepAlive(true, 500) === client}`);
    };
    all();
    client.connect({ port, host: '127.0.0.1' });
    all();
    await s.seen('client: ready');
    all();
    client.destroy();
    all();
    await s.closed(client);
  },

  'ref and unref return the socket and the server': async (s) => {
    const { client, server } = await s.pair();
    s.log(`${client.unref() === client}, ${client.ref() === client}`);
    s.log(`${server.unref() === server}, ${server.ref() === server}`);
    client.destroy();
    await s.closed(client);
    s.log(`${client.unref() === client}, ${client.ref() === client}`);
  },

  'a connected socket keeps its process alive': (s) =>
    livesOn(s, 'a socket that is referenced', 'connected'),

  'unref: it does not': (s) => ends(s, 'a socket that is not'),

  'unref before connect': (s) => ends(s, 'a socket that is not, from before connect'),

  'unref and ref again': (s) => livesOn(s, 'a socket that is again', 'the same: true'),

  'setTimeout keeps no process alive': (s) => ends(s, 'a socket with a time-out'),

  'a listening server keeps its process alive': (s) =>
    livesOn(s, 'a server that is referenced', 'listens'),

  'unref of a server': (s) => ends(s, 'a server that is not'),

  'unref and ref of a server': (s) => livesOn(s, 'a server that is again', 'the same: true'),

  'a peer that exits with its socket open': async (s) => {
    const { server, port } = await s.listening();
    server.on('connection', (socket) => socket.resume());
    const child = s.child('connect and exit', port);
    await s.seen('accepted: data 10');
    child.release();
    await s.seen(/^accepted: close/);
    await s.seen(/^exit/);
  },

  'a peer that dies of an uncaught exception': async (s) => {
    const { server, port } = await s.listening();
    server.on('connection', (socket) => socket.resume());
    const child = s.child('connect and throw', port);
    await s.seen('accepted: data 10');
    child.release();
    await s.seen(/^accepted: close/);
    await s.seen(/^exit/);
  },

  'a peer that is killed': async (s) => {
    const { server, port } = await s.listening();
    server.on('connection', (socket) => socket.resume());
    const child = s.child('connect and wait', port);
    await s.seen('accepted: data 5');
    child.process.kill('SIGKILL');
    await s.seen(/^accepted: close/);
    await s.seen(/^exit/);
  },

  'a listener that is killed: refused, and its port is free': async (s) => {
    const child = s.child('listen');
    const port = await child.port();
    const client = s.connect(port);
    await s.seen('accepted');
    await s.seen('client: ready');
    s.journal.ignore(/client:/); /* what it sees is another situation */
    child.process.kill('SIGKILL');
    await s.seen(/^exit/);
    await s.closed(client);
    const late = s.connect(port, {}, 'another', { lane: 'late' });
    await s.closed(late);
    const server = s.server();
    server.listen({ port, host: '127.0.0.1' });
    await s.seen('server: listening');
  },
});
