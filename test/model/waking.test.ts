/** Nobody sleeps through what it waits for: see waking.pml. */
import { BROKEN, LOST, type Mutant, type Setup, suite } from './suite.js';

const stream = (
  producer: string,
  consumer: string,
  ending: string,
  ...more: string[]
): string[] => [
  'STREAM',
  `PRODUCER=${producer}`,
  `CONSUMER=${consumer}`,
  `ENDING=${ending}`,
  ...more,
];
const threads = stream('THREAD', 'THREAD', 'FIN');
const loops = stream('LOOP', 'LOOP', 'FIN');
const closing = stream('LOOP', 'LOOP', 'CLOSE');
const dying = stream('THREAD', 'THREAD', 'DEATH');
const dyingBeforeLoop = stream('THREAD', 'LOOP', 'DEATH', 'UNITS=2');
const wholePages = stream(
  'THREAD',
  'THREAD',
  'FIN',
  'WHOLE_PAGES',
  'WINDOW=2',
  'PAGE=2',
  'UNITS=5',
);
const fanIn = ['FAN_IN', 'UNITS=1'];

const setups: Setup[] = [
  {
    name: 'a loop that is told of less than half of the window, or is not',
    define: stream('LOOP', 'LOOP', 'FIN', 'WINDOW=4', 'UNITS=6'),
  },
  {
    name: 'threads that wait for pages',
    define: stream('THREAD', 'THREAD', 'FIN', 'WINDOW=4', 'PAGE=2', 'UNITS=7'),
  },
  {
    name: 'a thread that waits for pages, and a loop',
    define: stream('THREAD', 'LOOP', 'FIN', 'WINDOW=4', 'PAGE=2', 'UNITS=5'),
  },
  { name: 'whole pages to a thread', define: wholePages },
  {
    name: 'whole pages of a larger window',
    define: stream('THREAD', 'THREAD', 'FIN', 'WHOLE_PAGES', 'WINDOW=4', 'PAGE=2', 'UNITS=5'),
  },
  {
    name: 'whole pages, the writer dies',
    define: stream('LOOP', 'THREAD', 'DEATH', 'WHOLE_PAGES', 'WINDOW=2', 'PAGE=2', 'UNITS=3'),
  },
  { name: 'thread to loop', define: stream('THREAD', 'LOOP', 'FIN') },
  { name: 'loop to thread, reset', define: stream('LOOP', 'THREAD', 'RESET') },
  { name: 'loop to loop', define: loops },
  { name: 'loops, the reader closes', define: closing },
  { name: 'threads, the reader closes', define: stream('THREAD', 'THREAD', 'CLOSE') },
  { name: 'threads, the writer dies', define: dying },
  { name: 'thread to loop, the writer dies', define: dyingBeforeLoop, large: true },
  { name: 'loop to loop, the writer dies', define: stream('LOOP', 'LOOP', 'DEATH', 'UNITS=1') },
  { name: 'two loops, both ways at once', define: ['DUPLEX', 'UNITS=2', 'WINDOW=1'], large: true },
  { name: 'two streams to one loop', define: fanIn },
  { name: 'two streams in one word of bits', define: [...fanIn, 'ONE_WORD'] },
  {
    name: 'loop to loop comes to an end',
    define: stream('LOOP', 'LOOP', 'FIN', 'UNITS=2', 'WINDOW=1', 'LIVELY'),
  },
  {
    name: 'thread to thread comes to an end',
    define: stream('THREAD', 'THREAD', 'CLOSE', 'UNITS=2', 'WINDOW=1', 'LIVELY'),
  },
];
if (process.env.STPD_MODEL_LARGE !== undefined) {
  setups.push(
    { name: 'large: two streams to one loop', define: ['FAN_IN', 'UNITS=2'] },
    { name: 'large: the same in one word', define: ['FAN_IN', 'UNITS=2', 'ONE_WORD'] },
    { name: 'large: the writer dies', define: stream('LOOP', 'LOOP', 'DEATH') },
    {
      name: 'large: pages to a loop',
      define: stream('THREAD', 'LOOP', 'FIN', 'WINDOW=4', 'PAGE=2', 'UNITS=7'),
    },
  );
}

const mutants: Mutant[] = [
  { mutant: 'MUTANT_NO_TAIL_FENCE', define: threads, error: LOST },
  { mutant: 'MUTANT_NO_HEAD_FENCE', define: loops, error: LOST },
  { mutant: 'MUTANT_WAITER_BEFORE_CURSOR', define: threads, error: LOST },
  { mutant: 'MUTANT_NO_END_FENCE', define: threads, error: LOST },
  { mutant: 'MUTANT_NO_CLOSE_FENCE', define: closing, error: LOST },
  { mutant: 'MUTANT_NO_ARM_FENCE', define: loops, error: LOST },
  { mutant: 'MUTANT_NO_ARM_LOOK', define: loops, error: LOST },
  { mutant: 'MUTANT_NO_WAIT_FENCE', define: threads, error: LOST },
  { mutant: 'MUTANT_NO_WAIT_LOOK', define: threads, error: LOST },
  { mutant: 'MUTANT_TELL_ROOM_EARLY', define: wholePages, error: LOST },
  { mutant: 'MUTANT_WAITS_FOR_ALL', define: wholePages, error: LOST },
  { mutant: 'MUTANT_WAITS_AFTER_THE_END', define: wholePages, error: LOST },
  { mutant: 'MUTANT_TAIL_BEFORE_FLAGS', define: threads, error: BROKEN },
  { mutant: 'MUTANT_GONE_AFTER_TAIL', define: dying, error: BROKEN },
  { mutant: 'MUTANT_ABORT_TRUSTS_THE_WORD', define: dying, error: LOST },
  { mutant: 'MUTANT_NO_NOTIFY_FENCE', define: fanIn, error: LOST },
  { mutant: 'MUTANT_SUMMARY_FIRST', define: fanIn, error: LOST },
  { mutant: 'MUTANT_BITS_BEFORE_SUMMARY', define: fanIn, error: LOST },
  { mutant: 'MUTANT_NO_SLEEP_FENCE', define: loops, error: LOST },
  { mutant: 'MUTANT_NO_SLEEP_LOOK', define: loops, error: LOST },
  { mutant: 'MUTANT_SLEEP_WORD_LATE', define: loops, error: LOST },
  { mutant: 'MUTANT_BELL_WITHOUT_EXCHANGE', define: fanIn, error: BROKEN },
  { mutant: 'MUTANT_NO_AWAKE', define: loops, error: BROKEN },
];

suite('waking.pml', setups, mutants);
