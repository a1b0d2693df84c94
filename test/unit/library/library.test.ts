import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import { xxh3 } from '@node-rs/xxhash';
import test from 'ava';
import { FRAME_END, FRAME_ENTRY, FRAME_MEDIA, FrameWriter } from '../../../src/library/frames.js';
import { Library } from '../../../src/library/library.js';
import { encodeEntry } from '../../../src/library/manifest.js';
import { sendTree } from '../../../src/library/send-tree.js';
import type { SetWriter } from '../../../src/library/set-writer.js';
import { storeSet } from '../../../src/library/store-set.js';
import { encodeSummary, readSummary, SUMMARY_FILE } from '../../../src/library/summary.js';
import { isRoot } from './hard-tree.js';
import { inDirectory, lockFile, MemoryPipe } from './stand-ins.js';

const meta = { host: 'here', roots: ['/x'], stpd: '0.0.0' };
const open = (directory: string) => Library.open(directory, { lockFile });

/** A library in a directory of its own, and a source with one file in it. */
function withLibrary(body: (library: Library, source: string, directory: string) => void): void {
  inDirectory((directory) => {
    const source = join(directory, 'source');
    mkdirSync(source);
    writeFileSync(join(source, 'file'), 'content');
    body(open(join(directory, 'library')), source, directory);
  });
}

function fill(set: SetWriter, source: string): void {
  const pipe = new MemoryPipe();
  sendTree(pipe, [source]);
  storeSet(pipe, set);
}

const store = (library: Library, source: string): string => {
  const set = library.beginSet(meta);
  fill(set, source);
  return set.commit().id;
};

test('a library is made private', (t) => {
  inDirectory((directory) => {
    mkdirSync(join(directory, 'there'), { mode: 0o755 });
    for (const name of ['new/below', 'there']) {
      open(join(directory, name));
      t.is(statSync(join(directory, name)).mode & 0o777, 0o700);
      t.deepEqual(readdirSync(join(directory, name)).sort(), [
        'forgotten',
        'sets',
        'stpd-library.json',
        'tmp',
      ]);
    }
  });
});

test('a directory with something else in it is refused and left alone', (t) => {
  inDirectory((directory) => {
    writeFileSync(join(directory, 'thesis'), '');
    t.throws(() => open(directory), { code: 'ENOTEMPTY', message: /thesis/ });
    t.deepEqual(readdirSync(directory), ['thesis']);
  });
});

test('a library that is a file is refused and left alone', (t) => {
  inDirectory((directory) => {
    const file = join(directory, 'file');
    writeFileSync(file, 'mine');
    t.throws(() => open(file), {
      code: 'ENOTDIR',
      message: /file is not a directory; name another/,
    });
    t.is(readFileSync(file, 'utf8'), 'mine');
  });
});

test('a library of a later version is refused', (t) => {
  withLibrary((library) => {
    const marker = '{"format":"stpd-library","version":2}';
    writeFileSync(join(library.directory, 'stpd-library.json'), marker);
    t.throws(() => open(library.directory), { code: 'EINVAL', message: /version 2/ });
  });
});

test('a set is listed when it is committed, not before', (t) => {
  withLibrary((library, source) => {
    const set = library.beginSet(meta);
    fill(set, source);
    t.deepEqual(library.list(), { sets: [], damaged: [] });
    t.deepEqual(open(library.directory).list().sets, []);
    const summary = set.commit();
    t.deepEqual(library.list(), { sets: [summary], damaged: [] });
    t.deepEqual(readdirSync(join(library.directory, 'tmp')), []);
    t.is(summary.entries, 2);
    t.is(summary.bytes, 7);
  });
});

test('the summary has the digests of the files', (t) => {
  withLibrary((library, source) => {
    const stored = library.openSet(store(library, source));
    const digest = (path: string) => blake3(readFileSync(path)).toString('hex');
    const media = xxh3.xxh64(readFileSync(stored.mediaPath));
    t.is(stored.summary.mediaXxh3, media.toString(16).padStart(16, '0'));
    t.is(stored.summary.manifestBlake3, digest(stored.manifestPath));
    t.is(stored.summary.manifestBytes, statSync(stored.manifestPath).size);
    t.is(stored.summary.mediaBytes, statSync(stored.mediaPath).size);
  });
});

test('an aborted set leaves nothing, and may be aborted twice', (t) => {
  withLibrary((library, source) => {
    const kept = store(library, source);
    const set = library.beginSet(meta);
    set.abort();
    set.abort();
    t.deepEqual(
      library.list().sets.map((s) => s.id),
      [kept],
    );
    t.deepEqual(readdirSync(join(library.directory, 'tmp')), []);
  });
});

