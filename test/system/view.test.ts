/**
 * What an operator sees of hosts that move data: through stpd and beside it, also while stpd stands
 * still, and as whom.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import type { SocketListDocument } from '../../src/ctl/stpctl/socket-list.js';
import type { TopDocument } from '../../src/ctl/stpctl/top.js';
import type { TraceLineDocument } from '../../src/ctl/stpctl/trace.js';
import { WINDOW_BYTES } from '../../src/layout/tables.js';
import {
  type ArrayForTest,
  type Finished,
  finished,
  runProgram,
  startArray,
  until,
} from '../support/array.js';
import { type HostProcess, startHost } from '../support/host-program.js';
import { isRoot, OTHER_UID, packageFor, THIRD_UID } from '../support/other-user.js';

interface Traffic {
  readonly array: ArrayForTest;
  readonly server: HostProcess;
  readonly client: HostProcess;
  readonly port: number;
}

/** A client that sends to a server as fast as it can. */
async function traffic(t: ExecutionContext): Promise<Traffic> {
  const array = await startArray(t);
  const server = await startHost(t, array.runDirectory, 'test', 'server');
  const client = await startHost(t, array.runDirectory, 'test', 'client');
  const { port = 0 } = await server.ask({ do: 'listen', port: 7000, backlog: 5 });
  await client.ask({ do: 'connect', port });
  await client.ask({ do: 'stream', socket: 0 });
  /* The client's connect is done before the server took the connection from its queue. */
  await until('bytes have moved', async () =>
    (await socketList(array)).sockets.some(({ bytesReceived }) => bytesReceived > 0),
  );
  return { array, server, client, port };
}

const socketList = async (array: ArrayForTest): Promise<SocketListDocument> =>
  JSON.parse(await array.stpctl('socket', 'list', '--interval', '0.5', '--json'));

const top = async (array: ArrayForTest): Promise<TopDocument['top']> =>
  (JSON.parse(await array.stpctl('top', '--once', '--interval', '0.5', '--json')) as TopDocument)
    .top;

function plausibleSockets(t: ExecutionContext, { sockets, sampled }: SocketListDocument): void {
  t.is(sampled.source, 'memory');
  t.true((sampled.intervalMs ?? 0) >= 400);
  t.deepEqual(sockets.map(({ state, end }) => [state, end]).sort(), [
    ['ESTABLISHED', 0],
    ['ESTABLISHED', 1],
    ['LISTEN', null],
  ]);
  const listener = sockets.find(({ state }) => state === 'LISTEN');
  t.like(listener, { id: 'test:7000', localName: 'server', backlog: 5, waiting: 0 });
  const near = sockets.find(({ end }) => end === 0);
  const far = sockets.find(({ end }) => end === 1);
  t.like(near, {
    localName: 'client',
    peerName: 'server',
    remotePort: 7000,
    localUid: process.getuid?.(),
  });
  t.like(far, { localName: 'server', peerName: 'client', localPort: 7000 });
  t.is(near?.id, far?.id);
  /* A stream without pause: megabytes a second even on a loaded machine. */
  t.true((near?.sendBytesPerSecond ?? 0) > 1e6);
  t.true((far?.receiveBytesPerSecond ?? 0) > 1e6);
  t.is(near?.receiveBytesPerSecond, 0);
  t.true((near?.sendQueueBytes ?? -1) >= 0 && (near?.sendQueueBytes ?? 0) <= WINDOW_BYTES);
  t.true((near?.sendWaits ?? 0) + (far?.receiveWaits ?? 0) > 0, 'one of the two is slower');
  t.true((near?.sendPages ?? 0) > 0);
  t.is(near?.receivePages, 0);
}

