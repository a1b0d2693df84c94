/** What is not as it should be, in a line for people. Main thread. */
import type { Complaint } from '../../backup/protocol-words.js';
import { pathText } from '../../backup/wire-path.js';
import { printable } from '../output.js';

export const complaintText = ({ path, code, message }: Complaint): string =>
  `warning: ${printable(message || pathText(path))} (${code})`;
