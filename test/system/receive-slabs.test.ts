/**
 * The memory of 'data': slabs that come back when nobody sees them any more (docs/decisions/0018).
 * What was handed out is never written again while somebody does.
 */
import { once } from 'node:events';
import { MessageChannel } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { attach, type StpSocket } from '../../src/index.js';
import { startArray } from '../support/array.js';

const MIB = 1 << 20;

async function pair(t: ExecutionContext<unknown>) {
  const { runDirectory } = await startArray(t);
  const host = await attach({ runDirectory, stg: 'test' });
  t.teardown(() => host.close());
  const server = host.createServer({ pauseOnConnect: true });
  server.listen(0);
  await once(server, 'listening');
  const client = host.connect({ port: server.address()?.port ?? 0 });
  const [accepted] = (await once(server, 'connection')) as [StpSocket];
  return { client, accepted };
}

/** The byte at a position of the stream: the number of its block of 4 KiB. */
const byteAt = (position: number): number => Math.floor(position / 4096) % 251;

/** As many bytes of that stream as one turn of it has. */
function turn(): Buffer {
  const all = Buffer.alloc(251 * 4096);
  for (let block = 0; block < 251; block++) all.fill(block, block * 4096, (block + 1) * 4096);
  return all;
}

test('what is kept of a chunk keeps its bytes while slabs go round', async (t) => {
  t.timeout(120_000);
  const { client, accepted } = await pair(t);
  /* Several times what the thread's pool has. */
  const total = 512 * MIB;
  const kept: { position: number; bytes: Uint8Array }[] = [];
  let position = 0;
  let count = 0;
  let wrong = 0;
  let transferred = 0;
  accepted.on('data', (chunk: Buffer) => {
    for (let at = 0; at < chunk.length; at += 997) {
      if (chunk[at] !== byteAt(position + at)) wrong++;
    }
    count++;
    if (count % 13 === 0) kept.push({ position, bytes: chunk });
    /* Views that do not hold the chunk itself. */
    if (count % 13 === 3) kept.push({ position: position + 5, bytes: chunk.subarray(5, 50) });
    if (count % 13 === 6) {
      const { buffer, byteOffset } = chunk;
      kept.push({ position, bytes: new Uint8Array(buffer, byteOffset, 100) });
    }
    /* The memory goes to another buffer, and the one it had is seen by nobody. */
    const { transfer } = chunk.buffer as { transfer?: () => ArrayBuffer };
    if (count % 101 === 9 && transfer !== undefined) {
      const { byteOffset, length } = chunk;
      try {
        const bytes = new Uint8Array(transfer.call(chunk.buffer), byteOffset, length);
        kept.push({ position, bytes });
        transferred++;
      } catch (error) {
        t.is((error as Error).name, 'TypeError'); /* from Node 24 on */
      }
      position += length;
      return;
    }
    position += chunk.length;
  });
  accepted.resume();
  const data = turn();
  for (let sent = 0; sent < total; sent += data.length) {
    if (!client.write(data)) await once(client, 'drain');
  }
  client.end();
  await once(accepted, 'end');
  t.is(wrong, 0, 'as they came');
  t.true(kept.length > 50, `${count} chunks, ${kept.length} kept`);
  const changed = kept.filter(
    ({ bytes, position }) => bytes.length > 0 && bytes.some((b, i) => b !== byteAt(position + i)),
  );
  t.log(`${transferred} transferred`);
  t.is(changed.length, 0, 'and as they are now');
});

test('what is kept of short messages keeps its bytes, and little more than those', async (t) => {
  t.timeout(120_000);
  const { client, accepted } = await pair(t);
  const lengths = [1, 64, 255, 256, 700, 3000, 4095, 4096, 5000, 8];
  const kept: { number: number; chunk: Buffer }[] = [];
  let number = 0;
  let got = 0;
  let transferred = 0;
  const bytesOf = (n: number): number => lengths[n % lengths.length] as number;
  const send = (): void => void client.write(Buffer.alloc(bytesOf(number), number % 251));
  const all = new Promise<void>((resolve) => {
    accepted.on('data', (chunk: Buffer) => {
      t.true(
        chunk.every((byte) => byte === number % 251),
        `message ${number} as it came`,
      );
      if (chunk.length < 4096) t.true(chunk.buffer.byteLength <= 8192, 'its memory is small');
      kept.push({ number, chunk });
      got += chunk.length;
      if (got < bytesOf(number)) return;
      /* Its neighbours are gone with it, and the next message must not go there. */
      const { transfer } = chunk.buffer as { transfer?: () => ArrayBuffer };
      if (number % 101 === 9 && chunk.length < 4096 && transfer !== undefined) {
        try {
          transfer.call(chunk.buffer);
          transferred++;
        } catch (error) {
          t.is((error as Error).name, 'TypeError'); /* from Node 24 on */
        }
      }
      got = 0;
      if (++number === 3000) resolve();
      else send();
    });
  });
  accepted.resume();
  send();
  await all;
  const changed = kept.filter(
    ({ chunk, number: n }) => chunk.length > 0 && chunk.some((byte) => byte !== n % 251),
  );
  t.log(`${kept.length} chunks, ${transferred} transferred`);
  t.is(changed.length, 0, 'and as they are now');
  client.end();
  await once(accepted, 'end');
});

test('a chunk is copied to a worker, never moved: its slab and its neighbours stay', async (t) => {
  const { client, accepted } = await pair(t);
  const { port1, port2 } = new MessageChannel();
  t.teardown(() => port1.close());
  const data = turn();
  const parts: Buffer[] = [];
  accepted.on('data', (chunk: Buffer) => {
    parts.push(chunk);
    try {
      port1.postMessage(chunk, [chunk.buffer as ArrayBuffer]);
    } catch (error) {
      t.is((error as Error).name, 'DataCloneError'); /* Node 20 copies without a word */
    }
  });
  accepted.resume();
  client.end(data);
  await once(accepted, 'end');
  t.true(Buffer.concat(parts).equals(data));
  port2.close();
});
