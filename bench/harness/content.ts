/**
 * What the benchmark sends, so that a receiver can tell that it got just that.
 *
 * A stream round is a row of blocks. A block is 256 KiB of messages, or one message if that is more.
 * The sender looks at its clock once a block; the first byte of a block says whether it is the last,
 * so that a round ends by the stream itself and no side needs the other's clock.
 *
 * Copied content: byte i of a message is (167 i + 13 (i >> 8)) mod 256, but for the first byte of a
 * block. Every 4093rd byte of the stream (a prime: all offsets within a message have their turn)
 * enters the digest d = 31 d + byte, modulo 2^32; a verifying round compares every byte as well.
 *
 * Filled content (zero copy): all bytes of block k are 1 + k mod 127, plus 128 in the last block; the
 * digest is the sum of all little-endian 64-bit words modulo 2^64.
 *
 * bench/native/memcpy_2p.c has the same numbers. Runs on any thread.
 */
import { Buffer } from 'node:buffer';

const BLOCK_BYTES = 256 * 1024;
const SAMPLE_BYTES = 4093;
const FIRST_BYTE = 0x4d;
const FIRST_BYTE_LAST = 0x4c;
const LAST_BLOCK_BIT = 0x80;
const WORD_OF_ONES = 0x0101010101010101n;

export const SIZE_BYTES_MIN = 64;
export const SIZE_BYTES_MAX = 2 ** 28;

/** Sizes are powers of two, so that blocks are whole messages and whole pages. */
export const isSize = (n: number): boolean =>
  Number.isInteger(Math.log2(n)) && n >= SIZE_BYTES_MIN && n <= SIZE_BYTES_MAX;

export const blockBytesOf = (size: number): number => Math.max(size, BLOCK_BYTES);

const contentByte = (i: number): number => (i * 167 + (i >> 8) * 13) & 0xff;

export interface Messages {
  readonly plain: Buffer;
  /** First message of a block after which more come. */
  readonly first: Buffer;
  /** First message of the last block. */
  readonly last: Buffer;
}

/** Larger messages are made anew for each round. */
const KEPT_BYTES_MAX = 4 << 20;
const kept = new Map<string, Messages>();
/** After so many bytes the content of a message comes again. */
const CONTENT_PERIOD_BYTES = 65536;

/**
 * Three buffers, never changed: a socket may still hold one while the next is written.
 * @param batch messages that lie in each buffer, one after another; a call sends them all
 */
export function messagesOf(size: number, batch = 1): Messages {
  const key = `${size} ${batch}`;
  const messages = kept.get(key) ?? makeMessages(size, batch);
  if (size * batch <= KEPT_BYTES_MAX) kept.set(key, messages);
  return messages;
}

function makeMessages(size: number, batch: number): Messages {
  const period = Buffer.alloc(Math.min(size, CONTENT_PERIOD_BYTES));
  for (let i = 0; i < period.length; i++) period[i] = contentByte(i);
  const startingWith = (byte: number): Buffer => {
    const message = Buffer.allocUnsafeSlow(size * batch).fill(period);
    message[0] = byte;
    return message;
  };
  const first = startingWith(FIRST_BYTE);
  /* Where a message is a block, none is plain. */
  const plain = size * batch >= BLOCK_BYTES ? first : startingWith(contentByte(0));
  return { plain, first, last: startingWith(FIRST_BYTE_LAST) };
}

/** The digest of a stream of `blocks` whole blocks of messages of `size` bytes. */
function digestOfCopied(size: number, blocks: number): string {
  const blockBytes = blockBytesOf(size);
  const total = blocks * blockBytes;
  let digest = 0;
  for (let p = 0; p < total; p += SAMPLE_BYTES) {
    let byte = contentByte(p % size);
    if (p % blockBytes === 0) byte = p + blockBytes === total ? FIRST_BYTE_LAST : FIRST_BYTE;
    digest = (Math.imul(digest, 31) + byte) >>> 0;
  }
  return digest.toString(16).padStart(8, '0');
}

/** Follows one round of copied content as it arrives, in pieces of any length. */
export class CopiedStream {
  bytes = 0;
  private readonly blockBytes: number;
  private readonly messages: Messages | undefined;
  private digestNow = 0;
  private nextSample = 0;
  private nextBlock = 0;
  private end = Number.POSITIVE_INFINITY;

  constructor(
    private readonly size: number,
    verify: boolean,
  ) {
    this.blockBytes = blockBytesOf(size);
    if (verify) this.messages = messagesOf(size);
  }

  /** @returns true when the last byte of the round has come. Throws on content that is not ours. */
  take(piece: Uint8Array): boolean {
    const start = this.bytes;
    const end = start + piece.length;
    while (this.nextBlock < end) this.startBlock(piece[this.nextBlock - start] as number);
    while (this.nextSample < end) {
      const byte = piece[this.nextSample - start] as number;
      this.digestNow = (Math.imul(this.digestNow, 31) + byte) >>> 0;
      this.nextSample += SAMPLE_BYTES;
    }
    if (end > this.end) throw new Error(`received ${end - this.end} bytes after the round's end`);
    if (this.messages !== undefined) this.compare(piece, this.messages);
    this.bytes = end;
    return end === this.end;
  }

