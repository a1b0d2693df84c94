/**
 * One validator for everything people and programs hand in: configuration, flags, requests.
 * A problem names the value and the rule. Pure; any thread.
 */
import * as z from 'zod';
import { shown } from './shown.js';

/** Values that break a rule. Nothing was tried. Each problem is one line that starts with a name. */
export class ValidationError extends Error {
  override readonly name = 'ValidationError';
  readonly code = 'EINVAL';
  constructor(readonly problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

export interface CountRule {
  readonly min: number;
  readonly max: number;
  /** Completes "3 is too few: "; so does `most` for "too many". */
  readonly least: string;
  readonly most: string;
}

export const wholeNumber = (rule: CountRule) =>
  z
    .int({ error: (issue) => `${shown(issue.input)} is not a whole number` })
    .min(rule.min, { error: (issue) => `${shown(issue.input)} is too few: ${rule.least}` })
    .max(rule.max, { error: (issue) => `${shown(issue.input)} is too many: ${rule.most}` });

/** The largest id: 2^32 - 1 means "none" to the kernel. */
const ID_MAX = 2 ** 32 - 2;

/** A list of user or group ids. */
export const idList = (what: 'user' | 'group') =>
  z.array(
    z
      .int({ error: (issue) => `${shown(issue.input)} is not a ${what} id: give its number` })
      .min(0, { error: (issue) => `${shown(issue.input)} is not a ${what} id: ids start at 0` })
      .max(ID_MAX, {
        error: (issue) => `${shown(issue.input)} is not a ${what} id: above ${ID_MAX}`,
      }),
    { error: (issue) => `${shown(issue.input)} is not a list of ${what} ids` },
  );

/**
 * @param nameOf what the user calls the field of this key, such as `--board-size`
 * @throws ValidationError with one problem for each field
 */
export function validate<T>(
  schema: z.ZodType<T>,
  value: unknown,
  nameOf: (key: string) => string,
): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    const [key, ...rest] = issue.path;
    if (key === undefined) return issue.message;
    const index = rest.map((part) => `[${String(part)}]`).join('');
    return `${nameOf(String(key))}${index}: ${issue.message}`;
  });
  throw new ValidationError(problems);
}

/** The message for unknown keys, and for a value that is no object at all. */
export function objectError(knownKeys: readonly string[]) {
  return (issue: { readonly code?: string; readonly input?: unknown }): string => {
    if (issue.code !== 'unrecognized_keys') return `${shown(issue.input)} is not an object`;
    const { keys } = issue as unknown as { keys: readonly string[] };
    const quoted = keys.map(shown).join(', ');
    return `unknown key ${quoted}: the keys are ${knownKeys.join(', ')}`;
  };
}
