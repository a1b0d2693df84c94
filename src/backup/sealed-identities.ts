/**
 * Identities of age on their way from a client to the server, for one restore of a database.
 *
 *   base64( salt | AES-256-GCM of their texts, one a line | tag )
 *
 * All hosts of an STG may read what passes through it, and whoever has an identity opens every set.
 * So they are sealed with a key that follows from that of the pair and a salt that is used once.
 * Valid if and only if the tag is right; the name of the host is authenticated with it. Any thread.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { stpError } from '../errors.js';

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const SALT_BYTES = 32;
const TAG_BYTES = 16;
/** Each salt gives a key of its own. */
const ZERO_NONCE = Buffer.alloc(12);
const INFO = 'stpbackup identities';

const keyOf = (pairKey: Buffer, salt: Buffer): Buffer =>
  Buffer.from(hkdfSync('sha256', pairKey, salt, INFO, KEY_BYTES));

/** @param host name of the client, as the server knows it */
export function sealIdentities(pairKey: Buffer, host: string, texts: readonly string[]): string {
  const salt = randomBytes(SALT_BYTES);
  const cipher = createCipheriv(CIPHER, keyOf(pairKey, salt), ZERO_NONCE);
  cipher.setAAD(Buffer.from(host));
  const body = Buffer.concat([cipher.update(texts.join('\n')), cipher.final()]);
  return Buffer.concat([salt, body, cipher.getAuthTag()]).toString('base64');
}

/** @throws EACCES if it was not sealed by that host with that key */
export function openIdentities(pairKey: Buffer, host: string, sealed: string): string[] {
  const bytes = Buffer.from(sealed, 'base64');
  const end = bytes.length - TAG_BYTES;
  try {
    const salt = bytes.subarray(0, SALT_BYTES);
    const decipher = createDecipheriv(CIPHER, keyOf(pairKey, salt), ZERO_NONCE, {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(host));
    decipher.setAuthTag(bytes.subarray(end));
    const body = bytes.subarray(SALT_BYTES, end);
    return Buffer.concat([decipher.update(body), decipher.final()])
      .toString()
      .split('\n');
  } catch {
    throw stpError('EACCES', `the identities of client ${host} are not sealed with its key`);
  }
}
