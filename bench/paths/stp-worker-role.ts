/**
 * A path whose ends live in worker threads: the main thread connects, gives the stream up to the
 * worker and passes rounds on.
 */
import { Worker } from 'node:worker_threads';
import type { StpSocket, StreamHandle } from '../../src/index.js';
import type { RoundRequest, Side } from '../harness/protocol.js';
import type { Participant, PathRole, Report } from '../harness/role.js';
import { acceptOne, connectOne } from './stp-adapter.js';

export type Transfer = 'copy' | 'zero-copy';

export interface WorkerStart {
  readonly handle: StreamHandle;
  readonly side: Side;
  readonly transfer: Transfer;
}

export type FromWorker =
  | { readonly op: 'armed' }
  | { readonly op: 'done'; readonly report: Report };

export function workerRole(transfer: Transfer): PathRole {
  return {
    async receive(open, listening) {
      const socket = await acceptOne(open, listening);
      return new WorkerParticipant(socket, 'receiver', transfer);
    },
    async send(open, address) {
      return new WorkerParticipant(await connectOne(open, address), 'sender', transfer);
    },
  };
}

class WorkerParticipant implements Participant {
  private readonly worker: Worker;

  constructor(socket: StpSocket, side: Side, transfer: Transfer) {
    const handle = socket.detach();
    const workerData: WorkerStart = { handle, side, transfer };
    this.worker = new Worker(new URL('./stp-worker.js', import.meta.url), {
      workerData,
      transferList: [handle.port],
    });
  }

  round(request: RoundRequest, armed: () => void): Promise<Report> {
    const { worker } = this;
    return new Promise((resolve, reject) => {
      const onMessage = (message: FromWorker): void => {
        if (message.op === 'armed') {
          armed();
          return;
        }
        worker.off('message', onMessage);
        worker.off('error', reject);
        resolve(message.report);
      };
      worker.on('message', onMessage);
      worker.once('error', reject);
      worker.postMessage(request);
    });
  }
}
