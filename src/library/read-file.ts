/**
 * One file out of a set. Nothing is passed on before all of it has its digest. Blocks; any thread.
 */
import { closeSync } from 'node:fs';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { stpError } from '../errors.js';
import { displayPath } from '../source/names.js';
import type { StoredSet } from './library.js';
import type { ManifestEntry } from './manifest.js';
import { type ByteSink, MediaCursor } from './media-cursor.js';

/** A hard link stands for its first name, which stands for the data. */
function findFile(set: StoredSet, path: Buffer): ManifestEntry {
  const links = new Map<string, ManifestEntry>();
  const manifest = set.manifest();
  try {
    for (const record of manifest) {
      if (record.kind !== 'entry') continue;
      if (record.path.equals(path)) {
        const first = record.link?.toString('latin1');
        return record.type === 'hardlink' ? (links.get(first as string) ?? record) : record;
      }
      if (record.type === 'file') links.set(record.path.toString('latin1'), record);
    }
  } finally {
    manifest.close();
  }
  throw stpError('ENOENT', `/${displayPath(path)} is not in set ${set.id}; list it with ls`);
}

function assertFile(entry: ManifestEntry, asked: Buffer): void {
  if (entry.type === 'file') return;
  const shown = `/${displayPath(asked)}`;
  if (entry.type === 'directory') throw stpError('EISDIR', `${shown} is a directory`);
  const link = entry.link === null ? '' : ` to ${displayPath(entry.link)}`;
  throw stpError('EINVAL', `${shown} is a ${entry.type}${link}, and no file with data`);
}

/**
 * @param path as stored
 * @throws ENOENT, EISDIR, EINVAL (no file); EBADMSG if manifest or data are damaged: nothing was
 * passed on, unless the disk gave other bytes the second time
 */
export function readFileOf(set: StoredSet, path: Buffer, to: ByteSink): void {
  set.verifyManifest();
  const entry = findFile(set, path);
  assertFile(entry, path);
  const fd = set.openMedia();
  try {
    const pass = (sink: ByteSink): string => {
      const cursor = new MediaCursor(fd, set.mediaPath, null);
      cursor.skip(entry.dataOffset);
      const digest = new Blake3Hasher();
      cursor.pass(entry.size, {
        update(bytes) {
          digest.update(bytes);
          sink.update(bytes);
        },
      });
      return digest.digest('hex');
    };
    const damaged = `/${displayPath(path)} of set ${set.id} is damaged: its data is not what was backed up`;
    if (pass({ update() {} }) !== entry.blake3) throw stpError('EBADMSG', damaged);
    if (pass(to) !== entry.blake3) throw stpError('EBADMSG', damaged);
  } finally {
    closeSync(fd);
  }
}
