/** Placeholder of the array: segment, directors and attach server. */
import { stpError } from '../errors.js';
import type { ArrayControl, ArrayOptions } from './reports.js';

const notBuilt = (): never => {
  throw stpError('ENOSYS', 'the array is not built yet');
};

export class StorageArray implements ArrayControl {
  constructor(_options: ArrayOptions) {}
  start = async (): Promise<void> => notBuilt();
  stop = async (): Promise<void> => undefined;
  arrayReport = notBuilt;
  boardReports = notBuilt;
  createStg = notBuilt;
  stgReports = notBuilt;
  stgReport = notBuilt;
  deleteStg = notBuilt;
  hostReports = notBuilt;
  socketReports = notBuilt;
}
