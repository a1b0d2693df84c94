/**
 * The manifest: what a set holds, one JSON object a line, readable without this program.
 *
 *   line 1      header   {"format":"stpd-manifest","version":1,"setId",...}
 *   then        scan     {"scanNs"}: the client's clock; at most once, before the entries
 *               entries  {"path" | "pathB64","type",...}, in the order of the media
 *               tombstones {"deleted":true,"path" | "pathB64"}: incremental sets only
 *               voids     {"void":BYTES,"medium","headerOffset"}: what tar passes over; resumed sets
 *               warnings {"warning":CODE,"path" | "pathB64","message"}, where they happened
 *   last line   trailer  {"entries","bytes","mediaBytes","mediaXxh3","moreMedia","warnings",
 *                        "volumes"}
 *
 * The fields are described in docs/library.md. Valid if and only if every line passes the rules
 * below, the counts of the trailer are right, and entries and voids tile each medium: its first header
 * is at 0, each next one where the data before it (rounded up to 512) ended.
 *
 * A manifest may have millions of lines: nothing here holds more than a few at a time. 64-bit
 * numbers are decimal strings. A manifest is foreign bytes: it comes from a client, or from a disk.
 * Any thread.
 */
import { isUtf8 } from 'node:buffer';
import { stpError } from '../errors.js';
import { displayPath, type EntryType, pathProblem } from '../source/names.js';
import { SPARSE_MAP_BYTES_MAX } from '../source/sparse.js';
import { XATTR_NAME_BYTES_MAX, XATTRS_MAX, type Xattr } from '../source/xattrs.js';
import { BLOCKS_MAX, type BlockList, blocksOf as blocksIn, isBlockSize } from './blocks.js';
import { type ByteFile, PlainFile } from './bytes.js';
import { LARGE_DATA_BYTES, LINE_BYTES_MAX } from './frames.js';
import { decodeCoding, decodeVolumes, type MediaCoding, type VolumeFacts } from './media-plan.js';
import { nanosecondsText } from './nanoseconds.js';
import { paddedBytes, TAR_BLOCK_BYTES, type TarMember } from './pax.js';
import { XXH3_TEXT } from './xxh3.js';

export const MANIFEST_FORMAT = 'stpd-manifest';
export const MANIFEST_VERSION = 1;

/** A symlink's target: PATH_MAX of the kernel less its NUL. */
const TARGET_BYTES_MAX = 4095;
/** BLAKE3 of no bytes. */
export const BLAKE3_EMPTY = 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262';

export interface ManifestHeader {
  readonly setId: string;
  readonly host: string;
  /** For display: absolute, escaped where they are not UTF-8. */
  readonly roots: readonly string[];
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  /** Version of the program that wrote it. */
  readonly stpd: string;
  /** Incremental sets: what it builds on, and all that this builds on, the full set first. */
  readonly chain?: readonly ChainLink[];
  /** Where media are not one plain file each. */
  readonly coding?: MediaCoding;
}

/**
 * Media of one set: one for each stream of its backup, and of each run that it was resumed from.
 * Restores hold all of them open.
 */
export const MEDIA_MAX = 64;

/** A set that a later one needs, and how to know that it is still the same. */
export interface ChainLink {
  readonly id: string;
  readonly manifestBlake3: string;
}

export interface ManifestEntry {
  readonly kind: 'entry';
  readonly path: Buffer;
  readonly type: EntryType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly ino: bigint;
  readonly dev: bigint;
  /** Symlink: its target. Hard link: the stored path of an earlier entry. Else null. */
  readonly link: Buffer | null;
  readonly major: number;
  readonly minor: number;
  /** Of the member's first header block in the media. */
  readonly headerOffset: number;
  readonly dataOffset: number;
  /** Files: of the `stored` bytes; lower-case hex; else null. */
  readonly blake3: string | null;
  /** The file changed while it was read. */
  readonly changed: boolean;
  /**
   * Bytes of its data in the media: `size`, but for a sparse file its map and what is no hole. With
   * `sameData` they are in the media of an earlier set, with `delta` those that did not change are.
   */
  readonly stored: number;
  readonly sparse: boolean;
  readonly xattrs: readonly Xattr[] | null;
  /** It changed while it was read and was read again: the next entry of this path counts. */
  readonly superseded: boolean;
  /** Incremental sets: only the metadata changed; the data is that of the parent's entry. */
  readonly sameData: boolean;
  /** Number of the medium that has header and data; the offsets are in it. */
  readonly medium: number;
  /**
   * A directory whose member stands in the media once more, for tar, which sets its times anew
   * behind what it puts there from other media. Another entry of this path counts.
   */
  readonly again: boolean;
  /** Incremental sets: only blocks that changed are here, the others are the parent's. */
  readonly delta: DeltaFacts | null;
  /** Of a large file: the hashes of its blocks, for the next backup. */
  readonly blocks: BlockList | null;
}

