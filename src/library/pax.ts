/**
 * Header blocks of one tar member: POSIX.1-2001 (`pax`), for plain tar to list and extract.
 *
 * Valid if and only if: [an `x` header and its records, when needed] then one ustar header, then
 * `size` bytes of data and zeros up to 512; after the last member two blocks of zeros. Reader: any
 * tar. Checked against GNU tar and bsdtar.
 *
 * Records are written only for what ustar cannot say:
 *   path, linkpath   longer than its fields (names that fit are raw bytes in the field, whatever
 *                    they are: every tar gives those back as they are in every locale)
 *   hdrcharset       BINARY before a path or linkpath record that is not UTF-8
 *   mtime            fractions of a second, before 1970, after 2242
 *   uid, gid, size   over 2097151, over 8 GiB - 1
 *   SCHILY.xattr.*   extended attributes; % and = of their names as %25 and %3D, as GNU tar has it
 *   SCHILY.acl.*     POSIX ACLs as text
 *   GNU.sparse.*     format 1.0: a map stands before the data, see source/sparse.ts
 *   GNU.dumpdir      names that a directory has; with them GNU tar removes what is gone
 * Owner names are left out: numbers restore on any machine.
 *
 * A writer belongs to one thread; its buffer is overwritten by the next member.
 */
import { isUtf8 } from 'node:buffer';
import { assert } from '../assert.js';
import { type EntryType, PATH_BYTES_MAX } from '../source/names.js';
import { ACL_ACCESS, ACL_DEFAULT, aclText, type Xattr } from '../source/xattrs.js';
import { digitsOf, putBytes, putDecimal, putDigits } from './decimal.js';
import { SplitTime } from './nanoseconds.js';

export const TAR_BLOCK_BYTES = 512;
/** The end of an archive. */
export const TAR_END_BYTES = 2 * TAR_BLOCK_BYTES;
/** Two headers, and records with a path, a link and numbers; the rest makes its room when needed. */
export const TAR_HEADER_BYTES = 2 * TAR_BLOCK_BYTES + paddedBytes(2 * (PATH_BYTES_MAX + 32) + 1024);

const OCTAL7_MAX = 0o7777777;
const OCTAL11_MAX = 0o77777777777;
/** Stands in ustar fields that a record overrides, for a tar that ignores records: not root. */
const ID_NOBODY = 65534;

// Offsets of the ustar header (POSIX.1-2017, pax, "ustar Interchange Format").
const NAME = 0;
const NAME_BYTES = 100;
const MODE = 100;
const UID = 108;
const GID = 116;
const SIZE = 124;
const MTIME = 136;
const CHECKSUM = 148;
const TYPE = 156;
const LINK = 157;
const LINK_BYTES = 100;
const MAGIC = 257;
const MAJOR = 329;
const MINOR = 337;
const PREFIX = 345;
const PREFIX_BYTES = 155;

const ZERO = 0x30;
const SPACE = 0x20;
const SLASH = 0x2f;
const POINT = 0x2e;
const NEWLINE = 0x0a;
const MTIME_KEY = Buffer.from(' mtime=');
const MAGIC_AND_VERSION = Buffer.from('ustar\x0000', 'latin1');
const RECORDS_NAME = Buffer.from('././@PaxHeader');
const SPARSE_NAME = Buffer.from('GNUSparseFile.0/');
/** Length, longest key of ours and the ends of one record, without name and value. */
const RECORD_BYTES_MAX = 128;
const aclKeys: Readonly<Record<string, string>> = {
  [ACL_ACCESS]: 'SCHILY.acl.access',
  [ACL_DEFAULT]: 'SCHILY.acl.default',
};
const HDRCHARSET_BINARY = Buffer.from('21 hdrcharset=BINARY\n');

const typeFlags: Readonly<Record<EntryType, number>> = {
  file: 0x30,
  hardlink: 0x31,
  symlink: 0x32,
  char: 0x33,
  block: 0x34,
  directory: 0x35,
  fifo: 0x36,
};

/** What a header says. `size` is that of the data that follows: 0 for everything but files. */
export interface TarMember {
  readonly path: Buffer;
  readonly type: EntryType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly link: Buffer | null;
  readonly major: number;
  readonly minor: number;
  readonly xattrs?: readonly Xattr[] | null;
  /** Size of a sparse file with its holes; `size` is that of its map and data. */
  readonly sparseBytes?: number;
  /** Of a directory; see `dumpdir`. */
  readonly dumpdir?: Buffer | null;
}

