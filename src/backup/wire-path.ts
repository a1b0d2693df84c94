/**
 * Paths as they travel: UTF-8 text where it is that, else the bytes as base64. Pure; movers load it
 * without what checks the rest of the protocol.
 */
export type WirePath = string | { readonly base64: string };

export const pathToBytes = (p: WirePath): Buffer =>
  typeof p === 'string' ? Buffer.from(p, 'utf8') : Buffer.from(p.base64, 'base64');

export function pathFromBytes(bytes: Uint8Array): WirePath {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const utf8 = buffer.toString('utf8');
  return Buffer.from(utf8, 'utf8').equals(buffer) ? utf8 : { base64: buffer.toString('base64') };
}

export const pathText = (p: WirePath): string =>
  typeof p === 'string' ? p : pathToBytes(p).toString('utf8');
