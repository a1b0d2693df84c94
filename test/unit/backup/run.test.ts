/** Whole sessions through a real array: client and server in this process, movers in workers. */
import { randomInt } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import type { Complaint } from '../../../src/backup/protocol-words.js';
import { pathText } from '../../../src/backup/wire-path.js';
import { until } from '../../support/array.js';
import { difference, makeHardTree } from '../library/hard-tree.js';
import { hasProgram, run } from '../library/stand-ins.js';
import { startHouse } from './house.js';

/** A file that takes long enough to be caught in the middle: room without holes, never written. */
function makeHuge(base: string): string {
  run('fallocate', ['-l', '8GiB', join(base, 'src/huge')]);
  return join(base, 'src');
}

const rsync = hasProgram('rsync');

/** Lines of a comparison that no complaint accounts for: what differs must have been named. */
function unexplained(comparison: string, complaints: readonly Complaint[]): string[] {
  const named = complaints.map(({ path }) => pathText(path));
  const lines = comparison.split('\n').filter((line) => line !== '');
  return lines.filter(
    (line) => !named.some((path) => path.endsWith(line.slice(line.indexOf(' ') + 1))),
  );
}

test.serial(
  'an incremental backup fetches the list, sends the changes, and restores',
  async (t) => {
    const h = await startHouse(t);
    const src = join(h.base, 'src');
    for (let i = 0; i < 12_000; i++) writeFileSync(join(src, `f${i}`), `${i}`);
    const order = { host: 'host1', paths: [src] };
    const first = await h.server.backup(order, h.events, h.signal.signal);
    writeFileSync(join(src, 'f77'), 'changed');
    rmSync(join(src, 'f78'));
    const dry = { ...order, incremental: true, dryRun: true };
    const would = await h.server.backup(dry, h.events, h.signal.signal);
    t.like(would, { set: 'none', parent: first.set });
    t.deepEqual(h.library().sets, [first.set]);
    const next = await h.server.backup({ ...order, incremental: true }, h.events, h.signal.signal);
    t.like(next, { parent: first.set, bytes: 'changed'.length, warnings: 0 });
    const excluded = { ...order, incremental: true, selection: { exclude: ['f1*'] } };
    const third = await h.server.backup(excluded, h.events, h.signal.signal);
    for (const { set } of [next, third]) {
      const target = join(h.base, 'out', set);
      await h.server.restore({ set, host: 'host1', target, paths: [] }, h.events, h.signal.signal);
      const names = readdirSync(join(target, src));
      t.is(names.length, set === next.set ? 11_999 : 11_999 - 3111);
      t.is(readFileSync(join(target, src, 'f77'), 'utf8'), 'changed');
    }
    t.deepEqual(h.complaints, []);
  },
);

test.serial('a hard tree comes back as it was, and only control went over TCP', async (t) => {
  if (!rsync) t.log('rsync is not installed: the trees are not compared');
  const h = await startHouse(t);
  const seed = randomInt(2 ** 31);
  t.log(`seed ${seed}`);
  const src = join(h.base, 'src');
  makeHardTree(join(src, 'tree'), seed);
  writeFileSync(join(src, 'big'), Buffer.alloc(12_345_678, 'stp'));
  const made = await h.server.backup({ host: 'host1', paths: [src] }, h.events, h.signal.signal);
  t.deepEqual(h.library().sets, [made.set]);
  t.true(made.memoryBytes > made.bytes);
  const { server, client } = made.networkBytes;
  t.true(server.sent + server.received > 0 && client.sent > 0);
  t.true(
    (server.sent + server.received) * 100 < made.memoryBytes,
    JSON.stringify(made.networkBytes),
  );
  const target = join(h.base, 'out/restored');
  const back = await h.server.restore(
    { set: 'latest', host: 'host1', target, paths: [] },
    h.events,
    h.signal.signal,
  );
  t.is(back.entries, made.entries);
  t.is(back.bytes, made.bytes);
  if (rsync) t.deepEqual(unexplained(difference(src, join(target, src)), back.complaints), []);
  t.deepEqual(h.logs, []);
});

test.serial(
  'a part of a set is restored alone; a path that is not in it is an error',
  async (t) => {
    const h = await startHouse(t);
    const src = join(h.base, 'src');
    for (const name of ['a', 'ab', 'b']) {
      mkdirSync(join(src, name));
      writeFileSync(join(src, name, 'file'), name);
    }
    await h.server.backup({ host: 'host1', paths: [src] }, h.events, h.signal.signal);
    const order = { set: 'latest', host: 'host1' };
    const target = join(h.base, 'out/part');
    const part = await h.server.restore(
      { ...order, target, paths: [join(src, 'a/'), join(src, 'b/file')] },
      h.events,
      h.signal.signal,
    );
    t.is(part.entries, 3);
    t.deepEqual(readdirSync(join(target, src)).sort(), ['a', 'b']);
    const nothing = { ...order, target: join(h.base, 'out/nothing'), paths: ['/nowhere'] };
    await t.throwsAsync(h.server.restore(nothing, h.events, h.signal.signal), {
      code: 'ENOENT',
      message: /\/nowhere is not in this set/,
    });
  },
);

