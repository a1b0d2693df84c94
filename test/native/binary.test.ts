/**
 * What makes one binary serve every supported Node.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const inRoot = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const binary = inRoot('build/Release/stpd_native.node');

const readelf = (...flags: string[]) =>
  spawnSync('readelf', [...flags, binary], { encoding: 'utf8' });

const haveReadelf = readelf('-h').status === 0;
const withReadelf = haveReadelf ? test : test.skip;
if (!haveReadelf) console.log('skipped: readelf (binutils) is not installed');

const lines = (text: string) => text.split('\n');

withReadelf(
  'V8 functions are bound when called, so that a missing one does not stop loading',
  (t) => {
    const relocations = lines(readelf('-rW').stdout).filter((line) => / _ZN\w*2v8/.test(line));
    t.true(relocations.length > 0);
    for (const line of relocations) t.regex(line, /JUMP?_SLO?T/);
    t.notRegex(readelf('-dW').stdout, /BIND_NOW|Flags:.*\bNOW\b/);
  },
);

withReadelf('the end of a worker does not unload the table of segments', (t) => {
  t.regex(readelf('-dW').stdout, /NODELETE/);
});

withReadelf('every function of ours that is called is there', (t) => {
  const undefinedOfOurs = lines(readelf('--dyn-syms', '-W').stdout).filter(
    (line) => line.includes(' UND ') && line.includes('4stpd'),
  );
  t.deepEqual(undefinedOfOurs, []);
});

test('one file includes V8', (t) => {
  const includes = readdirSync(inRoot('native')).filter((file) =>
    /#\s*include\s*[<"]v8|#\s*include\s*<node\.h>/.test(
      readFileSync(inRoot(`native/${file}`), 'utf8'),
    ),
  );
  t.deepEqual(includes, ['external_buffer.cc']);
});
