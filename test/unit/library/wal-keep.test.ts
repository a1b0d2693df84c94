/** Which archived WAL is kept, and that the rest goes: a library with base backups, no PostgreSQL. */
import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import test, { type ExecutionContext } from 'ava';
import { forgetSets } from '../../../src/library/forget.js';
import { Library } from '../../../src/library/library.js';
import { applyRules } from '../../../src/library/retention.js';
import { sendTree } from '../../../src/library/send-tree.js';
import { storeSet } from '../../../src/library/store-set.js';
import { WalArchive } from '../../../src/library/wal-archive.js';
import {
  baseBackupsOf,
  type KeepWal,
  lsnOf,
  pruneWal,
  rangesOf,
  walArchives,
} from '../../../src/library/wal-keep.js';
import { runProgram } from '../../support/array.js';
import { lockFile, MemoryPipe } from './stand-ins.js';

const SEGMENT_BYTES = 1 << 20;

const hex = (n: number, digits = 8): string => n.toString(16).toUpperCase().padStart(digits, '0');
/** PostgreSQL's name of the segment at a place of the log, for segments of 1 MiB. */
const segment = (timeline: number, place: number): string =>
  `${hex(timeline)}${hex(Math.floor(place / 4096))}${hex(place % 4096)}`;
const lsn = (place: number, more = 0): string =>
  `${hex(Math.floor(place / 4096), 1)}/${hex((place % 4096) * SEGMENT_BYTES + more, 1)}`;

interface House {
  readonly directory: string;
  readonly library: Library;
  /** A base backup that begins and ends in these segments; its set. */
  backUp(timeline: number, from: number, to: number, name?: string): string;
  push(name: string, bytes?: number): Promise<void>;
  prune(keep: KeepWal, dryRun?: boolean): string[];
  /** What is archived, without the digests. */
  archived(): string[];
}

