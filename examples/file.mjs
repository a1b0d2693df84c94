// A file from one process to another, straight from the disk into pages and from pages to the disk:
//   node file.mjs [FILE [COPY]]
// Without names: node's own binary, to a copy that is compared and removed.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fsyncSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, workerData } from 'node:worker_threads';
import { attach, BlockingStream } from 'stpd';
import { acceptOne, connectTo, inWorker } from './in-worker.mjs';

function send(stream, path) {
  const fd = openSync(path, 'r');
  const bytes = stream.sendFile(fd, 0, Number.POSITIVE_INFINITY); // to the end of the file
  closeSync(fd);
  console.log(`sent ${bytes} bytes`);
}

function receive(stream, path) {
  const fd = openSync(path, 'w');
  const bytes = stream.receiveToFile(fd, 0, Number.POSITIVE_INFINITY); // to the end of the stream
  fsyncSync(fd);
  closeSync(fd);
  console.log(`received ${bytes} bytes`);
}

if (!isMainThread) {
  const { handle, role, path } = workerData;
  const stream = new BlockingStream(handle);
  if (role === 'send') send(stream, path);
  else receive(stream, path);
  stream.close(); // a sender that fails or dies resets: its peer never takes a torso for the whole
} else {
  const program = new URL(import.meta.url);
  const host = await attach({ stg: process.env.STG ?? 'demo', name: 'file example' });
  if (process.argv[2] === '--send') {
    const [, , , path, port] = process.argv;
    await inWorker(await connectTo(host, Number(port)), program, { role: 'send', path });
  } else {
    const [, , from = process.execPath, to] = process.argv;
    const directory = to === undefined ? mkdtempSync(join(tmpdir(), 'stpd-example-')) : undefined;
    const copy = to ?? join(directory, 'copy');
    let sender;
    const socket = await acceptOne(host, 0, (free) => {
      sender = once(fork(program, ['--send', from, String(free)]), 'exit');
    });
    await inWorker(socket, program, { role: 'receive', path: copy });
    await sender;
    console.log(readFileSync(from).equals(readFileSync(copy)) ? 'the same' : 'not the same');
    if (directory !== undefined) rmSync(directory, { recursive: true });
  }
  await host.close();
}
