/**
 * Which sets to keep: the rules, without a disk.
 *
 * Sets are grouped by host and roots; each rule works on each group by itself. A rule of n goes
 * through a group from the newest set and keeps the newest of each period (UTC) until it has n; a
 * set that several rules keep is kept once. What a kept set was made against is kept, too, whatever
 * its group. Any thread.
 */
import type { SetSummary } from './set-writer.js';
import { parentOf } from './summary.js';

export const ruleNames = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type RuleName = (typeof ruleNames)[number];
/** How many of each; a rule that is missing or 0 keeps nothing. */
export type KeepRules = Readonly<Partial<Record<RuleName, number>>>;

export interface Verdict {
  readonly set: SetSummary;
  /** Why it is kept; empty: it is to go. */
  readonly reasons: readonly string[];
}

/** The ISO 8601 week, whose days from Monday to Sunday have one Thursday. */
function weekOf(date: Date): string {
  const thursday = new Date(date);
  thursday.setUTCDate(date.getUTCDate() + 3 - ((date.getUTCDay() + 6) % 7));
  const year = thursday.getUTCFullYear();
  const day = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / 86_400_000);
  return `${year}-W${Math.floor(day / 7) + 1}`;
}

/** The period of a set; null where each set counts by itself. */
const periods: Readonly<Record<RuleName, (startedAt: string) => string | null>> = {
  last: () => null,
  hourly: (at) => at.slice(0, 13),
  daily: (at) => at.slice(0, 10),
  weekly: (at) => weekOf(new Date(at)),
  monthly: (at) => at.slice(0, 7),
  yearly: (at) => at.slice(0, 4),
};

const groupOf = (set: SetSummary): string => JSON.stringify([set.host, [...set.roots].sort()]);

/** Newest first; sets of one instant by their names. */
const byAge = (a: SetSummary, b: SetSummary): number =>
  b.startedAt.localeCompare(a.startedAt) || b.id.localeCompare(a.id);

function applyRule(rule: RuleName, count: number, group: readonly SetSummary[]): SetSummary[] {
  const kept: SetSummary[] = [];
  let last: string | null = null;
  for (const set of group) {
    if (kept.length === count) break;
    const period = periods[rule](set.startedAt);
    if (period !== null && period === last) continue;
    last = period;
    kept.push(set);
  }
  return kept;
}

/** @returns a verdict for each set, newest first */
export function applyRules(sets: readonly SetSummary[], rules: KeepRules): Verdict[] {
  const reasons = new Map<string, string[]>(sets.map((set) => [set.id, []]));
  const groups = new Map<string, SetSummary[]>();
  for (const set of [...sets].sort(byAge)) {
    const group = groups.get(groupOf(set)) ?? [];
    group.push(set);
    groups.set(groupOf(set), group);
  }
  for (const group of groups.values()) {
    for (const rule of ruleNames) {
      for (const set of applyRule(rule, rules[rule] ?? 0, group)) reasons.get(set.id)?.push(rule);
    }
  }
  return [...sets].sort(byAge).map((set) => ({ set, reasons: reasons.get(set.id) ?? [] }));
}

/**
 * Keeps what kept sets and running backups stand on, all the way to the full sets.
 * @param all every set of the library, also those that no rule was asked about
 * @param running ids that backups which are running were made against
 */
export function keepParents(
  verdicts: readonly Verdict[],
  all: readonly SetSummary[],
  running: readonly string[],
): Verdict[] {
  const byId = new Map(all.map((set) => [set.id, set]));
  const judged = new Map(verdicts.map((v) => [v.set.id, v]));
  const why = new Map<string, string>();
  const keepFrom = (id: string | null, reason: string): void => {
    let [next, because] = [id, reason];
    while (next !== null && !why.has(next)) {
      why.set(next, because);
      const set = byId.get(next);
      because = `parent of ${next}`;
      next = set === undefined ? null : parentOf(set);
    }
  };
  for (const id of running) keepFrom(id, 'parent of a running backup');
  for (const set of all) {
    const verdict = judged.get(set.id);
    if (verdict === undefined || verdict.reasons.length > 0) {
      keepFrom(parentOf(set), `parent of ${set.id}`);
    }
  }
  return verdicts.map((verdict) => {
    const reason = why.get(verdict.set.id);
    if (reason === undefined || verdict.reasons.length > 0) return verdict;
    return { set: verdict.set, reasons: [reason] };
  });
}