/**
 * What stands in the media for a file of which only blocks are stored: members one behind the other,
 * see delta-read.ts.
 */
export interface DeltaFacts {
  /** From `dataOffset` on, padding and the headers of all members but the first included. */
  readonly bytes: number;
  /** Of the data of the first member. */
  readonly mapBytes: number;
  /** Of these bytes; the entry's own is that of the whole file. */
  readonly blake3: string;
}

/** Part of a medium that holds nothing: tar reads it as a comment. */
export interface ManifestVoid {
  readonly kind: 'void';
  readonly medium: number;
  readonly headerOffset: number;
  readonly bytes: number;
}

/** Incremental sets: what the parent has and the tree has not any more. */
export interface ManifestTombstone {
  readonly kind: 'deleted';
  readonly path: Buffer;
}

/** The client's clock when the scan began; once, before all entries. */
export interface ManifestScan {
  readonly kind: 'scan';
  readonly scanNs: bigint;
}

export interface ManifestWarning {
  readonly kind: 'warning';
  readonly path: Buffer;
  readonly code: string;
  readonly message: string;
}

export interface ManifestTrailer {
  readonly kind: 'trailer';
  /** Without those that come again. */
  readonly entries: number;
  /** Of file data. */
  readonly bytes: number;
  /** Of medium 0. */
  readonly mediaBytes: number;
  readonly mediaXxh3: string;
  /** Of the media from 1 on; left out where there are none. */
  readonly moreMedia?: readonly FurtherMedium[];
  readonly warnings: number;
  /** Where there is a coding: every file of the media. */
  readonly volumes?: readonly VolumeFacts[];
}

/** As `mediaBytes` and `mediaXxh3` of medium 0. */
export interface FurtherMedium {
  readonly bytes: number;
  readonly xxh3: string;
  /** Until the set is complete; then all volumes stand together. */
  readonly volumes?: readonly VolumeFacts[];
}

/** What an entry takes over from its source. */
export type EntryFacts = Omit<
  ManifestEntry,
  | 'kind'
  | 'headerOffset'
  | 'dataOffset'
  | 'blake3'
  | 'changed'
  | 'stored'
  | 'sparse'
  | 'xattrs'
  | 'superseded'
  | 'sameData'
  | 'medium'
  | 'again'
  | 'delta'
  | 'blocks'
>;

/** What only few entries have. */
export interface RareFacts {
  readonly stored?: number;
  readonly sparse?: boolean;
  readonly xattrs?: readonly Xattr[] | null;
  readonly superseded?: boolean;
  readonly sameData?: boolean;
  readonly medium?: number;
  readonly again?: boolean;
  readonly delta?: DeltaFacts | null;
  readonly blocks?: BlockList | null;
}

