/**
 * The tool against a control API in this process, with an array that has no memory. One after the
 * other: a tool gives up after a second, and many at once on a small machine take longer.
 */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { serveControlApi } from '../../../src/daemon/control-api.js';
import { exampleHost, exampleListener, exampleSocket, FakeArray } from '../daemon/fake-array.js';
import {
  compiled,
  type Outcome,
  quietLog,
  runProgram,
  smallConfiguration,
  temporaryDirectory,
} from '../daemon/workbench.js';

const script = compiled('src/ctl/stpctl.js');

async function served(t: ExecutionContext) {
  const runDirectory = temporaryDirectory(t);
  const configuration = smallConfiguration;
  const array = new FakeArray({ configuration, runDirectory });
  const path = join(runDirectory, 'control.sock');
  const api = await serveControlApi({ array, configuration, path, log: quietLog() });
  t.teardown(() => api.close());
  const stpctl = (...args: string[]): Promise<Outcome> =>
    runProgram(t, script, args, { STPD_RUN_DIR: runDirectory });
  return { array, stpctl, runDirectory };
}

const CREATE = ['stg', 'create', 'backup', '--boards', '4', '--ports', '16'];

test.serial('stg create, list, show and delete', async (t) => {
  const { array, stpctl } = await served(t);
  const uids = ['--allow-uid', '1000', '--allow-uid=1001', '--allow-gid', '44'];
  const created = await stpctl(...CREATE, '--connections', '9', ...uids);
  t.deepEqual([created.code, created.stderr], [0, '']);
  t.deepEqual(array.requests[0], {
    name: 'backup',
    boardCount: 4,
    ports: 16,
    connections: 9,
    allowUids: [1000, 1001],
    allowGids: [44],
  });
  const shown = await stpctl('stg', 'show', 'backup');
  t.is(shown.stdout, created.stdout);
  t.regex(shown.stdout, /^name +backup\n/);
  t.regex(shown.stdout, /^boards +4: 0-3$/m);
  t.regex(shown.stdout, /^allowed uids +1000,1001$/m);
  const list = await stpctl('stg', 'list');
  t.is(
    list.stdout,
    'NAME    STATE  BOARDS  MEMORY  PAGES FREE  PORTS  CONNECTIONS  HOSTS  DIRECTOR\n' +
      'backup  live   0-3      4 MiB       64/64   0/16          0/9      0         0\n',
  );
  const deleted = await stpctl('stg', 'delete', 'backup');
  t.is(deleted.stdout, 'backup is deleted\n');
  t.deepEqual(await array.stgReports(), []);
});

test.serial('each verb’s --json is one document', async (t) => {
  const { array, stpctl } = await served(t);
  array.hosts = [{ ...exampleHost, stgs: [] }];
  array.sockets = [exampleSocket];
  const verbs: [string[], () => Promise<unknown>][] = [
    [CREATE, async () => ({ stg: await array.stgReport('backup') })],
    [['stg', 'show', 'backup'], async () => ({ stg: await array.stgReport('backup') })],
    [['stg', 'list'], async () => ({ stgs: await array.stgReports() })],
    [['array', 'show'], async () => ({ array: await array.arrayReport() })],
    [['board', 'list'], async () => ({ boards: await array.boardReports() })],
    [['host', 'list'], async () => ({ hosts: array.hosts })],
    [['stg', 'delete', 'backup'], async () => ({ deleted: 'backup' })],
  ];
  for (const [verb, expected] of verbs) {
    const { code, stdout } = await stpctl(...verb, '--json');
    t.is(code, 0);
    t.deepEqual(JSON.parse(stdout), await expected());
  }
});

test.serial('array show tells the array and its directors', async (t) => {
  const { stpctl, runDirectory } = await served(t);
  const { stdout } = await stpctl('array', 'show');
  t.regex(stdout, new RegExp(`^run directory +${runDirectory}$`, 'm'));
  t.regex(stdout, /^up +1 h 2 min, since 2026-01-31T12:00:00\.000Z$/m);
  t.regex(stdout, /^boards +0 of 8 in use, 1 MiB each$/m);
  t.regex(stdout, /\n\nDIRECTOR {2}STATE .*\n {7}0 {2}running {2}12\.5 % /);
});

