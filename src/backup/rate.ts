/** Rates as people write them: `100M` is 100 MiB a second. Any thread. */

/** What RATE_PATTERN has room for. */
export const RATE_MAX = 999_999_999_999_999;

/** A whole number, with K, M or G for powers of 1024; `MiB` says the same as `M`. */
export const RATE_PATTERN = /^(?:([1-9][0-9]{0,5})([KMG])(?:iB)?|([1-9][0-9]{0,14}))$/;

export const RATE_RULE =
  'must be bytes a second: a whole number from 1, or one with K, M or G for powers of 1024: "100M"';

const powers: Readonly<Record<string, number>> = { K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/** Bytes a second; null if it is none. */
export function parseRate(given: string | number): number | null {
  const found = RATE_PATTERN.exec(String(given));
  if (found === null) return null;
  const [, count, unit = '', plain] = found;
  return plain === undefined ? Number(count) * (powers[unit] as number) : Number(plain);
}