test.serial('what the client may not read or write is refused before anything moves', async (t) => {
  const h = await startHouse(t);
  const src = join(h.base, 'src');
  const outside = { host: 'host1', paths: [join(h.base, 'library')] };
  await t.throwsAsync(h.server.backup(outside, h.events, h.signal.signal), {
    message: /client host1: .*library is not below a root that this client's configuration lists/,
  });
  t.deepEqual(h.library(), { sets: [], partial: [] });
  await h.server.backup({ host: 'host1', paths: [src] }, h.events, h.signal.signal);
  const away = { set: 'latest', host: 'host1', target: join(h.base, 'src/x'), paths: [] };
  await t.throwsAsync(h.server.restore(away, h.events, h.signal.signal), {
    message: /client host1: .*src\/x is not below a root/,
  });
});

test.serial('a host that is not configured is refused by name', async (t) => {
  const h = await startHouse(t);
  await t.throwsAsync(h.server.backup({ host: 'host9', paths: ['/'] }, h.events, h.signal.signal), {
    code: 'EINVAL',
    message: /no host host9 .* it has: host1/,
  });
});

test.serial('warnings come over the error connection and are in the report', async (t) => {
  const h = await startHouse(t);
  const src = join(h.base, 'src');
  // A socket is no thing to store: the same for every user.
  const socket = createServer();
  await new Promise<void>((resolve) => socket.listen(join(src, 'sock'), resolve));
  t.teardown(() => socket.close());
  writeFileSync(join(src, 'file'), 'data');
  const made = await h.server.backup({ host: 'host1', paths: [src] }, h.events, h.signal.signal);
  t.is(made.warnings, 1);
  t.is(made.complaints[0]?.code, 'EOPNOTSUPP');
  t.regex(made.complaints[0]?.message ?? '', /sock/);
  t.deepEqual(h.complaints, made.complaints);
  t.is(h.server.list().sets[0]?.warnings, 1);
});

test.serial('a session that is given up leaves no set, and the next one works', async (t) => {
  const h = await startHouse(t);
  const src = makeHuge(h.base);
  const running = h.server.backup({ host: 'host1', paths: [src] }, h.events, h.signal.signal);
  const failed = t.throwsAsync(running, { message: /given up by the test/ });
  await until('data moves', () => h.progress.some((p) => p.moved > 0));
  // Pages may be under way before the server's thread has begun its set.
  await until('the set is begun', () => h.library().partial.length === 2);
  h.signal.abort(new Error('given up by the test'));
  await failed;
  t.deepEqual(h.library(), { sets: [], partial: [] });
  await until('the client has ended it', () => h.client.sessionCount === 0);
  t.true(
    h.logs.some((line) => /the server gave up: given up by the test/.test(line)),
    h.logs.join(),
  );
  rmSync(join(src, 'huge'));
  await h.server.backup({ host: 'host1', paths: [src] }, h.events, new AbortController().signal);
  t.is(h.library().sets.length, 1);
});

test.serial('a client that stops in the middle: the server says so and keeps no set', async (t) => {
  const h = await startHouse(t);
  const src = makeHuge(h.base);
  const running = h.server.backup({ host: 'host1', paths: [src] }, h.events, h.signal.signal);
  const failed = t.throwsAsync(running, { message: /client host1: the client was stopped/ });
  await until('data moves', () => h.progress.some((p) => p.moved > 0));
  await h.client.stop();
  await failed;
  t.deepEqual(h.library(), { sets: [], partial: [] });
});

test.serial('sessions side by side each make their own set', async (t) => {
  const h = await startHouse(t);
  const src = join(h.base, 'src');
  const names = ['one', 'two', 'three'];
  for (const [i, name] of names.entries()) {
    mkdirSync(join(src, name));
    writeFileSync(join(src, name, 'file'), Buffer.alloc(3_000_000 + i));
  }
  const made = await Promise.all(
    names.map((name) =>
      h.server.backup({ host: 'host1', paths: [join(src, name)] }, h.events, h.signal.signal),
    ),
  );
  t.deepEqual(
    made.map((m) => m.bytes),
    [3_000_000, 3_000_001, 3_000_002],
  );
  t.is(new Set(h.library().sets).size, 3);
});
