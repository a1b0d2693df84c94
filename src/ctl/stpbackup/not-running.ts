/** What a verb says where nobody is there to ask. Main thread. */
import { ABSENT_CODE } from '../../backup/reason.js';

/** As of stpd: nothing is broken, it has to be started. */
export class NotRunningError extends Error {
  override readonly name = 'NotRunningError';
  readonly code = ABSENT_CODE;
}