/** What JSON has as it is. */
const PLAIN_TEXT = /^[ !#-[\]-~]+$/;

function field(name: string, bytes: Buffer): string {
  const text = bytes.toString('latin1');
  if (PLAIN_TEXT.test(text)) return `"${name}":"${text}"`;
  return isUtf8(bytes)
    ? `"${name}":${JSON.stringify(bytes.toString())}`
    : `"${name}B64":"${bytes.toString('base64')}"`;
}

let lastDevice = -1n;
let lastDeviceText = '-1';

/** That of the entry before, mostly. */
function deviceText(dev: bigint): string {
  if (dev !== lastDevice) {
    lastDevice = dev;
    lastDeviceText = String(dev);
  }
  return lastDeviceText;
}

/** As a number, where it is one without loss: BigInt prints slowly. */
const inodeText = (ino: bigint): string => String(ino <= SAFE_MAX ? Number(ino) : ino);
const SAFE_MAX = BigInt(Number.MAX_SAFE_INTEGER);

/** An entry's line, newline included. */
export function encodeEntry(
  e: EntryFacts,
  headerOffset: number,
  dataOffset: number,
  blake3: string | null,
  changed: boolean,
  rare: RareFacts | null = null,
): string {
  const link = e.link === null ? '' : `,${field('link', e.link)}`;
  const device =
    e.type === 'char' || e.type === 'block' ? `,"major":${e.major},"minor":${e.minor}` : '';
  const digest = blake3 === null ? '' : `,"blake3":"${blake3}"`;
  return (
    `{${field('path', e.path)},"type":"${e.type}","mode":${e.mode},"uid":${e.uid},"gid":${e.gid}` +
    `,"size":${e.size},"mtimeNs":"${nanosecondsText(e.mtimeNs)}"` +
    `,"ctimeNs":"${nanosecondsText(e.ctimeNs)}","ino":"${inodeText(e.ino)}"` +
    `,"dev":"${deviceText(e.dev)}"${link}${device},"headerOffset":${headerOffset},"dataOffset":${dataOffset}` +
    `${digest}${changed ? ',"changed":true' : ''}${rare === null ? '' : encodeRare(rare)}}\n`
  );
}

function encodeRare(rare: RareFacts): string {
  let text = '';
  if (rare.sparse) text += `,"sparse":true,"stored":${rare.stored}`;
  if (rare.superseded) text += ',"superseded":true';
  if (rare.sameData) text += ',"sameData":true';
  if (rare.medium) text += `,"medium":${rare.medium}`;
  if (rare.again) text += ',"again":true';
  if (rare.delta) {
    const { bytes, mapBytes, blake3 } = rare.delta;
    text += `,"delta":{"bytes":${bytes},"mapBytes":${mapBytes},"blake3":"${blake3}"}`;
  }
  if (rare.blocks) {
    const { blockBytes, offset, blake3 } = rare.blocks;
    text += `,"blocks":{"blockBytes":${blockBytes},"offset":${offset},"blake3":"${blake3}"}`;
  }
  if (rare.xattrs) {
    const list = rare.xattrs.map(
      ({ name, value }) => `{${field('name', name)},"value":"${value.toString('base64')}"}`,
    );
    text += `,"xattrs":[${list.join(',')}]`;
  }
  return text;
}

/** An entry's line once more. */
export function encodeKept(entry: ManifestEntry): string {
  const { headerOffset, dataOffset, blake3, changed } = entry;
  return encodeEntry(entry, headerOffset, dataOffset, blake3, changed, entry);
}

/** Of a member that does not count any more: one of the same kind comes later. */
export const encodeDead = (entry: ManifestEntry): string =>
  encodeKept({ ...entry, superseded: entry.type === 'file', again: entry.type === 'directory' });

export const encodeTombstone = (path: Buffer): string =>
  `{"deleted":true,${field('path', path)}}\n`;

export const encodeScan = (scanNs: bigint): string => `{"scanNs":"${scanNs}"}\n`;

export const encodeWarning = (path: Buffer, code: string, message: string): string =>
  `{"warning":${JSON.stringify(code)},${field('path', path)},"message":${JSON.stringify(message)}}\n`;

export const encodeVoid = ({ bytes, medium, headerOffset }: Omit<ManifestVoid, 'kind'>): string =>
  `{"void":${bytes},"medium":${medium},"headerOffset":${headerOffset}}\n`;

export const encodeHeader = (h: ManifestHeader): string =>
  `${JSON.stringify({ format: MANIFEST_FORMAT, version: MANIFEST_VERSION, ...h })}\n`;

export function encodeTrailer(t: Omit<ManifestTrailer, 'kind'>): string {
  const { entries, bytes, mediaBytes, mediaXxh3, moreMedia, warnings, volumes } = t;
  const media = { mediaBytes, mediaXxh3, moreMedia };
  return `${JSON.stringify({ entries, bytes, ...media, warnings, volumes })}\n`;
}

/** Why a line is not valid. `LineReader` and `SetWriter` add the file and the line number. */
export class LineError extends Error {
  override readonly name = 'LineError';
}

type Fields = Readonly<Record<string, unknown>>;

const integer = (o: Fields, name: string, max: number): number => {
  const value = o[name];
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max) {
    throw new LineError(`${name} is not a whole number from 0 to ${max}`);
  }
  return value;
};

const DECIMAL = /^-?\d{1,20}$/;
const bigInteger = (o: Fields, name: string): bigint => {
  const value = o[name];
  if (typeof value !== 'string' || !DECIMAL.test(value)) {
    throw new LineError(`${name} is not a decimal number in a string`);
  }
  return BigInt(value);
};

const text = (o: Fields, name: string): string => {
  const value = o[name];
  if (typeof value !== 'string') throw new LineError(`${name} is not a string`);
  return value;
};

const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
/** Bytes of a field or of its base64 twin; null if neither is there. */
function bytesOf(o: Fields, name: string): Buffer | null {
  const plain = o[name];
  const encoded = o[`${name}B64`];
  if (plain !== undefined && encoded !== undefined) {
    throw new LineError(`${name} and ${name}B64 are both there`);
  }
  if (typeof plain === 'string') return Buffer.from(plain);
  if (typeof encoded === 'string' && BASE64.test(encoded)) return Buffer.from(encoded, 'base64');
  if (plain === undefined && encoded === undefined) return null;
  throw new LineError(`${name} is not a name`);
}

function pathOf(o: Fields, name: string): Buffer {
  const path = bytesOf(o, name);
  if (path === null) throw new LineError(`${name} is missing`);
  const problem = pathProblem(path);
  if (problem !== null) throw new LineError(`${name} ${problem}`);
  return path;
}

