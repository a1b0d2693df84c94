/**
 * The rules of `stg create` and `stg grow`, the same for `stpctl` (before anything is sent) and for the control
 * API (whatever was sent). Pure; any thread.
 */
import * as z from 'zod';
import {
  BOARDS_MAX,
  STG_BOARDS_MIN,
  STG_CONNECTIONS_MAX,
  STG_NAME_PATTERN,
  STG_PORTS_MAX,
} from '../limits.js';
import { shown } from './shown.js';
import { idList, objectError, ValidationError, validate, wholeNumber } from './validation.js';

const NAME_RULE =
  'an STG name has 1 to 63 of A-Z a-z 0-9 . _ - and starts with a letter or a digit';

const name = z
  .string({ error: (issue) => `${shown(issue.input)} is not a name: ${NAME_RULE}` })
  .regex(STG_NAME_PATTERN, {
    error: (issue) => `${shown(issue.input)} is not valid: ${NAME_RULE}`,
  });

const fields = {
  name,
  boardCount: wholeNumber({
    min: STG_BOARDS_MIN,
    max: BOARDS_MAX,
    least: `an STG has at least ${STG_BOARDS_MIN} boards, so that its hosts do not wait for each other`,
    most: `an array has at most ${BOARDS_MAX} boards`,
  }),
  ports: wholeNumber({
    min: 1,
    max: STG_PORTS_MAX,
    least: 'an STG needs a port to listen on',
    most: `an STG has at most ${STG_PORTS_MAX} listeners and binds`,
  }),
  connections: wholeNumber({
    min: 1,
    max: STG_CONNECTIONS_MAX,
    least: 'an STG carries at least one connection',
    most: `an STG carries at most ${STG_CONNECTIONS_MAX} connections`,
  }).optional(),
  allowUids: idList('user').optional(),
  allowGids: idList('group').optional(),
};

const schema = z.strictObject(fields, { error: objectError(Object.keys(fields)) });

/** The body of POST /v1/stgs. Absent lists and counts take the configured defaults. */
export type StgBody = {
  readonly name: string;
  readonly boardCount: number;
  readonly ports: number;
  readonly connections?: number | undefined;
  readonly allowUids?: readonly number[] | undefined;
  readonly allowGids?: readonly number[] | undefined;
};

/** @throws ValidationError */
export function checkStgBody(value: unknown, nameOf = (key: string): string => key): StgBody {
  return validate(schema, value, nameOf);
}

const growFields = {
  boardCount: wholeNumber({
    min: 0,
    max: BOARDS_MAX,
    least: 'an STG grows, it does not shrink',
    most: `an array has at most ${BOARDS_MAX} boards`,
  }).optional(),
  connections: wholeNumber({
    min: 0,
    max: STG_CONNECTIONS_MAX,
    least: 'an STG grows, it does not shrink',
    most: `an STG carries at most ${STG_CONNECTIONS_MAX} connections`,
  }).optional(),
};

const growSchema = z.strictObject(growFields, { error: objectError(Object.keys(growFields)) });

/** The body of POST /v1/stgs/NAME/grow: what is added. */
export type GrowBody = {
  readonly boardCount?: number | undefined;
  readonly connections?: number | undefined;
};

/** @throws ValidationError */
export function checkGrowBody(value: unknown, nameOf = (key: string): string => key): GrowBody {
  const body = validate(growSchema, value, nameOf);
  if ((body.boardCount ?? 0) === 0 && (body.connections ?? 0) === 0) {
    throw new ValidationError([
      `nothing to add: give ${nameOf('boardCount')}, ${nameOf('connections')} or both`,
    ]);
  }
  return body;
}

/** @throws ValidationError */
export function checkStgName(value: string): string {
  return validate(z.object({ name }), { name: value }, () => 'name').name;
}
