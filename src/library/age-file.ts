/**
 * Files in the format of age (age-encryption.org/v1), written front to back and read at any place.
 *
 *   age-encryption.org/v1\n
 *   -> ARG...\n BASE64...\n       a stanza for each recipient, and one with the label of the file
 *   --- BASE64\n                  HMAC-SHA256 of all before it, under a key of the file key
 *   16 bytes                      nonce; with the file key it makes the key of what follows
 *   chunks of 64 KiB, each with 16 bytes of Poly1305; the nonce of a chunk is its number (88 bits,
 *   big-endian) and one byte, 1 for the last
 *
 * The label is a stanza of a kind that no identity knows, which age passes over: who has the file can
 * read it without a key. What is read has passed its tag: a changed bit is EBADMSG, never data.
 * All of it is synchronous and holds one chunk. Any thread.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { stpError } from '../errors.js';
import { FILE_KEY_BYTES, type Identity, type Recipient, type Stanza } from './age-keys.js';
import { type ByteFile, readAll } from './bytes.js';

const VERSION_LINE = 'age-encryption.org/v1';
const NONCE_BYTES = 16;
const TAG_BYTES = 16;
const CHUNK_BYTES = 64 * 1024;
const SEALED_BYTES = CHUNK_BYTES + TAG_BYTES;
const KEY_BYTES = 32;
/** Columns of base64, and the bytes that they stand for. */
const LINE_CHARACTERS = 64;
const LINE_BYTES = 48;
/** More than any label and some hundred recipients need. */
const HEADER_BYTES_MAX = 64 * 1024;
const LABEL_STANZA = 'stpd-label';

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes).toString('base64').replace(/=+$/, '');
const derive = (key: Buffer, salt: Uint8Array, info: string): Buffer =>
  Buffer.from(hkdfSync('sha256', key, salt, info, KEY_BYTES));

function stanzaText({ args, body }: Stanza): string {
  let text = `-> ${args.join(' ')}\n`;
  const encoded = base64(body);
  for (let at = 0; at < encoded.length; at += LINE_CHARACTERS) {
    text += `${encoded.slice(at, at + LINE_CHARACTERS)}\n`;
  }
  // A body ends with a line that is not full.
  return body.length % LINE_BYTES === 0 ? `${text}\n` : text;
}

const macOf = (fileKey: Buffer, header: string): string =>
  base64(
    createHmac('sha256', derive(fileKey, Buffer.alloc(0), 'header'))
      .update(header)
      .digest(),
  );

