/** What a restore does with what is in the target already, and where else an entry may go. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { blake3 } from '@napi-rs/blake-hash';
import test from 'ava';
import { choicesOf, PLAIN_RESTORE } from '../../../src/backup/restore-order.js';
import { ReplacedFiles } from '../../../src/library/replaced-files.js';
import { type Action, RestoreWriter } from '../../../src/library/restore.js';
import type { Overwrite, RestoreChoices } from '../../../src/library/restore-plan.js';
import { native } from '../../../src/native.js';
import { type Change, dataFile, entryOf, type Restored, restore } from './entries.js';
import { isRoot } from './hard-tree.js';
import { inDirectory, testNative } from './stand-ins.js';

const MODES = ['never', 'always', 'if-newer', 'if-changed'] as const;
/** Of entries that say nothing else. */
const SET_SECONDS = 1_700_000_000;

const into = (target: string, changes: Change[], choices: RestoreChoices): Restored =>
  restore(target, changes, testNative, choices);

/** A file that was there before, of another content, so many seconds after the set's. */
function before(path: string, seconds: number, content = 'mine'): void {
  writeFileSync(path, content);
  utimesSync(path, SET_SECONDS + seconds, SET_SECONDS + seconds);
}

/** Nothing that is not in its place yet. */
const leftovers = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.includes('.stp-restore-'),
  );

const codes = ({ problems }: Restored): string[] => problems.map(({ code }) => code);

const outcomes: readonly (readonly [Overwrite, number, string])[] = [
  ['never', -100, 'mine'],
  ['always', -100, 'ddd'],
  ['always', 100, 'ddd'],
  ['if-newer', -100, 'ddd'],
  ['if-newer', 100, 'mine'],
  ['if-changed', 100, 'ddd'],
];
for (const [overwrite, seconds, content] of outcomes) {
  const age = seconds < 0 ? 'an older' : 'a newer';
  test.serial(`${overwrite}: ${age} file in the target is then: ${content}`, (t) => {
    inDirectory((d) => {
      before(join(d, 'f'), seconds);
      const { report, problems } = into(d, [dataFile('f', 3), dataFile('g', 2)], { overwrite });
      t.deepEqual(problems, []);
      t.is(readFileSync(join(d, 'f'), 'utf8'), content);
      t.is(readFileSync(join(d, 'g'), 'utf8'), 'dd');
      const replaced = content === 'mine' ? 0 : 1;
      t.like(report, { made: 1, replaced, left: 1 - replaced });
      t.deepEqual(leftovers(d), []);
    });
  });
}

test.serial('if-changed leaves what agrees, and sees each thing that does not', (t) => {
  inDirectory((d) => {
    const entry = dataFile('f', 3);
    const again = (change: Partial<Change> = {}): string => {
      const { report } = into(d, [{ ...entry, ...change }], { overwrite: 'if-changed' });
      return report.left === 1 ? 'left' : 'replaced';
    };
    t.is(again(), 'replaced', 'made');
    t.is(again(), 'left');
    t.is(again({ mode: 0o600 }), 'replaced');
    t.is(again({ mode: 0o600, mtimeNs: 1_700_000_000_123_456_788n }), 'replaced');
    t.is(again({ type: 'symlink', link: 'x', size: 0, stored: 0 }), 'replaced');
    t.is(again({ type: 'symlink', link: 'x', size: 0, stored: 0, mode: 0o777 }), 'left');
    t.is(again({ type: 'symlink', link: 'y', size: 0, stored: 0 }), 'replaced');
    t.is(again({ type: 'fifo', size: 0, stored: 0 }), 'replaced');
    t.is(again({ type: 'fifo', size: 0, stored: 0 }), 'left');
    if (isRoot) t.is(again({ type: 'fifo', size: 0, stored: 0, uid: 12345 }), 'replaced');
  });
});

test.serial('a replaced file is another one: a second name of the old keeps the old', (t) => {
  inDirectory((d) => {
    before(join(d, 'f'), 0);
    linkSync(join(d, 'f'), join(d, 'second'));
    into(d, [dataFile('f', 3)], { overwrite: 'always' });
    t.is(readFileSync(join(d, 'f'), 'utf8'), 'ddd');
    t.is(readFileSync(join(d, 'second'), 'utf8'), 'mine');
  });
});

test.serial('data without its digest replaces nothing', (t) => {
  inDirectory((d) => {
    before(join(d, 'f'), 0);
    const broken = { ...dataFile('f', 3), blake3: 'ab'.repeat(32) };
    const result = into(d, [broken, { ...broken, path: 'new' }], { overwrite: 'always' });
    t.deepEqual(codes(result), ['EBADMSG', 'EBADMSG']);
    t.deepEqual(readdirSync(d), ['f']);
    t.is(readFileSync(join(d, 'f'), 'utf8'), 'mine');
  });
});

