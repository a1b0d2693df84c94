/** A host and its director miss no command and no event: see member-ring.pml. */
import { LOST, suite } from './suite.js';

suite(
  'member-ring.pml',
  [{ name: 'rings that run full', define: [] }],
  [
    { mutant: 'MUTANT_NO_WAKE_FENCE', define: [], error: LOST },
    { mutant: 'MUTANT_NO_SLEEP_FENCE', define: [], error: LOST },
    { mutant: 'MUTANT_NO_SLEEP_LOOK', define: [], error: LOST },
    { mutant: 'MUTANT_DIRECTOR_FORGETS_THE_REST', define: [], error: LOST },
  ],
);
