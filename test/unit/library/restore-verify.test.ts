/** What `--verify` reads back: a clean restore passes, and each thing that was changed is named. */
import {
  chmodSync,
  closeSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Library } from '../../../src/library/library.js';
import { type RestoreProblem, RestoreWriter, restoreSet } from '../../../src/library/restore.js';
import type { RestoreChoices } from '../../../src/library/restore-plan.js';
import { RestoreCheck, type Verified } from '../../../src/library/restore-verify.js';
import { sendSet } from '../../../src/library/send-set.js';
import { sendTree } from '../../../src/library/send-tree.js';
import { storeSet } from '../../../src/library/store-set.js';
import { native } from '../../../src/native.js';
import { isRoot, makeHardTree } from './hard-tree.js';
import { inDirectory, lockFile, MemoryPipe } from './stand-ins.js';

interface Run {
  readonly verified: Verified;
  readonly problems: readonly RestoreProblem[];
  /** What was restored, in the target. */
  readonly tree: string;
}

/** Backs `d/src` up, restores it, lets `change` at what was restored, and verifies. */
function run(d: string, change: (tree: string) => void, choices: RestoreChoices = {}): Run {
  const library = Library.open(join(d, 'library'), { lockFile });
  const meta = { host: 'h', roots: [join(d, 'src')], stpd: '0' };
  const up = new MemoryPipe();
  sendTree(up, [Buffer.from(join(d, 'src'))], { native: native(), onWarning: () => {} });
  const set = library.beginSet(meta, { hasList: true });
  storeSet(up, set);
  const down = new MemoryPipe();
  sendSet(down, library.openSet(set.commit().id));
  const problems: RestoreProblem[] = [];
  const onProblem = (p: RestoreProblem): void => void problems.push(p);
  const options = { ...choices, native: native(), onProblem };
  const target = join(d, 't');
  const writer = new RestoreWriter(target, options);
  const check = new RestoreCheck(target, options);
  try {
    restoreSet(down, writer, { onRestored: (line, map) => check.expect(line, map) });
    const tree = join(target, d, 'src');
    problems.length = 0;
    change(tree);
    return { verified: check.verify(), problems, tree };
  } finally {
    check.close();
    writer.close();
  }
}

test.serial('a tree of every kind is as in the set, and the list leaves nothing behind', (t) => {
  inDirectory((d) => {
    makeHardTree(join(d, 'src'), 7);
    const { verified, problems } = run(d, () => {});
    t.deepEqual(problems, []);
    t.is(verified.wrong, 0);
    t.true(verified.entries > 50 && verified.bytes > 500_000);
    t.deepEqual(readdirSync(join(d, 't')), [d.split('/')[1] ?? '']);
  });
});

/** One byte of a file is another one, its times are the old ones. */
function flip(file: string, at: number): void {
  const { atime, mtime } = statSync(file);
  const fd = openSync(file, 'r+');
  writeSync(fd, '!', at);
  closeSync(fd);
  utimesSync(file, atime, mtime);
}

const SPARSE_BYTES = 1 << 20;
/** Whole seconds, as utimes(2) sets them back. */
const TIME = 1_600_000_000;

function makeSource(d: string): void {
  mkdirSync(join(d, 'src'));
  const at = (name: string): string => join(d, 'src', name);
  writeFileSync(at('file'), 'x'.repeat(100_000));
  writeFileSync(at('sparse'), '');
  truncateSync(at('sparse'), SPARSE_BYTES);
  const fd = openSync(at('sparse'), 'r+');
  writeSync(fd, 'data', 500_000);
  closeSync(fd);
  linkSync(at('file'), at('linked'));
  symlinkSync('file', at('soft'));
  native().setXattr(Buffer.from(at('sparse')), Buffer.from('user.note'), Buffer.from('kept'));
  for (const name of ['file', 'sparse']) utimesSync(at(name), TIME, TIME);
}

const changes: readonly (readonly [string, string, (tree: string) => void])[] = [
  ['a byte of data', 'file is not.*: data', (tree) => flip(join(tree, 'file'), 77_777)],
  [
    'a byte of a sparse file',
    'sparse is not.*: data',
    (tree) => flip(join(tree, 'sparse'), 500_001),
  ],
  ['a byte in a hole', 'sparse is not.*: data', (tree) => flip(join(tree, 'sparse'), 10)],
  ['the size', 'file is not.*: mtime, size, data', (tree) => truncateSync(join(tree, 'file'), 5)],
  ['a mode', 'file is not.*: mode', (tree) => chmodSync(join(tree, 'file'), 0o604)],
  ['a time', 'sparse is not.*: mtime', (tree) => utimesSync(join(tree, 'sparse'), TIME, TIME + 1)],
  [
    'an attribute',
    'sparse is not.*: attributes',
    (tree) => {
      const place = Buffer.from(join(tree, 'sparse'));
      native().setXattr(place, Buffer.from('user.note'), Buffer.from('else'));
    },
  ],
  [
    'a name that is gone',
    'soft is not.*: mtime|soft is not.*: it is not there',
    (tree) => unlinkSync(join(tree, 'soft')),
  ],
  [
    'a link that leads elsewhere',
    'soft is not.*: target',
    (tree) => {
      unlinkSync(join(tree, 'soft'));
      symlinkSync('sparse', join(tree, 'soft'));
    },
  ],
  [
    'a second name that is another file',
    'linked is not.*: link',
    (tree) => {
      unlinkSync(join(tree, 'linked'));
      writeFileSync(join(tree, 'linked'), 'x'.repeat(100_000));
    },
  ],
  [
    'a directory that is a symlink now',
    'src is not.*: type',
    (tree) => {
      renameSync(tree, `${tree}-moved`);
      symlinkSync('src-moved', tree);
    },
  ],
];
for (const [what, expected, change] of changes) {
  test.serial(`named: ${what}`, (t) => {
    inDirectory((d) => {
      makeSource(d);
      const { verified, problems } = run(d, change);
      t.true(verified.wrong >= 1);
      t.is(verified.wrong, problems.length);
      t.true(problems.every(({ code }) => code === 'EBADMSG'));
      const messages = problems.map(({ message }) => message).join('\n');
      t.regex(messages, new RegExp(expected));
    });
  });
}

(isRoot ? test : test.skip)('an owner counts, but not where it was not to be set', (t) => {
  for (const owners of [true, false]) {
    inDirectory((d) => {
      makeSource(d);
      const { verified } = run(d, (tree) => lchownSync(join(tree, 'soft'), 12345, 12345), {
        owners,
      });
      t.is(verified.wrong, owners ? 1 : 0);
    });
  }
});

test.serial('what the target kept because it looked the same is read, too', (t) => {
  inDirectory((d) => {
    makeSource(d);
    run(d, (tree) => flip(join(tree, 'file'), 5));
    const { verified, problems } = run(d, () => {}, { overwrite: 'if-changed' });
    t.is(verified.wrong, 1, problems.map(({ message }) => message).join('\n'));
    t.regex(problems[0]?.message ?? '', /file is not as in the set: data/);
  });
  inDirectory((d) => {
    makeSource(d);
    run(d, (tree) => flip(join(tree, 'file'), 5));
    t.is(run(d, () => {}, { overwrite: 'always' }).verified.wrong, 0);
  });
});
