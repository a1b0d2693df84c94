/** Callers of a client's control socket that need not keep to its rules, and what it holds open. */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { native } from '../../../src/native.js';
import { until } from '../../support/array.js';

/** A request that nothing is wrong with; `settings` are those of a cluster that trusts everybody. */
export const REQUEST = {
  op: 'base-backup',
  server: null,
  name: 'main',
  fast: true,
  bytesPerSecond: null,
  settings: { host: '/nowhere', port: 5432, user: 'u', database: 'd', tls: false },
} as const;

export interface Asked {
  readonly socket: Socket;
  /** Everything that was said, when the client has said its last. */
  readonly answer: Promise<string>;
  /** So far. */
  said(): string;
}

/** Sends one message with descriptors. @param keepsOpen does not close its end with the client's */
export function ask(
  control: string,
  request: object | string,
  fds: readonly number[] = [],
  keepsOpen = false,
): Asked {
  const fd = native().unixConnect(control, true);
  const text = typeof request === 'string' ? request : `${JSON.stringify(request)}\n`;
  if (text !== '') native().sendMessage(fd, Buffer.from(text), fds);
  return heard(fd, keepsOpen);
}

/** A caller that has sent what it wants to send. */
export function heard(fd: number, keepsOpen = false): Asked {
  const socket = new Socket({ fd, allowHalfOpen: keepsOpen });
  let said = '';
  socket.on('error', () => {});
  socket.on('data', (piece: Buffer) => {
    said += piece.toString();
  });
  const answer = new Promise<string>((resolve) => {
    socket.once('end', () => resolve(said)).once('close', () => resolve(said));
  });
  return { socket, answer, said: () => said };
}

const target = (link: string): string => {
  try {
    return readlinkSync(link);
  } catch {
    return 'closed';
  }
};

/** What a process has open, by kind. */
export function openOf(pid: number | undefined): string {
  const all = readdirSync(`/proc/${pid}/fd`)
    .map((fd) => target(`/proc/${pid}/fd/${fd}`))
    .filter((link) => link !== 'closed')
    .map((link) => link.replace(/\d+/g, 'N'));
  return all.sort().join('\n');
}

/** A process has open again what it had. */
export async function untilOpen(pid: number | undefined, before: string): Promise<void> {
  try {
    await until('it has closed all that it opened', () => openOf(pid) === before);
  } catch (e) {
    assert.equal(openOf(pid), before);
    throw e;
  }
}
