/**
 * Extended attributes of an entry, and how POSIX ACLs among them read as text.
 *
 * The kernel keeps ACLs as `system.posix_acl_access` and `..._default`, in a binary form; the
 * manifest has these bytes, the media the text that tars expect. Any thread; no state.
 */

/** A name of any bytes but NUL, such as `user.note` or `security.capability`. */
export interface Xattr {
  readonly name: Buffer;
  readonly value: Buffer;
}

/**
 * Names and values of one entry together: twice the kernel's bound of one value, and base64 of it
 * fits a manifest line. An entry with more is stored without them, with a warning.
 */
export const XATTRS_BYTES_MAX = 128 * 1024;
/** Attributes of one entry: as many of the shortest names as the kernel's list of 64 KiB holds. */
export const XATTRS_MAX = 16384;
/** XATTR_NAME_MAX of the kernel. */
export const XATTR_NAME_BYTES_MAX = 255;

export const ACL_ACCESS = 'system.posix_acl_access';
export const ACL_DEFAULT = 'system.posix_acl_default';

/** Pairs, in the order of their names: the same attributes give the same bytes on every run. */
export function xattrsOf(pairs: readonly Buffer[] | null): Xattr[] | null {
  if (pairs === null) return null;
  const found: Xattr[] = [];
  for (let i = 0; i + 1 < pairs.length; i += 2) {
    found.push({ name: pairs[i] as Buffer, value: pairs[i + 1] as Buffer });
  }
  return found.sort((a, b) => Buffer.compare(a.name, b.name));
}

const ACL_VERSION = 2;
const ACL_HEADER_BYTES = 4;
const ACL_ENTRY_BYTES = 8;
/** Stands where an entry has no id. */
const ACL_NO_ID = 2 ** 32 - 1;
/** linux/posix_acl.h */
const tags: Readonly<Record<number, { name: string; hasId: boolean }>> = {
  1: { name: 'user', hasId: false },
  2: { name: 'user', hasId: true },
  4: { name: 'group', hasId: false },
  8: { name: 'group', hasId: true },
  16: { name: 'mask', hasId: false },
  32: { name: 'other', hasId: false },
};

/** `user::rw-,user:1000:r--,...` with numbers for names; null if the bytes are no ACL. */
export function aclText(value: Buffer): string | null {
  const bytes = value.length - ACL_HEADER_BYTES;
  if (bytes < 0 || bytes % ACL_ENTRY_BYTES !== 0) return null;
  if (value.readUInt32LE(0) !== ACL_VERSION) return null;
  const lines: string[] = [];
  for (let at = ACL_HEADER_BYTES; at < value.length; at += ACL_ENTRY_BYTES) {
    const tag = tags[value.readUInt16LE(at)];
    if (tag === undefined) return null;
    const bits = value.readUInt16LE(at + 2);
    const letters = `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${bits & 1 ? 'x' : '-'}`;
    lines.push(`${tag.name}:${tag.hasId ? value.readUInt32LE(at + 4) : ''}:${letters}`);
  }
  return lines.join(',');
}

const ACL_LINE = /^(user|group|mask|other):(\d{0,10}):([r-])([w-])([x-])$/;

/** The bytes that `aclText` reads so; null if the text is not one of its own. */
export function aclBytes(text: string): Buffer | null {
  const lines = text === '' ? [] : text.split(',');
  const value = Buffer.alloc(ACL_HEADER_BYTES + lines.length * ACL_ENTRY_BYTES);
  value.writeUInt32LE(ACL_VERSION, 0);
  let at = ACL_HEADER_BYTES;
  for (const line of lines) {
    const parts = ACL_LINE.exec(line);
    if (parts === null) return null;
    const [, name, id = '', r, w, x] = parts;
    const hasId = id !== '';
    const tag = Object.entries(tags).find(([, t]) => t.name === name && t.hasId === hasId);
    if (tag === undefined || Number(id) > ACL_NO_ID) return null;
    const bits = (r === 'r' ? 4 : 0) | (w === 'w' ? 2 : 0) | (x === 'x' ? 1 : 0);
    value.writeUInt16LE(Number(tag[0]), at);
    value.writeUInt16LE(bits, at + 2);
    value.writeUInt32LE(hasId ? Number(id) : ACL_NO_ID, at + 4);
    at += ACL_ENTRY_BYTES;
  }
  return value;
}