test('sets are found by id, by the beginning of one, and as latest', (t) => {
  withLibrary((library, source) => {
    t.throws(() => library.openSet('latest'), { code: 'ENOENT', message: /no set yet/ });
    store(library, source);
    const last = store(library, source);
    t.is(library.openSet(last).id, last);
    t.is(library.openSet('latest').id, last);
    t.is(library.openSet(last.slice(0, -1)).id, last);
    t.throws(() => library.openSet('2'), { code: 'EINVAL', message: /2 sets begin with 2/ });
    t.throws(() => library.openSet('nothing'), { code: 'ENOENT' });
    t.throws(() => library.openSet(''), { code: 'ENOENT' });
    t.throws(() => library.openSet('../tmp'), { code: 'ENOENT' });
  });
});

test('sets of one second are in their order, and the latest of them is the latest', (t) => {
  withLibrary((library, source, directory) => {
    const ids: string[] = [];
    for (let i = 0; i < 8; i++) {
      const id = store(library, source);
      // Not when this machine got to it: all in one second, a while apart, names against the order.
      const name = `20260102T030405Z-${'fedcba98'[i]}00000`;
      const [from, to] = [id, name].map((set) => join(directory, 'library/sets', set));
      const startedAt = `2026-01-02T03:04:05.${i}00Z`;
      const summary = { ...readSummary(from as string, id), id: name, startedAt };
      writeFileSync(join(from as string, SUMMARY_FILE), encodeSummary(summary));
      renameSync(from as string, to as string);
      ids.push(name);
      t.is(library.openSet('latest').id, name);
    }
    const listed = library.list().sets.map(({ id }) => id);
    t.deepEqual(listed, ids);
  });
});

test('what a dead run left is removed, what a live one holds is not', (t) => {
  withLibrary((library, source) => {
    const live = library.beginSet(meta);
    const room = join(library.directory, 'tmp');
    const dead = '20200101T000000Z-abcdef';
    mkdirSync(join(room, `${dead}.partial`));
    writeFileSync(join(room, `${dead}.partial/media.tar`), 'half');
    writeFileSync(join(room, `${dead}.lock`), '');
    writeFileSync(join(room, 'not-ours'), '');
    const again = open(library.directory);
    t.deepEqual(readdirSync(room).sort(), [`${live.id}.lock`, `${live.id}.partial`, 'not-ours']);
    fill(live, source);
    t.is(live.commit().id, again.openSet('latest').id);
  });
});

