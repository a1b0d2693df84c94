/**
 * The messages of the handshake: length, kind and contents of each, and the one validator of each.
 *
 * A message is a 32-bit big-endian length and that many bytes. Valid if and only if its length is
 * one that its step allows; nothing is read past it. All numbers are big-endian.
 *
 *   step 90    magic 8, version u16, session id 16
 *   step 100   descriptor u32, token 16, as step 122 sent them
 *   step 122   0 u8, descriptor u32, token 16          or   1 u8, reason UTF-8
 *   step 138   length of the STG identifier u32; 0: none, the data goes over the network
 *              identifier UTF-8, session id 16
 *   step 170   0 u8, port u32, token 16                or   1 u8, reason UTF-8
 *              a port of the STG, or of TCP where there is none
 *   step 196   magic 8, version u16, dynamic port u32, token 16, name of the host UTF-8
 *   step 226   0 u8, dynamic port u32, token 16 as 196 sent them   or   1 u8, reason UTF-8
 *   step 236   as step 138, with the token of 196 for the session id
 *   step 210   as step 170
 *
 * The first bytes of a data connection have no length: token 16, role u8.
 * Event loop only.
 */
import { timingSafeEqual } from 'node:crypto';
import type { STPConnect } from '../connect/stp-connect.js';
import { PORT_MAX, STG_NAME_PATTERN } from '../limits.js';
import { REASON_BYTES_MAX, SESSION_ID_BYTES, STG_ID_BYTES_MAX, TOKEN_BYTES } from './limits.js';
import { ABSENT_CODE } from './reason.js';

const MAGIC = Buffer.from('STPBKUP\0', 'latin1');
export const PROTOCOL_VERSION = 1;

const LENGTH_BYTES = 4;
const TCP_PORT_MAX = 65_535;
const HELLO_BYTES = MAGIC.length + 2 + SESSION_ID_BYTES;
const CALL_BYTES = MAGIC.length + 2 + 4 + TOKEN_BYTES;
const HOST_NAME_BYTES_MAX = 63;
const RETURN_BYTES = 4 + TOKEN_BYTES;
const ANSWER_BYTES_MAX = 1 + REASON_BYTES_MAX;
export const PREAMBLE_BYTES = TOKEN_BYTES + 1;

/** Role byte of a storage connection: the number of a data stream, or this for control. */
export const ROLE_CONTROL = 255;

/** The other side said no, or said something that this protocol does not know. */
export class HandshakeError extends Error {
  override readonly name = 'HandshakeError';

  /** @param isAbsence the other side's reason is that no stpd is there */
  constructor(
    message: string,
    readonly isAbsence = false,
  ) {
    super(message);
  }
}

/** Descriptor number and token: what 122 sends and 100 gives back. */
export interface DescriptorToken {
  readonly descriptor: number;
  readonly token: Buffer;
}

/** What 170 sends: where to connect through the storage system, and what to say first there. */
export interface StoragePort {
  readonly port: number;
  readonly token: Buffer;
}

export type Opening =
  | { readonly kind: 'first'; readonly sessionId: Buffer }
  | { readonly kind: 'second'; readonly given: DescriptorToken };

/** Equal length and contents, in a time that does not tell how far they agree. */
export const sameSecret = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && timingSafeEqual(a, b);

const framed = (body: Uint8Array): Buffer => {
  const message = Buffer.alloc(LENGTH_BYTES + body.length);
  message.writeUInt32BE(body.length, 0);
  message.set(body, LENGTH_BYTES);
  return message;
};

async function receiveFramed(
  c: STPConnect,
  fd: number,
  bytesMin: number,
  bytesMax: number,
): Promise<Buffer> {
  const length = (await c.receiveExactly(fd, LENGTH_BYTES)).readUInt32BE(0);
  if (length < bytesMin || length > bytesMax) {
    throw new HandshakeError(
      `a message of ${length} bytes where ${bytesMin} to ${bytesMax} are due: ` +
        `this is not a stpbackup of protocol version ${PROTOCOL_VERSION}`,
    );
  }
  return c.receiveExactly(fd, length);
}

