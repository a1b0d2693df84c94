/** Two network namespaces on one array: what goes through it is not on the link between them. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { finished, until } from '../support/array.js';

const script = fileURLToPath(new URL('../../../scripts/two-hosts.mjs', import.meta.url));

const run = (command: string, ...args: string[]) => spawnSync(command, args, { encoding: 'utf8' });

/** Why two hosts cannot be made here; null if they can. */
function whyNot(): string | null {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  for (const tool of ['ip', 'tc']) if (run(tool, '-V').error) return `${tool} is not installed`;
  const name = `stpd-probe-${process.pid}`;
  const made = run('ip', 'netns', 'add', name);
  if (made.status !== 0) return `no network namespaces here: ${made.stderr.trim()}`;
  try {
    const inside = ['netns', 'exec', name];
    const limit = ['root', 'tbf', 'rate', '1gbit', 'burst', '1mb', 'latency', '50ms'];
    const limited = run('ip', ...inside, 'tc', 'qdisc', 'add', 'dev', 'lo', ...limit);
    return limited.status === 0 ? null : `no tbf here: ${limited.stderr.trim()}`;
  } finally {
    run('ip', 'netns', 'delete', name);
  }
}

const reason = whyNot();
/** A test that says why it is not run. */
const hostsTest = (title: string, body: (t: ExecutionContext) => Promise<void>): void => {
  if (reason === null) test.serial(title, body);
  else test.skip(`${title} (${reason})`, body);
};

function scratch(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-two-hosts-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const namespacesOf = (pid: number | undefined): string[] =>
  run('ip', 'netns', 'list')
    .stdout.split('\n')
    .filter((line) => line.startsWith(`stpd-${pid}-`));

interface Row {
  readonly via: string;
  readonly bytes: number;
  readonly linkBytes: number;
}

hostsTest('the array leaves the link alone, the network does not; twice in a row', async (t) => {
  const directory = scratch(t);
  const bytes = 64 * 2 ** 20;
  for (const turn of ['first', 'second']) {
    const json = join(directory, `${turn}.json`);
    const child = spawn(process.execPath, [
      ...[script, '--bytes', '64MiB', '--rounds', '1'],
      ...['--directory', directory, '--json', json],
    ]);
    const result = await finished(child);
    t.is(result.code, 0, `${result.stdout}${result.stderr}`);
    const { rounds, linkShare } = JSON.parse(readFileSync(json, 'utf8')) as {
      rounds: Row[];
      linkShare: number;
    };
    t.deepEqual(
      rounds.map((round) => [round.via, round.bytes]),
      [
        ['array', bytes],
        ['network', bytes],
      ],
    );
    const [array, network] = rounds as [Row, Row];
    // Control traffic is there, and it is all that is there.
    t.true(array.linkBytes > 1000 && array.linkBytes <= bytes / 1000, `${array.linkBytes}`);
    t.is(linkShare, array.linkBytes / bytes);
    t.true(network.linkBytes > bytes && network.linkBytes < 1.2 * bytes, `${network.linkBytes}`);
    t.deepEqual(namespacesOf(child.pid), []);
  }
  t.deepEqual(readdirSync(directory).sort(), ['first.json', 'second.json']);
});

hostsTest('interrupted, it leaves nothing', async (t) => {
  const directory = scratch(t);
  const child = spawn(process.execPath, [script, '--bytes', '64MiB', '--directory', directory]);
  let said = '';
  child.stdout.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const end = finished(child);
  await until('both hosts are up', () => said.includes('tree of'));
  t.is(namespacesOf(child.pid).length, 2);
  child.kill('SIGINT');
  const result = await end;
  t.is(result.code, 130, `${result.stdout}${result.stderr}`);
  t.deepEqual(namespacesOf(child.pid), []);
  t.deepEqual(readdirSync(directory), []);
});

test('wrong usage, and no root, are told plainly', async (t) => {
  const flag = await finished(spawn(process.execPath, [script, '--bytes', 'much']));
  t.is(flag.code, 2);
  t.regex(flag.stderr, /--bytes much: write it like 2GiB/);
  if (process.getuid?.() !== 0) return;
  const directory = scratch(t);
  const user = { uid: 65534, gid: 65534 };
  const other = await finished(
    spawn(process.execPath, [script], {
      ...user,
      cwd: '/',
      env: { ...process.env, HOME: directory },
    }),
  );
  t.is(other.code, 2, other.stderr);
  t.regex(other.stderr, /needs root; run: sudo npm run two-hosts/);
});
