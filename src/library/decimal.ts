/**
 * Decimal digits as bytes, for what is written once for each file: a string of them costs its making,
 * its joining and its collection. Whole numbers from 0 to 2^53. Any thread.
 */
const ZERO = 0x30;
const BILLION = 1_000_000_000;

export function digitsOf(value: number): number {
  let digits = 1;
  for (let end = 10; value >= end; end *= 10) digits++;
  return digits;
}

/** Just `digits` of them, with zeros in front; the number is below a billion. @returns where they end */
export function putDigits(into: Uint8Array, at: number, digits: number, value: number): number {
  let rest = value | 0;
  for (let i = at + digits - 1; i >= at; i--) {
    const tenth = (rest / 10) | 0;
    into[i] = ZERO + (rest - tenth * 10);
    rest = tenth;
  }
  return at + digits;
}

/** Without zeros in front. @returns where they end */
export function putDecimal(into: Uint8Array, at: number, value: number): number {
  if (value < BILLION) return putDigits(into, at, digitsOf(value), value);
  const high = Math.floor(value / BILLION);
  return putDigits(into, putDecimal(into, at, high), 9, value - high * BILLION);
}

/** Few bytes: a call for so many costs more than the loop. @returns where they end */
export function putBytes(into: Uint8Array, at: number, bytes: Uint8Array): number {
  const { length } = bytes;
  for (let i = 0; i < length; i++) into[at + i] = bytes[i] as number;
  return at + length;
}
