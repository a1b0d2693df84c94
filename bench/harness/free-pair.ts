/**
 * Ports for a client of the backup and for whoever listens beside it; also for the tests, which may
 * import from here. Event loop only.
 */
import { createServer } from 'node:net';

/** First ports of the pairs given out: the kernel may offer one again as soon as it is let go. */
const given = new Set<number>();

/** Two free ports in a row on loopback; another process may still take them, so callers retry. */
export async function freePair(): Promise<number> {
  for (;;) {
    const first = createServer();
    await new Promise<void>((resolve) => first.listen(0, '127.0.0.1', resolve));
    const { port } = first.address() as { port: number };
    const second = createServer();
    const free = await new Promise<boolean>((resolve) => {
      second.once('error', () => resolve(false));
      second.listen(port + 1, '127.0.0.1', () => resolve(true));
    });
    await new Promise((resolve) => first.close(resolve));
    if (free) await new Promise((resolve) => second.close(resolve));
    const isTaken = [port - 1, port, port + 1].some((other) => given.has(other));
    if (!free || isTaken || port === 65535) continue;
    given.add(port);
    return port;
  }
}
