import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import test from 'ava';
import { stpError } from '../../../src/errors.js';
import {
  encodeTotals,
  FRAME_DATA,
  FRAME_END,
  FRAME_ENTRY,
  FrameWriter,
} from '../../../src/library/frames.js';
import { Library } from '../../../src/library/library.js';
import { encodeEntry, type ManifestEntry } from '../../../src/library/manifest.js';
import { type RestoreProblem, RestoreWriter, restoreSet } from '../../../src/library/restore.js';
import { sendSet } from '../../../src/library/send-set.js';
import { sendTree } from '../../../src/library/send-tree.js';
import { storeSet } from '../../../src/library/store-set.js';
import { type Change, dataFile, entryOf, type Restored, restore } from './entries.js';
import { isRoot } from './hard-tree.js';
import { inDirectory, lockFile, MemoryPipe, testNative } from './stand-ins.js';

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

test.serial('a target that holds anything is refused and left alone', (t) => {
  inDirectory((d) => {
    writeFileSync(join(d, 'mine'), '');
    t.throws(() => restore(d, [{ path: 'f' }]), { code: 'ENOTEMPTY', message: /mine/ });
    t.deepEqual(readdirSync(d), ['mine']);
  });
});

test.serial('directories that no entry names are made on the way', (t) => {
  inDirectory((d) => {
    const { problems } = restore(join(d, 'new/target'), [{ path: 'a/b/c/f' }, { path: 'a/b/g' }]);
    t.deepEqual(problems, []);
    t.deepEqual(readdirSync(join(d, 'new/target/a/b')), ['c', 'g']);
  });
});

test.serial('a directory keeps its time and a mode that forbids writing', (t) => {
  inDirectory((d) => {
    restore(join(d, 't'), [
      { path: 'dir', type: 'directory', mode: 0o500, mtimeNs: 1_000_000_001n },
      { path: 'dir/f' },
      { path: '.', type: 'directory', mode: 0o710, mtimeNs: 5n },
    ]);
    const stat = statSync(join(d, 't/dir'), { bigint: true });
    t.is(stat.mtimeNs, 1_000_000_001n);
    t.is(Number(stat.mode) & 0o777, 0o500);
    t.is(statSync(join(d, 't'), { bigint: true }).mtimeNs, 5n);
    t.is(statSync(join(d, 't')).mode & 0o777, 0o710);
  });
});

const refusal = { code: 'EACCES', message: /refused.*symlink or no directory.*do not trust/ };

test.serial('trap 14: a planted symlink to a directory leads nowhere', (t) => {
  inDirectory((d) => {
    mkdirSync(join(d, 'outside'));
    for (const link of [join(d, 'outside'), '../outside', '.']) {
      const target = join(d, `t-${link.length}`);
      const plant: Change = { path: 'a/way', type: 'symlink', link };
      t.throws(() => restore(target, [plant, { path: 'a/way/f' }]), refusal);
      t.deepEqual(readdirSync(join(d, 'outside')), []);
    }
  });
});

test.serial('a planted symlink is not taken for a directory, at once or at the end', (t) => {
  inDirectory((d) => {
    mkdirSync(join(d, 'outside'), { mode: 0o700 });
    const plant: Change = { path: 'way', type: 'symlink', link: '../outside' };
    const claim: Change = { path: 'way', type: 'directory', mode: 0o777, mtimeNs: 1n };
    t.throws(() => restore(join(d, 't'), [plant, claim]), refusal);
    t.is(statSync(join(d, 'outside')).mode & 0o777, 0o700);
  });
});

