/** A tree with every kind of entry and every kind of name that went wrong somewhere. */
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { randomFrom, run, testNative } from './stand-ins.js';

export const isRoot = process.geteuid?.() === 0;

const bytes = (...parts: (string | Buffer)[]): Buffer =>
  Buffer.concat(parts.map((p) => (typeof p === 'string' ? Buffer.from(p) : p)));

/** Makes the tree in `root`, an absolute path; everything in it follows from `seed`. */
export function makeHardTree(root: string, seed: number): void {
  const random = randomFrom(seed);
  const at = (...parts: (string | Buffer)[]) => bytes(root, '/', ...parts);
  const data = (size: number) =>
    Buffer.from(Uint8Array.from({ length: size }, () => random() * 256));
  const time = (path: Buffer, ns: bigint) => testNative.setTimesNs(path, ns, false);
  mkdirSync(root, { recursive: true });

  mkdirSync(at('sizes'));
  for (const size of [0, 1, 511, 512, 513, 1023, 1024, 1025, 65535, 65536, 65537, 300001]) {
    writeFileSync(at(`sizes/${size}`), data(size));
  }
  mkdirSync(at('many'));
  for (let i = 0; i < 120; i++) writeFileSync(at(`many/f${i}`), data(Math.floor(random() * 6000)));

  mkdirSync(at('names'));
  const names = [
    'new\nline',
    'back\\slash',
    '-rf',
    ' space ',
    'tab\t',
    'dot.',
    '...',
    'a"quote\'',
    'ünïcödé-漢字-🗄',
    'é-combining',
    '*?[glob]',
    '\x01\x1b[31mcontrol',
    'n'.repeat(99),
    'n'.repeat(100),
    'n'.repeat(101),
    'N'.repeat(255),
    Buffer.from('latin1-\xe4\xf6\xfc', 'latin1'),
    Buffer.from([0x80, 0xff, 0xfe, 0xc0, 0xaf]),
    bytes('x'.repeat(200), Buffer.from([0xff])),
  ];
  for (const name of names) writeFileSync(at('names/', name), data(10));
  for (const name of names)
    symlinkSync(bytes('../names/', name), at('names/link-', bytes(name).subarray(0, 200)));

  // Long paths: over the prefix field, over its cut, near PATH_MAX.
  let deep: Buffer = Buffer.from('deep');
  mkdirSync(at(deep));
  for (const step of [50, 100, 154, 155, 156, 200, 255, 255, 255, 255, 255, 255, 255, 255, 255]) {
    deep = bytes(deep, '/', String.fromCharCode(97 + (step % 26)).repeat(step));
    mkdirSync(at(deep));
    writeFileSync(at(deep, '/f'), 'x');
    writeFileSync(at(deep, '/', Buffer.from([0xe4])), 'y');
  }
  symlinkSync('t'.repeat(99), at('to-99'));
  symlinkSync('t'.repeat(100), at('to-100'));
  symlinkSync('t'.repeat(101), at('to-101'));
  symlinkSync('t'.repeat(4095), at('to-4095'));
  symlinkSync(bytes('y'.repeat(150), Buffer.from([0xfe])), at('to-bytes'));
  symlinkSync('/nowhere/at/all', at('dangling'));

  mkdirSync(at('links'));
  writeFileSync(at('links/z-first'), data(2000));
  linkSync(at('links/z-first'), at('links/second'));
  linkSync(at('links/z-first'), at('a-third'));
  symlinkSync('somewhere', at('links/s1'));
  linkSync(at('links/s1'), at('links/s2'));
  linkSync(at(deep, '/f'), at('links/of-deep'));
  linkSync(at(deep, '/f'), at(deep, '/g'));

  mkdirSync(at('modes'));
  for (const mode of [0o000, 0o400, 0o644, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o7777]) {
    const path = at(`modes/${mode.toString(8)}`);
    writeFileSync(path, 'm');
    if (isRoot) lchownSync(path, 1234, 4321);
    if (isRoot || mode > 0o377) chmodSync(path, mode);
  }
  run('mkfifo', [`${root}/fifo`]);
  if (isRoot) {
    run('mknod', [`${root}/null`, 'c', '1', '3']);
    run('mknod', [`${root}/high`, 'b', '259', '70000']);
    writeFileSync(at('big-owner'), 'o');
    lchownSync(at('big-owner'), 3_000_000, 4_000_000_000);
    lchownSync(at('dangling'), 55, 66);
  }
  const sparse = openSync(at('sparse'), 'w');
  ftruncateSync(sparse, 1_000_000);
  closeSync(sparse);

  const times = [0n, 1n, 999_999_999n, 1_700_000_000_123_456_789n, 4_102_444_800_000_000_001n];
  for (const [i, ns] of [...times, -1n, -1_500_000_000n, -1_000_000_000n].entries()) {
    writeFileSync(at(`time-${i}`), 't');
    time(at(`time-${i}`), ns);
  }
  time(at('dangling'), 1_600_000_000_000_000_007n);
  mkdirSync(at('empty'));
  mkdirSync(at('closed'));
  writeFileSync(at('closed/inside'), 'i');
  chmodSync(at('closed'), isRoot ? 0o2500 : 0o500);
  time(at('closed'), 1_111_111_111_222_222_222n);
  time(at('names'), 5n);
}

/** What rsync would change to make `copy` like `original`: empty if they are equal. */
export const difference = (original: string, copy: string): string =>
  run('rsync', [
    '-aHAX',
    '--checksum',
    '--modify-window=-1',
    '--dry-run',
    '--itemize-changes',
    '--delete',
    `${original}/`,
    `${copy}/`,
  ]).toString('latin1');