test('a set whose process was killed is removed by the next', (t) => {
  withLibrary((library) => {
    const program = `
      import { Library } from ${JSON.stringify(new URL('../../../src/library/library.js', import.meta.url).href)};
      import { native } from ${JSON.stringify(new URL('../../../src/native.js', import.meta.url).href)};
      const library = Library.open(process.argv[1], { lockFile: (fd) => native().lockFile(fd) });
      library.beginSet({ host: 'h', roots: [], stpd: '0' });
      process.kill(process.pid, 'SIGKILL');`;
    const args = ['--input-type=module', '-e', program, library.directory];
    const died = spawnSync(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    t.is(died.signal, 'SIGKILL');
    t.is(readdirSync(join(library.directory, 'tmp')).length, 2);
    library.beginSet(meta).abort();
    t.deepEqual(readdirSync(join(library.directory, 'tmp')), []);
  });
});

test('a lock file that a cleaner removed before it was locked is not relied on', (t) => {
  withLibrary((library) => {
    let removed = '';
    const meddled = Library.open(library.directory, {
      lockFile: (fd) => {
        if (removed === '') {
          removed = readlinkSync(`/proc/self/fd/${fd}`);
          rmSync(removed);
        }
        return lockFile(fd);
      },
    });
    const set = meddled.beginSet(meta);
    t.false(removed.includes(set.id));
    t.is(readdirSync(join(library.directory, 'tmp')).length, 2);
    set.abort();
  });
});

test('a damaged summary is named beside the sound ones', (t) => {
  withLibrary((library, source) => {
    const ids = [store(library, source), store(library, source)].sort();
    writeFileSync(join(library.directory, 'sets', ids[0] as string, 'set.json'), '{}');
    const { sets, damaged } = library.list();
    t.deepEqual(
      sets.map((s) => s.id),
      [ids[1]],
    );
    t.is(damaged[0]?.id, ids[0]);
    t.regex(damaged[0]?.reason ?? '', /set\.json is damaged: its end/);
  });
});

test('media of the wrong size are not opened', (t) => {
  withLibrary((library, source) => {
    const set = library.openSet(store(library, source));
    set.openMedia().close();
    truncateSync(set.mediaPath, 100);
    t.throws(() => set.openMedia(), { code: 'EINVAL', message: /damaged/ });
  });
});

const facts = {
  path: Buffer.from('f'),
  type: 'fifo' as const,
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0,
  mtimeNs: 0n,
  ctimeNs: 0n,
  ino: 0n,
  dev: 0n,
  link: null,
  major: 0,
  minor: 0,
};
const entry = (header: number, data: number) =>
  Buffer.from(encodeEntry(facts, header, data, null, false));
const end = (entries: number) => Buffer.from(JSON.stringify({ entries, bytes: 0, warnings: 0 }));
const block = Buffer.alloc(512);

const lies: [string, (f: FrameWriter) => void, RegExp][] = [
  [
    'an entry without media',
    (f) => f.frame(FRAME_ENTRY, entry(0, 512)),
    /behind the media received/,
  ],
  [
    'a hole before the first entry',
    (f) => {
      f.frame(FRAME_MEDIA, Buffer.alloc(1024));
      f.frame(FRAME_ENTRY, entry(512, 1024));
    },
    /f is not at 0/,
  ],
  [
    'two entries on one place',
    (f) => {
      f.frame(FRAME_MEDIA, block);
      f.frame(FRAME_ENTRY, Buffer.concat([entry(0, 512), entry(0, 512)]));
    },
    /line 3 of the manifest is refused: f is not at 512/,
  ],
  [
    'a warning among entries',
    (f) => f.frame(FRAME_ENTRY, Buffer.from('{"warning":"EIO","path":"a","message":""}\n')),
    /kind entry/,
  ],
  [
    'a trailer among entries',
    (f) =>
      f.frame(
        FRAME_ENTRY,
        Buffer.from(
          `{"entries":0,"bytes":0,"mediaBytes":0,"mediaXxh3":"2d06800538d394c2","warnings":0}\n`,
        ),
      ),
    /kind entry/,
  ],
  ['a line without end', (f) => f.frame(FRAME_ENTRY, Buffer.from('{}')), /has no end/],
  ['a line that is not JSON', (f) => f.frame(FRAME_ENTRY, Buffer.from('?\n')), /not JSON/],
  ['totals that are wrong', (f) => f.frame(FRAME_END, end(1)), /END frame says/],
  ['no END', (f) => f.frame(FRAME_MEDIA, block), /ended before its END/],
  ['a DATA frame', (f) => f.frame(5, block), /DATA frame has no place/],
];
for (const [name, lie, message] of lies) {
  test(`no set comes of ${name}`, (t) => {
    withLibrary((library) => {
      const pipe = new MemoryPipe();
      const frames = new FrameWriter(pipe);
      lie(frames);
      frames.flush();
      t.throws(() => storeSet(pipe, library.beginSet(meta)), { code: 'EPROTO', message });
      t.deepEqual(library.list().sets, []);
      t.deepEqual(readdirSync(join(library.directory, 'tmp')), []);
    });
  });
}

test('no set comes of media that no entry names', (t) => {
  withLibrary((library) => {
    const pipe = new MemoryPipe();
    const frames = new FrameWriter(pipe);
    frames.frame(FRAME_MEDIA, block);
    frames.frame(FRAME_END, end(0));
    frames.flush();
    const set = library.beginSet(meta);
    storeSet(pipe, set);
    t.throws(() => set.commit(), { code: 'EPROTO', message: /512 bytes of media that no entry/ });
    t.deepEqual(readdirSync(join(library.directory, 'tmp')), []);
  });
});

test('a full disk ends the set with the reason and leaves earlier sets whole', (t) => {
  inDirectory((directory) => {
    const disk = join(directory, 'disk');
    mkdirSync(disk);
    const mounted =
      isRoot && spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', disk]).status === 0;
    if (!mounted) {
      t.log('skipped: no right to mount a small tmpfs');
      return t.pass();
    }
    try {
      const source = join(directory, 'source');
      mkdirSync(source);
      writeFileSync(join(source, 'small'), Buffer.alloc(300_000, 's'));
      const library = open(join(disk, 'library'));
      const kept = store(library, source);
      const media = readFileSync(library.openSet(kept).mediaPath);
      writeFileSync(join(source, 'large'), Buffer.alloc(2_000_000, 'l'));
      t.throws(() => store(library, source), {
        code: 'ENOSPC',
        message: /was given up.*earlier sets are untouched.*free space/,
      });
      t.deepEqual(
        library.list().sets.map((s) => s.id),
        [kept],
      );
      t.deepEqual(readdirSync(join(library.directory, 'tmp')), []);
      t.deepEqual(readFileSync(library.openSet('latest').mediaPath), media);
    } finally {
      spawnSync('umount', [disk]);
    }
  });
});

test('descriptors are given back', (t) => {
  withLibrary((library, source) => {
    const probe = () => {
      const fd = openSync('/dev/null', 'r');
      closeSync(fd);
      return fd;
    };
    store(library, source);
    const before = probe();
    store(library, source);
    library.beginSet(meta).abort();
    [...library.openSet('latest').manifest()];
    t.is(probe(), before);
    t.true(existsSync(library.directory));
  });
});
