/**
 * Reads a configuration file of either role and says all that is wrong with it, each with its line.
 *
 * There is one way to read one: the roles, the verbs that need a path of it, and `check-config` all
 * come here, so that what one accepts no other refuses. Any thread; reads files once.
 */
import { readFileSync } from 'node:fs';
import type * as z from 'zod';
import { isCoded, messageOf } from '../errors.js';
import { readJson } from '../json-text.js';
import { PORT_MAX } from '../limits.js';
import { ConfigurationError } from './config-error.js';
import {
  type ClientFields,
  ROLES,
  type Role,
  type ServerFields,
  schemaDocument,
  schemas,
} from './config-schema.js';

/** One thing that is wrong, or may be. */
export interface Finding {
  readonly severity: 'error' | 'warning';
  /** Of the file, from 1; null where it is about the file itself. */
  readonly line: number | null;
  /** Dotted, such as `hosts.web1.keyFile`; empty for the file itself. */
  readonly field: string;
  /** What is wrong, and what to do. */
  readonly message: string;
}

export type Fields<R extends Role> = R extends 'client' ? ClientFields : ServerFields;

export type FieldPath = readonly (string | number)[];

export interface ConfigText {
  readonly file: string;
  readonly value: unknown;
  readonly findings: readonly Finding[];
  /** Line of a field, null where the file could not be read that far. */
  readonly lineOf: (path: FieldPath) => number | null;
}

const error = (line: number | null, field: string, message: string): Finding => ({
  severity: 'error',
  line,
  field,
  message,
});

/** `FILE:LINE: field: what is wrong`. */
export const findingText = (file: string, { line, field, message }: Finding): string =>
  `${line === null ? file : `${file}:${line}`}: ${field === '' ? '' : `${field}: `}${message}`;

/** @throws ConfigurationError with all that is wrong, a line for each */
export function assertSound(file: string, findings: readonly Finding[]): void {
  const errors = findings.filter(({ severity }) => severity === 'error');
  if (errors.length === 0) return;
  throw new ConfigurationError(errors.map((e) => findingText(file, e)).join('\n'));
}

/** The text of a file and its JSON. Never throws. */
export function readConfigText(file: string): ConfigText {
  const nowhere = { file, value: undefined, lineOf: () => null };
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (e) {
    const missing = isCoded(e) && e.code === 'ENOENT';
    const why = missing ? 'there is no such file' : `it cannot be read: ${messageOf(e)}`;
    return { ...nowhere, findings: [error(null, '', why)] };
  }
  const read = readJson(text);
  if ('problem' in read) {
    const { line, column, message } = read.problem;
    const finding = error(line, '', `the file is not JSON: column ${column}: ${message}`);
    return { ...nowhere, findings: [finding] };
  }
  const { value, lineOf, duplicates } = read;
  const twice = duplicates.map(({ line, message }) =>
    error(line, '', `${message}, and only one of them would count: remove the other`),
  );
  return { file, value, findings: twice, lineOf };
}

type Schema = Readonly<Record<string, unknown>>;

/** The part of a JSON schema that a path leads to. */
function schemaAt(schema: Schema, path: readonly PropertyKey[]): Schema {
  let at = schema;
  for (const step of path) {
    const { properties, additionalProperties, items } = at as Record<string, Schema>;
    at = (properties?.[String(step)] ?? additionalProperties ?? items ?? {}) as Schema;
  }
  return at;
}

