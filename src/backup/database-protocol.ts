/**
 * What is said on the control stream of a database session (role 255 of Fig. 5A): one JSON object
 * a line, through the array like the data.
 *
 *   client -> server   request (once); then by its kind
 *   store              server: ready; client: data, progress, complaint, summary; server: committed
 *   fetch              server: ready, data; client: progress, complaint, summary; server: committed
 *   wal                again and again: client push or fetch; server stored, found, missing, refused
 *   at any time        client failed, or server cancel: the session is over, for this reason
 *
 * Every line is foreign input: it passes its schema or ends the session with the reason. Any thread.
 */
import * as z from 'zod';
import { HOST_NAME_PATTERN, HOST_NAME_RULE } from './host-name.js';
import { SEGMENT_BYTES_MAX } from './limits.js';
import { complaintSchema, progressSchema, timesSchema } from './protocol-words.js';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const text = z.string().max(16 << 10);
/** An identity has 74 bytes; a file of them 64 KiB at most, and a line 1 MiB. */
const sealed = z.string().max(512 << 10);
const digest = z.string().regex(/^[0-9a-f]{64}$/);

/** Names of databases stand in `list`, in paths of the library and in members of media. */
export const databaseName = z.string().regex(HOST_NAME_PATTERN, HOST_NAME_RULE);

/** What PostgreSQL archives: segments, partial ones, histories of timelines, backup labels. */
export const SEGMENT_PATTERN =
  /^(?:[0-9A-F]{24}(?:\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history)$/;
const segment = z.string().regex(SEGMENT_PATTERN, 'is no name of a WAL file');
const segmentBytes = z.number().int().min(0).max(SEGMENT_BYTES_MAX);

export const DATABASE_KINDS = ['command', 'postgresql', 'sqlite'] as const;
export type DatabaseKind = (typeof DATABASE_KINDS)[number];

export const databaseRequestSchema = z.discriminatedUnion('op', [
  z.strictObject({
    op: z.literal('store'),
    kind: z.enum(DATABASE_KINDS),
    name: databaseName,
    incremental: z.boolean().optional(),
  }),
  z.strictObject({
    op: z.literal('fetch'),
    set: text.min(1),
    name: databaseName.optional(),
    // Of encrypted sets: see sealed-identities.ts.
    identities: sealed.optional(),
  }),
  z.strictObject({ op: z.literal('wal'), name: databaseName }),
]);
export type DatabaseRequest = z.infer<typeof databaseRequestSchema>;

const totals = { entries: count, bytes: count, moved: count, complaints: count };
const failed = z.strictObject({ type: z.literal('failed'), reason: text });

export const fromDatabaseClientSchema = z.discriminatedUnion('type', [
  progressSchema,
  z.strictObject({ type: z.literal('complaint'), complaint: complaintSchema }),
  z.strictObject({ type: z.literal('summary'), ...totals }),
  failed,
]);
export type DatabaseSummary = Extract<
  z.infer<typeof fromDatabaseClientSchema>,
  { type: 'summary' }
>;

export const walRequestSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('push'), segment, bytes: segmentBytes, blake3: digest }),
  z.strictObject({ type: z.literal('fetch'), segment }),
  failed,
]);
export type WalRequest = z.infer<typeof walRequestSchema>;

export const walAnswerSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('stored'), already: z.boolean() }),
  z.strictObject({ type: z.literal('found'), bytes: segmentBytes, blake3: digest }),
  z.strictObject({ type: z.literal('missing') }),
  z.strictObject({ type: z.literal('refused'), code: z.string().max(32), message: text }),
  z.strictObject({ type: z.literal('cancel'), reason: text }),
]);
export type WalAnswer = z.infer<typeof walAnswerSchema>;

export const fromDatabaseServerSchema = z.discriminatedUnion('type', [
  // The server's mover has its stream: data may come, or does.
  z.strictObject({
    type: z.literal('ready'),
    set: text,
    roots: z.array(text).max(1024),
    // A restore: bytes of data that will come.
    bytes: count.optional(),
    // An incremental backup: the set that it is made against, and the length of that one's list.
    parent: z.strictObject({ set: text, listBytes: count }).optional(),
  }),
  z.strictObject({
    type: z.literal('committed'),
    set: text,
    times: timesSchema.optional(),
  }),
  z.strictObject({ type: z.literal('cancel'), reason: text }),
]);
export type FromDatabaseServer = z.infer<typeof fromDatabaseServerSchema>;

/** How a set says what it is: the first of its roots. */
export const setLabel = (kind: DatabaseKind, name: string): string => `${kind}:${name}`;
