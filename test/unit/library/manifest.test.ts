import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  BLAKE3_EMPTY,
  decodeLine,
  type EntryFacts,
  encodeEntry,
  encodeHeader,
  encodeTrailer,
  encodeVoid,
  encodeWarning,
  LineError,
  ManifestReader,
  MEDIA_MAX,
} from '../../../src/library/manifest.js';
import { inDirectory } from './stand-ins.js';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

const facts: EntryFacts = {
  path: Buffer.from('usr/f'),
  type: 'file',
  mode: 0o644,
  uid: 1,
  gid: 2,
  size: 3,
  mtimeNs: 1_700_000_000_123_456_789n,
  ctimeNs: -1n,
  ino: 2n ** 64n - 1n,
  dev: 66n,
  link: null,
  major: 0,
  minor: 0,
};
const line = encodeEntry(facts, 0, 512, BLAKE3_EMPTY, false);
const without = (text: string) => text.slice(0, -1);
const changedLine = (change: Record<string, unknown>) =>
  JSON.stringify({ ...JSON.parse(line), ...change });

test('an entry comes back as it was', (t) => {
  t.log(`seed ${seed}`);
  const name = fc
    .uint8Array({ minLength: 1, maxLength: 255 })
    .map((bytes) =>
      Buffer.from(bytes.map((b) => (b === 0 || b === 0x2f || b === 0x2e ? 0x61 : b))),
    );
  const big = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n });
  fc.assert(
    fc.property(
      fc.array(name, { minLength: 1, maxLength: 5 }),
      name,
      fc.constantFrom('file', 'directory', 'symlink', 'hardlink', 'fifo', 'char', 'block'),
      fc.record({ mode: fc.nat(0o7777), uid: fc.nat(2 ** 32 - 2), mtimeNs: big, ctimeNs: big }),
      fc.nat(MEDIA_MAX - 1),
      (parts, target, type, numbers, medium) => {
        const path = Buffer.concat(parts.flatMap((p, i) => (i ? [Buffer.from('/'), p] : [p])));
        const isLink = type === 'symlink' || type === 'hardlink';
        const isDevice = type === 'char' || type === 'block';
        const entry: EntryFacts = {
          ...facts,
          ...numbers,
          path,
          type,
          size: type === 'file' ? 3 : 0,
          link: isLink ? target : null,
          major: isDevice ? 259 : 0,
          minor: isDevice ? 1048575 : 0,
        };
        const blake3 = type === 'file' ? BLAKE3_EMPTY : null;
        const again = type === 'directory' && medium % 2 === 1;
        const text = encodeEntry(entry, 512, 2048, blake3, true, { medium, again });
        t.false(without(text).includes('\n'));
        t.deepEqual(decodeLine(without(text)), {
          kind: 'entry',
          ...entry,
          headerOffset: 512,
          dataOffset: 2048,
          blake3,
          changed: true,
          stored: entry.size,
          sparse: false,
          xattrs: null,
          medium,
          again,
          superseded: false,
          sameData: false,
          delta: null,
          blocks: null,
        });
      },
    ),
    { seed, numRuns: 500 },
  );
});

test('a name that is not UTF-8 has a base64 twin', (t) => {
  const path = Buffer.from([0x61, 0xff]);
  const text = encodeEntry({ ...facts, path }, 0, 512, BLAKE3_EMPTY, false);
  t.is(JSON.parse(text).pathB64, 'Yf8=');
  t.is(JSON.parse(text).path, undefined);
});

const refused: [string, Record<string, unknown>, RegExp][] = [
  ['a path with ..', { path: 'a/../../etc/passwd' }, /path has the component \.\./],
  ['an absolute path', { path: '/etc/passwd' }, /path is absolute/],
  ['an empty path', { path: '' }, /path is empty/],
  ['an empty component', { path: 'a//b' }, /empty component/],
  ['a slash at the end', { path: 'a/' }, /empty component/],
  ['a dot component', { path: 'a/./b' }, /component \./],
  ['a NUL', { path: 'a\0b' }, /NUL/],
  ['.. in base64', { path: undefined, pathB64: 'Li4=' }, /component \.\./],
  ['two paths', { pathB64: 'YQ==' }, /both there/],
  ['no path', { path: undefined }, /path is missing/],
  ['a path that is a number', { path: 5 }, /not a name/],
  ['a name of 256 bytes', { path: 'n'.repeat(256) }, /longer than 255/],
  ['a path of 20000 bytes', { path: 'a/'.repeat(10000) }, /longer than/],
  ['. that is a file', { path: '.' }, /not a directory/],
  ['an unknown type', { type: 'socket' }, /type/],
  ['a type from the prototype', { type: 'constructor' }, /type/],
  ['a mode with type bits', { mode: 0o100644 }, /mode/],
  ['a negative size', { size: -1 }, /size/],
  ['a size of a half', { size: 0.5 }, /size/],
  ['a directory with data', { type: 'directory' }, /size/],
  ['a size over 2^53', { size: 2 ** 60 }, /size/],
  ['the uid that means none', { uid: 2 ** 32 - 1 }, /uid/],
  ['a time that is a number', { mtimeNs: 5 }, /mtimeNs/],
  ['a time in hexadecimal', { mtimeNs: '0x5' }, /mtimeNs/],
  ['an offset inside a block', { headerOffset: 5 }, /multiples of 512/],
  ['data before its header', { headerOffset: 1024 }, /behind headerOffset/],
  ['no digest', { blake3: undefined }, /blake3/],
  ['a short digest', { blake3: 'ab' }, /64 hex/],
  ['a link on a file', { link: 'x' }, /has no link/],
  ['a hard link that leads out', { type: 'hardlink', size: 0, link: '../x' }, /link has the comp/],
  ['a symlink to nothing', { type: 'symlink', size: 0, link: '' }, /target/],
  ['a device without numbers', { type: 'char', size: 0 }, /major/],
];
for (const [name, change, message] of refused) {
  test(`refused: ${name}`, (t) => {
    t.throws(() => decodeLine(changedLine(change)), { name: 'LineError', message });
  });
}

