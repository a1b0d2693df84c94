/**
 * What the list of a set (tree-index.ts) has of a large file, behind path and link of its record:
 * where its block hashes are, and on what its data stands.
 *
 *   offset  bytes
 *   0       4   bytes of a block
 *   4       2   levels that follow: 0, or 2 and more
 *   6       2   set of the hashes: place in the chain
 *   8       2   their medium
 *   10      2   1: there are hashes; zeros up to 16
 *   16      8   offset in the file of that medium (f64)
 *   24      32  BLAKE3 of the hashes
 *   56          levels, 40 bytes each, the oldest first
 *
 * The first level is the file as it was stored in full, each next one has the blocks that changed
 * since, and the last one is the file as it is. A level:
 *
 *   0, 2    2   set, medium
 *   4       2   flags: 1 it has holes
 *   6       2   zeros
 *   8       8   where its data begins in the medium (f64)
 *   16      8   bytes there: stored, or those of the members with its blocks (f64)
 *   24      8   bytes of the file at that level (f64)
 *   32      8   bytes of its map, which comes first (f64): 0 for a full one
 *
 * Any thread.
 */
import type { BlockListPlace } from './blocks.js';

/** Deltas of one file upon one another; the next time it is stored in full. */
export const LEVELS_MAX = 33;
const HEAD_BYTES = 56;
const LEVEL_BYTES = 40;
/** The longest that a record gets through it. */
export const EXTRA_BYTES_MAX = HEAD_BYTES + LEVELS_MAX * LEVEL_BYTES;
const SPARSE = 1;

export interface Level {
  /** Place in the chain. */
  readonly set: number;
  readonly medium: number;
  readonly offset: number;
  readonly bytes: number;
  /** Of the whole file. */
  readonly size: number;
  readonly sparse: boolean;
  readonly mapBytes: number;
}

export interface Extra {
  /** Of the list and of all levels. */
  readonly blockBytes: number;
  readonly list: BlockListPlace | null;
  readonly levels: readonly Level[];
}

export const NO_EXTRA: Extra = { blockBytes: 0, list: null, levels: [] };

export function encodeExtra({ blockBytes, list, levels }: Extra): Buffer {
  if (list === null && levels.length === 0) return Buffer.alloc(0);
  const extra = Buffer.alloc(HEAD_BYTES + levels.length * LEVEL_BYTES);
  extra.writeUInt32LE(blockBytes, 0);
  extra.writeUInt16LE(levels.length, 4);
  if (list !== null) {
    extra.writeUInt16LE(list.set, 6);
    extra.writeUInt16LE(list.medium, 8);
    extra.writeUInt16LE(1, 10);
    extra.writeDoubleLE(list.offset, 16);
    extra.write(list.blake3, 24, 'hex');
  }
  levels.forEach((level, i) => {
    const at = HEAD_BYTES + i * LEVEL_BYTES;
    extra.writeUInt16LE(level.set, at);
    extra.writeUInt16LE(level.medium, at + 2);
    extra.writeUInt16LE(level.sparse ? SPARSE : 0, at + 4);
    extra.writeDoubleLE(level.offset, at + 8);
    extra.writeDoubleLE(level.bytes, at + 16);
    extra.writeDoubleLE(level.size, at + 24);
    extra.writeDoubleLE(level.mapBytes, at + 32);
  });
  return extra;
}

/** True if a record may have so many bytes behind path and link that begin so. */
export const isExtra = (bytes: number, levels: number): boolean =>
  bytes === 0 ||
  (levels !== 1 && levels <= LEVELS_MAX && bytes === HEAD_BYTES + levels * LEVEL_BYTES);

/** @param extra for which `isExtra` is true */
export function decodeExtra(extra: Buffer): Extra {
  if (extra.length === 0) return NO_EXTRA;
  const blockBytes = extra.readUInt32LE(0);
  const list =
    extra.readUInt16LE(10) === 0
      ? null
      : {
          blockBytes,
          set: extra.readUInt16LE(6),
          medium: extra.readUInt16LE(8),
          offset: extra.readDoubleLE(16),
          blake3: extra.toString('hex', 24, 56),
        };
  const levels: Level[] = [];
  for (let at = HEAD_BYTES; at < extra.length; at += LEVEL_BYTES) {
    levels.push({
      set: extra.readUInt16LE(at),
      medium: extra.readUInt16LE(at + 2),
      sparse: (extra.readUInt16LE(at + 4) & SPARSE) !== 0,
      offset: extra.readDoubleLE(at + 8),
      bytes: extra.readDoubleLE(at + 16),
      size: extra.readDoubleLE(at + 24),
      mapBytes: extra.readDoubleLE(at + 32),
    });
  }
  return { blockBytes, list, levels };
}
