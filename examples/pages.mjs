// 256 MiB from one process to another, page by page, and no byte of it copied: the sender fills a page
// of the array and gives it away, the receiver takes it out of the stream and has it for itself.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { isMainThread, workerData } from 'node:worker_threads';
import { attach, BlockingStream } from 'stpd';
import { acceptOne, connectTo, inWorker } from './in-worker.mjs';

const PAGES = 4096;

function send(stream) {
  for (let number = 0; number < PAGES; number++) {
    const page = stream.claimPage(); // 64 KiB of shared memory that only we have
    page.data.fill(number); // what was there is old: fill all that you give
    stream.givePage(page); // from here on it is the receiver's
  }
}

function receive(stream) {
  let pages = 0;
  let copied = 0;
  const kept = [];
  for (let page = stream.takePage(); page !== null; page = stream.takePage()) {
    if (page.data[0] !== (pages & 0xff)) throw new Error(`page ${pages} is another`);
    if (!page.exchanged) copied++;
    pages++;
    kept.push(page); // the stream goes on while we keep it, say while it is written somewhere
    if (kept.length === 16) kept.shift().release();
  }
  console.log(`received ${pages} pages from host ${stream.peer.hostId}, ${copied} of them copied`);
}

if (!isMainThread) {
  const stream = new BlockingStream(workerData.handle);
  if (workerData.role === 'send') send(stream);
  else receive(stream);
  stream.close(); // an orderly end, behind the last byte; pages that we still have go back
} else {
  const program = new URL(import.meta.url);
  const [, , role, port] = process.argv;
  const host = await attach({ stg: process.env.STG ?? 'demo', name: 'pages example' });
  if (role === 'send') {
    await inWorker(await connectTo(host, Number(port)), program, { role });
  } else {
    let sender;
    const socket = await acceptOne(host, 0, (free) => {
      sender = once(fork(program, ['send', String(free)]), 'exit');
    });
    await inWorker(socket, program, { role: 'receive' });
    await sender;
  }
  await host.close();
}
