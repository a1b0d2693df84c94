/**
 * Why a connection goes over the network although it would rather go through the array: the
 * REASON_ numbers of the layout, in words. No state; any thread.
 */
import { isCoded, type StpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';

const texts: Readonly<Record<number, string>> = {
  [NUMBERS.REASON_NONE]: 'through the array',
  [NUMBERS.REASON_ASKED]: 'asked for network',
  [NUMBERS.REASON_NO_STPD]: 'no stpd',
  [NUMBERS.REASON_NO_STG]: 'no such STG',
  [NUMBERS.REASON_NO_ACCESS]: 'no access',
  [NUMBERS.REASON_PEER_NOT_ATTACHED]: 'peer not attached',
  [NUMBERS.REASON_PEER_NOT_LISTENING]: 'peer does not listen',
  [NUMBERS.REASON_STG_FULL]: 'STG full',
  [NUMBERS.REASON_NO_ANSWER]: 'no answer in time',
  [NUMBERS.REASON_OTHER_VERSION]: 'stpd of another version',
  [NUMBERS.REASON_NOT_HERE]: 'no array in this process',
  [NUMBERS.REASON_PEER_CAME]: 'peer came over the network',
};

/** Highest REASON_ number. */
export const REASON_MAX = NUMBERS.REASON_PEER_CAME;

/** The words of a reason; a number that has none is shown as such. */
export const reasonText = (reason: number): string => texts[reason] ?? `reason ${reason}`;

/** Says in the error what the array lacks. */
export function lacking<E extends StpError>(reason: number, error: E): E {
  if (reason !== NUMBERS.REASON_NONE) error.reason = reason;
  return error;
}

/** What stpd's refusal of an attach means, by its code. */
export const attachReasons: Readonly<Record<string, number>> = {
  ENOENT: NUMBERS.REASON_NO_STG,
  EACCES: NUMBERS.REASON_NO_ACCESS,
  ENOBUFS: NUMBERS.REASON_STG_FULL,
  EMFILE: NUMBERS.REASON_STG_FULL,
  ESHUTDOWN: NUMBERS.REASON_NO_STPD,
  EPROTONOSUPPORT: NUMBERS.REASON_OTHER_VERSION,
};

/**
 * What the array lacks, as the error or what caused it says; undefined for an error that is no
 * reason to go over the network, such as a wrong argument.
 */
export function reasonOf(error: unknown): number | undefined {
  for (let e = error; isCoded(e); e = e.cause) {
    if (e.reason !== undefined) return e.reason;
    if (e.code === 'ERR_STPD_NATIVE') return NUMBERS.REASON_NOT_HERE;
  }
  return undefined;
}
