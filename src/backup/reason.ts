/** How an error is told to somebody else: code and sentence apart. Any thread. */
import { isCoded, messageOf } from '../errors.js';

/** The code that says that nobody was there: absent.ts. */
export const ABSENT_CODE = 'ECONNREFUSED';

export interface Reason {
  /** POSIX code; EIO for what has none. */
  readonly code: string;
  /** What happened, without the code in front. */
  readonly message: string;
}

export function reasonOf(e: unknown): Reason {
  const code = isCoded(e) ? e.code : 'EIO';
  const message = messageOf(e);
  const prefix = `${code}: `;
  return { code, message: message.startsWith(prefix) ? message.slice(prefix.length) : message };
}
