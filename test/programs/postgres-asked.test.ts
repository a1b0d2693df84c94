/**
 * Base backups that the running client makes because its user asks: who connects, what goes over the
 * control socket, and how both sides end. With a real PostgreSQL; skipped where it is not installed.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { freePair } from '../../bench/harness/free-pair.js';
import { type Finished, finished, until } from '../support/array.js';
import { openOf, untilOpen } from '../unit/backup/asked-rig.js';
import {
  type DatabaseHouse,
  type Service,
  startDatabaseHouse,
  stpbackup,
} from '../unit/backup/database-rig.js';
import {
  asUser,
  bin,
  type Cluster,
  isRoot,
  makeCluster,
  NOBODY,
  urlOf,
} from './postgres-cluster.js';
import { NO_POSTGRES } from './postgres-rig.js';

const pgTest = bin === undefined ? test.skip : test.serial;
if (bin === undefined) console.log(NO_POSTGRES);

interface Rig {
  readonly h: DatabaseHouse;
  readonly c: Cluster;
}

/** A cluster that runs, and a house whose control socket is for PostgreSQL's user. */
async function start(t: ExecutionContext, ...options: string[]): Promise<Rig> {
  const h = await startDatabaseHouse(t, isRoot ? { uid: NOBODY } : {});
  chmodSync(h.base, 0o711);
  const c = makeCluster(t);
  c.start(c.data, 'fsync=off', ...options);
  return { h, c };
}

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Finished>;
}

/** `stpbackup db --name main ...` of PostgreSQL's user, with nothing in its environment but this. */
function spawnAsked(env: Readonly<Record<string, string>>, ...args: string[]): Running {
  const child = spawn(process.execPath, [stpbackup, 'db', '--name', 'main', ...args], {
    ...asUser,
    cwd: '/',
    env: { PATH: process.env.PATH, HOME: '/nonexistent', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return { child, ended: finished(child) };
}

const asked = (h: DatabaseHouse, c: Cluster, ...args: string[]): Promise<Finished> =>
  spawnAsked({}, '--postgresql', urlOf(c), '--control', h.control, ...args).ended;

/** The last set is a cluster that its own tool finds whole. */
async function verifies(t: ExecutionContext, { h, c }: Rig): Promise<void> {
  const target = join(c.directory, 'restored');
  const back = await h.db('restore', 'latest', '--name', 'main', '--to-directory', target);
  t.true(back.code === 0 || !isRoot, back.stderr);
  if (isRoot) execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, target]);
  t.regex(c.run('pg_verifybackup', join(target, 'data')), /backup successfully verified/);
  rmSync(target, { recursive: true });
}

const made = (client: Service): number => client.said.match(/backup of main: set /g)?.length ?? 0;

/** Time for whoever interferes: 1 MB/s for a cluster of more than 20. */
const SLOWLY = ['--limit-rate', '1M'] as const;
const isMoving = (h: DatabaseHouse): Promise<boolean> =>
  until('it moves data', () => h.partial().some((name) => name.endsWith('.partial')));

async function leavesNothing(t: ExecutionContext, h: DatabaseHouse, sets = 0): Promise<void> {
  await until('all is tidy', () => h.partial().length === 0);
  t.is((await h.list()).length, sets);
}

pgTest('another user needs the control socket only, and gets a whole backup', async (t) => {
  const rig = await start(t);
  const { h, c } = rig;
  const client = await h.startClient();
  if (isRoot) {
    // It may neither read the key nor attach to the array.
    const alone = await spawnAsked({}, '--command', 'true', '--config', h.clientConfig).ended;
    t.not(alone.code, 0);
  } else t.log('skipped: another user, for want of root');
  const byControl = await asked(h, c);
  t.is(byControl.code, 0, byControl.stderr);
  t.regex(byControl.stderr, /^set +\S+/m);
  await verifies(t, rig);
  const from = ['--postgresql', urlOf(c), '--config', h.clientConfig];
  const byConfig = await spawnAsked({}, ...from).ended;
  t.is(byConfig.code, 0, byConfig.stderr);
  await verifies(t, rig);
  t.is(made(client), 2);
  t.is((await h.list()).length, 2);
});

pgTest(
  'without a client a socket that was named fails, and a configuration does not',
  async (t) => {
    const rig = await start(t);
    const { h, c } = rig;
    const none = await asked(h, c);
    t.is(none.code, 5);
    t.regex(
      none.stderr,
      /no stpbackup client answers on .*; start it with: stpbackup client --config/,
    );
    const alone = await h.db('--postgresql', urlOf(c), '--name', 'main');
    t.is(alone.code, 0, alone.stderr);
    await verifies(t, rig);
    // What a client left that was killed.
    const client = await h.startClient();
    client.child.kill('SIGKILL');
    await client.ended;
    t.is((await asked(h, c)).code, 5);
    t.is((await h.db('--postgresql', urlOf(c), '--name', 'main')).code, 0);
  },
);

pgTest('a user whom the socket was not given to is told who may', async (t) => {
  if (!isRoot) {
    t.log('skipped: another user, for want of root');
    return t.pass();
  }
  const { h, c } = await start(t);
  const client = await h.startClient();
  chownSync(h.control, 0, 0);
  const refused = await asked(h, c);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /may be asked by uid 0 and root only/);
  t.is(made(client), 0);
});

