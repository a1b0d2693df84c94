/**
 * What a host and stpd say over the attach socket: JSON in one SOCK_SEQPACKET message each way,
 * the answer with the descriptors. Both sides validate what they receive.
 */
import * as z from 'zod';
import { PAGE_BYTES, STG_EXTENTS_MAX } from '../layout/tables.js';
import { BOARDS_MAX, STG_BOARDS_MIN, STG_CONNECTIONS_MAX, STG_NAME_PATTERN } from '../limits.js';

/** Raised when the messages change; the layout has a version of its own. */
export const ATTACH_VERSION = 2;

export const attachRequest = z.object({
  op: z.literal('attach'),
  version: z.number().int(),
  layoutVersion: z.number().int(),
  layoutHash: z.string().max(64),
  stg: z.string().regex(STG_NAME_PATTERN),
  name: z.string().max(255),
});
export type AttachRequest = z.infer<typeof attachRequest>;

const offset = z
  .number()
  .int()
  .min(0)
  .max(2 ** 40)
  .multipleOf(4096);

/** Descriptors that come with it: superblock, STG file, member ring, channel; then further files. */
export const ATTACH_DESCRIPTORS = 4;

/** A further file of an STG that has grown. */
const extent = {
  offset,
  boardCount: z.number().int().min(0).max(BOARDS_MAX),
  connectionCount: z.number().int().min(0).max(STG_CONNECTIONS_MAX),
};

export const attachGrant = z.object({
  ok: z.literal(true),
  host: z.number().int().min(1),
  instance: z.string(),
  segmentBytes: offset,
  superblockBytes: offset,
  stg: z.object({
    name: z.string(),
    generation: z.number().int(),
    offset,
    boardCount: z.number().int().min(STG_BOARDS_MIN),
    boardBytes: z.number().int().min(PAGE_BYTES).multipleOf(PAGE_BYTES),
    connectionCount: z.number().int().min(1).max(STG_CONNECTIONS_MAX),
    memberCount: z.number().int().min(1).max(65535),
    boardMax: z.number().int().min(STG_BOARDS_MIN).max(BOARDS_MAX),
    connectionMax: z.number().int().min(1).max(STG_CONNECTIONS_MAX),
    extents: z.array(z.object(extent)).max(STG_EXTENTS_MAX - 1),
  }),
  member: z.number().int().min(0),
  memberGeneration: z.number().int().min(1),
  ringOffset: offset,
  ringBytes: offset,
});
export type AttachGrant = z.infer<typeof attachGrant>;

export const attachRefusal = z.object({
  ok: z.literal(false),
  code: z.string().max(32),
  message: z.string().max(4096),
});
export type AttachRefusal = z.infer<typeof attachRefusal>;
export const attachAnswer = z.discriminatedUnion('ok', [attachGrant, attachRefusal]);

/**
 * On the member's channel: a new cable, with one descriptor (two where a host connects to itself);
 * a further file of the STG, the `extent`th, with its descriptor; or that the STG was deleted. Bells
 * are single bytes.
 */
export const channelMessage = z.union([
  z.object({
    grown: z.object({
      extent: z
        .number()
        .int()
        .min(1)
        .max(STG_EXTENTS_MAX - 1),
      ...extent,
    }),
  }),
  z.object({ cable: z.number().int().min(1) }),
  z.object({ deleted: z.literal(true) }),
]);
