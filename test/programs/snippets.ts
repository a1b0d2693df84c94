/**
 * The snippets of docs/pages.md: what stands between the marks is copied there by `npm run docs`,
 * and run by snippets.test.ts.
 */
import { closeSync, openSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import {
  type BlockingStream,
  type Host,
  onRecords,
  RecordReceiver,
  RecordSender,
  RecordWriter,
  recordsOf,
  type StpSocket,
} from '../../src/index.js';

export function reserveCommit(stream: BlockingStream, produce: (into: Uint8Array) => number): void {
  // [reserve]
  let room = stream.reserve(); // 1 to 65536 bytes of a page; blocks while there is no room
  for (let bytes = produce(room); bytes > 0; bytes = produce(room)) {
    room = stream.commitAndReserve(bytes); // published; one call for both
  }
  stream.commit(0); // gives the last view back, unsent
  // [end]
}

export function peekConsume(stream: BlockingStream, use: (bytes: Uint8Array) => void): void {
  // [peek]
  let bytes = stream.peek(); // up to the end of their page; null at the orderly end
  while (bytes !== null) {
    use(bytes); // in place, until consume
    bytes = stream.consumeAndPeek(bytes.length);
  }
  // [end]
}

export function several(stream: BlockingStream, left: number, fill: (v: Uint8Array) => void): void {
  // [several]
  for (let done = -1; left > 0; ) {
    const views = stream.reservePages(8, done); // commits what the last turn filled
    done = 0;
    for (const view of views) {
      const bytes = Math.min(view.length, left);
      fill(view.subarray(0, bytes));
      left -= bytes;
      done += bytes;
    }
    if (left === 0) stream.commit(done); // one commit for all of them
  }
  // [end]
}

export function severalPeeked(stream: BlockingStream, use: (bytes: Uint8Array) => void): void {
  // [several-peeked]
  let done = -1;
  for (;;) {
    const views = stream.peekPages(8, done); // consumes what the last turn has seen
    if (views === null) break;
    done = 0;
    for (const view of views) {
      use(view);
      done += view.length;
    }
  }
  // [end]
}

export function handOn(from: BlockingStream, to: BlockingStream): number {
  let moved = 0;
  // [pages]
  for (let page = from.takePage(); page !== null; page = from.takePage()) {
    if (page.data[0] === 0)
      page.release(); // not wanted: back to the pool
    else if (to.givePage(page)) moved++; // true: it went without a copy
  }
  // [end]
  return moved;
}

export function manyBuffers(stream: BlockingStream, peer: BlockingStream): Buffer {
  // [sendv]
  const header = Buffer.from('8 bytes:');
  const body = Buffer.from('and a body');
  stream.sendv([header, body]); // one native call for up to 1024 buffers

  const slab = Buffer.from('many messages in one buffer');
  const spans = Uint32Array.of(0, 4, 5, 8, 14, 13); // offset and length of each
  stream.sendvFlat(slab, spans);

  const into = [Buffer.alloc(8), Buffer.alloc(35)];
  let got = peer.recvv(into); // fills one after the other with what is there
  // [end]
  while (got < 43) got += peer.receive((into[1] as Buffer).subarray(got - 8));
  return Buffer.concat(into);
}

export function ask(stream: BlockingStream, question: Uint8Array): Buffer {
  // [call]
  const answer = Buffer.alloc(64);
  let got = stream.sendReceive(question, answer); // one native call: sends, then waits
  while (got > 0 && got < 8) got += stream.receive(answer.subarray(got)); // until it is whole
  // [end]
  return answer.subarray(0, got);
}

export function sendRecords(stream: BlockingStream, slab: Uint8Array): void {
  // [records-send]
  const sender = new RecordSender(stream, { recordBytesMax: 4096 }); // the same on both sides
  for (let i = 0; i < 1000; i++) sender.send(Buffer.from(`record ${i}`));
  sender.sendFlat(slab, Uint32Array.of(0, 10, 10, 20)); // two more, without an object for each
  sender.flush();
  // [end]
}

export function receiveRecords(stream: BlockingStream, use: (record: Uint8Array) => void): void {
  // [records-receive]
  const receiver = new RecordReceiver(stream, { recordBytesMax: 4096 });
  for (let record = receiver.receive(); record !== null; record = receiver.receive()) {
    use(record); // valid until the next call
  }
  // [end]
}

export function loopRecords(socket: Duplex, peer: Duplex, got: (text: string) => void): void {
  // [records-loop]
  const writer = new RecordWriter(socket);
  writer.send(Buffer.from('first')); // those of one turn of the event loop go with one write
  if (!writer.send(Buffer.from('second'))) socket.once('drain', () => {}); // enough: wait for it
  writer.end();

  onRecords(peer, (record) => got(String(record))); // valid until the callback returns
  // [end]
}

export async function iterateRecords(peer: Duplex): Promise<string[]> {
  const got: string[] = [];
  // [records-iterate]
  for await (const record of recordsOf(peer)) got.push(String(record));
  // [end]
  return got;
}

export function readIntoOwn(accepted: StpSocket, use: (bytes: Uint8Array) => void): void {
  // [readinto]
  const buffer = Buffer.alloc(1 << 20);
  accepted.readInto({
    buffer,
    callback: (bytes) => {
      use(buffer.subarray(0, bytes)); // valid until it returns
      return true; // false: nothing more before resume()
    },
  });
  accepted.resume();
  // [end]
}

export function copyFile(stream: BlockingStream, peer: BlockingStream, a: string, b: string): void {
  const [from, to] = [a, b];
  // [files]
  const fd = openSync(from, 'r');
  const sent = stream.sendFile(fd, 0, 1000); // fewer only at the end of the file
  closeSync(fd);
  // [end]
  const into = openSync(to, 'w');
  // [files-receive]
  const received = peer.receiveToFile(into, 0, sent); // fewer only at the orderly end
  // [end]
  closeSync(into);
  if (received !== sent) throw new Error(`${received} of ${sent}`);
}

export function tune(stream: BlockingStream, host: Host): Record<string, unknown> {
  // [counters]
  const { waitsForEmptyPage, waitsForFullPage } = stream.counters();
  const slower = waitsForEmptyPage > waitsForFullPage ? 'the peer' : 'this side, or who feeds it';
  const { mode, tookMs } = host.counters().copy; // 'cached' or 'streaming', and the probe's time
  // [end]
  // [budgets]
  stream.setSpin(0); // this blocking stream sleeps at once where it finds nothing
  host.setPollBudget(0); // so does this thread's event loop
  // [end]
  return { slower, mode, tookMs };
}