test.serial('trap 14: a planted symlink is not written through', (t) => {
  inDirectory((d) => {
    writeFileSync(join(d, 'victim'), 'safe', { mode: 0o600 });
    for (const change of [
      {},
      { type: 'fifo' },
      { type: 'symlink', link: 'x' },
    ] as Partial<Change>[]) {
      const target = join(d, `t-${change.type}`);
      const plant: Change = { path: 'f', type: 'symlink', link: '../victim' };
      const { problems } = restore(target, [plant, { ...change, path: 'f', mode: 0o777 }]);
      t.is(problems.length, 1);
      t.is(readlinkSync(join(target, 'f')), '../victim');
    }
    t.is(readFileSync(join(d, 'victim'), 'utf8'), 'safe');
    t.is(statSync(join(d, 'victim')).mode & 0o777, 0o600);
  });
});

test.serial('trap 14: a hard link through a planted symlink leads nowhere', (t) => {
  inDirectory((d) => {
    mkdirSync(join(d, 'outside'));
    writeFileSync(join(d, 'outside/secret'), 's');
    const plant: Change = { path: 'way', type: 'symlink', link: '../outside' };
    const link: Change = { path: 'f', type: 'hardlink', link: 'way/secret' };
    t.throws(() => restore(join(d, 't'), [plant, link]), refusal);
    t.false(existsSync(join(d, 't/f')));
  });
});

test.serial('a hard link to a symlink is one to the symlink, not to its target', (t) => {
  inDirectory((d) => {
    writeFileSync(join(d, 'secret'), 's');
    restore(join(d, 't'), [
      { path: 's', type: 'symlink', link: '../secret' },
      { path: 'f', type: 'hardlink', link: 's' },
    ]);
    t.true(lstatSync(join(d, 't/f')).isSymbolicLink());
    t.is(statSync(join(d, 'secret')).nlink, 1);
  });
});

test.serial('a hard link without its first name is reported and makes nothing', (t) => {
  inDirectory((d) => {
    const link: Change = { path: 'f', type: 'hardlink', link: 'not/selected' };
    const { problems } = restore(join(d, 't'), [link]);
    t.regex(problems[0]?.message ?? '', /first name, not\/selected, is not there/);
    t.deepEqual(readdirSync(join(d, 't')), []);
  });
});

test.serial('a hard link between two deep places, with more parents than are held open', (t) => {
  inDirectory((d) => {
    const deep = (name: string) => Array.from({ length: 90 }, () => name).join('/');
    const before = openDescriptors();
    const { problems } = restore(join(d, 't'), [
      { path: `${deep('a')}/f` },
      { path: `${deep('b')}/g`, type: 'hardlink', link: `${deep('a')}/f` },
    ]);
    t.deepEqual(problems, []);
    t.is(statSync(join(d, 't', deep('b'), 'g')).nlink, 2);
    t.is(openDescriptors(), before);
  });
});

test.serial('a name that comes twice is reported, the first stays', (t) => {
  inDirectory((d) => {
    const { problems } = restore(join(d, 't'), [
      { path: 'f', size: 3 },
      { path: 'f', size: 5 },
    ]);
    // The digest of the first is wrong here, too: the entries say that the files are empty.
    t.deepEqual(
      problems.map((p) => p.code),
      ['EBADMSG', 'EEXIST'],
    );
    t.is(readFileSync(join(d, 't/f'), 'utf8'), 'ddd');
  });
});

test.serial('trap 14: an entry below a file is refused', (t) => {
  inDirectory((d) => {
    t.throws(() => restore(join(d, 't'), [{ path: 'f' }, { path: 'f/g' }]), refusal);
  });
});

test.serial('without mknod a FIFO is reported and the rest is restored', (t) => {
  inDirectory((d) => {
    const native = { setTimesNs: testNative.setTimesNs };
    const { problems } = restore(
      join(d, 't'),
      [{ path: 'p', type: 'fifo' }, { path: 'q' }],
      native,
    );
    t.deepEqual(
      problems.map((p) => p.code),
      ['ENOSYS'],
    );
    t.deepEqual(readdirSync(join(d, 't')), ['q']);
  });
});

