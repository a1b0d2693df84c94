/** A PostgreSQL that says what a test wants it to say, and the messages that it says it with. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { ExecutionContext } from 'ava';

export const message = (type: string, ...parts: (string | Buffer)[]): Buffer => {
  const body = Buffer.concat(parts.map((p) => Buffer.from(p as string)));
  const header = Buffer.from(`${type}0000`);
  header.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
};
export const u16 = (n: number): Buffer => Buffer.from([n >> 8, n & 255]);
export const u32 = (n: number): Buffer =>
  Buffer.from([n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]);
const row = (...values: string[]): Buffer =>
  message('D', u16(values.length), ...values.flatMap((v) => [u32(v.length), v]));
const column = (name: string): Buffer =>
  Buffer.concat([Buffer.from(`${name}\0`), u32(0), u16(0), u32(25), u16(0xffff), u32(0), u16(0)]);
const columns = (...names: string[]): Buffer =>
  message('T', u16(names.length), ...names.map(column));

export const READY = message('Z', 'I');
export const HELLO = Buffer.concat([message('R', u32(0)), READY]);
export const DONE = message('C', 'SELECT\0');
export const VERSION = Buffer.concat([columns('server_version_num'), row('150000'), DONE, READY]);
export const BEGIN = Buffer.concat([
  columns('spcoid', 'spclocation', 'size'),
  row('1', '/x', '3'),
  DONE,
  message('H', Buffer.from([0, 0, 0])),
]);
export const END = Buffer.concat([message('c'), DONE, READY]);
export const copyData = (kind: string, data: Buffer | string): Buffer => message('d', kind, data);

/** A header block and the data, as PostgreSQL cuts them. */
export function member(name: string, data: Buffer, piece = 32768): Buffer {
  const block = Buffer.alloc(512);
  const put = (at: number, text: string): void => void block.write(text, at, 'latin1');
  put(0, name);
  put(100, '0000600\0');
  put(108, '0000000\0');
  put(116, '0000000\0');
  put(124, `${data.length.toString(8).padStart(11, '0')} `);
  put(136, '00000000000 ');
  put(148, '        ');
  put(156, '0');
  const sum = block.reduce((a, b) => a + b, 0);
  put(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  const messages = [copyData('d', block)];
  for (let at = 0; at < data.length; at += piece) {
    messages.push(copyData('d', data.subarray(at, at + piece)));
  }
  const padding = (512 - (data.length % 512)) % 512;
  if (padding > 0) messages.push(copyData('d', Buffer.alloc(padding)));
  return Buffer.concat(messages);
}

/** On a thread of its own, since the reader blocks its own. */
const SERVER = `
const { parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const { path, hello, version, answer, cut, end, holds } = workerData;
const server = require('node:net').createServer({ allowHalfOpen: holds }, async (socket) => {
  socket.on('error', () => {});
  for (const text of [hello, version]) {
    await once(socket, 'data');
    socket.write(text);
  }
  await once(socket, 'data');
  for (let at = 0; at < answer.length; at += cut) {
    if (!socket.write(answer.subarray(at, at + cut))) await once(socket, 'drain');
  }
  if (end) socket.end();
});
server.listen(path, () => parentPort.postMessage('listening'));
`;

interface Answer {
  /** To BASE_BACKUP. */
  readonly answer: Buffer;
  /** Bytes of a write. */
  readonly cut: number;
  /** Ends the connection then. */
  readonly end?: boolean;
  /** Never ends it, whatever the other side does. */
  readonly holds?: boolean;
}

/** @returns where it can be reached */
export async function serve(t: ExecutionContext, what: Answer): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-base-'));
  const path = join(directory, '.s.PGSQL.5432');
  const workerData = { path, hello: HELLO, version: VERSION, end: false, holds: false, ...what };
  const server = new Worker(SERVER, { eval: true, workerData });
  t.teardown(async () => {
    await server.terminate();
    rmSync(directory, { recursive: true });
  });
  await once(server, 'message');
  return `postgresql://postgres@/postgres?host=${encodeURIComponent(directory)}`;
}
