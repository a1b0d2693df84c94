/**
 * Block lists: a hash for each block of a large file, so that the next incremental backup can tell
 * which blocks changed (docs/decisions/0035-block-deltas.md).
 *
 * Blocks have a fixed size and begin at multiples of it; the last one may be short. A hole counts as
 * zeros. A hash is the block's XXH3, little-endian (xxh3.ts). The lists of a medium lie one behind
 * the other in a file beside it, in the order of the manifest's lines; a line has offset and BLAKE3
 * of its list. Valid if and only if each list has its digest. All of it follows from the data and can be made again.
 *
 * Any thread; a lister belongs to one.
 */
import { closeSync, constants, fsyncSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash';
import { assert } from '../assert.js';
import { isCoded, stpError } from '../errors.js';
import type { FrameReader } from './frames.js';
import type { MediaPlan } from './media-plan.js';
import { XXH3_BYTES, Xxh3Hasher } from './xxh3.js';

/**
 * A block that changed looks unchanged once in 2^64, and then the digest of the whole file tells. Who
 * can find two blocks with the same hash can as well leave the second one out of the backup.
 */
export const BLOCK_HASH_BYTES = XXH3_BYTES;
/**
 * Files from this size on have block lists, unless told otherwise. Hashing twice is what it costs,
 * and smaller files are stored again in little time.
 */
export const DELTA_FROM_DEFAULT = 4 << 20;
/** Blocks of one file: its list has 4 MiB at most, which both sides hold in memory. */
export const BLOCKS_MAX = 2 ** 19;
export const BLOCK_LIST_BYTES_MAX = BLOCKS_MAX * BLOCK_HASH_BYTES;
/** For files up to SMALL_FILE_BYTES: what is changed there is often a page of a database. */
const SMALL_BLOCK_BYTES = 16 << 10;
const SMALL_FILE_BYTES = 256 << 20;
/** From here on a call of the hash function costs nothing beside the hashing. */
const BLOCK_BYTES = 64 << 10;
/** The smallest page of an SQLite database. */
const BLOCK_BYTES_MIN = 512;
/** Read at once; a file over 8 TiB has no list. */
export const BLOCK_BYTES_MAX = 16 << 20;

/**
 * Bytes of a block for a new list of a file of `size` bytes; 0 if it is too large for one.
 * @param least of a database, the bytes of its pages: a power of two
 */
export function blockBytesFor(size: number, least = 0): number {
  let bytes = least || (size <= SMALL_FILE_BYTES ? SMALL_BLOCK_BYTES : BLOCK_BYTES);
  while (size > bytes * BLOCKS_MAX) bytes *= 2;
  return bytes <= BLOCK_BYTES_MAX ? bytes : 0;
}

/** True for a power of two that `blockBytesFor` may give. */
export const isBlockSize = (bytes: number): boolean =>
  Number.isInteger(Math.log2(bytes)) && bytes >= BLOCK_BYTES_MIN && bytes <= BLOCK_BYTES_MAX;

export const blocksOf = (size: number, blockBytes: number): number => Math.ceil(size / blockBytes);

export const listBytesOf = (size: number, blockBytes: number): number =>
  blocksOf(size, blockBytes) * BLOCK_HASH_BYTES;

/** What a manifest line says of a file's list. */
export interface BlockList {
  readonly blockBytes: number;
  /** In the file of its medium. */
  readonly offset: number;
  /** Of the list. */
  readonly blake3: string;
}

/** Where the list of a file is, which may be in an earlier set. */
export interface BlockListPlace extends BlockList {
  /** Place in the chain. */
  readonly set: number;
  readonly medium: number;
}

/** Each medium of a set has its lists in a file of its own. */
export const blocksFile = (medium: number): string =>
  medium === 0 ? 'blocks.bin' : `blocks-${medium}.bin`;
export const isBlocksFile = (name: string): boolean => /^blocks(-\d+)?\.bin$/.test(name);

const ZEROS = new Uint8Array(1 << 20);

/** Of whole blocks; one a thread is enough. */
const blockHasher = new Xxh3Hasher();

function putValue(list: Buffer, index: number, hasher: Xxh3Hasher): void {
  list.writeBigUInt64LE(hasher.value(), index * BLOCK_HASH_BYTES);
}

/** Puts the hash of a block into `list` at place `index`. */
export function putHash(list: Buffer, index: number, block: Uint8Array): void {
  blockHasher.reset();
  putValue(list, index, blockHasher.update(block));
}

/** The hash of `bytes` zeros. */
export function hashOfZeros(bytes: number): Buffer {
  blockHasher.reset();
  for (let left = bytes; left > 0; left -= ZEROS.length) {
    blockHasher.update(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
  }
  const hash = Buffer.alloc(BLOCK_HASH_BYTES);
  putValue(hash, 0, blockHasher);
  return hash;
}

/** Makes a list from a file's bytes as they come by, in pieces of any length. */
export class BlockLister {
  /** Of a block that comes in pieces. */
  readonly #hasher = new Xxh3Hasher();
  #list = Buffer.alloc(0);
  #zeroHash: Buffer | null = null;
  #blockBytes = 0;
  #size = 0;
  /** Of the next byte in the file. */
  #at = 0;

  begin(size: number, blockBytes: number): void {
    assert(blocksOf(size, blockBytes) <= BLOCKS_MAX, 'a file has at most so many blocks');
    const bytes = listBytesOf(size, blockBytes);
    if (this.#list.length < bytes) this.#list = Buffer.allocUnsafeSlow(bytes);
    if (this.#blockBytes !== blockBytes) this.#zeroHash = null;
    this.#blockBytes = blockBytes;
    this.#size = size;
    this.#at = 0;
    this.#hasher.reset();
  }

  update(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const count = Math.min(bytes.length - at, this.#leftOfBlock());
      if (count === this.#blockBytes) {
        putHash(this.#list, this.#at / count, bytes.subarray(at, at + count));
        at += count;
        this.#at += count;
        assert(this.#at <= this.#size, 'no more bytes than the file has');
        continue;
      }
      this.#hasher.update(count === bytes.length ? bytes : bytes.subarray(at, at + count));
      at += count;
      this.#advance(count);
    }
  }

  /** A hole up to `offset`. */
  skipTo(offset: number): void {
    while (this.#at < offset) {
      const isWhole = this.#at % this.#blockBytes === 0 && this.#at + this.#blockBytes <= offset;
      if (isWhole) {
        this.#zeroHash ??= hashOfZeros(this.#blockBytes);
        this.#zeroHash.copy(this.#list, (this.#at / this.#blockBytes) * BLOCK_HASH_BYTES);
        this.#at += this.#blockBytes;
        continue;
      }
      const end = Math.min(offset, this.#at + Math.min(this.#leftOfBlock(), ZEROS.length));
      this.update(ZEROS.subarray(0, end - this.#at));
    }
  }

  /** The list; valid until the next `begin`. */
  finish(): Buffer {
    assert(this.#at === this.#size, 'all bytes of the file came by');
    return this.#list.subarray(0, listBytesOf(this.#size, this.#blockBytes));
  }

  #leftOfBlock(): number {
    return this.#blockBytes - (this.#at % this.#blockBytes);
  }

  #advance(count: number): void {
    const index = Math.floor(this.#at / this.#blockBytes);
    this.#at += count;
    assert(this.#at <= this.#size, 'no more bytes than the file has');
    if (this.#at % this.#blockBytes !== 0 && this.#at !== this.#size) return;
    putValue(this.#list, index, this.#hasher);
    this.#hasher.reset();
  }
}

/**
 * `bytes` at `offset` of a `blocks.bin`; null if they are not there or not those of `blake3`: whoever
 * wants them does without.
 */
export function readBlockList(
  path: string,
  offset: number,
  bytes: number,
  digest: string,
): Buffer | null {
  if (bytes > BLOCK_LIST_BYTES_MAX) return null;
  let fd = -1;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const list = Buffer.allocUnsafeSlow(bytes);
    for (let at = 0; at < bytes; ) {
      const read = readSync(fd, list, at, bytes - at, offset + at);
      if (read === 0) return null;
      at += read;
    }
    return blake3(list).toString('hex') === digest ? list : null;
  } catch (e) {
    if (!isCoded(e)) throw e;
    return null;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Writes the lists of one medium; the file is there from the first one on. */
export class BlocksWriter {
  readonly #path: string | null;
  #fd = -1;
  /** Received so far. */
  #bytes = 0;
  /** Lists that no line has named yet, in the order of their coming. */
  readonly #waiting: { offset: number; bytes: number; blake3: string }[] = [];

  /** @param path null where there must be none: an encrypted set tells nothing of its data */
  constructor(path: string | null) {
    this.#path = path;
  }

  /**
   * Takes the payload of the BLOCKS frame that `frames` stands at: one list.
   * @throws EPROTO if there are to be none; ENOSPC, EIO
   */
  receive(frames: FrameReader): void {
    if (this.#path === null) {
      throw stpError('EPROTO', 'the client sent block hashes for a set that is encrypted');
    }
    if (this.#fd < 0) this.#fd = openSync(this.#path, CREATE, 0o600);
    const hasher = new Blake3Hasher();
    const bytes = frames.owed;
    frames.toFile(this.#fd, hasher);
    this.#waiting.push({ offset: this.#bytes, bytes, blake3: hasher.digest('hex') });
    this.#bytes += bytes;
  }

  /** False if the next list is not the one of a file of `size` bytes that `list` says. */
  claim(list: BlockList, size: number): boolean {
    const next = this.#waiting.shift();
    return (
      next?.offset === list.offset &&
      next.bytes === listBytesOf(size, list.blockBytes) &&
      next.blake3 === list.blake3
    );
  }

  /** Lists that no line named. */
  get unclaimed(): number {
    return this.#waiting.length;
  }

  /** Puts it on the disk. */
  finish(): void {
    if (this.#fd >= 0) fsyncSync(this.#fd);
    this.close();
  }

  /** Harmless when done twice. */
  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

/** Where the lists of a medium are written; null for a set that is encrypted. */
export const blocksPath = (directory: string, medium: number, plan: MediaPlan): string | null =>
  (plan.recipients?.length ?? 0) > 0 ? null : join(directory, blocksFile(medium));
