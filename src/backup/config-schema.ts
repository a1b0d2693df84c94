/**
 * The fields of the two configuration files: what `config.ts` checks a file with, and what
 * `docs/client.schema.json` and `docs/server.schema.json` are made of. Any thread.
 */
import * as z from 'zod';
import { PORT_MAX, STG_NAME_PATTERN } from '../limits.js';
import { HOST_NAME_PATTERN, HOST_NAME_RULE } from './host-name.js';
import {
  CLIENT_WKP,
  COMMAND_BYTES_MAX,
  COMMAND_SECONDS_DEFAULT,
  COMMAND_SECONDS_MAX,
  SERVER_WKP,
} from './limits.js';
import { mediaSchema } from './media-schema.js';
import { RATE_MAX, RATE_PATTERN, RATE_RULE } from './rate.js';

const name = z.string().regex(HOST_NAME_PATTERN, HOST_NAME_RULE);
const file = z.string().min(1, 'must not be empty');
const port = (max: number) =>
  z
    .number()
    .int('must be a whole number')
    .min(1, `must be a port from 1 to ${max}`)
    .max(max, `must be a port from 1 to ${max}`);
const address = z.string().min(1, 'must be a host name or an IP address').default('127.0.0.1');
const clientPort = port(PORT_MAX - 1)
  .default(CLIENT_WKP)
  .describe('well-known port of the client; it uses the one after it, too');
const serverPort = port(PORT_MAX)
  .default(SERVER_WKP)
  .describe('well-known port of the server, which clients call for database sessions');
const keyFile = file
  .optional()
  .describe(
    'key of the pair of hosts, mode 0600 (stpbackup key new FILE); needed unless "tls" is false',
  );
const tls = z
  .boolean()
  .default(true)
  .describe('false: control connections in the clear and unchecked, on both sides');
const runDirectory = file.optional().describe("run directory of stpd; default: as stpd's own");
const schemaLink = z.string().optional().describe('where this schema is, for editors; not read');

const command = z
  .string()
  .min(1, 'must not be empty')
  .max(COMMAND_BYTES_MAX, `must have at most ${COMMAND_BYTES_MAX} characters`);
const before = command
  .optional()
  .describe('line for /bin/sh, run before a backup; if it fails, so does the backup');
const after = command
  .optional()
  .describe('line for /bin/sh, run after a backup however it went; if it fails, that is a warning');

/** What slows the data's threads down, for others to go first. */
const limits = {
  limitRate: z
    .union([z.number().int().min(1).max(RATE_MAX), z.string().regex(RATE_PATTERN, RATE_RULE)], {
      error: RATE_RULE,
    })
    .optional()
    .describe('most bytes a second that this side moves, all sessions together, such as "100M"'),
  nice: z
    .number()
    .int('must be a whole number')
    .min(0, 'must be a niceness from 0 to 19')
    .max(19, 'must be a niceness from 0 to 19')
    .optional()
    .describe('niceness of the threads that move data: see nice(2)'),
  ionice: z
    .string()
    .regex(/^(?:idle|best-effort:[0-7])$/, 'must be "idle", or "best-effort:0" to "best-effort:7"')
    .optional()
    .describe('I/O priority of the threads that move data: see ionice(1)'),
};

const root = z.union(
  [
    file,
    z.strictObject({
      path: file,
      before,
      after,
    }),
  ],
  { error: 'must be a path, or an object with "path", and "before" or "after"' },
);

export const clientSchema = z.strictObject({
  $schema: schemaLink,
  name: name.describe('name of this host'),
  runDirectory,
  address: address.describe('address to listen on'),
  wkp: clientPort,
  roots: z
    .array(root)
    .default([])
    .describe('directories below which may be read, some with commands of their own'),
  restoreRoots: z.array(file).default([]).describe('directories below which a restore may write'),
  keyFile,
  tls,
  // Database sessions, which this side initiates.
  servers: z
    .record(
      name,
      z.strictObject({ address: address.describe('address of the server'), wkp: serverPort }),
    )
    .default({})
    .describe('servers that database sessions go to, by name'),
  ports: z
    .tuple([z.number(), z.number()])
    .default([0, 0])
    .describe('first and last of the dynamic TCP ports; 0 and 0: any free one'),
  control: file
    .optional()
    .describe('path of the socket for wal-push, wal-fetch and db --postgresql'),
  wal: z
    .strictObject({
      server: name.describe('a name of "servers"'),
      name: name.describe('name of the database in the library'),
      uid: z
        .number()
        .int()
        .min(0)
        .optional()
        .describe('user that may use the control socket: for WAL and for base backups'),
    })
    .optional()
    .describe("where the WAL of this host's PostgreSQL goes"),
  before,
  after,
  commandSeconds: z
    .number()
    .int('must be a whole number')
    .min(1, `must be 1 to ${COMMAND_SECONDS_MAX} seconds`)
    .max(COMMAND_SECONDS_MAX, `must be 1 to ${COMMAND_SECONDS_MAX} seconds`)
    .default(COMMAND_SECONDS_DEFAULT)
    .describe('longest time of one command of before and after; then it is killed and has failed'),
  ...limits,
});

export const serverSchema = z.strictObject({
  $schema: schemaLink,
  name: name.describe('identity of this server towards its clients'),
  library: file.describe('directory of the library; made when missing or empty'),
  runDirectory,
  stg: z
    .string()
    .regex(STG_NAME_PATTERN, 'must be the name of an STG (stpctl stg list shows them)')
    .describe('STG that carries the data; its clients need access to it'),
  address: address.describe('address to listen on'),
  wkp: serverPort,
  control: file.describe('path of the control socket, for fs, restore and list'),
  tls,
  media: mediaSchema.describe('how sets are cut, compressed and encrypted, and read again'),
  hosts: z
    .record(
      name,
      z.strictObject({
        address: address.describe('address of the client on that host'),
        wkp: clientPort,
        keyFile,
      }),
    )
    .default({})
    .describe('hosts that are backed up, by the names that their clients have'),
  ...limits,
});

export const ROLES = ['client', 'server'] as const;
export type Role = (typeof ROLES)[number];

export const schemas = { client: clientSchema, server: serverSchema } as const;

export type ClientFields = z.infer<typeof clientSchema>;
export type ServerFields = z.infer<typeof serverSchema>;

/** A JSON schema (draft 2020-12) of what may be written, defaults included. */
export function schemaDocument(role: Role): Record<string, unknown> {
  const title = `Configuration of stpbackup ${role}`;
  return { title, ...z.toJSONSchema(schemas[role], { io: 'input' }) };
}
