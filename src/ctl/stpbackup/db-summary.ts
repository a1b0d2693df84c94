/** What a database session did, for people. Main thread. */
import type { DatabaseReport } from '../../backup/database-client.js';
import { humanSize } from '../output.js';
import { sheet } from '../table.js';
import type { Outcome } from './db-view.js';
import { waitedRows } from './waited.js';

interface Printed extends DatabaseReport {
  readonly seconds: number;
  readonly networkBytes: Outcome['networkBytes'];
}

export function summaryText(r: Printed): string {
  const rate = humanSize(Math.round(r.memoryBytes / r.seconds));
  const { sent, received } = r.networkBytes;
  return sheet([
    ['set', r.set],
    ...(r.parent === undefined ? [] : [['made against', r.parent] as const]),
    ['entries', `${r.entries}`],
    ['data', `${r.bytes} bytes (${humanSize(r.bytes)})`],
    ['time', `${r.seconds.toFixed(2)} s, ${rate}/s`],
    ['over memory', `${r.memoryBytes} bytes (${humanSize(r.memoryBytes)})`],
    ['over the network', `${sent + received} bytes, before the storage connections stood`],
    ...waitedRows(r),
    ['warnings', `${r.warnings}`],
  ]);
}
