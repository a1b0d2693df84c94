// A million small records from one process to another: many with one native call on both sides.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { isMainThread, workerData } from 'node:worker_threads';
import { attach, BlockingStream, RecordReceiver, RecordSender } from 'stpd';
import { acceptOne, connectTo, inWorker } from './in-worker.mjs';

const RECORDS = 1_000_000;

function send(stream) {
  const sender = new RecordSender(stream);
  const record = Buffer.alloc(64);
  for (let number = 0; number < RECORDS; number++) {
    record.writeUInt32LE(number);
    sender.send(record.subarray(0, 4 + (number % 61))); // 4 to 64 bytes; gathered, not yet sent
  }
  sender.flush(); // whoever waits for an answer flushes before
}

function receive(stream) {
  const receiver = new RecordReceiver(stream);
  let records = 0;
  let bytes = 0;
  const start = performance.now();
  while (receiver.next()) {
    const { buffer, offset, length } = receiver; // in place until the next call of next()
    const number =
      buffer[offset] |
      (buffer[offset + 1] << 8) |
      (buffer[offset + 2] << 16) |
      (buffer[offset + 3] << 24);
    if (number !== records) throw new Error(`record ${records} has number ${number}`);
    records++;
    bytes += length;
  }
  const seconds = (performance.now() - start) / 1000;
  console.log(`received ${records} records, ${bytes} bytes, in order`);
  console.error(`${(records / seconds / 1e6).toFixed(1)} million records/s`);
  console.error(stream.counters());
}

if (!isMainThread) {
  const stream = new BlockingStream(workerData.handle);
  if (workerData.role === 'send') send(stream);
  else receive(stream);
  stream.close();
} else {
  const program = new URL(import.meta.url);
  const [, , role, port] = process.argv;
  const host = await attach({ stg: process.env.STG ?? 'demo', name: 'records example' });
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