function linkOf(o: Fields, type: EntryType): Buffer | null {
  if (type === 'hardlink') return pathOf(o, 'link');
  const link = bytesOf(o, 'link');
  if (type !== 'symlink') {
    if (link !== null) throw new LineError(`a ${type} has no link`);
    return null;
  }
  if (link === null || link.length === 0 || link.length > TARGET_BYTES_MAX || link.includes(0)) {
    throw new LineError(`link is not the target of a symlink (1 to ${TARGET_BYTES_MAX} bytes)`);
  }
  return link;
}

const types: ReadonlySet<unknown> = new Set<EntryType>([
  'file',
  'directory',
  'symlink',
  'hardlink',
  'fifo',
  'char',
  'block',
]);
const HEX = /^[0-9a-f]{64}$/;
/** uid_t and gid_t; the highest stands for "none". */
const ID_MAX = 2 ** 32 - 2;
const MODE_MAX = 0o7777;
const DOT = 0x2e;

const flag = (o: Fields, name: string): boolean => {
  const value = o[name];
  if (value !== undefined && typeof value !== 'boolean') throw new LineError(`${name} is no flag`);
  return value === true;
};

function xattrsOf(o: Fields): Xattr[] | null {
  const { xattrs } = o;
  if (xattrs === undefined) return null;
  if (!Array.isArray(xattrs) || xattrs.length > XATTRS_MAX) {
    throw new LineError(`xattrs is not a list of at most ${XATTRS_MAX}`);
  }
  return xattrs.map((item: unknown) => {
    const fields = (typeof item === 'object' && item !== null ? item : {}) as Fields;
    const name = bytesOf(fields, 'name');
    const encoded = text(fields, 'value');
    if (name === null || name.length === 0 || name.length > XATTR_NAME_BYTES_MAX) {
      throw new LineError('the name of an xattr has no byte, or too many');
    }
    if (name.includes(0)) throw new LineError('the name of an xattr contains a NUL byte');
    if (encoded !== '' && !BASE64.test(encoded)) throw new LineError('an xattr is not base64');
    return { name, value: Buffer.from(encoded, 'base64') };
  });
}

const digest = (o: Fields, name: string): string => {
  const value = text(o, name);
  if (!HEX.test(value)) throw new LineError(`${name} is not 64 hex digits`);
  return value;
};

const objectIn = (o: Fields, name: string): Fields | null => {
  const value = o[name];
  if (value === undefined) return null;
  if (typeof value === 'object' && value !== null) return value as Fields;
  throw new LineError(`${name} is no object`);
};

function deltaOf(o: Fields): DeltaFacts | null {
  const delta = objectIn(o, 'delta');
  if (delta === null) return null;
  const bytes = integer(delta, 'bytes', Number.MAX_SAFE_INTEGER);
  const mapBytes = integer(delta, 'mapBytes', SPARSE_MAP_BYTES_MAX);
  if (mapBytes === 0 || paddedBytes(mapBytes) > bytes || bytes % TAR_BLOCK_BYTES !== 0) {
    throw new LineError('the bytes of delta are not those of its members');
  }
  return { bytes, mapBytes, blake3: digest(delta, 'blake3') };
}

function blocksOf(o: Fields): BlockList | null {
  const blocks = objectIn(o, 'blocks');
  if (blocks === null) return null;
  const blockBytes = integer(blocks, 'blockBytes', Number.MAX_SAFE_INTEGER);
  if (!isBlockSize(blockBytes)) throw new LineError('blockBytes is not the size of a block');
  const offset = integer(blocks, 'offset', Number.MAX_SAFE_INTEGER);
  return { blockBytes, offset, blake3: digest(blocks, 'blake3') };
}

/** `stored` and the flags; the same for all but a few entries. */
function rareOf(o: Fields, type: EntryType, size: number): Required<RareFacts> {
  const isFile = type === 'file';
  const sparse = flag(o, 'sparse');
  const superseded = flag(o, 'superseded');
  const sameData = flag(o, 'sameData');
  const delta = deltaOf(o);
  const blocks = blocksOf(o);
  if (!isFile && (sparse || superseded || sameData || delta !== null || blocks !== null)) {
    throw new LineError(`a ${type} is not sparse, superseded, without data or made of blocks`);
  }
  if (sameData && (delta !== null || blocks !== null)) {
    throw new LineError('sameData and delta or blocks are both there');
  }
  if (blocks !== null && blocksIn(size, blocks.blockBytes) > BLOCKS_MAX) {
    throw new LineError(`blocks are more than ${BLOCKS_MAX}`);
  }
  if (superseded && sameData) throw new LineError('superseded and sameData are both there');
  const again = flag(o, 'again');
  if (again && type !== 'directory') throw new LineError(`a ${type} does not come again`);
  const stored = sparse ? integer(o, 'stored', Number.MAX_SAFE_INTEGER) : size;
  const [medium, xattrs] = [mediumOf(o), xattrsOf(o)];
  return { stored, sparse, superseded, sameData, again, medium, xattrs, delta, blocks };
}

