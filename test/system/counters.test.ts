/**
 * What a socket counts on an event loop, and what its safety timer heals. Both ends in one thread:
 * each finds the other awake, so what is counted does not depend on time.
 */
import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { attach, type Host, type StpSocket } from '../../src/index.js';
import { SEGMENT_MAP } from '../../src/layout/geometry.js';
import { CONNECTION, DIRECTION, NUMBERS, WINDOW_BYTES } from '../../src/layout/tables.js';
import { startArray, until } from '../support/array.js';

async function pair(
  t: ExecutionContext<unknown>,
): Promise<{ host: Host; client: StpSocket; accepted: StpSocket }> {
  const { runDirectory } = await startArray(t);
  const host = await attach({ runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const server = host.createServer({ pauseOnConnect: true });
  server.listen(0);
  await once(server, 'listening');
  const client = host.connect({ port: server.address()?.port ?? 0 });
  const [accepted] = (await once(server, 'connection')) as [StpSocket];
  if (client.connecting) await once(client, 'connect');
  return { host, client, accepted };
}

/** Forgets who waits for bytes, as another host of the STG could. */
function spoilWaitWords(host: Host): number {
  let spoiled = 0;
  for (let connection = 0; connection < host.geometry.connectionCount; connection++) {
    for (const direction of [0, 1]) {
      const word =
        SEGMENT_MAP.stgs /* the array has one STG */ +
        host.geometry.connections +
        connection * CONNECTION.bytes +
        CONNECTION.at.directions +
        direction * DIRECTION.bytes +
        DIRECTION.at.consumerWait;
      if (host.segment.load(word) !== NUMBERS.WAIT_LOOP) continue;
      host.segment.store(word, NUMBERS.WAIT_NONE);
      spoiled++;
    }
  }
  return spoiled;
}

test.serial('waits for a full page, for an empty one, and wakes', async (t) => {
  const { client, accepted } = await pair(t);
  accepted.resume();
  const before = { sender: client.counters(), reader: accepted.counters() };
  for (let i = 0; i < 10; i++) {
    client.write('?');
    await once(accepted, 'data');
  }
  const reader = accepted.counters();
  t.true(reader.waitsForFullPage >= before.reader.waitsForFullPage + 9, 'one for each message');
  const { wakesSent, wakesSuppressed, waitsForEmptyPage } = client.counters();
  const published =
    wakesSent + wakesSuppressed - before.sender.wakesSent - before.sender.wakesSuppressed;
  t.true(published >= 10, 'each publication wakes, or need not');
  t.is(waitsForEmptyPage, 0, 'there was room');
  accepted.pause();
  client.write(Buffer.alloc(WINDOW_BYTES + 1));
  t.is(client.counters().waitsForEmptyPage, 1);
  t.false('pollHits' in client.counters(), 'the loop looks, not the socket');
});

test.serial('a socket that is not connected, closed or detached has no counters', async (t) => {
  const { host, client, accepted } = await pair(t);
  t.throws(() => new host.Socket().counters(), { code: 'ENOTCONN' });
  client.destroy();
  t.throws(() => client.counters(), { code: 'ENOTCONN' });
  const { port } = accepted.detach();
  t.throws(() => accepted.counters(), { code: 'ENOTCONN' });
  port.close();
  await once(accepted, 'close');
});

test.serial(
  'a wake-up that a host of the STG has made impossible is found, and counted',
  async (t) => {
    const { host, client, accepted } = await pair(t);
    accepted.resume();
    client.write('first');
    await once(accepted, 'data');
    const { safetyFirings } = host.counters();
    t.is(accepted.counters().safetyFirings, 0);
    let spoiled = 0;
    await until('both wait', () => {
      spoiled += spoilWaitWords(host);
      return spoiled === 2;
    });
    client.write('second');
    const [data] = await once(accepted, 'data');
    t.is(String(data), 'second');
    t.is(accepted.counters().safetyFirings, 1);
    t.is(host.counters().safetyFirings, safetyFirings + 1);
  },
);

test.serial('what is announced in time is not counted', async (t) => {
  const { host, client, accepted } = await pair(t);
  const { safetyFirings } = host.counters();
  accepted.resume();
  const end = performance.now() + 1500; /* the timer looks every half second */
  while (performance.now() < end) {
    client.write('?');
    await once(accepted, 'data');
    accepted.pause(); /* what comes now is announced, and not taken */
    client.write('?');
    await new Promise((resolve) => setTimeout(resolve, 5));
    accepted.resume();
    await once(accepted, 'data');
  }
  t.is(host.counters().safetyFirings, safetyFirings);
});
