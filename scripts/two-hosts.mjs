/**
 * `npm run two-hosts [-- --bytes 2GiB --rounds 3 --rate 1gbit --directory DIR --json FILE]`: the claim
 * under the claims, on one machine. Needs root, `ip` and `tc` (iproute2).
 *
 * Two network namespaces are two hosts, joined by a veth pair that `tc` limits to 1 Gbit/s; both are
 * attached to one array (Unix sockets pass network namespaces). The same tree is backed up through
 * the array and over the network, alternating; the kernel's counters of the link tell what it
 * carried. Everything is made anew and removed again, also when the run is interrupted.
 *
 * Exit code 0; 1 if anything failed or a bar was missed (the one on speed counts from 1 GiB on: less
 * is set-up more than data); 2 for wrong usage, and without root.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const program = (name) => path.join(root, 'dist', 'src', 'ctl', `${name}.js`);

const FASTER_MIN = 6;
const LINK_SHARE_MAX = 0.001;
/** Below this the bar on speed is not judged. */
const JUDGED_BYTES_MIN = 2 ** 30;
const FILE_BYTES = 64 * 2 ** 20;
const START_TIMEOUT_MS = 30_000;
/** What a namespace of ours is called: with the process that made it, so that leftovers are known. */
const NAMESPACE = /^stpd-(\d+)-(client|server)$/;

class Failure extends Error {}
class Usage extends Error {}

const say = (text = '') => process.stdout.write(`${text}\n`);

