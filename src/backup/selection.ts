/**
 * Paths that people give, as a set has them. Worker threads and event loop.
 */

const SLASH = 0x2f;
const ALL = Buffer.from('.');

/** `/etc/ssl/` as a manifest has it: `etc/ssl`. */
export function storedPath(given: Buffer): Buffer {
  let start = 0;
  let end = given.length;
  while (start < end && given[start] === SLASH) start++;
  while (end > start && given[end - 1] === SLASH) end--;
  return start === end ? ALL : given.subarray(start, end);
}