const descriptorToken = (given: DescriptorToken): Buffer => {
  const body = Buffer.alloc(RETURN_BYTES);
  body.writeUInt32BE(given.descriptor, 0);
  body.set(given.token, 4);
  return body;
};

/** Step 90: the well-known string. */
export async function sendHello(c: STPConnect, fd: number, sessionId: Buffer): Promise<void> {
  const version = Buffer.alloc(2);
  version.writeUInt16BE(PROTOCOL_VERSION, 0);
  await c.send(fd, framed(Buffer.concat([MAGIC, version, sessionId])));
}

/** Step 100: the descriptor comes back, over the second connection. */
export async function sendReturn(c: STPConnect, fd: number, given: DescriptorToken): Promise<void> {
  await c.send(fd, framed(descriptorToken(given)));
}

/** The first message of any connection on the WKP: that of step 90 or that of step 100. */
export async function receiveOpening(c: STPConnect, fd: number): Promise<Opening> {
  const body = await receiveFramed(c, fd, RETURN_BYTES, HELLO_BYTES);
  if (body.length === RETURN_BYTES) {
    const given = { descriptor: body.readUInt32BE(0), token: body.subarray(4) };
    return { kind: 'second', given };
  }
  if (body.length !== HELLO_BYTES || !body.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new HandshakeError('the well-known string is missing: this is not a stpbackup server');
  }
  const version = body.readUInt16BE(MAGIC.length);
  if (version !== PROTOCOL_VERSION) {
    throw new HandshakeError(
      `the server speaks protocol version ${version}, this client ${PROTOCOL_VERSION}; ` +
        `install the same version on both`,
    );
  }
  return { kind: 'first', sessionId: body.subarray(MAGIC.length + 2) };
}

/** Steps 122 and 170 when the answer is no. The connection is closed after it. */
export async function sendRefusal(c: STPConnect, fd: number, reason: string): Promise<void> {
  const text = Buffer.from(reason, 'utf8').subarray(0, REASON_BYTES_MAX);
  await c.send(fd, framed(Buffer.concat([Buffer.from([1]), text])));
}

/** Begins the reason of a side that found no stpd: nothing is broken there. */
const ABSENCE = `${ABSENT_CODE}: `;

async function receiveAnswer(c: STPConnect, fd: number): Promise<Buffer> {
  const body = await receiveFramed(c, fd, 1, ANSWER_BYTES_MAX);
  if (body[0] === 1) {
    // Foreign text that will reach a terminal: no control characters.
    const reason = body
      .subarray(1)
      .toString('utf8')
      .replace(/\p{Cc}/gu, '?');
    const isAbsence = reason.startsWith(ABSENCE);
    throw new HandshakeError(
      `refused: ${isAbsence ? reason.slice(ABSENCE.length) : reason}`,
      isAbsence,
    );
  }
  if (body[0] !== 0 || body.length !== 1 + RETURN_BYTES) {
    throw new HandshakeError(`an answer of ${body.length} bytes that is neither yes nor no`);
  }
  return body.subarray(1);
}

/** Step 122: the descriptor of the accepted socket. */
export async function sendDescriptor(
  c: STPConnect,
  fd: number,
  given: DescriptorToken,
): Promise<void> {
  await c.send(fd, framed(Buffer.concat([Buffer.from([0]), descriptorToken(given)])));
}

/** Step 92. */
export async function receiveDescriptor(c: STPConnect, fd: number): Promise<DescriptorToken> {
  const body = await receiveAnswer(c, fd);
  return { descriptor: body.readUInt32BE(0), token: body.subarray(4) };
}

/** Stands for an STG where the data goes over the network. */
export const NO_STG = '';

/** Step 138: two messages, the length of the STG identifier, then the identifier. */
export async function sendStg(
  c: STPConnect,
  fd: number,
  stg: string,
  sessionId: Buffer,
): Promise<void> {
  const identifier = Buffer.from(stg, 'utf8');
  const length = Buffer.alloc(4);
  length.writeUInt32BE(identifier.length, 0);
  await c.send(fd, framed(length));
  await c.send(fd, framed(Buffer.concat([identifier, sessionId])));
}

