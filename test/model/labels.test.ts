/**
 * What the models say, the code does: every step of one has its line in the other, under one name.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { modelDirectory } from './spin.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const LABEL = /SYNC\[([a-z-]+\.[a-z-]+)\]/g;

function textsOf(directory: string, ending: RegExp): string[] {
  return readdirSync(directory)
    .filter((name) => ending.test(name))
    .map((name) => readFileSync(join(directory, name), 'utf8'));
}

function labelsOf(texts: readonly string[]): string[] {
  const labels = texts.flatMap((text) => [...text.matchAll(LABEL)].map(([, label]) => label ?? ''));
  return [...new Set(labels)].sort();
}

const code = [
  ...textsOf(join(root, 'native'), /\.(cc|h)$/),
  ...textsOf(join(root, 'src/memory'), /\.ts$/),
];
const models = textsOf(modelDirectory, /\.pml$/);

test('the steps of the models are lines of the code, and the other way round', (t) => {
  const inCode = labelsOf(code);
  t.true(inCode.length > 50);
  t.deepEqual(inCode, labelsOf(models));
});

test('a label stands for one line of the code', (t) => {
  const all = code.flatMap((text) => [...text.matchAll(LABEL)].map(([, label]) => label));
  const twice = all.filter((label, i) => all.indexOf(label) !== i);
  /* The member ring is written once for each direction. */
  t.deepEqual(twice, []);
});

test('every mutant of a model is one that its test runs', (t) => {
  const tests = textsOf(modelDirectory, /\.test\.ts$/).join('\n');
  for (const text of models) {
    for (const [mutant] of text.matchAll(/MUTANT_[A-Z_]+/g)) t.true(tests.includes(mutant), mutant);
  }
});
