/**
 * A door: a listening network port whose callers must say at once who they are.
 *
 * Each accepted connection has one time limit to send its opening message; only then does the door
 * hand it over. A caller that says nothing, or something else, is refused with a reason and closed,
 * and nobody else notices. At most UNIDENTIFIED_MAX callers may be unheard at one time.
 * Event loop only.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Peer, STPConnect } from '../connect/stp-connect.js';
import { messageOf } from '../errors.js';
import { within } from './deadline.js';
import { STEP_TIMEOUT_MS, UNIDENTIFIED_MAX } from './limits.js';
import { sendRefusal } from './wire.js';

/** How long a refusal may take to send to a peer that does not read. */
const REFUSAL_TIMEOUT_MS = 1000;
/** Pause after a failed accept (no descriptors left): long enough not to spin. */
const ACCEPT_RETRY_MS = 100;

export interface Arrival<O> {
  readonly fd: number;
  readonly opening: O;
  readonly peer: string;
}

export interface DoorOptions<O> {
  readonly connect: STPConnect;
  /** Listening descriptor. */
  readonly listener: number;
  readonly identify: (fd: number) => Promise<O>;
  /** Takes an identified caller; throws to refuse it. */
  readonly admit: (arrival: Arrival<O>) => void;
  readonly onRefused: (peer: string, reason: string) => void;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number | undefined;
}

/** What to call the other end of a connection. */
export function peerName(connect: STPConnect, fd: number): string {
  try {
    const at = connect.getpeername(fd);
    if (at.family === 'stp') return `port ${at.port} of STG ${at.stg}`;
    const peer = connect.getsockopt(fd, 'peer') as Peer | null;
    const name = peer?.by === 'psk' ? `${peer.identity} at ` : '';
    return `${name}${at.host}:${at.port}`;
  } catch {
    return 'a peer that is gone';
  }
}

/** Tells a peer no, if it listens, and closes. Never throws. */
export async function refuse(connect: STPConnect, fd: number, reason: string): Promise<void> {
  try {
    await within(REFUSAL_TIMEOUT_MS, sendRefusal(connect, fd, reason), () => new Error('late'));
    await connect.close(fd);
  } catch {
    abortQuietly(connect, fd);
  }
}

/** Closes at once; a descriptor that is closed already is no error. */
export function abortQuietly(connect: STPConnect, fd: number): void {
  try {
    connect.abort(fd);
  } catch {
    // Closed by the other path that ends a session.
  }
}

async function hear<O>(options: DoorOptions<O>, fd: number): Promise<void> {
  const { connect } = options;
  const peer = peerName(connect, fd);
  const limitMs = options.timeoutMs ?? STEP_TIMEOUT_MS;
  try {
    const silent = (): Error => new Error(`said nothing for ${limitMs / 1000} s`);
    const opening = await within(limitMs, options.identify(fd), silent);
    options.admit({ fd, opening, peer });
  } catch (e) {
    options.onRefused(peer, messageOf(e));
    await refuse(connect, fd, messageOf(e));
  }
}

/** Accepts until the signal aborts. Never rejects. */
export async function keepDoor<O>(options: DoorOptions<O>): Promise<void> {
  const { connect, listener, signal } = options;
  let unheard = 0;
  while (!signal.aborted) {
    let fd: number;
    try {
      fd = await connect.accept(listener, { signal });
    } catch (e) {
      if (signal.aborted) return;
      options.onRefused('a caller', `accept failed: ${messageOf(e)}`);
      await sleep(ACCEPT_RETRY_MS);
      continue;
    }
    if (unheard >= UNIDENTIFIED_MAX) {
      options.onRefused(peerName(connect, fd), `${unheard} callers are unheard already`);
      abortQuietly(connect, fd);
      continue;
    }
    unheard++;
    void hear(options, fd).finally(() => {
      unheard--;
    });
  }
}
