/**
 * The end of media that a set has taken over: each is cut behind its last good member, what counts no
 * more becomes a comment of tar, two blocks of zeros end it, and it gets its digest.
 *
 * Only at the commit, when all lines are on the disk: who is killed on the way leaves media that the
 * same lines describe. Blocks; the thread of the set writer.
 */
import { closeSync, constants, fsyncSync, ftruncateSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../assert.js';
import { PlainFile } from './bytes.js';
import { type KeptMedium, keptItems } from './kept-lines.js';
import type { FurtherMedium } from './manifest.js';
import { mediumFile } from './media.js';
import { digestOfMedia } from './media-digest.js';
import { TAR_END_BYTES, writeVoid } from './pax.js';
import { writeAll } from './write-all.js';

const WRITE = constants.O_WRONLY | constants.O_NOFOLLOW;

/**
 * @param manifest path of the lines, all of them
 * @param hasVoids false: none of them is of a void
 */
export function endKeptMedia(
  directory: string,
  manifest: string,
  media: readonly KeptMedium[],
  hasVoids: boolean,
): FurtherMedium[] {
  const fds = media.map((_, medium) => openSync(join(directory, mediumFile(medium)), WRITE));
  const changed = new Set<number>();
  try {
    for (const [medium, { bytes }] of media.entries()) {
      const fd = fds[medium] as number;
      ftruncateSync(fd, bytes);
      writeAll(fd, new Uint8Array(TAR_END_BYTES), TAR_END_BYTES, bytes);
    }
    if (hasVoids) writeVoids(manifest, fds, changed);
    for (const fd of fds) fsyncSync(fd);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
  return media.map(({ bytes, xxh3 }, medium) => ({
    bytes: bytes + TAR_END_BYTES,
    xxh3: xxh3 === null || changed.has(medium) ? digestOf(directory, medium) : xxh3,
  }));
}

function writeVoids(manifest: string, fds: readonly number[], changed: Set<number>): void {
  for (const { record } of keptItems(manifest, () => {})) {
    if (record.kind !== 'void') continue;
    const { medium, headerOffset, bytes } = record;
    const fd = fds[medium];
    assert(fd !== undefined, 'a void is in a medium that was taken over');
    changed.add(medium);
    writeVoid(bytes, (data, at) => writeAll(fd, data, data.length, headerOffset + at));
  }
}

function digestOf(directory: string, medium: number): string {
  const media = new PlainFile(join(directory, mediumFile(medium)));
  try {
    return digestOfMedia(media);
  } finally {
    media.close();
  }
}
