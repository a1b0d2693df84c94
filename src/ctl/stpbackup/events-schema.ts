/** What the events of `--json` look like: for docs/events.schema.json, and for tests. Any thread. */
import * as z from 'zod';
import { TIME_NAMES } from '../../backup/mover-times.js';
import { pathSchema } from '../../backup/protocol-words.js';

const count = z.number().int().min(0);
const amount = z.number().min(0);
const share = z.number().min(0).max(1);
const traffic = z.object({ sent: count, received: count });
const times = z.object(Object.fromEntries(TIME_NAMES.map((name) => [name, amount])));
const warning = z.object({
  path: pathSchema.describe('UTF-8 text, or the bytes as base64'),
  code: z.string().describe('POSIX name of what is wrong'),
  message: z.string(),
});

export const eventSchema = z.discriminatedUnion('event', [
  z
    .object({
      event: z.literal('progress'),
      seconds: amount.describe('since the session began'),
      entries: count,
      bytes: count.describe('of file data; of media, with --events'),
      moved: count.describe('through the array, all together; the same as bytes, with --events'),
      bytesPerSecond: count.describe('moved, on the average'),
      totalEntries: count.nullable().describe('as the set, or the last one of these trees, has it'),
      totalBytes: count.nullable(),
      share: share.nullable().describe('of the work; an estimate'),
      secondsLeft: amount.nullable(),
    })
    .describe('once a second'),
  warning
    .extend({ event: z.literal('warning') })
    .describe('something is not as it should be; the work goes on'),
  z
    .object({
      event: z.literal('summary'),
      op: z.enum(['backup', 'restore']).optional().describe('of fs and restore'),
      host: z.string().optional(),
      set: z.string(),
      parent: z.string().optional().describe('of an incremental backup'),
      entries: count,
      bytes: count,
      seconds: amount,
      via: z.enum(['array', 'network']).optional().describe('of fs and restore'),
      viaReason: z.string().optional().describe('why not through the array'),
      movedBytes: count.optional().describe('through either, all together'),
      memoryBytes: count.describe('through the array'),
      restored: z
        .object({
          made: count,
          replaced: count,
          left: count,
          skipped: count.describe('have no place in the target'),
          ownersNotSet: count.describe('belong to somebody else now'),
          verified: z
            .object({ entries: count, bytes: count, wrong: count })
            .nullable()
            .describe('read back; what is wrong is named by a warning, and the exit code is 4'),
          planned: z
            .array(z.object({ action: z.enum(['make', 'replace', 'leave']), path: pathSchema }))
            .describe('of a dry run, the first thousand'),
        })
        .optional()
        .describe('of restore'),
      networkBytes: z
        .union([z.object({ server: traffic, client: traffic }), traffic])
        .describe('on the wire, as each side counts'),
      waited: z
        .object({
          clientDisk: share,
          serverDisk: share,
          array: share,
          rateLimit: share,
          slowest: z.enum(['clientDisk', 'serverDisk', 'array', 'rateLimit']).nullable(),
        })
        .nullable()
        .describe('shares of the time in which a side waited for that part'),
      times: z
        .object({ client: times.nullable(), server: times.nullable() })
        .describe('where the time of the movers of each side went, ms, all threads together'),
      warnings: count,
      complaints: z.array(warning).optional().describe('the first thousand'),
    })
    .describe('the last line, if it is done: exit code 0, or 3 with warnings'),
  z
    .object({
      event: z.literal('document'),
      verb: z.enum(['check', 'repair', 'forget', 'prune']),
      document: z.looseObject({}).describe('what the verb prints with --json'),
    })
    .describe('the last line of --events, if it is done'),
  z
    .object({
      event: z.literal('error'),
      code: z.string(),
      message: z.string(),
      exitCode: count,
    })
    .describe('the last line, if it came to nothing'),
]);

export const eventDocument = (): object => ({
  title:
    'Events of stpbackup fs, restore and db with --json, and of check, repair, forget and prune ' +
    'with --events: one object a line on stdout',
  ...z.toJSONSchema(eventSchema, { io: 'output' }),
});
