/** The dynamic TCP ports of a client: any free one of the range of its configuration. Event loop. */
import type { STPConnect } from '../connect/stp-connect.js';
import { isCoded } from '../errors.js';

export interface PortRange {
  /** 0 to 0: any free one. */
  readonly from: number;
  readonly to: number;
}

/** @throws EADDRINUSE if all of the range are taken; what bind throws */
export async function bindInRange(
  connect: STPConnect,
  fd: number,
  host: string,
  range: PortRange = { from: 0, to: 0 },
): Promise<void> {
  for (let port = range.from; ; port++) {
    try {
      await connect.bind(fd, { host, port });
      return;
    } catch (e) {
      const taken = isCoded(e) && e.code === 'EADDRINUSE';
      if (!taken || port >= range.to) throw e;
    }
  }
}
