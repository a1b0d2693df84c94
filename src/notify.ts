/**
 * Tells systemd how a service is, by sd_notify's protocol: a datagram to the socket that NOTIFY_SOCKET
 * names. Where nobody asks, nothing is sent; a supervisor that cannot be reached keeps nobody from
 * serving. Main thread.
 */
import { messageOf } from './errors.js';
import { native } from './native.js';

/**
 * @param state such as `READY=1`, `STOPPING=1`; lines of NAME=VALUE
 * @returns why it could not be told; null if it was, or need not be
 */
export function notifySupervisor(
  state: string,
  environment: NodeJS.ProcessEnv = process.env,
): string | null {
  const socket = environment.NOTIFY_SOCKET;
  if (socket === undefined || socket === '') return null;
  try {
    native().sendDatagram(socket, state);
    return null;
  } catch (e) {
    return `systemd was not told ${state}: ${messageOf(e)}`;
  }
}
