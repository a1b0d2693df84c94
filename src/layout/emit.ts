/**
 * What is derived from the tables: the C header, the document.
 * Run as a program (`node dist/src/layout/emit.js header|document FILE`) it writes one of them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Struct } from './define.js';
import { constants, layoutHash } from './hash.js';
import * as tables from './tables.js';

/** A field, as C names it. */
export const cName = (s: string): string => s.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
const cTypes = { u8: 'uint8_t', u32: 'uint32_t', u64: 'uint64_t' } as const;

function emitStruct(s: Struct): string {
  const lines = [`/* ${s.doc} */`, `struct stp_${s.name} {`];
  let end = 0;
  let pads = 0;
  for (const f of s.fields) {
    if (f.offset > end) lines.push(`  uint8_t pad_${pads++}[${f.offset - end}];`);
    const count = (f.count ?? 1) > 1 ? `[${f.count}]` : '';
    lines.push(`  ${cTypes[f.type]} ${cName(f.name)}${count};`);
    end = f.offset + f.bytes;
  }
  if (s.bytes > end) lines.push(`  uint8_t pad_${pads}[${s.bytes - end}];`);
  lines.push('};');
  lines.push(`static_assert(sizeof(struct stp_${s.name}) == ${s.bytes}, "stp_${s.name}");`);
  for (const f of s.fields) {
    lines.push(
      `static_assert(offsetof(struct stp_${s.name}, ${cName(f.name)}) == ${f.offset}, "${s.name}.${f.name}");`,
    );
  }
  return lines.join('\n');
}

/** The header that native code includes; C11 and C++17. */
export function layoutHeader(): string {
  const numbers = Object.entries(constants).map(([k, v]) => `#define STP_${k} ${v}u`);
  return [
    '/* Generated from src/layout/tables.ts. Do not edit. */',
    '#ifndef STPD_LAYOUT_H',
    '#define STPD_LAYOUT_H',
    '#include <stddef.h>',
    '#include <stdint.h>',
    '#ifndef __cplusplus',
    '#include <assert.h>',
    '#endif',
    `#define STP_SUPERBLOCK_MAGIC 0x${tables.SUPERBLOCK_MAGIC.toString(16)}ull`,
    `#define STP_LAYOUT_HASH "${layoutHash()}"`,
    ...numbers,
    '',
    tables.STRUCTS.map(emitStruct).join('\n\n'),
    '#endif',
    '',
  ].join('\n');
}

/** docs/layout.md. */
export function layoutDocument(): string {
  const parts = [
    '# Layout of the shared memory',
    '',
    'Generated from `src/layout/tables.ts` by `npm run docs`; a test compares the two.',
    `Version ${tables.LAYOUT_VERSION}, hash \`${layoutHash()}\`. All numbers are little-endian.`,
    '',
    '| constant | value |',
    '|---|---|',
    ...Object.entries(constants).map(([k, v]) => `| ${k} | ${v} |`),
  ];
  for (const s of tables.STRUCTS as readonly Struct[]) {
    parts.push('', `## ${s.name}: ${s.bytes} bytes`, '', s.doc, '');
    parts.push('| offset | field | type | written by | meaning |', '|---|---|---|---|---|');
    for (const f of s.fields) {
      const type = (f.count ?? 1) > 1 ? `${f.type}[${f.count}]` : f.type;
      parts.push(`| ${f.offset} | ${f.name} | ${type} | ${f.writer} | ${f.doc} |`);
    }
  }
  return `${parts.join('\n')}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , what, file] = process.argv;
  const text =
    what === 'header' ? layoutHeader() : what === 'document' ? layoutDocument() : undefined;
  if (text === undefined || file === undefined) {
    process.stderr.write('usage: emit.js header|document FILE\n');
    process.exit(2);
  }
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}
