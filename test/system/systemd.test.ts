/** The unit files, and the word to systemd that they wait for. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { freePair } from '../../bench/harness/free-pair.js';
import { native } from '../../src/native.js';
import { notifySupervisor } from '../../src/notify.js';
import { finished, until } from '../support/array.js';

const units = fileURLToPath(new URL('../../../contrib/systemd/', import.meta.url));
const program = (name: string): string =>
  fileURLToPath(new URL(`../../src/ctl/${name}.js`, import.meta.url));

function hasPython(): boolean {
  return spawnSync('python3', ['--version']).status === 0;
}

const hasAnalyze = spawnSync('systemd-analyze', ['--version']).status === 0;
for (const name of readdirSync(units)) {
  (hasAnalyze ? test : test.skip)(`${name}: systemd finds nothing wrong`, (t) => {
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', join(units, name)], {
      encoding: 'utf8',
    });
    t.deepEqual([status, stderr], [0, '']);
  });
}

(hasAnalyze ? test : test.skip)(
  'their system call filter lets memory files and ionice through',
  (t) => {
    const known = execFileSync('systemd-analyze', ['syscall-filter', '--no-pager'], {
      encoding: 'utf8',
    });
    const groups = new Map<string, string[]>();
    let group: string[] = [];
    for (const line of known.split('\n')) {
      if (line.startsWith('@')) {
        group = [];
        groups.set(line.trim(), group);
      } else if (/^\s+[@a-z]/.test(line)) group.push(line.trim());
    }
    const has = (set: string, call: string): boolean =>
      (groups.get(set) ?? []).some((one) => one === call || (one[0] === '@' && has(one, call)));
    for (const call of [
      'memfd_create',
      'fallocate',
      'futex',
      'ioprio_set',
      'setpriority',
      'sendto',
    ]) {
      t.true(has('@system-service', call), call);
    }
  },
);

/** A socket of datagrams as systemd has one; what arrives is in a file, a line each. */
async function supervisor(t: ExecutionContext) {
  const base = mkdtempSync(join(tmpdir(), 'stpd-notify-'));
  const [path, said] = [join(base, 'notify'), join(base, 'said')];
  writeFileSync(said, '');
  const code =
    'import socket, sys\n' +
    's = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n' +
    's.bind(sys.argv[1])\n' +
    'while True: open(sys.argv[2], "ab").write(s.recv(65536) + b"\\n")\n';
  const child = spawn('python3', ['-c', code, path, said], { stdio: 'ignore' });
  const ended = finished(child);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(base, { recursive: true, force: true });
  });
  await until('the supervisor listens', () => existsSync(path));
  return { base, path, said: () => readFileSync(said, 'utf8').trim().split('\n') };
}

(hasPython() ? test.serial : test.serial.skip)(
  'stpd and a role say READY and STOPPING',
  async (t) => {
    const { base, path, said } = await supervisor(t);
    const start = (name: string, ...args: string[]) => {
      const child = spawn(process.execPath, [program(name), ...args], {
        env: { ...process.env, NOTIFY_SOCKET: path },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const ended = finished(child);
      t.teardown(async () => {
        child.kill('SIGKILL');
        await ended;
      });
      return { child, ended };
    };
    const runDirectory = join(base, 'run');
    const small = ['--boards', '4', '--board-size', '1MiB'];
    const stpd = start('stpd', 'start', '--foreground', '--run-dir', runDirectory, ...small);
    await until('stpd is ready', () => said().includes('READY=1'));
    const config = join(base, 'client.json');
    const roots = [base];
    const role = { name: 'h', tls: false, roots, runDirectory, wkp: await freePair() };
    writeFileSync(config, JSON.stringify(role));
    const client = start('stpbackup', 'client', '--config', config);
    await until('the client is ready', () =>
      said().some((line) => line.startsWith('STATUS=stpbackup client h listens')),
    );
    client.child.kill('SIGTERM');
    t.is((await client.ended).code, 0);
    stpd.child.kill('SIGTERM');
    t.is((await stpd.ended).code, 0);
    t.is(said().filter((line) => line === 'STOPPING=1').length, 2);
  },
);

test('nobody asks: nothing is told; nobody is there: a reason, and no failure', (t) => {
  t.is(notifySupervisor('READY=1', {}), null);
  const reason = notifySupervisor('READY=1', { NOTIFY_SOCKET: join(tmpdir(), 'stpd-none') });
  t.regex(reason ?? '', /^systemd was not told READY=1: ENOENT: sendto/);
  t.throws(() => native().sendDatagram('x'.repeat(200), ''), { code: 'ENAMETOOLONG' });
  t.throws(() => native().sendDatagram('@stpd-nobody-listens-here', ''), { code: 'ECONNREFUSED' });
});
