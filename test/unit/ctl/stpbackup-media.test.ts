/** The verbs on sets in volumes, compressed and encrypted, as people run them: without a server. */
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Library } from '../../../src/library/library.js';
import { runProgram } from '../../support/array.js';
import { backUp } from '../library/flips.js';
import { makeTree, newIdentityText, owner, VOLUME_BYTES } from '../library/media-kinds.js';
import { lockFile } from '../library/stand-ins.js';

const SEED = 11;
const WATCHDOG_MS = 15 * 60_000;

function makeLibrary(t: ExecutionContext) {
  t.timeout(WATCHDOG_MS);
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-media-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const source = join(base, 'source');
  makeTree(source, SEED);
  const directory = join(base, 'library');
  const library = Library.open(directory, {
    lockFile,
    access: { search: [], identities: [owner] },
  });
  const plan = { volumeBytes: VOLUME_BYTES, level: 3, recipients: [owner.recipient] };
  const id = backUp(library, source, { plan });
  const ask = (...args: string[]) => runProgram('stpbackup', [...args, '--library', directory]);
  const key = join(base, 'key');
  writeFileSync(key, `${newIdentityText(1)}\n`, { mode: 0o600 });
  return { base, source, library, id, ask, identity: ['--identity', key] };
}

test('ls, find, cat and check with an identity and without', async (t) => {
  const { base, source, id, ask, identity } = makeLibrary(t);
  const file = join(source, 'f511');
  const shown = await ask('cat', id, file, ...identity);
  t.is(shown.stdout, 'x'.repeat(511), shown.stderr);
  t.regex((await ask('ls', id, ...identity)).stdout, /large\/a-noise/);
  t.regex((await ask('find', 'a-noise', ...identity)).stdout, /large\/a-noise/);
  for (const verb of [
    ['cat', id, file],
    ['ls', id],
  ]) {
    const refused = await ask(...verb);
    t.is(refused.code, 1);
    t.regex(refused.stderr, /is encrypted, and no identity was given: --identity FILE/);
  }
  const unseen = await ask('find', '*');
  t.is(unseen.code, 3);
  t.is(unseen.stdout, '');
  t.regex(unseen.stderr, /encrypted and not searched/);
  const blind = JSON.parse((await ask('check', '--data', '--json')).stdout);
  t.like(blind, { problems: 0, entries: 0, sealedSets: [id] });
  const seen = JSON.parse((await ask('check', '--data', '--json', ...identity)).stdout);
  t.like(seen, { problems: 0, sealedSets: [] });
  t.true(seen.filesRead > 5 && seen.volumes > 5);
  writeFileSync(join(base, 'none'), 'nothing\n', { mode: 0o600 });
  for (const bad of ['none', 'missing']) {
    t.is((await ask('ls', id, '--identity', join(base, bad))).code, 2);
  }
});

test('check names what is on the shelf; forget and prune leave that there', async (t) => {
  const { base, library, id, ask, identity } = makeLibrary(t);
  const shelf = join(base, 'shelf');
  mkdirSync(shelf);
  const name = `${id}.v0002.tar.zst.age`;
  renameSync(join(library.directory, 'sets', id, name), join(shelf, name));
  const checked = await ask('check', '--data', ...identity);
  t.is(checked.code, 0, checked.stderr);
  t.true(checked.stderr.includes(`not here: volume 2 of set ${id} (host here), the file ${name}`));
  t.regex(checked.stdout, /volumes +\d+, 1 not here\n/);
  const found = await ask('check', '--data', ...identity, '--media', shelf);
  t.regex(found.stdout, /volumes +\d+, 0 not here\n/);
  t.is((await ask('repair', ...identity)).stdout, 'every set is sound\n');
  t.is((await ask('forget', id)).code, 0);
  t.is((await ask('prune')).code, 0);
  t.deepEqual(library.list().sets, []);
  t.deepEqual(readdirSync(shelf), [name]);
});

test('key identity: a new one each time, and never in place of a file', async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-media-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const made = await runProgram('stpbackup', ['key', 'identity', join(base, 'key')]);
  t.is(made.code, 0);
  t.regex(made.stdout, /^age1[a-z0-9]{58}\n$/);
  const again = await runProgram('stpbackup', ['key', 'identity', join(base, 'key')]);
  t.is(again.code, 2);
  t.regex(again.stderr, /no identity was made/);
});
