/**
 * The part `media` of the server's configuration: what may stand there. Any thread.
 */
import * as z from 'zod';
import { VOLUME_BYTES_MIN } from '../library/media-plan.js';
import { recipientProblem } from './media-data.js';

/** Each adds some hundred bytes to each volume. */
const RECIPIENTS_MAX = 64;

const file = z.string().min(1, 'must not be empty');

const recipient = z.string().superRefine((text, context) => {
  const problem = recipientProblem(text);
  if (problem !== null) context.addIssue({ code: 'custom', message: problem });
});

export const mediaSchema = z
  .strictObject({
    /** Most bytes of a volume. */
    volumeBytes: z
      .number()
      .int('must be a whole number of bytes')
      .min(VOLUME_BYTES_MIN, `must be at least ${VOLUME_BYTES_MIN} bytes`)
      .optional(),
    /** `zstd`, `zstd:LEVEL` or `none`. */
    compress: z
      .string()
      .regex(/^(zstd(:([1-9]|1[0-9]))?|none)$/, 'must be zstd, zstd:LEVEL (1 to 19) or none')
      .default('none'),
    recipients: z.array(recipient).max(RECIPIENTS_MAX).default([]),
    /** File of the identity that reads lists and manifests, for incremental backups. */
    listIdentity: file.optional(),
    /** Files of identities that read data: where restores should need no `--identity`. */
    identities: z.array(file).default([]),
    /** Directories where volumes may lie that were moved off. */
    search: z.array(file).default([]),
  })
  .prefault({});

export type MediaFields = z.infer<typeof mediaSchema>;
