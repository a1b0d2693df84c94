/** Bytes to a file. Blocks; any thread. */
import { writeSync } from 'node:fs';

/** write(2) until all is written; it may write less when a disk fills up. */
export function writeAll(
  fd: number,
  data: Uint8Array,
  bytes = data.length,
  position: number | null = null,
): void {
  for (let at = 0; at < bytes; ) {
    at += writeSync(fd, data, at, bytes - at, position === null ? null : position + at);
  }
}