function human(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let n = bytes;
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${n >= 100 || unit === 0 ? n.toFixed(0) : n.toFixed(1)} ${units[unit]}`;
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

function sizeOf(text) {
  const [, digits, unit] = /^(\d+)(|KiB|MiB|GiB)$/.exec(text) ?? [];
  if (digits === undefined) throw new Usage(`--bytes ${text}: write it like 2GiB or 64MiB`);
  const bytes = Number(digits) * 1024 ** ['', 'KiB', 'MiB', 'GiB'].indexOf(unit);
  if (bytes < 2 ** 20) throw new Usage(`--bytes ${text}: at least 1MiB`);
  return bytes;
}

function optionsOf(args) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        bytes: { type: 'string', default: '2GiB' },
        rounds: { type: 'string', default: '3' },
        rate: { type: 'string', default: '1gbit' },
        directory: { type: 'string' },
        json: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    }));
  } catch (e) {
    throw new Usage(e.message);
  }
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Usage(`--rounds ${values.rounds}: 1 or more`);
  return { ...values, bytes: sizeOf(values.bytes), rounds };
}

/** Runs a program to its end. Its standard output comes back. */
function run(command, args) {
  const done = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (done.error) throw new Failure(`${command}: ${done.error.message}`);
  if (done.status === 0) return done.stdout;
  throw new Failure(`${command} ${args.join(' ')}: ${done.stderr.trim() || done.signal}`);
}

/** The same without holding the event loop up: a signal must be heard meanwhile. */
async function runLong(command, args) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) {
    child[name].on('data', (text) => {
      output[name] += text;
    });
  }
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code === 0) return output.stdout;
  throw new Failure(`${args.slice(0, 2).join(' ')} ended with ${code}: ${output.stderr.trim()}`);
}

const node = (name, ...args) => runLong(process.execPath, [program(name), ...args]);

/** What is to be undone, the last first. */
const undo = [];

async function undoAll() {
  /* One at a time: what is still being set up may add more. */
  for (let last = undo.pop(); last !== undefined; last = undo.pop()) {
    const { what, how } = last;
    try {
      await how();
    } catch (e) {
      process.stderr.write(`two-hosts: ${what} could not be undone: ${e.message}\n`);
    }
  }
}

/** Namespaces of runs that were killed. */
function sweep() {
  for (const line of run('ip', ['netns', 'list']).split('\n')) {
    const name = line.split(' ')[0];
    const [, pid] = NAMESPACE.exec(name) ?? [];
    if (pid !== undefined && !fs.existsSync(`/proc/${pid}`)) run('ip', ['netns', 'delete', name]);
  }
}

/** Two hosts and the link between them: addresses of a range that nobody routes (RFC 5737). */
function makeHosts(rate) {
  const hosts = { client: '192.0.2.1', server: '192.0.2.2' };
  const id = process.pid;
  const device = (side) => `stp${id}${side[0]}`;
  const namespace = (side) => `stpd-${id}-${side}`;
  for (const side of ['client', 'server']) {
    run('ip', ['netns', 'add', namespace(side)]);
    undo.push({
      what: `namespace ${namespace(side)}`,
      how: () => void run('ip', ['netns', 'delete', namespace(side)]),
    });
  }
  const within = (side, ...command) => run('ip', ['netns', 'exec', namespace(side), ...command]);
  const [one, other] = ['client', 'server'].map((side) => ({
    name: device(side),
    namespace: namespace(side),
  }));
  run('ip', [
    ...['link', 'add', one.name, 'netns', one.namespace, 'type', 'veth'],
    ...['peer', 'name', other.name, 'netns', other.namespace],
  ]);
  for (const [side, address] of Object.entries(hosts)) {
    const on = ['dev', device(side)];
    within(side, 'ip', 'address', 'add', `${address}/30`, ...on);
    within(side, 'ip', 'link', 'set', ...on, 'up');
    within(side, 'ip', 'link', 'set', 'dev', 'lo', 'up');
    /* Each end limits what it sends. A burst is what the rate gives in some 8 ms. */
    within(
      side,
      'tc',
      'qdisc',
      'add',
      ...on,
      'root',
      'tbf',
      'rate',
      rate,
      'burst',
      '1mb',
      'latency',
      '50ms',
    );
  }
  return {
    hosts,
    namespace,
    /** Bytes on the link, both ways, as the kernel counts them. */
    linkBytes() {
      const of = (direction) =>
        Number(
          within(
            'client',
            'cat',
            `/sys/class/net/${device('client')}/statistics/${direction}_bytes`,
          ),
        );
      return of('rx') + of('tx');
    },
  };
}

/** A tree of files whose contents do not repeat within a block of any size. */
function makeTree(directory, bytes) {
  fs.mkdirSync(directory);
  const block = randomBytes(2 ** 20);
  let written = 0;
  for (let file = 0; written < bytes; file++) {
    const fd = fs.openSync(path.join(directory, `file-${file}`), 'w');
    const end = Math.min(bytes, written + FILE_BYTES);
    while (written < end) {
      block.writeDoubleBE(written, 0);
      written += fs.writeSync(fd, block, 0, Math.min(block.length, end - written));
    }
    fs.closeSync(fd);
  }
}

function placeFor(options) {
  const directory = options.directory ?? (fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir());
  const { bavail, bsize } = fs.statfsSync(directory);
  /* The tree, and one set at a time. */
  const needed = 2 * options.bytes + 64 * 2 ** 20;
  if (bavail * bsize < needed) {
    throw new Failure(
      `${directory} has ${human(bavail * bsize)} free, ${human(needed)} are needed; ` +
        'choose another --directory or fewer --bytes',
    );
  }
  const base = fs.mkdtempSync(path.join(fs.realpathSync(directory), 'stpd-two-hosts-'));
  undo.push({ what: base, how: () => fs.rmSync(base, { recursive: true, force: true }) });
  return base;
}

/** Starts a role in its namespace and waits until it says that it serves. */
async function startRole(network, side, config, log) {
  const out = fs.openSync(log, 'w');
  const command = [process.execPath, program('stpbackup'), side, '--config', config];
  /* `ip netns exec` becomes the command: its process is the role's. */
  const child = spawn('ip', ['netns', 'exec', network.namespace(side), ...command], {
    stdio: ['ignore', out, out],
  });
  fs.closeSync(out);
  const gone = new Promise((resolve) => child.once('exit', resolve));
  undo.push({
    what: `stpbackup ${side}`,
    async how() {
      child.kill('SIGTERM');
      await gone;
    },
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const text = fs.readFileSync(log, 'utf8');
    if (/listens on|answers on/.test(text)) return;
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > deadline) {
      throw new Failure(`stpbackup ${side} does not serve:\n${text}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** An array, both roles, and the tree. */
async function setUp(options) {
  sweep();
  const base = placeFor(options);
  const at = (name) => path.join(base, name);
  const network = makeHosts(options.rate);
  const runDirectory = at('run');
  const write = (name, value) => fs.writeFileSync(at(name), JSON.stringify(value));
  await node('stpbackup', 'key', 'new', at('pair.key'));
  write('client.json', {
    ...{ name: 'client', runDirectory, address: network.hosts.client },
    ...{ roots: [at('tree')], keyFile: 'pair.key' },
  });
  write('server.json', {
    ...{ name: 'server', runDirectory, address: network.hosts.server, stg: 'backup' },
    ...{ library: 'library', control: 'server.sock' },
    hosts: { client: { address: network.hosts.client, keyFile: 'pair.key' } },
  });
  undo.push({
    what: 'stpd',
    how: () =>
      fs.existsSync(path.join(runDirectory, 'stpd.lock')) &&
      node('stpd', 'stop', '--run-dir', runDirectory),
  });
  await node('stpd', 'start', '--run-dir', runDirectory);
  await node(
    'stpctl',
    'stg',
    'create',
    'backup',
    '--boards',
    '8',
    '--ports',
    '16',
    '--run-dir',
    runDirectory,
  );
  await startRole(network, 'client', at('client.json'), at('client.log'));
  await startRole(network, 'server', at('server.json'), at('server.log'));
  say(`tree of ${human(options.bytes)} in ${base}`);
  makeTree(at('tree'), options.bytes);
  return { network, tree: at('tree'), config: at('server.json') };
}

async function backUp({ network, tree, config }, via) {
  const before = network.linkBytes();
  const said = await node(
    'stpbackup',
    'fs',
    `client:${tree}`,
    '--via',
    via,
    '--config',
    config,
    '--json',
  );
  const linkBytes = network.linkBytes() - before;
  // Events, one a line; the last one is the summary.
  const { set, seconds, bytes, via: went } = JSON.parse(said.trim().split('\n').at(-1));
  if (went !== via) throw new Failure(`asked for ${via}, the data went over: ${went}`);
  /* The next round finds the same room. */
  await node('stpbackup', 'forget', set, '--prune', '--config', config);
  return { via, seconds, bytes, linkBytes };
}

function table(rows) {
  const lines = rows.map(({ via, seconds, bytes, linkBytes }) => [
    via,
    seconds.toFixed(2),
    `${human(bytes / seconds)}/s`,
    `${linkBytes}`,
    `${((100 * linkBytes) / bytes).toFixed(4)} %`,
  ]);
  const all = [['VIA', 'SECONDS', 'RATE', 'LINK BYTES', 'OF THE DATA'], ...lines];
  const widths = all[0].map((_, column) => Math.max(...all.map((line) => line[column].length)));
  const text = (line) =>
    line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  return all.map(text).join('\n');
}

async function twoHosts(options) {
  const place = await setUp(options);
  const rounds = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const via of ['array', 'network']) {
      const done = await backUp(place, via);
      rounds.push({ round, ...done });
      say(
        `round ${round}, via ${via}: ${done.seconds.toFixed(2)} s, ${done.linkBytes} bytes on the link`,
      );
    }
  }
  const medianOf = (via) => {
    const mine = rounds.filter((round) => round.via === via);
    const of = (field) => median(mine.map((round) => round[field]));
    return { via, seconds: of('seconds'), bytes: of('bytes'), linkBytes: of('linkBytes') };
  };
  const [array, network] = [medianOf('array'), medianOf('network')];
  const faster = network.seconds / array.seconds;
  const linkShare = array.linkBytes / array.bytes;
  say(`\nlink of ${options.rate}, medians of ${options.rounds} rounds:`);
  say(table([array, network]));
  say(`through the array: ${faster.toFixed(1)} times faster`);
  const judged = options.bytes >= JUDGED_BYTES_MIN;
  const met = linkShare <= LINK_SHARE_MAX && (faster >= FASTER_MIN || !judged);
  if (options.json !== undefined) {
    const { bytes, rate } = options;
    const document = { bytes, rate, faster, linkShare, met, array, network, rounds };
    fs.writeFileSync(options.json, `${JSON.stringify(document, null, 2)}\n`);
  }
  if (met) return;
  throw new Failure(
    `missed: at least ${FASTER_MIN} times faster, at most ${100 * LINK_SHARE_MAX} % on the link`,
  );
}

