/** Who is asked is not running: exit code 5, and who has to be started is named. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { freePair } from '../../../bench/harness/free-pair.js';
import { runProgram, startArray } from '../../support/array.js';
import { lastEvent } from '../../support/events.js';
import { startRole } from './database-rig.js';

interface Place {
  readonly base: string;
  start(role: 'client' | 'server'): Promise<unknown>;
  fs(...more: string[]): ReturnType<typeof runProgram>;
  db(): ReturnType<typeof runProgram>;
}

/** Configurations for both roles; who is given no run directory finds no stpd. */
async function place(
  t: ExecutionContext,
  runs: { client?: string; server?: string } = {},
): Promise<Place> {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-absent-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  mkdirSync(join(base, 'src'));
  const keyFile = join(base, 'pair.key');
  await runProgram('stpbackup', ['key', 'new', keyFile]);
  const [wkp, serverWkp] = [await freePair(), await freePair()];
  const at = { client: join(base, 'client.json'), server: join(base, 'server.json') };
  const nowhere = join(base, 'no-stpd');
  const servers = { server1: { wkp: serverWkp } };
  const client = { name: 'host1', runDirectory: runs.client ?? nowhere, wkp, keyFile, servers };
  writeFileSync(at.client, JSON.stringify({ ...client, roots: ['src'] }));
  const server = { name: 'server1', runDirectory: runs.server ?? nowhere, stg: 'test' };
  writeFileSync(
    at.server,
    JSON.stringify({
      ...{ ...server, wkp: serverWkp, library: 'library', control: 'control.sock' },
      hosts: { host1: { wkp, keyFile } },
    }),
  );
  const db = ['--command', 'true', '--name', 'd', '--config', at.client];
  return {
    base,
    start: (role) => startRole(t, role, '--config', at[role]),
    fs: (...more) =>
      runProgram('stpbackup', ['fs', `host1:${base}/src`, '--config', at.server, ...more]),
    db: () => runProgram('stpbackup', ['db', ...db]),
  };
}

test.serial('no stpd', async (t) => {
  const p = await place(t);
  await p.start('client');
  await p.start('server');
  const fs = await p.fs();
  t.is(fs.code, 5, fs.stderr);
  t.regex(fs.stderr, /^stpbackup: no stpd serves .*no-stpd; start it with: stpd start --run-dir/);
  const events = await p.fs('--json');
  t.is(events.code, 5);
  t.like(lastEvent(events.stdout), { event: 'error', code: 'ECONNREFUSED', exitCode: 5 });
  const db = await p.db();
  t.is(db.code, 5, db.stderr);
  t.regex(db.stderr, /no stpd serves .*no-stpd; start it with: stpd start/);
});

test.serial('no stpd where the client is', async (t) => {
  const { runDirectory } = await startArray(t);
  const p = await place(t, { server: runDirectory });
  await p.start('client');
  await p.start('server');
  const { code, stderr } = await p.fs();
  t.is(code, 5, stderr);
  t.regex(stderr, /client host1 .*refused: .*no stpd serves .*no-stpd; start it with: stpd start/);
  const db = await p.db();
  t.is(db.code, 5, db.stderr);
  t.regex(db.stderr, /no stpd serves .*no-stpd; start it with: stpd start/);
});

test.serial('no client, no server', async (t) => {
  const p = await place(t);
  const db = await p.db();
  t.is(db.code, 5, db.stderr);
  t.regex(db.stderr, /server server1 at .*; .*start it with: stpbackup server --config FILE/);
  await p.start('server');
  for (const via of ['network', 'array-first']) {
    const { code, stderr } = await p.fs('--via', via);
    t.is(code, 5, stderr);
    t.regex(stderr, /client host1 at .*; .*start it with: stpbackup client --config FILE/);
  }
});
