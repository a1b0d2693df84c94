/**
 * Standard input and output as one end of a forwarded connection.
 *
 * Node's own `process.stdout` writes to a pipe with a blocking call: a slow reader would keep the
 * whole process from everything else, signals included. So pipes and sockets are opened here as
 * streams of their own; files and devices by way of `fs`. Main thread.
 */
import { createReadStream, createWriteStream, fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { FORWARD_BUFFER_BYTES } from '../../limits.js';
import type { Side } from './forward-relay.js';

const isStream = (fd: number): boolean => {
  const stat = fstatSync(fd);
  return stat.isFIFO() || stat.isSocket();
};

const openInput = (): Readable => {
  if (isatty(0)) return process.stdin;
  if (isStream(0)) return new Socket({ fd: 0, readable: true, writable: false });
  return createReadStream('', { fd: 0, autoClose: false, highWaterMark: FORWARD_BUFFER_BYTES });
};

const openOutput = (): Writable => {
  if (isatty(1)) return process.stdout;
  if (isStream(1)) return new Socket({ fd: 1, readable: false, writable: true });
  return createWriteStream('', { fd: 1, autoClose: false });
};

/** To be called once: the streams own the descriptors. */
export function stdioSide(): Side {
  const input = openInput();
  const output = openOutput();
  return {
    input,
    output,
    name: 'stdio',
    reset: () => {
      input.destroy();
      output.destroy();
    },
  };
}