test.serial('a time that cannot be set is a problem of one entry', (t) => {
  inDirectory((d) => {
    const { problems } = restore(join(d, 't'), [
      { path: 'f', mtimeNs: 2n ** 63n },
      { path: 'd', type: 'directory', mtimeNs: -(2n ** 63n) - 1n },
      { path: 'g' },
    ]);
    t.deepEqual(
      problems.map((p) => p.code),
      ['EOVERFLOW', 'EOVERFLOW'],
    );
    t.is(statSync(join(d, 't/g'), { bigint: true }).mtimeNs, 1_700_000_000_123_456_789n);
  });
});

test.serial('owners that may not be set are counted, and take set-id bits with them', (t) => {
  if (isRoot) {
    t.log('skipped: root may set every owner');
    return t.pass();
  }
  inDirectory((d) => {
    const { report } = restore(join(d, 't'), [{ path: 'f', uid: 0, gid: 0, mode: 0o6755 }]);
    t.is(report.ownersNotSet, 1);
    t.is(statSync(join(d, 't/f')).mode & 0o7777, 0o755);
  });
});

/** A library with one set of a tree with three files. */
function withSet(body: (library: Library, directory: string) => void): void {
  inDirectory((d) => {
    mkdirSync(join(d, 'source'));
    for (const name of ['a', 'b', 'c']) writeFileSync(join(d, 'source', name), name.repeat(3000));
    const library = Library.open(join(d, 'library'), { lockFile });
    const pipe = new MemoryPipe();
    sendTree(pipe, [join(d, 'source')]);
    const set = library.beginSet({ host: 'h', roots: [d], stpd: '0' });
    storeSet(pipe, set);
    set.commit();
    body(library, d);
  });
}

function receive(pipe: MemoryPipe, target: string): Restored {
  const problems: RestoreProblem[] = [];
  const onProblem = (p: RestoreProblem) => problems.push(p);
  const report = restoreSet(pipe, new RestoreWriter(target, { native: testNative, onProblem }));
  return { problems, report };
}

test.serial('a flipped bit in the media is named, and the rest is restored', (t) => {
  withSet((library, d) => {
    const set = library.openSet('latest');
    const bit = [...set.manifest()].find(
      (e) => e.kind === 'entry' && e.path.toString().endsWith('/b'),
    ) as ManifestEntry;
    const fd = openSync(set.mediaPath, 'r+');
    writeSync(fd, 'c', bit.dataOffset + 1000);
    closeSync(fd);
    const pipe = new MemoryPipe();
    sendSet(pipe, set);
    const { problems, report } = receive(pipe, join(d, 't'));
    t.deepEqual(
      problems.map((p) => p.code),
      ['EBADMSG'],
    );
    t.regex(problems[0]?.message ?? '', /\/b is damaged/);
    t.is(report.entries, 4);
  });
});

test.serial('a damaged manifest is not sent to its end', (t) => {
  withSet((library, d) => {
    const set = library.openSet('latest');
    const text = readFileSync(set.manifestPath, 'latin1');
    writeFileSync(set.manifestPath, text.replace('"size":3000', '"size":9000'));
    const pipe = new MemoryPipe();
    t.throws(() => sendSet(pipe, set), {
      code: 'EBADMSG',
      message: /manifest.jsonl does not have/,
    });
    t.throws(() => receive(pipe, join(d, 't')), { code: 'EPROTO' });
  });
});

const stream = (fill: (f: FrameWriter) => void): MemoryPipe => {
  const pipe = new MemoryPipe();
  const frames = new FrameWriter(pipe);
  fill(frames);
  frames.flush();
  return pipe;
};
const line = (change: Change, dataOffset = 512) => {
  const e = entryOf(change);
  return Buffer.from(encodeEntry(e, dataOffset - 512, dataOffset, e.blake3, false));
};
const end = encodeTotals({ entries: 0, bytes: 0, warnings: 0 });

