/**
 * Bech32 (BIP 173) without its limit of 90 characters, as age writes its keys. Any thread.
 */
const ALPHABET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const CHECKSUM_DIGITS = 6;
const GENERATORS = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];

function checksum(prefix: string, digits: readonly number[]): number {
  const codes = [...prefix].map((c) => c.charCodeAt(0));
  let sum = 1;
  for (const value of [...codes.map((c) => c >> 5), 0, ...codes.map((c) => c & 31), ...digits]) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    GENERATORS.forEach((generator, i) => {
      if ((top >>> i) & 1) sum ^= generator;
    });
  }
  return sum;
}

/** Groups of `from` bits as groups of `to` bits; null if the rest is not zeros. */
function regroup(values: Iterable<number>, from: number, to: number, pad: boolean) {
  const out: number[] = [];
  let [held, bits] = [0, 0];
  for (const value of values) {
    held = (held << from) | value;
    bits += from;
    while (bits >= to) {
      bits -= to;
      out.push((held >>> bits) & ((1 << to) - 1));
    }
    held &= (1 << bits) - 1;
  }
  if (pad) {
    if (bits > 0) out.push((held << (to - bits)) & ((1 << to) - 1));
  } else if (bits >= from || held !== 0) return null;
  return out;
}

/** Lower case. */
export function bech32Encode(prefix: string, data: Uint8Array): string {
  const digits = regroup(data, 8, 5, true) as number[];
  const sum = checksum(prefix, [...digits, 0, 0, 0, 0, 0, 0]) ^ 1;
  for (let i = CHECKSUM_DIGITS - 1; i >= 0; i--) digits.push((sum >>> (5 * i)) & 31);
  return `${prefix}1${digits.map((digit) => ALPHABET[digit]).join('')}`;
}

/** Null if it is none; the prefix comes back in lower case. */
export function bech32Decode(text: string): { prefix: string; data: Buffer } | null {
  const lower = text.toLowerCase();
  if (text !== lower && text !== text.toUpperCase()) return null;
  const split = lower.lastIndexOf('1');
  if (split < 1) return null;
  const prefix = lower.slice(0, split);
  const digits = [...lower.slice(split + 1)].map((c) => ALPHABET.indexOf(c));
  if (digits.length < CHECKSUM_DIGITS || digits.includes(-1)) return null;
  if (checksum(prefix, digits) !== 1) return null;
  const data = regroup(digits.slice(0, -CHECKSUM_DIGITS), 5, 8, false);
  return data === null ? null : { prefix, data: Buffer.from(data) };
}
