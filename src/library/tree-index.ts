/**
 * The list of a set: every entry of the tree as it was, in the order of the walk, in few bytes. A set
 * has the whole list, however little of it is in its own media; so an incremental backup compares
 * with one file, and a restore of any point reads one file, whatever the length of the chain.
 *
 * All numbers little-endian. 32 bytes of header: `stpd-tree 1` and zeros up to 16, then the scan's
 * time (i64, ns, the client's clock). Then records, each:
 *
 *   offset  bytes
 *   0       4   bytes of the record
 *   4       1   type: place in `types`
 *   5       1   flags: 1 not to be trusted next time, 2 sparse, 4 kept of an interrupted
 *               backup, 8 the same and it has attributes
 *   6       2   bytes of the path
 *   8       2   bytes of the link
 *   10      2   permission bits
 *   12      2   set of the manifest line: place in the chain, the full set is 0
 *   14      2   set of the data
 *   16, 20      uid, gid
 *   24, 32      size, bytes stored (f64)
 *   40, 48, 56  mtime, ctime (i64, ns), inode (u64)
 *   64, 72      manifest line: offset (f64), bytes (u32, without newline)
 *   76      2   medium of the data, of its set
 *   80          offset of the data in its medium (f64)
 *   88      32  BLAKE3 of the data; zeros for what is no file
 *   120         path, link, and what levels.ts says of a large file
 *
 * Valid if and only if every record is as long as its parts, and the digest in set.json agrees. It
 * can be made again from the manifests of the chain. Any thread; a reader belongs to one.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { assert } from '../assert.js';
import { stpError } from '../errors.js';
import { displayPath, type EntryType } from '../source/names.js';
import type { ByteFile } from './bytes.js';
import {
  decodeExtra,
  EXTRA_BYTES_MAX,
  type Extra,
  encodeExtra,
  isExtra,
  NO_EXTRA,
} from './levels.js';
import type { ManifestEntry } from './manifest.js';

export const INDEX_HEADER_BYTES = 32;
const MAGIC = Buffer.from('stpd-tree 1\0\0\0\0\0');
const RECORD_BYTES = 120;
/** Two paths of 16 bits each. */
const RECORD_BYTES_MAX = RECORD_BYTES + 2 * 65535 + EXTRA_BYTES_MAX;
const READ_BYTES = 1 << 20;

const types: readonly EntryType[] = [
  'file',
  'directory',
  'symlink',
  'hardlink',
  'fifo',
  'char',
  'block',
];

const UNTRUSTED = 1;
const SPARSE = 2;
const KEPT = 4;
const XATTRS = 8;

/**
 * A change in the same tick of the file system's clock as the scan leaves no trace: entries as new as
 * the scan less this are not trusted. FAT has the coarsest clock, 2 s.
 */
export const TICK_NS = 2_000_000_000n;

export function encodeIndexHeader(scanNs: bigint): Buffer {
  const header = Buffer.alloc(INDEX_HEADER_BYTES);
  MAGIC.copy(header);
  header.writeBigInt64LE(BigInt.asIntN(64, scanNs), 16);
  return header;
}

/** Where an entry is: sets by their place in the chain. */
export interface IndexPlace {
  readonly set: number;
  readonly lineOffset: number;
  readonly lineBytes: number;
  readonly dataSet: number;
  readonly dataMedium: number;
  readonly dataOffset: number;
}

/** Where records are made one behind the other. */
export class RecordBuffer {
  readonly bytes: Buffer;
  /** There is a record for each file, and Buffer's own methods are slow for so many fields. */
  readonly #view: DataView;
  length = 0;

