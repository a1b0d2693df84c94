/**
 * Keys of age (age-encryption.org/v1), X25519 only: recipients `age1...` that files are sealed for,
 * and identities `AGE-SECRET-KEY-1...` that open them. Any thread.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { stpError } from '../errors.js';
import { bech32Decode, bech32Encode } from './bech32.js';

const KEY_BYTES = 32;
export const FILE_KEY_BYTES = 16;
const TAG_BYTES = 16;
const RECIPIENT_PREFIX = 'age';
const IDENTITY_PREFIX = 'age-secret-key-';
const WRAP_INFO = 'age-encryption.org/v1/X25519';
const STANZA = 'X25519';
/** Each wrap has a key of its own. */
const ZERO_NONCE = Buffer.alloc(12);
/** What stands before the 32 bytes in DER: OpenSSL takes no raw keys on every Node. */
const PUBLIC_DER = Buffer.from('302a300506032b656e032100', 'hex');
const PRIVATE_DER = Buffer.from('302e020100300506032b656e04220420', 'hex');
/** An identity file is a few lines. */
const IDENTITY_FILE_BYTES_MAX = 64 * 1024;

/** A part of an age header: who may open the file, or what else is to be said of it. */
export interface Stanza {
  readonly args: readonly string[];
  readonly body: Buffer;
}

const publicKey = (raw: Buffer): KeyObject =>
  createPublicKey({ key: Buffer.concat([PUBLIC_DER, raw]), format: 'der', type: 'spki' });
const privateKey = (raw: Buffer): KeyObject =>
  createPrivateKey({ key: Buffer.concat([PRIVATE_DER, raw]), format: 'der', type: 'pkcs8' });
const rawOf = (key: KeyObject): Buffer =>
  key.export({ format: 'der', type: 'spki' }).subarray(PUBLIC_DER.length);

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes).toString('base64').replace(/=+$/, '');

function wrapKey(secret: Buffer, share: Buffer, recipient: Buffer): Buffer {
  const salt = Buffer.concat([share, recipient]);
  return Buffer.from(hkdfSync('sha256', secret, salt, WRAP_INFO, KEY_BYTES));
}

export class Recipient {
  private constructor(
    readonly text: string,
    readonly raw: Buffer,
  ) {}

  /** @throws EINVAL if it is no X25519 recipient */
  static parse(text: string): Recipient {
    const found = bech32Decode(text);
    if (found?.prefix === RECIPIENT_PREFIX && found.data.length === KEY_BYTES) {
      return new Recipient(text, found.data);
    }
    throw stpError('EINVAL', `${text} is no recipient of age's kind age1..., 62 characters`);
  }

  static of(raw: Buffer): Recipient {
    return new Recipient(bech32Encode(RECIPIENT_PREFIX, raw), raw);
  }

  wrap(fileKey: Buffer): Stanza {
    const ephemeral = generateKeyPairSync('x25519');
    const share = rawOf(ephemeral.publicKey);
    const secret = diffieHellman({
      privateKey: ephemeral.privateKey,
      publicKey: publicKey(this.raw),
    });
    const key = wrapKey(secret, share, this.raw);
    const cipher = createCipheriv('chacha20-poly1305', key, ZERO_NONCE, {
      authTagLength: TAG_BYTES,
    });
    const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
    return { args: [STANZA, base64(share)], body };
  }
}

export class Identity {
  readonly recipient: Recipient;
  /** As it stands in an identity file; never to be logged. */
  readonly text: string;
  readonly #key: KeyObject;

  private constructor(raw: Buffer) {
    this.text = bech32Encode(IDENTITY_PREFIX, raw).toUpperCase();
    this.#key = privateKey(raw);
    this.recipient = Recipient.of(rawOf(createPublicKey(this.#key)));
  }

  /** @throws EINVAL; the message does not repeat what was given */
  static parse(text: string): Identity {
    const found = bech32Decode(text);
    if (found?.prefix === IDENTITY_PREFIX && found.data.length === KEY_BYTES) {
      return new Identity(found.data);
    }
    throw stpError('EINVAL', 'no identity of the kind AGE-SECRET-KEY-1...');
  }

  /** Null if the stanza is for somebody else. */
  unwrap({ args, body }: Stanza): Buffer | null {
    if (args[0] !== STANZA || args.length !== 2) return null;
    const share = Buffer.from(args[1] as string, 'base64');
    if (share.length !== KEY_BYTES || body.length !== FILE_KEY_BYTES + TAG_BYTES) return null;
    try {
      const secret = diffieHellman({ privateKey: this.#key, publicKey: publicKey(share) });
      const key = wrapKey(secret, share, this.recipient.raw);
      const cipher = createDecipheriv('chacha20-poly1305', key, ZERO_NONCE, {
        authTagLength: TAG_BYTES,
      });
      cipher.setAuthTag(body.subarray(FILE_KEY_BYTES));
      return Buffer.concat([cipher.update(body.subarray(0, FILE_KEY_BYTES)), cipher.final()]);
    } catch {
      return null;
    }
  }
}

/**
 * Makes a file with a new identity, mode 0600, in the form of age-keygen.
 * @returns its recipient @throws EEXIST, EACCES, ...
 */
export function makeIdentityFile(path: string): Recipient {
  const raw = randomBytes(KEY_BYTES);
  const { text, recipient } = Identity.parse(bech32Encode(IDENTITY_PREFIX, raw));
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL, 0o600);
  try {
    writeSync(fd, `# public key: ${recipient.text}\n${text}\n`);
  } finally {
    closeSync(fd);
  }
  return recipient;
}

/**
 * The identities of a file as age-keygen writes it.
 * @throws EINVAL if it has none, EACCES if others may read it; ENOENT, ...
 */
export function readIdentityFile(path: string): Identity[] {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    const { mode, size } = fstatSync(fd);
    if ((mode & 0o077) !== 0) {
      throw stpError('EACCES', `the identity file ${path} may be read by others; chmod 0600 it`);
    }
    if (size > IDENTITY_FILE_BYTES_MAX) throw stpError('EINVAL', `${path} is no identity file`);
    const lines = readFileSync(fd, 'latin1').split('\n');
    const found = lines.map((line) => line.trim()).filter((l) => l !== '' && !l.startsWith('#'));
    if (found.length === 0) throw stpError('EINVAL', `${path} has no identity in it`);
    return found.map((line) => {
      try {
        return Identity.parse(line);
      } catch {
        throw stpError('EINVAL', `${path} has a line that is no AGE-SECRET-KEY-1...`);
      }
    });
  } finally {
    closeSync(fd);
  }
}