/** `bytes` rounded up to whole blocks. */
export function paddedBytes(bytes: number): number {
  const rest = bytes % TAR_BLOCK_BYTES;
  return rest === 0 ? bytes : bytes + TAR_BLOCK_BYTES - rest;
}

/** Of one piece of a void, header included: readers hold the records of a header in memory. */
const VOID_PIECE_BYTES = 64 << 10;

/**
 * What makes of `bytes` in the media, whatever they were, a comment that any tar passes over: a row
 * of global headers (POSIX.1-2017, pax, typeflag g), each with one record `comment`.
 * @param bytes a multiple of 512
 * @param put writes at a place within them; what lies between is the text of the comment
 */
export function writeVoid(bytes: number, put: (data: Buffer, at: number) => void): void {
  assert(bytes % TAR_BLOCK_BYTES === 0, 'a void is made of whole blocks');
  for (let at = 0; at < bytes; ) {
    const piece = Math.min(bytes - at, VOID_PIECE_BYTES);
    const size = piece - TAR_BLOCK_BYTES;
    put(globalHeader(size), at);
    if (size > 0) {
      put(Buffer.from(`${size} comment=`), at + TAR_BLOCK_BYTES);
      put(Buffer.from('\n'), at + piece - 1);
    }
    at += piece;
  }
}

function globalHeader(size: number): Buffer {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  const octal = (value: number, at: number, digits: number) =>
    block.write(`${value.toString(8).padStart(digits, '0')}\0`, at, 'latin1');
  RECORDS_NAME.copy(block, NAME);
  octal(0o644, MODE, 7);
  octal(0, UID, 7);
  octal(0, GID, 7);
  octal(size, SIZE, 11);
  octal(0, MTIME, 11);
  block[TYPE] = 0x67;
  MAGIC_AND_VERSION.copy(block, MAGIC);
  let sum = 8 * SPACE;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, CHECKSUM, 'latin1');
  return block;
}

/** Length of the record `LENGTH KEY=VALUE\n`, which counts its own digits. */
export function paxRecordBytes(keyBytes: number, valueBytes: number): number {
  const rest = 3 + keyBytes + valueBytes;
  let digits = 1;
  for (let end = 10; rest + digits >= end; end *= 10) digits++;
  return rest + digits;
}

/** Seconds as pax has them: `-0.5`, `12`, `1700000000.000000001`. */
export function paxSeconds(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  const seconds = magnitude / 1_000_000_000n;
  const fraction = magnitude % 1_000_000_000n;
  const text =
    fraction === 0n
      ? String(seconds)
      : `${seconds}.${String(fraction).padStart(9, '0').replace(/0+$/, '')}`;
  return ns < 0n ? `-${text}` : text;
}

const INT31_MAX = 2 ** 31 - 1;

/** `digits` octal digits and a NUL. */
function putOctal(into: Buffer, at: number, digits: number, value: number): void {
  let rest = value;
  let i = at + digits - 1;
  for (; i >= at && rest > INT31_MAX; i--) {
    const high = Math.floor(rest / 8);
    into[i] = ZERO + (rest - high * 8);
    rest = high;
  }
  for (; i >= at; i--) {
    into[i] = ZERO + (rest & 7);
    rest >>>= 3;
  }
  into[at + digits] = 0;
}

/** Sum of the bytes up to the end or the first NUL, behind which a text field is zero anyway. */
function sumText(block: Buffer, from: number, end: number): number {
  let sum = 0;
  for (let i = from; i < end; i++) {
    const byte = block[i] as number;
    if (byte === 0) break;
    sum += byte;
  }
  return sum;
}

/** Sums what may be other than zero: most of a header is empty. */
function putChecksum(into: Buffer, at: number): number {
  let sum = 8 * SPACE + (into[at + TYPE] as number);
  sum += sumText(into, at + NAME, at + NAME + NAME_BYTES);
  for (let i = at + MODE; i < at + CHECKSUM; i++) sum += into[i] as number;
  sum += sumText(into, at + LINK, at + LINK + LINK_BYTES);
  for (let i = at + MAGIC; i < at + MAGIC + MAGIC_AND_VERSION.length; i++) sum += into[i] as number;
  for (let i = at + MAJOR; i < at + PREFIX; i++) sum += into[i] as number;
  sum += sumText(into, at + PREFIX, at + PREFIX + PREFIX_BYTES);
  putOctal(into, at + CHECKSUM, 6, sum);
  into[at + CHECKSUM + 7] = SPACE;
  return sum;
}

