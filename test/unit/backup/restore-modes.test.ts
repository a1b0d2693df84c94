/** Restores with options, as whole sessions: what is asked for arrives, and comes back in the report. */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PLAIN_RESTORE, type RestoreOptions } from '../../../src/backup/restore-order.js';
import type { SessionReport } from '../../../src/backup/server.js';
import { type House, startHouse } from './house.js';

interface Made {
  readonly h: House;
  readonly set: string;
  readonly src: string;
  readonly out: string;
  restore(
    target: string,
    options: Partial<RestoreOptions>,
    via?: 'network',
  ): Promise<SessionReport>;
}

/** A set of one file of 3 MB, a small one and a directory. */
async function make(t: Parameters<typeof startHouse>[0]): Promise<Made> {
  const h = await startHouse(t);
  const base = realpathSync(h.base);
  const [src, out] = [join(base, 'src'), join(base, 'out')];
  mkdirSync(join(src, 'dir'));
  writeFileSync(join(src, 'big'), Buffer.alloc(3_000_000, 'stp'));
  writeFileSync(join(src, 'dir/small'), 'as it was');
  const order = { host: 'host1', paths: [src] };
  const { set } = await h.server.backup(order, h.events, h.signal.signal);
  const restore: Made['restore'] = (target, options, via) =>
    h.server.restore(
      {
        ...{ set, host: 'host1', target, paths: [] },
        options: { ...PLAIN_RESTORE, ...options },
        ...(via && { via }),
      },
      h.events,
      h.signal.signal,
    );
  return { h, set, src, out, restore };
}

test.serial('a dry run, the restore, and the same again; verified; both ways', async (t) => {
  const { h, src, out, restore } = await make(t);
  const target = join(out, 't');
  const plan = await restore(target, { dryRun: true });
  t.like(plan.restored, { made: 4, replaced: 0, left: 0, verified: null });
  t.deepEqual(
    plan.restored?.planned.map(({ action, path }) => `${action} /${path}`),
    ['', '/big', '/dir', '/dir/small'].map((name) => `make ${src}${name}`),
  );
  t.deepEqual(readdirSync(out), []);
  t.true(plan.movedBytes < 10_000, 'no data moves');

  const done = await restore(target, { verify: true });
  t.like(done.restored, { made: 4, verified: { entries: 4, bytes: 3_000_009, wrong: 0 } });
  await t.throwsAsync(restore(target, {}), { message: /not empty.*--overwrite never\|always/ });

  writeFileSync(join(target, src, 'dir/small'), 'changed meanwhile');
  writeFileSync(join(target, src, 'mine'), 'mine');
  for (const via of [undefined, 'network'] as const) {
    const kept = await restore(target, { overwrite: 'never' }, via);
    t.like(kept.restored, { made: 0, replaced: 0, left: 4 });
  }
  const again = await restore(target, { overwrite: 'if-changed', verify: true }, 'network');
  t.like(again.restored, { made: 0, verified: { entries: 4, wrong: 0 } });
  t.is(readFileSync(join(target, src, 'dir/small'), 'utf8'), 'as it was');
  t.is(readFileSync(join(target, src, 'mine'), 'utf8'), 'mine');
  t.deepEqual(h.complaints, []);
});

test.serial('in place: below restore roots only, and never without --overwrite', async (t) => {
  const { h, src, out, restore } = await make(t);
  await t.throwsAsync(restore('/', {}), { message: /not below a root/ });
  // Where it was is not among the roots that a restore may write below.
  const nothing = await restore('/', { overwrite: 'always' });
  t.like(nothing.restored, { made: 0, replaced: 0, skipped: 4 });
  t.deepEqual(
    h.complaints.map(({ code }) => code),
    ['EACCES'],
  );
  const maps = [{ from: src, to: join(out, 'moved') }];
  const moved = await restore('/', { overwrite: 'always', maps, verify: true });
  t.like(moved.restored, { made: 4, skipped: 0, verified: { wrong: 0 } });
  t.is(readFileSync(join(out, 'moved/dir/small'), 'utf8'), 'as it was');
});

test.serial('in place puts back what was there', async (t) => {
  const { src, out, restore, h } = await make(t);
  mkdirSync(join(out, 'live'));
  writeFileSync(join(out, 'live/f'), 'good');
  const order = { host: 'host1', paths: [src] };
  await h.server.backup(order, h.events, h.signal.signal);
  const maps = [{ from: src, to: join(out, 'live') }];
  await restore('/', { overwrite: 'if-changed', maps });
  writeFileSync(join(out, 'live/dir/small'), 'ruined');
  utimesSync(join(out, 'live/dir/small'), 1, 1);
  const back = await restore('/', { overwrite: 'if-changed', maps });
  t.is(back.restored?.replaced, 1);
  t.is(readFileSync(join(out, 'live/dir/small'), 'utf8'), 'as it was');
  t.is(readFileSync(join(out, 'live/f'), 'utf8'), 'good');
});

test.serial('a symlink as the target leads nowhere, also to a place that is allowed', async (t) => {
  const { h, out, restore } = await make(t);
  mkdirSync(join(h.base, 'elsewhere'));
  symlinkSync(join(h.base, 'elsewhere'), join(out, 'alias'));
  for (const overwrite of ['refuse', 'always'] as const) {
    await t.throwsAsync(restore(join(out, 'alias'), { overwrite }), {
      message: /refused as a target: alias on its way is a symlink/,
    });
  }
  t.deepEqual(readdirSync(join(h.base, 'elsewhere')), []);
});
