/**
 * A process that attaches, sends bytes of many lengths through one stream in a worker's way and by
 * pages, compares them, and prints what the host counts: for STPD_COPY, which a process reads once.
 */
import { once } from 'node:events';
import { attach, BlockingStream } from '../../src/index.js';

const LENGTHS = [1, 63, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 1_000_003];

const runDirectory = process.argv[2] ?? '';
try {
  const host = await attach({ runDirectory, stg: 'test', name: 'copies' });
  const again = await attach({ runDirectory, stg: 'test' });
  const server = host.createServer({ pauseOnConnect: true, allowHalfOpen: true });
  server.listen(0);
  await once(server, 'listening');
  const client = host.connect({ port: server.address()?.port ?? 0, allowHalfOpen: true });
  const [accepted] = await once(server, 'connection');
  if (client.connecting) await once(client, 'connect');
  const [tx, rx] = [client, accepted].map((socket) => new BlockingStream(socket.detach()));
  if (tx === undefined || rx === undefined) throw new Error('no streams');
  let wrong = 0;
  for (const [i, bytes] of LENGTHS.entries()) {
    /* From and to any address: copies past the caches have rules of their own about those. */
    const room = Buffer.alloc(bytes + 64, i + 1);
    const data = room.subarray(i * 3, i * 3 + bytes);
    for (let at = 0; at < bytes; at++) data[at] = (at * 31 + (at >>> 8) + i) & 0xff;
    tx.send(data);
    const into = Buffer.alloc(bytes);
    for (let at = 0; at < bytes; ) at += rx.receive(into.subarray(at));
    if (!into.equals(data)) wrong++;
  }
  tx.close();
  rx.close();
  server.close();
  /* The probe runs beside all this, on a thread of its own. */
  const { probes } = host.counters().copy;
  if (process.argv[3] === 'probed') {
    while (host.counters().copy.probes === 0) await new Promise((r) => setTimeout(r, 5));
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  console.log(JSON.stringify({ wrong, early: probes, ...host.counters(), of: again.counters() }));
  await Promise.all([host.close(), again.close()]);
} catch (error) {
  console.log(JSON.stringify({ error: (error as Error).message }));
}