  constructor(bytes: number) {
    this.bytes = Buffer.allocUnsafeSlow(bytes + RECORD_BYTES_MAX);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Anything that is made already: a header, records of another list. */
  put(made: Buffer): void {
    made.copy(this.bytes, this.length);
    this.length += made.length;
  }

  /** @param trustedBeforeNs entries with a later time are looked at next time */
  add(
    e: ManifestEntry,
    place: IndexPlace,
    trustedBeforeNs: bigint,
    extra: Extra,
    isKept: boolean,
  ): void {
    const { bytes, length: at } = this;
    const view = this.#view;
    const linkBytes = e.link?.length ?? 0;
    const more = extra === NO_EXTRA ? null : encodeExtra(extra);
    const end = at + RECORD_BYTES + e.path.length + linkBytes + (more?.length ?? 0);
    assert(end <= bytes.length, 'a record has its bounds');
    const fresh = e.ctimeNs >= trustedBeforeNs || e.mtimeNs >= trustedBeforeNs;
    view.setUint32(at, end - at, true);
    view.setUint8(at + 4, types.indexOf(e.type));
    view.setUint8(
      at + 5,
      (fresh || e.changed ? UNTRUSTED : 0) |
        (e.sparse ? SPARSE : 0) |
        (isKept ? KEPT : 0) |
        (isKept && (e.xattrs?.length ?? 0) > 0 ? XATTRS : 0),
    );
    view.setUint16(at + 6, e.path.length, true);
    view.setUint16(at + 8, linkBytes, true);
    view.setUint16(at + 10, e.mode, true);
    view.setUint16(at + 12, place.set, true);
    view.setUint16(at + 14, place.dataSet, true);
    view.setUint32(at + 16, e.uid, true);
    view.setUint32(at + 20, e.gid, true);
    view.setFloat64(at + 24, e.size, true);
    view.setFloat64(at + 32, e.stored, true);
    view.setBigInt64(at + 40, e.mtimeNs, true);
    view.setBigInt64(at + 48, e.ctimeNs, true);
    view.setBigUint64(at + 56, e.ino, true);
    view.setFloat64(at + 64, place.lineOffset, true);
    view.setUint32(at + 72, place.lineBytes, true);
    view.setUint16(at + 76, place.dataMedium, true);
    view.setUint16(at + 78, 0, true);
    view.setFloat64(at + 80, place.dataOffset, true);
    if (e.blake3 !== null) bytes.write(e.blake3, at + 88, 'hex');
    else bytes.fill(0, at + 88, at + RECORD_BYTES);
    e.path.copy(bytes, at + RECORD_BYTES);
    e.link?.copy(bytes, at + RECORD_BYTES + e.path.length);
    more?.copy(bytes, at + RECORD_BYTES + e.path.length + linkBytes);
    this.length = end;
  }
}

/** Puts up to `bytes` into `into` at `at`; 0 at the end. */
export type FillList = (into: Buffer, at: number, bytes: number) => number;

/** Reads a list once. What `next` found is there until the next call. */
export class TreeIndexReader {
  readonly scanNs: bigint;
  readonly #fill: FillList;
  readonly #name: string;
  readonly #digest = new Blake3Hasher();
  #chunk = Buffer.allocUnsafeSlow(READ_BYTES + RECORD_BYTES_MAX);
  #start = 0;
  #end = 0;
  /** Of the current record in the chunk; -1 before the first and behind the last. */
  #at = -1;
  #length = 0;

  /** @param name for messages @throws EINVAL if it is no list */
  constructor(name: string, fill: FillList) {
    this.#name = name;
    this.#fill = fill;
    if (!this.#have(INDEX_HEADER_BYTES) || !this.#chunk.subarray(0, 16).equals(MAGIC)) {
      throw this.#bad('it does not begin as one');
    }
    this.scanNs = this.#chunk.readBigInt64LE(16);
    this.#start = INDEX_HEADER_BYTES;
  }

  /** @param file the caller closes it */
  static ofFile(file: ByteFile): TreeIndexReader {
    let position = 0;
    return new TreeIndexReader(file.name, (into, at, bytes) => {
      const read = file.read(into, at, bytes, position);
      position += read;
      return read;
    });
  }