const mediumOf = (o: Fields): number =>
  o.medium === undefined ? 0 : integer(o, 'medium', MEDIA_MAX - 1);

function voidOf(o: Fields): ManifestVoid {
  const bytes = integer(o, 'void', Number.MAX_SAFE_INTEGER);
  const headerOffset = integer(o, 'headerOffset', Number.MAX_SAFE_INTEGER);
  if (bytes === 0 || bytes % TAR_BLOCK_BYTES !== 0 || headerOffset % TAR_BLOCK_BYTES !== 0) {
    throw new LineError('void is not made of whole blocks');
  }
  return { kind: 'void', medium: mediumOf(o), headerOffset, bytes };
}

function entryOf(o: Fields): ManifestEntry {
  const type = o.type as EntryType;
  if (!types.has(type)) throw new LineError('type is not one of the known ones');
  const isFile = type === 'file';
  const isDevice = type === 'char' || type === 'block';
  const entry: ManifestEntry = {
    kind: 'entry',
    path: pathOf(o, 'path'),
    type,
    mode: integer(o, 'mode', MODE_MAX),
    uid: integer(o, 'uid', ID_MAX),
    gid: integer(o, 'gid', ID_MAX),
    size: integer(o, 'size', isFile ? Number.MAX_SAFE_INTEGER : 0),
    mtimeNs: bigInteger(o, 'mtimeNs'),
    ctimeNs: bigInteger(o, 'ctimeNs'),
    ino: bigInteger(o, 'ino'),
    dev: bigInteger(o, 'dev'),
    link: linkOf(o, type),
    major: isDevice ? integer(o, 'major', 2 ** 32 - 1) : 0,
    minor: isDevice ? integer(o, 'minor', 2 ** 32 - 1) : 0,
    headerOffset: integer(o, 'headerOffset', Number.MAX_SAFE_INTEGER),
    dataOffset: integer(o, 'dataOffset', Number.MAX_SAFE_INTEGER),
    blake3: isFile ? text(o, 'blake3') : null,
    changed: o.changed === true,
    ...rareOf(o, type, isFile ? (o.size as number) : 0),
  };
  const { headerOffset, dataOffset, blake3 } = entry;
  if (headerOffset % TAR_BLOCK_BYTES !== 0 || dataOffset % TAR_BLOCK_BYTES !== 0) {
    throw new LineError('headerOffset and dataOffset are not both multiples of 512');
  }
  if (dataOffset <= headerOffset) throw new LineError('dataOffset is not behind headerOffset');
  if (blake3 !== null && !HEX.test(blake3)) throw new LineError('blake3 is not 64 hex digits');
  if (entry.path.length === 1 && entry.path[0] === DOT && type !== 'directory') {
    throw new LineError('path is . and not a directory');
  }
  return entry;
}

/** What another module says of a broken rule, as one of this line. */
function ruled<T>(work: () => T): T {
  try {
    return work();
  } catch (e) {
    throw new LineError((e as Error).message);
  }
}

function trailerOf(o: Fields): ManifestTrailer {
  const trailer: ManifestTrailer = {
    kind: 'trailer',
    entries: integer(o, 'entries', Number.MAX_SAFE_INTEGER),
    bytes: integer(o, 'bytes', Number.MAX_SAFE_INTEGER),
    mediaBytes: integer(o, 'mediaBytes', Number.MAX_SAFE_INTEGER),
    mediaXxh3: text(o, 'mediaXxh3'),
    ...(o.moreMedia !== undefined && { moreMedia: moreMediaOf(o.moreMedia) }),
    warnings: integer(o, 'warnings', Number.MAX_SAFE_INTEGER),
    ...(o.volumes !== undefined && { volumes: ruled(() => decodeVolumes(o.volumes)) }),
  };
  if (!XXH3_TEXT.test(trailer.mediaXxh3)) throw new LineError('mediaXxh3 is not 16 hex digits');
  return trailer;
}

/** @throws LineError if it does not say what the media from 1 on are */
export function moreMediaOf(value: unknown): FurtherMedium[] {
  if (!Array.isArray(value) || value.length >= MEDIA_MAX) {
    throw new LineError(`moreMedia is not a list of fewer than ${MEDIA_MAX} media`);
  }
  return value.map((item: unknown) => {
    const o = (typeof item === 'object' && item !== null ? item : {}) as Fields;
    const facts = {
      bytes: integer(o, 'bytes', Number.MAX_SAFE_INTEGER),
      xxh3: text(o, 'xxh3'),
    };
    if (!XXH3_TEXT.test(facts.xxh3))
      throw new LineError('a digest of moreMedia is not 16 hex digits');
    return facts;
  });
}

