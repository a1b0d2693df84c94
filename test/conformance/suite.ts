/**
 * The conformance suite: what both mechanisms do alike. New behaviour of STPConnect enters here
 * first; what only one mechanism has is tested in test/unit/connect.
 */
import type { TestFn } from 'ava';
import { ending } from './ending.js';
import { opening } from './opening.js';
import { type Mechanism, situations } from './rig.js';
import { states } from './states.js';
import { streaming } from './streaming.js';
import { waiting } from './waiting.js';

export function conformance(test: TestFn, mechanism: Mechanism): void {
  const situation = situations(test, mechanism);
  opening(situation);
  states(situation);
  streaming(situation);
  ending(situation);
  waiting(situation);
}
