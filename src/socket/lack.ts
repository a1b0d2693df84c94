/**
 * What a refusal of the director says that the STG has no more of: how many of how many are in use,
 * and what to do. No state; any thread.
 */
import { NUMBERS } from '../layout/tables.js';
import type { DirectorEvent } from '../memory/member-ring.js';

/** @param port that was asked for; of the listener, for a connect */
export function lackText(event: DirectorEvent, stg: string, port: number): string {
  const { end: lack, connection: used, generation: all } = event;
  switch (lack) {
    case NUMBERS.LACK_PORTS:
      return (
        `STG '${stg}' has ${used} of its ${all} ports in use, listeners and binds together; close ` +
        `some ('stpctl socket list --stg ${stg}' shows them), or make an STG with more --ports`
      );
    case NUMBERS.LACK_DYNAMIC_PORTS:
      return (
        `STG '${stg}' has ${used} of its ${all} dynamic ports in use; close connections, or bind a ` +
        'port below them'
      );
    case NUMBERS.LACK_SLOTS:
      return (
        `STG '${stg}' has ${used} of its ${all} connection slots in use; close connections ` +
        `('stpctl socket list --stg ${stg}' shows them), or add slots: ` +
        `stpctl stg grow ${stg} --connections N`
      );
    case NUMBERS.LACK_BACKLOG:
      return (
        `port ${port} of STG '${stg}' has ${used} of ${all} connects waiting for a place in its ` +
        'backlog; try again once its listener has accepted some'
      );
    case NUMBERS.LACK_CABLE:
      return (
        `stpd had no descriptor, or no room in a channel, to join this host of STG '${stg}' to the ` +
        'listener; try again, or give stpd more descriptors (ulimit -n)'
      );
    default:
      return `STG '${stg}' is full; see 'stpctl stg show ${stg}'`;
  }
}
