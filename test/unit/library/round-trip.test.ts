import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Library, type StoredSet } from '../../../src/library/library.js';
import { RestoreWriter, restoreSet } from '../../../src/library/restore.js';
import { sendSet } from '../../../src/library/send-set.js';
import { sendTree } from '../../../src/library/send-tree.js';
import { storeSet } from '../../../src/library/store-set.js';
import { difference, makeHardTree } from './hard-tree.js';
import { hasProgram, inDirectory, lockFile, MemoryPipe, run, testNative } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const meta = { host: 'here', roots: ['/x'], stpd: '0.0.0' };

/** Backs `roots` up into a new library in `directory`. */
function backUp(directory: string, roots: string[], pages?: number[]): StoredSet {
  const library = Library.open(join(directory, 'library'), { lockFile });
  const pipe = new MemoryPipe(pages);
  const sent = sendTree(pipe, roots);
  const set = library.beginSet(meta);
  const stored = storeSet(pipe, set);
  if (JSON.stringify(sent) !== JSON.stringify(stored)) throw new Error('totals differ');
  set.commit();
  return library.openSet('latest');
}

function restore(set: StoredSet, target: string, pages?: number[]): string[] {
  const pipe = new MemoryPipe(pages);
  sendSet(pipe, set);
  const problems: string[] = [];
  const writer = new RestoreWriter(target, {
    native: testNative,
    onProblem: (p) => problems.push(p.message),
  });
  const report = restoreSet(pipe, writer);
  if (report.problems !== problems.length) throw new Error('problems were not counted');
  return problems;
}

const pageSizes = { whole: [65536], odd: [4096, 17, 1, 600, 65536, 1024], tiny: [7] };

for (const [name, pages] of Object.entries(pageSizes)) {
  test.serial(`a hard tree comes back as it was, ${name} pages`, (t) => {
    if (!hasProgram('rsync')) {
      t.log('skipped: rsync is missing');
      return t.pass();
    }
    t.log(`seed ${seed}`);
    inDirectory((directory) => {
      const source = join(directory, 'source');
      makeHardTree(source, seed);
      const set = backUp(directory, [source], pages);
      t.deepEqual(restore(set, join(directory, 'target'), pages), []);
      t.is(difference(source, join(directory, 'target', source)), '');
    });
  });
}

for (const tar of ['tar', 'bsdtar']) {
  test.serial(`${tar} extracts the media as they were`, (t) => {
    if (!hasProgram('rsync') || !hasProgram(tar)) {
      t.log(`skipped: rsync or ${tar} is missing`);
      return t.pass();
    }
    t.log(`seed ${seed}`);
    inDirectory((directory) => {
      const source = join(directory, 'source');
      makeHardTree(source, seed);
      const set = backUp(directory, [source]);
      const target = join(directory, 'target');
      mkdirSync(target);
      run(tar, ['-C', target, '-xpf', set.mediaPath]);
      const wrong = difference(source, join(target, source)).split('\n').slice(0, -1);
      // libarchive reads -1.5 s as -0.5 s: fractions before 1970 are its limit, not the media's.
      const excused = tar === 'bsdtar' ? ['.f..t...... time-5', '.f..t...... time-6'] : [];
      t.deepEqual(wrong, excused);
    });
  });
}

test.serial('tar lists as many members as the manifest has entries', (t) => {
  inDirectory((directory) => {
    const source = join(directory, 'source');
    makeHardTree(source, seed);
    const set = backUp(directory, [source]);
    const listed = run('tar', ['--quoting-style=escape', '-tf', set.mediaPath]).toString('latin1');
    t.is(listed.split('\n').length - 1, set.summary.entries);
    t.is([...set.manifest()].length, set.summary.entries + set.summary.warnings);
  });
});

test.serial('a difference in one byte is seen by the comparison', (t) => {
  if (!hasProgram('rsync')) {
    t.log('skipped: rsync is missing');
    return t.pass();
  }
  inDirectory((directory) => {
    mkdirSync(join(directory, 'a'));
    writeFileSync(join(directory, 'a/f'), 'abc');
    cpSync(join(directory, 'a'), join(directory, 'b'), {
      recursive: true,
      preserveTimestamps: true,
    });
    rmSync(join(directory, 'b/f'));
    writeFileSync(join(directory, 'b/f'), 'abd');
    t.not(difference(join(directory, 'a'), join(directory, 'b')), '');
  });
});

test.serial('small files share pages: far fewer commits than files', (t) => {
  inDirectory((directory) => {
    const source = join(directory, 'source');
    mkdirSync(source);
    for (let i = 0; i < 500; i++) writeFileSync(join(source, `f${i}`), 'small');
    const pipe = new MemoryPipe();
    sendTree(pipe, [source]);
    t.is(pipe.commits, Math.ceil(pipe.bytes / 65536));
  });
});
