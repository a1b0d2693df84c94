/**
 * One file of known size becomes a set of one member, the client's side. Worker thread: it blocks.
 */
import { fstatSync } from 'node:fs';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { stpError } from '../errors.js';
import {
  encodeTotals,
  FRAME_END,
  FRAME_ENTRY,
  FrameWriter,
  type PageSink,
  type Totals,
} from './frames.js';
import { encodeEntry, encodeScan } from './manifest.js';
import { paddedBytes, TarHeaderWriter } from './pax.js';
import { plainFacts } from './stream-set.js';

const SLICE_BYTES = 8 << 20;

/** What of the member is not its data. */
export type FileFacts = Partial<Omit<ReturnType<typeof plainFacts>, 'path' | 'size' | 'type'>>;

/**
 * Sends all of `fd`, which nobody else writes, then END, and flushes; the caller shuts the stream
 * down.
 * @param progress kept up to date for another thread: [entries, bytes of data]
 * @throws FileReadError; EINVAL if the file became shorter; what the stream throws
 */
export function sendFile(
  sink: PageSink,
  fd: number,
  path: string,
  facts: FileFacts,
  progress: Float64Array,
): Totals {
  const frames = new FrameWriter(sink);
  const hasher = new Blake3Hasher();
  const headers = new TarHeaderWriter();
  const { size } = fstatSync(fd);
  const member = { ...plainFacts(path, size), ...facts };
  // Nothing is compared with the times of a copy: its pages have digests.
  frames.frame(FRAME_ENTRY, Buffer.from(encodeScan(0n)));
  const headerBytes = headers.write(member);
  frames.beginMedia(headerBytes + paddedBytes(size));
  frames.put(headers.buffer, 0, headerBytes);
  for (let at = 0; at < size; ) {
    const asked = Math.min(size - at, SLICE_BYTES);
    const moved = frames.putFile(fd, at, asked, hasher);
    if (moved < asked) throw stpError('EINVAL', `the copy for ${path} became shorter`);
    at += moved;
    progress[1] = at;
  }
  frames.putZeros(paddedBytes(size) - size);
  const line = encodeEntry(member, 0, headerBytes, hasher.digest('hex'), false);
  frames.frame(FRAME_ENTRY, Buffer.from(line));
  const totals = { entries: 1, bytes: size, warnings: 0 };
  frames.frame(FRAME_END, encodeTotals(totals));
  frames.flush();
  progress[0] = 1;
  return totals;
}
