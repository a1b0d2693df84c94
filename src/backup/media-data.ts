/**
 * How media are written and read, as plain data: from the configuration and the command line to the
 * threads that do it. Any thread.
 */
import { messageOf, stpError } from '../errors.js';
import { Identity, Recipient } from '../library/age-keys.js';
import {
  checkPlan,
  type MediaAccess,
  type MediaPlan,
  ZSTD_LEVEL_DEFAULT,
} from '../library/media-plan.js';

/** What new sets are made with. */
export interface PlanData {
  readonly volumeBytes?: number | undefined;
  /** zstd's; left out: not compressed. */
  readonly level?: number | undefined;
  /** `age1...`; none: not encrypted. */
  readonly recipients: readonly string[];
  /** Of the identity that reads lists and manifests only. */
  readonly listRecipient?: string | undefined;
}

/** With what sets are read. */
export interface AccessData {
  readonly search: readonly string[];
  /** `AGE-SECRET-KEY-1...`; never to be logged. */
  readonly identities: readonly string[];
}

export interface MediaSettings {
  readonly plan: PlanData;
  readonly access: AccessData;
}

export const PLAIN_MEDIA: MediaSettings = {
  plan: { recipients: [] },
  access: { search: [], identities: [] },
};

/** What one backup asks for in place of the configuration. */
export interface MediaOrder {
  /** 0: not in volumes. */
  readonly volumeBytes?: number | undefined;
  /** `zstd`, `zstd:LEVEL` or `none`. */
  readonly compress?: string | undefined;
}

/** @throws EINVAL for what is none of `zstd`, `zstd:LEVEL` and `none`, which is undefined */
export function compressLevel(text: string): number | undefined {
  if (text === 'none') return undefined;
  const found = /^zstd(?::(\d{1,2}))?$/.exec(text);
  if (found === null) throw stpError('EINVAL', `${text} is not zstd, zstd:LEVEL or none`);
  const level = found[1] === undefined ? ZSTD_LEVEL_DEFAULT : Number(found[1]);
  checkPlan({ level });
  return level;
}

/** @throws EINVAL if it cannot be done */
export function orderedPlan(plan: PlanData, order: MediaOrder = {}): PlanData {
  const { volumeBytes, compress } = order;
  const ordered = {
    ...plan,
    ...(volumeBytes !== undefined && { volumeBytes: volumeBytes === 0 ? undefined : volumeBytes }),
    ...(compress !== undefined && { level: compressLevel(compress) }),
  };
  checkPlan({ volumeBytes: ordered.volumeBytes, level: ordered.level });
  return ordered;
}

export const planFrom = (data: PlanData): MediaPlan => ({
  volumeBytes: data.volumeBytes,
  level: data.level,
  recipients: data.recipients.map((text) => Recipient.parse(text)),
  listRecipient: data.listRecipient === undefined ? undefined : Recipient.parse(data.listRecipient),
});

export const accessFrom = ({ search, identities }: AccessData): MediaAccess => ({
  search,
  identities: identities.map((text) => Identity.parse(text)),
});

/** What a request may add to the configuration. */
export type MoreAccess = { readonly [K in keyof AccessData]?: AccessData[K] | undefined };

export const bothAccesses = (a: AccessData, b: MoreAccess = {}): AccessData => ({
  search: [...(b.search ?? []), ...a.search],
  identities: [...(b.identities ?? []), ...a.identities],
});

/** Null if it is a recipient; for messages of the configuration. */
export function recipientProblem(text: string): string | null {
  try {
    Recipient.parse(text);
    return null;
  } catch (e) {
    return messageOf(e);
  }
}
