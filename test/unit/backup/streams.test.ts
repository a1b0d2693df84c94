/** Several data streams in one session: the same tree, whoever reads it, for us and for tar. */
import { randomInt } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { BackupOrder } from '../../../src/backup/server.js';
import { checkLibrary } from '../../../src/library/check-library.js';
import { Library } from '../../../src/library/library.js';
import { openChain } from '../../../src/library/set-tree.js';
import { difference, makeHardTree } from '../library/hard-tree.js';
import { hasProgram, lockFile, randomFrom, run, testNative } from '../library/stand-ins.js';
import { type House, startHouse } from './house.js';
import { until } from './rig.js';

const rsync = hasProgram('rsync');

/** Every kind of entry, and large files at every kind of place. */
function makeTree(src: string, seed: number): void {
  const random = randomFrom(seed);
  const data = (bytes: number) =>
    Buffer.from(Uint8Array.from({ length: bytes }, () => random() * 256));
  makeHardTree(join(src, 'hard'), seed);
  for (const name of ['a', 'a/deep', 'b', 'closed', 'acl']) mkdirSync(join(src, name));
  for (let i = 0; i < 12; i++) {
    const size = 200_000 + Math.floor(random() * 900_000);
    writeFileSync(join(src, ['a', 'a/deep', 'b', '.'][i % 4] as string, `large${i}`), data(size));
    writeFileSync(join(src, 'a/deep', `small${i}`), data(100));
  }
  writeFileSync(join(src, 'closed/large'), data(400_000));
  writeFileSync(join(src, 'b/linked'), data(600_000));
  linkSync(join(src, 'b/linked'), join(src, 'a/another-name'));
  writeFileSync(join(src, 'acl/large'), data(500_000));
  if (hasProgram('setfacl')) run('setfacl', ['-m', 'u:1:rwx,d:u:2:rx', join(src, 'acl')]);
  run('sh', [
    '-c',
    'truncate -s 3M "$1"; head -c 400000 /dev/urandom >> "$1"',
    'sh',
    join(src, 'b/holes'),
  ]);
  chmodSync(join(src, 'closed'), 0o555);
  for (const name of ['a', 'a/deep', 'b', 'closed', 'acl', '.']) {
    testNative.setTimesNs(join(src, name), 1_500_000_000_123_456_789n, false);
  }
}

interface Site {
  readonly h: House;
  readonly src: string;
  readonly library: Library;
  backUp(order?: Partial<BackupOrder>): Promise<string>;
  /** The tree as our restore makes it. */
  restored(set: string): Promise<string>;
  /** The tree as tar makes it of the media, in the order of sets and numbers. */
  extracted(set: string): string;
}

async function startSite(t: ExecutionContext): Promise<Site> {
  const h = await startHouse(t);
  const src = join(h.base, 'src');
  const library = Library.open(join(h.base, 'library'), { lockFile });
  let count = 0;
  return {
    h,
    src,
    library,
    async backUp(order = {}) {
      const all = { host: 'host1', paths: [src], ...order };
      const { set } = await h.server.backup(all, h.events, new AbortController().signal);
      const problems: string[] = [];
      const onProblem = (p: { message: string }) => void problems.push(p.message);
      checkLibrary(library, [set], { kind: 'data' }, { onProblem });
      t.deepEqual(problems, []);
      return set;
    },
    async restored(set) {
      const target = join(h.base, 'out', `restored-${count++}`);
      const order = { set, host: 'host1', target, paths: [] };
      const { complaints } = await h.server.restore(order, h.events, new AbortController().signal);
      t.deepEqual(complaints, []);
      return join(target, src);
    },
    extracted(set) {
      const target = join(h.base, 'out', `extracted-${count++}`);
      mkdirSync(target);
      for (const each of openChain(library, library.openSet(set))) {
        const isFull = each.summary.chain === undefined;
        const how = isFull ? [] : ['--listed-incremental=/dev/null'];
        for (const medium of each.media.keys()) {
          const all = ['--xattrs', '--xattrs-include=*', '--acls', ...how];
          run('tar', ['-C', target, ...all, '-xpf', each.mediumPath(medium)]);
        }
      }
      return join(target, src);
    },
  };
}

/** The shape of a set that does not depend on who read what. */
const contents = (library: Library, set: string): string[] =>
  [...library.openSet(set).manifest()].flatMap((item) =>
    item.kind === 'entry' && !item.again
      ? [`${item.path.toString('latin1')} ${item.type} ${item.size} ${item.blake3}`]
      : [],
  );

test.serial('one stream and four store the same tree, for restore and for tar', async (t) => {
  if (!rsync) t.log('rsync is not installed: the trees are not compared');
  const seed = randomInt(2 ** 31);
  t.log(`seed ${seed}`);
  const { src, library, backUp, restored, extracted } = await startSite(t);
  makeTree(src, seed);
  const one = await backUp();
  const four = await backUp({ streams: 4 });
  const { summary, media } = library.openSet(four);
  t.is(media.length, 4);
  t.is(library.openSet(one).summary.moreMedia, undefined);
  t.is(summary.entries, library.openSet(one).summary.entries);
  t.deepEqual(contents(library, four), contents(library, one), 'and in the same order');
  const used = new Set([...library.openSet(four).manifest()].map((i) => 'medium' in i && i.medium));
  t.true(used.size > 1, 'files were given away');
  if (!rsync) return;
  for (const set of [one, four]) {
    t.is(difference(src, await restored(set)), '', 'restored');
    t.is(difference(src, extracted(set)), '', 'extracted');
  }
});