pgTest('a verb that is killed or interrupted gives the backup up', async (t) => {
  t.timeout(300_000);
  const { h, c } = await start(t);
  const client = await h.startClient();
  t.is((await asked(h, c)).code, 0);
  const before = openOf(client.child.pid);
  const from = ['--postgresql', urlOf(c), '--control', h.control];
  for (const signal of ['SIGKILL', 'SIGINT'] as const) {
    for (const held of [SLOWLY, ['--spread']]) {
      // A throttled checkpoint with work to do holds the backup at its beginning.
      c.sql('DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT generate_series(1, 200000) AS n');
      const verb = spawnAsked({}, ...from, ...held, '--trace');
      let said = '';
      verb.child.stderr?.on('data', (text: Buffer) => {
        said += text.toString();
      });
      await isMoving(h);
      // It has loaded what it shows, and listens for signals.
      await until('it shows the session', () => /Fig. 5/.test(said));
      verb.child.kill(signal);
      const { code, stderr } = await verb.ended;
      if (signal === 'SIGINT') {
        t.is(code, 1);
        t.regex(stderr, /interrupted: the session was given up/);
      }
      await leavesNothing(t, h, 1);
    }
  }
  t.is((client.said.match(/who asked for it is gone/g) ?? []).length, 4);
  // One that is good has a thread left, as before.
  t.is((await asked(h, c)).code, 0);
  await untilOpen(client.child.pid, before);
  const running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stpbackup'";
  await until('PostgreSQL has given all of them up', () => c.sql(running) === '0');
});

pgTest('many backups, good and bad, leave nothing open in the client', async (t) => {
  t.timeout(300_000);
  const { h, c } = await start(t);
  const client = await h.startClient();
  t.is((await asked(h, c)).code, 0);
  const before = openOf(client.child.pid);
  const nobody = urlOf(c).replace('postgres@', 'nobody-of-this-name@');
  for (let i = 0; i < 3; i++) {
    const failed = await spawnAsked({}, '--postgresql', nobody, '--control', h.control).ended;
    t.is(failed.code, 1);
    t.regex(failed.stderr, /role "nobody-of-this-name" does not exist/);
    t.is((await asked(h, c)).code, 0);
  }
  await untilOpen(client.child.pid, before);
  await leavesNothing(t, h, 4);
});

pgTest('a client that stops or dies in the middle fails the verb, and lists nothing', async (t) => {
  const { h, c } = await start(t);
  for (const [signal, reason] of [
    ['SIGTERM', /the client was stopped/],
    ['SIGKILL', /the client ended before the session did: it was stopped or killed/],
  ] as const) {
    const client = await h.startClient();
    const verb = asked(h, c, ...SLOWLY);
    await isMoving(h);
    client.child.kill(signal);
    const { code, stderr } = await verb;
    t.is(code, 1, stderr);
    t.regex(stderr, reason);
    await client.ended;
    await leavesNothing(t, h);
  }
});

