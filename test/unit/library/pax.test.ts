import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import tar from 'tar-stream';
import {
  paddedBytes,
  paxRecordBytes,
  paxSeconds,
  TAR_END_BYTES,
  TarHeaderWriter,
  type TarMember,
} from '../../../src/library/pax.js';
import { inDirectory, run } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

const plain: TarMember = {
  path: Buffer.from('file'),
  type: 'file',
  mode: 0o644,
  uid: 1,
  gid: 2,
  size: 0,
  mtimeNs: 1_700_000_000_000_000_000n,
  link: null,
  major: 0,
  minor: 0,
};

const headerOf = (member: Partial<TarMember>): Buffer => {
  const writer = new TarHeaderWriter();
  return Buffer.from(writer.buffer.subarray(0, writer.write({ ...plain, ...member })));
};

/** An archive of members, each with `size` bytes of `x`. */
const archiveOf = (members: Partial<TarMember>[]): Buffer =>
  Buffer.concat([
    ...members.flatMap((m) => {
      const size = m.size ?? 0;
      return [headerOf(m), Buffer.alloc(size, 'x'), Buffer.alloc(paddedBytes(size) - size)];
    }),
    Buffer.alloc(TAR_END_BYTES),
  ]);

const recordsOf = (header: Buffer): string =>
  header
    .subarray(512, header.length - 512)
    .toString('latin1')
    .replace(/\0+$/, '');

test('what ustar can say needs one block', (t) => {
  t.is(headerOf({}).length, 512);
  t.is(headerOf({ path: Buffer.from('n'.repeat(100)) }).length, 512);
  t.is(headerOf({ path: Buffer.from(`${'p'.repeat(155)}/${'n'.repeat(100)}`) }).length, 512);
  t.is(headerOf({ uid: 0o7777777, size: 0o77777777777 }).length, 512);
});

test('what ustar cannot say needs records', (t) => {
  const name = 'n'.repeat(101);
  t.is(recordsOf(headerOf({ path: Buffer.from(name) })), `111 path=${name}\n`);
  t.is(recordsOf(headerOf({ path: Buffer.from(`p/${name}`) })), `113 path=p/${name}\n`);
  t.regex(recordsOf(headerOf({ path: Buffer.from(`${'p'.repeat(156)}/n/${name}`) })), /path=ppp/);
  t.is(
    recordsOf(headerOf({ uid: 0o10000000, gid: 4294967294 })),
    '15 uid=2097152\n18 gid=4294967294\n',
  );
  t.is(recordsOf(headerOf({ size: 2 ** 33 })), '19 size=8589934592\n');
  t.is(recordsOf(headerOf({ mtimeNs: 1_000_000_001n })), '21 mtime=1.000000001\n');
  t.is(recordsOf(headerOf({ mtimeNs: -1_500_000_000n })), '14 mtime=-1.5\n');
});

test('a record that is not UTF-8 is announced', (t) => {
  const path = Buffer.concat([Buffer.alloc(120, 'a'), Buffer.of(0xff)]);
  t.true(recordsOf(headerOf({ path })).startsWith('21 hdrcharset=BINARY\n131 path=aaa'));
  t.false(recordsOf(headerOf({ path: Buffer.from('é'.repeat(80)) })).includes('hdrcharset'));
});

test('a record counts the digits of its own length', (t) => {
  for (let value = 0; value < 1100; value++) {
    const bytes = paxRecordBytes(4, value);
    t.is(`${bytes} path=${'v'.repeat(value)}\n`.length, bytes);
  }
  // 99 and 9999 bytes do not exist: one digit more is one byte more.
  const lengths = new Set(Array.from({ length: 10100 }, (_, v) => paxRecordBytes(4, v)));
  t.deepEqual(
    [98, 99, 101, 102].map((l) => lengths.has(l)),
    [true, true, true, true],
  );
  t.false(lengths.has(100));
  t.false(lengths.has(1000));
  t.false(lengths.has(10000));
});

test('times are exact and rounded to nowhere', (t) => {
  t.is(paxSeconds(0n), '0');
  t.is(paxSeconds(1n), '0.000000001');
  t.is(paxSeconds(-1n), '-0.000000001');
  t.is(paxSeconds(-2_500_000_000n), '-2.5');
  t.is(paxSeconds(9_007_199_254_740_993_000_000_001n), '9007199254740993.000000001');
});

const arbitraryPath = fc
  .array(fc.uint8Array({ minLength: 1, maxLength: 255 }), { minLength: 1, maxLength: 15 })
  .map((parts) =>
    parts.map((part) => {
      const name = Buffer.from(part.map((b) => (b === 0 || b === 0x2f ? 0x61 : b)));
      return name.equals(Buffer.from('.')) || name.equals(Buffer.from('..'))
        ? Buffer.from('d')
        : name;
    }),
  )
  .map((parts) => Buffer.concat(parts.flatMap((p, i) => (i === 0 ? [p] : [Buffer.from('/'), p]))));

test('GNU tar extracts names of any bytes and any length', (t) => {
  t.log(`seed ${seed}`);
  inDirectory((directory) => {
    let round = 0;
    fc.assert(
      fc.property(arbitraryPath, fc.nat(1500), (path, size) => {
        const at = join(directory, String(round++));
        mkdirSync(at);
        run('tar', ['-C', at, '-xf', '-'], archiveOf([{ path, size }]));
        const whole = Buffer.concat([Buffer.from(`${at}/`), path]);
        return statSync(whole).size === size && readFileSync(whole).every((b) => b === 0x78);
      }),
      { seed, numRuns: 60 },
    );
  });
  t.pass();
});

