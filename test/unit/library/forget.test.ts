import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { childrenFirst, forgetSets, prune } from '../../../src/library/forget.js';
import { Library } from '../../../src/library/library.js';
import { applyRules, type KeepRules, keepParents } from '../../../src/library/retention.js';
import type { SetSummary } from '../../../src/library/set-writer.js';
import { backUp, chainOn, makeSmallTree } from './flips.js';
import { inDirectory, lockFile } from './stand-ins.js';

const set = (startedAt: string, more: object = {}): SetSummary =>
  ({ id: startedAt, host: 'h', roots: ['/a', '/b'], startedAt, ...more }) as unknown as SetSummary;

/** What a set says of the one that it is made against. */
const on = (id: string) => ({ chain: [{ id, manifestBlake3: '' }] });

const kept = (sets: SetSummary[], rules: KeepRules): string[] =>
  applyRules(sets, rules)
    .filter((v) => v.reasons.length > 0)
    .map((v) => v.set.id);

const days = [
  '2025-12-28T10:00:00Z', // Sunday, week 52
  '2025-12-29T10:00:00Z', // Monday, week 1 of 2026
  '2025-12-31T09:00:00Z',
  '2025-12-31T10:00:00Z',
  '2026-01-01T10:00:00Z',
  '2026-01-01T10:30:00Z',
  '2026-01-01T11:00:00Z',
  '2026-02-01T10:00:00Z',
];

test('each rule keeps the newest of each period', (t) => {
  const sets = days.map((day) => set(day));
  const at = (...indices: number[]) => indices.map((i) => days[i]);
  t.deepEqual(kept(sets, { last: 3 }), at(7, 6, 5));
  t.deepEqual(kept(sets, { hourly: 3 }), at(7, 6, 5));
  t.deepEqual(kept(sets, { daily: 3 }), at(7, 6, 3));
  t.deepEqual(kept(sets, { weekly: 3 }), at(7, 6, 0), 'the week of New Year is one');
  t.deepEqual(kept(sets, { monthly: 9 }), at(7, 6, 3));
  t.deepEqual(kept(sets, { yearly: 9 }), at(7, 3));
  t.deepEqual(kept(sets, { last: 1, yearly: 2 }), at(7, 3));
  t.deepEqual(kept(sets, {}), []);
});

test('hosts and roots are judged apart; the order of roots is nothing', (t) => {
  const sets = [
    set('2026-01-01T10:00:00Z'),
    set('2026-01-02T10:00:00Z', { roots: ['/b', '/a'] }),
    set('2026-01-03T10:00:00Z', { host: 'i' }),
    set('2026-01-04T10:00:00Z', { roots: ['/c'] }),
  ];
  t.deepEqual(kept(sets, { last: 1 }), [sets[3]?.id, sets[2]?.id, sets[1]?.id]);
});

test('what a kept set or a running backup stands on is kept', (t) => {
  const [a, b, c] = [
    set('2026-01-01T10:00:00Z'),
    set('2026-01-02T10:00:00Z', on('2026-01-01T10:00:00Z')),
    set('2026-01-03T10:00:00Z', on('2026-01-02T10:00:00Z')),
  ];
  const all = [a, b, c];
  const verdicts = keepParents(applyRules(all, { last: 1 }), all, []);
  t.true(verdicts.every((v) => v.reasons.length > 0));
  t.deepEqual(verdicts[2]?.reasons, [`parent of ${b.id}`]);
  const none = all.map((s) => ({ set: s, reasons: [] }));
  const running = keepParents(none, all, [b.id]);
  t.deepEqual(
    running.map((v) => v.reasons.length),
    [1, 1, 0],
  );
  const named = keepParents([{ set: a, reasons: [] }], all, []);
  t.is(named[0]?.reasons.length, 1, 'sets that nobody asked about are kept');
});

test('children go before their parents, whatever their names', (t) => {
  const sets = [
    set('c'),
    set('b', on('c')),
    set('d', on('b')),
    set('a', on('b')),
    set('e', on('c')),
  ];
  const order = childrenFirst(['a', 'b', 'c', 'd', 'e'], sets);
  t.is(order.length, 5);
  for (const [child, parent] of ['bc', 'db', 'ab', 'ec'] as const) {
    t.true(order.indexOf(child as string) < order.indexOf(parent as string), `${child} ${parent}`);
  }
});

const withSets = (body: (library: Library, source: string) => void): void =>
  inDirectory((directory) => {
    const source = join(directory, 'source');
    makeSmallTree(source);
    body(Library.open(join(directory, 'library'), { lockFile }), source);
  });

const ids = (library: Library): string[] => library.list().sets.map((s) => s.id);
const forgetAll = (library: Library, dryRun = false) =>
  forgetSets(library, {
    judge: ({ sets }) => sets.map((s) => ({ set: s, reasons: [] })),
    dryRun,
  });

test('forget takes a set out of the listing, prune removes it; a dry run does neither', (t) => {
  withSets((library, source) => {
    const id = backUp(library, source);
    forgetAll(library, true);
    t.deepEqual(ids(library), [id]);
    forgetAll(library);
    t.deepEqual(ids(library), []);
    const dry = prune(library, true);
    t.deepEqual(dry.sets, [id]);
    t.true(dry.bytes > 5000);
    const told: [number, number][] = [];
    const done = prune(library, false, (bytes, total) => told.push([bytes, total]));
    t.deepEqual(done, dry);
    // File by file, and all of it at the end.
    t.true(told.length >= 3);
    t.true(
      told.every(([bytes, total], i) => total === dry.bytes && bytes >= (told[i - 1]?.[0] ?? 0)),
    );
    t.is(told.at(-1)?.[0], dry.bytes);
    t.deepEqual(readdirSync(join(library.directory, 'forgotten')), []);
    t.deepEqual(prune(library, false), { sets: [], bytes: 0, interrupted: [] });
    t.false(readdirSync(join(library.directory, 'tmp')).some((name) => name.endsWith('.partial')));
  });
});

test('the parent of a backup that is running is not forgotten, and one that is gone is refused', (t) => {
  withSets((library, source) => {
    const parent = backUp(library, source);
    const meta = { host: 'here', roots: [source], stpd: '0.0.0', ...chainOn(library, parent) };
    const running = library.beginSet(meta);
    forgetAll(library);
    t.deepEqual(ids(library), [parent]);
    running.abort();
    forgetAll(library);
    t.deepEqual(ids(library), []);
    t.throws(() => library.beginSet(meta), { code: 'ENOENT', message: /made against/ });
    t.true(existsSync(join(library.directory, 'forgotten', parent)));
  });
});
