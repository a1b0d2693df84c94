/**
 * `npm run quickstart [-- [--keep] DIR...]`: the whole path on this machine, in a folder of its own.
 *
 * Starts an array on embedded defaults, creates an STG, starts a backup client and a backup server
 * as processes of their own, backs DIR up through the array, restores it elsewhere, compares both
 * trees, prints each command so that it can be repeated by hand, says what went over memory and
 * what over TCP, and stops everything. Needs no root and no configuration. Exit code 0 if the trees
 * are the same, 1 if anything failed, 2 for wrong usage.
 */
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const program = (name) => path.join(root, 'dist', 'src', 'ctl', `${name}.js`);

/** Enough entries to be worth a look, and not so many that it takes minutes. */
const ENTRIES_WANTED = 40_000;
const ENTRIES_MAX = 400_000;
/** Documentation and headers that most machines have. */
const candidates = [
  path.join(path.dirname(path.dirname(process.execPath)), 'include'),
  '/usr/include',
  '/usr/share/doc',
  '/usr/share/man',
  '/usr/share/perl',
  '/usr/share/locale',
  '/usr/share/zoneinfo',
  path.join(root, 'node_modules'),
  '/usr/share',
  '/usr/lib/python3',
  '/usr/lib',
];
const START_TIMEOUT_MS = 30_000;

class Failure extends Error {}

const human = (bytes) => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let n = bytes;
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${n >= 100 || unit === 0 ? n.toFixed(0) : n.toFixed(1)} ${units[unit]}`;
};

const say = (text = '') => process.stdout.write(`${text}\n`);
const shown = (argument) => (/^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument}'`);
const showCommand = (name, args) => say(`\n$ npx ${[name, ...args].map(shown).join(' ')}`);

/** Counts entries and bytes below a directory; stops at the limit. Unreadable parts do not count. */
function measure(directory, limit) {
  let entries = 0;
  let bytes = 0;
  const waiting = [directory];
  while (waiting.length > 0 && entries < limit) {
    const at = waiting.pop();
    let names;
    try {
      names = fs.readdirSync(at, { withFileTypes: true });
    } catch {
      continue;
    }
    for (const name of names) {
      entries++;
      const full = path.join(at, name.name);
      if (name.isDirectory()) waiting.push(full);
      else if (name.isFile()) bytes += fs.lstatSync(full, { throwIfNoEntry: false })?.size ?? 0;
    }
  }
  return { entries, bytes };
}

function chooseTrees(named) {
  const trees = [];
  const totals = { entries: 0, bytes: 0 };
  const add = (directory) => {
    const size = measure(directory, ENTRIES_MAX);
    trees.push(directory);
    totals.entries += size.entries;
    totals.bytes += size.bytes;
  };
  if (named.length > 0) {
    for (const directory of named) {
      const stat = fs.statSync(directory, { throwIfNoEntry: false });
      if (stat === undefined) throw new Failure(`${directory} does not exist`);
      if (!stat.isDirectory()) throw new Failure(`${directory} is not a directory`);
      add(fs.realpathSync(directory));
    }
    return { trees, ...totals };
  }
  for (const candidate of candidates) {
    if (totals.entries >= ENTRIES_WANTED) break;
    if (!fs.existsSync(candidate)) continue;
    const directory = fs.realpathSync(candidate);
    const covers = (outer, inner) => inner === outer || inner.startsWith(`${outer}/`);
    if (trees.some((tree) => covers(tree, directory) || covers(directory, tree))) continue;
    add(directory);
  }
  if (trees.length === 0)
    throw new Failure('found no tree to back up; name one: npm run quickstart -- DIR');
  return { trees, ...totals };
}

const running = [];

function start(name, args, log) {
  say(`\n$ npx ${[name, ...args].map(shown).join(' ')} &`);
  const out = fs.openSync(log, 'w');
  const child = spawn(process.execPath, [program(name), ...args], { stdio: ['ignore', out, out] });
  fs.closeSync(out);
  child.gone = new Promise((resolve) => child.once('exit', resolve));
  running.push({ name, child });
  return child;
}