  /** False at the end. @throws EINVAL for a record that is none */
  next(): boolean {
    this.#at = -1;
    if (!this.#have(4)) {
      if (this.#end > this.#start) throw this.#bad('it is cut');
      return false;
    }
    const length = this.#chunk.readUInt32LE(this.#start);
    if (length < RECORD_BYTES || length > RECORD_BYTES_MAX) throw this.#bad('a record is too long');
    if (!this.#have(length)) throw this.#bad('it is cut');
    this.#at = this.#start;
    this.#length = length;
    this.#start += length;
    const more = length - RECORD_BYTES - this.#u16(6) - this.#u16(8);
    const isWhole = more === 0 || (more >= 6 && isExtra(more, this.#u16(length - more + 4)));
    if (!isWhole) {
      throw this.#bad('the parts of a record do not fill it');
    }
    if (types[this.#chunk[this.#at + 4] as number] === undefined)
      throw this.#bad('type is unknown');
    return true;
  }

  get hasRecord(): boolean {
    return this.#at >= 0;
  }

  #u16(offset: number): number {
    return this.#chunk.readUInt16LE(this.#at + offset);
  }
  #double(offset: number): number {
    return this.#chunk.readDoubleLE(this.#at + offset);
  }

  get path(): Buffer {
    const start = this.#at + RECORD_BYTES;
    return this.#chunk.subarray(start, start + this.#u16(6));
  }
  isAt(path: Buffer): boolean {
    const start = this.#at + RECORD_BYTES;
    const bytes = this.#u16(6);
    return bytes === path.length && path.compare(this.#chunk, start, start + bytes) === 0;
  }
  get type(): EntryType {
    return types[this.#chunk[this.#at + 4] as number] as EntryType;
  }
  get isTrusted(): boolean {
    return ((this.#chunk[this.#at + 5] as number) & UNTRUSTED) === 0;
  }
  /** Not in the parent, but in the set that is being made. */
  get isKept(): boolean {
    return ((this.#chunk[this.#at + 5] as number) & KEPT) !== 0;
  }
  get hasXattrs(): boolean {
    return ((this.#chunk[this.#at + 5] as number) & XATTRS) !== 0;
  }
  get isSparse(): boolean {
    return ((this.#chunk[this.#at + 5] as number) & SPARSE) !== 0;
  }
  get size(): number {
    return this.#double(24);
  }
  get stored(): number {
    return this.#double(32);
  }
  get mtimeNs(): bigint {
    return this.#chunk.readBigInt64LE(this.#at + 40);
  }
  get blake3(): string {
    return this.#chunk.toString('hex', this.#at + 88, this.#at + 120);
  }
  get place(): IndexPlace {
    return {
      set: this.#u16(12),
      dataSet: this.#u16(14),
      lineOffset: this.#double(64),
      lineBytes: this.#chunk.readUInt32LE(this.#at + 72),
      dataMedium: this.#u16(76),
      dataOffset: this.#double(80),
    };
  }
  /** Where a large file's block hashes and its levels are. */
  get extra(): Extra {
    const start = this.#at + RECORD_BYTES + this.#u16(6) + this.#u16(8);
    return decodeExtra(this.#chunk.subarray(start, this.#at + this.#length));
  }
  /** The bytes of the record: valid until the next. */
  get record(): Buffer {
    return this.#chunk.subarray(this.#at, this.#at + this.#length);
  }

  /** True if nothing that shows differs. The device number is left out: it changes with a mount. */
  looksLike(e: {
    readonly type: EntryType;
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
    readonly size: number;
    readonly mtimeNs: bigint;
    readonly ctimeNs: bigint;
    readonly ino: bigint;
    readonly link: Buffer | null;
  }): boolean {
    const { type, mode, uid, gid, size, mtimeNs, ctimeNs, ino, link } = e;
    const chunk = this.#chunk;
    const at = this.#at;
    return (
      chunk.readBigInt64LE(at + 48) === ctimeNs &&
      chunk.readBigInt64LE(at + 40) === mtimeNs &&
      chunk.readBigUInt64LE(at + 56) === ino &&
      this.#double(24) === size &&
      this.type === type &&
      this.#u16(10) === mode &&
      chunk.readUInt32LE(at + 16) === uid &&
      chunk.readUInt32LE(at + 20) === gid &&
      this.#sameLink(link)
    );
  }

  #sameLink(link: Buffer | null): boolean {
    const bytes = this.#u16(8);
    if (link === null) return bytes === 0;
    const start = this.#at + RECORD_BYTES + this.#u16(6);
    return link.length === bytes && link.compare(this.#chunk, start, start + bytes) === 0;
  }

  /** Of all that was read: the whole list once `next` was false. */
  digest(): string {
    return this.#digest.digest('hex');
  }

  #have(bytes: number): boolean {
    while (this.#end - this.#start < bytes) {
      if (this.#start > 0) {
        this.#chunk.copyWithin(0, this.#start, this.#end);
        this.#end -= this.#start;
        this.#start = 0;
      }
      const read = this.#fill(this.#chunk, this.#end, this.#chunk.length - this.#end);
      if (read === 0) return false;
      this.#digest.update(this.#chunk.subarray(this.#end, this.#end + read));
      this.#end += read;
    }
    return true;
  }

  #bad(rule: string): Error {
    const where = this.#at >= 0 ? ` at ${displayPath(this.path)}` : '';
    return stpError('EINVAL', `the list ${this.#name} is damaged${where}: ${rule}`);
  }
}
