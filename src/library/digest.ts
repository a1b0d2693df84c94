/** BLAKE3 of whole files, by read(2) in slices. Blocks; any thread. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { Blake3Hasher } from '@napi-rs/blake-hash';

const SLICE_BYTES = 1 << 20;

export interface FileDigest {
  readonly bytes: number;
  /** Lower-case hex. */
  readonly blake3: string;
}

/**
 * @param onBytes called with the bytes read so far
 * @throws ENOENT, EACCES, EIO; ELOOP if it is a symlink
 */
export function digestOfFile(path: string, onBytes?: (bytes: number) => void): FileDigest {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const slice = Buffer.allocUnsafeSlow(SLICE_BYTES);
    const hasher = new Blake3Hasher();
    let bytes = 0;
    for (;;) {
      const moved = readSync(fd, slice, 0, SLICE_BYTES, bytes);
      if (moved === 0) return { bytes, blake3: hasher.digest('hex') };
      hasher.update(slice.subarray(0, moved));
      bytes += moved;
      onBytes?.(bytes);
    }
  } finally {
    closeSync(fd);
  }
}