test.serial('a stream that breaks within a file leaves the old one, and nothing half-made', (t) => {
  inDirectory((d) => {
    before(join(d, 'f'), 0);
    const crash = new URL('./restore-crash.js', import.meta.url);
    for (const how of ['throw', 'kill']) {
      const child = spawnSync(process.execPath, [fileURLToPath(crash), d, how]);
      t.is(how === 'kill' ? child.signal : child.status, how === 'kill' ? 'SIGKILL' : 1);
      t.is(readFileSync(join(d, 'f'), 'utf8'), 'mine');
      // A process that was killed could not tidy up; the names tell what they are.
      t.is(leftovers(d).length, how === 'kill' ? 1 : 0, `${child.stderr}`);
    }
  });
});

test('files that wait for the disk: in their places at the end, and before a second name needs one', (t) => {
  inDirectory((d) => {
    const names = Array.from({ length: 300 }, (_, i) => `f${String(i).padStart(3, '0')}`);
    for (const name of names) before(join(d, name), 0);
    mkdirSync(join(d, 'f299x'));
    const files: Change[] = names.map((name) => dataFile(name, 3));
    const link: Change = { ...dataFile('second', 0), type: 'hardlink', link: 'f010' };
    const directory = dataFile('f299x', 3);
    const result = into(d, [...files.slice(0, 20), link, ...files.slice(20), directory], {
      overwrite: 'always',
    });
    t.deepEqual(codes(result), []);
    for (const name of names) t.is(readFileSync(join(d, name), 'utf8'), 'ddd', name);
    t.is(readFileSync(join(d, 'f299x'), 'utf8'), 'ddd');
    t.is(lstatSync(join(d, 'second')).ino, lstatSync(join(d, 'f010')).ino);
    t.deepEqual(leftovers(d), []);
    t.is(result.report?.replaced, 301);
  });
});

test('what waits is given up when the restore is', (t) => {
  inDirectory((d) => {
    for (const name of ['a', 'b']) before(join(d, name), 0);
    const writer = new RestoreWriter(d, {
      native: testNative,
      onProblem() {},
      overwrite: 'always',
    });
    for (const name of ['a', 'b']) {
      writer.entry(entryOf(dataFile(name, 3)), (fd) => {
        writeSync(fd, 'ddd');
        return blake3('ddd').toString('hex');
      });
    }
    t.is(leftovers(d).length, 2);
    t.is(readFileSync(join(d, 'a'), 'utf8'), 'mine');
    writer.close();
    t.deepEqual(leftovers(d), []);
    t.is(readFileSync(join(d, 'b'), 'utf8'), 'mine');
  });
});

test('a replacement is renamed after the disk has it, and not at all if that fails', (t) => {
  const done: string[] = [];
  inDirectory((d) => {
    const batch = new ReplacedFiles((fds) => {
      done.push(`sync ${fds}`);
      return native().syncFiles(fds);
    });
    writeFileSync(join(d, 'a'), '');
    // What was opened for its path alone cannot be synchronised.
    const O_PATH = 0o10000000;
    const fds = [openSync(join(d, 'a'), O_PATH), openSync(join(d, 'b'), 'w')];
    for (const fd of fds) {
      batch.add({
        fd,
        bytes: 1,
        place: () => done.push(`place ${fd}`),
        discard: () => done.push(`discard ${fd}`),
        onFailure: (e) => done.push(`failure ${(e as { code: string }).code}`),
      });
    }
    const [first, second] = fds as [number, number];
    t.deepEqual(done, []);
    // What the disk did not take takes no other's place.
    batch.flush();
    t.deepEqual(done, [
      `sync ${first},${second}`,
      `discard ${first}`,
      'failure EBADF',
      `place ${second}`,
    ]);
  });
});

