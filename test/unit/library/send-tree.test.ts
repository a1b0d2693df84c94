import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import test from 'ava';
import type { PageSink } from '../../../src/library/frames.js';
import { Library, type StoredSet } from '../../../src/library/library.js';
import type { ManifestEntry, ManifestItem } from '../../../src/library/manifest.js';
import { sendTree } from '../../../src/library/send-tree.js';
import { storeSet } from '../../../src/library/store-set.js';
import type { TreeWarning } from '../../../src/source/file-tree.js';
import { inDirectory, lockFile, MemoryPipe, run } from './stand-ins.js';

/** Calls `meddle` when the first pages are handed over. */
class MeddledPipe extends MemoryPipe implements PageSink {
  constructor(
    readonly meddle: () => void,
    readonly times: number,
  ) {
    super();
  }
  override commit(bytes: number): void {
    if (this.commits < this.times) this.meddle();
    super.commit(bytes);
  }
}

/** Backs up a file of 300,000 bytes and one after it, while `meddle` is done to them. */
function backUpMeddled(
  directory: string,
  meddle: (large: string, next: string) => void,
  times = 1,
): { set: StoredSet; warnings: TreeWarning[]; records: ManifestItem[] } {
  const source = join(directory, 'source');
  mkdirSync(source);
  const [large, next] = [join(source, 'large'), join(source, 'next')] as const;
  writeFileSync(large, Buffer.alloc(300_000, 'x'));
  writeFileSync(next, 'y');
  const pipe = new MeddledPipe(() => meddle(large, next), times);
  const warnings: TreeWarning[] = [];
  const sent = sendTree(pipe, [source], { onWarning: (w) => warnings.push(w) });
  const library = Library.open(join(directory, 'library'), { lockFile });
  const writer = library.beginSet({ host: 'h', roots: [source], stpd: '0' });
  storeSet(pipe, writer);
  const summary = writer.commit();
  if (sent.warnings !== summary.warnings) throw new Error('warnings were lost');
  const set = library.openSet('latest');
  return { set, warnings, records: [...set.manifest()] };
}

const entryNamed = (records: ManifestItem[], name: string): ManifestEntry =>
  records.find((r) => r.kind === 'entry' && r.path.toString().endsWith(name)) as ManifestEntry;

test('a file that shrinks is filled up with zeros, read again, and the set stays whole', (t) => {
  inDirectory((d) => {
    const { set, warnings, records } = backUpMeddled(d, (large) => truncateSync(large, 100_000));
    const [first, second] = records.filter(
      (r) => r.kind === 'entry' && r.path.toString().endsWith('/large'),
    );
    const filled = Buffer.concat([Buffer.alloc(100_000, 'x'), Buffer.alloc(200_000)]);
    t.like(first, { size: 300_000, superseded: true, blake3: blake3(filled).toString('hex') });
    const stored = Buffer.alloc(100_000, 'x');
    t.like(second, { size: 100_000, changed: false, blake3: blake3(stored).toString('hex') });
    t.false(entryNamed(records, '/next').changed);
    t.deepEqual(warnings, []);
    run('tar', ['-C', d, '-xf', set.mediaPath]);
    t.is(readFileSync(join(d, d, 'source/large')).compare(stored), 0);
  });
});

test('a file that grows at every reading is stored at the size it had, and marked', (t) => {
  inDirectory((d) => {
    const meddle = (large: string) => appendFileSync(large, 'more');
    const { records, warnings } = backUpMeddled(d, meddle, Number.POSITIVE_INFINITY);
    const all = records.filter((r) => r.kind === 'entry' && r.path.toString().endsWith('/large'));
    t.deepEqual(
      all.map((r) => r.kind === 'entry' && [r.superseded, r.changed]),
      [
        [true, true],
        [true, true],
        [false, true],
      ],
    );
    t.deepEqual(
      warnings.map((w) => w.code),
      ['EAGAIN'],
    );
    t.regex(warnings[0]?.message ?? '', /large changed while it was read/);
  });
});

test('a file that vanishes is a warning with its name in the manifest', (t) => {
  inDirectory((d) => {
    const { records, set } = backUpMeddled(d, (_large, next) => unlinkSync(next));
    const warning = records.find((r) => r.kind === 'warning');
    t.like(warning, { code: 'ENOENT', path: Buffer.from(join(d, 'source/next').slice(1)) });
    t.is(set.summary.entries, 2);
    t.is(set.summary.warnings, 1);
  });
});

test('a root that is a file is sent as one', (t) => {
  inDirectory((d) => {
    for (const size of [1, 100, 300_000]) {
      const file = join(d, `f${size}`);
      writeFileSync(file, Buffer.alloc(size, 'x'));
      t.like(sendTree(new MemoryPipe(), [file]), { entries: 1, bytes: size, warnings: 0 });
    }
  });
});

test('a missing root ends the backup before anything is sent', (t) => {
  inDirectory((d) => {
    const pipe = new MemoryPipe();
    t.throws(() => sendTree(pipe, [join(d, 'no')]), { code: 'ENOENT' });
    t.is(pipe.bytes, 0);
  });
});

test('progress ends at the totals', (t) => {
  inDirectory((d) => {
    writeFileSync(join(d, 'f'), Buffer.alloc(100_000));
    const progress = new Float64Array(new SharedArrayBuffer(16));
    const totals = sendTree(new MemoryPipe(), [d], { progress });
    t.deepEqual([...progress], [totals.entries, totals.bytes]);
  });
});

test('what is sent of a tree is the same every time', (t) => {
  inDirectory((d) => {
    for (let i = 0; i < 50; i++) writeFileSync(join(d, `f${i}`), `${i}`.repeat(i * 30));
    const bytes = (sizes: number[]) => {
      const pipe = new MemoryPipe(sizes);
      sendTree(pipe, [d], { now: () => 1_700_000_000_000_000_000n });
      return pipe.drain();
    };
    t.is(bytes([65536]).compare(bytes([65536])), 0);
  });
});
