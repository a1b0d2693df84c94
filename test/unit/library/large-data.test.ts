/** Large files count in the digest of their medium by the digest of their data. */
import { ftruncateSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import { xxh3 } from '@node-rs/xxhash';
import test from 'ava';
import { checkLibrary } from '../../../src/library/check-library.js';
import {
  FRAME_ENTRY,
  FRAME_FILE,
  FrameWriter,
  LARGE_DATA_BYTES,
} from '../../../src/library/frames.js';
import { Library } from '../../../src/library/library.js';
import { encodeEntry } from '../../../src/library/manifest.js';
import { digestOfMedia } from '../../../src/library/media-digest.js';
import { plainFacts } from '../../../src/library/plain-facts.js';
import { repairLibrary } from '../../../src/library/repair.js';
import { storeSet } from '../../../src/library/store-set.js';
import { backUp, makeSmallTree, portrait, restored } from './flips.js';
import { kinds } from './media-kinds.js';
import { inDirectory, lockFile, MemoryPipe, randomFrom } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

const sizes = {
  least: LARGE_DATA_BYTES,
  'just-not': LARGE_DATA_BYTES - 1,
  padded: LARGE_DATA_BYTES + 70_003,
  several: 3 * LARGE_DATA_BYTES + 1,
};

function makeTree(source: string): void {
  makeSmallTree(source);
  const random = randomFrom(seed);
  for (const [name, bytes] of Object.entries(sizes)) {
    const data = Buffer.alloc(bytes);
    for (let at = 0; at < bytes; at += 1000) data[at] = Math.floor(random() * 256);
    writeFileSync(join(source, name), data);
  }
  // Much data between holes: its map stands in front of it.
  const fd = openSync(join(source, 'sparse'), 'w');
  writeSync(fd, Buffer.alloc(LARGE_DATA_BYTES, 's'), 0, LARGE_DATA_BYTES, 1 << 20);
  ftruncateSync(fd, 32 << 20);
}

interface Rig {
  readonly library: Library;
  readonly id: string;
  readonly source: string;
  readonly directory: string;
}

function withSet(body: (rig: Rig) => void): void {
  inDirectory((directory) => {
    const source = join(directory, 'source');
    makeTree(source);
    const library = Library.open(join(directory, 'library'), { lockFile });
    body({ library, id: backUp(library, source), source, directory });
  });
}

const problemsOf = (library: Library): string[] => {
  const found: string[] = [];
  checkLibrary(library, [], { kind: 'data' }, { onProblem: (p) => void found.push(p.message) });
  return found;
};

/** By the lines alone, in another way than the library does it. */
function expectedDigest({ library, id }: Rig): string {
  const set = library.openSet(id);
  const media = readFileSync(set.mediaPath);
  const hasher = xxh3.Xxh3.withSeed(0n);
  let at = 0;
  for (const record of set.manifest()) {
    if (record.kind !== 'entry' || record.stored < LARGE_DATA_BYTES) continue;
    const end = record.dataOffset + record.stored;
    hasher.update(media.subarray(at, record.dataOffset));
    hasher.update(blake3(media.subarray(record.dataOffset, end)));
    at = end;
  }
  hasher.update(media.subarray(at));
  return hasher.digest().toString(16).padStart(16, '0');
}

test.serial('the digest of a medium has that of each large file in it', (t) => {
  t.log(`seed ${seed}`);
  withSet((rig) => {
    const { library, id, directory, source } = rig;
    const set = library.openSet(id);
    t.is(set.summary.mediaXxh3, expectedDigest(rig));
    const media = set.openMedia(0);
    t.is(digestOfMedia(media), set.summary.mediaXxh3);
    media.close();
    t.deepEqual(problemsOf(library), []);
    t.is(restored(library, id, join(directory, 'target'), source), portrait(source));
  });
});

test.serial(
  'a bit of large data, its header or its padding is found, with lines or without',
  (t) => {
    withSet(({ library, id }) => {
      const set = library.openSet(id);
      const path = set.mediaPath;
      const good = readFileSync(path);
      const manifest = readFileSync(set.manifestPath);
      const entry = [...set.manifest()].find(
        (r) => r.kind === 'entry' && r.path.toString().endsWith('padded'),
      );
      if (entry?.kind !== 'entry') return t.fail();
      const places = {
        header: entry.headerOffset + 5,
        first: entry.dataOffset,
        last: entry.dataOffset + entry.stored - 1,
        padding: entry.dataOffset + entry.stored + 1,
      };
      for (const [name, at] of Object.entries(places)) {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] as number) ^ 4;
        writeFileSync(path, bad);
        t.true(
          problemsOf(library).some((p) => /does not have its digest/.test(p)),
          name,
        );
        writeFileSync(set.manifestPath, 'lost');
        t.true(
          problemsOf(library).some((p) => /media.tar does not have its digest/.test(p)),
          name,
        );
        writeFileSync(set.manifestPath, manifest);
      }
      writeFileSync(path, good);
      writeFileSync(set.manifestPath, 'lost');
      t.false(problemsOf(library).some((p) => /media.tar does not have its digest/.test(p)));
    });
  },
);

