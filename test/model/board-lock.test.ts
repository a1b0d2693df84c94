/** A board has one rightful owner, and a dead one delays nobody for ever: see board-lock.pml. */
import { BROKEN, LOST, suite } from './suite.js';

suite(
  'board-lock.pml',
  [
    { name: 'threads', define: [] },
    { name: 'with an event loop', define: ['LOOP'] },
    { name: 'the owner dies', define: ['DEATH'] },
    { name: 'the owner dies, with an event loop', define: ['DEATH', 'LOOP'] },
    { name: 'threads that go on without', define: ['IMPATIENT'] },
  ],
  [
    { mutant: 'MUTANT_NO_STEALING', define: ['DEATH'], error: LOST },
    { mutant: 'MUTANT_STEAL_WITHOUT_COMPARING', define: [], error: BROKEN },
    { mutant: 'MUTANT_UNLOCK_BY_STORE', define: [], error: BROKEN },
    { mutant: 'MUTANT_THREADS_SHARE_WORDS', define: [], error: BROKEN },
    { mutant: 'MUTANT_ONE_GENERATION', define: [], error: BROKEN },
  ],
);
