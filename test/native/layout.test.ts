/**
 * The compiler, the tables and the document agree about every shared byte.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { Struct } from '../../src/layout/define.js';
import { cName, layoutDocument, layoutHeader } from '../../src/layout/emit.js';
import { constants, layoutHash } from '../../src/layout/hash.js';
import { STRUCTS, SUPERBLOCK_MAGIC } from '../../src/layout/tables.js';
import { compile, type Language } from './compiler.js';

const structs: readonly Struct[] = STRUCTS;
const inRoot = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

/** A program that prints what the compiler made of the header: one `name number` a line. */
function printer(): string {
  const lines: string[] = [];
  const print = (label: string, value: string) =>
    lines.push(`  printf("%s %llu\\n", "${label}", (unsigned long long)(${value}));`);
  print('SUPERBLOCK_MAGIC', 'STP_SUPERBLOCK_MAGIC');
  for (const name of Object.keys(constants)) print(name, `STP_${name}`);
  for (const s of structs) {
    const type = `struct stp_${s.name}`;
    print(s.name, `sizeof(${type})`);
    for (const f of s.fields) {
      const field = cName(f.name);
      print(`${s.name}.${f.name}@`, `offsetof(${type}, ${field})`);
      print(`${s.name}.${f.name}#`, `sizeof(((${type} *)0)->${field})`);
      if ((f.count ?? 1) > 1) print(`${s.name}.${f.name}[]`, `sizeof(((${type} *)0)->${field}[0])`);
    }
  }
  return [
    '#include <stdio.h>',
    '#include "layout.h"',
    'int main(void) {',
    ...lines,
    '  printf("hash %s\\n", STP_LAYOUT_HASH);',
    '  return 0;',
    '}',
    '',
  ].join('\n');
}

/** The same lines from the tables. */
function expected(): string[] {
  const lines = [`SUPERBLOCK_MAGIC ${SUPERBLOCK_MAGIC}`];
  for (const [name, value] of Object.entries(constants)) lines.push(`${name} ${value}`);
  for (const s of structs) {
    lines.push(`${s.name} ${s.bytes}`);
    for (const f of s.fields) {
      const count = f.count ?? 1;
      lines.push(`${s.name}.${f.name}@ ${f.offset}`, `${s.name}.${f.name}# ${f.bytes}`);
      if (count > 1) lines.push(`${s.name}.${f.name}[] ${f.bytes / count}`);
    }
  }
  return [...lines, `hash ${layoutHash()}`];
}

const dialects: readonly [Language, string][] = [
  ['c', '-std=c11'],
  ['cc', '-std=c++17'],
];

for (const [language, standard] of dialects) {
  test(`offsets, sizes and constants are the compiler's (${standard})`, (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'stpd-layout-'));
    t.teardown(() => rmSync(directory, { recursive: true }));
    writeFileSync(join(directory, 'layout.h'), layoutHeader());
    const flags = [standard, '-Wall', '-Wextra', '-Werror', `-I${directory}`];
    const program = compile(directory, 'print-layout', language, printer(), flags);
    const result = spawnSync(program, { encoding: 'utf8' });
    t.is(result.status, 0);
    t.deepEqual(result.stdout.trimEnd().split('\n'), expected());
  });
}

test('the header that the addon was compiled with is the current one', (t) => {
  t.is(readFileSync(inRoot('build/generated/layout.h'), 'utf8'), layoutHeader());
});

test('docs/layout.md is the current one (else: npm run docs)', (t) => {
  t.is(readFileSync(inRoot('docs/layout.md'), 'utf8'), layoutDocument());
});

test('a static assert of the header fails when a field moves', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stpd-layout-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const moved = layoutHeader().replace('  uint64_t magic;', '  uint32_t moved; uint64_t magic;');
  t.not(moved, layoutHeader());
  writeFileSync(join(directory, 'layout.h'), moved);
  const flags = ['-std=c++17', `-I${directory}`];
  t.throws(() => compile(directory, 'moved', 'cc', printer(), flags), { message: /superblock/ });
});