test('refused: what is no object', (t) => {
  for (const text of ['', '[]', 'null', '5', '"x"', '{', '{}', '{"warning":"x y","path":"a"}']) {
    t.throws(() => decodeLine(text), { name: 'LineError' }, text);
  }
});

const head = encodeHeader({ setId: 'i', host: 'h', roots: ['/r'], startedAt: 's', stpd: 'v' });
const second = encodeEntry({ ...facts, size: 0 }, 1024, 1536, BLAKE3_EMPTY, false);
const warning = encodeWarning(Buffer.from([0xff]), 'EACCES', 'not read');
/** XXH3-64 of nothing. */
const XXH3_EMPTY = '2d06800538d394c2';
const totals = { entries: 2, bytes: 3, mediaBytes: 2560, mediaXxh3: XXH3_EMPTY, warnings: 1 };
const trailer = encodeTrailer(totals);

function read(text: string | Buffer): { records: number; trailer: unknown } {
  return inDirectory((directory) => {
    const path = join(directory, 'm');
    writeFileSync(path, text);
    const reader = new ManifestReader(path);
    return { records: [...reader].length, trailer: reader.trailer };
  });
}

test('a whole manifest is read', (t) => {
  const { records, trailer: end } = read(head + line + second + warning + trailer);
  t.is(records, 3);
  t.deepEqual(end, { kind: 'trailer', ...totals });
});

test('lines longer than the reader takes at a time', (t) => {
  const roots = Array.from({ length: 300 }, (_, i) => `/${i}`.padEnd(600, 'x'));
  const long = encodeHeader({ setId: 'i', host: 'h', roots, startedAt: 's', stpd: 'v' });
  t.is(read(long + line + second + warning + trailer).records, 3);
});

const damaged: [string, string, RegExp][] = [
  ['an empty file', '', /line 1: the file is empty/],
  ['another format', '{"format":"x"}\n', /line 1: format/],
  ['a later version', head.replace('"version":1', '"version":2'), /line 1: version 2 is not 1/],
  ['no trailer', head + line + second, /line 4: the trailer is missing/],
  ['half a line', head + line.slice(0, 40), /line 2: it has no end/],
  [
    'a hole between entries',
    head + line + second.replace('1024', '1536').replace('1536,"b', '2048,"b'),
    /line 3: .* is not at 1024, where the entry before ended/,
  ],
  ['a missing entry', head + line + warning + trailer, /line 4: entries is 2, but there are 1/],
  [
    'wrong bytes',
    head + line + second + warning + encodeTrailer({ ...totals, bytes: 4 }),
    /bytes is 4/,
  ],
  [
    'a line after the trailer',
    head + line + second + warning + trailer + warning,
    /line 6: it comes after/,
  ],
  ['an endless line', head + 'x'.repeat(600_000), /line 2: it is longer than/],
];
for (const [name, text, message] of damaged) {
  test(`a manifest with ${name} is refused by file, line and rule`, (t) => {
    t.throws(() => read(text), { code: 'EINVAL', message });
  });
}

test('entries and voids tile each medium by itself', (t) => {
  const second = encodeEntry(facts, 0, 512, BLAKE3_EMPTY, false, { medium: 1 });
  const hole = encodeVoid({ bytes: 1024, medium: 1, headerOffset: 1024 });
  const moreMedia = [{ bytes: 3072, xxh3: XXH3_EMPTY }];
  const end = { entries: 2, bytes: 6, mediaBytes: 2048, mediaXxh3: XXH3_EMPTY, warnings: 0 };
  const read = (text: string) =>
    inDirectory((d) => {
      writeFileSync(join(d, 'm'), text);
      return [...new ManifestReader(join(d, 'm'))].map((item) => item.kind);
    });
  const start = head + line + second + hole;
  t.deepEqual(read(start + encodeTrailer({ ...end, moreMedia })), ['entry', 'entry', 'void']);
  t.throws(() => read(start + encodeTrailer(end)), { message: /medium 1 is not there/ });
  const longer = [{ bytes: 4096, xxh3: XXH3_EMPTY }];
  t.throws(() => read(start + encodeTrailer({ ...end, moreMedia: longer })), {
    message: /the length of medium 1 is 4096, but the entries end at 3072/,
  });
  const early = encodeVoid({ bytes: 512, medium: 1, headerOffset: 512 });
  t.throws(() => read(head + line + second + early), {
    message: /line 4: a void is not at 1024 of medium 1/,
  });
  for (const change of [{ medium: MEDIA_MAX }, { again: true }, { medium: -1 }]) {
    t.throws(() => decodeLine(changedLine(change)), { instanceOf: LineError });
  }
});
