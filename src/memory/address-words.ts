/**
 * A network address as four 32-bit words, most significant first: IPv6, or IPv4 as ::ffff:a.b.c.d.
 * So it fits into a command and a connection's header, and is shown without believing any text of
 * a host. No state; any thread.
 */
import { isIP } from 'node:net';

export type AddressWords = readonly [number, number, number, number];

const NONE: AddressWords = [0, 0, 0, 0];
const MAPPED = 0xffff;

const ipv4 = (text: string): number =>
  text.split('.').reduce((word, byte) => word * 256 + Number(byte), 0);

/** All zero for what is no address; a zone (fe80::1%eth0) is left out. */
export function addressWords(text: string): AddressWords {
  const address = text.split('%')[0] as string;
  const version = isIP(address);
  if (version === 0) return NONE;
  if (version === 4) return [0, 0, MAPPED, ipv4(address)];
  /* An IPv4 tail is two groups more. */
  const tail = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  const groupsOf = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const low = tail === null ? undefined : ipv4(tail[2] as string);
  const plain =
    tail === null || low === undefined
      ? address
      : `${tail[1]}${(low >>> 16).toString(16)}:${(low & 0xffff).toString(16)}`;
  const [left = '', right = ''] = plain.split('::');
  const head = groupsOf(left);
  const rest = groupsOf(right);
  const groups = [...head, ...new Array(8 - head.length - rest.length).fill(0), ...rest];
  const word = (i: number): number => groups[i * 2] * 65536 + groups[i * 2 + 1];
  return [word(0), word(1), word(2), word(3)];
}

/** The address of four words as people write it (RFC 5952); null if it is all zero. */
export function addressText(words: readonly number[]): string | null {
  const [a = 0, b = 0, c = 0, d = 0] = words;
  if (a === 0 && b === 0 && c === 0 && d === 0) return null;
  if (a === 0 && b === 0 && c === MAPPED) {
    return [d >>> 24, (d >>> 16) & 255, (d >>> 8) & 255, d & 255].join('.');
  }
  const groups = [a, b, c, d].flatMap((w) => [(w >>> 16) & 0xffff, w & 0xffff]);
  /* The longest run of zero groups, two at least, the first of equals, is written as "::". */
  let best = { at: 0, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.length < 2) return hex.join(':');
  const after = best.at + best.length;
  return `${hex.slice(0, best.at).join(':')}::${hex.slice(after).join(':')}`;
}