  get digest(): string {
    return this.digestNow.toString(16).padStart(8, '0');
  }

  private startBlock(byte: number): void {
    if (byte === FIRST_BYTE_LAST) this.end = this.nextBlock + this.blockBytes;
    else if (byte !== FIRST_BYTE) throw new Error(`block at ${this.nextBlock} starts with ${byte}`);
    this.nextBlock += this.blockBytes;
  }

  private compare(piece: Uint8Array, { plain, first, last }: Messages): void {
    for (let done = 0; done < piece.length; ) {
      const at = (this.bytes + done) % this.size;
      const n = Math.min(piece.length - done, this.size - at);
      const messageStart = this.bytes + done - at;
      let wanted = plain;
      if (messageStart % this.blockBytes === 0) {
        wanted = messageStart + this.blockBytes === this.end ? last : first;
      }
      if (wanted.compare(piece, done, done + n, at, at + n) !== 0) {
        throw new Error(`wrong content within bytes ${messageStart + at} and ${n} on`);
      }
      done += n;
    }
  }
}

export const fillValue = (block: number, last: boolean): number =>
  1 + (block % 127) + (last ? LAST_BLOCK_BIT : 0);

const sumText = (sum: bigint): string => BigInt.asUintN(64, sum).toString(16).padStart(16, '0');

/** The digest of `blocks` whole blocks of filled content. */
function digestOfFilled(size: number, blocks: number): string {
  const words = BigInt(blockBytesOf(size) / 8);
  let sum = 0n;
  for (let k = 0; k < blocks; k++) {
    sum += words * BigInt(fillValue(k, k === blocks - 1)) * WORD_OF_ONES;
  }
  return sumText(sum);
}

/** Follows one round of filled content; the caller sums, in place and natively. */
export class FilledStream {
  bytes = 0;
  private readonly blockBytes: number;
  private sum = 0n;
  private blocks = 0;
  private end = Number.POSITIVE_INFINITY;

  constructor(
    size: number,
    private readonly verify: boolean,
  ) {
    this.blockBytes = blockBytesOf(size);
  }

  /** @returns true when the last byte of the round has come. `sum` is the sum of the piece's words. */
  take(piece: Uint8Array, sum: bigint): boolean {
    const end = this.bytes + piece.length;
    while (this.blocks * this.blockBytes < end) {
      const at = this.blocks * this.blockBytes;
      const byte = piece[at - this.bytes] as number;
      if (byte === fillValue(this.blocks, true)) this.end = at + this.blockBytes;
      else if (byte !== fillValue(this.blocks, false)) {
        throw new Error(`block at ${at} is filled with ${byte}`);
      }
      this.blocks += 1;
    }
    if (end > this.end) throw new Error(`received ${end - this.end} bytes after the round's end`);
    if (this.verify) this.compare(piece);
    this.sum = BigInt.asUintN(64, this.sum + sum);
    this.bytes = end;
    return end === this.end;
  }

  get digest(): string {
    return sumText(this.sum);
  }

  private compare(piece: Uint8Array): void {
    for (let i = 0; i < piece.length; i++) {
      const at = this.bytes + i;
      const block = Math.floor(at / this.blockBytes);
      if (piece[i] !== fillValue(block, (block + 1) * this.blockBytes === this.end)) {
        throw new Error(`wrong content at byte ${at}`);
      }
    }
  }
}

/** Numbered messages of a ping-pong: 32-bit number, one byte for "last", then content. */
export class NumberedMessage {
  readonly bytes: Buffer;

  constructor(size: number) {
    this.bytes = Buffer.from(messagesOf(size).plain);
  }

  set(number: number, last: boolean): Buffer {
    this.bytes.writeUInt32LE(number, 0);
    this.bytes[4] = last ? 1 : 0;
    return this.bytes;
  }
}

export const numberOf = (message: Uint8Array): number =>
  ((message[0] as number) |
    ((message[1] as number) << 8) |
    ((message[2] as number) << 16) |
    ((message[3] as number) << 24)) >>>
  0;

export const isLastMessage = (message: Uint8Array): boolean => message[4] === 1;

/** The digest of a ping-pong: the sum of the numbers that came. */
export const numbersText = (sum: number): string => sum.toString(16);

/** How the content of a stream is made. */
export type Content = 'copied' | 'filled';

/** What a side must have received in a stream of so many messages. */
export function streamDigest(content: Content, size: number, messages: number): string {
  const blocks = (messages * size) / blockBytesOf(size);
  return content === 'copied' ? digestOfCopied(size, blocks) : digestOfFilled(size, blocks);
}

/** The digest of messages numbered from 1 on. */
export const numberedDigest = (messages: number): string =>
  numbersText((messages * (messages + 1)) / 2);

/** Writes of the greedy connection of case `fairness`. */
export const GREEDY_BYTES = 65536;

/** What came over the greedy connection, and how many messages over all modest ones. */
export const fairnessDigest = (modest: number, greedyBytes: number): string =>
  `${streamDigest('copied', GREEDY_BYTES, greedyBytes / GREEDY_BYTES)}${numbersText(modest)}`;
