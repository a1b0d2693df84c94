/** Volumes, compression and encryption as people use them: separate processes, one configuration. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { freePair } from '../../../bench/harness/free-pair.js';
import { type Finished, finished, runProgram, startArray, until } from '../../support/array.js';
import { makeTree } from '../library/media-kinds.js';
import { run } from '../library/stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
/** For a machine that is busy with something else; nothing is measured. */
const WATCHDOG_MS = 15 * 60_000;
const stpbackup = fileURLToPath(new URL('../../../src/ctl/stpbackup.js', import.meta.url));

async function startRole(t: ExecutionContext, ...args: string[]): Promise<void> {
  const child: ChildProcess = spawn(process.execPath, [stpbackup, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = finished(child);
  let said = '';
  const hear = (text: Buffer): void => {
    said += text.toString();
  };
  child.stdout?.on('data', hear);
  child.stderr?.on('data', hear);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await until(`${args[0]} is ready`, () => /listens on|answers on/.test(said));
}

interface House {
  readonly base: string;
  readonly src: string;
  ask(...args: string[]): Promise<Finished>;
  /** The same, and it must go well. */
  done(...args: string[]): Promise<string>;
  /** Restores into a new directory and compares with the source. */
  compare(set: string, ...more: string[]): Promise<string>;
}

/** @param media of the server's configuration */
async function startHouse(
  t: ExecutionContext,
  media: (base: string) => Promise<object>,
): Promise<House> {
  t.log(`seed ${seed}`);
  const { runDirectory } = await startArray(t, { boards: 8, boardSize: '1MiB' });
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-media-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  mkdirSync(join(base, 'out'));
  const src = join(base, 'src');
  makeTree(src, seed);
  const keyFile = join(base, 'pair.key');
  await runProgram('stpbackup', ['key', 'new', keyFile]);
  const [wkp, serverWkp] = [await freePair(), await freePair()];
  const client = join(base, 'client.json');
  const server = join(base, 'server.json');
  const write = (file: string, value: object) => writeFileSync(file, JSON.stringify(value));
  const servers = { server1: { wkp: serverWkp } };
  const roots = { roots: ['src'], restoreRoots: ['out'] };
  write(client, { name: 'host1', runDirectory, wkp, keyFile, servers, ...roots });
  write(server, {
    name: 'server1',
    runDirectory,
    stg: 'test',
    wkp: serverWkp,
    library: 'library',
    control: 'control.sock',
    hosts: { host1: { wkp, keyFile } },
    media: await media(base),
  });
  await startRole(t, 'client', '--config', client);
  await startRole(t, 'server', '--config', server);
  const ask = (...args: string[]) =>
    runProgram('stpbackup', [...args, '--config', args[0] === 'db' ? client : server]);
  const done = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await ask(...args);
    t.is(code, 0, `${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  let restores = 0;
  const compare = async (set: string, ...more: string[]): Promise<string> => {
    const target = join(base, 'out', String(restores++));
    await done('restore', set, `host1:${target}`, ...more);
    const how = ['-aHn', '--checksum', '--itemize-changes', '--delete'];
    return run('rsync', [...how, `${src}/`, `${target}${src}/`]).toString();
  };
  return { base, src, ask, done, compare };
}

const setDirectory = (base: string): string => {
  const sets = join(base, 'library/sets');
  // Names have seconds only, which two sets may share.
  const startOf = (id: string): string =>
    JSON.parse(readFileSync(join(sets, id, 'set.json'), 'utf8')).startedAt;
  const ids = readdirSync(sets).sort((a, b) => (startOf(a) < startOf(b) ? -1 : 1));
  return join(sets, ids.at(-1) as string);
};

test.serial(
  'encrypted, compressed, in volumes: from the backup to the shelf and back',
  async (t) => {
    t.timeout(WATCHDOG_MS);
    const key = (base: string) => join(base, 'owner.age');
    const h = await startHouse(t, async (base) => {
      const made = await runProgram('stpbackup', ['key', 'identity', key(base)]);
      t.regex(made.stdout, /^age1[a-z0-9]{58}\n$/);
      t.is(statSync(key(base)).mode & 0o777, 0o600);
      await runProgram('stpbackup', ['key', 'identity', join(base, 'lists.age')]);
      return {
        volumeBytes: 128 * 1024,
        compress: 'zstd',
        recipients: [made.stdout.trim()],
        listIdentity: 'lists.age',
      };
    });
    const { base, src, ask, done, compare } = h;
    const identity = ['--identity', key(base)];
    await done('fs', `host1:${src}`, '--streams', '2');
    appendFileSync(join(src, 'f1'), 'more');
    const report = JSON.parse(await done('fs', '--incremental', `host1:${src}`, '--json'));
    t.is(typeof report.parent, 'string');
    t.is(await compare('latest', ...identity), '');

    // The server's own key shows names, and no data.
    t.regex(await done('ls', 'latest'), /large\/a-noise/);
    const refused = await ask('restore', 'latest', `host1:${join(base, 'out/no')}`);
    t.is(refused.code, 1);
    t.regex(refused.stderr, /is encrypted.*--identity FILE/s);

    // Off to the shelf with a volume of the full set, which the incremental one needs.
    const [{ id: full, volumes }] = JSON.parse(await done('list', '--json')).sets;
    t.deepEqual([...new Set(volumes.map((v: { medium: number }) => v.medium))], [0, 1]);
    const shelf = join(base, 'shelf');
    mkdirSync(shelf);
    const name = `${full}.m1.v0002.tar.zst.age`;
    renameSync(join(base, 'library/sets', full, name), join(shelf, name));
    const missing = await ask('restore', full, `host1:${join(base, 'out/missing')}`, ...identity);
    t.is(missing.code, 1);
    t.true(missing.stderr.includes(name) && missing.stderr.includes('--media'));
    t.is(await compare('latest', ...identity, '--media', shelf), '');

    // A database is restored from its host, with the same key.
    await done('db', 'backup', 'server1', '--command', 'seq 100000', '--name', 'numbers');
    const out = join(base, 'numbers');
    const back = ['db', 'restore', 'latest', 'server1', '--name', 'numbers', '--to-file', out];
    const closed = await ask(...back);
    t.is(closed.code, 1);
    t.regex(closed.stderr, /is encrypted.*--identity FILE/s);
    await done(...back, ...identity);
    t.is(readFileSync(out, 'latin1'), run('seq', ['100000']).toString());
  },
);

test.serial(
  'a backup says how its media are to be; a database takes the configuration',
  async (t) => {
    t.timeout(WATCHDOG_MS);
    const { base, src, ask, done, compare } = await startHouse(t, async () => ({
      volumeBytes: 1 << 20,
      compress: 'zstd:1',
    }));
    await done('fs', `host1:${src}`, '--volume-size', '0', '--compress', 'none');
    t.true(readdirSync(setDirectory(base)).includes('media.tar'));
    t.is(await compare('latest'), '');
    await done('fs', `host1:${src}`, '--volume-size', '64KiB', '--compress', 'none');
    const cut = readdirSync(setDirectory(base)).filter((name) => /\.v\d{4}\.tar$/.test(name));
    t.true(cut.length > 20);
    t.is(await compare('latest'), '');
    for (const bad of [
      ['--volume-size', '1000'],
      ['--volume-size', 'x'],
      ['--compress', 'zip'],
      ['--compress', 'zstd:20'],
    ]) {
      t.is((await ask('fs', `host1:${src}`, ...bad)).code, 2, bad.join(' '));
    }
    await done('db', 'backup', 'server1', '--command', 'seq 300000', '--name', 'numbers');
    t.true(readdirSync(setDirectory(base)).some((name) => name.endsWith('.v0001.tar.zst')));
    const out = join(base, 'numbers');
    const last = JSON.parse(await done('list', '--json')).sets.at(-1);
    await done('db', 'restore', last.id, 'server1', '--to-file', out);
    t.is(readFileSync(out, 'latin1'), run('seq', ['300000']).toString());
  },
);
