/** The verbs on a chain of three sets: a file with holes, attributes, a deletion, changes. */
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Catalog } from '../../../src/library/catalog.js';
import { nameMatcher } from '../../../src/library/find.js';
import type { StoredSet } from '../../../src/library/library.js';
import { repairLibrary } from '../../../src/library/repair.js';
import { openChain, treeOf } from '../../../src/library/set-tree.js';
import { native } from '../../../src/native.js';
import { runProgram } from '../../support/array.js';
import { Generations } from '../library/generations.js';

const HOLES_BYTES = 8 << 20;
/** user::rw-,user:1000:r--,group::r--,mask::r--,other::--- */
const ACL = Buffer.from(
  '02000000' +
    '01000600ffffffff' +
    '02000400e8030000' +
    '04000400ffffffff' +
    '10000400ffffffff' +
    '20000000ffffffff',
  'hex',
);

interface Chain {
  readonly g: Generations;
  readonly sets: readonly [StoredSet, StoredSet, StoredSet];
  readonly ask: (...args: string[]) => ReturnType<typeof runProgram>;
  at(name: string): string;
}

function makeTree(at: (name: string) => string): void {
  mkdirSync(at('dir'), { recursive: true });
  writeFileSync(at('dir/stays'), 'stays\n');
  writeFileSync(at('changes.conf'), 'one\n');
  writeFileSync(at('goes'), 'goes\n');
  writeFileSync(at('mode'), 'only its mode changes\n');
  linkSync(at('dir/stays'), at('dir/twin'));
  const fd = openSync(at('holes'), 'w');
  writeSync(fd, 'begin', 0);
  writeSync(fd, 'middle', HOLES_BYTES / 2);
  ftruncateSync(fd, HOLES_BYTES);
  closeSync(fd);
  const set = (name: string, key: string, value: Buffer | string) =>
    native().setXattr(Buffer.from(at(name)), Buffer.from(key), Buffer.from(value));
  set('changes.conf', 'user.a=b%c', Buffer.from([0, 0x3d, 0x0a, 0xff]));
  set('dir', 'user.note', 'of a directory');
  set('dir/stays', 'system.posix_acl_access', ACL);
}

/** Full; then a change, a deletion and metadata; then a new file. */
function makeChain(t: ExecutionContext): Chain {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-chain-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const g = new Generations(base);
  const at = (name: string) => join(g.source, name);
  makeTree(at);
  const full = g.full().set;
  writeFileSync(at('changes.conf'), 'two, and longer\n');
  rmSync(at('goes'));
  chmodSync(at('mode'), 0o640);
  const second = g.incremental().set;
  writeFileSync(at('dir/new.conf'), 'new\n');
  const third = g.incremental().set;
  const ask = (...args: string[]) =>
    runProgram('stpbackup', [...args, '--library', g.library.directory]);
  return { g, sets: [full, second, third], ask, at };
}

const isSparse = ({ sets }: Chain): boolean =>
  [...sets[0].manifest()].some((r) => r.kind === 'entry' && r.sparse);

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
}

function lastHeaderOf(set: StoredSet): number {
  let at = 0;
  for (const r of set.manifest()) if (r.kind === 'entry' && r.type === 'file') at = r.headerOffset;
  return at + 101;
}

async function problemsOf({ ask }: Chain, ...sets: string[]): Promise<string[]> {
  const { stdout } = await ask('check', '--data', '--json', ...sets);
  return JSON.parse(stdout).found.map((p: { set: string; part: string }) => `${p.set} ${p.part}`);
}

test('ls, find and cat show the tree of each point, whichever sets have it', async (t) => {
  const chain = makeChain(t);
  const { sets, ask, at } = chain;
  t.true(isSparse(chain), 'the file system keeps holes');
  const names = async (set: StoredSet): Promise<string[]> => {
    const { entries } = JSON.parse((await ask('ls', set.id, at('.'), '--json')).stdout);
    return entries.map((e: { path: string }) => `/${e.path}`.slice(at('').length + 1)).slice(1);
  };
  const early = ['changes.conf', 'dir', 'dir/stays', 'dir/twin', 'goes', 'holes', 'mode'];
  const late = early.filter((name) => name !== 'goes');
  t.deepEqual(await names(sets[0]), early);
  t.deepEqual(await names(sets[1]), late);
  t.deepEqual(await names(sets[2]), [...late, 'dir/new.conf'].sort());

  const found = JSON.parse((await ask('find', '*.conf', '--json')).stdout).found;
  t.deepEqual(
    found.map((f: { set: string; size: number }) => [f.set, f.size]).sort(),
    [
      [sets[0].id, 4],
      [sets[1].id, 16],
      [sets[2].id, 16],
      [sets[2].id, 4],
    ].sort(),
  );
  t.deepEqual(found[0].xattrs, [{ name: 'user.a=b%c', value: 'AD0K/w==' }]);

  const cat = async (set: StoredSet, name: string) => (await ask('cat', set.id, at(name))).stdout;
  t.is(await cat(sets[0], 'changes.conf'), 'one\n');
  t.is(await cat(sets[2], 'changes.conf'), 'two, and longer\n');
  t.is(await cat(sets[2], 'mode'), 'only its mode changes\n');
  t.is(await cat(sets[2], 'dir/twin'), 'stays\n');
  t.true((await cat(sets[2], 'holes')) === readFileSync(at('holes'), 'latin1'));
  t.is((await ask('cat', sets[2].id, at('goes'))).code, 1);
});

