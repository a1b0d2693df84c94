/**
 * Order statistics of a few values. Pure.
 */

/**
 * The value below which a share of the sorted values lies, between two values by proportion.
 * @param share 0 to 1
 */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError('quantile of no values');
  if (!(share >= 0 && share <= 1)) throw new RangeError(`quantile ${share} is not within 0 to 1`);
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)] as number;
  const high = sorted[Math.ceil(at)] as number;
  return low + (high - low) * (at - Math.floor(at));
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

export interface Spread {
  readonly min: number;
  readonly q1: number;
  readonly median: number;
  readonly q3: number;
  readonly max: number;
}

export const spreadOf = (values: readonly number[]): Spread => ({
  min: quantile(values, 0),
  q1: quantile(values, 0.25),
  median: quantile(values, 0.5),
  q3: quantile(values, 0.75),
  max: quantile(values, 1),
});
