/**
 * The key file of a pair of hosts: 32 random bytes in hexadecimal, one line, readable by its owner
 * only. Both ends hold the same file; whoever holds it is the peer. Any thread.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { isCoded, messageOf } from '../errors.js';
import { ConfigurationError } from './config-error.js';
import { KEY_BYTES } from './limits.js';

/** Makes a new key file with mode 0600. Never replaces a file. */
export function makeKeyFile(file: string): void {
  let fd: number;
  try {
    fd = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (e) {
    if (isCoded(e) && e.code === 'EEXIST') {
      throw new ConfigurationError(
        `${file} exists and is left as it is; remove it first, or name another file`,
      );
    }
    throw new ConfigurationError(`cannot make the key file ${file}: ${messageOf(e)}`);
  }
  try {
    writeSync(fd, `${randomBytes(KEY_BYTES).toString('hex')}\n`);
  } finally {
    closeSync(fd);
  }
}

/** Reads a key file; refuses one that others may read. */
export function readKeyFile(file: string): Buffer {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (e) {
    const cure = isCoded(e) && e.code === 'ENOENT' ? '; make one: stpbackup key new FILE' : '';
    throw new ConfigurationError(`cannot read the key file ${file}: ${messageOf(e)}${cure}`);
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile()) throw new ConfigurationError(`the key file ${file} is not a file`);
    const mode = status.mode & 0o777;
    if ((mode & 0o077) !== 0) {
      throw new ConfigurationError(
        `the key file ${file} has mode ${mode.toString(8).padStart(4, '0')}: others may read it; ` +
          `chmod 0600 ${file}, and make a new key if it was read`,
      );
    }
    const text = readFileSync(fd, 'latin1').trim();
    if (!/^[0-9a-fA-F]+$/.test(text) || text.length !== KEY_BYTES * 2) {
      throw new ConfigurationError(
        `the key file ${file} must hold ${KEY_BYTES * 2} hexadecimal digits and nothing else`,
      );
    }
    return Buffer.from(text, 'hex');
  } finally {
    closeSync(fd);
  }
}