function plausibleTop(t: ExecutionContext, figures: TopDocument['top'], array: ArrayForTest): void {
  t.is(figures.source, 'memory');
  t.like(figures.array, { pid: array.stpd.pid, state: 'serving', boardsTotal: 8, boardsUsed: 8 });
  t.is(figures.boards.length, 8);
  t.true(
    figures.boards.every(({ stg, bytesPerSecond }) => stg === 'test' && (bytesPerSecond ?? 0) > 0),
  );
  const [stg] = figures.stgs;
  t.like(stg, { name: 'test', connectionsUsed: 1, portsUsed: 1, hosts: 2, pagesTotal: 512 });
  t.true((stg?.pagesUsed ?? 0) > 0 && (stg?.pagesUsed ?? 0) <= 128);
  t.deepEqual(figures.hosts.map(({ name, sockets }) => [name, sockets]).sort(), [
    ['client', 1],
    ['server', 2],
  ]);
  t.true(figures.hosts.some(({ wakesSent }) => wakesSent > 0));
  const [director] = figures.directors;
  t.true((director?.commands ?? 0) >= 3, 'listen, connect, accept');
  t.true((director?.loops ?? 0) > 0);
  t.true((director?.cpuMs ?? -1) >= 0 && (director?.load ?? -1) >= 0);
}

test('socket list and top show data on the move, read from memory', async (t) => {
  const { array } = await traffic(t);
  plausibleSockets(t, await socketList(array));
  plausibleTop(t, await top(array), array);
  const text = await array.stpctl('socket', 'list', '--state', 'listen');
  t.regex(
    text,
    /^SOCKET {5}STATE +RECV-Q .*\ntest:7000 +LISTEN +0 +5 +7000 +1 server\[\d+] uid \d+/,
  );
});

test('they do so while stpd is stopped, and say that it is', async (t) => {
  const { array } = await traffic(t);
  array.stpd.kill('SIGSTOP');
  t.teardown(() => array.stpd.kill('SIGCONT'));
  plausibleSockets(t, await socketList(array));
  plausibleTop(t, await top(array), array);
  const trace = await array.stpctl('trace', 'test:7000', '--no-follow');
  t.regex(trace, / opened +test\/0\.1 +\d+ -> 7000 /);
  array.stpd.kill('SIGCONT');
});

test('where stpd was killed, they say that none runs', async (t) => {
  const { array, client } = await traffic(t);
  array.stpd.kill('SIGKILL');
  await once(array.stpd, 'exit');
  for (const verb of [
    ['socket', 'list'],
    ['top', '--once'],
    ['trace', 'test/0'],
  ]) {
    const { code, stderr } = await runProgram('stpctl', [...verb, '--run-dir', array.runDirectory]);
    t.is(code, 5);
    t.regex(stderr, /^stpctl: stpd is not running on .*; start it with: stpd start --run-dir /);
  }
  t.true(((await client.ask({ do: 'state', socket: 0 })).sent ?? 0) > 0, 'its hosts go on');
});

// --- traces --------------------------------------------------------------------------------------

interface RunningTrace {
  readonly child: ChildProcess;
  readonly lines: TraceLineDocument[];
  readonly result: Promise<Finished>;
  has(kind: string): Promise<unknown>;
}

function startTrace(t: ExecutionContext, array: ArrayForTest, socket: string): RunningTrace {
  const script = fileURLToPath(new URL('../../src/ctl/stpctl.js', import.meta.url));
  const args = ['trace', socket, '--json', '--run-dir', array.runDirectory];
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const lines: TraceLineDocument[] = [];
  let rest = '';
  child.stdout?.on('data', (text: Buffer) => {
    const parts = (rest + text.toString()).split('\n');
    rest = parts.pop() ?? '';
    for (const line of parts) lines.push(JSON.parse(line));
  });
  return {
    child,
    lines,
    result: finished(child),
    has: (kind) => until(`a line '${kind}'`, () => lines.some((line) => line.kind === kind)),
  };
}

/** Kinds in their order, each once in a row. */
const kindsOf = (lines: readonly TraceLineDocument[]): string[] =>
  lines
    .map(({ kind }) => kind)
    .filter((kind) => kind !== 'wakes')
    .filter((kind, i, all) => kind !== all[i - 1]);

