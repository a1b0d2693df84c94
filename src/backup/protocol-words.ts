/**
 * What both kinds of sessions say: protocol.ts, database-protocol.ts. It loads nothing but schemas. Any
 * thread.
 */
import * as z from 'zod';
import { PATH_BYTES_MAX } from './limits.js';

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

/** One file that is not as it should be; the rest of the work goes on. */
export const complaintSchema = z.strictObject({
  path: pathSchema,
  code: z.string().max(32),
  message: text,
});
export type Complaint = z.infer<typeof complaintSchema>;