function checkUse() {
  if (!fs.existsSync(program('stpd'))) throw new Usage('dist/ is missing; build first: npm ci');
  if (process.getuid() !== 0) {
    throw new Usage('making network namespaces needs root; run: sudo npm run two-hosts');
  }
  for (const [tool, argument] of [
    ['ip', '-V'],
    ['tc', '-V'],
  ]) {
    if (spawnSync(tool, [argument]).error) {
      throw new Usage(`${tool} is not installed: apt-get install iproute2`);
    }
  }
}

const USAGE =
  'usage: npm run two-hosts -- [--bytes 2GiB] [--rounds 3] [--rate 1gbit] [--directory DIR] [--json FILE]';

let stopping = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    say(`\n${signal}: stopping everything`);
    undoAll().finally(() => process.exit(130));
  });
}
try {
  const options = optionsOf(process.argv.slice(2));
  if (options.help) say(USAGE);
  else {
    checkUse();
    await twoHosts(options);
  }
} catch (e) {
  /* What fails because everything is being stopped is no news. */
  if (!stopping) {
    process.stderr.write(`two-hosts: ${e.message}\n`);
    if (e instanceof Usage) process.stderr.write(`${USAGE}\n`);
    process.exitCode = e instanceof Usage ? 2 : 1;
    if (!(e instanceof Usage || e instanceof Failure)) process.stderr.write(`${e.stack}\n`);
  }
}
if (!stopping) await undoAll();
