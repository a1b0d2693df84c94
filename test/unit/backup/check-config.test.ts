/** What `check-config` says of files that are wrong, and of what they refer to. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { loadControlPath, loadLibraryPath, loadServerConfig } from '../../../src/backup/config.js';
import { checkConfig } from '../../../src/backup/config-check.js';
import { makeKeyFile } from '../../../src/backup/keys.js';
import { schemaFiles } from '../../../src/ctl/stpbackup/schemas.js';
import { readJson } from '../../../src/json-text.js';
import { runProgram } from '../../support/array.js';

function place(t: ExecutionContext): string {
  const base = mkdtempSync(join(tmpdir(), 'stpbackup-test-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  makeKeyFile(join(base, 'pair.key'));
  for (const name of ['run', 'src', 'out']) mkdirSync(join(base, name));
  writeFileSync(join(base, 'run/attach.sock'), '');
  return base;
}

function write(base: string, value: unknown, name = 'config.json'): string {
  const file = join(base, name);
  writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value, null, 2));
  return file;
}

const client = {
  name: 'host1',
  runDirectory: 'run',
  roots: ['src'],
  restoreRoots: ['out'],
  keyFile: 'pair.key',
};
const server = {
  name: 'server1',
  runDirectory: 'run',
  library: 'library',
  stg: 'backup',
  control: 'control.sock',
  hosts: { host1: { keyFile: 'pair.key' } },
};

/** `line field: message` of each. */
const said = (file: string, role?: 'client' | 'server'): string[] =>
  checkConfig(file, role).findings.map(
    ({ severity, line, field, message }) => `${severity} ${line ?? '-'} ${field}: ${message}`,
  );

test('files that are as they should be have no findings, and their role is known', (t) => {
  const base = place(t);
  for (const [role, value] of Object.entries({ client, server })) {
    t.deepEqual(checkConfig(write(base, value)), { role: role as 'client', findings: [] });
  }
});

