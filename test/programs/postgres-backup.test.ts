/**
 * A real PostgreSQL, backed up through the array while pgbench writes: its own tools say whether
 * what comes back is whole. Skipped where it is not installed.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { until } from '../support/array.js';
import { startDatabaseHouse, stpbackup } from '../unit/backup/database-rig.js';
import {
  ARCHIVED,
  balancesAgree,
  bin,
  isRoot,
  makeCluster,
  NOBODY,
  startLoad,
  urlOf,
} from './postgres-cluster.js';
import { NO_POSTGRES } from './postgres-rig.js';

const pgTest = bin === undefined ? test.skip : test.serial;
if (bin === undefined) console.log(NO_POSTGRES);

pgTest('a full backup under load restores, verifies, starts, and its balances agree', async (t) => {
  const h = await startDatabaseHouse(t);
  const c = makeCluster(t);
  const space = join(c.directory, 'space');
  mkdirSync(space, { mode: 0o700 });
  if (isRoot) chownSync(space, NOBODY, NOBODY);
  c.start(c.data, 'fsync=off');
  c.sql(`CREATE TABLESPACE other LOCATION '${space}'`);
  c.sql('CREATE TABLE elsewhere TABLESPACE other AS SELECT generate_series(1, 50000) AS n');
  c.sql('CREATE UNLOGGED TABLE unlogged AS SELECT 1');
  c.run('pgbench', '-i', '-q', '-s', '2', '-h', c.directory, '-U', 'postgres', 'postgres');
  const stopLoad = await startLoad(t, c);

  const made = await h.db('--postgresql', urlOf(c), '--name', 'main');
  await stopLoad();
  t.is(made.code, 0, made.stderr);
  const [set] = await h.list();
  t.deepEqual(set?.roots, ['postgresql:main']);
  c.stop(c.data);
  rmSync(space, { recursive: true });

  const target = join(c.directory, 'restored');
  const back = await h.db('restore', 'latest', '--name', 'main', '--to-directory', target);
  t.true(back.code === 0 || !isRoot, back.stderr);
  if (isRoot) chownSync(target, NOBODY, NOBODY);
  const restored = join(target, 'data');
  t.regex(c.run('pg_verifybackup', restored), /backup successfully verified/);
  c.start(restored);
  balancesAgree(t, c);
  t.is(c.sql('SELECT count(*), sum(n) FROM elsewhere'), '50000|1250025000');
  t.is(c.sql('SELECT count(*) FROM unlogged'), '0');
  c.sql('INSERT INTO elsewhere VALUES (0)');
  c.stop(restored);

  // The same by plain tar, without this program.
  const plain = join(c.directory, 'plain');
  mkdirSync(plain);
  const media = join(h.base, 'library/sets', set?.id ?? '', 'media.tar');
  execFileSync('tar', ['xf', media, '-C', plain]);
  if (isRoot) execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, plain]);
  t.regex(c.run('pg_verifybackup', join(plain, 'data')), /backup successfully verified/);
});

pgTest('a server that is not there, or stops, leaves no set', async (t) => {
  const h = await startDatabaseHouse(t);
  const failed = await h.db('--postgresql', 'postgresql:///x?host=/nonexistent', '--name', 'x');
  t.is(failed.code, 1);
  t.regex(failed.stderr, /no PostgreSQL answers on .nonexistent/);
  const c = makeCluster(t);
  c.start(c.data, 'fsync=off');
  // A throttled checkpoint holds the backup at its beginning.
  c.sql('CREATE TABLE t AS SELECT generate_series(1, 200000) AS n');
  const running = h.spawnDb('--postgresql', urlOf(c), '--name', 'main', '--spread');
  await until('it began', () => h.partial().some((name) => name.endsWith('.partial')));
  c.stop(c.data, 'immediate');
  const ended = await running.ended;
  t.is(ended.code, 1, ended.stderr);
  await until('all is tidy', () => h.partial().length === 0);
  t.deepEqual(await h.list(), []);
});

pgTest('WAL through the running client: a restore to a named point in time', async (t) => {
  const h = await startDatabaseHouse(t, isRoot ? { uid: NOBODY } : {});
  chmodSync(h.base, 0o711);
  const client = await h.startClient();
  const c = makeCluster(t);
  const call = `${process.execPath} ${stpbackup}`;
  c.start(
    c.data,
    'archive_mode=on',
    `archive_command=${call} wal-push --control ${h.control} %p`,
    'wal_level=replica',
  );
  c.sql('CREATE TABLE t (n int); INSERT INTO t VALUES (1)');
  const made = await h.db('--postgresql', urlOf(c), '--name', 'main');
  t.is(made.code, 0, made.stderr);
  c.sql('INSERT INTO t VALUES (2)');
  c.sql('SELECT pg_switch_wal()');
  c.sql('INSERT INTO t VALUES (3)');
  c.sql("SELECT pg_create_restore_point('here')");
  c.sql('INSERT INTO t VALUES (4)');
  const last = c.sql('SELECT pg_walfile_name(pg_switch_wal())');
  await until('all is archived', () => c.sql(ARCHIVED) >= last);
  t.is(c.sql('SELECT failed_count FROM pg_stat_archiver'), '0');
  // One session served every segment, and it was the only one.
  const sessions = client.said.match(/WAL session with server1 stands/g);
  t.is(sessions?.length, 1);
  c.stop(c.data);

  const target = join(c.directory, 'restored');
  const back = await h.db('restore', 'latest', '--name', 'main', '--to-directory', target);
  t.true(back.code === 0 || !isRoot, back.stderr);
  if (isRoot) chownSync(target, NOBODY, NOBODY);
  const restored = join(target, 'data');
  writeFileSync(join(restored, 'recovery.signal'), '');
  c.start(
    restored,
    'archive_mode=off',
    `restore_command=${call} wal-fetch --control ${h.control} %f %p`,
    'recovery_target_name=here',
    'recovery_target_action=promote',
  );
  await until('it is promoted', () => c.sql('SELECT pg_is_in_recovery()') === 'f');
  t.is(c.sql('SELECT array_agg(n ORDER BY n) FROM t'), '{1,2,3}');
});