for (const overwrite of MODES) {
  test.serial(
    `${overwrite}: a symlink in the target where a directory is expected leads nowhere`,
    (t) => {
      inDirectory((d) => {
        mkdirSync(join(d, 'outside'), { mode: 0o700 });
        writeFileSync(join(d, 'outside/f'), 'safe');
        mkdirSync(join(d, 't'));
        symlinkSync('../outside', join(d, 't/way'));
        const names: Change[] = [
          dataFile('way/f', 3),
          dataFile('way/deeper/g', 3),
          dataFile('z', 1),
        ];
        const selected = into(join(d, 't'), names, { overwrite });
        t.deepEqual(codes(selected), ['EACCES', 'EACCES']);
        t.regex(
          selected.problems[0]?.message ?? '',
          /way\/f is not restored: way on its way is a sym/,
        );
        t.is(readlinkSync(join(d, 't/way')), '../outside');
        t.is(readFileSync(join(d, 't/z'), 'utf8'), 'd');

        const directory: Change = {
          path: 'way',
          type: 'directory',
          mode: 0o777,
          mtimeNs: 2n ** 62n,
        };
        const whole = into(join(d, 't'), [directory, ...names], { overwrite });
        const isReplaced = overwrite !== 'never';
        t.deepEqual(codes(whole), isReplaced ? [] : ['EACCES', 'EACCES']);
        t.is(lstatSync(join(d, 't/way')).isDirectory(), isReplaced);
        t.deepEqual(readdirSync(join(d, 'outside')), ['f']);
        t.is(readFileSync(join(d, 'outside/f'), 'utf8'), 'safe');
        t.is(statSync(join(d, 'outside')).mode & 0o777, 0o700);
      });
    },
  );

  test.serial(`${overwrite}: a symlink that the set itself plants leads nowhere`, (t) => {
    inDirectory((d) => {
      mkdirSync(join(d, 'outside'));
      writeFileSync(join(d, 'outside/secret'), 'safe');
      const plant: Change = { path: 'way', type: 'symlink', link: '../outside' };
      const entries: Change[] = [
        plant,
        dataFile('way/f', 3),
        { path: 'linked', type: 'hardlink', link: 'way/secret' },
        { path: 'way/back', type: 'hardlink', link: 'way/secret' },
        { path: 'way/sub', type: 'directory' },
      ];
      const result = into(join(d, 't'), entries, { overwrite });
      t.deepEqual(codes(result), ['EACCES', 'EACCES', 'EACCES', 'EACCES']);
      t.deepEqual(readdirSync(join(d, 't')), ['way']);
      t.deepEqual(readdirSync(join(d, 'outside')), ['secret']);
      t.is(statSync(join(d, 'outside/secret')).nlink, 1);
    });
  });
}

test.serial('a symlink that becomes a directory and one again is never followed', (t) => {
  inDirectory((d) => {
    mkdirSync(join(d, 'outside'), { mode: 0o700 });
    const plant: Change = { path: 'way', type: 'symlink', link: '../outside' };
    const claim: Change = { path: 'way', type: 'directory', mode: 0o777 };
    const result = into(join(d, 't'), [claim, plant, dataFile('way/f', 1)], {
      overwrite: 'always',
    });
    // The last claim of a name counts; the directory's metadata finds a symlink in its place.
    t.deepEqual(codes(result), ['EACCES', 'EACCES']);
    t.is(statSync(join(d, 'outside')).mode & 0o777, 0o700);
    t.deepEqual(readdirSync(join(d, 'outside')), []);
  });
});

test.serial('a symlink in the place of a file is replaced, not written through', (t) => {
  inDirectory((d) => {
    writeFileSync(join(d, 'victim'), 'safe', { mode: 0o600 });
    mkdirSync(join(d, 't'));
    symlinkSync('../victim', join(d, 't/f'));
    const { problems } = into(join(d, 't'), [dataFile('f', 3, { mode: 0o666 })], {
      overwrite: 'always',
    });
    t.deepEqual(problems, []);
    t.true(lstatSync(join(d, 't/f')).isFile());
    t.is(readFileSync(join(d, 'victim'), 'utf8'), 'safe');
    t.is(statSync(join(d, 'victim')).mode & 0o777, 0o600);
  });
});

test.serial('a directory gives way to a file only if it is empty', (t) => {
  inDirectory((d) => {
    mkdirSync(join(d, 'full'));
    writeFileSync(join(d, 'full/mine'), 'mine');
    mkdirSync(join(d, 'empty'));
    const result = into(d, [dataFile('empty', 1), dataFile('full', 1)], { overwrite: 'always' });
    t.deepEqual(codes(result), ['ENOTEMPTY']);
    t.is(readFileSync(join(d, 'empty'), 'utf8'), 'd');
    t.is(readFileSync(join(d, 'full/mine'), 'utf8'), 'mine');
    t.deepEqual(leftovers(d), []);
  });
});

