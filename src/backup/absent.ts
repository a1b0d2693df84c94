/**
 * Whether a session came to nothing because nobody was there: no stpd, no server, no client. Nothing
 * is broken then; something has to be started. Event loop only.
 */
import { isCoded, type StpError, stpError } from '../errors.js';
import { NUMBERS } from '../layout/tables.js';
import { reasonOf as lackOf } from '../socket/reason.js';
import { StepError, type StepNumber } from './handshake-steps.js';
import { ABSENT_CODE, reasonOf } from './reason.js';
import { HandshakeError } from './wire.js';

/** Steps that call a program on its well-known port, and what to start there. */
const CALLS: ReadonlyMap<StepNumber, string> = new Map([
  [86, 'client'],
  [98, 'client'],
  [136, 'client'],
  [194, 'server'],
]);

/** Nobody listens there, or nobody is there. */
const UNANSWERED = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT']);

/** The same with the code and with what to do; null for every other failure. */
export function absence(e: unknown): StpError | null {
  const cause = e instanceof StepError ? e.cause : e;
  if (lackOf(cause) === NUMBERS.REASON_NO_STPD) return stpError(ABSENT_CODE, reasonOf(e).message);
  // The other side's word that it has none.
  if (cause instanceof HandshakeError && cause.isAbsence) {
    return stpError(ABSENT_CODE, reasonOf(e).message);
  }
  const role = e instanceof StepError ? CALLS.get(e.step) : undefined;
  if (role === undefined || !isCoded(cause) || !UNANSWERED.has(cause.code)) return null;
  return stpError(
    ABSENT_CODE,
    `${reasonOf(e).message}; nobody answers there: start it with: stpbackup ${role} --config FILE`,
  );
}
