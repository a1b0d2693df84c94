/**
 * The child's side: one process of a path, from its first message to the parent's end.
 *
 * A path module calls `serveRole` with what is its own: how to listen, how to connect, how to do a
 * round. A path that fails says so and stays; the parent decides. Without its parent the child ends.
 */
import type {
  Address,
  FromChild,
  OpenRequest,
  RoundReport,
  RoundRequest,
  ToChild,
} from './protocol.js';

/** One end of a path's connection. */
export interface Participant {
  /**
   * Calls `armed` as soon as messages may come. The report's cpuSeconds are filled in by the role.
   * @param pause stands still until the parent has looked
   */
  round(request: RoundRequest, armed: () => void, pause: () => Promise<void>): Promise<Report>;
}

/** What a participant knows of its round. */
export type Report = Omit<RoundReport, 'cpuSeconds'>;

export interface PathRole {
  receive(open: OpenRequest, listening: (address: Address) => void): Promise<Participant>;
  send(open: OpenRequest, address: Address): Promise<Participant>;
}

/** What a round of large messages has left is collected before the next, on nobody's clock. */
const COLLECT_BYTES_MIN = 4 << 20;

export function serveRole(path: PathRole): void {
  let participant: Participant | undefined;
  const say = (message: FromChild): void => {
    process.send?.(message);
  };
  let goOn = (): void => {};
  const pause = (): Promise<void> =>
    new Promise((resolve) => {
      goOn = resolve;
      say({ op: 'paused' });
    });
  const open = async (request: OpenRequest): Promise<void> => {
    participant =
      request.side === 'receiver'
        ? await path.receive(request, (address) => say({ op: 'listening', address }))
        : await path.send(request, request.address as Address);
    say({ op: 'connected' });
  };
  const round = async (request: RoundRequest): Promise<void> => {
    if (participant === undefined) throw new Error('round before open');
    const cpu = process.cpuUsage();
    const report = await participant.round(request, () => say({ op: 'armed' }), pause);
    const used = process.cpuUsage(cpu);
    if (request.size > COLLECT_BYTES_MIN) globalThis.gc?.();
    say({ op: 'done', report: { ...report, cpuSeconds: (used.user + used.system) / 1e6 } });
  };
  process.on('message', (message: ToChild) => {
    if (message.op === 'go-on') return goOn();
    (message.op === 'open' ? open(message) : round(message.request)).catch((e: unknown) => {
      say({ op: 'failed', message: e instanceof Error ? (e.stack ?? e.message) : String(e) });
    });
  });
  process.once('disconnect', () => process.exit(0));
}