test('a trace tells a connection’s whole life', async (t) => {
  const array = await startArray(t);
  const server = await startHost(t, array.runDirectory, 'test', 'server');
  const client = await startHost(t, array.runDirectory, 'test', 'client');
  await server.ask({ do: 'listen', port: 7000 });
  await client.ask({ do: 'connect', port: 7000 });
  const trace = startTrace(t, array, 'test/0.1');
  await trace.has('accepted');
  await client.ask({ do: 'send', socket: 0, bytes: 100_000 });
  await trace.has('data');
  await client.ask({ do: 'close', socket: 0 });
  await trace.has('fin');
  await server.ask({ do: 'close', socket: 0 });
  const { code, stderr } = await trace.result;
  t.deepEqual([code, stderr], [0, '']);
  const { lines } = trace;
  const kinds = kindsOf(lines);
  t.deepEqual(kinds.slice(0, 4), ['opened', 'accepted', 'data', 'fin']);
  t.is(kinds.at(-1), 'freed');
  const data = lines.filter(({ kind }) => kind === 'data');
  t.is(data[0]?.bytesFrom, 0);
  t.is(data.at(-1)?.bytesTo, 100_000, 'no byte is left out');
  data.forEach((line, i) => {
    if (i > 0) t.is(line.bytesFrom, data[i - 1]?.bytesTo ?? -1);
  });
  t.deepEqual(
    lines.filter(({ kind }) => kind === 'fin').map(({ end }) => end),
    [0, 1],
  );
  t.deepEqual(
    lines
      .filter(({ kind }) => kind === 'closed')
      .map(({ end }) => end)
      .sort(),
    [0, 1],
  );
  const times = lines.map(({ at }) => at);
  t.deepEqual(times, [...times].sort(), 'in the order of their times');
  t.regex(times[0] ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);

  const again = await array.stpctl('trace', 'test/0.1');
  t.regex(again, /opened .*\n(.*\n)*.* freed +slot and pages are free\n$/, 'it is remembered');
});

test('a trace tells a reset, and whose host is gone', async (t) => {
  const { array, client } = await traffic(t);
  const trace = startTrace(t, array, 'test/0.1');
  await trace.has('data');
  await client.kill();
  const { code } = await trace.result;
  t.is(code, 0);
  const { lines } = trace;
  t.like(
    lines.find(({ kind }) => kind === 'host-gone'),
    { end: 0, sampled: false },
  );
  t.like(
    lines.find(({ kind }) => kind === 'reset'),
    { end: 0 },
  );
  t.is(lines.at(-1)?.kind, 'freed');
});

test('a trace shows who waits for whom', async (t) => {
  const array = await startArray(t);
  const server = await startHost(t, array.runDirectory, 'test', 'server');
  const client = await startHost(t, array.runDirectory, 'test', 'client');
  await server.ask({ do: 'listen', port: 7000 });
  await client.ask({ do: 'connect', port: 7000 });
  server.child.kill('SIGSTOP'); /* reads no more */
  t.teardown(() => server.child.kill('SIGCONT'));
  const trace = startTrace(t, array, 'test/0.1');
  await client.ask({ do: 'stream', socket: 0 });
  await trace.has('full');
  const full = trace.lines.find(({ kind }) => kind === 'full');
  t.like(full, { end: 0, queuedBytes: WINDOW_BYTES, sampled: true });
  server.child.kill('SIGCONT');
  await trace.has('woken');
  trace.child.kill('SIGTERM');
  await trace.result;
});

test('who asks for a socket that never was is told so', async (t) => {
  const array = await startArray(t);
  for (const socket of ['test:9', 'test/7', 'nothing:9']) {
    const { code, stderr } = await runProgram('stpctl', [
      'trace',
      socket,
      '--run-dir',
      array.runDirectory,
    ]);
    t.is(code, 1);
    t.regex(stderr, /^stpctl: there is no (socket|STG)/);
  }
});

// --- as whom -------------------------------------------------------------------------------------

