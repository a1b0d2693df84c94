/** Sessions whose data goes over the network: the same frames, the same media, the same trees. */
import { randomInt } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { until } from '../../support/array.js';
import { difference, makeHardTree } from '../library/hard-tree.js';
import { hasProgram, run } from '../library/stand-ins.js';
import { type House, startHouse } from './house.js';

const rsync = hasProgram('rsync');
const DATA_BYTES = 12_345_678;

/** A tree with one of each, and data that needs many buffers. */
function makeTree(t: { log(text: string): void }, h: House): string {
  const seed = randomInt(2 ** 31);
  t.log(`seed ${seed}`);
  makeHardTree(join(h.base, 'src'), seed);
  writeFileSync(join(h.base, 'src/big'), Buffer.alloc(DATA_BYTES, 'over the network'));
  return join(h.base, 'src');
}

const isEntry = (line: string): boolean => /^{"path(B64)?":/.test(line);

/** What the media and the list say; other lines have the id and the times of the run. */
function contentsOf(h: House, set: string): { media: Buffer; entries: string[] } {
  const at = (name: string): Buffer => readFileSync(join(h.base, 'library/sets', set, name));
  return {
    media: at('media.tar'),
    entries: at('manifest.jsonl').toString('latin1').split('\n').filter(isEntry),
  };
}

for (const tls of [true, false]) {
  test.serial(
    `${tls ? 'TLS' : 'TCP'}: the same set, and the same tree restored from it`,
    async (t) => {
      const h = await startHouse(t, { tls });
      const src = makeTree(t, h);
      const backup = (via: 'array' | 'network', incremental = false) =>
        h.server.backup(
          { host: 'host1', paths: [src], via, incremental },
          h.events,
          h.signal.signal,
        );
      const array = await backup('array');
      const network = await backup('network');
      t.is(array.via, 'array');
      t.is(network.via, 'network');
      t.is(network.memoryBytes, 0);
      t.is(network.bytes, array.bytes);
      t.true(network.networkBytes.server.received > DATA_BYTES);
      t.true(network.networkBytes.client.sent > DATA_BYTES);
      const [a, n] = [contentsOf(h, array.set), contentsOf(h, network.set)];
      t.true(n.media.equals(a.media), 'the media are the same');
      t.deepEqual(n.entries, a.entries);
      t.true(n.entries.length > 10);

      // The list goes the other way on the same connection.
      writeFileSync(join(src, 'new'), 'later');
      const later = await backup('network', true);
      t.is(later.parent, network.set);
      const to = await h.server.restore(
        { set: later.set, host: 'host1', target: join(h.base, 'out/t'), paths: [], via: 'network' },
        h.events,
        h.signal.signal,
      );
      t.is(to.via, 'network');
      t.true(to.networkBytes.server.sent > DATA_BYTES);
      if (rsync) t.is(difference(src, join(h.base, 'out/t', src)), '');
      await until('the client has ended all', () => h.client.sessionCount === 0);
      t.deepEqual(h.logs, []);
    },
  );
}

for (const attached of ['client', 'server'] as const) {
  test.serial(`array-first: where only the ${attached} has an array, the network`, async (t) => {
    const h = await startHouse(t, { attached });
    const src = makeTree(t, h);
    const order = { host: 'host1', paths: [src] };
    await t.throwsAsync(h.server.backup(order, h.events, h.signal.signal));
    const report = await h.server.backup(
      { ...order, via: 'array-first' },
      h.events,
      h.signal.signal,
    );
    t.is(report.via, 'network');
    t.regex(report.viaReason ?? '', /stpd/);
    t.true(report.entries > 10);
  });
}

test.serial('array-first is the array where there is one', async (t) => {
  const h = await startHouse(t);
  const order = { host: 'host1', paths: [makeTree(t, h)], via: 'array-first' } as const;
  const report = await h.server.backup(order, h.events, h.signal.signal);
  t.is(report.via, 'array');
  t.is(report.viaReason, undefined);
});

test.serial('array-first: a client that is not there is told with both reasons', async (t) => {
  const h = await startHouse(t, { attached: 'client' });
  await h.client.stop();
  const order = { host: 'host1', paths: [h.base], via: 'array-first' } as const;
  await t.throwsAsync(h.server.backup(order, h.events, h.signal.signal), {
    message: /ECONNREFUSED.*not through the array: .*stpd/,
  });
});

test.serial(
  'a backup over the network that is given up leaves no set on either side',
  async (t) => {
    const h = await startHouse(t);
    run('fallocate', ['-l', '8GiB', join(h.base, 'src/big')]);
    const order = { host: 'host1', paths: [join(h.base, 'src')], via: 'network' } as const;
    const running = h.server.backup(order, h.events, h.signal.signal);
    running.catch(() => {});
    await until('data moves', () => h.progress.some((p) => p.moved > 0));
    h.signal.abort(new Error('enough'));
    await t.throwsAsync(running, { message: /enough/ });
    await until('the client has ended it', () => h.client.sessionCount === 0);
    t.deepEqual(h.library(), { sets: [], partial: [] });
  },
);

test.serial('a client that dies during a backup over the network is named', async (t) => {
  const h = await startHouse(t);
  run('fallocate', ['-l', '8GiB', join(h.base, 'src/big')]);
  const order = { host: 'host1', paths: [join(h.base, 'src')], via: 'network' } as const;
  const running = h.server.backup(order, h.events, h.signal.signal);
  running.catch(() => {});
  await until('data moves', () => h.progress.some((p) => p.moved > 0));
  await h.client.stop();
  await t.throwsAsync(running, { message: /client host1.*stopped/ });
  t.deepEqual(h.library(), { sets: [], partial: [] });
});
