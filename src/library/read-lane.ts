/**
 * A lane of a backup, the thread that reads: files that the walk gives away go into a stream and a
 * medium of their own; see spread.ts. A file that changes while it is read is read again from the
 * same descriptor: it is the file that the walk met, whatever has its name by now.
 *
 * Worker thread: all of it blocks.
 */
import { refreshEntry, type TreeEntry, type TreeWarning } from '../source/file-tree.js';
import { encodeTotals, FRAME_END } from './frames.js';
import type { KnownFile } from './send-delta.js';
import { isLastRead, MemberSender } from './send-member.js';
import type { LaneJob, LaneResult } from './spread.js';

/** Over a channel between threads bytes arrive without being Buffers. */
const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const received = (entry: TreeEntry): TreeEntry => ({
  ...entry,
  path: bufferOf(entry.path),
  name: bufferOf(entry.name),
});

export class ReadLane extends MemberSender {
  #lines = '';
  #entries = 0;
  #bytes = 0;
  #warnings: TreeWarning[] = [];

  /** @throws what the stream throws */
  do(job: LaneJob): LaneResult {
    const entry = received(job.entry);
    if (job.kind === 'file') this.#file(entry, job.fd, job.known);
    else {
      const xattrs = job.xattrs?.map(({ name, value }) => ({
        name: bufferOf(name),
        value: bufferOf(value),
      }));
      this.sendAgain(entry, xattrs ?? null);
    }
    const result = {
      lines: this.#lines,
      entries: this.#entries,
      bytes: this.#bytes,
      warnings: this.#warnings,
    };
    this.#lines = '';
    this.#entries = 0;
    this.#bytes = 0;
    this.#warnings = [];
    return result;
  }

  #file(entry: TreeEntry, fd: number, known: KnownFile | null): void {
    const send = (isLast: boolean): boolean =>
      known === null ? this.sendFile(entry, fd, isLast) : this.sendDelta(entry, fd, isLast, known);
    for (let reads = 1; !send(isLastRead(reads, entry)); reads++) {
      refreshEntry(entry, fd);
    }
  }

  /** Ends the stream's frames: the receiver holds the length of its medium against this. */
  finish(): void {
    this.frames.frame(FRAME_END, encodeTotals(mediumTotals(this.mediaBytes)));
    this.frames.flush();
  }

  protected onLine(line: string, dataBytes: number, again: boolean): void {
    this.#lines += line;
    if (!again) this.#entries++;
    this.#bytes += dataBytes;
  }

  protected onWarning(warning: TreeWarning): void {
    this.#warnings.push(warning);
  }
}

/** What the END frame of a stream says that carries a medium and no lines. */
export const mediumTotals = (bytes: number) => ({ entries: 0, bytes, warnings: 0 });