test('the catalog finds what the manifests have', (t) => {
  const { g, sets } = makeChain(t);
  const rows: string[] = [];
  for (const { id } of g.library.list().sets) {
    const chain = openChain(g.library, g.library.openSet(id));
    for (const { entry } of treeOf(chain)) rows.push(`${id} ${entry.path} ${entry.size}`);
  }
  const catalog = new Catalog(g.library);
  const found = catalog.find(nameMatcher('*'), () => true);
  t.deepEqual(
    found.map(({ set, entry }) => `${set} ${entry.path} ${entry.size}`),
    rows,
  );
  rmSync(sets[2].directory, { recursive: true });
  t.true(catalog.find(nameMatcher('*'), () => true).every((f) => f.set !== sets[2].id));
});

test('check --data passes a sound chain, and names each set that is damaged', async (t) => {
  const chain = makeChain(t);
  const [full, second, third] = chain.sets;
  const whole = await chain.ask('check', '--data');
  t.is(whole.code, 0, whole.stderr);
  t.deepEqual(await problemsOf(chain, third.id), []);
  for (const set of chain.sets) {
    for (const [file, part] of [
      ['tree.index', 'list'],
      ['manifest.jsonl', 'manifest'],
      ['media.tar', 'media'],
    ] as const) {
      const path = join(set.directory, file);
      flip(path, 700);
      const found = await problemsOf(chain, third.id);
      t.true(found.includes(`${set.id} ${part}`), `${file}: ${found}`);
      flip(path, 700);
    }
  }
  rmSync(second.directory, { recursive: true });
  t.deepEqual(await problemsOf(chain), [`${third.id} parent`]);
  t.deepEqual(await problemsOf(chain, full.id), []);
});

test('forget keeps what a kept set builds on; forget and prune take a chain as a whole', async (t) => {
  const chain = makeChain(t);
  const { g, sets, ask } = chain;
  const ids = () => g.library.list().sets.map((s) => s.id);
  const all = sets.map((s) => s.id);
  await ask('forget', sets[0].id, sets[1].id);
  t.deepEqual(ids(), all, 'the last set builds on them');
  await ask('forget', sets[2].id, '--prune');
  t.deepEqual(ids(), [sets[0].id, sets[1].id]);
  t.deepEqual(await problemsOf(chain), []);
  const pruned = JSON.parse((await ask('forget', ...ids(), '--prune', '--json')).stdout);
  t.is(pruned.pruned.sets.length, 2);
  t.deepEqual(ids(), []);
  t.deepEqual(readdirSync(join(g.library.directory, 'forgotten')), []);
});

test('repair makes headers, lists and summaries of a chain anew, and a full manifest', (t) => {
  const chain = makeChain(t);
  const { g, sets } = chain;
  const act = () => repairLibrary(g.library, false).map((r) => `${r.action} ${r.part}`);
  const restored = (set: StoredSet, name: string) => {
    const { tree } = g.restore(g.library.openSet(set.id), join(g.directory, name));
    return readFileSync(join(tree, 'holes')).equals(readFileSync(chain.at('holes')));
  };
  for (const set of sets) {
    for (const [file, part] of [
      ['tree.index', 'list'],
      ['set.json', 'summary'],
      ['media.tar', 'media'],
    ] as const) {
      // The header of a file: that of a directory has names which nothing else knows.
      flip(join(set.directory, file), file === 'media.tar' ? lastHeaderOf(set) : 101);
      t.deepEqual(act(), [`repaired ${part}`], `${file} of ${set.id}`);
      t.deepEqual(act(), []);
    }
  }
  t.true(restored(sets[2], 'before'));
  flip(sets[0].manifestPath, 300);
  t.deepEqual(act(), ['repaired manifest', 'moved null', 'moved null']);
  t.deepEqual(
    g.library.list().sets.map((s) => s.id),
    [sets[0].id],
  );
  t.true(restored(sets[0], 'after'));
});