/** Incrementals upon one full set: an ordinal of 16 bits, and what a restore holds open. */
export const CHAIN_MAX = 1000;

/** @throws LineError if it is not a list of links */
export function chainOf(value: unknown): ChainLink[] {
  if (!Array.isArray(value) || value.length > CHAIN_MAX) {
    throw new LineError(`chain is not a list of at most ${CHAIN_MAX} sets`);
  }
  return value.map((link: unknown) => {
    const o = (typeof link === 'object' && link !== null ? link : {}) as Fields;
    const [id, manifestBlake3] = [text(o, 'id'), text(o, 'manifestBlake3')];
    if (!HEX.test(manifestBlake3)) throw new LineError('a digest of chain is not 64 hex digits');
    return { id, manifestBlake3 };
  });
}

function headerOf(o: Fields): ManifestHeader {
  if (o.format !== MANIFEST_FORMAT) throw new LineError(`format is not ${MANIFEST_FORMAT}`);
  if (o.version !== MANIFEST_VERSION) {
    throw new LineError(
      `version ${String(o.version)} is not ${MANIFEST_VERSION}; use a newer stpd`,
    );
  }
  const roots = o.roots;
  if (!Array.isArray(roots) || !roots.every((r) => typeof r === 'string')) {
    throw new LineError('roots is not a list of strings');
  }
  return {
    setId: text(o, 'setId'),
    host: text(o, 'host'),
    roots,
    startedAt: text(o, 'startedAt'),
    stpd: text(o, 'stpd'),
    ...(o.chain !== undefined && { chain: chainOf(o.chain) }),
    ...(o.coding !== undefined && { coding: ruled(() => decodeCoding(o.coding)) }),
  };
}

function objectOf(line: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new LineError('it is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LineError('it is not a JSON object');
  }
  return value as Fields;
}

/** What lies between the first line and the last. */
export type ManifestItem = ManifestEntry | ManifestTombstone | ManifestVoid | ManifestWarning;
export type ManifestRecord = ManifestItem | ManifestScan;

/** A whole number as JSON has it, exact in JavaScript. */
const COUNT = '(0|[1-9][0-9]{0,14})';
/** What 64 bits may need. */
const LONG = '"(0|[1-9][0-9]{0,18})"';
/** What `encodeEntry` makes of a file about which nothing is unusual: most lines of most sets. */
const COMMON_FILE = new RegExp(
  `^\\{"path":"([ !#-[\\]-~]+)","type":"file","mode":${COUNT},"uid":${COUNT},"gid":${COUNT}` +
    `,"size":${COUNT},"mtimeNs":${LONG},"ctimeNs":${LONG},"ino":${LONG},"dev":${LONG}` +
    `,"headerOffset":${COUNT},"dataOffset":${COUNT},"blake3":"([0-9a-f]{64})"\\}$`,
);

/** The device of the file before: that of the next, too. */
let lastDevText = '';
let lastDev = 0n;

/**
 * The entry of a line in the form of `COMMON_FILE`; null for any other, and for one that breaks a rule,
 * which `decodeLine` then names. Several times as fast: JSON.parse and a look at each field take a
 * third of the time of a backup of small files.
 */
function commonFileOf(line: string): ManifestEntry | null {
  const m = COMMON_FILE.exec(line);
  if (m === null) return null;
  const path = Buffer.from(m[1] as string, 'latin1');
  const [mode, uid, gid, size] = [Number(m[2]), Number(m[3]), Number(m[4]), Number(m[5])];
  const [headerOffset, dataOffset] = [Number(m[10]), Number(m[11])];
  const isWhole = headerOffset % TAR_BLOCK_BYTES === 0 && dataOffset % TAR_BLOCK_BYTES === 0;
  const isGood = mode <= MODE_MAX && uid <= ID_MAX && gid <= ID_MAX && dataOffset > headerOffset;
  if (!isWhole || !isGood || pathProblem(path) !== null) return null;
  if (path.length === 1 && path[0] === DOT) return null;
  const devText = m[9] as string;
  if (devText !== lastDevText) {
    lastDev = BigInt(devText);
    lastDevText = devText;
  }
  return {
    kind: 'entry',
    path,
    type: 'file',
    mode,
    uid,
    gid,
    size,
    mtimeNs: BigInt(m[6] as string),
    ctimeNs: BigInt(m[7] as string),
    ino: BigInt(m[8] as string),
    dev: lastDev,
    link: null,
    major: 0,
    minor: 0,
    headerOffset,
    dataOffset,
    blake3: m[12] as string,
    changed: false,
    stored: size,
    sparse: false,
    superseded: false,
    sameData: false,
    again: false,
    medium: 0,
    xattrs: null,
    delta: null,
    blocks: null,
  };
}

/**
 * Any line after the first.
 * @throws LineError with the rule that it breaks
 */
