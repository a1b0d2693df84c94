/** PLACEHOLDER of the socket room; dropped at the merge. */
import { EventEmitter } from 'node:events';

export class Host extends EventEmitter {
  constructor(
    readonly hostId: number,
    readonly stg: string,
  ) {
    super();
  }
  async close(): Promise<void> {}
}

export async function attach(options: {
  runDirectory?: string;
  stg: string;
  name?: string;
}): Promise<Host> {
  return new Host(1, options.stg);
}
