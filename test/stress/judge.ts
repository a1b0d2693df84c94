/**
 * Whether the ends of a connection have seen what they should have. Content was checked where it
 * arrived; here it is who ended what, and how much of it came.
 */
import type { EndReport } from './end-report.js';
import type { ConnectionPlan, Fate, Plan } from './plan.js';

const CODES = ['ECONNRESET', 'EPIPE'];

/** What a process does to its connections in the wave that they belong to. */
function fateOf(plan: Plan, { wave, processes }: ConnectionPlan, end: 0 | 1): Fate {
  const fate = plan.processes[processes[end] as number]?.fate ?? 'stays';
  return wave === 0 || fate === 'stopped' ? 'stays' : fate;
}

/** What is wrong with it; undefined where all is as it should be. */
export function wrongWith(
  plan: Plan,
  connection: ConnectionPlan,
  reports: readonly [EndReport | undefined, EndReport | undefined],
): string | undefined {
  const fates = [fateOf(plan, connection, 0), fateOf(plan, connection, 1)] as const;
  const goes = (end: 0 | 1): boolean => fates[end] !== 'stays';
  for (const end of [0, 1] as const) {
    const report = reports[end];
    const other = end === 0 ? 1 : 0;
    if (report === undefined) {
      /* Where the other end was gone before this one was made. */
      const never = goes(other) || connection.breaks !== undefined;
      if (goes(end) || never) continue;
      return `end ${end} never reported`;
    }
    const wrong =
      goes(0) || goes(1) || connection.breaks !== undefined
        ? wrongInBroken(connection, report, fates[other], goes(end))
        : wrongInWhole(connection, report);
    if (wrong !== undefined) return `end ${end} ${wrong}: ${JSON.stringify(report)}`;
  }
  return undefined;
}

/** Nobody broke it: all bytes, and both ends. */
function wrongInWhole(connection: ConnectionPlan, report: EndReport): string | undefined {
  const [out, into] = [report.end, 1 - report.end].map((d) => connection.directions[d]?.bytes);
  if (report.heard !== 'end') return 'did not hear the orderly end';
  if (report.received !== into) return `did not get ${into} bytes`;
  if (report.sent !== out) return `did not send ${out} bytes`;
  if (report.writeCode !== undefined) return 'could not write';
  return undefined;
}

/**
 * An end of it was broken off as planned, by itself, by its peer or by what became of a process:
 * fewer bytes may come, but never an orderly end where there was none.
 */
function wrongInBroken(
  connection: ConnectionPlan,
  report: EndReport,
  peersFate: Fate,
  goes: boolean,
): string | undefined {
  const planned = connection.directions[1 - report.end]?.bytes ?? 0;
  if (report.received > planned) return `got more than the ${planned} bytes there were`;
  const refused = peersFate !== 'stays' && report.heard === 'ECONNREFUSED';
  const broken = connection.breaks;
  if (report.heard === 'own' && (broken?.end === report.end || goes)) return undefined;
  if (goes && report.heard !== 'end') return undefined; /* it was on its own way out */
  if (report.heard !== 'end') {
    return CODES.includes(report.heard) || refused ? undefined : 'heard what nobody said';
  }
  if (report.received === planned) return undefined;
  const peer = 1 - report.end;
  if (broken?.how === 'abort' && broken.end === peer) return 'heard an end instead of a reset';
  if (broken?.how === 'terminate' && broken.end === peer) return 'heard an end of a lost worker';
  if (peersFate === 'killed') return 'heard an end of a peer that was killed';
  return undefined; /* the peer let go of what it had not sent, and left in order */
}
