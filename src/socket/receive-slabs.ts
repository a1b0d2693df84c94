/**
 * Where reads of event loops go: slabs that all sockets of the thread carve.
 *
 * Fresh memory for each read would cost a page fault every 4 KiB. A slab comes back when V8 has
 * collected whatever was carved from it; a chunk that is kept keeps its slab.
 *
 * Invariant: bytes that were handed out are never written again while anybody can still see them.
 */
import { Buffer } from 'node:buffer';
import { markAsUntransferable } from 'node:worker_threads';
import { native } from '../native.js';

/** Slabs of 1 MiB taken between two collections of young objects, about: what is out is not cached. */
const COLLECT_EVERY = 20;
/** A number of 64 KiB, which V8 still makes among the young objects: it clears it and no more. */
const FILLER_BITS = 8n * 65536n - 1n;
const FILLER_BYTES = 65536;
/** Bytes for each slab taken. V8's new space has 1 to 16 MiB. */
const FILL_MIN = 16384;
const FILL_MAX = 1048576;
/** Where the thread's pool has none left; V8 allocates, and collects the sooner for it. */
const FALLBACK_BYTES = 262144;
/** Shorter reads go into small slabs, as large as Node's own pool: a kept message keeps little. */
const SHORT_BYTES = 4096;
const BRIEF_BYTES = 8192;
/** A small slab with less room than this is left for a new one. */
const BRIEF_ROOM_MIN = 256;
/** Bytes read at once into one buffer, at most. */
const READ_BYTES_MAX = 262144;
/** A slab with less room than this is left for a new one. */
const ROOM_BYTES_MIN = 65536;
/** Slabs that nobody uses go back to the system when no slab was needed for so long. */
const TRIM_MS = 5000;

let taken = 0;
let fill = 131072;
/** Seen from here, so that the compiler does not leave them out. */
const filling: { last: bigint | undefined } = { last: undefined };
let slab = Buffer.alloc(0);
let at = 0;
let brief = Buffer.alloc(0);
let briefMemory: ArrayBufferLike = brief.buffer;
let briefAt = 0;
/** Where the latest read has gone to. */
let isBrief = false;
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

/** Young objects that nobody sees, so that V8 has a reason to look what is still seen. */
function fillNewSpace(): void {
  const back = native().slabsBack();
  taken++;
  if (back > 0 || taken > COLLECT_EVERY * 2) {
    fill = Math.min(Math.max(fill * Math.min(taken / COLLECT_EVERY, 2), FILL_MIN), FILL_MAX);
    taken = 0;
  }
  for (let left = fill; left > 0; left -= FILLER_BYTES) filling.last = 1n << FILLER_BITS;
  filling.last = undefined;
}

function nextSlab(): Buffer<ArrayBuffer> {
  fillNewSpace();
  const pooled = native().slabTake();
  const slab = pooled === undefined ? Buffer.allocUnsafeSlow(FALLBACK_BYTES) : Buffer.from(pooled);
  /* As Node's own pool: else a chunk that is posted to a thread would take its neighbours along. */
  markAsUntransferable(slab.buffer);
  return slab;
}

/** Buffer's own constructor, without the ways round of `subarray` and `from`. */
const View = (
  Buffer as unknown as {
    [Symbol.species]: new (memory: ArrayBufferLike, offset: number, bytes: number) => Buffer;
  }
)[Symbol.species];

function renew(room: number): void {
  if (slab.length - at < ROOM_BYTES_MIN) {
    slab = nextSlab();
    at = 0;
    takenSinceTrim = true;
    trimTimer ??= setInterval(trimIdle, TRIM_MS).unref();
  }
  if (brief.length - briefAt < room) {
    brief = Buffer.allocUnsafeSlow(BRIEF_BYTES);
    briefMemory = brief.buffer;
    markAsUntransferable(briefMemory);
    briefAt = 0;
  }
  native().receivePlaces(slab, brief);
}

/**
 * `ringTake` to here: twice the bytes, and 1 more if it is armed; else a negative state. What was read
 * is got by `takeReceived`, before anything else is received.
 */
export function receive(ring: number): number {
  /* One that somebody has detached has no length. */
  if (slab.length - at < ROOM_BYTES_MIN || brief.length - briefAt < BRIEF_ROOM_MIN) {
    renew(BRIEF_ROOM_MIN);
  }
  const taken = native().ringReceive(ring, at, briefAt, READ_BYTES_MAX);
  if (taken < 0) return taken;
  isBrief = (taken & 2) !== 0;
  return ((taken >> 2) << 1) | (taken & 1);
}

/** The `bytes` just read, the caller's own from now on. */
export function takeReceived(bytes: number): Buffer {
  if (isBrief) return takeBrief(bytes);
  if (bytes < SHORT_BYTES) {
    renew(bytes); /* it did not fit */
    slab.copy(brief, briefAt, at, at + bytes);
    return takeBrief(bytes);
  }
  const chunk = slab.subarray(at, at + bytes);
  at += bytes;
  return chunk;
}

function takeBrief(bytes: number): Buffer {
  const chunk = new View(briefMemory, briefAt, bytes);
  briefAt += (bytes + 7) & ~7;
  return chunk;
}
