/**
 * Times of 64 bits taken apart into numbers. A file has two of them in several forms, and BigInt
 * divides and prints in a third of a microsecond each time: as long as the kernel takes to stat it.
 * Each user has its own; any thread.
 */
const BILLION = 1_000_000_000;
const LAST = 2n ** 63n - 1n;

export class SplitTime {
  /** Whole seconds since 1970. */
  seconds = 0;
  /** 0 to 999,999,999. */
  nanos = 0;
  readonly #word = new BigInt64Array(1);
  /** The same eight bytes: on every machine that this runs on, the low half comes first. */
  readonly #halves = new Uint32Array(this.#word.buffer);

  /** @returns false, with nothing set, for a time before 1970 or of more than 64 bits */
  set(ns: bigint): boolean {
    if (ns < 0n || ns > LAST) return false;
    this.#word[0] = ns;
    const low = this.#halves[0] as number;
    // Long division by digits of 16 bits: each step stays far below 2^53.
    const high = this.#halves[1] as number;
    const first = Math.floor(high / BILLION);
    const second = (high - first * BILLION) * 65536 + (low >>> 16);
    const secondDigit = Math.floor(second / BILLION);
    const third = (second - secondDigit * BILLION) * 65536 + (low & 0xffff);
    const thirdDigit = Math.floor(third / BILLION);
    this.seconds = (first * 65536 + secondDigit) * 65536 + thirdDigit;
    this.nanos = third - thirdDigit * BILLION;
    return true;
  }

  /** Nine digits. */
  get fraction(): string {
    return String(BILLION + this.nanos).slice(1);
  }
}

const split = new SplitTime();
let lastTime = -1n;
let lastText = '-1';

/** In decimal; the same again costs nothing, as mtime and ctime often are. */
export function nanosecondsText(ns: bigint): string {
  if (ns === lastTime) return lastText;
  if (!split.set(ns)) return String(ns);
  const { seconds, nanos } = split;
  lastTime = ns;
  lastText = seconds === 0 ? String(nanos) : `${seconds}${split.fraction}`;
  return lastText;
}