test.serial('incremental sets of several media replay, one upon the other', async (t) => {
  if (!rsync) t.log('rsync is not installed: the trees are not compared');
  const seed = randomInt(2 ** 31);
  t.log(`seed ${seed}`);
  const { src, library, backUp, restored, extracted } = await startSite(t);
  makeTree(src, seed);
  await backUp({ streams: 3 });
  appendFileSync(join(src, 'a/large0'), Buffer.alloc(300_000, 'more'));
  rmSync(join(src, 'a/deep'), { recursive: true });
  writeFileSync(join(src, 'a/deep'), Buffer.alloc(700_000, 'a file where a directory was'));
  rmSync(join(src, 'b/large2'));
  mkdirSync(join(src, 'b/large2'));
  writeFileSync(join(src, 'b/large2/inside'), Buffer.alloc(700_000, 'a directory now'));
  chmodSync(join(src, 'b/large6'), 0o600);
  const second = await backUp({ streams: 2, incremental: true });
  renameSync(join(src, 'b'), join(src, 'c'));
  const third = await backUp({ streams: 4, incremental: true });
  t.is(openChain(library, library.openSet(third)).length, 3);
  if (!rsync) return;
  t.is(difference(src, await restored(third)), '');
  t.is(difference(src, extracted(third)), '');
  t.not(difference(src, await restored(second)), '', 'another point of the chain');
});

test.serial('a client that stops amid several streams leaves no set', async (t) => {
  const { h, src } = await startSite(t);
  for (const name of ['one', 'two', 'three']) run('fallocate', ['-l', '4GiB', join(src, name)]);
  const order = { host: 'host1', paths: [src], streams: 3 };
  const running = h.server.backup(order, h.events, h.signal.signal);
  running.catch(() => {});
  await until(() => h.progress.some((p) => p.moved > 0));
  await h.client.stop();
  await t.throwsAsync(running, { message: /host1/ });
  t.deepEqual(h.library().sets, []);
});

test.serial('a session of several streams that is given up leaves no set', async (t) => {
  const { h, src } = await startSite(t);
  for (const name of ['one', 'two', 'three']) run('fallocate', ['-l', '4GiB', join(src, name)]);
  const order = { host: 'host1', paths: [src], streams: 3 };
  const running = h.server.backup(order, h.events, h.signal.signal);
  running.catch(() => {});
  await until(() => h.progress.some((p) => p.moved > 0));
  h.signal.abort(new Error('the test gives it up'));
  await t.throwsAsync(running);
  t.deepEqual(h.library(), { sets: [], partial: [] });
  for (const name of ['one', 'two', 'three']) run('truncate', ['-s', '1MiB', join(src, name)]);
  const { set } = await h.server.backup(order, h.events, new AbortController().signal);
  t.deepEqual(h.library().sets, [set]);
});

test.serial('what several streams left is taken over by the next backup', async (t) => {
  const seed = randomInt(2 ** 31);
  t.log(`seed ${seed}`);
  const { h, src, library, backUp, restored, extracted } = await startSite(t);
  makeTree(src, seed);
  for (let i = 0; i < 6; i++) writeFileSync(join(src, `b/m${i}`), Buffer.alloc(6 << 20, `${i}`));
  run('fallocate', ['-l', '8GiB', join(src, 'z-huge')]);
  const order = { host: 'host1', paths: [src], streams: 3 };
  const running = h.server.backup(order, h.events, h.signal.signal);
  running.catch(() => {});
  // All of the small ones are through, and the large one is not.
  await until(() => h.progress.some((p) => p.moved > 500_000_000));
  h.signal.abort(new Error('the test gives it up'));
  await t.throwsAsync(running);
  t.deepEqual(h.library(), { sets: [], partial: [] });
  run('truncate', ['-s', '1MiB', join(src, 'z-huge')]);
  const notices: string[] = [];
  const events = { ...h.events, notice: (text: string) => void notices.push(text) };
  const again = { ...order, streams: 2 };
  const report = await h.server.backup(again, events, new AbortController().signal);
  t.true((report.resumed?.bytes ?? 0) > 30_000_000, JSON.stringify(report.resumed));
  t.true(report.bytes < 20_000_000, `${report.bytes} bytes were sent`);
  t.true(notices.some((text) => /interrupted/.test(text)));
  const problems: string[] = [];
  const onProblem = (p: { message: string }) => void problems.push(p.message);
  checkLibrary(library, [report.set], { kind: 'data' }, { onProblem });
  t.deepEqual(problems, []);
  t.is(library.openSet(report.set).media.length, 5);
  // The next one begins from nothing that was interrupted.
  const next = await backUp({ incremental: true });
  if (!rsync) return;
  t.is(difference(src, await restored(report.set)), '', 'restored');
  t.is(difference(src, extracted(report.set)), '', 'extracted');
  t.is(difference(src, await restored(next)), '', 'an incremental one upon it');
});
