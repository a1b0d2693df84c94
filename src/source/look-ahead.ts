/**
 * The entries of a directory in the order of the walk, looked at several at a time: a call of the
 * addon and an object each cost more than the kernel takes to look.
 *
 * What is seen so is at most `LOOK_MS_MAX` older than when the walk gets there: rows end behind a
 * directory and behind a large file, and those that have become old are looked at once more. What
 * changes meanwhile is noticed as what changes between look and open ever was.
 *
 * One walk has one, for all directories: it is empty whenever the walk goes down. Worker thread.
 */
import { native } from '../native.js';
import {
  makeRecord,
  ROW_ERRNO,
  ROW_NAME_AT,
  ROW_PATH_END,
  ROW_WORDS,
  type StatRecord,
} from './file-stat.js';
import { NAME_BYTES_MAX } from './names.js';

/** Small files take a twentieth of a millisecond each. */
const ROWS = 32;
/** A file is replaced in this time as rarely as between two calls of the kernel. */
const LOOK_MS_MAX = 2;
/** Reading so much takes about as long as a row of small files. */
const LARGE_BYTES = 256 << 10;
/** Paths are made one behind the other in memory that they share; a new one each time is dear. */
const PATHS_BYTES = 64 << 10;

/** What JSON has as it is. */
const PLAIN_TEXT = /^[ !#-[\]-~]+$/;

/** What is looked at. */
export interface Listed {
  readonly fd: number;
  /** Of stored paths. */
  readonly prefix: Buffer;
  /** As of the addon's `listNames`. */
  readonly names: Buffer;
  /** Where in them the next one begins. */
  at: number;
}

export class LookAhead {
  readonly record: StatRecord = makeRecord(ROWS * ROW_WORDS);
  #rows = 0;
  #row = 0;
  #lookedMs = 0;
  #paths = Buffer.alloc(0);
  /** Where the path of the next row begins. */
  #pathsAt = 0;
  /** Of the entry that `next` found: the word where its record begins, ... */
  word = 0;
  /** ... where in the names of the directory its own does, ... */
  nameAt = 0;
  /** ... and its path. */
  path = this.#paths;
  /** Every byte of the path is a character that JSON has as it is; the same for all rows. */
  isPlain = false;

  /** False at the end of the directory. */
  next(of: Listed): boolean {
    if (!this.#hasRow() && !this.#look(of)) return false;
    this.word = this.#row * ROW_WORDS;
    this.#row++;
    const { numbers } = this.record;
    const [start, end] = [this.#pathsAt, numbers[this.word + ROW_PATH_END] as number];
    this.path = this.#paths.subarray(start, end);
    this.#pathsAt = end;
    this.nameAt = numbers[this.word + ROW_NAME_AT] as number;
    of.at = this.nameAt + this.path.length - of.prefix.length + 1;
    return true;
  }

  /** 0, or why there is no record of this entry. */
  get errno(): number {
    return this.record.numbers[this.word + ROW_ERRNO] as number;
  }

  /** Another walk, or another root. */
  reset(): void {
    this.#rows = 0;
    this.#row = 0;
  }

  #hasRow(): boolean {
    return this.#row < this.#rows && performance.now() - this.#lookedMs < LOOK_MS_MAX;
  }

  #look(of: Listed): boolean {
    const { fd, prefix, names, at } = of;
    this.reset();
    if (at === names.length) return false;
    if (this.#paths.length - this.#pathsAt < prefix.length + NAME_BYTES_MAX) {
      const bytes = Math.max(PATHS_BYTES, prefix.length + NAME_BYTES_MAX);
      this.#paths = Buffer.allocUnsafeSlow(bytes);
      this.#pathsAt = 0;
    }
    this.#lookedMs = performance.now();
    const { words, numbers } = this.record;
    const room = [prefix, this.#paths, this.#pathsAt, LARGE_BYTES, words] as const;
    this.#rows = native().lookAt(fd, names, at, ...room);
    const end = numbers[(this.#rows - 1) * ROW_WORDS + ROW_PATH_END] as number;
    this.isPlain = PLAIN_TEXT.test(this.#paths.toString('latin1', this.#pathsAt, end));
    return true;
  }
}
