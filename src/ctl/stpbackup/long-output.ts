/**
 * Output that may be longer than memory: written at once, as fast as its reader takes it.
 *
 * Not `process.stdout`, which would keep all of it. Main thread; blocks.
 */
import { writeSync } from 'node:fs';
import { isCoded } from '../../errors.js';

const GATHER_BYTES = 65536;
/** A pipe that is full and does not block is tried again after this. */
const RETRY_MS = 2;
const STDOUT = 1;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** The reader has gone, as `| head` does: nobody is told. */
export class ReaderGone extends Error {
  override readonly name = 'ReaderGone';
}

/** @throws ReaderGone; ENOSPC, EIO */
export function writeOut(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(STDOUT, bytes, at);
    } catch (e) {
      if (!isCoded(e)) throw e;
      if (e.code === 'EPIPE') throw new ReaderGone();
      if (e.code !== 'EAGAIN') throw e;
      Atomics.wait(sleeper, 0, 0, RETRY_MS);
    }
  }
}

export class LongOutput {
  #gathered: string[] = [];
  #characters = 0;

  put(text: string): void {
    this.#gathered.push(text);
    this.#characters += text.length;
    if (this.#characters >= GATHER_BYTES) this.flush();
  }

  flush(): void {
    const text = this.#gathered.join('');
    this.#gathered = [];
    this.#characters = 0;
    writeOut(Buffer.from(text));
  }
}

/** Runs what writes; a reader that went away ends it quietly, as it ends `cat` and `ls`. */
export function untilReaderGone(work: () => void): void {
  try {
    work();
  } catch (e) {
    if (!(e instanceof ReaderGone)) throw e;
  }
}
