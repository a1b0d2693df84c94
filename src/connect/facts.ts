/**
 * What getsockopt tells of a descriptor beside the options that can be set, in both forms of the
 * calls. No state; any thread.
 */
import type { StpError } from '../errors.js';
import { AF_INET, AF_STP, SOCK_STREAM } from './calls.js';
import type { Kind } from './descriptor-table.js';
import { type Address, type Peer, peerCredentials } from './endpoint.js';
import { getOption, isSocketOption, noOption, type SocketOptions } from './options.js';
import type { State } from './states.js';

/** A descriptor, as far as it is told of. */
export interface Facts {
  readonly options: Readonly<SocketOptions>;
  readonly state: State;
  /** Why it is of the network; of a listener on both, why it is not on the array. */
  readonly reason: number;
  /** Of a listener on both: where it is on the array. */
  readonly storageName: Address | null;
  readonly failure: StpError | undefined;
  /** Its stream, once it is connected. */
  readonly link:
    | {
        readonly peer: Peer;
        bufferBytes(name: 'sendBufferBytes' | 'receiveBufferBytes'): number | null;
      }
    | undefined;
}

/** @throws ENOPROTOOPT */
export function factOf(kind: Kind, name: string, of: Facts): unknown {
  if (isSocketOption(name)) {
    const value = getOption(kind, of.options, name);
    if (name !== 'sendBufferBytes' && name !== 'receiveBufferBytes') return value;
    return of.link?.bufferBytes(name) ?? value;
  }
  switch (name) {
    case 'type':
      return SOCK_STREAM;
    case 'family':
      return kind === 'stp' ? AF_STP : AF_INET;
    case 'mechanism':
      return kind;
    case 'reason':
      return of.reason;
    case 'storageName':
      return of.storageName;
    case 'state':
      return of.state;
    case 'error':
      return of.failure ?? null;
    case 'peer':
      return of.link?.peer ?? null;
    case 'peerCredentials':
      return peerCredentials(kind, of.link?.peer);
    default:
      throw noOption(kind, name, 'getsockopt');
  }
}