export const decodeLine = (line: string): ManifestRecord | ManifestTrailer =>
  commonFileOf(line) ?? decodeAnyLine(line);

/** The same, whatever form the line has. */
export function decodeAnyLine(line: string): ManifestRecord | ManifestTrailer {
  const o = objectOf(line);
  if (o.type !== undefined) return entryOf(o);
  if (o.deleted === true) return { kind: 'deleted', path: pathOf(o, 'path') };
  if (o.void !== undefined) return voidOf(o);
  if (o.scanNs !== undefined) return { kind: 'scan', scanNs: bigInteger(o, 'scanNs') };
  if (o.warning === undefined) return trailerOf(o);
  const code = text(o, 'warning');
  if (!/^[A-Z0-9]{2,20}$/.test(code)) throw new LineError('warning is not a POSIX code');
  return { kind: 'warning', path: pathOf(o, 'path'), code, message: text(o, 'message') };
}

/** The first line. */
export const decodeHeader = (line: string): ManifestHeader => headerOf(objectOf(line));

/** Where the member behind `entry` begins. */
export const endOffset = (entry: ManifestEntry): number =>
  entry.dataOffset + paddedBytes(mediaDataBytes(entry));

/** How far each medium is tiled: the rule that entries and voids come one behind the other. */
export class MediaTiling {
  readonly ends: number[] = [0];

  /** @throws LineError if it does not begin where the one before it in its medium ended */
  add(record: ManifestEntry | ManifestVoid): void {
    const { medium, headerOffset } = record;
    while (this.ends.length <= medium) this.ends.push(0);
    const end = this.ends[medium] as number;
    if (headerOffset !== end) {
      const what = record.kind === 'void' ? 'a void' : displayPath(record.path);
      const where = medium === 0 ? '' : ` of medium ${medium}`;
      throw new LineError(`${what} is not at ${end}${where}, where the entry before ended`);
    }
    this.ends[medium] = record.kind === 'void' ? headerOffset + record.bytes : endOffset(record);
  }
}

/** Bytes of data that stand behind the entry's header. */
export const mediaDataBytes = ({ sameData, delta, stored }: ManifestEntry): number =>
  sameData ? 0 : (delta?.bytes ?? stored);

/** Digest of the bytes behind the entry's header; null where there are none. */
export const mediaDigest = ({ delta, blake3 }: ManifestEntry): string | null =>
  delta?.blake3 ?? blake3;

const DELTA_ROOT = Buffer.from('.stp-delta/');

/**
 * True if a file of this name counts in its medium's digest by the BLAKE3 of its data, and not by each
 * byte: it is large, and whole.
 */
export const isLargeData = (path: Buffer, bytes: number): boolean =>
  bytes >= LARGE_DATA_BYTES && !path.subarray(0, DELTA_ROOT.length).equals(DELTA_ROOT);

/** The same of what stands behind an entry's header. */
export const hasLargeData = (entry: ManifestEntry): boolean =>
  entry.delta === null && isLargeData(entry.path, mediaDataBytes(entry));

/** What comes behind a file's path in the names of its members. */
export const DELTA_NAME_BYTES_MAX = DELTA_ROOT.length + 12;
/** Name of a member that has blocks of `path`: `map`, then 1, 2, ... */
export const deltaPath = (path: Buffer, part: 'map' | number): Buffer =>
  Buffer.concat([DELTA_ROOT, path, Buffer.from(`/${part}`)]);

/** The member that stands for an entry, but for the names that a directory has. */
export function memberOf(entry: ManifestEntry): TarMember {
  const { path, type, mode, uid, gid, mtimeNs, link, major, minor, xattrs } = entry;
  const same = { path, mode, uid, gid, mtimeNs, major, minor };
  // A link of a file to itself: GNU tar leaves the file as it is.
  if (entry.sameData) return { ...same, type: 'hardlink', link: path, size: 0 };
  if (entry.delta !== null) {
    const map = { path: deltaPath(path, 'map'), size: entry.delta.mapBytes };
    return { ...same, ...map, type: 'file', link: null };
  }
  const sparse = entry.sparse ? { sparseBytes: entry.size } : {};
  return { ...same, type, link, size: entry.stored, xattrs, ...sparse };
}

const READ_BYTES = 256 * 1024;

/**
 * Lines of a file, each without its newline; the view is valid until the next one.
 * @param mayBeCut a last line without an end is none
 */
