/** Foreign values in messages. Apart from validation.ts: verbs that validate nothing use it. Any thread. */

const SHOWN_CHARACTERS_MAX = 80;

/** A foreign value for a message: quoted, on one line, not too long. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > SHOWN_CHARACTERS_MAX ? `${text.slice(0, SHOWN_CHARACTERS_MAX)}...` : text;
}
