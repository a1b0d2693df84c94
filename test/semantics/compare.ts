/** Plays a situation over both, and says where the journals differ from what is wanted. */
import { type Difference, differences } from './differences.js';
import { type Face, netFace } from './face.js';
import type { Journal } from './journal.js';
import { isAlone, type Situation } from './situation.js';
import { Stage } from './stage.js';

export interface StpSide {
  readonly face: Face;
  readonly runDirectory: string;
  readonly stg: string;
}

const WATCHDOG_MS = 60_000;
const PLAYING_MAX = 16;

let playing = 0;
const waiting: { readonly weight: number; readonly go: () => void }[] = [];

async function enter(weight: number): Promise<void> {
  if (waiting.length > 0 || playing + weight > PLAYING_MAX) {
    await new Promise<void>((go) => waiting.push({ weight, go }));
  } else playing += weight;
}

function leave(weight: number): void {
  playing -= weight;
  for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
    if (playing + next.weight > PLAYING_MAX) return;
    waiting.shift();
    playing += next.weight;
    next.go();
  }
}

const nodeMajor = Number(process.versions.node.split('.')[0]);

/** The wanted differences of a situation in the Node that runs this. */
export function wantedOf(title: string): Difference[] {
  return differences.filter(
    ({ situation, before }) => situation === title && (before === undefined || nodeMajor < before),
  );
}

/** Plays one situation; some at a time, so that each has its turns of the event loop. */
export async function play(
  situation: Situation,
  face: Face,
  array: readonly string[] = [],
): Promise<Journal> {
  const weight = isAlone(situation.play) ? PLAYING_MAX : 1;
  await enter(weight);
  const stage = new Stage(face, array);
  let watchdog: NodeJS.Timeout | undefined;
  const overdue = new Promise<never>((_, reject) => {
    watchdog = setTimeout(() => reject(new Error('it never ends')), WATCHDOG_MS);
  });
  try {
    await Promise.race([situation.play(stage), overdue]);
  } catch (error) {
    stage.log(`the situation fails: ${(error as Error).stack ?? error}`, 'main');
  } finally {
    clearTimeout(watchdog);
    await stage.clear();
    leave(weight);
  }
  return stage.journal;
}

const PLAYS_OF_TIME = 3;

/**
 * As `compareOnce`; what is about time differs only if it does three times: a machine that stands
 * still for a second lets `node:net` time out, too.
 */
export async function compare(situation: Situation, stp: StpSide): Promise<string | undefined> {
  const plays = situation.title.startsWith('setTimeout') ? PLAYS_OF_TIME : 1;
  let difference: string | undefined;
  for (let play = 0; play < plays; play++) {
    difference = await compareOnce(situation, stp);
    if (difference === undefined) return undefined;
  }
  return difference;
}

/** undefined if STP does as net does, apart from what is wanted; else both logs. */
async function compareOnce(situation: Situation, stp: StpSide): Promise<string | undefined> {
  const [theirs, ours] = await Promise.all([
    play(situation, netFace),
    play(situation, stp.face, [stp.runDirectory, stp.stg]),
  ]);
  const missing: string[] = [];
  const expected = new Map([...theirs.lanes].map(([lane, lines]) => [lane, [...lines]]));
  for (const { edits } of wantedOf(situation.title)) {
    for (const { lane, net, stp: instead } of edits) {
      const lines = expected.get(lane) ?? [];
      const at = lines.findIndex((_, i) => net.every((line, j) => lines[i + j] === line));
      if (at < 0) missing.push(`[${lane}] ${net.join(' / ')}`);
      else lines.splice(at, net.length, ...instead);
      expected.set(lane, lines);
    }
  }
  if (missing.length > 0) {
    return `node:net no longer says ${missing.join(', ')}:\n${theirs.text()}`;
  }
  if (theirs.lanes.get('main')?.some((line) => line.includes('fails')) === true) {
    return `the situation fails over node:net:\n${theirs.text()}`;
  }
  const lanes = [...new Set([...expected.keys(), ...ours.lanes.keys()])].sort();
  const different = lanes.filter(
    (lane) => (expected.get(lane) ?? []).join('\n') !== (ours.lanes.get(lane) ?? []).join('\n'),
  );
  if (different.length === 0) return undefined;
  return different
    .map((lane) =>
      [
        `[${lane}] expected:`,
        ...(expected.get(lane) ?? []).map((line) => `  ${line}`),
        `[${lane}] over STP:`,
        ...(ours.lanes.get(lane) ?? []).map((line) => `  ${line}`),
      ].join('\n'),
    )
    .join('\n');
}
