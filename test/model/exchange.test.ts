/** A page has one owner and is never lost, also where pages are exchanged: see exchange.pml. */
import { BROKEN, suite } from './suite.js';

suite(
  'exchange.pml',
  [
    { name: 'three pages', define: [], large: true },
    { name: 'two pages: the pool runs empty', define: ['PAGES=2'] },
    { name: 'the consumer dies', define: ['DEATH=1', 'LENGTH=2', 'TURNS=1'], large: true },
    { name: 'the producer dies', define: ['DEATH=2', 'LENGTH=3', 'TURNS=1'], large: true },
    { name: 'given pages', define: ['GIVING', 'LENGTH=3'], large: true },
    { name: 'the giver dies', define: ['GIVING', 'DEATH=2', 'LENGTH=2', 'TURNS=1'], large: true },
  ],
  [
    { mutant: 'MUTANT_CLAIM_BY_STORE', define: [], error: BROKEN },
    { mutant: 'MUTANT_LIST_AFTER_HEAD', define: [], error: BROKEN },
    { mutant: 'MUTANT_PRODUCER_REMEMBERS', define: [], error: BROKEN },
    { mutant: 'MUTANT_NO_MEMBER_SWEEP', define: ['DEATH=1'], error: BROKEN },
    { mutant: 'MUTANT_NO_TORN_SWEEP', define: ['DEATH=2'], error: BROKEN },
  ],
);