test.serial('a lost manifest is made anew from media whose large data is sound only', (t) => {
  withSet(({ library, id, directory, source }) => {
    const set = library.openSet(id);
    const good = readFileSync(set.mediaPath);
    const bad = Buffer.from(good);
    bad[good.length >> 1] = (bad[good.length >> 1] as number) ^ 1;
    writeFileSync(set.mediaPath, bad);
    rmSync(set.manifestPath);
    t.not(repairLibrary(library, true)[0]?.action, 'repaired');
    writeFileSync(set.mediaPath, good);
    t.is(repairLibrary(library, false)[0]?.action, 'repaired');
    t.deepEqual(problemsOf(library), []);
    t.is(restored(library, id, join(directory, 'target'), source), portrait(source));
  });
});

for (const { name, plan, access } of kinds) {
  test.serial(`${name}: large files are as any other`, (t) => {
    inDirectory((directory) => {
      const source = join(directory, 'source');
      makeTree(source);
      // As many volumes as 64 KiB each would make are no matter here.
      const larger = plan.volumeBytes === undefined ? plan : { ...plan, volumeBytes: 3 << 20 };
      const library = Library.open(join(directory, 'library'), { lockFile, access });
      const id = backUp(library, source, { plan: larger });
      t.deepEqual(problemsOf(library), []);
      const media = library.openSet(id).openMediaAsIs(0);
      t.is(digestOfMedia(media), library.openSet(id).summary.mediaXxh3);
      media.close();
      t.is(restored(library, id, join(directory, 'target'), source), portrait(source));
    });
  });
}

const meta = { host: 'here', roots: ['/r'], stpd: '0.0.0' };
const HEADER_BYTES = 512;

/** One large file, as a client may say it. */
function sendOne(
  pipe: MemoryPipe,
  said: { isLarge: boolean; inFrame: string; inLine: string | null },
): void {
  const facts = plainFacts('f', LARGE_DATA_BYTES);
  const frames = new FrameWriter(pipe);
  frames.beginMember(Buffer.alloc(HEADER_BYTES, 'h'), HEADER_BYTES, facts.size, said.isLarge);
  frames.put(Buffer.alloc(facts.size), 0, facts.size);
  frames.endMember(said.inFrame);
  if (said.inLine !== null) {
    const line = encodeEntry(facts, 0, HEADER_BYTES, said.inLine, false);
    frames.frame(FRAME_ENTRY, Buffer.from(line));
  }
  const [entries, bytes] = said.inLine === null ? [0, 0] : [1, facts.size];
  frames.frame(4, Buffer.from(JSON.stringify({ entries, bytes, warnings: 0 })));
  frames.flush();
}

const digest = 'a'.repeat(64);
const lies: [string, Parameters<typeof sendOne>[1], RegExp | null][] = [
  ['a file as it should be', { isLarge: true, inFrame: digest, inLine: digest }, null],
  [
    'another digest in the line',
    { isLarge: true, inFrame: digest, inLine: 'b'.repeat(64) },
    /is not the large file that came/,
  ],
  [
    'a large file that came as a small one',
    { isLarge: false, inFrame: digest, inLine: digest },
    /is not the large file that came/,
  ],
  [
    'a large file without a line',
    { isLarge: true, inFrame: digest, inLine: null },
    /that no entry/,
  ],
];
for (const [name, said, message] of lies) {
  test.serial(`${message === null ? 'taken' : 'refused'}: ${name}`, (t) => {
    inDirectory((directory) => {
      const library = Library.open(join(directory, 'library'), { lockFile });
      const pipe = new MemoryPipe();
      sendOne(pipe, said);
      const store = () => {
        const set = library.beginSet(meta);
        storeSet(pipe, set);
        set.commit();
      };
      if (message === null) t.notThrows(store);
      else t.throws(store, { code: 'EPROTO', message });
      t.is(library.list().sets.length, message === null ? 1 : 0);
    });
  });
}

test('a FILE frame is for large files', (t) => {
  const pipe = new MemoryPipe();
  const frames = new FrameWriter(pipe);
  frames.frame(FRAME_FILE, Buffer.alloc(1024));
  frames.flush();
  inDirectory((directory) => {
    const library = Library.open(join(directory, 'library'), { lockFile });
    t.throws(() => storeSet(pipe, library.beginSet(meta)), {
      code: 'EPROTO',
      message: /none of a/,
    });
  });
});
