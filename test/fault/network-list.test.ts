/** TCP connections that hosts have listed: shown, bounded, and gone with what they stand for. */
import test from 'ava';
import type { SocketReport, StgReport } from '../../src/daemon/reports.js';
import { attach } from '../../src/index.js';
import { NUMBERS } from '../../src/layout/tables.js';
import { NETWORK_SLOTS_SHARE } from '../../src/limits.js';
import { startArray, until } from '../support/array.js';

const entry = {
  localPort: 40123,
  remotePort: 7286,
  remoteAddress: '192.0.2.7',
  reason: NUMBERS.REASON_PEER_NOT_ATTACHED,
};

test('a listed TCP connection shows its mechanism, reason and peer until it is taken off', async (t) => {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const unlist = host.listNetwork(entry);
  const row = await until('it is listed', async () => {
    return (await array.list<SocketReport>('socket', 'list'))[0];
  });
  t.like(row, {
    mechanism: 'tcp',
    reason: 'peer not attached',
    state: 'ESTABLISHED',
    localPort: 40123,
    remotePort: 7286,
    remoteAddress: '192.0.2.7',
    localHost: host.hostId,
    peerHost: null,
  });
  unlist();
  unlist();
  await until('it is off the list', async () => {
    return (await array.list('socket', 'list')).length === 0;
  });
  const [stg] = await array.list<StgReport>('stg', 'list');
  t.is(stg?.connectionsUsed, 0);
});

test('taken off before it was answered, it does not stay', async (t) => {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  for (let i = 0; i < 10; i++) host.listNetwork(entry)();
  await host.unbind(1);
  await until('all are off the list', async () => {
    return (await array.list('socket', 'list')).length === 0;
  });
  t.pass();
});

test('the share of slots is bounded: what is beyond goes unlisted, and connects still find one', async (t) => {
  const array = await startArray(t, { connections: 64 });
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  const other = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => Promise.all([host.close(), other.close()]));
  const share = 64 / NETWORK_SLOTS_SHARE;
  const handles = Array.from({ length: share + 5 }, () => host.listNetwork(entry));
  await host.unbind(1);
  t.is((await array.list('socket', 'list')).length, share);
  /* Freed slots are used again, and an entry that had none is not listed later. */
  for (const unlist of handles) unlist();
  await host.unbind(1);
  t.is((await array.list('socket', 'list')).length, 0);
  host.listNetwork(entry);
  await host.unbind(1);
  t.is((await array.list('socket', 'list')).length, 1);
});

test('a host that leaves takes its listed connections along', async (t) => {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  const witness = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => witness.close());
  /* The TCP port's number is also an STP port of the host: the two are not mixed up. */
  const port = await host.bind(entry.localPort);
  host.listNetwork(entry);
  await host.unbind(1);
  t.is((await array.list('socket', 'list')).length, 2);
  await host.close();
  await until('both are gone', async () => (await array.list('socket', 'list')).length === 0);
  t.is(await witness.bind(port), port);
});

test('the end of a listed connection leaves an STP port of the same number alone', async (t) => {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const port = await host.bind(entry.localPort);
  const unlist = host.listNetwork(entry);
  await host.unbind(1);
  unlist();
  await host.unbind(1);
  const rows = await array.list<SocketReport>('socket', 'list');
  t.deepEqual(
    rows.map((row) => [row.state, row.localPort]),
    [['BOUND', port]],
  );
});

test('wrong ports are refused, an unknown reason is only shown', async (t) => {
  const array = await startArray(t);
  const host = await attach({ runDirectory: array.runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  host.listNetwork({ ...entry, localPort: 70000 });
  host.listNetwork({ ...entry, reason: 999, remoteAddress: '\x1b[2J' });
  await host.unbind(1);
  const rows = await array.list<SocketReport>('socket', 'list');
  t.deepEqual(
    rows.map((row) => [row.reason, row.remoteAddress]),
    [['reason 999', null]],
  );
});
