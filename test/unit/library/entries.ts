/** Entries made by hand, restored by a writer that was handed them directly. */
import { writeSync } from 'node:fs';
import { blake3 } from '@napi-rs/blake-hash';
import { BLAKE3_EMPTY, type ManifestEntry } from '../../../src/library/manifest.js';
import {
  type RestoreNative,
  type RestoreOptions,
  type RestoreProblem,
  type RestoreReport,
  RestoreWriter,
} from '../../../src/library/restore.js';
import { testNative } from './stand-ins.js';

export type Change = Partial<Omit<ManifestEntry, 'path' | 'link'>> & {
  path: string;
  link?: string;
};

export const entryOf = ({ path, link, ...change }: Change): ManifestEntry => ({
  kind: 'entry',
  type: 'file',
  mode: 0o644,
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
  size: 0,
  mtimeNs: 1_700_000_000_123_456_789n,
  ctimeNs: 0n,
  ino: 0n,
  dev: 0n,
  major: 0,
  minor: 0,
  headerOffset: 0,
  dataOffset: 512,
  blake3: BLAKE3_EMPTY,
  changed: false,
  stored: change.size ?? 0,
  sparse: false,
  xattrs: null,
  superseded: false,
  sameData: false,
  medium: 0,
  again: false,
  delta: null,
  blocks: null,
  ...change,
  path: Buffer.from(path),
  link: link === undefined ? null : Buffer.from(link),
});

/** A file of `size` times `d`, with its digest. */
export const dataFile = (path: string, size: number, more: Partial<Change> = {}): Change => ({
  size,
  blake3: blake3(Buffer.alloc(size, 'd')).toString('hex'),
  ...more,
  path,
});

export interface Restored {
  readonly problems: RestoreProblem[];
  readonly report: RestoreReport;
}

/** Restores entries that a writer was handed directly; data is `d` over and over. */
export function restore(
  target: string,
  changes: Change[],
  native: RestoreNative = testNative,
  more: Partial<RestoreOptions> = {},
): Restored {
  const problems: RestoreProblem[] = [];
  const onProblem = (p: RestoreProblem): void => void problems.push(p);
  const writer = new RestoreWriter(target, { native, onProblem, ...more });
  try {
    for (const change of changes) {
      writer.entry(entryOf(change), (fd, bytes) => {
        const data = Buffer.alloc(bytes, 'd');
        if (fd >= 0) writeSync(fd, data);
        return blake3(data).toString('hex');
      });
    }
    return { problems, report: writer.finish() };
  } finally {
    writer.close();
  }
}
