/** What of a tree is in a backup, and the attributes that travel with it. */
import { closeSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../../src/native.js';
import { TreeWalk } from '../../../src/source/file-tree.js';
import { aclText, XATTRS_BYTES_MAX } from '../../../src/source/xattrs.js';
import { Generations, said } from './generations.js';
import { difference, isRoot } from './hard-tree.js';
import { inDirectory, run } from './stand-ins.js';

const setXattr = (path: string, name: string, value: Buffer | string) =>
  native().setXattr(Buffer.from(path), Buffer.from(name), Buffer.from(value));

/** As acl(5) has it in the kernel: tag, permissions and number of each entry. */
function aclOf(entries: readonly (readonly [number, number, number])[]): Buffer {
  const value = Buffer.alloc(4 + 8 * entries.length);
  value.writeUInt32LE(2, 0);
  for (const [i, [tag, bits, id]] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + 8 * i);
    value.writeUInt16LE(bits, 6 + 8 * i);
    value.writeUInt32LE(id, 8 + 8 * i);
  }
  return value;
}
const NONE = 0xffffffff;
const acl = aclOf([
  [1, 6, NONE],
  [2, 4, 12345],
  [4, 4, NONE],
  [16, 4, NONE],
  [32, 0, NONE],
]);

const xattrsIn = (path: string): string[] =>
  (native().getXattrs(Buffer.from(path), XATTRS_BYTES_MAX) ?? []).map((b) => b.toString('latin1'));

test('xattrs, POSIX ACLs and capabilities come back, through GNU tar too', (t) => {
  inDirectory((d) => {
    const g = new Generations(d);
    mkdirSync(join(g.source, 'dir'), { recursive: true });
    const file = join(g.source, 'f');
    writeFileSync(file, 'data');
    writeFileSync(join(g.source, 'empty'), '');
    setXattr(file, 'user.note', Buffer.from([0, 1, 0xff, 0x0a]));
    setXattr(file, 'user.a=b%c', 'odd name');
    setXattr(file, 'user.none', '');
    setXattr(file, 'system.posix_acl_access', acl);
    setXattr(join(g.source, 'empty'), 'user.e', 'e');
    setXattr(join(g.source, 'dir'), 'system.posix_acl_default', acl);
    setXattr(join(g.source, 'dir'), 'user.large', Buffer.alloc(3000, 'v'));
    // vfs_cap_data of revision 2: cap_net_bind_service, effective.
    const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
    if (isRoot) setXattr(file, 'security.capability', capability);
    const { set, warnings } = g.full();
    t.deepEqual(warnings, []);
    const { tree } = g.restore(set, join(d, 'r'));
    t.is(difference(g.source, tree), '');
    mkdirSync(join(d, 't'));
    const all = ['--xattrs', '--xattrs-include=*', '--acls', '-xpf', set.mediaPath];
    run('tar', ['-C', join(d, 't'), ...all]);
    for (const name of ['f', 'empty', 'dir', '']) {
      const expected = xattrsIn(join(g.source, name)).sort();
      t.is(expected.length > 0, name !== '');
      t.deepEqual(xattrsIn(join(tree, name)).sort(), expected, name);
      t.deepEqual(xattrsIn(join(d, 't', g.source, name)).sort(), expected, `${name} by tar`);
    }
    t.is(difference(g.source, join(d, 't', g.source)), '');
  });
});

test('ACL bytes that are none have no text; more attributes than a line holds are refused', (t) => {
  t.is(aclText(acl), 'user::rw-,user:12345:r--,group::r--,mask::r--,other::---');
  for (const bad of ['', '02', '03000000', '0200000001', '02000000ff000000ffffffff']) {
    t.is(aclText(Buffer.from(bad, 'hex')), null, bad);
  }
  inDirectory((d) => {
    const path = join(d, 'f');
    writeFileSync(path, '');
    setXattr(path, 'user.x', 'four');
    const fd = openSync(path, 'r+');
    t.throws(() => native().getXattrs(fd, 9), { code: 'E2BIG' });
    t.is(native().getXattrs(fd, 10)?.length, 2);
    t.throws(() => native().setXattr(fd, Buffer.from('user.a\0b'), Buffer.alloc(0)), {
      message: /zero byte/,
    });
    closeSync(fd);
    t.throws(() => native().getXattrs(Buffer.from(join(d, 'no')), 10), { code: 'ENOENT' });
    symlinkSync('f', join(d, 'l'));
    t.is(native().getXattrs(Buffer.from(join(d, 'l')), 100), null, 'a link is not followed');
  });
});

