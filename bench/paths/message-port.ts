/**
 * Path `message-port`: two threads of one process and a `MessagePort` between them, the main
 * thread's event loop and a worker's. A message is posted by structured clone, which copies it.
 *
 * A port has no back-pressure, so the receiver gives credit: at most 4 MiB are on their way, as
 * much as an STP stream's window. This file is the process and its worker both.
 */
import {
  MessageChannel,
  type MessagePort,
  parentPort,
  Worker,
  workerData,
} from 'node:worker_threads';
import { blockBytesOf, CopiedStream, messagesOf } from '../harness/content.js';
import type { RoundRequest } from '../harness/protocol.js';
import { type Participant, type Report, serveRole } from '../harness/role.js';

const WAITING_BYTES = 4 << 20;
/** Credit is given back in pieces of so many bytes, or a message if that is more. */
const CREDIT_BYTES = 262144;

type FromReceiver = { readonly credit: number } | { readonly report: Report };

class PortSender implements Participant {
  private onMessage: (message: FromReceiver) => void = () => {};

  constructor(
    private readonly port: MessagePort,
    worker: Worker,
  ) {
    port.on('message', (message: FromReceiver) => this.onMessage(message));
    worker.once('error', (e) => {
      throw e;
    });
  }

  round(request: RoundRequest, armed: () => void): Promise<Report> {
    const { size, seconds } = request;
    const { plain, first, last } = messagesOf(size);
    const blockMessages = blockBytesOf(size) / size;
    let credit = Math.max(WAITING_BYTES, size);
    let index = 0;
    let ending = false;
    armed();
    this.port.postMessage(request);
    const start = performance.now();
    const deadline = start + seconds * 1000;
    const pump = (): void => {
      while (credit >= size && !(ending && index === 0 && sent > 0)) {
        if (index === 0) ending = performance.now() >= deadline;
        this.port.postMessage(index > 0 ? plain : ending ? last : first);
        sent += size;
        credit -= size;
        index = (index + 1) % blockMessages;
      }
    };
    let sent = 0;
    return new Promise((resolve) => {
      this.onMessage = (message) => {
        if ('credit' in message) {
          credit += message.credit;
          pump();
          return;
        }
        const { bytes, messages, digest } = message.report;
        const elapsedMs = performance.now() - start;
        if (bytes !== sent) throw new Error(`sent ${sent} bytes, received ${bytes}`);
        resolve({ bytes, messages, seconds: elapsedMs / 1000, ...(digest && { digest }) });
      };
      pump();
    });
  }
}

function receive(port: MessagePort): void {
  let request: RoundRequest | undefined;
  let stream: CopiedStream | undefined;
  let taken = 0;
  port.on('message', (message: RoundRequest | Uint8Array) => {
    if (!(message instanceof Uint8Array)) {
      request = message;
      stream = new CopiedStream(message.size, message.verify);
      taken = 0;
      return;
    }
    if (request === undefined || stream === undefined) throw new Error('data outside a round');
    const done = stream.take(message);
    taken += message.length;
    if (done) {
      const { bytes, digest } = stream;
      if (request.size > CREDIT_BYTES) globalThis.gc?.();
      port.postMessage({ report: { bytes, messages: bytes / request.size, seconds: 0, digest } });
    } else if (taken >= CREDIT_BYTES) {
      port.postMessage({ credit: taken });
      taken = 0;
    }
  });
}

if (parentPort !== null) receive(workerData as MessagePort);
else {
  serveRole({
    receive: () => Promise.reject(new Error('both ends are in the sender')),
    async send() {
      const { port1, port2 } = new MessageChannel();
      const worker = new Worker(new URL(import.meta.url), {
        workerData: port2,
        transferList: [port2],
      });
      return new PortSender(port1, worker);
    },
  });
}
