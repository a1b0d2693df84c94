/**
 * Trees that other programs made, with every attribute there is, come back so that rsync,
 * getfattr, getfacl and the blocks of sparse files agree; and so does each of ten generations.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Generations } from './generations.js';
import { difference, isRoot, makeHardTree } from './hard-tree.js';
import { hasProgram, inDirectory, randomFrom, run } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const GENERATIONS = 10;
const CHANGES = 25;
/** fs_mark prints its usage and fails when it is asked for a version. */
const hasFsMark = spawnSync('fs_mark', ['-h']).error === undefined;
const lacking = ['rsync', 'getfattr', 'getfacl', 'setcap'].filter((name) => !isThere(name));

function isThere(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** Runs a program that may find that this file system or this user lacks what it needs. */
const may = (program: string, ...args: string[]): boolean => spawnSync(program, args).status === 0;

/** Attributes, ACLs and capabilities, as far as this user and file system have them. */
function addAttributes(root: string): string[] {
  const file = join(root, 'attributes');
  const directory = join(root, 'default-acl');
  writeFileSync(file, 'attributes');
  mkdirSync(directory);
  copyFileSync('/bin/true', join(root, 'capable'));
  const made: [string, boolean][] = [
    ['user', may('setfattr', '-n', 'user.a=b%c', '-v', '0x0001ff0a', file)],
    ['empty', may('setfattr', '-n', 'user.empty', file)],
    ['directory', may('setfattr', '-n', 'user.of-directory', '-v', 'd', directory)],
    ['trusted', isRoot && may('setfattr', '-n', 'trusted.t', '-v', 't', file)],
    ['acl', may('setfacl', '-m', 'u:1234:rw,g:4321:r,m::rw', file)],
    ['default', may('setfacl', '-d', '-m', 'u:77:rwx,o::-', directory)],
    ['capability', isRoot && may('setcap', 'cap_net_raw+ep', join(root, 'capable'))],
  ];
  return made.filter(([, done]) => done).map(([name]) => name);
}

function addSparse(root: string): void {
  for (const [name, offsets] of Object.entries({ begin: [0], middle: [1 << 20], end: [5e6 - 9] })) {
    const fd = openSync(join(root, `sparse-${name}`), 'w');
    ftruncateSync(fd, 5_000_000);
    for (const at of offsets) writeSync(fd, 'some data', at);
    closeSync(fd);
  }
}

/** What they leave when they are told to keep their files, or are cut short. */
function addByOthers(root: string): string[] {
  const used: string[] = [];
  if (hasFsMark) {
    const place = join(root, 'fs_mark');
    mkdirSync(place);
    // In its place, where it leaves a log, too; it does not bear long paths.
    const line = 'cd "$1" && mkdir d && fs_mark -d d -n 200 -s 3000 -k -S 0 -D 8';
    run('sh', ['-c', line, 'sh', place]);
    used.push('fs_mark');
  }
  if (hasProgram('stress-ng')) {
    const place = join(root, 'stress-ng');
    mkdirSync(place);
    const stressors = ['dentry', 'hdd', 'xattr', 'link', 'symlink', 'filename'];
    for (const name of stressors) {
      const args = ['--temp-path', place, '--keep-files', `--${name}`, '1', '--timeout', '1'];
      // Stopped in the middle: the files are what it had made by then.
      spawnSync('timeout', ['-s', 'KILL', '0.5', 'stress-ng', ...args]);
    }
    removeLarge(place);
    used.push(`stress-ng (${readdirSync(place, { recursive: true }).length} entries)`);
  }
  return used;
}

/** hdd writes more than a test should keep. */
function removeLarge(place: string): void {
  run('find', [place, '-type', 'f', '-size', '+20M', '-delete']);
}

/** Dumps with relative names, so that two places compare. */
function attributesOf(root: string): string {
  const shell = 'cd "$1" && getfattr -R -P -h -d -m - -e hex . ; cd "$1" && getfacl -R -P -n .';
  return run('sh', ['-c', shell, 'sh', root]).toString('latin1');
}

const blocksOf = (root: string): string =>
  run('find', [root, '-type', 'f', '-name', 'sparse*', '-printf', '%f %b\\n']).toString('latin1');

/** Everything in which two trees differ. */
function differences(source: string, copy: string): string[] {
  const found: string[] = [];
  const lines = difference(source, copy);
  if (lines !== '') found.push(lines);
  if (attributesOf(source) !== attributesOf(copy)) found.push('attributes or ACLs differ');
  const sorted = (root: string) => blocksOf(root).split('\n').sort().join('\n');
  if (sorted(source) !== sorted(copy)) found.push(`blocks: ${sorted(source)} ${sorted(copy)}`);
  return found;
}

/** Random changes of what the tree has, by the shell: files come, go, move, grow and are linked. */
function change(root: string, random: () => number, generation: number): void {
  const pick = (n: number) => Math.floor(random() * n);
  for (let i = 0; i < CHANGES; i++) {
    const [a, b] = [join(root, 'many', `f${pick(140)}`), join(root, `moved-${generation}-${i}`)];
    const changes: [string, ...string[]][] = [
      ['sh', '-c', 'echo more >> "$1"', 'sh', a],
      ['rm', '-rf', a],
      ['mv', a, b],
      ['ln', a, b],
      ['ln', '-s', a, b],
      ['chmod', '640', a],
      ['touch', '-d', '2001-02-03 04:05:06.789', a],
      ['setfattr', '-n', 'user.generation', '-v', `${generation}`, a],
      ['setfacl', '-m', `u:${1000 + pick(9)}:r`, a],
      ['cp', '-a', join(root, 'many'), join(root, `copy-${generation}`)],
      ['truncate', '-s', '+300K', a],
      ['mkfifo', b],
    ];
    may(...(changes[pick(changes.length)] as [string, ...string[]]));
  }
}

test.serial('what stress-ng, fs_mark and the attribute tools make comes back as it was', (t) => {
  t.timeout(600_000);
  if (lacking.length > 0) {
    t.log(`skipped: ${lacking.join()} missing`);
    return t.pass();
  }
  t.log(`seed ${seed}`);
  inDirectory((directory) => {
    const g = new Generations(directory);
    makeHardTree(g.source, seed);
    t.log(`attributes: ${addAttributes(g.source).join()}`);
    addSparse(g.source);
    t.log(`by others: ${addByOthers(g.source).join()}`);
    const { set, warnings } = g.full();
    t.deepEqual(
      warnings.filter((w) => w.code !== 'EOPNOTSUPP'),
      [],
    );
    t.deepEqual(differences(g.source, g.restore(set, join(directory, 'r')).tree), []);
  });
});

test.serial(
  'ten generations of changes by programs: each restores with all its attributes',
  (t) => {
    t.timeout(600_000);
    if (lacking.length > 0) {
      t.log(`skipped: ${lacking.join()} missing`);
      return t.pass();
    }
    t.log(`seed ${seed}`);
    const random = randomFrom(seed);
    inDirectory((directory) => {
      const g = new Generations(directory);
      mkdirSync(g.source);
      mkdirSync(join(g.source, 'many'));
      for (let i = 0; i < 100; i++) writeFileSync(join(g.source, 'many', `f${i}`), `${i}`);
      addAttributes(g.source);
      addSparse(g.source);
      const sets = [g.full().set];
      const copies = [join(directory, 'copy-0')];
      const keep = (to: string) => run('cp', ['-a', '--sparse=always', `${g.source}`, to]);
      keep(copies[0] as string);
      for (let i = 1; i <= GENERATIONS; i++) {
        change(g.source, random, i);
        sets.push(g.incremental().set);
        copies.push(join(directory, `copy-${i}`));
        keep(copies[i] as string);
      }
      for (const [i, set] of sets.entries()) {
        const target = join(directory, `r${i}`);
        const { tree } = g.restore(set, target);
        t.deepEqual(difference(copies[i] as string, tree), '', `generation ${i}`);
        t.is(attributesOf(tree), attributesOf(copies[i] as string), `generation ${i}`);
        rmSync(target, { recursive: true });
      }
    });
  },
);
