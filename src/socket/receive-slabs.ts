/**
 * Where reads of event loops go: slabs that all sockets of the thread carve.
 *
 * Fresh memory for each read would cost a page fault every 4 KiB. A slab comes back when V8 has
 * collected whatever was carved from it; a chunk that is kept keeps its slab.
 *
 * Invariant: bytes that were handed out are never written again while anybody can still see them.
 */
import { native } from '../native.js';

/** Where the thread's pool has none left; V8 allocates, and collects the sooner for it. */
const FALLBACK_BYTES = 262144;
/** Shorter reads are copied into Node's own pool, so that a kept message keeps little. */
const SHORT_BYTES = 4096;
/** A slab with less room than this is left for a new one. */
const ROOM_BYTES_MIN = 65536;
/** Slabs that nobody uses go back to the system when no slab was needed for so long. */
const TRIM_MS = 1000;

let slab = Buffer.alloc(0);
let at = 0;
let takenSinceTrim = false;
let trimTimer: NodeJS.Timeout | undefined;

function trimIdle(): void {
  if (!takenSinceTrim) {
    native().slabTrim();
    clearInterval(trimTimer);
    trimTimer = undefined;
  }
  takenSinceTrim = false;
}

/** Room of at least 64 KiB: read into it from `receiveAt()` on, then `takeReceived`. */
export function receiveRoom(): Buffer {
  if (slab.length - at < ROOM_BYTES_MIN) {
    /* V8 looks at what young buffers hold, and collects, only when it allocates one itself. */
    new ArrayBuffer(1);
    const pooled = native().slabTake();
    slab = pooled === undefined ? Buffer.allocUnsafeSlow(FALLBACK_BYTES) : Buffer.from(pooled);
    at = 0;
    takenSinceTrim = true;
    trimTimer ??= setInterval(trimIdle, TRIM_MS).unref();
  }
  return slab;
}

export const receiveAt = (): number => at;

/** The `bytes` just read, the caller's own from now on. */
export function takeReceived(bytes: number): Buffer {
  if (bytes < SHORT_BYTES) {
    const short = Buffer.allocUnsafe(bytes);
    slab.copy(short, 0, at, at + bytes);
    return short;
  }
  const chunk = slab.subarray(at, at + bytes);
  at += bytes;
  return chunk;
}
