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
import { z } from 'zod';
import { PATTERN_BYTES_MAX, PATTERNS_MAX } from '../source/exclude.js';
import { PATH_BYTES_MAX, PATHS_MAX, STREAMS_MAX } from './limits.js';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const text = z.string().max(4 * PATH_BYTES_MAX);

export const pathSchema = z.union([
  z.string().min(1).max(PATH_BYTES_MAX),
  z.strictObject({
    base64: z
      .base64()
      .min(4)
      .max(2 * PATH_BYTES_MAX),
  }),
]);
const paths = z.array(pathSchema).max(PATHS_MAX);
const streams = z.number().int().min(1).max(STREAMS_MAX);

/** What of the paths is sent; see source/exclude.ts. */
export const selectionSchema = z.strictObject({
  exclude: z.array(z.string().min(1).max(PATTERN_BYTES_MAX)).max(PATTERNS_MAX),
  oneFileSystem: z.boolean(),
  excludeCaches: z.boolean(),
});
export type Selection = z.infer<typeof selectionSchema>;

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
    // What this session may move a second, where it is asked for less than both sides allow.
    bytesPerSecond: count.min(1).optional(),
  }),
  z.strictObject({
    op: z.literal('restore'),
    host: text,
    set: text,
    target: pathSchema,
    streams,
  }),
]);
export type Request = z.infer<typeof requestSchema>;
export type BackupRequest = Extract<Request, { op: 'backup' }>;
export type RestoreRequest = Extract<Request, { op: 'restore' }>;

/**
 * How far the movers are. `bytes` counts file data, `moved` everything that went over memory;
 * `total` is what `bytes` is likely to become, where that is known.
 */
export const progressSchema = z.strictObject({
  type: z.literal('progress'),
  entries: count,
  bytes: count,
  moved: count,
  total: count.optional(),
  // What the server thinks that entries become, where it can.
  totalEntries: count.optional(),
});
export type Progress = z.infer<typeof progressSchema>;

const ms = z.number().min(0).max(Number.MAX_SAFE_INTEGER);
/** Where the time of a side's movers went: mover-times.ts. */
export const timesSchema = z.strictObject({
  ...{ wall: ms, peer: ms, array: ms, rate: ms, user: ms, system: ms },
});

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

/** One file that is not as it should be; the rest of the work goes on. */
export const complaintSchema = z.strictObject({
  path: pathSchema,
  code: z.string().max(32),
  message: text,
});
export type Complaint = z.infer<typeof complaintSchema>;
