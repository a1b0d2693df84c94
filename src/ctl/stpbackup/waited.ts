/** Which side of a session waited for which, in words. Main thread. */
import type { MoverTimes, Slowest, Waited } from '../../backup/mover-times.js';

interface Times {
  readonly waited: (Waited & { readonly slowest: Slowest }) | null;
  readonly times: { readonly client: MoverTimes | null; readonly server: MoverTimes | null };
}

const sentences: Readonly<Record<keyof Waited, string>> = {
  clientDisk: "the client's disk is the slowest part",
  serverDisk: "the server's disk is the slowest part",
  array: 'the array is the slowest part',
  rateLimit: 'the rate limit is what slows it',
};

const percent = (share: number): string => `${Math.round(100 * share)} %`;
const seconds = (ms: number): string => `${(Math.max(0, ms) / 1000).toFixed(2)} s`;

/** `1.20 s at work (CPU 0.31 s, in the kernel 0.52 s), 3.40 s waiting for the other side`. */
function sideText({ wall, peer, array, rate, user, system }: MoverTimes): string {
  const work = `${seconds(wall - peer - array - rate)} at work`;
  const cpu = `CPU ${seconds(user)}, in the kernel ${seconds(system)}`;
  const slowed = rate > 0 ? `, ${seconds(rate)} held back by the rate limit` : '';
  return `${work} (${cpu}), ${seconds(peer)} waiting for the other side${slowed}`;
}

export function waitedRows({ waited, times }: Times): [string, string][] {
  if (waited === null) return [];
  const { clientDisk, array, serverDisk, rateLimit, slowest } = waited;
  const limit = rateLimit > 0 ? `, rate limit ${percent(rateLimit)}` : '';
  const parts = [
    `client disk ${percent(clientDisk)}`,
    `array ${percent(array)}`,
    `server disk ${percent(serverDisk)}${limit}`,
  ];
  const sentence = slowest === null ? 'no part held the others up' : sentences[slowest];
  return [
    ['waited for', `${parts.join(', ')}: ${sentence}`],
    ...(times.client === null ? [] : ([['client', sideText(times.client)]] as [string, string][])),
    ...(times.server === null ? [] : ([['server', sideText(times.server)]] as [string, string][])),
  ];
}
