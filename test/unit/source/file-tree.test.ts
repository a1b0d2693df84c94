import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../../src/native.js';
import { makeRecord, ROW_WORDS } from '../../../src/source/file-stat.js';
import {
  isSameFile,
  type TreeEntry,
  TreeWalk,
  type TreeWarning,
  walkTree,
} from '../../../src/source/file-tree.js';
import { displayPath } from '../../../src/source/names.js';

const isRoot = process.geteuid?.() === 0;

async function inDirectory(body: (directory: string) => void | Promise<void>): Promise<void> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'stpd-tree-')));
  try {
    await body(directory);
  } finally {
    // Not rmSync, which cannot remove what is deeper than PATH_MAX.
    execFileSync('rm', ['-rf', directory]);
  }
}

interface Walked {
  readonly entries: TreeEntry[];
  readonly warnings: TreeWarning[];
  /** Stored paths without that of the root. */
  readonly names: string[];
}

/** Walks a whole tree; `visit` is called while the walk stands at an entry. */
function walk(root: string, visit: (e: TreeEntry, w: TreeWalk) => void = () => {}): Walked {
  const warnings: TreeWarning[] = [];
  const tree = walkTree([root], { onWarning: (w) => warnings.push(w) });
  const entries: TreeEntry[] = [];
  for (const entry of tree) {
    entries.push(entry);
    visit(entry, tree);
  }
  const names = entries.map((e) => e.path.toString('latin1').slice(root.length));
  return { entries, warnings, names };
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

test('directories come before their contents, names in the order of their bytes', (t) =>
  inDirectory((d) => {
    for (const name of ['b/z', 'b/a', 'B', 'a-b', 'a'])
      mkdirSync(join(d, name), { recursive: true });
    for (const name of ['b/m', 'a/x', 'é']) writeFileSync(join(d, name), '');
    writeFileSync(Buffer.concat([Buffer.from(`${d}/`), Buffer.from([0xff])]), '');
    const expected = ['', 'B', 'a', 'a/x', 'a-b', 'b', 'b/a', 'b/m', 'b/z', 'Ã©', 'ÿ'];
    t.deepEqual(
      walk(d).names,
      expected.map((n, i) => (i === 0 ? '' : n)),
    );
    t.deepEqual(walk(d).names, walk(d).names);
  }));

test('an entry says what lstat says', (t) =>
  inDirectory((d) => {
    writeFileSync(join(d, 'file'), '12345');
    execFileSync('touch', ['-d', '@1700000000.123456789', join(d, 'file')]);
    chmodSync(join(d, 'file'), 0o4711);
    symlinkSync('else\nwhere', join(d, 'link'));
    execFileSync('mkfifo', [join(d, 'pipe')]);
    const [root, file, link, pipe] = walk(d).entries as [
      TreeEntry,
      TreeEntry,
      TreeEntry,
      TreeEntry,
    ];
    t.is(root.type, 'directory');
    t.is(root.path.toString(), d.slice(1));
    t.like(file, { type: 'file', size: 5, mode: 0o4711, mtimeNs: 1_700_000_000_123_456_789n });
    t.like(link, { type: 'symlink', link: Buffer.from('else\nwhere'), size: 0 });
    t.is(pipe.type, 'fifo');
  }));

test('devices carry their numbers', (t) => {
  const { entries } = walk('/dev/null');
  t.like(entries[0], { type: 'char', major: 1, minor: 3, size: 0 });
});

test('a further name of a file is a hard link to the first', (t) =>
  inDirectory((d) => {
    writeFileSync(join(d, 'b'), 'x');
    linkSync(join(d, 'b'), join(d, 'a'));
    linkSync(join(d, 'b'), join(d, 'c'));
    const types = walk(d).entries.map((e) => [e.type, e.link?.toString() ?? null]);
    const first = join(d, 'a').slice(1);
    t.deepEqual(types.slice(1), [
      ['file', null],
      ['hardlink', first],
      ['hardlink', first],
    ]);
  }));

test('when the first name cannot be opened, the next one carries the data', (t) =>
  inDirectory((d) => {
    writeFileSync(join(d, 'a'), 'x');
    linkSync(join(d, 'a'), join(d, 'b'));
    const opened: string[] = [];
    const { warnings } = walk(d, (entry, tree) => {
      if (entry.type !== 'file') return;
      if (entry.path.toString().endsWith('/a')) unlinkSync(join(d, 'a'));
      const fd = tree.open(entry);
      if (fd < 0) return;
      opened.push(readFileSync(fd, 'utf8'));
      closeSync(fd);
    });
    t.deepEqual(opened, ['x']);
    t.deepEqual(
      warnings.map((w) => w.code),
      ['ENOENT'],
    );
  }));

test('a socket is left out with a warning', async (t) => {
  await inDirectory(async (d) => {
    const server = createServer();
    await new Promise<void>((done) => server.listen(join(d, 's'), done));
    const { names, warnings } = walk(d);
    t.deepEqual(names, ['']);
    t.like(warnings[0], { code: 'EOPNOTSUPP', path: Buffer.from(join(d, 's').slice(1)) });
    await new Promise((done) => server.close(done));
  });
});

test('what vanishes during the walk is a warning', (t) =>
  inDirectory((d) => {
    mkdirSync(join(d, 'a'));
    for (const name of ['b', 'c']) writeFileSync(join(d, name), name);
    const { names, warnings } = walk(d, (e) => {
      if (e.path.toString().endsWith('/a')) {
        rmSync(join(d, 'a'), { recursive: true });
        unlinkSync(join(d, 'b'));
      }
    });
    t.deepEqual(
      names,
      ['', '/a', '/c'].map((n) => n.slice(1)),
    );
    t.deepEqual(
      warnings.map((w) => w.code),
      ['ENOENT', 'ENOENT'],
    );
    t.regex(warnings[1]?.message ?? '', /\/b vanished/);
  }));

/** What the walk does meanwhile is that it stands still. */
function standStill(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

test('what was looked at with others is looked at once more if the walk comes to it late', (t) =>
  inDirectory((d) => {
    for (const name of ['a', 'b', 'c', 'd']) writeFileSync(join(d, name), name);
    const sizes: number[] = [];
    const { names, warnings } = walk(d, (e, tree) => {
      if (e.type !== 'file') return;
      sizes.push(e.size);
      if (sizes.length === 1) {
        appendFileSync(join(d, 'b'), 'more');
        unlinkSync(join(d, 'c'));
        renameSync(join(d, 'd'), join(d, 'e'));
        writeFileSync(join(d, 'd'), 'another');
        standStill(20);
      }
      const fd = tree.open(e);
      t.true(fd >= 0, 'no file is taken for one that was replaced');
      closeSync(fd);
    });
    t.deepEqual(
      names.map((n) => n.slice(-1)),
      ['', 'a', 'b', 'd'],
    );
    t.deepEqual(sizes, [1, 5, 7]);
    t.deepEqual(
      warnings.map((w) => w.code),
      ['ENOENT'],
    );
  }));

test('a directory with many entries is walked in the order of their bytes', (t) =>
  inDirectory((d) => {
    const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
    t.log(`seed ${seed}`);
    const parts = ['a', 'aa', 'b', '-', '\x01', '\x7f', '\xe9', '\xff', 'x'.repeat(60)];
    const wanted = new Set<string>();
    let random = seed;
    while (wanted.size < 500) {
      let name = '';
      for (let i = 0; i < 4; i++) {
        random = (Math.imul(random, 1103515245) + 12345) >>> 0;
        name += parts[(random >>> 16) % parts.length];
      }
      wanted.add(name);
    }
    const inOrder = [...wanted].map((n) => Buffer.from(n, 'latin1')).sort(Buffer.compare);
    for (const [i, name] of inOrder.entries()) {
      const path = Buffer.concat([Buffer.from(`${d}/`), name]);
      if (i % 7 === 0) mkdirSync(path);
      else writeFileSync(path, i % 5 === 0 ? Buffer.alloc(300 << 10) : name);
    }
    const { entries } = walk(d);
    const names = entries.slice(1).map((e) => e.name.toString('latin1'));
    t.deepEqual(
      names,
      inOrder.map((n) => n.toString('latin1')),
    );
    for (const e of entries.slice(1)) {
      const { ino } = lstatSync(Buffer.concat([Buffer.from(`${d}/`), e.name]));
      t.is(e.ino, BigInt(ino));
      t.is(e.path.toString('latin1'), `${d.slice(1)}/${e.name.toString('latin1')}`);
      const isPlain = /^[ !#-[\]-~]+$/.test(e.path.toString('latin1'));
      t.true(isPlain || !e.isPlain);
    }
  }));

test('names and records of the addon have their bounds', (t) =>
  inDirectory((d) => {
    writeFileSync(join(d, 'f'), 'data');
    const fd = openSync(d, 'r');
    const rows = makeRecord(2 * ROW_WORDS).words;
    const paths = Buffer.alloc(8);
    const look = (names: Buffer, at: number, pathsAt: number) =>
      native().lookAt(fd, names, at, Buffer.from('pre/'), paths, pathsAt, 1 << 20, rows);
    try {
      const names = native().listNames(fd);
      t.is(names.toString(), 'f\0');
      t.is(look(names, 0, 0), 1);
      t.is(paths.toString('latin1', 0, 5), 'pre/f');
      t.is(look(names, 0, 4), 0, 'no room for the path');
      t.is(look(names, 2, 0), 0, 'no name');
      t.throws(() => look(names, 3, 0), { code: 'EINVAL' });
      t.throws(() => look(names, 0, 9), { code: 'EINVAL' });
      t.throws(() => look(Buffer.from('f'), 0, 0), { code: 'EINVAL' }, 'a name without an end');
      const read = (names: Buffer, wordAt: number) =>
        native().readWhole(fd, names, 0, 0, rows, wordAt, paths, 0, Buffer.alloc(512), 0);
      t.true(read(names, 0));
      t.throws(() => read(names.subarray(0, 1), 0), { code: 'EINVAL' });
      t.throws(() => read(names, rows.length - 5), { code: 'EINVAL' });
    } finally {
      closeSync(fd);
    }
    t.throws(() => native().listNames(1 << 20), { code: 'EBADF' });
  }));

test('a missing root, and one below a symlink, are errors', (t) =>
  inDirectory((d) => {
    const onWarning = () => t.fail();
    mkdirSync(join(d, 'real/below'), { recursive: true });
    symlinkSync('real', join(d, 'alias'));
    t.throws(() => new TreeWalk([join(d, 'no')], { onWarning }), {
      code: 'ENOENT',
      message: /no does not exist/,
    });
    t.throws(() => new TreeWalk([join(d, 'no/x')], { onWarning }), { code: 'ENOENT' });
    t.throws(() => new TreeWalk([join(d, 'alias/below')], { onWarning }), {
      message: /is a symlink/,
    });
    t.throws(() => new TreeWalk(['relative'], { onWarning }), { code: 'EINVAL' });
    t.throws(() => new TreeWalk([], { onWarning }), { code: 'EINVAL' });
  }));

test('a root that is a symlink is that symlink', (t) =>
  inDirectory((d) => {
    mkdirSync(join(d, 'real'));
    symlinkSync('real', join(d, 'alias'));
    t.deepEqual(
      walk(join(d, 'alias')).entries.map((e) => e.type),
      ['symlink'],
    );
  }));

test('overlapping roots are walked once, in order', (t) =>
  inDirectory((d) => {
    for (const name of ['a/b', 'a-b', 'c']) mkdirSync(join(d, name), { recursive: true });
    const roots = ['c', 'a/b', 'a', 'a-b', 'a/'].map((n) => join(d, n));
    const seen = [...walkTree(roots, { onWarning: () => t.fail() })].map((e) => e.path.toString());
    t.deepEqual(
      seen,
      ['a', 'a/b', 'a-b', 'c'].map((n) => join(d, n).slice(1)),
    );
  }));

test('a directory that becomes a symlink during the walk leads nowhere', (t) =>
  inDirectory((d) => {
    mkdirSync(join(d, 'tree/dir'), { recursive: true });
    mkdirSync(join(d, 'outside'));
    writeFileSync(join(d, 'outside/secret'), '');
    const { names, warnings } = walk(join(d, 'tree'), (e) => {
      if (!e.path.toString().endsWith('/dir')) return;
      renameSync(join(d, 'tree/dir'), join(d, 'gone'));
      symlinkSync('../outside', join(d, 'tree/dir'));
    });
    t.deepEqual(names, ['', 'dir']);
    t.is(warnings.length, 1);
  }));

test('a parent that becomes a symlink while its files are read leads nowhere', (t) =>
  inDirectory((d) => {
    for (const name of ['tree/dir', 'outside']) {
      mkdirSync(join(d, name), { recursive: true });
      writeFileSync(join(d, name, 'f'), name);
    }
    const read: string[] = [];
    walk(join(d, 'tree'), (e, tree) => {
      if (e.type !== 'file') return;
      renameSync(join(d, 'tree/dir'), join(d, 'moved'));
      symlinkSync('../outside', join(d, 'tree/dir'));
      const fd = tree.open(e);
      read.push(readFileSync(fd, 'utf8'));
      closeSync(fd);
    });
    t.deepEqual(read, ['tree/dir']);
  }));

for (const [name, replace, code] of [
  ['a symlink', (p: string) => symlinkSync('/etc/passwd', p), 'ELOOP'],
  ['another file', (p: string) => writeFileSync(p, 'new'), 'ESTALE'],
  ['a FIFO', (p: string) => execFileSync('mkfifo', [p]), 'ESTALE'],
] as const) {
  test(`a file replaced by ${name} before it is opened is not read`, (t) =>
    inDirectory((d) => {
      const path = join(d, 'f');
      writeFileSync(path, 'old');
      // Held open, so that the inode number is not used again at once.
      const held = openSync(path, 'r');
      const { warnings } = walk(d, (e, tree) => {
        if (e.type !== 'file') return;
        unlinkSync(path);
        replace(path);
        t.is(tree.open(e), -1);
      });
      closeSync(held);
      t.deepEqual(
        warnings.map((w) => w.code),
        [code],
      );
    }));
}

test('a file that changes while it is read is noticed', (t) =>
  inDirectory((d) => {
    for (const name of ['a', 'b']) writeFileSync(join(d, name), 'x');
    walk(d, (e, tree) => {
      if (e.type !== 'file') return;
      const fd = tree.open(e);
      const changes = e.path.toString().endsWith('/b');
      if (changes) appendFileSync(join(d, 'b'), 'y');
      t.is(isSameFile(e, fd), !changes);
      closeSync(fd);
    });
  }));

test('a small file is read in one call, if nothing about it is unusual', (t) =>
  inDirectory((d) => {
    const names = ['a-plain', 'b-grown', 'c-touched', 'd-gone', 'e-replaced', 'f-fifo'];
    for (const name of names) writeFileSync(join(d, name), 'data');
    const header = Buffer.from('<header>, and what is not of it');
    const view = new Uint8Array(1024).fill(0xff);
    const taken: string[] = [];
    walk(d, (e, tree) => {
      if (e.type !== 'file') return;
      const name = e.path.toString().split('/').at(-1) as string;
      const path = join(d, name);
      if (name === 'b-grown') appendFileSync(path, 'more');
      if (name === 'c-touched') utimesSync(path, 1, 1);
      if (name >= 'd') rmSync(path);
      if (name === 'e-replaced') writeFileSync(path, 'data');
      if (name === 'f-fifo') execFileSync('mkfifo', [path]);
      t.false(tree.readWhole(e, header, 8, view, 1024 - 8 - 511), 'no room');
      if (tree.readWhole(e, header, 8, view, 5)) taken.push(name);
    });
    t.deepEqual(taken, ['a-plain']);
    t.is(Buffer.from(view.subarray(5, 17)).toString(), '<header>data');
    t.true(
      view.subarray(17, 5 + 8 + 512).every((byte) => byte === 0),
      'up to a whole block',
    );
    t.true(
      view.subarray(5 + 8 + 512).every((byte) => byte === 0xff),
      'and nothing behind',
    );
    t.true(
      view.subarray(0, 5).every((byte) => byte === 0xff),
      'nor before',
    );
  }));

test('the size is that of the open file', (t) =>
  inDirectory((d) => {
    writeFileSync(join(d, 'f'), '1');
    walk(d, (e, tree) => {
      if (e.type !== 'file') return;
      appendFileSync(join(d, 'f'), '2345');
      closeSync(tree.open(e));
      t.is(e.size, 5);
    });
  }));

test('a tree deeper than PATH_MAX and than the directories held open is walked whole', (t) =>
  inDirectory((d) => {
    // Level by level: no single path is that long.
    let fd = openSync(d, 'r');
    for (let level = 0; level < 300; level++) {
      const at = `/proc/self/fd/${fd}`;
      for (const name of ['deep_deep_deep_deep', 'z']) mkdirSync(`${at}/${name}`);
      writeFileSync(`${at}/f`, '');
      const next = openSync(`${at}/deep_deep_deep_deep`, 'r');
      closeSync(fd);
      fd = next;
    }
    closeSync(fd);
    const before = openDescriptors();
    let most = 0;
    const { entries, warnings } = walk(d, () => {
      most = Math.max(most, openDescriptors());
    });
    t.deepEqual(warnings, []);
    t.is(entries.length, 1 + 300 * 3);
    t.true(most - before < 80, `${most - before} open`);
    t.is(openDescriptors(), before);
    t.true(entries.some((e) => e.path.length > 6000));
  }));

test('a walk that is left early closes what it opened', (t) =>
  inDirectory((d) => {
    mkdirSync(join(d, 'a/b/c'), { recursive: true });
    const before = openDescriptors();
    for (const entry of walkTree([d], { onWarning: () => {} })) {
      if (entry.path.toString().endsWith('/c')) break;
    }
    t.is(openDescriptors(), before);
  }));

test('what may not be read is a warning, and the rest is walked', (t) => {
  if (isRoot) {
    t.log('skipped: root may read everything');
    return t.pass();
  }
  return inDirectory((d) => {
    mkdirSync(join(d, 'closed'));
    writeFileSync(join(d, 'closed/f'), '');
    chmodSync(join(d, 'closed'), 0);
    writeFileSync(join(d, 'secret'), 's');
    chmodSync(join(d, 'secret'), 0);
    writeFileSync(join(d, 'z'), 'z');
    const { names, warnings } = walk(d, (e, tree) => {
      if (e.type !== 'file') return;
      const fd = tree.open(e);
      if (fd >= 0) closeSync(fd);
    });
    chmodSync(join(d, 'closed'), 0o700);
    t.deepEqual(
      names.map((n) => n.replace('/', '')),
      ['', 'closed', 'secret', 'z'],
    );
    t.deepEqual(
      warnings.map((w) => w.code),
      ['EACCES', 'EACCES'],
    );
  });
});

test('names are shown on one line and obeyed by no terminal', (t) => {
  t.is(displayPath(Buffer.from('a/ü')), 'a/ü');
  t.is(displayPath(Buffer.from('a\nb\x1b[31m')), 'a\\nb\\x1b[31m');
  t.is(displayPath(Buffer.from([0x61, 0xe4, 0x0a])), 'a\\xe4\\n');
  t.is(displayPath(Buffer.from('\u202egnp.exe')), '\\u202egnp.exe');
});
