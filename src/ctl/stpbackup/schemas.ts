/** The JSON schemas that are shipped in docs/ and printed by `check-config --schema`. Any thread. */
import { ROLES, schemaDocument } from '../../backup/config-schema.js';
import { eventDocument } from './events-schema.js';

/** What can be printed. */
export const SCHEMAS = [...ROLES, 'events'] as const;
export type SchemaName = (typeof SCHEMAS)[number];

const documents: Readonly<Record<SchemaName, () => object>> = {
  client: () => schemaDocument('client'),
  server: () => schemaDocument('server'),
  events: eventDocument,
};

export const schemaText = (name: SchemaName): string =>
  `${JSON.stringify(documents[name](), null, 2)}\n`;

/** File names in docs/, and what they hold. */
export const schemaFiles = (): [string, string][] =>
  SCHEMAS.map((name) => [`${name}.schema.json`, schemaText(name)]);
