import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { loadClientConfig, loadServerConfig } from '../../../src/backup/config.js';
import { makeKeyFile, readKeyFile } from '../../../src/backup/keys.js';

function directory(t: ExecutionContext): string {
  const made = mkdtempSync(join(tmpdir(), 'stpbackup-test-'));
  t.teardown(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

function write(t: ExecutionContext, value: unknown): string {
  const base = directory(t);
  makeKeyFile(join(base, 'pair.key'));
  const file = join(base, 'config.json');
  writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value));
  return file;
}

const client = { name: 'host1', roots: ['/srv'], keyFile: 'pair.key' };
const server = {
  name: 'server1',
  library: 'library',
  stg: 'backup',
  control: 'control.sock',
  hosts: { host1: { keyFile: 'pair.key' } },
};

test('a client configuration: defaults, and paths from the directory of the file', (t) => {
  const file = write(t, { ...client, roots: ['data', '/srv'] });
  const config = loadClientConfig(file);
  const base = join(file, '..');
  t.deepEqual(config.roots, [join(base, 'data'), '/srv']);
  t.is(config.wkp, 7398);
  t.is(config.address, '127.0.0.1');
  t.is(config.key?.length, 32);
  t.deepEqual(config.restoreRoots, []);
});

test('a server configuration: defaults, and each host with its key', (t) => {
  const config = loadServerConfig(write(t, server));
  t.is(config.wkp, 7286);
  t.is(config.hosts.get('host1')?.wkp, 7398);
  t.is(config.hosts.get('host1')?.key?.length, 32);
});

const refused: [string, object | string, RegExp][] = [
  ['text that is not JSON', '{"name"', /is not JSON/],
  ['an unknown field', { ...client, wpk: 7398 }, /wpk/],
  ['a port out of range', { ...client, wkp: 65535 }, /wkp: must be a port.*\(is 65535\)/],
  ['a port that is text', { ...client, wkp: '7398' }, /wkp: .*number/],
  ['a name with a colon', { ...client, name: 'a:b' }, /name: must be .* \(is "a:b"\)/],
  ['no roots at all', { ...client, roots: [] }, /roots and restoreRoots are both empty/],
  ['no key', { name: 'host1', roots: ['/srv'] }, /keyFile: is missing; make a key/],
  ['a key file that is not there', { ...client, keyFile: 'no.key' }, /key new FILE/],
];
for (const [what, value, message] of refused) {
  test(`a client configuration with ${what} is refused by name and rule`, (t) => {
    const error = t.throws(() => loadClientConfig(write(t, value)), { code: 'EINVAL' });
    t.regex(error?.message ?? '', message);
    t.regex(error?.message ?? '', /config\.json|no\.key/);
  });
}

test('several mistakes are told at once', (t) => {
  const file = write(t, { ...server, stg: '../x', wkp: 0 });
  const error = t.throws(() => loadServerConfig(file));
  t.regex(error?.message ?? '', /config\.json:1: stg: .*\n.*config\.json:1: wkp: /);
});

test('"tls": false needs no key', (t) => {
  t.is(loadClientConfig(write(t, { name: 'h', roots: ['/srv'], tls: false })).key, null);
});

test('a new key file has mode 0600 and is never replaced', (t) => {
  const file = join(directory(t), 'new.key');
  makeKeyFile(file);
  t.is(statSync(file).mode & 0o777, 0o600);
  const before = readFileSync(file, 'latin1');
  t.regex(before, /^[0-9a-f]{64}\n$/);
  t.throws(() => makeKeyFile(file), { message: /exists and is left as it is/ });
  t.is(readFileSync(file, 'latin1'), before);
});

test('a key file that others may read is refused', (t) => {
  const file = join(directory(t), 'open.key');
  makeKeyFile(file);
  chmodSync(file, 0o640);
  t.throws(() => readKeyFile(file), { message: /mode 0640: others may read it; chmod 0600/ });
});

test('a key file of another length is refused', (t) => {
  const file = join(directory(t), 'short.key');
  writeFileSync(file, `${'ab'.repeat(31)}\n`, { mode: 0o600 });
  t.throws(() => readKeyFile(file), { message: /64 hexadecimal digits/ });
});
