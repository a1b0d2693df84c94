/** The REASON_ numbers of the layout, in words. No state; any thread. */
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

/** The words of a reason; a number that has none is shown as such. */
export const reasonText = (reason: number): string => texts[reason] ?? `reason ${reason}`;