pgTest('what is printed is what a session of its own prints', async (t) => {
  const { h, c } = await start(t);
  const client = await h.startClient();
  const from = ['--postgresql', urlOf(c), '--name', 'main'];
  const unknown = await asked(h, c, 'elsewhere');
  t.is(unknown.code, 2);
  t.regex(unknown.stderr, /no server elsewhere; "servers" has: server1/);

  const ways: (readonly string[])[] = [[], ['--json'], ['--quiet'], ['--trace', '--quiet']];
  const byClient: Finished[] = [];
  for (const way of ways) byClient.push(await h.db(...from, ...way));
  t.is(made(client), ways.length);
  client.child.kill('SIGTERM');
  await client.ended;
  for (const [i, way] of ways.entries()) {
    const [asking, alone] = [byClient[i] as Finished, await h.db(...from, ...way)];
    t.deepEqual([asking.code, alone.code], [0, 0], asking.stderr);
    t.deepEqual(shape(asking), shape(alone), way.join(' '));
  }
});

/** What stays of an output when numbers and ids are gone. */
function shape({ stdout, stderr }: Finished): object {
  const last = stdout.trim().split('\n').at(-1) ?? '';
  const names = last === '' ? [] : Object.keys(JSON.parse(last) as object).sort();
  const steps = stderr.split('\n').filter((line) => /Fig\. 5/.test(line));
  const rows = stderr.split('\n').filter((line) => /^[a-z][a-z ]* {2,}/.test(line));
  const words = (line: string): string => line.replace(/[\d.]+/g, '0').replace(/ +/g, ' ');
  return { names, steps: steps.map(words).sort(), rows: rows.map((row) => row.split('  ')[0]) };
}

pgTest('--limit-rate holds through the client', async (t) => {
  const { h, c } = await start(t);
  await h.startClient();
  const bytesPerSecond = 8_000_000;
  const limited = await asked(h, c, '--json', '--limit-rate', `${bytesPerSecond}`);
  t.is(limited.code, 0, limited.stderr);
  const { memoryBytes, seconds } = JSON.parse(limited.stdout.trim().split('\n').at(-1) as string);
  t.true(seconds >= (0.7 * memoryBytes) / bytesPerSecond, `${memoryBytes} bytes in ${seconds} s`);
});

pgTest('segments do not wait for a base backup of the same client', async (t) => {
  const { h, c } = await start(t);
  await h.startClient();
  const verb = spawnAsked({}, '--postgresql', urlOf(c), '--control', h.control, ...SLOWLY);
  await isMoving(h);
  for (let i = 1; i <= 3; i++) {
    const path = join(c.directory, `00000001000000000000000${i}`);
    writeFileSync(path, `segment ${i}`);
    const args = [stpbackup, 'wal-push', '--control', h.control, path];
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    t.is(status, 0, stderr);
    t.is(verb.child.exitCode, null);
  }
  verb.child.kill('SIGINT');
  t.is((await verb.ended).code, 1);
});

/** Sets variables of this process, which whoever is started inherits; back with the test. */
function setEnvironment(t: ExecutionContext, env: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(env)) {
    const before = process.env[name];
    process.env[name] = value;
    t.teardown(() => {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    });
  }
}