const lies: [string, (f: FrameWriter) => void, RegExp][] = [
  [
    'a path that leads out',
    (f) => f.frame(FRAME_ENTRY, line({ path: '../out' })),
    /entry 1 is refused.*\.\./,
  ],
  ['an absolute path', (f) => f.frame(FRAME_ENTRY, line({ path: '/out' })), /is absolute/],
  [
    'a file whose data does not follow',
    (f) => {
      f.frame(FRAME_ENTRY, line({ path: 'f', size: 4 }));
      f.frame(FRAME_END, end);
    },
    /data of a file of 4 bytes does not follow/,
  ],
  [
    'a file with more data than it has',
    (f) => {
      f.frame(FRAME_ENTRY, line({ path: 'f', size: 4 }));
      f.frame(FRAME_DATA, Buffer.alloc(5));
    },
    /data of a file of 4 bytes does not follow/,
  ],
  [
    'data that nobody asked for',
    (f) => f.frame(FRAME_DATA, Buffer.alloc(5)),
    /DATA frame has no place/,
  ],
  [
    'wrong totals',
    (f) => {
      f.frame(FRAME_ENTRY, line({ path: 'f' }));
      f.frame(FRAME_END, end);
    },
    /END frame says/,
  ],
  ['no END', (f) => f.frame(FRAME_ENTRY, line({ path: 'f' })), /ended before its END/],
];
for (const [name, lie, message] of lies) {
  test.serial(`the restore ends at ${name}`, (t) => {
    inDirectory((d) => {
      const before = openDescriptors();
      t.throws(() => receive(stream(lie), join(d, 'deep/t')), { code: 'EPROTO', message });
      t.deepEqual(readdirSync(d), ['deep']);
      t.deepEqual(readdirSync(join(d, 'deep')), ['t']);
      t.is(openDescriptors(), before);
    });
  });
}

test.serial('a file that cannot be made does not lose the stream its place', (t) => {
  inDirectory((d) => {
    const data = Buffer.from('data');
    const blake = blake3(data).toString('hex');
    const pipe = stream((f) => {
      f.frame(FRAME_ENTRY, line({ path: 'f', type: 'symlink', link: 'x' }));
      f.frame(FRAME_ENTRY, line({ path: 'f', size: 4, blake3: blake }, 1024));
      f.frame(FRAME_DATA, data);
      f.frame(FRAME_ENTRY, line({ path: 'g', size: 4, blake3: blake }, 2048));
      f.frame(FRAME_DATA, data);
      f.frame(FRAME_END, encodeTotals({ entries: 3, bytes: 8, warnings: 0 }));
    });
    const { problems } = receive(pipe, join(d, 't'));
    t.deepEqual(
      problems.map((p) => p.code),
      ['EEXIST'],
    );
    t.is(readFileSync(join(d, 't/g'), 'utf8'), 'data');
  });
});

test.serial('a symlink as the target, or on its way, is refused', (t) => {
  inDirectory((d) => {
    mkdirSync(join(d, 'real'));
    symlinkSync('real', join(d, 'alias'));
    for (const target of ['alias', 'alias/below']) {
      t.throws(() => restore(join(d, target), [{ path: 'f' }]), {
        code: 'EACCES',
        message: /alias.* is refused as a target: alias on its way is a symlink/,
      });
    }
    t.deepEqual(readdirSync(join(d, 'real')), []);
  });
});

test('a full disk ends the restore, and is named', (t) => {
  inDirectory((d) => {
    const full = { ...testNative };
    full.setTimesNs = () => {
      throw stpError('ENOSPC', 'no space left', 'write');
    };
    t.throws(() => restore(join(d, 't'), [dataFile('f', 3), dataFile('g', 3)], full), {
      code: 'ENOSPC',
      message: /t\/f could not be restored: the disk of the target is full; what was restored/,
    });
    t.deepEqual(readdirSync(join(d, 't')), ['f']);
  });
});