/**
 * Where to cut a path between prefix and name, -1 if nowhere. `bytes` is the path's length with the
 * slash that a directory has behind it.
 */
function prefixCut(path: Buffer, bytes: number): number {
  // The first slash that leaves at most 100 bytes behind it also leaves the least before it.
  const cut = path.indexOf(SLASH, bytes - NAME_BYTES - 1);
  return cut > 0 && cut <= PREFIX_BYTES ? cut : -1;
}

/** The header of a file or a directory, for the next one that differs only in name, size and time. */
interface Like {
  /** Without a name. */
  readonly block: Buffer;
  /** -1: there is none. */
  mode: number;
  uid: number;
  gid: number;
  /** Of the checksum, what does not come from name, size and time. */
  sum: number;
}

const newLike = (): Like => ({
  block: Buffer.alloc(TAR_BLOCK_BYTES),
  ...{ mode: -1, uid: -1, gid: -1, sum: 0 },
});

function sumSizeAndTime(block: Buffer, at: number): number {
  let sum = 0;
  for (let i = at + SIZE; i < at + CHECKSUM; i++) sum += block[i] as number;
  return sum;
}

export class TarHeaderWriter {
  /** The blocks of the last member: as many bytes as `write` returned. */
  buffer = Buffer.alloc(TAR_HEADER_BYTES);
  #recordsEnd = 0;
  /** Bytes of records that the header at the start of the buffer announces; 0: none stands there. */
  #recordsHeader = 0;

  /** @returns bytes of header in `buffer`, a multiple of 512 */
  write(member: TarMember): number {
    assert(member.size === 0 || member.type === 'file', 'only files have data');
    assert(member.path.length > 0 && member.path.length <= PATH_BYTES_MAX, 'paths are bounded');
    this.#makeRoom(member);
    const isDirectory = member.type === 'directory';
    const pathBytes = member.path.length + (isDirectory ? 1 : 0);
    const records = this.#writeRecords(member, pathBytes);
    const header = records === 0 ? 0 : TAR_BLOCK_BYTES + paddedBytes(records);
    if (records > 0) this.#writeRecordsHeader(records);
    else this.#recordsHeader = 0;
    this.#writeUstar(member, header);
    return header + TAR_BLOCK_BYTES;
  }

