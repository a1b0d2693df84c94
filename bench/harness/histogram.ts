/**
 * Latencies in nanoseconds, three significant digits, from 1 ns to 100 s.
 */
import { createRequire } from 'node:module';
import type { Histogram } from 'hdr-histogram-js';

// A CommonJS package whose namespace object carries `__esModule`: required, so that the names are
// the same on every Node.
const hdr = createRequire(import.meta.url)('hdr-histogram-js') as typeof import('hdr-histogram-js');

export type { Histogram } from 'hdr-histogram-js';

export const makeHistogram = (): Histogram =>
  hdr.build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: 100e9,
    numberOfSignificantValueDigits: 3,
    bitBucketSize: 32,
    useWebAssembly: false,
  });

/** For a pipe between two processes. */
export const encodeHistogram = (h: Histogram): string => hdr.encodeIntoCompressedBase64(h);

export const decodeHistogram = (text: string): Histogram =>
  hdr.decodeFromCompressedBase64(text, 32, false);

/** From (nanoseconds, count) pairs. */
export function histogramOfCounts(counts: readonly (readonly [number, number])[]): Histogram {
  const h = makeHistogram();
  for (const [ns, count] of counts) h.recordValueWithCount(Math.max(1, ns), count);
  return h;
}

/** Microseconds at a percentile of 0 to 100. */
export const microsecondsAt = (h: Histogram, percentile: number): number =>
  h.getValueAtPercentile(percentile) / 1000;
