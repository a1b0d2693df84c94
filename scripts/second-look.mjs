/**
 * Which test files of a failed AVA run may run a second time, alone.
 *
 * Tests that start processes share two cores with each other, and with whatever else the machine
 * does; a file of theirs that fails there and passes by itself is printed as unsteady, with both
 * outputs, for somebody to mend. Memory, the waking protocol and native code get no second look:
 * there, a fault that shows once in a thousand runs is the fault that is looked for.
 */
import fs from 'node:fs';
import path from 'node:path';

const STRICT = ['unit/memory/', 'unit/layout/', 'native/', 'model/', 'stress/'];
/** More files than these at once are no coincidence. */
const FILES_MAX = 5;

/** @returns {string[]} files below dist/test, or none if anything in the output has no such file */
export function secondLook(output, root) {
  if (/^ {2}✘ Timed out while running tests/m.test(output)) return [];
  const tests = path.join(root, 'dist/test');
  const all = fs
    .readdirSync(tests, { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .sort((a, b) => b.length - a.length);
  const files = new Set();
  for (const [, what] of output.matchAll(/^ {2}✘ (.*)$/gm)) {
    const file = all.find(
      (name) =>
        what.startsWith(`[fail]: ${name.slice(0, -'.test.js'.length).replaceAll('/', ' › ')} › `) ||
        what.includes(`dist/test/${name}`),
    );
    if (file === undefined || STRICT.some((room) => file.startsWith(room))) return [];
    files.add(path.join('dist/test', file));
  }
  return files.size <= FILES_MAX ? [...files] : [];
}