pgTest("the client's own environment is never a caller's", async (t) => {
  const h = await startDatabaseHouse(t, isRoot ? { uid: NOBODY } : {});
  chmodSync(h.base, 0o711);
  const c = makeCluster(t);
  c.start(c.data, 'fsync=off', 'password_encryption=scram-sha-256');
  c.sql("ALTER ROLE postgres PASSWORD 'right'");
  c.stop(c.data);
  const hba = join(c.data, 'pg_hba.conf');
  writeFileSync(hba, 'local all all scram-sha-256\nlocal replication all scram-sha-256\n');
  c.start(c.data, 'fsync=off');
  const home = join(c.directory, 'home');
  mkdirSync(home);
  const passwords = join(home, '.pgpass');
  writeFileSync(passwords, '*:*:*:*:right\n', { mode: 0o600 });
  const ofCaller = join(c.directory, 'passwords');
  writeFileSync(ofCaller, '*:*:*:postgres:right\n', { mode: 0o600 });
  if (isRoot) chownSync(ofCaller, NOBODY, NOBODY);
  setEnvironment(t, {
    PGPASSWORD: 'right',
    PGPASSFILE: passwords,
    HOME: home,
    PGSSLMODE: 'require',
  });
  const client = await h.startClient();
  const from = ['--postgresql', urlOf(c), '--control', h.control];
  const without = await spawnAsked({}, ...from).ended;
  t.is(without.code, 1);
  t.regex(without.stderr, /asks postgres for a password, and there is none/);
  const wrong = await spawnAsked({ PGPASSWORD: 'wrong' }, ...from).ended;
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /password authentication failed/);
  const right = await spawnAsked({ PGPASSFILE: ofCaller }, ...from).ended;
  t.is(right.code, 0, right.stderr);
  t.is(made(client), 1);
  t.notRegex(client.said, /right/);
});

/** A certificate for localhost and 127.0.0.1 that signs itself; false without openssl. */
function makeCertificate(directory: string, name: string): boolean {
  const [key, cert] = [join(directory, `${name}.key`), join(directory, `${name}.crt`)];
  const { status } = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'],
    ...['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', cert],
  ]);
  if (status !== 0) return false;
  chmodSync(key, 0o600);
  chmodSync(cert, 0o644);
  if (isRoot) chownSync(key, NOBODY, NOBODY);
  return true;
}

pgTest('over TCP, in the clear and with TLS, through the client and without one', async (t) => {
  t.timeout(300_000);
  const h = await startDatabaseHouse(t, isRoot ? { uid: NOBODY } : {});
  chmodSync(h.base, 0o711);
  const c = makeCluster(t);
  const isTls = makeCertificate(c.directory, 'server') && makeCertificate(c.directory, 'other');
  if (!isTls) t.log('skipped: TLS, for want of openssl');
  const port = await freePair();
  const [key, cert] = [join(c.directory, 'server.key'), join(c.directory, 'server.crt')];
  const tls = ['ssl=on', `ssl_cert_file=${cert}`, `ssl_key_file=${key}`];
  c.start(c.data, 'fsync=off', 'listen_addresses=127.0.0.1', `port=${port}`, ...(isTls ? tls : []));
  const url = (query: string): string => `postgresql://postgres@127.0.0.1:${port}/postgres${query}`;
  const ca = (name: string): string => `sslrootcert=${join(c.directory, `${name}.crt`)}`;
  const ways: (readonly [string, RegExp | null])[] = [['', null]];
  if (isTls) {
    // As some have it: the right authority among those of a whole system.
    const bundle = execFileSync('cat', [cert], { encoding: 'utf8' });
    const filler = '# one of the others\n'.repeat(15_000);
    writeFileSync(join(c.directory, 'bundle.crt'), filler + bundle, { mode: 0o644 });
    ways.push(
      ['?sslmode=no-verify', null],
      [`?sslmode=verify-full&${ca('server')}`, null],
      [`?sslmode=verify-full&${ca('bundle')}`, null],
      [`?sslmode=verify-full&${ca('other')}`, /certificate/],
      ['?sslmode=verify-full', /certificate/],
    );
  }
  const closed = url('').replace(`:${port}/`, `:${await freePair()}/`);
  for (const withClient of [true, false]) {
    const client = withClient ? await h.startClient() : undefined;
    const db = (from: string) => h.db('--postgresql', from, '--name', 'main');
    for (const [query, reason] of ways) {
      const { code, stderr } = await db(url(query));
      t.is(code, reason === null ? 0 : 1, `${query}: ${stderr}`);
      if (reason) t.regex(stderr, reason);
    }
    const nobody = await db(closed);
    t.is(nobody.code, 1);
    t.regex(nobody.stderr, /no PostgreSQL answers on 127.0.0.1, port \d+; is it running/);
    if (client === undefined) continue;
    t.is(made(client), ways.filter(([, reason]) => reason === null).length);
    client.child.kill('SIGTERM');
    await client.ended;
  }
  await verifies(t, { h, c });
});
