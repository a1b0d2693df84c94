/**
 * Why a connection goes over the network although it would rather go through the array: how errors
 * carry the REASON_ numbers of the layout. Their words: memory/reason-text.ts. No state; any thread.
 */
import { isCoded, type StpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';

/** Highest REASON_ number. */
export const REASON_MAX = NUMBERS.REASON_PEER_CAME;

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