const wrong: [string, object | string, RegExp[]][] = [
  ['no JSON', '{\n  "name": "a",\n  oops\n}', [/^error 3 : .*column 3: the name of a field.*"o"/]],
  ['the end missing', '{\n  "name": "a"', [/^error 2 : .*closing brace is wanted, not the end/]],
  [
    'a field twice',
    '{"name":"a","tls":false,"roots":["/"],\n"name":"b","runDirectory":"run"}',
    [/^error 2 : name is there twice/],
  ],
  [
    'a typing error',
    { ...client, rots: [] },
    [/^error 11 rots: unknown field; did you mean roots/],
  ],
  ['port 0', { ...client, wkp: 0 }, [/^error 11 wkp: must be a port from 1 to 65534 \(is 0\)$/]],
  ['no name', { ...client, name: undefined }, [/^error 1 name: is missing$/]],
  ['a rate that is none', { ...client, limitRate: 'fast' }, [/limitRate: must be bytes a second/]],
  ['a niceness', { ...client, nice: 20 }, [/nice: must be a niceness from 0 to 19 \(is 20\)/]],
  ['an I/O class', { ...client, ionice: 'realtime' }, [/ionice: must be "idle", or "best-/]],
  ['a root of nothing', { ...client, roots: [{ befor: 'x' }] }, [/roots\.0: must be a path, or/]],
  ['two mistakes', { ...client, wkp: 'a', tls: 1 }, [/^error 11 wkp:/, /^error 12 tls:/]],
  [
    'a host twice in one place',
    { ...server, hosts: { a: { keyFile: 'pair.key' }, b: { keyFile: 'pair.key' } } },
    [
      /^error 11 hosts\.b: has the address of hosts\.a/,
      /^warning 12 hosts\.b\.keyFile: has the key/,
    ],
  ],
  ['a long socket', { ...server, control: 'x'.repeat(120) }, [/^error 6 control: .* at most 107/]],
  [
    'a root not there',
    { ...client, roots: ['none'] },
    [/^warning 5 roots\.0: .*none is not there/],
  ],
  ['a root twice', { ...client, roots: ['src', 'src'] }, [/^warning 6 roots\.1: src is the same/]],
  [
    'no run directory',
    { ...client, runDirectory: 'no' },
    [/^warning 3 runDirectory: .*start stpd/],
  ],
  ['no stpd', { ...server, runDirectory: 'out' }, [/^warning 3 runDirectory: no stpd serves/]],
  ['a library of others', { ...server, library: 'run' }, [/^error 4 library: .*something else/]],
  ['no key', { ...client, keyFile: 'none' }, [/^error 10 keyFile: .*stpbackup key new FILE/]],
];
for (const [what, value, messages] of wrong) {
  test(`a configuration with ${what} is named by line, field and rule`, (t) => {
    const role = JSON.stringify(value).includes('library') ? 'server' : 'client';
    const found = said(write(place(t), value), role);
    t.is(found.length, messages.length, found.join('\n'));
    messages.forEach((message, i) => void t.regex(found[i] ?? '', message));
  });
}

test('a key that others may read, and a file of commands that others may write', (t) => {
  const base = place(t);
  chmodSync(join(base, 'pair.key'), 0o644);
  const file = write(base, { ...client, before: 'true' });
  chmodSync(file, 0o666);
  const [key, commands] = said(file);
  t.regex(key ?? '', /keyFile: .*mode 0644.*chmod 0600/);
  t.regex(commands ?? '', /others may write it; run: chmod go-w/);
});

test('the file of the other role is called that', (t) => {
  const base = place(t);
  t.regex(said(write(base, client), 'server')[0] ?? '', /this is the configuration of a client/);
  t.throws(() => loadControlPath(write(base, client)), { message: /configuration of a client/ });
});

test('all who read a file refuse the same, in the same words', (t) => {
  const file = write(place(t), { ...server, wkp: 0 });
  const messages = [loadServerConfig, loadControlPath, loadLibraryPath].map(
    (load) => t.throws(() => load(file))?.message,
  );
  t.is(new Set(messages).size, 1);
  t.regex(messages[0] ?? '', /config\.json:12: wkp: must be a port from 1 to 65535 \(is 0\)/);
});

test('exit codes: 0, 2 for errors, 3 for warnings; findings on stdout', async (t) => {
  const base = place(t);
  const check = (...args: string[]) => runProgram('stpbackup', ['check-config', ...args]);
  const good = await check('--config', write(base, server));
  t.deepEqual([good.code, good.stderr], [0, '']);
  const warned = await check('--config', write(base, { ...client, roots: ['none'] }), '--json');
  t.is(warned.code, 3);
  t.is(JSON.parse(warned.stdout).findings[0].field, 'roots.0');
  const bad = await check('--config', write(base, { ...client, wkp: 0 }));
  t.is(bad.code, 2);
  t.regex(bad.stdout, /cannot be used: 1 to mend/);
  t.is((await check('--config', join(base, 'none.json'))).code, 2);
  t.is((await check()).code, 2);
});

test('docs/*.schema.json are what the programs print', (t) => {
  const docs = fileURLToPath(new URL('../../../../docs/', import.meta.url));
  for (const [name, text] of schemaFiles()) {
    t.is(readFileSync(join(docs, name), 'utf8'), text, 'run: npm run docs');
  }
});

test('JSON that JSON.parse takes is taken, with the line of each field', (t) => {
  const text = '{"a": [1,\n-2.5e+3, {"b":\n"\\u00e9\\n"}],\n"c": null, "d": {}, "e": [] }';
  const read = readJson(text);
  if ('problem' in read) return t.fail(read.problem.message);
  t.deepEqual(read.value, JSON.parse(text));
  t.is(read.lineOf(['a', 2, 'b']), 3);
  t.is(read.lineOf(['c']), 4);
  t.is(read.lineOf(['a', 7]), 1);
});

for (const text of ['', '{', '[1,]', '{"a":01}', '"\n"', '{"a":1}}', '[1 2]', '{a:1}', 'nul']) {
  test(`${JSON.stringify(text)} is no JSON, as JSON.parse has it, and has a place`, (t) => {
    t.throws(() => JSON.parse(text));
    const read = readJson(text);
    t.true('problem' in read && read.problem.line >= 1);
  });
}