test.serial('board list has a line for each board', async (t) => {
  const { stpctl } = await served(t);
  await stpctl(...CREATE);
  const lines = (await stpctl('board', 'list')).stdout.trimEnd().split('\n');
  t.is(lines.length, 9);
  t.regex(lines[0] ?? '', /^BOARD {2}STG +SIZE +PAGES +USED +ACCESSES +CONTENDED +BYPASSED +MOVED/);
  t.regex(lines[1] ?? '', /^ {4}0 {2}backup +1 MiB/);
  t.regex(lines[5] ?? '', /^ {4}4 {2}- +1 MiB/);
});

test.serial(
  'host and socket list; what a host calls itself cannot speak to the terminal',
  async (t) => {
    const { array, stpctl } = await served(t);
    array.hosts = [exampleHost, { ...exampleHost, id: 12, name: null }];
    array.sockets = [exampleSocket, exampleListener];
    const hosts = (await stpctl('host', 'list')).stdout;
    t.regex(hosts, /evil\?\[2Jname\n/);
    t.false(hosts.includes('\x1b'));
    const sockets = (await stpctl('socket', 'list')).stdout.split('\n');
    t.regex(
      sockets[1] ?? '',
      /^backup\/17\.2 +ESTAB +0 B +64 KiB +40000 +3 evil\?\[2Jname\[4711] /,
    );
    t.regex(
      sockets[1] ?? '',
      / 7398 +4 -\[4712] uid 0 +1 KiB +0 B +12 +0 +1 +0 +3 +70 +0 +0 +0 +STP$/,
    );
    t.regex(sockets[2] ?? '', /^backup:40000 +LISTEN +2 +16 +40000 +3 .* - +- +- +- /);
  },
);

test.serial('socket list --json samples twice, says over what, and filters', async (t) => {
  const { array, stpctl } = await served(t);
  array.sockets = [exampleSocket, exampleListener];
  const all = JSON.parse((await stpctl('socket', 'list', '--json')).stdout);
  t.deepEqual(all.sampled, {
    source: 'control',
    at: '1970-01-01T00:00:01.000Z',
    intervalMs: 1000,
  });
  t.deepEqual(all.sockets[0], {
    ...exampleSocket,
    bytesSent: exampleSocket.bytesSent + 1024,
    sendBytesPerSecond: 1024,
    receiveBytesPerSecond: 0,
  });
  const filters: [string[], string[]][] = [
    [['--state', 'listen'], ['backup:40000']],
    [['--state', 'ESTAB'], ['backup/17.2']],
    [['--port', '7398'], ['backup/17.2']],
    [['--host', '4'], ['backup/17.2']],
    [['--stg', 'other'], []],
  ];
  for (const [filter, ids] of filters) {
    const { stdout } = await stpctl('socket', 'list', '--json', ...filter);
    const { sockets } = JSON.parse(stdout) as { sockets: { id: string }[] };
    t.deepEqual(
      sockets.map(({ id }) => id),
      ids,
      filter.join(' '),
    );
  }
});

test.serial('top without a terminal prints everything once', async (t) => {
  const { array, stpctl } = await served(t);
  array.sockets = [exampleSocket];
  const { code, stdout } = await stpctl('top');
  t.is(code, 0);
  t.deepEqual(stdout.match(/^(?:BOARDS|STGS|SOCKETS|HOSTS|DIRECTORS)$/gm), [
    'BOARDS',
    'STGS',
    'SOCKETS',
    'HOSTS',
    'DIRECTORS',
  ]);
  const { top } = JSON.parse((await stpctl('top', '--once', '--json')).stdout);
  t.is(top.source, 'control');
  t.is(top.sockets[0].sendBytesPerSecond, 1024);
});

test.serial('output is plain ASCII without colour, also where colour is forced', async (t) => {
  const { runDirectory } = await served(t);
  const environment = { STPD_RUN_DIR: runDirectory, FORCE_COLOR: '1' };
  const { stdout } = await runProgram(t, script, ['array', 'show'], environment);
  t.regex(stdout, /^[\x20-\x7e\n]+$/);
  t.notRegex(stdout, / \n/);
});

test.serial('an STG in use is not deleted unless forced', async (t) => {
  const { array, stpctl } = await served(t);
  await stpctl(...CREATE);
  array.hosts = [exampleHost];
  const refused = await stpctl('stg', 'delete', 'backup');
  t.deepEqual([refused.code, refused.stdout], [1, '']);
  t.is(refused.stderr, 'stpctl: STG backup is in use; delete it with --force\n');
  t.is((await stpctl('stg', 'delete', 'backup', '--force')).code, 0);
});

const mistakes: [string, string[], RegExp][] = [
  [
    'a strange name',
    ['stg', 'create', 'a b', '--boards=4', '--ports=1'],
    /name: "a b" is not valid/,
  ],
  [
    '8x boards',
    ['stg', 'create', 'a', '--boards=8x', '--ports=1'],
    /--boards: "8x" is not a whole/,
  ],
  ['few boards', ['stg', 'create', 'a', '--boards=3', '--ports=1'], /--boards: 3 is too few/],
  ['hex ports', ['stg', 'create', 'a', '--boards=4', '--ports=0x1'], /--ports: "0x1" is not/],
  ['no ports', ['stg', 'create', 'a', '--boards=4', '--ports=0'], /--ports: 0 is too few/],
  ['a user name', [...CREATE, '--allow-uid=me'], /--allow-uid\[0\]: "me" is not a user id/],
  ['a missing option', ['stg', 'create', 'a', '--boards=4'], /required option '--ports <n>'/],
  ['a missing name', ['stg', 'show'], /missing required argument 'name'/],
  ['a strange name to show', ['stg', 'show', '../x'], /name: "\.\.\/x" is not valid/],
  ['a strange state', ['socket', 'list', '--state=OPEN'], /--state: "OPEN" is none of LISTEN, /],
  ['a strange port', ['socket', 'list', '--port=http'], /--port: "http" is not a port/],
  ['no interval', ['socket', 'list', '--interval=0'], /--interval: "0" is not a number of seconds/],
  ['words for an interval', ['top', '--interval=often'], /--interval: "often" is not a number/],
  ['a strange socket', ['trace', 'backup'], /"backup" is no socket: use STG:PORT, or STG\/SLOT/],
  ['an unknown verb', ['stg', 'destroy'], /unknown command 'destroy'/],
  ['too many words', ['stg', 'list', 'all'], /too many arguments/],
  ['no verb', ['stg'], /Usage: stpctl stg/],
];
for (const [what, args, message] of mistakes) {
  test.serial(`${what}: exit code 2, nothing is sent`, async (t) => {
    const { array, stpctl } = await served(t);
    const { code, stdout, stderr } = await stpctl(...args);
    t.deepEqual([code, stdout], [2, '']);
    t.regex(stderr, message);
    t.deepEqual(array.requests, []);
  });
}

test.serial('where no stpd runs: exit code 5 and how to start it', async (t) => {
  const directory = temporaryDirectory(t);
  const { code, stderr } = await runProgram(t, script, ['board', 'list', '--run-dir', directory]);
  t.is(code, 5);
  t.is(
    stderr,
    `stpctl: stpd is not running on ${directory}; start it with: stpd start --run-dir ${directory}\n`,
  );
});

test.serial('help is no failure and tells examples and exit codes', async (t) => {
  const help = await runProgram(t, script, ['--help']);
  t.is(help.code, 0);
  t.regex(help.stdout, /Exit codes:\n {2}0 {2}done/);
  const verb = await runProgram(t, script, ['stg', 'create', '--help']);
  t.is(verb.code, 0);
  t.regex(verb.stdout, /Examples:\n {2}stpctl stg create backup --boards 8 --ports 16/);
});
