/**
 * Cycles of backup, restore and judgement by PostgreSQL's own programs, while pgbench writes and
 * archives its WAL: once in `npm test`, as often as one likes by `npm run test:postgresql`.
 *
 * Each cycle: backup through the array by the running client, during which neither that, nor who asks
 * it, nor the server has a TCP connection; restore;
 * pg_verifybackup; start; pg_amcheck --heapallindexed; pgbench's four sums agree. Every fourth and
 * the last of several also restore to a named moment that lies behind the backup.
 */
import { chmodSync, chownSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { until } from '../support/array.js';
import {
  type DatabaseHouse,
  type Service,
  startDatabaseHouse,
  stpbackup,
  tcpOf,
} from '../unit/backup/database-rig.js';
import {
  ARCHIVED,
  balancesAgree,
  bin,
  type Cluster,
  isRoot,
  makeCluster,
  NOBODY,
  startLoad,
  urlOf,
} from './postgres-cluster.js';
import { NO_POSTGRES } from './postgres-rig.js';

const cycles = Number(process.env.STPD_POSTGRESQL_CYCLES ?? 1);
const scale = process.env.STPD_POSTGRESQL_SCALE ?? '2';
/** Of one cycle; a machine may be busy. */
const CYCLE_TIMEOUT_MS = 600_000;

const call = `${process.execPath} ${stpbackup}`;
const pgTest = bin === undefined ? test.skip : test.serial;
if (bin === undefined) console.log(NO_POSTGRES);

interface Stage {
  readonly h: DatabaseHouse;
  readonly c: Cluster;
  readonly client: Service;
}

/** Null if the process has ended. */
function connectionsOf(pid: number): string[] | null {
  try {
    return tcpOf(pid).connections;
  } catch (e) {
    if ((e as { code?: unknown }).code === 'ENOENT') return null;
    throw e;
  }
}

/** Backs up, and looks for TCP connections between the two once the storage connections stand. */
async function backUp(
  t: ExecutionContext,
  { h, c, client }: Stage,
  isFirst = true,
): Promise<number> {
  const running = h.spawnDb('--postgresql', urlOf(c), '--name', 'main', '--trace');
  let said = '';
  let over = false;
  running.child.stderr?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  void running.ended.then(() => {
    over = true;
  });
  const heard = h.server.said.length;
  await until('the session stands', () => over || / 214 {2}close/.test(said), CYCLE_TIMEOUT_MS);
  await until('both have closed', () => over || / 246 {2}close/.test(h.server.said.slice(heard)));
  let looks = 0;
  while (!over) {
    const found = connectionsOf(running.child.pid as number);
    if (found === null) break;
    const roles = [client, h.server].map(({ child }) => tcpOf(child.pid as number).connections);
    t.deepEqual([...found, ...roles.flat()], []);
    looks++;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const made = await running.ended;
  if (stoodStill(made.stderr) && isFirst) return backUp(t, { h, c, client }, false);
  t.is(made.code, 0, made.stderr);
  return looks;
}

/** A machine that stands still for longer than a step of a handshake may take is not our subject. */
const stoodStill = (stderr: string): boolean => /: step \d+ of Fig/.test(stderr);

async function restore(t: ExecutionContext, { h, c }: Stage): Promise<string> {
  const target = join(c.directory, 'restored');
  rmSync(target, { recursive: true, force: true });
  const ask = () => h.db('restore', 'latest', '--name', 'main', '--to-directory', target);
  let back = await ask();
  if (stoodStill(back.stderr)) back = await ask();
  t.true(back.code === 0 || !isRoot, back.stderr);
  if (isRoot) chownSync(target, NOBODY, NOBODY);
  const data = join(target, 'data');
  t.regex(c.run('pg_verifybackup', data), /backup successfully verified/);
  return data;
}

/** Of the restored cluster, which runs on a socket of its own beside the one under load. */
function judge(t: ExecutionContext, c: Cluster, port: number): void {
  const at = ['-h', c.directory, '-p', String(port), '-U', 'postgres'];
  c.run('pg_amcheck', ...at, '-d', 'postgres', '--install-missing', '--heapallindexed');
  balancesAgree(t, c, port);
}

const RESTORED_PORT = 5433;

async function restoreToMoment(t: ExecutionContext, stage: Stage, cycle: number): Promise<void> {
  const { h, c } = stage;
  c.sql(`INSERT INTO moment VALUES (${cycle})`);
  c.sql(`SELECT pg_create_restore_point('cycle ${cycle}')`);
  c.sql(`INSERT INTO moment VALUES (${cycle} + 0.5)`);
  const last = c.sql('SELECT pg_walfile_name(pg_switch_wal())');
  await until('all is archived', () => c.sql(ARCHIVED) >= last, CYCLE_TIMEOUT_MS);
  const data = await restore(t, stage);
  writeFileSync(join(data, 'recovery.signal'), '');
  c.start(
    data,
    `port=${RESTORED_PORT}`,
    'archive_mode=off',
    `restore_command=${call} wal-fetch --control ${h.control} %f %p`,
    `recovery_target_name=cycle ${cycle}`,
    'recovery_target_action=promote',
  );
  const inRecovery = (): string => c.sql('SELECT pg_is_in_recovery()', 'postgres', RESTORED_PORT);
  await until('it is promoted', () => inRecovery() === 'f', CYCLE_TIMEOUT_MS);
  t.is(Number(c.sql('SELECT max(n) FROM moment', 'postgres', RESTORED_PORT)), cycle);
  judge(t, c, RESTORED_PORT);
  c.stop(data);
}

pgTest(`${cycles} cycles under load`, async (t) => {
  const h = await startDatabaseHouse(t, isRoot ? { uid: NOBODY } : {});
  chmodSync(h.base, 0o711);
  const stage: Stage = { h, c: makeCluster(t), client: await h.startClient() };
  const { c, client } = stage;
  c.start(
    c.data,
    'fsync=off',
    'archive_mode=on',
    `archive_command=${call} wal-push --control ${h.control} %p`,
  );
  c.sql('CREATE TABLE moment (n numeric)');
  c.run('pgbench', '-i', '-q', '-s', scale, '-h', c.directory, '-U', 'postgres', 'postgres');
  // The session of the WAL has its handshake now, not while somebody looks for TCP connections.
  const first = c.sql('SELECT pg_walfile_name(pg_switch_wal())');
  await until('the WAL has its session', () => c.sql(ARCHIVED) >= first, CYCLE_TIMEOUT_MS);
  const stopLoad = await startLoad(t, c);
  let looks = 0;
  let moments = 0;
  for (let cycle = 1; cycle <= cycles; cycle++) {
    t.timeout(CYCLE_TIMEOUT_MS);
    looks += await backUp(t, stage);
    const data = await restore(t, stage);
    c.start(data, `port=${RESTORED_PORT}`, 'archive_mode=off');
    judge(t, c, RESTORED_PORT);
    c.stop(data);
    if (cycles > 1 && (cycle % 4 === 0 || cycle === cycles)) {
      await restoreToMoment(t, stage, cycle);
      moments++;
    }
    if (cycles > 1) console.log(`cycle ${cycle}: good`);
  }
  await stopLoad();
  const transactions = c.sql('SELECT count(*) FROM pgbench_history');
  const archived = c.sql('SELECT archived_count, failed_count FROM pg_stat_archiver');
  t.log(
    `${cycles} cycles, ${moments} restores to a moment, ${transactions} transactions, ` +
      `${looks} looks at the TCP connections, archived and failed segments: ${archived}`,
  );
  t.true(looks > 0);
  t.regex(archived, /\|0$/);
  t.is(client.said.match(/WAL session with server1 stands/g)?.length ?? 0, 1);
});