test.serial('a directory that is there keeps what is in it, and gets its metadata', (t) => {
  inDirectory((d) => {
    mkdirSync(join(d, 'dir'), { mode: 0o500 });
    const entries: Change[] = [
      { path: 'dir', type: 'directory', mode: 0o710, mtimeNs: 5n },
      dataFile('dir/f', 1),
    ];
    into(d, entries, { overwrite: 'if-newer' });
    t.is(statSync(join(d, 'dir')).mode & 0o777, 0o710);
    t.is(statSync(join(d, 'dir'), { bigint: true }).mtimeNs, 5n);
    chmodSync(join(d, 'dir'), 0o700);
    into(d, [{ ...entries[0], path: 'dir' }], { overwrite: 'never' });
    t.is(statSync(join(d, 'dir')).mode & 0o777, 0o700);
    t.deepEqual(readdirSync(join(d, 'dir')), ['f']);
  });
});

test.serial('a hard link is not made to a first name that was left with other data', (t) => {
  inDirectory((d) => {
    before(join(d, 'a'), 0);
    const entries: Change[] = [dataFile('a', 3), { path: 'b', type: 'hardlink', link: 'a' }];
    const result = into(d, entries, { overwrite: 'never' });
    t.deepEqual(codes(result), ['EEXIST']);
    t.regex(result.problems[0]?.message ?? '', /b could not.*first name, a, is not as in the set/);
    t.deepEqual(readdirSync(d), ['a']);
  });
});

test.serial('hard links are replaced together, and left together', (t) => {
  inDirectory((d) => {
    for (const name of ['a', 'b']) before(join(d, name), 0);
    const entries: Change[] = [dataFile('a', 3), { path: 'b', type: 'hardlink', link: 'a' }];
    const first = into(d, entries, { overwrite: 'if-changed' });
    t.like(first.report, { replaced: 2, left: 0 });
    t.is(statSync(join(d, 'b')).nlink, 2);
    t.is(readFileSync(join(d, 'b'), 'utf8'), 'ddd');
    t.like(into(d, entries, { overwrite: 'if-changed' }).report, { replaced: 0, left: 2 });
    // Its first name is another file now.
    t.like(into(d, entries, { overwrite: 'always' }).report, { replaced: 2, left: 0 });
    t.is(statSync(join(d, 'a')).nlink, 2);
    t.deepEqual(leftovers(d), []);
  });
});

test.serial('names go away in front, or go elsewhere; hard links follow', (t) => {
  const entries: Change[] = [
    { path: 'srv', type: 'directory' },
    dataFile('srv/www/a', 1),
    { path: 'srv/www/b', type: 'hardlink', link: 'srv/www/a' },
    dataFile('srv/wwwx', 1),
    dataFile('top', 1),
    { path: 'srv/www/gone', type: 'hardlink', link: 'top' },
  ];
  const names = (d: string): string[] =>
    readdirSync(d, { recursive: true, encoding: 'utf8' }).sort();
  inDirectory((d) => {
    const result = into(d, entries, { strip: 1 });
    t.deepEqual(names(d), ['www', 'www/a', 'www/b', 'wwwx']);
    t.deepEqual(codes(result), ['ENOENT']);
    t.regex(
      result.problems[0]?.message ?? '',
      /its first name, which is not restored, is not there/,
    );
    t.like(result.report, { made: 3, skipped: 2 });
    t.is(statSync(join(d, 'www/b')).nlink, 2);
  });
  inDirectory((d) => {
    const maps = [{ from: '/srv/www', to: '/site/live/' }];
    const { problems } = into(d, entries, choicesOf({ ...PLAIN_RESTORE, maps }, null));
    t.deepEqual(problems, []);
    t.deepEqual(names(d), [
      ...['site', 'site/live', 'site/live/a', 'site/live/b', 'site/live/gone'],
      ...['srv', 'srv/wwwx', 'top'],
    ]);
  });
  inDirectory((d) => {
    const maps = [{ from: '/srv/www', to: '/' }];
    const some = entries.slice(1, 3);
    t.deepEqual(into(d, some, choicesOf({ ...PLAIN_RESTORE, maps }, null)).problems, []);
    t.deepEqual(names(d), ['a', 'b']);
  });
});

test.serial('a map that would lead outside is refused', (t) => {
  for (const to of ['/../x', 'x', '/a/../../b']) {
    const options = { ...PLAIN_RESTORE, maps: [{ from: '/srv', to }] };
    t.throws(() => choicesOf(options, null), { code: 'EINVAL' }, to);
  }
});

test.serial('a file whose map makes it the target itself is a problem', (t) => {
  inDirectory((d) => {
    for (const overwrite of ['refuse', 'always'] as const) {
      const maps = [{ from: Buffer.from('f'), to: Buffer.from('.') }];
      const result = into(join(d, overwrite), [dataFile('f', 1)], { maps, overwrite });
      t.is(result.problems.length, 1);
      t.deepEqual(readdirSync(join(d, overwrite)), []);
    }
  });
});

