/**
 * The language of the field tables: what a shared structure is made of.
 *
 * A table is data. From it come the TypeScript offsets, the C header with static asserts, the page
 * in docs/layout.md and the hash that attach compares. Every field is naturally aligned and follows
 * the one before it without a hole; a hole can only be made by `line` (start of a 128-byte line),
 * and is emitted as explicit padding. Runs on any thread; no behaviour, no state.
 */

/** Two 64-byte lines: adjacent-line prefetch pulls them in pairs. */
export const LINE_BYTES = 128;

const widths = { u8: 1, u32: 4, u64: 8 } as const;
export type FieldType = keyof typeof widths;

export interface FieldSpec {
  readonly type: FieldType;
  /** Number of elements; 1 when absent. */
  readonly count?: number;
  /** Start this field on a new 128-byte line. */
  readonly line?: true;
  /** Who writes it. One writer a line, unless the text says how the others are excluded. */
  readonly writer: string;
  readonly doc: string;
}

export interface Field extends FieldSpec {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

export interface Struct<K extends string = string> {
  readonly name: string;
  readonly doc: string;
  readonly bytes: number;
  readonly fields: readonly Field[];
  /** Byte offset of each field from the start of the structure. */
  readonly at: Readonly<Record<K, number>>;
}

export function defineStruct<K extends string>(
  name: string,
  bytes: number,
  doc: string,
  specs: Readonly<Record<K, FieldSpec>>,
): Struct<K> {
  const fields: Field[] = [];
  const at = {} as Record<K, number>;
  let end = 0;
  for (const key of Object.keys(specs) as K[]) {
    const spec = specs[key];
    const width = widths[spec.type];
    if (spec.line) end = Math.ceil(end / LINE_BYTES) * LINE_BYTES;
    if (end % width !== 0) throw new Error(`layout: ${name}.${key} would leave a hole at ${end}`);
    const fieldBytes = width * (spec.count ?? 1);
    fields.push({ ...spec, name: key, offset: end, bytes: fieldBytes });
    at[key] = end;
    end += fieldBytes;
  }
  if (end > bytes) throw new Error(`layout: ${name} needs ${end} bytes, has ${bytes}`);
  if (bytes % LINE_BYTES !== 0 && LINE_BYTES % bytes !== 0) {
    throw new Error(`layout: ${name} of ${bytes} bytes does not tile lines of ${LINE_BYTES}`);
  }
  return { name, doc, bytes, fields, at };
}