const percent = (c: string): string =>
  [...Buffer.from(c)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
/** Words of a stanza are visible ASCII. */
const word = (key: string, value: string): string =>
  `${key}=${value.replace(/[^\x21-\x24\x26-\x7e]/gu, percent)}`;

/** Who may open a file, and what everybody may read of it. */
export interface Sealing {
  readonly recipients: readonly Recipient[];
  readonly label: Readonly<Record<string, string>>;
}

const labelStanza = (label: Sealing['label']): Stanza => ({
  args: [LABEL_STANZA, ...Object.entries(label).map(([key, value]) => word(key, value))],
  body: Buffer.alloc(0),
});

function headOf(stanzas: readonly Stanza[], fileKey: Buffer, nonce: Buffer): Buffer {
  const text = `${VERSION_LINE}\n${stanzas.map(stanzaText).join('')}---`;
  return Buffer.concat([Buffer.from(`${text} ${macOf(fileKey, text)}\n`, 'latin1'), nonce]);
}

function chunkNonce(number: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(number, 5, 6);
  nonce[11] = isLast ? 1 : 0;
  return nonce;
}

/** Bytes of what is sealed in so many bytes of chunks; -1 if there are no such chunks. */
function plainBytes(sealed: number): number {
  const full = Math.floor(sealed / SEALED_BYTES);
  const rest = sealed - full * SEALED_BYTES;
  if (rest === 0) return full === 0 ? -1 : full * CHUNK_BYTES;
  if (rest < TAG_BYTES || (rest === TAG_BYTES && full > 0)) return -1;
  return full * CHUNK_BYTES + rest - TAG_BYTES;
}

/** What a file was sealed with, to write it once more as it was. */
export interface Reopened {
  /** Header and nonce. */
  readonly head: Buffer;
  readonly key: Buffer;
}

export class AgeWriter {
  readonly #put: (bytes: Uint8Array) => void;
  readonly #key: Buffer;
  readonly #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #filled = 0;
  #number = 0;
  /** Of header and nonce. */
  readonly headBytes: number;

  constructor(sealing: Sealing | Reopened, put: (bytes: Uint8Array) => void) {
    this.#put = put;
    const { head, key } = 'head' in sealing ? sealing : AgeWriter.#begin(sealing);
    this.#key = key;
    this.headBytes = head.length;
    put(head);
  }

  static #begin(sealing: Sealing): Reopened {
    const fileKey = randomBytes(FILE_KEY_BYTES);
    const stanzas = [
      labelStanza(sealing.label),
      ...sealing.recipients.map((recipient) => recipient.wrap(fileKey)),
    ];
    const nonce = randomBytes(NONCE_BYTES);
    return { head: headOf(stanzas, fileKey, nonce), key: derive(fileKey, nonce, 'payload') };
  }

  /** How much can be sealed in a file of `bytes` bytes. */
  capacity(bytes: number): number {
    const room = bytes - this.headBytes;
    const full = Math.floor(room / SEALED_BYTES);
    return full * CHUNK_BYTES + Math.max(0, room - full * SEALED_BYTES - TAG_BYTES);
  }

  write(data: Uint8Array): void {
    for (let at = 0; at < data.length; ) {
      // A full chunk waits for more: the last one is marked.
      if (this.#filled === CHUNK_BYTES) this.#seal(false);
      const count = Math.min(data.length - at, CHUNK_BYTES - this.#filled);
      this.#chunk.set(data.subarray(at, at + count), this.#filled);
      this.#filled += count;
      at += count;
    }
  }

  finish(): void {
    this.#seal(true);
  }

  #seal(isLast: boolean): void {
    const nonce = chunkNonce(this.#number, isLast);
    const options = { authTagLength: TAG_BYTES };
    const cipher = createCipheriv('chacha20-poly1305', this.#key, nonce, options);
    this.#put(cipher.update(this.#chunk.subarray(0, this.#filled)));
    cipher.final();
    this.#put(cipher.getAuthTag());
    this.#filled = 0;
    this.#number++;
  }
}

interface Header {
  readonly stanzas: readonly Stanza[];
  /** Up to and including `---`. */
  readonly text: string;
  readonly mac: string;
  readonly bytes: number;
}

/** Null if it does not begin as an age file. */
function parseHeader(head: Buffer): Header | null {
  const stanzas: { args: string[]; body: Buffer }[] = [];
  let at = 0;
  const line = (): string | null => {
    const end = head.indexOf(0x0a, at);
    if (end < 0) return null;
    const text = head.toString('latin1', at, end);
    at = end + 1;
    return text;
  };
  if (line() !== VERSION_LINE) return null;
  for (;;) {
    const start = at;
    const first = line();
    if (first?.startsWith('--- ')) {
      const text = head.toString('latin1', 0, start + 3);
      return { stanzas, text, mac: first.slice(4), bytes: at };
    }
    if (!first?.startsWith('-> ')) return null;
    let encoded = '';
    for (let next = line(); ; next = line()) {
      if (next === null || next.length > LINE_CHARACTERS) return null;
      encoded += next;
      if (next.length < LINE_CHARACTERS) break;
    }
    stanzas.push({ args: first.slice(3).split(' '), body: Buffer.from(encoded, 'base64') });
  }
}

/** What is sealed in an age file. */
export class AgeFile implements ByteFile {
  readonly name: string;
  readonly bytes: number;
  readonly #file: ByteFile;
  readonly #key: Buffer;
  readonly #fileKey: Buffer;
  readonly #header: Header;
  readonly #nonce = Buffer.alloc(NONCE_BYTES);
  /** Where the chunks begin. */
  readonly #start: number;
  readonly #isTrusting: boolean;
  readonly #sealed = Buffer.allocUnsafeSlow(SEALED_BYTES);
  #chunk: Buffer = Buffer.alloc(0);
  #number = -1;

  /**
   * @param file closed with this; also when it throws
   * @param isTrusting for repair alone: what does not pass its tag is given back all the same, as
   *   a changed bit changes one bit of it
   * @throws EACCES if none of the identities opens it, EBADMSG if its header is damaged
   */
  constructor(file: ByteFile, identities: readonly Identity[], isTrusting = false) {
    this.#file = file;
    this.#isTrusting = isTrusting;
    this.name = file.name;
    try {
      const head = Buffer.alloc(Math.min(file.bytes, HEADER_BYTES_MAX));
      readAll(file, head, 0);
      const header = parseHeader(head);
      if (header === null) throw this.#damaged('it does not begin as an age file');
      const fileKey = this.#open(header, identities);
      this.#fileKey = fileKey;
      this.#header = header;
      if (!isTrusting && macOf(fileKey, header.text) !== header.mac)
        throw this.#damaged('its header was changed');
      this.#start = header.bytes + NONCE_BYTES;
      this.bytes = plainBytes(file.bytes - this.#start);
      if (this.bytes < 0) throw this.#damaged('it was cut');
      readAll(file, this.#nonce, header.bytes);
      this.#key = derive(fileKey, this.#nonce, 'payload');
    } catch (e) {
      file.close();
      throw e;
    }
  }

  /** What may have been in front of the chunks: with that label, and with the one that is there. */
  reopened(label: Sealing['label']): Reopened[] {
    const others = this.#header.stanzas.filter(({ args }) => args[0] === 'X25519');
    return [[labelStanza(label), ...others], this.#header.stanzas].map((stanzas) => ({
      head: headOf(stanzas, this.#fileKey, this.#nonce),
      key: this.#key,
    }));
  }

  #damaged(why: string): Error {
    return stpError('EBADMSG', `${this.name} is damaged: ${why}`);
  }

  #open({ stanzas }: Header, identities: readonly Identity[]): Buffer {
    for (const identity of identities) {
      for (const stanza of stanzas) {
        const key = identity.unwrap(stanza);
        if (key !== null) return key;
      }
    }
    const why =
      identities.length === 0 ? 'and no identity was given' : 'and no identity given opens it';
    throw stpError(
      'EACCES',
      `${this.name} is encrypted, ${why}: --identity FILE, or media.identities of the server`,
    );
  }

  read(into: Uint8Array, at: number, bytes: number, offset: number): number {
    if (offset >= this.bytes) return 0;
    const number = Math.floor(offset / CHUNK_BYTES);
    if (number !== this.#number) this.#load(number);
    const from = offset - number * CHUNK_BYTES;
    const count = Math.min(bytes, this.#chunk.length - from);
    into.set(this.#chunk.subarray(from, from + count), at);
    return count;
  }

  #load(number: number): void {
    this.#number = -1;
    const isLast = (number + 1) * CHUNK_BYTES >= this.bytes;
    const length = Math.min(CHUNK_BYTES, this.bytes - number * CHUNK_BYTES);
    const sealed = this.#sealed.subarray(0, length + TAG_BYTES);
    readAll(this.#file, sealed, this.#start + number * SEALED_BYTES);
    const nonce = chunkNonce(number, isLast);
    const options = { authTagLength: TAG_BYTES };
    const cipher = createDecipheriv('chacha20-poly1305', this.#key, nonce, options);
    cipher.setAuthTag(sealed.subarray(length));
    const chunk = cipher.update(sealed.subarray(0, length));
    try {
      cipher.final();
    } catch {
      if (!this.#isTrusting)
        throw this.#damaged(`what is sealed at ${number * CHUNK_BYTES} of it was changed`);
    }
    this.#chunk = chunk;
    this.#number = number;
  }

  close(): void {
    this.#file.close();
  }
}