test.serial('--no-owner sets no owner, and no bits that lend its rights', (t) => {
  inDirectory((d) => {
    const entry = dataFile('f', 1, { uid: 12345, gid: 12345, mode: 0o6755 });
    const { report } = into(d, [entry], { owners: false });
    const { uid, mode } = statSync(join(d, 'f'));
    t.is(uid, statSync(d).uid);
    t.is(mode & 0o7777, 0o755);
    t.is(report.ownersNotSet, 0);
  });
});

(isRoot ? test : test.skip)('users and groups are mapped by number, others stay', (t) => {
  inDirectory((d) => {
    const ids = { uid: 1001, gid: 1002 };
    const entries: Change[] = [
      dataFile('f', 1, ids),
      { path: 'dir', type: 'directory', ...ids },
      { path: 'l', type: 'symlink', link: 'f', uid: 7, gid: 1002 },
    ];
    into(d, entries, { users: new Map([[1001, 2001]]), groups: new Map([[1002, 2002]]) });
    const owner = (name: string): number[] => {
      const { uid, gid } = lstatSync(join(d, name));
      return [uid, gid];
    };
    t.deepEqual(['f', 'dir', 'l'].map(owner), [
      [2001, 2002],
      [2001, 2002],
      [7, 2002],
    ]);
  });
});

/** Everything of a tree that a restore could change. */
function snapshot(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const { mode, mtimeMs, ctimeMs, ino, size } = lstatSync(join(directory, name));
      return [name, mode, mtimeMs, ctimeMs, ino, size].join(' ');
    });
}

test.serial('a dry run writes nothing, and says what the restore then does', (t) => {
  for (const overwrite of MODES) {
    inDirectory((d) => {
      const target = join(d, 't');
      mkdirSync(join(target, 'dir'), { recursive: true });
      before(join(target, 'dir/old'), -100);
      before(join(target, 'dir/new'), 100);
      symlinkSync('..', join(target, 'way'));
      const entries: Change[] = [
        { path: 'dir', type: 'directory' },
        dataFile('dir/fresh', 1),
        dataFile('dir/new', 1),
        dataFile('dir/old', 1),
        { path: 'way', type: 'directory', mtimeNs: 2n ** 62n },
        { path: 'way/below', type: 'directory' },
        dataFile('way/below/f', 1),
        dataFile('z/f', 1),
      ];
      const was = snapshot(d);
      const planned: [Action, string][] = [];
      const onPlan = (action: Action, path: Buffer): void => {
        planned.push([action, path.toString()]);
      };
      const plan = restore(target, entries, testNative, { overwrite, dryRun: true, onPlan });
      t.deepEqual(snapshot(d), was);
      const done = into(target, entries, { overwrite });
      const counts = ({ report }: Restored) => [report.made, report.replaced, report.left];
      t.deepEqual(counts(plan), counts(done), overwrite);
      t.deepEqual(codes(plan), codes(done), overwrite);
      t.is(planned.length, plan.report.made + plan.report.replaced + plan.report.left);
      t.deepEqual(planned[1], ['make', 'dir/fresh']);
    });
  }
});

test.serial('a dry run into a directory that is not there does not make it', (t) => {
  inDirectory((d) => {
    for (const overwrite of ['refuse', 'always'] as const) {
      const { report } = into(join(d, 't'), [dataFile('a/f', 1)], { overwrite, dryRun: true });
      t.is(report.made, 1);
      t.false(existsSync(join(d, 't')));
    }
  });
});

test.serial('what is not below a restore root is not restored, and told once', (t) => {
  inDirectory((d) => {
    mkdirSync(join(d, 'srv'));
    mkdirSync(join(d, 'etc'));
    const below = [Buffer.from('srv')];
    const entries: Change[] = [
      { path: '.', type: 'directory', mode: 0o777 },
      { path: 'etc', type: 'directory', mode: 0o777 },
      dataFile('etc/passwd', 1),
      dataFile('srv/f', 1),
      dataFile('srvx', 1),
      { path: 'srv/l', type: 'hardlink', link: 'srv/f' },
    ];
    const result = into(d, entries, { overwrite: 'always', below });
    t.deepEqual(codes(result), ['EACCES']);
    t.like(result.report, { made: 2, skipped: 4 });
    t.deepEqual(readdirSync(d), ['etc', 'srv']);
    t.deepEqual(readdirSync(join(d, 'etc')), []);
    t.deepEqual(readdirSync(join(d, 'srv')), ['f', 'l']);
  });
});
