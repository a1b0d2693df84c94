/**
 * What is said on the two network connections after the handshake: one JSON object a line.
 *
 * First connection, control and status:
 *   server -> client   request (once), then committed or cancel
 *   client -> server   ready, progress (at most ten a second), then summary or failed;
 *                      after committed: after, if the summary announced it
 * Second connection, errors:
 *   client -> server   complaint, one a line
 *
 * Every line is foreign input: it passes its schema or ends the session with the reason. Names that
 * are not UTF-8 travel as base64. Any thread.
 */
import * as z from 'zod';
import { DELTA_FROM_DEFAULT } from '../library/blocks.js';
import { MEDIA_MAX } from '../library/manifest.js';
import { overwriteModes } from '../library/restore-plan.js';
import { PATTERN_BYTES_MAX, PATTERNS_MAX } from '../source/exclude.js';
import { PATH_BYTES_MAX as ENTRY_PATH_MAX } from '../source/names.js';
import { MAPS_MAX, PATH_BYTES_MAX, PATHS_MAX, PLANNED_LISTED_MAX, STREAMS_MAX } from './limits.js';
import { pathSchema, progressSchema, timesSchema } from './protocol-words.js';
import { PLAIN_RESTORE } from './restore-order.js';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const text = z.string().max(4 * PATH_BYTES_MAX);

const paths = z.array(pathSchema).max(PATHS_MAX);
const streams = z.number().int().min(1).max(STREAMS_MAX);

/** What of the paths is sent; see source/exclude.ts. */
export const selectionSchema = z.strictObject({
  exclude: z.array(z.string().min(1).max(PATTERN_BYTES_MAX)).max(PATTERNS_MAX),
  oneFileSystem: z.boolean(),
  excludeCaches: z.boolean(),
});
export type Selection = z.infer<typeof selectionSchema>;

const idNumber = z
  .number()
  .int()
  .min(0)
  .max(2 ** 32 - 2);
const idPairs = z
  .array(z.tuple([idNumber, idNumber]).readonly())
  .max(MAPS_MAX)
  .readonly();
const pathMap = z.strictObject({ from: pathSchema, to: pathSchema });

/** See restore-order.ts. */
export const restoreOptionsSchema = z.strictObject({
  overwrite: z.enum(overwriteModes).default(PLAIN_RESTORE.overwrite),
  strip: z.number().int().min(0).max(PATH_BYTES_MAX).default(0),
  maps: z.array(pathMap).max(MAPS_MAX).readonly().default([]),
  owners: z.boolean().default(true),
  users: idPairs.default([]),
  groups: idPairs.default([]),
  dryRun: z.boolean().default(false),
  verify: z.boolean().default(false),
});

export const requestSchema = z.discriminatedUnion('op', [
  z.strictObject({
    op: z.literal('backup'),
    host: text,
    paths: paths.min(1),
    streams,
    selection: selectionSchema.default({ exclude: [], oneFileSystem: false, excludeCaches: false }),
    // Length of the parent's list, which the client fetches through the stream; 0: a full backup.
    listBytes: count.default(0),
    dryRun: z.boolean().default(false),
    // Directories say what is in them.
    incremental: z.boolean().default(false),
    // Number of the first medium to make; lower ones are what an interrupted backup left.
    firstMedium: count.max(MEDIA_MAX - 1).default(0),
    // Files from this size on go by blocks; 0: none.
    deltaFrom: count.default(DELTA_FROM_DEFAULT),
    // What this session may move a second, where it is asked for less than both sides allow.
    bytesPerSecond: count.min(1).optional(),
  }),
  z.strictObject({
    op: z.literal('restore'),
    host: text,
    set: text,
    target: pathSchema,
    streams,
    options: restoreOptionsSchema.default(PLAIN_RESTORE),
  }),
]);
export type Request = z.infer<typeof requestSchema>;
export type BackupRequest = Extract<Request, { op: 'backup' }>;
export type RestoreRequest = Extract<Request, { op: 'restore' }>;

/** Of an entry: trees go deeper than one call of the kernel takes. */
const storedPath = z.union([
  z.string().max(ENTRY_PATH_MAX),
  z.strictObject({ base64: z.base64().max(2 * ENTRY_PATH_MAX) }),
]);

export const summarySchema = z.strictObject({
  type: z.literal('summary'),
  entries: count,
  bytes: count,
  moved: count,
  complaints: count,
  inet: z.strictObject({ sent: count, received: count }),
  times: timesSchema.optional(),
  // Commands come after the verdict: the client has one more word then.
  after: z.boolean().optional(),
  restored: z
    .strictObject({
      made: count,
      replaced: count,
      left: count,
      skipped: count,
      ownersNotSet: count,
      verified: z.strictObject({ entries: count, bytes: count, wrong: count }).nullable(),
      planned: z
        .array(z.strictObject({ action: z.enum(['make', 'replace', 'leave']), path: storedPath }))
        .max(PLANNED_LISTED_MAX),
    })
    .optional(),
});
export type ClientSummary = z.infer<typeof summarySchema>;

export const fromClientSchema = z.discriminatedUnion('type', [
  // The client's mover has its stream: data may come.
  z.strictObject({ type: z.literal('ready') }),
  progressSchema,
  summarySchema,
  // What came after the verdict is over; with how many complaints.
  z.strictObject({ type: z.literal('after'), complaints: count }),
  z.strictObject({ type: z.literal('failed'), reason: text }),
]);
export type FromClient = z.infer<typeof fromClientSchema>;

export const fromServerSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('committed'), set: text }),
  z.strictObject({ type: z.literal('cancel'), reason: text }),
]);
export type FromServer = z.infer<typeof fromServerSchema>;