/** Step 160. */
export async function receiveStg(
  c: STPConnect,
  fd: number,
): Promise<{ stg: string; sessionId: Buffer }> {
  const announced = (await receiveFramed(c, fd, 4, 4)).readUInt32BE(0);
  if (announced > STG_ID_BYTES_MAX) {
    throw new HandshakeError(
      `an STG identifier of ${announced} bytes; it has at most ${STG_ID_BYTES_MAX}`,
    );
  }
  const bytes = announced + SESSION_ID_BYTES;
  const body = await receiveFramed(c, fd, bytes, bytes);
  const stg = body.subarray(0, announced).toString('utf8');
  if (stg !== NO_STG && !STG_NAME_PATTERN.test(stg)) {
    throw new HandshakeError('an STG identifier that is no name of an STG');
  }
  return { stg, sessionId: body.subarray(announced) };
}

/** Step 170. */
export async function sendStoragePort(c: STPConnect, fd: number, at: StoragePort): Promise<void> {
  const given = { descriptor: at.port, token: at.token };
  await c.send(fd, framed(Buffer.concat([Buffer.from([0]), descriptorToken(given)])));
}

/** Step 140. */
export async function receiveStoragePort(c: STPConnect, fd: number): Promise<StoragePort> {
  const body = await receiveAnswer(c, fd);
  const port = body.readUInt32BE(0);
  if (port < 1 || port > PORT_MAX) throw new HandshakeError(`an STP port of number ${port}`);
  return { port, token: body.subarray(4) };
}

/** The first bytes of a storage connection. */
export async function sendPreamble(
  c: STPConnect,
  fd: number,
  token: Buffer,
  role: number,
): Promise<void> {
  await c.send(fd, Buffer.concat([token, Buffer.from([role])]));
}

export async function receivePreamble(
  c: STPConnect,
  fd: number,
): Promise<{ token: Buffer; role: number }> {
  const bytes = await c.receiveExactly(fd, PREAMBLE_BYTES);
  return { token: bytes.subarray(0, TOKEN_BYTES), role: bytes[TOKEN_BYTES] ?? ROLE_CONTROL };
}

/** What 196 says: who calls, and where and with what first words it is to be called back. */
export interface DatabaseCall {
  readonly host: string;
  readonly port: number;
  readonly token: Buffer;
}

/** Step 196: the dynamic port. */
export async function sendDynamicPort(
  c: STPConnect,
  fd: number,
  call: DatabaseCall,
): Promise<void> {
  const body = Buffer.alloc(CALL_BYTES);
  MAGIC.copy(body, 0);
  body.writeUInt16BE(PROTOCOL_VERSION, MAGIC.length);
  body.writeUInt32BE(call.port, MAGIC.length + 2);
  body.set(call.token, MAGIC.length + 6);
  await c.send(fd, framed(Buffer.concat([body, Buffer.from(call.host, 'utf8')])));
}

/** Step 224. */
export async function receiveDynamicPort(c: STPConnect, fd: number): Promise<DatabaseCall> {
  const body = await receiveFramed(c, fd, CALL_BYTES + 1, CALL_BYTES + HOST_NAME_BYTES_MAX);
  if (!body.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new HandshakeError('the well-known string is missing: this is not a stpbackup client');
  }
  const version = body.readUInt16BE(MAGIC.length);
  if (version !== PROTOCOL_VERSION) {
    throw new HandshakeError(
      `the client speaks protocol version ${version}, this server ${PROTOCOL_VERSION}; ` +
        `install the same version on both`,
    );
  }
  const port = body.readUInt32BE(MAGIC.length + 2);
  if (port < 1 || port > TCP_PORT_MAX) throw new HandshakeError(`a dynamic port of number ${port}`);
  const token = body.subarray(MAGIC.length + 6, CALL_BYTES);
  return { host: body.toString('utf8', CALL_BYTES), port, token };
}
