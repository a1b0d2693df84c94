/**
 * Reading into a buffer of one's own: the bytes are there until the callback returns, and after
 * `false` nothing comes before `resume`.
 */
import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { attach, type StpSocket } from '../../src/index.js';
import { startArray, until } from '../support/array.js';

/** A client whose bytes lie there already, and the accepted socket, paused. */
async function pair(t: ExecutionContext<unknown>, bytes: Buffer) {
  const { runDirectory } = await startArray(t);
  const host = await attach({ runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const server = host.createServer({ pauseOnConnect: true });
  server.listen(0);
  await once(server, 'listening');
  const client = host.connect({ port: server.address()?.port ?? 0 });
  const [accepted] = (await once(server, 'connection')) as [StpSocket];
  if (client.connecting) await once(client, 'connect');
  await new Promise((resolve) => client.write(bytes, resolve));
  return { client, accepted };
}

test('an accepted socket reads into a buffer of ours; false holds it, from the first byte', async (t) => {
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));
  const { client, accepted } = await pair(t, bytes);
  const buffer = Buffer.alloc(1000);
  const parts: Buffer[] = [];
  let holds = false;
  accepted.readInto({
    buffer,
    callback: (got, into) => {
      t.false(holds, 'nothing comes before resume');
      t.is(into, buffer);
      parts.push(Buffer.from(buffer.subarray(0, got)));
      holds = true;
      setImmediate(() => {
        holds = false;
        accepted.resume();
      });
      return false;
    },
  });
  accepted.resume();
  client.end();
  await once(accepted, 'end');
  t.true(Buffer.concat(parts).equals(bytes));
  t.true(parts.length >= 300);
});

test('one read fills a buffer that is larger than a page', async (t) => {
  const { client, accepted } = await pair(t, Buffer.alloc(200_000, 7));
  const sizes: number[] = [];
  accepted.readInto({ buffer: Buffer.alloc(1 << 20), callback: (got) => sizes.push(got) > 0 });
  accepted.resume();
  await until('it is read', () => sizes.length > 0);
  t.deepEqual(sizes, [200_000]);
  client.destroy();
});

test('a socket that is read already is EBUSY', async (t) => {
  const { accepted } = await pair(t, Buffer.from('x'));
  accepted.resume();
  await once(accepted, 'data');
  t.throws(() => accepted.readInto({ buffer: Buffer.alloc(10), callback: () => true }), {
    code: 'EBUSY',
  });
});
