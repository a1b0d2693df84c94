import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { assertBelowRoots, normalisePath } from '../../../src/source/confine.js';

function inTree(body: (directory: string) => void): void {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'stpd-confine-')));
  try {
    for (const name of ['allowed/below', 'allowed-not', 'outside/secret']) {
      mkdirSync(join(directory, name), { recursive: true });
    }
    body(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('a root and what lies below it pass, as real paths', (t) => {
  inTree((d) => {
    const allowed = [join(d, 'allowed')];
    t.is(assertBelowRoots(join(d, 'allowed'), allowed).toString(), join(d, 'allowed'));
    t.is(assertBelowRoots(`${d}//allowed/./below/`, allowed).toString(), join(d, 'allowed/below'));
    t.is(assertBelowRoots('/etc', ['/']).toString(), '/etc');
    t.is(assertBelowRoots('/', ['/']).toString(), '/');
  });
});

test('a neighbour with the same beginning does not pass', (t) => {
  inTree((d) => {
    const refused = { code: 'EACCES', message: /is not below a root/ };
    t.throws(() => assertBelowRoots(join(d, 'allowed-not'), [join(d, 'allowed')]), refused);
    t.throws(() => assertBelowRoots(d, [join(d, 'allowed')]), refused);
    t.throws(() => assertBelowRoots('/', [join(d, 'allowed')]), refused);
    t.throws(() => assertBelowRoots(join(d, 'allowed'), []), refused);
  });
});

test('.. and relative paths are refused, whatever they mean', (t) => {
  inTree((d) => {
    const allowed = [join(d, 'allowed')];
    for (const path of [`${d}/allowed/../outside`, `${d}/allowed/below/..`, 'allowed', '', 'a\0']) {
      t.throws(() => assertBelowRoots(path, allowed), { code: 'EINVAL' }, path);
    }
    t.throws(() => normalisePath('/a\0b'), { code: 'EINVAL' });
  });
});

test('a symlinked parent leads nowhere outside; a symlink itself is an entry', (t) => {
  inTree((d) => {
    symlinkSync(join(d, 'outside'), join(d, 'allowed/out'));
    const allowed = [join(d, 'allowed')];
    t.throws(() => assertBelowRoots(join(d, 'allowed/out/secret'), allowed), { code: 'EACCES' });
    t.is(assertBelowRoots(join(d, 'allowed/out'), allowed).toString(), join(d, 'allowed/out'));
  });
});

test('a symlinked parent inside is resolved; a root that is a symlink is followed', (t) => {
  inTree((d) => {
    symlinkSync('below', join(d, 'allowed/alias'));
    symlinkSync('allowed', join(d, 'name'));
    writeFileSync(join(d, 'allowed/below/f'), '');
    const real = join(d, 'allowed/below/f');
    t.is(assertBelowRoots(join(d, 'allowed/alias/f'), [join(d, 'allowed')]).toString(), real);
    t.is(assertBelowRoots(join(d, 'name/below/f'), [join(d, 'name')]).toString(), real);
    t.is(assertBelowRoots(join(d, 'name'), [join(d, 'name')]).toString(), join(d, 'allowed'));
  });
});

test('a root that is not there is named, unless another one has the path', (t) => {
  inTree((d) => {
    const gone = join(d, 'allowed/gone');
    const message = `ENOENT: ${gone}, a root of this client's configuration, is not there`;
    t.throws(() => assertBelowRoots(gone, [gone]), { code: 'ENOENT', message });
    t.is(assertBelowRoots(gone, [gone, join(d, 'allowed')]).toString(), gone);
    t.throws(() => assertBelowRoots(join(d, 'allowed/gone/deep/x'), [join(d, 'allowed')]), {
      code: 'ENOENT',
      message: `ENOENT: ${gone}/deep/x cannot be reached: ${gone} is not there`,
    });
  });
});

test('only who may see a path learns that its parent is missing', (t) => {
  inTree((d) => {
    const allowed = [join(d, 'allowed')];
    t.throws(() => assertBelowRoots(join(d, 'allowed/no/x'), allowed), { code: 'ENOENT' });
    t.throws(() => assertBelowRoots(join(d, 'outside/no/x'), allowed), { code: 'EACCES' });
  });
});

test('names that are not UTF-8 are compared as bytes', (t) => {
  inTree((d) => {
    const name = Buffer.concat([Buffer.from(`${d}/allowed/`), Buffer.from([0xff])]);
    mkdirSync(name);
    t.deepEqual(assertBelowRoots(name, [join(d, 'allowed')]), name);
    t.deepEqual(assertBelowRoots(name, [name]), name);
    t.throws(() => assertBelowRoots(join(d, 'allowed'), [name]), { code: 'EACCES' });
  });
});
