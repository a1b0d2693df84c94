/**
 * Reads back the header blocks of one tar member as `pax.ts` writes them: [`x` records] and ustar.
 *
 * Strict on purpose: it is for checking and for rebuilding our own media, so what we never write
 * (another magic, an unknown type or record) is damage and not something to guess at.
 * Foreign bytes: they come from a disk. Any thread.
 */
import { type EntryType, pathProblem } from '../source/names.js';
import { paddedBytes, TAR_BLOCK_BYTES, TAR_HEADER_BYTES_MAX, type TarMember } from './pax.js';

/** Why these blocks are no member. */
export class MemberError extends Error {
  override readonly name = 'MemberError';
}

const types: ReadonlyMap<string, EntryType> = new Map([
  ['0', 'file'],
  ['1', 'hardlink'],
  ['2', 'symlink'],
  ['3', 'char'],
  ['4', 'block'],
  ['5', 'directory'],
  ['6', 'fifo'],
]);

const CHECKSUM = 148;
const CHECKSUM_BYTES = 8;
const known: ReadonlySet<string> = new Set([
  'hdrcharset',
  'path',
  'linkpath',
  'uid',
  'gid',
  'size',
  'mtime',
]);

function octal(block: Buffer, at: number, bytes: number, name: string): number {
  const text = block.toString('latin1', at, at + bytes).replace(/[\0 ]+$/, '');
  if (!/^[0-7]+$/.test(text)) throw new MemberError(`${name} of its header is not octal`);
  return Number.parseInt(text, 8);
}

/** Up to the NUL; behind it all must be zero, so that no byte goes unread. */
function field(block: Buffer, at: number, bytes: number): Buffer {
  const whole = block.subarray(at, at + bytes);
  const nul = whole.indexOf(0);
  return nul < 0 ? whole : whole.subarray(0, nul);
}

function checkBlock(block: Buffer): void {
  let sum = CHECKSUM_BYTES * 0x20;
  for (let i = 0; i < TAR_BLOCK_BYTES; i++) {
    if (i < CHECKSUM || i >= CHECKSUM + CHECKSUM_BYTES) sum += block[i] as number;
  }
  if (octal(block, CHECKSUM, CHECKSUM_BYTES, 'the checksum') !== sum) {
    throw new MemberError('its header does not have its checksum');
  }
  if (block.toString('latin1', 257, 265) !== 'ustar\x0000') {
    throw new MemberError('its header is not ustar');
  }
}

function decimal(value: Buffer | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  const number = Number(value.toString('latin1'));
  if (!Number.isSafeInteger(number) || number < 0) throw new MemberError('a record is no number');
  return number;
}

function timeOf(value: Buffer | undefined, seconds: number): bigint {
  if (value === undefined) return BigInt(seconds) * 1_000_000_000n;
  const parts = /^(-?)(\d{1,12})(?:\.(\d{1,9}))?$/.exec(value.toString('latin1'));
  if (parts === null) throw new MemberError('its mtime record is no time');
  const [, sign, whole, fraction = ''] = parts;
  const ns = BigInt(whole as string) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
  return sign === '-' ? -ns : ns;
}

function recordsOf(blocks: Buffer, bytes: number): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < bytes; ) {
    const head = /^([1-9]\d{0,6}) ([A-Za-z.]+)=/.exec(blocks.toString('latin1', at, at + 64));
    if (head === null) throw new MemberError('its pax records cannot be read');
    const [text, length, key] = head as unknown as [string, string, string];
    const end = at + Number(length);
    if (end > bytes || blocks[end - 1] !== 0x0a) throw new MemberError('a pax record has no end');
    if (!known.has(key)) throw new MemberError(`it has the unknown pax record ${key}`);
    records.set(key, blocks.subarray(at + text.length, end - 1));
    at = end;
  }
  if (blocks.subarray(bytes).some((byte) => byte !== 0)) {
    throw new MemberError('the padding of its records is not zero');
  }
  return records;
}

const withoutSlash = (path: Buffer): Buffer =>
  path.length > 1 && path[path.length - 1] === 0x2f ? path.subarray(0, -1) : path;

function pathOf(block: Buffer, record: Buffer | undefined, type: EntryType): Buffer {
  const name = field(block, 0, 100);
  const prefix = field(block, 345, 155);
  const parts = prefix.length > 0 ? Buffer.concat([prefix, Buffer.from('/'), name]) : name;
  const given = record ?? parts;
  const path = Buffer.from(type === 'directory' ? withoutSlash(given) : given);
  const problem = pathProblem(path);
  if (problem !== null) throw new MemberError(`its name ${problem}`);
  return path;
}

/**
 * @param take the next bytes of the media, a multiple of 512; good until the next call
 * @returns null at the block of zeros that ends the media
 * @throws MemberError; what `take` throws
 */
export function readMember(take: (bytes: number) => Buffer): TarMember | null {
  let block = take(TAR_BLOCK_BYTES);
  if (block[0] === 0 && block.every((byte) => byte === 0)) return null;
  checkBlock(block);
  let records = new Map<string, Buffer>();
  if (block[156] === 0x78) {
    const bytes = octal(block, 124, 12, 'size');
    if (bytes > TAR_HEADER_BYTES_MAX) throw new MemberError('its pax records are too long');
    records = recordsOf(Buffer.from(take(paddedBytes(bytes))), bytes);
    block = take(TAR_BLOCK_BYTES);
    checkBlock(block);
  }
  const type = types.get(String.fromCharCode(block[156] as number));
  if (type === undefined) throw new MemberError('its type is not one that is written here');
  const linked = type === 'symlink' || type === 'hardlink';
  const link = Buffer.from(records.get('linkpath') ?? field(block, 157, 100));
  const isDevice = type === 'char' || type === 'block';
  return {
    path: pathOf(block, records.get('path'), type),
    type,
    mode: octal(block, 100, 8, 'mode'),
    uid: decimal(records.get('uid'), octal(block, 108, 8, 'uid')),
    gid: decimal(records.get('gid'), octal(block, 116, 8, 'gid')),
    size: type === 'file' ? decimal(records.get('size'), octal(block, 124, 12, 'size')) : 0,
    mtimeNs: timeOf(records.get('mtime'), octal(block, 136, 12, 'mtime')),
    link: linked ? link : null,
    major: isDevice ? octal(block, 329, 8, 'major') : 0,
    minor: isDevice ? octal(block, 337, 8, 'minor') : 0,
  };
}

/** The first thing in which the media's member is not what the manifest promises; null if none. */
export function memberDifference(found: TarMember, promised: TarMember): string | null {
  if (!found.path.equals(promised.path)) return 'its name';
  if ((found.link === null) !== (promised.link === null)) return 'its link';
  if (found.link !== null && !found.link.equals(promised.link as Buffer)) return 'its link';
  const keys = ['type', 'mode', 'uid', 'gid', 'size', 'mtimeNs', 'major', 'minor'] as const;
  return keys.find((key) => found[key] !== promised[key]) ?? null;
}
