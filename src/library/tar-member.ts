/**
 * Reads back the header blocks of one tar member as `pax.ts` writes them: [`x` records] and ustar.
 *
 * Strict on purpose: it is for checking and for rebuilding our own media, so what we never write
 * (another magic, an unknown type or record) is damage and not something to guess at.
 * Foreign bytes: they come from a disk. Any thread.
 */
import { type EntryType, pathProblem } from '../source/names.js';
import { ACL_ACCESS, ACL_DEFAULT, aclBytes, aclText, type Xattr } from '../source/xattrs.js';
import { paddedBytes, TAR_BLOCK_BYTES, type TarMember } from './pax.js';

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

const GLOBAL_HEADER = 0x67;
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
  'GNU.sparse.major',
  'GNU.sparse.minor',
  'GNU.sparse.name',
  'GNU.sparse.realsize',
  'GNU.dumpdir',
]);
const XATTR_KEY = 'SCHILY.xattr.';
const aclNames: Readonly<Record<string, string>> = {
  'SCHILY.acl.access': ACL_ACCESS,
  'SCHILY.acl.default': ACL_DEFAULT,
};
const isKnown = (key: string): boolean =>
  known.has(key) || key.startsWith(XATTR_KEY) || key in aclNames;
/** The names of a directory with some millions of files; all other records are far shorter. */
const RECORDS_BYTES_MAX = 256 << 20;
/** The longest key: an attribute's name with each byte escaped; and the length before it. */
const KEY_BYTES_MAX = 1024;

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
    const equals = blocks.indexOf(0x3d, at);
    const start =
      equals < 0 ? '' : blocks.toString('latin1', at, Math.min(equals, at + KEY_BYTES_MAX));
    const head = /^([1-9]\d{0,8}) ([\s\S]+)$/.exec(start);
    if (head === null) throw new MemberError('its pax records cannot be read');
    const [text, length, key] = head as unknown as [string, string, string];
    const end = at + Number(length);
    if (equals !== at + text.length || end > bytes || end <= equals || blocks[end - 1] !== 0x0a) {
      throw new MemberError('a pax record has no end');
    }
    if (!isKnown(key)) throw new MemberError(`it has the unknown pax record ${key}`);
    records.set(key, blocks.subarray(equals + 1, end - 1));
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

/** In the order of their names, as a manifest has them. */
function xattrsIn(records: ReadonlyMap<string, Buffer>): Xattr[] {
  const found: Xattr[] = [];
  for (const [key, value] of records) {
    const acl = aclNames[key];
    if (acl !== undefined) {
      const bytes = aclBytes(value.toString('latin1'));
      if (bytes === null) throw new MemberError(`its ${key} is no ACL`);
      found.push({ name: Buffer.from(acl), value: bytes });
    } else if (key.startsWith(XATTR_KEY)) {
      const name = key.slice(XATTR_KEY.length).replace(/%3D/g, '=').replace(/%25/g, '%');
      found.push({ name: Buffer.from(name, 'latin1'), value: Buffer.from(value) });
    }
  }
  return found.sort((a, b) => Buffer.compare(a.name, b.name));
}

/** Of a sparse file: 1.0 is the one version that is written here. Undefined for all others. */
function sparseBytesIn(records: ReadonlyMap<string, Buffer>): number | undefined {
  const realsize = records.get('GNU.sparse.realsize');
  if (realsize === undefined) return undefined;
  const version = `${records.get('GNU.sparse.major')}.${records.get('GNU.sparse.minor')}`;
  if (version !== '1.0' || !records.has('GNU.sparse.name')) {
    throw new MemberError('its sparse format is not 1.0');
  }
  return decimal(realsize, 0);
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
    if (bytes > RECORDS_BYTES_MAX) throw new MemberError('its pax records are too long');
    records = recordsOf(Buffer.from(take(paddedBytes(bytes))), bytes);
    block = take(TAR_BLOCK_BYTES);
    checkBlock(block);
  }
  const type = types.get(String.fromCharCode(block[156] as number));
  if (type === undefined) throw new MemberError('its type is not one that is written here');
  const linked = type === 'symlink' || type === 'hardlink';
  const link = Buffer.from(records.get('linkpath') ?? field(block, 157, 100));
  const isDevice = type === 'char' || type === 'block';
  const sparseBytes = sparseBytesIn(records);
  return {
    ...(sparseBytes !== undefined && { sparseBytes }),
    xattrs: xattrsIn(records),
    dumpdir: records.get('GNU.dumpdir') ?? null,
    path: pathOf(block, records.get('GNU.sparse.name') ?? records.get('path'), type),
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

/**
 * Bytes of one piece of a void that begins with this block: a global header with nothing but a
 * comment, which any tar passes over. Null if it is something else.
 */
export function voidBytes(block: Buffer): number | null {
  try {
    checkBlock(block);
    if (block[156] !== GLOBAL_HEADER) return null;
    return TAR_BLOCK_BYTES + paddedBytes(octal(block, 124, 12, 'size'));
  } catch (e) {
    if (e instanceof MemberError) return null;
    throw e;
  }
}

/** What a header can say of an ACL that is none is nothing. */
const isAcl = (name: Buffer): boolean => Object.values(aclNames).includes(name.toString('latin1'));
const isWritten = ({ name, value }: Xattr): boolean => !isAcl(name) || aclText(value) !== null;

function sameXattrs(found: readonly Xattr[], promised: readonly Xattr[]): boolean {
  if (found.length !== promised.length) return false;
  const values = new Map(found.map((x) => [x.name.toString('latin1'), x.value]));
  return promised.every(({ name, value }) => {
    const other = values.get(name.toString('latin1'));
    if (other === undefined) return false;
    // An ACL goes by its text: that does not say the id where none is.
    return isAcl(name) ? aclText(other) === aclText(value) : other.equals(value);
  });
}

/** The first thing in which the media's member is not what the manifest promises; null if none. */
export function memberDifference(found: TarMember, promised: TarMember): string | null {
  if (!found.path.equals(promised.path)) return 'its name';
  if ((found.link === null) !== (promised.link === null)) return 'its link';
  if (found.link !== null && !found.link.equals(promised.link as Buffer)) return 'its link';
  if (!sameXattrs(found.xattrs ?? [], (promised.xattrs ?? []).filter(isWritten))) {
    return 'its attributes';
  }
  if (found.sparseBytes !== promised.sparseBytes) return 'its size with holes';
  const keys = ['type', 'mode', 'uid', 'gid', 'size', 'mtimeNs', 'major', 'minor'] as const;
  return keys.find((key) => found[key] !== promised[key]) ?? null;
}
