/**
 * What the loader says when the addon cannot work.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { stpError } from '../../../src/errors.js';
import { layoutHash } from '../../../src/layout/hash.js';
import { loadAddon, native, verifyKernel, verifyLayout } from '../../../src/native.js';
import { openDescriptors } from './child.js';

test('a missing binary names the command that builds it', (t) => {
  const error = t.throws(() => loadAddon('/nonexistent/stpd_native.node'), {
    code: 'ERR_STPD_NATIVE',
  });
  t.regex(error?.message as string, /\/nonexistent\/stpd_native\.node is missing.*`npm run build`/);
});

test('a file that is no binary of this machine is named, with the machine', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-loader-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'stpd_native.node');
  writeFileSync(file, 'no binary');
  const error = t.throws(() => loadAddon(file), { code: 'ERR_STPD_NATIVE' });
  t.true(error?.message.includes(`${process.platform} ${process.arch}`));
  t.true(error?.message.includes(process.versions.node));
  t.true(error?.message.includes(file));
  t.regex(error?.message as string, /`npm run build`/);
});

test('the addon and the program have one layout', (t) => {
  t.is((native() as unknown as { layoutHash: string }).layoutHash, layoutHash());
});

test('another layout is refused, and both are named', (t) => {
  const other = 'f'.repeat(64);
  const error = t.throws(() => verifyLayout({ layoutHash: other }, '/a/b.node'), {
    code: 'ERR_STPD_NATIVE',
  });
  for (const part of [other, layoutHash(), '/a/b.node', 'npm run build']) {
    t.true(error?.message.includes(part), part);
  }
  t.throws(() => verifyLayout({ layoutHash: undefined }, '/a/b.node'), {
    code: 'ERR_STPD_NATIVE',
  });
});

test('this kernel will do, and the probe leaves no descriptor', (t) => {
  const before = openDescriptors();
  t.notThrows(() => verifyKernel(native()));
  t.deepEqual(openDescriptors(), before);
});

const lacking = [
  ['memfdCreate', 'ENOSYS', 'memfd_create', '3.17'],
  ['seal', 'EINVAL', 'F_SEAL_FUTURE_WRITE', '5.1'],
  ['peerCredentials', 'ENOPROTOOPT', 'SO_PEERGROUPS', '4.13'],
] as const;

for (const [call, code, feature, since] of lacking) {
  const failing = Object.create(native());
  failing[call] = () => {
    throw stpError(code, `${call}: as an old kernel says it`, call);
  };

  test(`a kernel without ${feature} is refused, and the one needed is named`, (t) => {
    const error = t.throws(() => verifyKernel(failing), { code: 'ERR_STPD_NATIVE' });
    for (const part of [feature, since, release(), code]) {
      t.true(error?.message.includes(part), part);
    }
  });
}

test('a probe that fails for another reason says that reason', (t) => {
  const failing = Object.assign(Object.create(native()), {
    memfdCreate: () => {
      throw stpError('EMFILE', 'memfd_create: Too many open files', 'memfd_create');
    },
  });
  t.throws(() => verifyKernel(failing), { code: 'EMFILE' });
});