/** Waits until the log has the line that says that the program serves. */
async function ready(name, child, log, pattern) {
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const text = fs.readFileSync(log, 'utf8');
    if (pattern.test(text)) return say(text.trim().split('\n').slice(-1)[0]);
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Failure(`${name} ended at once:\n${text}`);
    }
    if (performance.now() > deadline) throw new Failure(`${name} does not get ready:\n${text}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Runs a verb to its end; its progress goes to the terminal, its standard output comes back. */
async function run(name, args, { quiet = false } = {}) {
  showCommand(name, args);
  const child = spawn(process.execPath, [program(name), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (!quiet) say(output.trimEnd());
  if (code !== 0 && code !== 3)
    throw new Failure(`${name} ${args[0]} ended with exit code ${code}`);
  return output;
}

/** The first of `count` free TCP ports in a row: all at once, or the kernel gives one of them twice. */
async function freePorts(count) {
  const listen = (port) =>
    new Promise((resolve) => {
      const server = net.createServer();
      server.once('error', () => resolve(undefined));
      server.listen(port, '127.0.0.1', () => resolve(server));
    });
  for (let attempt = 0; attempt < 50; attempt++) {
    const held = [await listen(0)];
    const { port } = held[0].address();
    while (held.length < count && port + held.length <= 65535 && held.at(-1) !== undefined) {
      held.push(await listen(port + held.length));
    }
    const good = held.filter((server) => server !== undefined);
    for (const server of good) await new Promise((resolve) => server.close(resolve));
    if (good.length === count) return port;
  }
  throw new Failure(`found no ${count} free TCP ports in a row`);
}

const isRoot = process.getuid() === 0;

/** The first differences between a tree and its copy: names, kinds, modes, times, contents. */
function compare(source, copy, differences, counts) {
  const a = fs.lstatSync(source, { bigint: true });
  const b = fs.lstatSync(copy, { bigint: true, throwIfNoEntry: false });
  const name = source.toString('latin1');
  const differ = (what) => differences.push(`${name}: ${what}`);
  counts.entries++;
  if (b === undefined) return differ('is missing');
  const fields = ['mode', ...(isRoot ? ['uid', 'gid'] : []), 'mtimeNs'];
  if (!a.isDirectory()) fields.push('size');
  for (const field of fields) {
    if (a[field] !== b[field]) differ(`${field} ${a[field]}, restored ${b[field]}`);
  }
  if (a.isSymbolicLink()) {
    const options = { encoding: 'buffer' };
    if (!fs.readlinkSync(source, options).equals(fs.readlinkSync(copy, options))) differ('target');
  } else if (a.isFile()) {
    counts.bytes += Number(a.size);
    if (!sameContent(source, copy, Number(a.size))) differ('content');
  } else if (a.isDirectory()) {
    const options = { encoding: 'buffer' };
    const names = fs.readdirSync(source, options);
    const extra = new Set(fs.readdirSync(copy, options).map((n) => n.toString('latin1')));
    for (const entry of names) {
      extra.delete(entry.toString('latin1'));
      const join = (directory) => Buffer.concat([directory, Buffer.from('/'), entry]);
      compare(join(source), join(copy), differences, counts);
    }
    for (const entry of extra) differ(`has ${entry} besides`);
  }
}

const CHUNK = 1 << 20;
const left = Buffer.alloc(CHUNK);
const right = Buffer.alloc(CHUNK);

function sameContent(source, copy, size) {
  const one = fs.openSync(source);
  const other = fs.openSync(copy);
  try {
    for (let at = 0; at < size; ) {
      const n = fs.readSync(one, left, 0, CHUNK, at);
      const m = fs.readSync(other, right, 0, CHUNK, at);
      if (n !== m || n === 0 || left.compare(right, 0, m, 0, n) !== 0) return false;
      at += n;
    }
    return true;
  } finally {
    fs.closeSync(one);
    fs.closeSync(other);
  }
}

function checkRoom(directory, bytes) {
  const { bavail, bsize } = fs.statfsSync(directory);
  const free = bavail * bsize;
  /* The set and the restored copy, with tar's headers and the file system's rounding. */
  const needed = bytes * 2.5 + 64 * 2 ** 20;
  if (free < needed) {
    throw new Failure(
      `${directory} has ${human(free)} free, the set and the restored copy need about ${human(needed)}; ` +
        'name a smaller tree (npm run quickstart -- DIR), or set TMPDIR',
    );
  }
}

async function quickstart(base, named) {
  const { trees, entries, bytes } = chooseTrees(named);
  say(`Backing up ${trees.join(' ')}: about ${entries} entries, ${human(bytes)}.`);
  say(`Everything of this run is in ${base}.`);
  checkRoom(base, bytes);
  const at = (...parts) => path.join(base, ...parts);
  const runDirectory = at('run');
  // The client's WKP and the one after it, and the server's.
  const wkp = await freePorts(3);
  const databaseWkp = wkp + 2;
  fs.mkdirSync(at('restored'));
  const write = (file, value) => fs.writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
  write(at('client.json'), {
    name: 'host1',
    runDirectory,
    wkp,
    roots: trees,
    restoreRoots: [at('restored')],
    keyFile: 'pair.key',
  });
  write(at('server.json'), {
    wkp: databaseWkp,
    name: 'backup1',
    library: 'library',
    runDirectory,
    stg: 'backup',
    control: 'server.sock',
    hosts: { host1: { address: '127.0.0.1', wkp, keyFile: 'pair.key' } },
  });

  running.push({ name: 'stpd', stop: () => stopArray(runDirectory) });
  await run('stpd', ['start', '--run-dir', runDirectory]);
  await run('stpctl', [
    'stg',
    'create',
    'backup',
    '--boards',
    '8',
    '--ports',
    '16',
    '--run-dir',
    runDirectory,
  ]);
  await run('stpbackup', ['key', 'new', at('pair.key')]);
  const client = start('stpbackup', ['client', '--config', at('client.json')], at('client.log'));
  const server = start('stpbackup', ['server', '--config', at('server.json')], at('server.log'));
  await ready('stpbackup client', client, at('client.log'), /ready|listen|serv/i);
  await ready('stpbackup server', server, at('server.log'), /ready|listen|serv/i);

  const config = ['--config', at('server.json')];
  // Events, one a line; the last one is the summary.
  const summaryOf = (events) => JSON.parse(events.trim().split('\n').at(-1));
  const backup = summaryOf(
    await run('stpbackup', ['fs', ...trees.map((tree) => `host1:${tree}`), ...config, '--json'], {
      quiet: true,
    }),
  );
  summarise('backup', backup);
  const target = at('restored', 'tree');
  const restore = summaryOf(
    await run('stpbackup', ['restore', 'latest', `host1:${target}`, ...config, '--json'], {
      quiet: true,
    }),
  );
  summarise('restore', restore);
  await run('stpbackup', ['list', ...config]);
  await run('stpctl', ['board', 'list', '--run-dir', runDirectory]);

  say(`\nComparing each tree with its restored copy below ${target} ...`);
  const differences = [];
  const counts = { entries: 0, bytes: 0 };
  for (const tree of trees) {
    compare(Buffer.from(tree), Buffer.from(path.join(target, tree)), differences, counts);
  }
  const warnings = backup.warnings + restore.warnings;
  if (differences.length > 0) {
    say(differences.slice(0, 20).join('\n'));
    const because =
      warnings > 0 ? ' (see the warnings above: what could not be read is not there)' : '';
    throw new Failure(`${differences.length} differences${because}`);
  }
  const what = isRoot
    ? 'modes, owners, times, contents'
    : 'modes, times, contents; owners need root';
  say(`${counts.entries} entries, ${human(counts.bytes)}: the same (${what}).`);
  checkWithTools(base, trees, target);
}

function summarise(what, summary) {
  const { seconds, memoryBytes } = summary;
  /* Each side counts what it sent; together that is what the wire carried. */
  const { server, client } = summary.networkBytes;
  const tcpBytes = Math.max(server.sent + client.sent, server.sent + server.received);
  const share = (tcpBytes / (tcpBytes + memoryBytes)) * 100;
  say(
    `${what}: ${summary.entries} entries, ${human(summary.bytes)} in ${seconds.toFixed(1)} s ` +
      `(${human(summary.bytes / seconds)}/s)`,
  );
  say(
    `  over memory ${human(memoryBytes)}, over TCP ${human(tcpBytes)}: TCP carried ${share.toFixed(3)} %`,
  );
  if (!(share <= 1))
    throw new Failure(`TCP carried ${share.toFixed(2)} % of the bytes, more than 1 %`);
}

/** The same with the tools people trust, where they are installed. */
function checkWithTools(base, trees, target) {
  const sets = path.join(base, 'library', 'sets');
  const media = fs
    .readdirSync(sets)
    .flatMap((set) =>
      fs.readdirSync(path.join(sets, set)).map((file) => path.join(sets, set, file)),
    )
    .find((file) => file.endsWith('.tar'));
  say(`\n$ tar -tf ${media} | wc -l`);
  const tar = spawnSync('sh', ['-c', `tar -tf '${media}' | wc -l`], { encoding: 'utf8' });
  say(tar.stdout.trim());
  if (spawnSync('rsync', ['--version']).status !== 0) {
    return say('rsync is not installed: its comparison is skipped.');
  }
  for (const tree of trees) {
    const copy = `${path.join(target, tree)}/`;
    const args = [
      '-aHAX',
      '--checksum',
      '--modify-window=-1',
      '--dry-run',
      '--itemize-changes',
      '--delete',
    ];
    if (!isRoot) args.push('--no-owner', '--no-group');
    say(`\n$ rsync ${args.join(' ')} ${tree}/ ${copy}`);
    const rsync = spawnSync('rsync', [...args, `${tree}/`, copy], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    const said = `${rsync.stdout}${rsync.stderr}`.trim();
    if (rsync.status !== 0 || said !== '') {
      throw new Failure(`rsync sees differences:\n${said.split('\n').slice(0, 20).join('\n')}`);
    }
    say('(prints nothing: no difference)');
  }
}

async function stopArray(runDirectory) {
  if (fs.existsSync(path.join(runDirectory, 'stpd.lock'))) {
    await run('stpd', ['stop', '--run-dir', runDirectory]);
  }
}

async function stopAll() {
  for (const { child, stop } of running.splice(0).reverse()) {
    if (stop !== undefined) await stop();
    else {
      child.kill('SIGTERM');
      await child.gone;
    }
  }
}

const args = process.argv.slice(2);
const unknown = args.find((argument) => argument.startsWith('-') && argument !== '--keep');
if (unknown !== undefined || args.includes('--help')) {
  say('usage: npm run quickstart -- [--keep] [DIR...]');
  process.exit(unknown === undefined ? 0 : 2);
}
if (!fs.existsSync(program('stpd'))) {
  say('quickstart: dist/ is missing; build first: npm ci');
  process.exit(1);
}
const keep = args.includes('--keep');
const base = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'stpd-quickstart-'));
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (interrupted) return;
    interrupted = true;
    say(`\n${signal}: stopping everything`);
    stopAll().finally(() => {
      fs.rmSync(base, { recursive: true, force: true });
      process.exit(130);
    });
  });
}
let failed = false;
try {
  await quickstart(
    base,
    args.filter((argument) => !argument.startsWith('-')),
  );
} catch (error) {
  if (!interrupted) {
    failed = true;
    say(`\nquickstart failed: ${error instanceof Failure ? error.message : error.stack}`);
  }
}
if (!interrupted) {
  await stopAll();
  if (keep) say(`\nKept: ${base}`);
  else fs.rmSync(base, { recursive: true, force: true });
  say(failed ? '' : '\nAll stopped, nothing left behind. quickstart: ok');
  process.exitCode = failed ? 1 : 0;
}
