/** Which side of a session waited for which, in words. Main thread. */
import type { MoverTimes, Slowest, Waited } from '../../backup/mover-times.js';

interface Times {
  readonly waited: (Waited & { readonly slowest: Slowest }) | null;
  /** Over the network it is the network that stands between the sides. */
  readonly via?: 'array' | 'network' | undefined;
  readonly times: { readonly client: MoverTimes | null; readonly server: MoverTimes | null };
}

function sentenceOf(slowest: Slowest, via: string): string {
  switch (slowest) {
    case null:
      return 'no part held the others up';
    case 'clientDisk':
      return "the client's disk is the slowest part";
    case 'serverDisk':
      return "the server's disk is the slowest part";
    case 'array':
      return `the ${via} is the slowest part`;
    case 'rateLimit':
      return 'the rate limit is what slows it';
  }
}

const percent = (share: number): string => `${Math.round(100 * share)} %`;
const seconds = (ms: number): string => `${(Math.max(0, ms) / 1000).toFixed(2)} s`;

/** `1.20 s at work (CPU 0.31 s, in the kernel 0.52 s), 3.40 s waiting for the other side`. */
function sideText({ wall, peer, array, rate, user, system }: MoverTimes): string {
  const work = `${seconds(wall - peer - array - rate)} at work`;
  const cpu = `CPU ${seconds(user)}, in the kernel ${seconds(system)}`;
  const slowed = rate > 0 ? `, ${seconds(rate)} held back by the rate limit` : '';
  return `${work} (${cpu}), ${seconds(peer)} waiting for the other side${slowed}`;
}

export function waitedRows({ waited, times, via = 'array' }: Times): [string, string][] {
  if (waited === null) return [];
  const { clientDisk, array, serverDisk, rateLimit, slowest } = waited;
  const limit = rateLimit > 0 ? `, rate limit ${percent(rateLimit)}` : '';
  const parts = [
    `client disk ${percent(clientDisk)}`,
    `${via} ${percent(array)}`,
    `server disk ${percent(serverDisk)}${limit}`,
  ];
  return [
    ['waited for', `${parts.join(', ')}: ${sentenceOf(slowest, via)}`],
    ...(times.client === null ? [] : ([['client', sideText(times.client)]] as [string, string][])),
    ...(times.server === null ? [] : ([['server', sideText(times.server)]] as [string, string][])),
  ];
}
