/**
 * One file out of a set. Nothing is passed on before all of it has its digest. Blocks; any thread.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { stpError } from '../errors.js';
import { displayPath } from '../source/names.js';
import { SparseMapParser } from '../source/sparse.js';
import type { StoredSet } from './library.js';
import type { ManifestEntry } from './manifest.js';
import { type ByteSink, MediaCursor } from './media-cursor.js';
import { type DataPlace, OpenMedia } from './open-media.js';
import { TAR_BLOCK_BYTES } from './pax.js';
import { treeOf, verifyTree } from './set-tree.js';
import { MemberError } from './tar-member.js';

/** A hard link stands for its first name, which stands for the data. */
function findFile(chain: readonly StoredSet[], path: Buffer): DataPlace {
  const links = new Map<string, DataPlace>();
  for (const { entry, dataSet, dataMedium, dataOffset, extra } of treeOf(chain)) {
    const found = { entry, dataSet, dataMedium, dataOffset, extra };
    if (entry.path.equals(path)) {
      const first = entry.link?.toString('latin1');
      return entry.type === 'hardlink' ? (links.get(first as string) ?? found) : found;
    }
    if (entry.type === 'file') links.set(entry.path.toString('latin1'), found);
  }
  const { id } = chain.at(-1) as StoredSet;
  throw stpError('ENOENT', `/${displayPath(path)} is not in set ${id}; list it with ls`);
}

function assertFile(entry: ManifestEntry, asked: Buffer): void {
  if (entry.type === 'file') return;
  const shown = `/${displayPath(asked)}`;
  if (entry.type === 'directory') throw stpError('EISDIR', `${shown} is a directory`);
  const link = entry.link === null ? '' : ` to ${displayPath(entry.link)}`;
  throw stpError('EINVAL', `${shown} is a ${entry.type}${link}, and no file with data`);
}

const ZEROS = new Uint8Array(1 << 20);

function putZeros(bytes: number, to: ByteSink): void {
  for (let left = bytes; left > 0; left -= ZEROS.length) {
    to.update(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
  }
}

/** Passes a sparse file on, its holes as zeros. False if its map is none, or not that of the data. */
function passSparse(cursor: MediaCursor, entry: ManifestEntry, digest: ByteSink, to: ByteSink) {
  const map = new SparseMapParser();
  let left = entry.stored;
  while (!map.isComplete) {
    if (left < TAR_BLOCK_BYTES) return false;
    const block = cursor.take(TAR_BLOCK_BYTES);
    left -= TAR_BLOCK_BYTES;
    digest.update(block);
    if (map.add(block, entry.size) !== null) return false;
  }
  if (map.segments.reduce((sum, { bytes }) => sum + bytes, 0) !== left) return false;
  let at = 0;
  for (const { offset, bytes } of map.segments) {
    putZeros(offset - at, to);
    cursor.pass(bytes, both(digest, to));
    at = offset + bytes;
  }
  putZeros(entry.size - at, to);
  return true;
}

const both = (a: ByteSink, b: ByteSink): ByteSink => ({
  update(bytes) {
    a.update(bytes);
    b.update(bytes);
  },
});

/**
 * @param chain all that the set needs, itself last: `openChain`
 * @param path as stored
 * @throws ENOENT, EISDIR, EINVAL (no file); EBADMSG if manifest or data are damaged: nothing was
 * passed on, unless the disk gave other bytes the second time
 */
export function readFileOf(chain: readonly StoredSet[], path: Buffer, to: ByteSink): void {
  verifyTree(chain);
  const found = findFile(chain, path);
  const { entry, dataSet } = found;
  assertFile(entry, path);
  const open = new OpenMedia(chain);
  try {
    const isWhole = (sink: ByteSink): boolean => {
      const { media, offset } = open.dataOf(found);
      const cursor = new MediaCursor(media, null);
      cursor.skip(offset);
      const digest = new Blake3Hasher();
      if (!entry.sparse) cursor.pass(entry.stored, both(digest, sink));
      else if (!passSparse(cursor, entry, digest, sink)) return false;
      return digest.digest('hex') === entry.blake3;
    };
    const damaged = `/${displayPath(path)} of set ${dataSet.id} is damaged: its data is not what was backed up`;
    if (!isWhole({ update() {} })) throw stpError('EBADMSG', damaged);
    if (!isWhole(to)) throw stpError('EBADMSG', damaged);
  } catch (e) {
    if (!(e instanceof MemberError)) throw e;
    throw stpError(
      'EBADMSG',
      `/${displayPath(path)} of set ${dataSet.id} is damaged: ${e.message}`,
    );
  } finally {
    open.close();
  }
}
