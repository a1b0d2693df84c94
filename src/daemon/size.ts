/** Amounts of memory as people write and read them. Powers of two only. Pure; any thread. */
import { shown } from './shown.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;
const FORM = /^([0-9]+) ?(B|KiB|MiB|GiB|TiB)?$/;

/** A number of bytes, or digits with an optional B, KiB, MiB, GiB or TiB. */
export function parseSize(value: unknown): { bytes: number } | { problem: string } {
  const rule = 'use whole bytes, or a whole number with KiB, MiB, GiB or TiB, such as 16MiB';
  const text = typeof value === 'string' || typeof value === 'number' ? String(value) : '';
  const match = FORM.exec(text);
  if (match === null) {
    return { problem: `${shown(value)} is not a size: ${rule}` };
  }
  const [, digits, unit] = match;
  const bytes = Number(digits) * 1024 ** UNITS.indexOf((unit ?? 'B') as (typeof UNITS)[number]);
  if (!Number.isSafeInteger(bytes)) {
    return { problem: `${shown(value)} is not a size: it is beyond any memory` };
  }
  return { bytes };
}

/** Exact: the largest unit of which `bytes` is a whole number, in the form `parseSize` takes. */
export function formatSize(bytes: number): string {
  let amount = bytes;
  let unit = 0;
  while (amount >= 1024 && amount % 1024 === 0 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${amount}${UNITS[unit]}`;
}

/** For people: whole, or rounded to a few digits, such as `1.50 GiB`. */
export function humanSize(bytes: number): string {
  let amount = bytes;
  let unit = 0;
  // 1023.97 would print as 1024.0: it belongs to the next unit.
  while (amount >= 1023.95 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  const digits = Number.isInteger(amount) ? String(amount) : amount.toFixed(amount < 10 ? 2 : 1);
  return `${digits} ${UNITS[unit]}`;
}