/** Letters to change, add or remove to get from one word to the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

function unknownField(role: Role, path: readonly PropertyKey[], key: string): string {
  const { properties = {} } = schemaAt(schemaDocument(role), path) as { properties?: object };
  const known = Object.keys(properties).filter((name) => name !== '$schema');
  const lower = key.toLowerCase();
  const [near] = known
    .map((name) => ({ name, far: distance(lower, name.toLowerCase()) }))
    .filter(({ name, far }) => far <= Math.max(2, Math.floor(name.length / 3)))
    .sort((a, b) => a.far - b.far);
  if (near) return `unknown field; did you mean ${near.name}?`;
  return `unknown field; the fields here are ${known.join(', ')}`;
}

function findingsOf(role: Role, text: ConfigText, issues: readonly z.core.$ZodIssue[]): Finding[] {
  return issues.flatMap((issue) => {
    const at = (path: readonly PropertyKey[], message: string): Finding =>
      error(text.lineOf(path as FieldPath), path.map(String).join('.'), message);
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => at([...issue.path, key], unknownField(role, issue.path, key)));
    }
    if (issue.code === 'invalid_key') return [at(issue.path, issue.issues[0]?.message ?? '')];
    const isMissing = issue.input === undefined && issue.path.length > 0;
    if (isMissing) return [at(issue.path, 'is missing')];
    const given = issue.input === undefined ? '' : ` (is ${JSON.stringify(issue.input)})`;
    return [at(issue.path, `${issue.message}${given}`)];
  });
}

const isPort = (n: number): boolean => Number.isInteger(n) && n >= 1 && n <= PORT_MAX;
const isPortRange = ([from, to]: readonly [number, number]): boolean =>
  (from === 0 && to === 0) || (isPort(from) && isPort(to) && from <= to);

const needsKey =
  'is missing; make a key with "stpbackup key new FILE" and give both hosts the same file, or say ' +
  '"tls": false on both to send in the clear';

/** Rules between the fields of a client's file. */
function clientRules(c: ClientFields): [FieldPath, string][] {
  const found: [FieldPath, string][] = [];
  if (c.tls && c.keyFile === undefined) found.push([['keyFile'], needsKey]);
  if (!isPortRange(c.ports)) {
    const given = c.ports.join(', ');
    found.push([['ports'], `must be two ports from 1 to ${PORT_MAX} in order (is ${given})`]);
  }
  if (c.wal && !Object.hasOwn(c.servers, c.wal.server)) {
    const known = Object.keys(c.servers).join(', ') || 'none';
    found.push([['wal', 'server'], `wal needs its server in servers, which has: ${known}`]);
  }
  if (c.wal && c.control === undefined) {
    found.push([['wal'], 'wal needs control, the path of a socket']);
  }
  const none = c.roots.length === 0 && c.restoreRoots.length === 0;
  if (none && Object.keys(c.servers).length === 0) {
    const rule = 'roots and restoreRoots are both empty, so nothing may be read or written';
    found.push([['roots'], `${rule}; list the directories that may be backed up in roots`]);
  }
  return found;
}

/** Rules between the fields of a server's file. */
function serverRules(s: ServerFields): [FieldPath, string][] {
  if (!s.tls) return [];
  return Object.entries(s.hosts)
    .filter(([, host]) => host.keyFile === undefined)
    .map(([name]) => [['hosts', name, 'keyFile'], needsKey]);
}

/** What a file says, if it may stand, and all that is wrong with it. Never throws. */
export function examine<R extends Role>(
  text: ConfigText,
  role: R,
): { readonly fields: Fields<R> | null; readonly findings: readonly Finding[] } {
  if (text.value === undefined) return { fields: null, findings: text.findings };
  const result = schemas[role].safeParse(text.value, { reportInput: true });
  if (!result.success) {
    const looksLike = roleOf(text.value);
    if (looksLike !== null && looksLike !== role) {
      const other = `this is the configuration of a ${looksLike}; that of the ${role} is wanted here`;
      return { fields: null, findings: [error(null, '', other)] };
    }
    const issues = findingsOf(role, text, result.error.issues);
    return { fields: null, findings: [...text.findings, ...issues] };
  }
  const fields = result.data as Fields<R>;
  const broken =
    role === 'client' ? clientRules(fields as ClientFields) : serverRules(fields as ServerFields);
  const rules = broken.map(([path, message]) => error(text.lineOf(path), path.join('.'), message));
  const findings = [...text.findings, ...rules];
  return { fields: findings.length === 0 ? fields : null, findings };
}

/** A file that may stand. @throws ConfigurationError */
export function readConfig<R extends Role>(file: string, role: R): Fields<R> {
  const { fields, findings } = examine(readConfigText(file), role);
  assertSound(file, findings);
  return fields as Fields<R>;
}

/** The role that a file is of, by the fields that only one of them has; null if that does not tell. */
export function roleOf(value: unknown): Role | null {
  if (typeof value !== 'object' || value === null) return null;
  const given = Object.keys(value);
  const [client, server] = ROLES.map((role) => Object.keys(schemas[role].shape)) as [
    string[],
    string[],
  ];
  const forClient = given.filter((key) => client.includes(key) && !server.includes(key)).length;
  const forServer = given.filter((key) => server.includes(key) && !client.includes(key)).length;
  if (forClient === forServer) return null;
  return forClient > forServer ? 'client' : 'server';
}
