/** `stpbackup db --sqlite`, as people run it, while another process writes the database. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DatabaseSync } from '@photostructure/sqlite';
import test, { type ExecutionContext } from 'ava';
import { assertSqliteVersion } from '../../../src/source/sqlite.js';
import { finished, until } from '../../support/array.js';
import { startDatabaseHouse } from './database-rig.js';

const writerProgram = fileURLToPath(new URL('../../support/sqlite-writer.js', import.meta.url));

/** Starts the program that writes; resolves when it does. Ends with the test, or by `stop`. */
async function startWriter(t: ExecutionContext, file: string, mode: string, seed: number) {
  const child = spawn(process.execPath, [writerProgram, file, mode, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = finished(child);
  let said = '';
  child.stdout.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
  };
  t.teardown(stop);
  await until('it writes', () => said.includes('writing'));
  return stop;
}

/** Sound, and the database of one moment: every transaction of the writer is there whole or not. */
function assertOneMoment(t: ExecutionContext, file: string): number {
  const db = new DatabaseSync(file);
  try {
    t.deepEqual({ ...db.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' });
    const sums = db
      .prepare(
        `SELECT (SELECT sum(balance) FROM account) AS all_accounts, (SELECT count(*) FROM note) AS notes,
         (SELECT count(*) FROM account a WHERE balance <>
           (SELECT coalesce(sum(amount), 0) FROM note WHERE target = a.id) -
           (SELECT coalesce(sum(amount), 0) FROM note WHERE source = a.id)) AS wrong`,
      )
      .get() as { all_accounts: number; notes: number; wrong: number };
    t.is(sums.all_accounts, 0);
    t.is(sums.wrong, 0);
    return sums.notes;
  } finally {
    db.close();
  }
}

for (const mode of ['wal', 'delete']) {
  test.serial(
    `a database (${mode}) that is being written: one moment of it comes back`,
    async (t) => {
      const h = await startDatabaseHouse(t);
      const file = join(h.base, 'app.db');
      const seed = Math.floor(Math.random() * 2 ** 31);
      t.log(`seed ${seed}`);
      const stop = await startWriter(t, file, mode, seed);
      const scratch = join(h.base, 'scratch');
      mkdirSync(scratch);
      const made = await h.db('--sqlite', file, '--name', 'app', '--scratch', scratch);
      t.is(made.code, 0, made.stderr);
      t.deepEqual(readdirSync(scratch), []);
      const [set] = await h.list();
      t.like(set, { entries: 1, roots: ['sqlite:app'] });
      const back = join(h.base, 'back.db');
      const restored = await h.db('restore', 'latest', '--name', 'app', '--to-file', back);
      t.is(restored.code, 0, restored.stderr);
      t.true(assertOneMoment(t, back) > 0);
      await stop();

      // The same by plain tar.
      const media = join(h.base, 'library/sets', set?.id ?? '', 'media.tar');
      execFileSync('tar', ['xf', media, '-C', scratch]);
      assertOneMoment(t, join(scratch, 'app.sqlite'));
    },
  );
}

test.serial('what is no database, or has a log of another, is refused', async (t) => {
  const h = await startDatabaseHouse(t);
  const file = join(h.base, 'app.db');
  writeFileSync(file, 'x'.repeat(5000));
  const refused = await h.db('--sqlite', file, '--name', 'app');
  t.is(refused.code, 2, refused.stderr);
  t.regex(refused.stderr, /is no SQLite database/);
  rmSync(file);
  t.is((await h.db('--sqlite', file, '--name', 'app')).code, 1);
  t.false(existsSync(file));

  const db = new DatabaseSync(file);
  db.exec('CREATE TABLE t(a); INSERT INTO t VALUES (1)');
  db.close();
  t.is((await h.db('--sqlite', file, '--name', 'app')).code, 0);
  const target = join(h.base, 'target.db');
  writeFileSync(`${target}-wal`, 'the log of what was here before');
  const kept = await h.db('restore', 'latest', '--to-file', target);
  t.is(kept.code, 1);
  t.regex(kept.stderr, /target\.db-wal belongs to another database/);
  t.false(existsSync(target));
  rmSync(`${target}-wal`);
  t.is((await h.db('restore', 'latest', '--to-file', target)).code, 0);
  t.is(readFileSync(target).length, readFileSync(file).length);
  await until('all is tidy', () => h.partial().length === 0);
});

test('trap 16: an SQLite with the WAL-reset bug is refused', (t) => {
  for (const old of ['3.7.0', '3.40.1', '3.51.2']) {
    t.throws(() => assertSqliteVersion(old), { code: 'ENOTSUP', message: /may corrupt/ });
  }
  for (const sound of ['3.51.3', '3.52.0', '3.53.1', '4.0.0']) {
    t.notThrows(() => assertSqliteVersion(sound));
  }
});
