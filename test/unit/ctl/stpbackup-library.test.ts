/** The verbs that work on the library itself, as people run them: without a server. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { eventSchema } from '../../../src/ctl/stpbackup/events-schema.js';
import { Library } from '../../../src/library/library.js';
import { runProgram } from '../../support/array.js';
import { eventsOf } from '../../support/events.js';
import { backUp } from '../library/flips.js';
import { lockFile } from '../library/stand-ins.js';

function makeLibrary(t: ExecutionContext) {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-library-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const source = join(base, 'source');
  mkdirSync(join(source, 'etc'), { recursive: true });
  writeFileSync(join(source, 'etc/app.conf'), 'answer=42\n');
  writeFileSync(join(source, 'readme'), 'x');
  const directory = join(base, 'library');
  const library = Library.open(directory, { lockFile });
  const id = backUp(library, source);
  const ask = (...args: string[]) => runProgram('stpbackup', [...args, '--library', directory]);
  return { base, source, directory, library, id, ask };
}

test('ls, find and cat', async (t) => {
  const { source, id, ask } = makeLibrary(t);
  const all = await ask('ls', 'latest');
  t.is(all.code, 0, all.stderr);
  t.is(all.stdout.trim().split('\n').length, 4);
  t.regex(all.stdout, /^-rw.* 10 \S+Z \/.*\/etc\/app\.conf$/m);
  const some = await ask('ls', id, join(source, 'etc'), '--json');
  const { set, entries } = JSON.parse(some.stdout);
  t.is(set, id);
  t.deepEqual(
    entries.map((e: { type: string; size: number }) => [e.type, e.size]),
    [
      ['directory', 0],
      ['file', 10],
    ],
  );
  t.is((await ask('ls', id, '/nowhere')).code, 1);

  const found = await ask('find', '*.conf', '--json');
  t.is(JSON.parse(found.stdout).found[0].set, id);
  t.is((await ask('find', '*.conf')).stdout.trim().split('\n').length, 1);
  t.deepEqual(JSON.parse((await ask('find', 'nothing', '--json')).stdout), { found: [] });
  t.is((await ask('find', '*', '--host', 'other')).stdout, '');
  t.is((await ask('find', '')).code, 2);

  t.is((await ask('cat', id, join(source, 'etc/app.conf'))).stdout, 'answer=42\n');
  t.is((await ask('cat', id, source)).code, 1);
});

test('check: exit codes and the document', async (t) => {
  const { directory, id, ask } = makeLibrary(t);
  t.is((await ask('check')).code, 0);
  t.is((await ask('check', '--data', id)).code, 0);
  const share = JSON.parse((await ask('check', '--share', '50', '--seed', '7', '--json')).stdout);
  t.like(share, { depth: 'share', seed: 7, sets: 1, problems: 0, damagedSets: [] });
  for (const bad of [
    ['--data', '--structure'],
    ['--share', '0'],
    ['--share', '1', '--seed', 'x'],
  ]) {
    t.is((await ask('check', ...bad)).code, 2);
  }
  const media = join(directory, 'sets', id, 'media.tar');
  const bytes = readFileSync(media);
  bytes[bytes.length - 1] = 1;
  writeFileSync(media, bytes);
  const damaged = await ask('check', '--data');
  t.is(damaged.code, 4);
  t.regex(damaged.stderr, /media: .*media\.tar does not/);
  t.is(JSON.parse((await ask('check', '--data', '--json')).stdout).problems, 2);
});

test('a library that is not there is not made', async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-library-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const done = await runProgram('stpbackup', ['check', '--library', join(base, 'none')]);
  t.is(done.code, 1);
  t.regex(done.stderr, /is not a library/);
  t.is((await runProgram('stpbackup', ['check'])).code, 2);
});

test('forget and prune: rules, names, a dry run, wrong usage', async (t) => {
  const { library, source, id, ask } = makeLibrary(t);
  const ids = () => library.list().sets.map((s) => s.id);
  backUp(library, source);
  const dry = JSON.parse((await ask('forget', '--keep-last', '1', '--dry-run', '--json')).stdout);
  t.is(dry.forgotten.length, 1);
  t.is(ids().length, 2);
  for (const bad of [[], ['--keep-last', '0'], ['--keep-daily', 'x'], [id, '--keep-last', '1']]) {
    t.is((await ask('forget', ...bad)).code, 2, bad.join(' '));
  }
  const done = await ask('forget', '--keep-last', '1');
  t.is(done.code, 0, done.stderr);
  t.regex(done.stdout, /KEPT\n.* last\n.* no\n/);
  t.is(ids().length, 1);
  t.is(JSON.parse((await ask('prune', '--json')).stdout).sets.length, 1);
  const last = await ask('forget', ids()[0] as string, '--prune', '--json');
  t.is(JSON.parse(last.stdout).pruned.sets.length, 1);
  t.deepEqual(ids(), []);
});

test('events: each by its schema, the document last; --quiet says only what is wrong', async (t) => {
  const { directory, library, source, id, ask } = makeLibrary(t);
  const child = backUp(library, source, { parent: id });
  const of = async (...args: string[]) => {
    const { code, stdout, stderr } = await ask(...args, '--events');
    const events = eventsOf(stdout);
    for (const event of events) t.notThrows(() => eventSchema.parse(event));
    return { code, stderr, events, last: events.at(-1) };
  };
  const sound = await of('check', '--data');
  t.like(sound.last, { event: 'document', verb: 'check', document: { sets: 2, problems: 0 } });
  t.deepEqual((await of('repair')).last.document.repairs, []);

  const media = join(directory, 'sets', id, 'media.tar');
  const bytes = readFileSync(media);
  bytes.fill(0x58, 0, bytes.length);
  writeFileSync(media, bytes);
  const found = await of('check', '--data');
  t.is(found.code, 4);
  t.like(found.events[0], { event: 'warning', path: id, code: 'EUCLEAN' });
  const moved = await of('repair');
  t.is(moved.code, 4);
  t.deepEqual(
    moved.events.slice(0, -1).map((e) => e.path),
    [child, id],
  );
  t.is((await of('forget', '--keep-last', '1')).last.document.pruned, null);
  t.is((await of('prune')).last.verb, 'prune');
  t.like((await of('check', 'nothing')).last, { event: 'error', exitCode: 1 });
  t.is((await ask('check', '--json', '--events')).code, 2);

  for (const verb of [['check', '--data'], ['repair'], ['prune'], ['forget', '--keep-last', '1']]) {
    const { code, stdout, stderr } = await ask(...verb, '--quiet');
    t.deepEqual([code, stdout, stderr], [0, '', ''], verb.join(' '));
  }
});