test('tar-stream reads the same names, sizes and times', async (t) => {
  t.log(`seed ${seed}`);
  const member = fc.record({
    path: fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 120 })
      .map((s) => s.replace(/[\0/]/g, '_')),
    size: fc.nat(2000),
    seconds: fc.integer({ min: 0, max: 2 ** 33 - 1 }),
    // It does not read records of owners.
    uid: fc.nat(0o7777777),
    mode: fc.nat(0o7777),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(member, { minLength: 1, maxLength: 8 }), async (members) => {
      const extract = tar.extract();
      extract.end(
        archiveOf(
          members.map((m) => ({
            ...m,
            path: Buffer.from(m.path),
            mtimeNs: BigInt(m.seconds) * 10n ** 9n,
          })),
        ),
      );
      const seen = [];
      for await (const entry of extract) {
        const { name, size, mtime, uid, mode } = entry.header;
        seen.push({ path: name, size, seconds: Number(mtime) / 1000, uid, mode });
        entry.resume();
      }
      t.deepEqual(seen, members);
    }),
    { seed, numRuns: 50 },
  );
});

test('GNU tar reads a size over 8 GiB', (t) => {
  const size = 2 ** 33 + 5;
  // The data is not there: the listing names the size before tar looks for it.
  const listed = run('sh', ['-c', 'tar -tvf - 2>/dev/null; true'], headerOf({ size })).toString();
  t.regex(listed, /1\/2 +8589934597 /);
});

test('GNU tar has nothing to say about owners, devices and types', (t) => {
  const listed = run(
    'tar',
    ['--numeric-owner', '-tvf', '-'],
    archiveOf([
      { path: Buffer.from('d'), type: 'directory', mode: 0o1777 },
      { path: Buffer.from('c'), type: 'char', major: 4095, minor: 1048575 },
      { path: Buffer.from('p'), type: 'fifo', uid: 4294967294 },
      { path: Buffer.from('s'), type: 'symlink', link: Buffer.from('to') },
      { path: Buffer.from('h'), type: 'hardlink', link: Buffer.from('s') },
    ]),
  ).toString();
  const lines = listed
    .trim()
    .split('\n')
    .map((l) => l.replace(/ +/g, ' '));
  t.deepEqual(
    lines.map((l) => l.replace(/ \d{4}-\d\d-\d\d \d\d:\d\d/, '')),
    [
      'drwxrwxrwt 1/2 0 d/',
      'crw-r--r-- 1/2 4095,1048575 c',
      'prw-r--r-- 4294967294/2 0 p',
      'lrw-r--r-- 1/2 0 s -> to',
      'hrw-r--r-- 1/2 0 h link to s',
    ],
  );
});

test('a writer is used again without traces of the member before', (t) => {
  const writer = new TarHeaderWriter();
  const bytes = (m: Partial<TarMember>) =>
    Buffer.from(writer.buffer.subarray(0, writer.write({ ...plain, ...m })));
  const first = bytes({});
  bytes({
    path: Buffer.alloc(5000, 'z'),
    link: Buffer.alloc(3000, 'l'),
    type: 'symlink',
    mtimeNs: 1n,
  });
  t.deepEqual(bytes({}), first);
});

test('the header of an extracted archive leaves nothing else behind', (t) => {
  inDirectory((directory) => {
    writeFileSync(join(directory, 'a.tar'), archiveOf([{ path: Buffer.alloc(200, 'q'), size: 3 }]));
    mkdirSync(join(directory, 'out'));
    run('tar', ['-C', join(directory, 'out'), '-xf', join(directory, 'a.tar')]);
    t.deepEqual(readdirSync(join(directory, 'out')), ['q'.repeat(200)]);
  });
});

test('a writer makes of each member what a new one makes of it', (t) => {
  t.log(`seed ${seed}`);
  const lengths = fc.constantFrom(1, 7, 8, 60, 99, 100, 101, 160, 300);
  const members = fc.record({
    path: lengths.map((bytes) => Buffer.from(`${'d/'.repeat(bytes).slice(0, bytes - 1)}n`)),
    mode: fc.constantFrom(0o644, 0o755),
    uid: fc.constantFrom(0, 1000, 0o7777777 + 1),
    size: fc.constantFrom(0, 1, 15_000, 0o77777777777 + 1),
    mtimeNs: fc.constantFrom(
      0n,
      -1n,
      1_700_000_000_000_000_000n,
      1_700_000_000_123_456_789n,
      1_700_000_000_123_400_000n,
      5n,
    ),
    isDirectory: fc.constantFrom(false, false, true),
    link: fc.constantFrom(null, null, null, Buffer.from('elsewhere')),
    sparseBytes: fc.constantFrom(undefined, undefined, undefined, 1 << 30),
  });
  fc.assert(
    fc.property(fc.array(members, { minLength: 2, maxLength: 12 }), (all) => {
      const writer = new TarHeaderWriter();
      for (const { link, sparseBytes, isDirectory, ...facts } of all) {
        const sparse = sparseBytes === undefined ? {} : { sparseBytes };
        const directory = { ...facts, size: 0, type: 'directory' as const };
        const file = isDirectory ? directory : { ...facts, ...sparse };
        const member = link === null ? file : { ...facts, link, size: 0, type: 'symlink' as const };
        const bytes = writer.write({ ...plain, ...member });
        t.deepEqual(Buffer.from(writer.buffer.subarray(0, bytes)), headerOf(member));
      }
    }),
    { seed, numRuns: 500 },
  );
});