  #makeRoom({ xattrs, dumpdir }: TarMember): void {
    if (!xattrs && !dumpdir) return;
    let bytes = TAR_HEADER_BYTES + (dumpdir?.length ?? 0) + RECORD_BYTES_MAX;
    // Names three times for their %XX, and an ACL is some six times longer as text.
    for (const { name, value } of xattrs ?? []) {
      bytes += 3 * name.length + 6 * value.length + RECORD_BYTES_MAX;
    }
    if (bytes <= this.buffer.length) return;
    this.buffer = Buffer.alloc(paddedBytes(bytes));
    this.#recordsHeader = 0;
  }

  /** Puts the records behind the first block; returns their bytes. */
  #writeRecords(member: TarMember, pathBytes: number): number {
    const { path, link, uid, gid, size, mtimeNs } = member;
    const start = TAR_BLOCK_BYTES;
    this.#recordsEnd = start;
    const sparse = member.sparseBytes;
    const longPath =
      sparse === undefined && pathBytes > NAME_BYTES && prefixCut(path, pathBytes) < 0;
    const longLink = link !== null && link.length > LINK_BYTES;
    if (((longPath || sparse !== undefined) && !isUtf8(path)) || (longLink && !isUtf8(link))) {
      HDRCHARSET_BINARY.copy(this.buffer, start);
      this.#recordsEnd += HDRCHARSET_BINARY.length;
    }
    if (longPath) this.#putRecord('path', path, member.type === 'directory');
    if (longLink) this.#putRecord('linkpath', link, false);
    if (uid > OCTAL7_MAX) this.#putRecord('uid', Buffer.from(String(uid)), false);
    if (gid > OCTAL7_MAX) this.#putRecord('gid', Buffer.from(String(gid)), false);
    if (size > OCTAL11_MAX) this.#putRecord('size', Buffer.from(String(size)), false);
    if (!this.#setTime(mtimeNs)) this.#putTime();
    if (sparse !== undefined) {
      this.#putRecord('GNU.sparse.major', Buffer.from('1'), false);
      this.#putRecord('GNU.sparse.minor', Buffer.from('0'), false);
      this.#putRecord('GNU.sparse.name', path, false);
      this.#putRecord('GNU.sparse.realsize', Buffer.from(String(sparse)), false);
    }
    for (const xattr of member.xattrs ?? []) this.#putXattr(xattr);
    if (member.dumpdir) this.#putRecord('GNU.dumpdir', member.dumpdir, false);
    const end = this.#recordsEnd;
    // Behind records that are as long as those of the file before there are zeros already.
    const isNew = end > start && end - start !== this.#recordsHeader;
    if (isNew) this.buffer.fill(0, end, start + paddedBytes(end - start));
    return end - start;
  }

  /** True if ustar's field can say it without loss. */
  #setTime(ns: bigint): boolean {
    const time = this.#time;
    this.#timeText = null;
    if (time.set(ns)) return time.nanos === 0 && time.seconds <= OCTAL11_MAX;
    time.seconds = ns < 0n ? 0 : OCTAL11_MAX;
    this.#timeText = paxSeconds(ns);
    return false;
  }
  readonly #time = new SplitTime();
  /** Of a time that is not split. */
  #timeText: string | null = null;

  /** Nearly every file has this one. */
  #putTime(): void {
    if (this.#timeText !== null) {
      this.#putRecord('mtime', Buffer.from(this.#timeText), false);
      return;
    }
    const { buffer } = this;
    const { seconds, nanos } = this.#time;
    let fraction = nanos;
    let digits = nanos === 0 ? 0 : 9;
    for (; digits > 0 && fraction % 10 === 0; digits--) fraction /= 10;
    const valueBytes = digitsOf(seconds) + (digits > 0 ? 1 + digits : 0);
    const bytes = paxRecordBytes(MTIME_KEY.length - 2, valueBytes);
    const end = this.#recordsEnd + bytes;
    let at = putDecimal(buffer, this.#recordsEnd, bytes);
    at = putDecimal(buffer, putBytes(buffer, at, MTIME_KEY), seconds);
    if (digits > 0) {
      buffer[at] = POINT;
      at = putDigits(buffer, at + 1, digits, fraction);
    }
    buffer[at++] = NEWLINE;
    assert(at === end, 'a pax record has the length it says');
    this.#recordsEnd = end;
  }

  #putXattr({ name, value }: Xattr): void {
    const text = name.toString('latin1');
    const acl = aclKeys[text];
    if (acl !== undefined) {
      const readable = aclText(value);
      if (readable !== null) this.#putRecord(acl, Buffer.from(readable), false);
      return;
    }
    const escaped = text.replace(/%/g, '%25').replace(/=/g, '%3D');
    this.#putRecord(`SCHILY.xattr.${escaped}`, value, false);
  }

  #putRecord(key: string, value: Buffer, slash: boolean): void {
    const { buffer } = this;
    const bytes = paxRecordBytes(key.length, value.length + (slash ? 1 : 0));
    let at = this.#recordsEnd;
    this.#recordsEnd = at + bytes;
    at += buffer.write(`${bytes} ${key}=`, at, 'latin1');
    at += value.copy(buffer, at);
    if (slash) buffer[at++] = SLASH;
    buffer[at++] = 0x0a;
    assert(at === this.#recordsEnd, 'a pax record has the length it says');
  }

  /** Of most files the records are as long as those of the file before: then it is there already. */
  #writeRecordsHeader(records: number): void {
    const { buffer } = this;
    if (this.#recordsHeader === records) return;
    const isThere = this.#recordsHeader > 0;
    this.#recordsHeader = records;
    if (isThere) {
      putOctal(buffer, SIZE, 11, records);
      putChecksum(buffer, 0);
      return;
    }
    buffer.fill(0, 0, TAR_BLOCK_BYTES);
    RECORDS_NAME.copy(buffer, NAME);
    putOctal(buffer, MODE, 7, 0o644);
    putOctal(buffer, UID, 7, 0);
    putOctal(buffer, GID, 7, 0);
    putOctal(buffer, SIZE, 11, records);
    putOctal(buffer, MTIME, 11, 0);
    buffer[TYPE] = 0x78;
    MAGIC_AND_VERSION.copy(buffer, MAGIC);
    putChecksum(buffer, 0);
  }

  #writeUstar(member: TarMember, at: number): void {
    const { buffer } = this;
    const { type, link, uid, gid, size } = member;
    const like = this.#likeOf(member);
    if (like !== null && like.mode === member.mode && like.uid === uid && like.gid === gid) {
      this.#rewriteUstar(like, member.path, size, at);
      return;
    }
    buffer.fill(0, at, at + TAR_BLOCK_BYTES);
    this.#putName(member, at);
    putOctal(buffer, at + MODE, 7, member.mode & 0o7777);
    putOctal(buffer, at + UID, 7, uid > OCTAL7_MAX ? ID_NOBODY : uid);
    putOctal(buffer, at + GID, 7, gid > OCTAL7_MAX ? ID_NOBODY : gid);
    this.#putSizeAndTime(size, at);
    buffer[at + TYPE] = typeFlags[type];
    if (link !== null) link.copy(buffer, at + LINK, 0, LINK_BYTES);
    MAGIC_AND_VERSION.copy(buffer, at + MAGIC);
    putOctal(buffer, at + MAJOR, 7, member.major);
    putOctal(buffer, at + MINOR, 7, member.minor);
    const sum = putChecksum(buffer, at);
    if (like !== null) this.#remember(like, member, at, sum);
  }
  readonly #file = newLike();
  readonly #directory = newLike();

  /** Where the last header of this kind is, if such have a short name and nothing unusual. */
  #likeOf({ type, path, link, sparseBytes }: TarMember): Like | null {
    if (link !== null || sparseBytes !== undefined) return null;
    if (type === 'file') return path.length <= NAME_BYTES ? this.#file : null;
    return type === 'directory' && path.length < NAME_BYTES ? this.#directory : null;
  }

  #remember(like: Like, { mode, uid, gid }: TarMember, at: number, sum: number): void {
    const { buffer } = this;
    buffer.copy(like.block, 0, at, at + TAR_BLOCK_BYTES);
    like.block.fill(0, NAME, NAME + NAME_BYTES);
    like.mode = mode;
    like.uid = uid;
    like.gid = gid;
    const name = sumText(buffer, at + NAME, at + NAME + NAME_BYTES);
    like.sum = sum - name - sumSizeAndTime(buffer, at);
  }

  /** Only name, size and time are others than in the one before. */
  #rewriteUstar(like: Like, path: Buffer, size: number, at: number): void {
    const { buffer } = this;
    buffer.set(like.block, at);
    let sum = like.sum;
    for (let i = 0; i < path.length; i++) {
      const byte = path[i] as number;
      buffer[at + NAME + i] = byte;
      sum += byte;
    }
    if (like === this.#directory) {
      buffer[at + NAME + path.length] = SLASH;
      sum += SLASH;
    }
    this.#putSizeAndTime(size, at);
    putOctal(buffer, at + CHECKSUM, 6, sum + sumSizeAndTime(buffer, at));
  }

  #putSizeAndTime(size: number, at: number): void {
    putOctal(this.buffer, at + SIZE, 11, size > OCTAL11_MAX ? 0 : size);
    // Rounded down and clamped: a record says the rest.
    putOctal(this.buffer, at + MTIME, 11, Math.min(this.#time.seconds, OCTAL11_MAX));
  }

  #putName(member: TarMember, at: number): void {
    const { buffer } = this;
    const { path } = member;
    const isDirectory = member.type === 'directory';
    const bytes = path.length + (isDirectory ? 1 : 0);
    const cut = bytes > NAME_BYTES ? prefixCut(path, bytes) : -1;
    let start = at + NAME;
    if (member.sparseBytes !== undefined) {
      // What a tar without this format makes of the member must not pass for the file.
      SPARSE_NAME.copy(buffer, start);
      const base = path.lastIndexOf(SLASH) + 1;
      path.copy(buffer, start + SPARSE_NAME.length, base, base + NAME_BYTES - SPARSE_NAME.length);
      return;
    }
    if (cut >= 0) path.copy(buffer, at + PREFIX, 0, cut);
    // Without a cut a name that is too long is a stub: the path record has the whole.
    const copied = path.copy(buffer, start, cut + 1, Math.min(path.length, cut + 1 + NAME_BYTES));
    start += copied;
    if (isDirectory && copied < NAME_BYTES) buffer[start] = SLASH;
  }
}
