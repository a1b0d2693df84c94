/** `stpbackup db --sqlite`, as people run it, while another process writes the database. */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import test, { type ExecutionContext } from 'ava';
import { assertSqliteVersion } from '../../../src/source/sqlite.js';
import { finished, runProgram, until } from '../../support/array.js';
import { lastEvent } from '../../support/events.js';
import { Dice } from '../../support/random.js';
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
        `WITH moved AS (SELECT target AS id, amount FROM note
                        UNION ALL SELECT source, -amount FROM note),
              sums AS (SELECT id, sum(amount) AS amount FROM moved GROUP BY id)
         SELECT (SELECT sum(balance) FROM account) AS all_accounts,
                (SELECT count(*) FROM note) AS notes,
                (SELECT count(*) FROM account LEFT JOIN sums USING (id)
                 WHERE balance <> coalesce(amount, 0)) AS wrong`,
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

/** The generation that moves all pages. */
const VACUUM_AT = 6;

/** A table that only the test writes: what is in it at a moment is known. */
class Known {
  readonly #db: DatabaseSyncInstance;

  constructor(
    file: string,
    private readonly dice: Dice,
  ) {
    this.#db = new DatabaseSync(file, { timeout: 60_000 });
    this.#db.exec('CREATE TABLE known(id INTEGER PRIMARY KEY, data BLOB)');
    for (let id = 0; id < 3000; id++) this.#put(id);
  }

  #put(id: number): void {
    const data = Buffer.alloc(this.dice.whole(1, 2000), this.dice.whole(0, 255));
    this.#db.prepare('INSERT OR REPLACE INTO known VALUES (?, ?)').run(id, data);
  }

  change(generation: number): void {
    const { dice } = this;
    this.#db.exec('BEGIN IMMEDIATE');
    for (let i = dice.whole(1, 40); i > 0; i--) this.#put(dice.whole(0, 4000));
    const from = dice.whole(0, 3000);
    this.#db.prepare('DELETE FROM known WHERE id BETWEEN ? AND ?').run(from, from + 10);
    this.#db.exec('COMMIT');
    // Shorter than it was, and all of its pages elsewhere.
    if (generation === VACUUM_AT) {
      this.#db.exec('DELETE FROM known WHERE id % 3 = 0');
      this.#db.exec('VACUUM');
    }
  }

  static digest(db: DatabaseSyncInstance): string {
    const hash = createHash('sha256');
    for (const { id, data } of db.prepare('SELECT id, data FROM known ORDER BY id').all() as {
      id: number;
      data: Buffer;
    }[]) {
      hash.update(`${id} ${data.length} `).update(data);
    }
    return hash.digest('hex');
  }

  digest(): string {
    return Known.digest(this.#db);
  }

  close(): void {
    this.#db.close();
  }
}

for (const [mode, generations] of [
  ['wal', 10],
  ['delete', 3],
] as const) {
  const title = `${generations} generations (${mode}) under load: each is restored as it was`;
  test.serial(title, async (t) => {
    t.timeout(900_000);
    const h = await startDatabaseHouse(t);
    const file = join(h.base, 'app.db');
    const seed = Math.floor(Math.random() * 2 ** 31);
    t.log(`seed ${seed}`);
    const known = new Known(file, new Dice(seed));
    t.teardown(() => known.close());
    await startWriter(t, file, mode, seed);
    const none = await h.db('--sqlite', file, '--name', 'app', '--incremental');
    t.is(none.code, 1);
    t.regex(none.stderr, /make a full backup first/);

    const made: { set: string; digest: string }[] = [];
    for (let generation = 0; generation <= generations; generation++) {
      if (generation > 0) known.change(generation);
      const how = generation === 0 ? [] : ['--incremental'];
      const done = await h.db('--sqlite', file, '--name', 'app', '--json', ...how);
      t.is(done.code, 0, done.stderr);
      const { set, parent } = lastEvent(done.stdout) as { set: string; parent?: string };
      t.is(parent, made.at(-1)?.set);
      made.push({ set, digest: known.digest() });
    }
    const notes: number[] = [];
    for (const { set, digest } of made) {
      const back = join(h.base, `${set}.db`);
      const restored = await h.db('restore', set, '--to-file', back);
      t.is(restored.code, 0, restored.stderr);
      notes.push(assertOneMoment(t, back));
      const db = new DatabaseSync(back);
      t.is(Known.digest(db), digest, `set ${set}, generation ${notes.length - 1}`);
      db.close();
    }
    t.deepEqual(
      notes,
      [...notes].sort((a, b) => a - b),
      'the writer only added',
    );
    t.true((notes.at(-1) as number) > (notes[0] as number));
    const sets = await h.list();
    // Names of sets have seconds only, which two may share: not in the order of the list.
    const [full, ...others] = made.map(
      ({ set }) => sets.find(({ id }) => id === set)?.mediaBytes,
    ) as [number, ...number[]];
    // From the VACUUM on the deltas together are larger than the file, which then comes in full.
    for (const [i, bytes] of others.slice(0, VACUUM_AT - 1).entries()) {
      t.true(bytes < full / 2, `generation ${i + 1}: ${bytes} of ${full}`);
    }
    const checked = await runProgram('stpbackup', [
      ...['check', '--data', '--library', join(h.base, 'library')],
    ]);
    t.is(checked.code, 0, checked.stderr);
  });
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
