/** PLACEHOLDER of the socket room; dropped at the merge. */
import type { MessagePort } from 'node:worker_threads';

export interface StreamHandle {
  readonly port: MessagePort;
}