export function* linesOf(file: ByteFile, mayBeCut = false): Generator<Buffer, void, void> {
  let position = 0;
  let chunk = Buffer.allocUnsafeSlow(READ_BYTES);
  let start = 0;
  let end = 0;
  for (;;) {
    const newline = chunk.subarray(0, end).indexOf(0x0a, start);
    if (newline >= 0) {
      yield chunk.subarray(start, newline);
      start = newline + 1;
      continue;
    }
    if (end - start > LINE_BYTES_MAX)
      throw new LineError(`it is longer than ${LINE_BYTES_MAX} bytes`);
    if (start > 0) chunk.copyWithin(0, start, end);
    end -= start;
    start = 0;
    if (end === chunk.length) {
      const longer = Buffer.allocUnsafeSlow(chunk.length * 2);
      chunk.copy(longer, 0, 0, end);
      chunk = longer;
    }
    const bytes = file.read(chunk, end, chunk.length - end, position);
    position += bytes;
    if (bytes === 0) {
      if (end > 0 && !mayBeCut) throw new LineError('it has no end: the file was cut');
      return;
    }
    end += bytes;
  }
}

/**
 * Reads a manifest line by line and checks all of it on the way: use `header`, iterate once, and
 * when the loop ends without an error, `trailer` is there and everything agreed.
 */
export class ManifestReader implements Iterable<ManifestItem> {
  readonly header: ManifestHeader;
  /** Set when the iteration has come to the end. */
  trailer: ManifestTrailer | null = null;
  /** The client's clock when the scan began; null before that line, and where there is none. */
  scanNs: bigint | null = null;
  /** Bytes of the entry just yielded, without newline; valid until the next. */
  line: Buffer = Buffer.alloc(0);
  /** Where that line begins in the file. */
  lineOffset = 0;
  readonly #file: ByteFile;
  readonly #lines: Generator<Buffer, void, void>;
  #lineNumber = 0;
  #nextOffset = 0;
  #closed = false;

  /**
   * @param from a path, or what is closed with this
   * @throws EINVAL naming file, line and rule; ENOENT, EACCES
   */
  constructor(from: string | ByteFile) {
    this.#file = typeof from === 'string' ? new PlainFile(from) : from;
    this.#lines = linesOf(this.#file);
    try {
      const first = this.#next();
      if (first === null) throw new LineError('the file is empty');
      this.header = decodeHeader(first.toString());
    } catch (e) {
      this.close();
      throw this.#explain(e);
    }
  }

  *[Symbol.iterator](): Generator<ManifestItem, void, void> {
    let entries = 0;
    let bytes = 0;
    let warnings = 0;
    const tiling = new MediaTiling();
    try {
      for (let line = this.#next(); line !== null; line = this.#next()) {
        if (this.trailer !== null) throw new LineError('it comes after the trailer');
        const record = decodeLine(line.toString());
        if (record.kind === 'trailer') {
          this.trailer = record;
          checkTotals(record, entries, bytes, warnings, tiling.ends);
          continue;
        }
        if (record.kind === 'scan') {
          this.scanNs = record.scanNs;
          continue;
        }
        if (record.kind === 'entry') {
          tiling.add(record);
          if (!record.again) entries++;
          bytes += mediaDataBytes(record);
        } else if (record.kind === 'void') {
          tiling.add(record);
        } else if (record.kind === 'warning') {
          warnings++;
        }
        this.line = line;
        yield record;
      }
      if (this.trailer === null) throw new LineError('the trailer is missing: the file was cut');
    } catch (e) {
      throw this.#explain(e);
    } finally {
      this.close();
    }
  }

  /** For who does not iterate to the end. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#file.close();
  }

  #next(): Buffer | null {
    this.#lineNumber++;
    const { value } = this.#lines.next();
    this.lineOffset = this.#nextOffset;
    this.#nextOffset += (value?.length ?? 0) + 1;
    return value ?? null;
  }

  #explain(e: unknown): unknown {
    if (!(e instanceof LineError)) return e;
    return stpError('EINVAL', `${this.#file.name}, line ${this.#lineNumber}: ${e.message}`);
  }
}

function checkTotals(
  t: ManifestTrailer,
  entries: number,
  bytes: number,
  warnings: number,
  mediaEnds: readonly number[],
): void {
  if (t.entries !== entries)
    throw new LineError(`entries is ${t.entries}, but there are ${entries}`);
  if (t.bytes !== bytes)
    throw new LineError(`bytes is ${t.bytes}, but the sizes add up to ${bytes}`);
  if (t.warnings !== warnings) {
    throw new LineError(`warnings is ${t.warnings}, but there are ${warnings}`);
  }
  const media = [{ bytes: t.mediaBytes }, ...(t.moreMedia ?? [])];
  // A stream may have had nothing to do: its medium has an end and no entry.
  for (let medium = 0; medium < Math.max(media.length, mediaEnds.length); medium++) {
    const expected = (mediaEnds[medium] ?? 0) + 2 * TAR_BLOCK_BYTES;
    if (media[medium]?.bytes === expected) continue;
    const name = medium === 0 ? 'mediaBytes' : `the length of medium ${medium}`;
    const said = media[medium]?.bytes ?? 'not there';
    throw new LineError(`${name} is ${said}, but the entries end at ${expected}`);
  }
}
