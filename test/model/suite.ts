/**
 * The test of a model: it holds in every set-up, each mutant fails as it should, and there is no
 * line that no set-up comes to.
 */
import test from 'ava';
import { missing, type Verdict, verify } from './spin.js';

export interface Setup {
  readonly name: string;
  readonly define: readonly string[];
  /** A million states and more. */
  readonly large?: true;
}

export interface Mutant {
  /** What is taken away or changed: a definition of the model. */
  readonly mutant: string;
  readonly define: readonly string[];
  readonly error: NonNullable<Verdict['error']>;
}

/** In a wait that never ends nobody can do anything any more. */
export const LOST = 'invalid end state';
export const BROKEN = 'assertion violated';

export function suite(model: string, setups: readonly Setup[], mutants: readonly Mutant[]): void {
  const why = missing();
  if (why !== undefined) console.log(`skipped: ${model}: ${why}`);
  const run = why === undefined ? test : test.skip;

  run(`${model} holds in every state of every set-up`, async (t) => {
    t.timeout(10 * 60_000);
    const reached = new Set<string>();
    const unreached = new Set<string>();
    for (const { name, define, large } of setups) {
      const verdict = await verify(model, define, large);
      t.log(`${name}: ${verdict.states} states`);
      t.is(verdict.error, undefined, `${name}: ${verdict.output}`);
      t.is(verdict.incomplete, undefined, name);
      for (const line of verdict.reached) reached.add(line);
      for (const line of verdict.unreached) unreached.add(line);
    }
    const never = [...unreached].filter((line) => !reached.has(line));
    t.deepEqual(never, [], 'lines that no set-up comes to');
  });

  run(`${model}: every mutant is found out`, async (t) => {
    t.timeout(10 * 60_000);
    for (const { mutant, define, error } of mutants) {
      const verdict = await verify(model, [...define, mutant]);
      t.is(verdict.error, error, `${mutant}: ${verdict.output}`);
    }
    t.log(`${mutants.length} mutants`);
  });
}
