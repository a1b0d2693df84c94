/**
 * What a host's death leaves behind: nothing, and a peer that knows.
 */
import { once } from 'node:events';
import test from 'ava';
import type { HostReport, StgReport } from '../../src/daemon/reports.js';
import { attach, BlockingStream, type StpSocket } from '../../src/index.js';
import { startArray, until } from '../support/array.js';
import { startHost } from '../support/host-program.js';

test('kill -9 of a host in mid-stream: ECONNRESET, nothing left, other streams go on', async (t) => {
  const array = await startArray(t);
  const server = await startHost(t, array.runDirectory);
  const victim = await startHost(t, array.runDirectory);
  const other = await startHost(t, array.runDirectory);
  const { port = 0 } = await server.ask({ do: 'listen', port: 5000 });
  const { port: victimPort = 0 } = await victim.ask({ do: 'listen', port: 5001 });
  t.is(port, 5000);
  t.is(victimPort, 5001);
  const dying = (await victim.ask({ do: 'connect', port })).socket ?? -1;
  await victim.ask({ do: 'stream', socket: dying });
  await until(
    'the victim streams',
    async () => ((await server.ask({ do: 'state', socket: 0 })).received ?? 0) > 1e6,
  );
  const living = (await other.ask({ do: 'connect', port })).socket ?? -1;
  await other.ask({ do: 'stream', socket: living });
  await until(
    'the other streams',
    async () => ((await server.ask({ do: 'state', socket: 1 })).received ?? 0) > 1e6,
  );

  const victimId = (await array.list<HostReport>('host', 'list')).find(
    (h) => h.pid === victim.child.pid,
  )?.id;
  await victim.kill();

  const state = await until('the peer hears of it', async () => {
    const now = await server.ask({ do: 'state', socket: 0 });
    return now.closed === true && now;
  });
  t.is(state.code, 'ECONNRESET');
  await until('the host is no longer listed', async () =>
    (await array.list<HostReport>('host', 'list')).every((h) => h.id !== victimId),
  );
  const before = (await server.ask({ do: 'state', socket: 1 })).received ?? 0;
  await until(
    'the other stream goes on',
    async () => ((await server.ask({ do: 'state', socket: 1 })).received ?? 0) > before + 1e7,
  );
  await other.kill();
  await server.kill();
  const stg = await until('every page and port is free', async () => {
    const [report] = await array.list<StgReport>('stg', 'list');
    return report !== undefined && report.members.length === 0 && report;
  });
  t.is(stg.pagesFree, stg.pagesTotal);
  t.is(stg.portsUsed, 0);
  t.is(stg.connectionsUsed, 0);
});

test('the death of a host frees its listening port for another', async (t) => {
  const array = await startArray(t);
  const first = await startHost(t, array.runDirectory);
  const second = await startHost(t, array.runDirectory);
  await first.ask({ do: 'listen', port: 4000 });
  await t.throwsAsync(second.ask({ do: 'listen', port: 4000 }), { code: 'EADDRINUSE' });
  await first.kill();
  await until('the port is free', async () => {
    try {
      await second.ask({ do: 'listen', port: 4000 });
      return true;
    } catch {
      return false;
    }
  });
  t.pass();
});

test('a blocked worker hears of the death of its peer', async (t) => {
  const array = await startArray(t);
  const server = await startHost(t, array.runDirectory);
  const client = await startHost(t, array.runDirectory);
  await server.ask({ do: 'listen', port: 4100 });
  const { socket = 0 } = await client.ask({ do: 'connect', port: 4100 });
  await until('accepted', async () => {
    try {
      await server.ask({ do: 'block', socket: 0 });
      return true;
    } catch {
      return false;
    }
  });
  t.is(socket, 0);
  await client.kill();
  const state = await until('the worker has let go', async () => {
    const now = await server.ask({ do: 'state', socket: 0 });
    return now.closed === true && now.code !== undefined && now;
  });
  t.is(state.code, 'ECONNRESET');
});

test('a stream on its way to a worker when its peer dies still has what had arrived', async (t) => {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const server = host.createServer({ pauseOnConnect: true, allowHalfOpen: true });
  server.listen({ port: 4200 });
  await once(server, 'listening');
  const victim = await startHost(t, array.runDirectory);
  const accepted = once(server, 'connection');
  await victim.ask({ do: 'connect', port: 4200 });
  await victim.ask({ do: 'send', bytes: 1000 });
  const [socket] = (await accepted) as [StpSocket];
  const second = once(server, 'connection');
  await victim.ask({ do: 'connect', port: 4200 });
  const [other] = (await second) as [StpSocket];
  const handle = socket.detach();
  await victim.kill();
  const noticed = new Promise((resolve) => other.once('close', resolve));
  other.on('error', () => {}).resume();
  await noticed; /* now this host knows it too */
  const closed = once(socket, 'close');
  const stream = new BlockingStream(handle);
  t.is(stream.receive(Buffer.alloc(2000)), 1000);
  t.throws(() => stream.receive(Buffer.alloc(1)), { code: 'ECONNRESET' });
  stream.close();
  await closed;
});