test('exclude patterns are those of .gitignore, and what they leave out becomes a tombstone', (t) => {
  inDirectory((d) => {
    const g = new Generations(d);
    for (const dir of ['keep', 'node_modules/x', 'logs']) {
      mkdirSync(join(g.source, dir), { recursive: true });
    }
    for (const name of ['a.o', 'keep/b.o', 'keep/c', 'node_modules/x/y', 'logs/1', 'logs/keep']) {
      writeFileSync(join(g.source, name), name);
    }
    const full = g.full({ selection: { exclude: ['*.o', 'node_modules/', '!b.o'] } });
    t.deepEqual(said(full, g.source), [
      '+',
      '+/keep',
      '+/keep/b.o',
      '+/keep/c',
      '+/logs',
      '+/logs/1',
      '+/logs/keep',
    ]);
    const exclude = ['*.o', 'node_modules/', '!b.o', `${g.source}/logs/*`, '!**/logs/keep'];
    t.deepEqual(said(g.incremental({ selection: { exclude } }), g.source), ['-/logs/1']);
    t.throws(() => g.full({ selection: { exclude: [' '] } }), { code: 'EINVAL' });
  });
});

test('of a directory with a CACHEDIR.TAG only the tag is stored, when asked', (t) => {
  inDirectory((d) => {
    const g = new Generations(d);
    for (const dir of ['cache', 'liar']) mkdirSync(join(g.source, dir), { recursive: true });
    const tag = 'Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n';
    writeFileSync(join(g.source, 'cache/CACHEDIR.TAG'), tag);
    writeFileSync(join(g.source, 'cache/big'), 'b');
    writeFileSync(join(g.source, 'liar/CACHEDIR.TAG'), 'no signature');
    writeFileSync(join(g.source, 'liar/big'), 'b');
    const names = said(g.full({ selection: { excludeCaches: true } }), g.source);
    t.false(names.includes('+/cache/big'));
    t.true(names.includes('+/cache/CACHEDIR.TAG') && names.includes('+/liar/big'));
    t.true(said(g.full(), g.source).includes('+/cache/big'));
  });
});

test('one-file-system stores a mount point and not what is mounted there', (t) => {
  const paths = (oneFileSystem: boolean): string[] => {
    const walk = new TreeWalk(['/dev'], {
      onWarning: () => {},
      oneFileSystem,
    });
    return [...walk].map((e) => e.path.toString());
  };
  const mounts = readFileSync('/proc/self/mounts', 'utf8');
  const inner = /^\S+ (\/dev\/\S+) /m.exec(mounts)?.[1]?.slice(1);
  if (inner === undefined) {
    t.log('skipped: nothing is mounted below /dev');
    return t.pass();
  }
  const [all, one] = [paths(false), paths(true)];
  t.true(one.includes(inner));
  t.deepEqual(
    one.filter((p) => p.startsWith(`${inner}/`)),
    [],
  );
  t.true(all.length >= one.length);
});

test('sockets are skipped with a warning', async (t) => {
  await new Promise<void>((resolve) => {
    inDirectory((d) => {
      const g = new Generations(d);
      mkdirSync(g.source);
      const server = createServer().listen(join(g.source, 's'));
      const { warnings } = g.full();
      t.deepEqual(
        warnings.map((w) => w.code),
        ['EOPNOTSUPP'],
      );
      server.close(() => resolve());
    });
  });
});

test('a dry run sends no data and no entry', (t) => {
  inDirectory((d) => {
    const g = new Generations(d);
    mkdirSync(g.source);
    writeFileSync(join(g.source, 'f'), Buffer.alloc(500_000));
    t.throws(() => g.full({ dryRun: true }), { code: 'EPROTO', message: /END frame says/ });
    t.is(g.library.list().sets.length, 0);
  });
});