/** A host that sends to itself without end. */
const selfTalker = (packageRoot: string, runDirectory: string): string => `
import { once } from 'node:events';
import { attach } from '${packageRoot}/dist/src/index.js';
const host = await attach({ runDirectory: '${runDirectory}', stg: 'own', name: 'self' });
const server = host.createServer((socket) => socket.resume());
server.listen(7000);
await once(server, 'listening');
const socket = host.connect({ port: 7000 });
const chunk = Buffer.alloc(65536);
const more = () => { while (socket.write(chunk)); socket.once('drain', more); };
socket.once('connect', () => { more(); console.log('moving'); });
`;

interface OthersArray {
  readonly runDirectory: string;
  readonly stpd: ChildProcess;
  as(uid: number, ...args: string[]): Promise<Finished>;
}

/** An array, and a host in it, that belong to another user. */
async function othersArray(t: ExecutionContext): Promise<OthersArray> {
  const packageRoot = packageFor(t, OTHER_UID);
  const runDirectory = mkdtempSync(join(tmpdir(), 'stpd-own-'));
  chownSync(runDirectory, OTHER_UID, OTHER_UID);
  chmodSync(runDirectory, 0o755);
  const run = (uid: number, args: readonly string[]): ChildProcess => {
    const child = spawn(process.execPath, args, {
      uid,
      gid: uid,
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.teardown(() => child.kill('SIGKILL'));
    return child;
  };
  const program = (name: string): string => join(packageRoot, 'dist/src/ctl', `${name}.js`);
  const start = ['start', '--foreground', '--boards', '4', '--board-size', '4MiB'];
  const stpd = run(OTHER_UID, [program('stpd'), ...start, '--run-dir', runDirectory]);
  t.teardown(async () => {
    stpd.kill('SIGKILL');
    rmSync(runDirectory, { recursive: true, force: true });
  });
  let said = '';
  stpd.stderr?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  await until('stpd serves', () => / serving/.test(said));
  const as = (uid: number, ...args: string[]): Promise<Finished> =>
    finished(run(uid, [program('stpctl'), ...args, '--run-dir', runDirectory]));
  const create = ['stg', 'create', 'own', '--boards', '4', '--ports', '4', '--connections', '16'];
  t.is((await as(OTHER_UID, ...create)).code, 0);
  const talker = run(OTHER_UID, [
    '--input-type=module',
    '-e',
    selfTalker(packageRoot, runDirectory),
  ]);
  await once(talker.stdout as NonNullable<ChildProcess['stdout']>, 'data');
  return { runDirectory, stpd, as };
}

test('the user that runs stpd, and root, see it stopped or not; others are told who may', async (t) => {
  if (!isRoot) {
    t.log('skipped: needs root, to become other users');
    return t.pass();
  }
  const { stpd, as, runDirectory } = await othersArray(t);
  const list = ['socket', 'list', '--json', '--interval', '0.3'];
  for (const stopped of [false, true]) {
    if (stopped) stpd.kill('SIGSTOP');
    for (const uid of [OTHER_UID, 0]) {
      const { stdout, stderr, code } = await as(uid, ...list);
      t.deepEqual([code, stderr], [0, ''], `uid ${uid}, ${stopped ? 'stopped' : 'running'}`);
      const { sockets, sampled } = JSON.parse(stdout) as SocketListDocument;
      t.is(sampled.source, 'memory');
      t.true(
        sockets.some(
          ({ localUid, sendBytesPerSecond }) =>
            localUid === OTHER_UID && (sendBytesPerSecond ?? 0) > 0,
        ),
      );
      t.is((await as(uid, 'top', '--once')).code, 0);
    }
    for (const verb of [list, ['top', '--once'], ['trace', 'own:7000', '--no-follow']]) {
      const { code, stdout, stderr } = await as(THIRD_UID, ...verb);
      t.deepEqual([code, stdout], [1, '']);
      t.is(
        stderr,
        `stpctl: stpd on ${runDirectory} may be controlled by uid ${OTHER_UID} and root only\n`,
      );
    }
  }
});

test('root that may not look into processes is answered by stpd', async (t) => {
  const setpriv = spawnSync('setpriv', ['--version']).status === 0;
  if (!isRoot || !setpriv) {
    t.log(`skipped: needs ${isRoot ? 'setpriv' : 'root'}, to give up a capability`);
    return t.pass();
  }
  const { stpd, runDirectory } = await othersArray(t);
  const script = fileURLToPath(new URL('../../src/ctl/stpctl.js', import.meta.url));
  const confined = (...args: string[]): Promise<Finished> =>
    finished(
      spawn(
        'setpriv',
        [
          '--bounding-set=-sys_ptrace',
          '--inh-caps=-sys_ptrace',
          process.execPath,
          script,
          ...args,
          '--run-dir',
          runDirectory,
        ],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      ),
    );
  const { stdout, stderr } = await confined('socket', 'list', '--json', '--interval', '0.3');
  t.is(stderr, '');
  const { sockets, sampled } = JSON.parse(stdout) as SocketListDocument;
  t.is(sampled.source, 'control');
  t.true(sockets.some(({ sendBytesPerSecond }) => (sendBytesPerSecond ?? 0) > 0));
  const trace = await confined('trace', 'own:7000', '--no-follow');
  t.regex(trace.stdout, / opened +own\/0\.1 /);
  stpd.kill('SIGSTOP');
  const refused = await confined('socket', 'list');
  t.is(refused.code, 1);
  t.regex(refused.stderr, /^stpctl: .*stpd\.lock is held, but not by a process/);
});

// --- in a terminal ---------------------------------------------------------------------------------

test('top in a terminal: keys, another size, and the terminal as it was', async (t) => {
  if (spawnSync('tmux', ['-V']).status !== 0) {
    t.log('skipped: needs tmux, to have a terminal');
    return t.pass();
  }
  const { array } = await traffic(t);
  const socket = join(array.runDirectory, '..', 'tmux');
  const tmux = (...args: string[]): string => {
    const { stdout, stderr, status } = spawnSync('tmux', [
      '-S',
      socket,
      '-f',
      '/dev/null',
      ...args,
    ]);
    if (status !== 0) throw new Error(`tmux ${args[0]}: ${stderr}`);
    return stdout.toString();
  };
  const program = fileURLToPath(new URL('../../src/ctl/stpctl.js', import.meta.url));
  const pidFile = join(array.runDirectory, '..', 'top.pid');
  tmux('new-session', '-d', '-x', '120', '-y', '24', 'sh');
  t.teardown(() => spawnSync('tmux', ['-S', socket, 'kill-server']));
  const screen = (): string => tmux('capture-pane', '-p');
  const shows = (what: RegExp): Promise<unknown> => until(`${what}`, () => what.test(screen()));
  const type = (...keys: string[]): string => tmux('send-keys', ...keys);
  const command = `${process.execPath} ${program} top --run-dir ${array.runDirectory} --interval 0.2`;
  type(
    `PS1='shell: '; stty -a | grep -o '.icanon'; sh -c 'echo $$ > ${pidFile}; exec ${command}'`,
    'Enter',
  );

  await shows(/^stpctl top .* every 0\.2 s\nup .*hosts 2 /);
  await shows(/^test\/0\.1 +ESTAB +[\d.]+ [KMG]iB .* 64 /m);
  type('1');
  await shows(/^BOARD \^ STG /m);
  type('>');
  await shows(/by STG ascending/);
  tmux('resize-window', '-x', '60', '-y', '10');
  await until('the screen is narrow', () => {
    const lines = screen().trimEnd().split('\n');
    return lines.length === 10 && lines.every((line) => line.length <= 60);
  });
  type('q');
  await shows(/^shell:$/m);
  t.notRegex(screen(), /^BOARD /m, 'the screen is the shell’s again');
  type('clear; stty -a | grep -o ".icanon"', 'Enter');
  await shows(/^ icanon/m);

  type(`clear; sh -c 'echo $$ > ${pidFile}; exec ${command}'`, 'Enter');
  await shows(/^stpctl top /);
  process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGTERM');
  await shows(/Terminated|^shell:$/m);
  type('clear; stty -a | grep -o ".icanon"', 'Enter');
  await shows(/^ icanon/m);
  t.pass();
});
