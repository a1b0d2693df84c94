/** `--interval`: seconds between two samples. */
import { setTimeout as delay } from 'node:timers/promises';
import { shown } from '../../daemon/shown.js';
import { ValidationError } from '../../daemon/validation.js';
import type { Figures } from '../../view/figures.js';
import { withRates } from '../../view/rates.js';
import type { ViewSource } from './view-source.js';

/** Below this a rate is noise, and a view costs what it watches. */
export const INTERVAL_SECONDS_MIN = 0.01;
export const INTERVAL_SECONDS_MAX = 3600;

/** @throws ValidationError */
export function intervalMsOf(typed: string | undefined, secondsDefault: number): number {
  if (typed === undefined) return secondsDefault * 1000;
  const seconds = /^[0-9]*\.?[0-9]+$/.test(typed) ? Number(typed) : Number.NaN;
  if (!(seconds >= INTERVAL_SECONDS_MIN && seconds <= INTERVAL_SECONDS_MAX)) {
    throw new ValidationError([
      `--interval: ${shown(typed)} is not a number of seconds from ${INTERVAL_SECONDS_MIN} to ` +
        `${INTERVAL_SECONDS_MAX}`,
    ]);
  }
  return seconds * 1000;
}

/** Two samples, and what they make of each other. */
export async function sampleOver(source: ViewSource, intervalMs: number): Promise<Figures> {
  const before = await source.figures();
  await delay(intervalMs);
  return withRates(before, await source.figures());
}