function makeHouse(t: ExecutionContext): House {
  const base = mkdtempSync(join(tmpdir(), 'stpd-wal-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const directory = join(base, 'library');
  const library = Library.open(directory, { lockFile });
  const archive = new WalArchive(directory, 'h', 'main');
  return {
    directory,
    library,
    backUp(timeline, from, to, name = 'main') {
      const path = join(base, 'manifest');
      const range = { Timeline: timeline, 'Start-LSN': lsn(from, 40), 'End-LSN': lsn(to, 256) };
      writeFileSync(path, JSON.stringify({ Files: [], 'WAL-Ranges': [range] }));
      const set = library.beginSet({ host: 'h', roots: [`postgresql:${name}`], stpd: 'test' });
      const pipe = new MemoryPipe();
      sendTree(pipe, [path], { storedAs: Buffer.from('data/backup_manifest') });
      storeSet(pipe, set);
      return set.commit().id;
    },
    async push(name, bytes = SEGMENT_BYTES) {
      const data = Buffer.alloc(bytes, name);
      const incoming = await archive.begin(name);
      await incoming.write(data);
      await incoming.keep(blake3(data).toString('hex'));
    },
    prune: (keep, dryRun = false) =>
      walArchives(library, {}).flatMap((a) => [...pruneWal(library, a, keep, dryRun).removed]),
    archived: () => walArchives(library, {}).flatMap(({ files }) => files.map(({ name }) => name)),
  };
}

test('segments before the oldest base backup go; what any needs, and later ones, stay', async (t) => {
  const h = makeHouse(t);
  // Over the end of a log of 4 GiB, where the numbering carries.
  for (let place = 4090; place < 4102; place++) await h.push(segment(1, place));
  await h.push('00000002.history', 50);
  await h.push(`${segment(1, 4091)}.00000028.backup`, 300);
  await h.push(`${segment(1, 4097)}.00000028.backup`, 300);
  const before = h.archived();
  t.deepEqual(h.prune('all'), [], 'no base backup: nothing tells what is needed');
  h.backUp(1, 4092, 4092, 'other');
  t.deepEqual(h.prune('all'), [], 'one of another name says nothing');
  const first = h.backUp(1, 4094, 4095);
  h.backUp(1, 4097, 4098);
  const going = [4090, 4091, 4092, 4093].map((place) => segment(1, place));
  const labels = [`${segment(1, 4091)}.00000028.backup`];
  t.deepEqual(h.prune('all', true).sort(), [...going, ...labels].sort());
  t.deepEqual(h.archived(), before, 'a dry run removes nothing');
  t.deepEqual(h.prune('all').sort(), [...going, ...labels].sort());
  t.is(h.archived().length, before.length - going.length - 1);
  t.deepEqual(h.prune('all'), []);

  // Moments behind the newest only: of the other what makes it consistent.
  t.deepEqual(h.prune(1), [segment(1, 4096)]);
  t.true(h.archived().includes(segment(1, 4094)));
  t.true(h.archived().includes(segment(1, 4095)));

  forgetSets(h.library, {
    judge: ({ sets }) =>
      applyRules(
        sets.filter((s) => s.id === first),
        {},
      ),
    dryRun: false,
  });
  t.deepEqual(h.prune('all'), [segment(1, 4094), segment(1, 4095)]);
  t.true(h.archived().includes('00000002.history'), 'histories stay');
});

test('a new timeline keeps what it begins with, and older timelines from there on', async (t) => {
  const h = makeHouse(t);
  for (let place = 1; place <= 6; place++) await h.push(segment(1, place));
  await h.push('00000002.history', 50);
  await h.push(`${segment(1, 4)}.partial`);
  for (let place = 4; place <= 8; place++) await h.push(segment(2, place));
  h.backUp(1, 3, 3);
  h.backUp(2, 7, 7);
  t.deepEqual(h.prune('all'), [segment(1, 1), segment(1, 2)]);
  // From the second on: of the first only its own.
  t.deepEqual(h.prune(1).sort(), [
    segment(1, 4),
    `${segment(1, 4)}.partial`,
    segment(1, 5),
    segment(1, 6),
    segment(2, 4),
    segment(2, 5),
    segment(2, 6),
  ]);
  t.deepEqual(
    h.archived().sort(),
    [segment(1, 3), '00000002.history', segment(2, 7), segment(2, 8)].sort(),
  );
});

test('what a base backup that runs may need is not touched', async (t) => {
  const h = makeHouse(t);
  await h.push(segment(1, 1));
  h.backUp(1, 5, 5);
  // Lower in the log than the listed one: its cluster came back from elsewhere.
  const running = h.library.beginSet({ host: 'h', roots: ['postgresql:main'], stpd: 'test' });
  await new Promise((resolve) => setTimeout(resolve, 20));
  await h.push(segment(2, 2));
  const old = walArchives(h.library, {})[0]?.files.find(({ timeline }) => timeline === 1);
  utimesSync(old?.path as string, 1, 1);
  t.deepEqual(h.prune('all'), [segment(1, 1)]);
  running.abort();
  t.deepEqual(h.prune('all'), [segment(2, 2)]);
});

test('what is not understood removes nothing', async (t) => {
  const h = makeHouse(t);
  for (const place of [1, 2, 3]) await h.push(segment(1, place));
  const id = h.backUp(1, 3, 3);
  await h.push(segment(1, 4), 2 << 20);
  t.throws(() => h.prune('all'), { code: 'EUCLEAN', message: /size of a segment/ });
  const odd = readdirSync(join(h.directory, 'wal/h/main', segment(1, 4).slice(0, 16)));
  for (const name of odd.filter((n) => n.startsWith(segment(1, 4)))) {
    rmSync(join(h.directory, 'wal/h/main', segment(1, 4).slice(0, 16), name));
  }
  const manifest = join(h.directory, 'sets', id, 'manifest.jsonl');
  writeFileSync(manifest, 'x');
  t.throws(() => h.prune('all'), { code: 'EUCLEAN', message: new RegExp(`set ${id} needs`) });
  writeFileSync(join(h.directory, 'sets', id, 'set.json'), 'x');
  t.throws(() => h.prune('all'), { code: 'EUCLEAN' });
  t.is(h.archived().length, 3);
  for (const bad of ['{}', '{"WAL-Ranges":[]}', '{"WAL-Ranges":[{"Timeline":1}]}']) {
    t.throws(() => rangesOf(Buffer.from(bad)), { code: 'EINVAL' });
  }
  t.is(lsnOf('1A/2B003C'), (0x1an << 32n) + 0x2b003cn);
  t.throws(() => lsnOf('1A'), { code: 'EINVAL' });
});

test('a push makes the directory that pruning removed', async (t) => {
  const h = makeHouse(t);
  await h.push(segment(1, 1));
  h.backUp(1, 4096, 4096);
  t.deepEqual(h.prune('all'), [segment(1, 1)]);
  t.false(existsSync(join(h.directory, 'wal/h/main', segment(1, 1).slice(0, 16))));
  await h.push(segment(1, 2));
  t.deepEqual(h.archived(), [segment(1, 2)]);
});

test('wal list and wal prune, as people run them', async (t) => {
  const h = makeHouse(t);
  for (const place of [1, 2, 3, 5]) await h.push(segment(1, place));
  await h.push('00000002.history', 50);
  await h.push(segment(2, 6));
  h.backUp(1, 3, 3);
  const ask = (...args: string[]) =>
    runProgram('stpbackup', ['wal', ...args, '--library', h.directory]);
  const listed = await ask('list', '--json');
  t.is(listed.code, 0, listed.stderr);
  const [one, two] = JSON.parse(listed.stdout).timelines;
  t.like(one, {
    ...{ host: 'h', name: 'main', timeline: 1, segments: 4, missing: 1, baseBackups: 1 },
    ...{ first: segment(1, 1), last: segment(1, 5) },
  });
  t.like(two, { timeline: 2, segments: 1, missing: 0, baseBackups: 0 });
  t.regex((await ask('list')).stdout, /^h +main +1 +4 +1 /m);
  t.is(JSON.parse((await ask('list', '--host', 'x', '--json')).stdout).timelines.length, 0);
  const dry = await ask('prune', '--dry-run', '--json');
  t.deepEqual(JSON.parse(dry.stdout).pruned[0].removed, [segment(1, 1), segment(1, 2)]);
  t.is(h.archived().length, 6);
  const pruned = await ask('prune', '--keep-wal', '1');
  t.is(pruned.code, 0, pruned.stderr);
  t.regex(pruned.stdout, /^h +main +4 +2 +2 MiB/m);
  t.is((await ask('prune', '--keep-wal', '0')).code, 2);
  t.is(baseBackupsOf(h.library, { host: 'h', name: 'main' }).length, 1);
});
