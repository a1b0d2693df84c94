/**
 * The digest of a medium (media.ts), from its bytes as they are read again. Blocks; any thread.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { isCoded } from '../errors.js';
import { isLargeData } from './manifest.js';
import type { MediaReader } from './media.js';
import { type ByteSink, MediaCursor } from './media-cursor.js';
import { paddedBytes, TAR_BLOCK_BYTES } from './pax.js';
import { MemberError, readMember, voidBytes } from './tar-member.js';
import { Xxh3Hasher } from './xxh3.js';

/** Passes the next bytes on; returns their BLAKE3 in hex. @throws EINVAL at the end; EIO */
export function digestOfNext(cursor: MediaCursor, bytes: number, to?: ByteSink): string {
  const hasher = new Blake3Hasher();
  cursor.pass(bytes, {
    update: (piece) => {
      hasher.update(piece);
      to?.update(piece);
    },
  });
  return hasher.digest('hex');
}

/** A walk through a medium that leaves its digest behind. */
export class DigestingCursor extends MediaCursor {
  readonly #digest: Xxh3Hasher;

  /** @param media the caller closes it */
  constructor(media: MediaReader) {
    const digest = new Xxh3Hasher();
    super(media, digest);
    this.#digest = digest;
  }

  /**
   * Passes the data of one file on.
   * @param isLarge it counts by its BLAKE3
   * @returns that, in hex
   * @throws EINVAL at the end; EIO
   */
  passData(bytes: number, isLarge: boolean, to?: ByteSink): string {
    this.isAside = isLarge;
    let blake3: string;
    try {
      blake3 = digestOfNext(this, bytes, to);
    } finally {
      this.isAside = false;
    }
    if (isLarge) this.#digest.update(Buffer.from(blake3, 'hex'));
    return blake3;
  }

  /** Bytes that stand nowhere yet. */
  add(bytes: Uint8Array): void {
    this.#digest.update(bytes);
  }

  /** Of all that has passed, 16 hex digits. */
  get text(): string {
    return this.#digest.text();
  }
}

/**
 * Of a whole medium, by the headers that are in it. Behind one that is damaged each byte counts, and
 * the digest is another than that of the medium as it was. @throws EIO, ...
 */
export function digestOfMedia(media: MediaReader): string {
  const cursor = new DigestingCursor(media);
  try {
    while (passMember(cursor));
  } catch (e) {
    if (!(e instanceof MemberError) && !(isCoded(e) && e.code === 'EINVAL')) throw e;
  }
  cursor.skip(media.bytes - cursor.offset);
  return cursor.text;
}

/** False at the end of the archive. */
function passMember(cursor: DigestingCursor): boolean {
  const first = Buffer.from(cursor.take(TAR_BLOCK_BYTES));
  const hidden = voidBytes(first);
  if (hidden !== null) {
    cursor.skip(hidden - TAR_BLOCK_BYTES);
    return true;
  }
  let block: Buffer | null = first;
  const member = readMember((bytes) => {
    const taken = block ?? cursor.take(bytes);
    block = null;
    return taken;
  });
  if (member === null) return false;
  if (isLargeData(member.path, member.size)) {
    cursor.passData(member.size, true);
    cursor.skip(paddedBytes(member.size) - member.size);
  } else cursor.skip(paddedBytes(member.size));
  return true;
}
