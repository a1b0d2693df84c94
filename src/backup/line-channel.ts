/**
 * JSON lines over a connected descriptor: one object a line, bounded, checked on arrival.
 *
 * Sends keep their order and may be called without waiting; the first that fails fails all later
 * ones. One reader at a time. Event loop only.
 */
import type * as z from 'zod';
import type { STPConnect } from '../connect/stp-connect.js';
import { messageOf, stpError } from '../errors.js';
import { LINE_BYTES_MAX } from './limits.js';

const NEWLINE = 0x0a;
const RECEIVE_BYTES = 64 << 10;

export class LineChannel {
  #pending: Buffer = Buffer.alloc(0);
  #sent: Promise<void> = Promise.resolve();

  constructor(
    private readonly connect: STPConnect,
    readonly fd: number,
    private readonly peer: string,
  ) {}

  send(value: object): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(value)}\n`, 'utf8');
    this.#sent = this.#sent.then(async () => void (await this.connect.send(this.fd, line)));
    // A caller that does not wait learns of the failure from its reader; nothing may go unhandled.
    this.#sent.catch(() => {});
    return this.#sent;
  }

  /** Resolves when everything sent so far is on its way. */
  flushed(): Promise<void> {
    return this.#sent;
  }

  /** The next object; null when the peer has ended. Throws on what does not fit the schema. */
  async receive<S extends z.ZodType>(schema: S): Promise<z.infer<S> | null> {
    const line = await this.#line();
    if (line === null) return null;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (e) {
      throw stpError('EPROTO', `${this.peer} sent a line that is not JSON: ${messageOf(e)}`);
    }
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const issue = result.error.issues[0];
    const where = issue?.path.join('.') || 'the line';
    throw stpError(
      'EPROTO',
      `${this.peer} sent a line out of protocol: ${where}: ${issue?.message}`,
    );
  }

  async #line(): Promise<string | null> {
    let searched = 0;
    for (;;) {
      const end = this.#pending.indexOf(NEWLINE, searched);
      if (end >= 0) {
        const line = this.#pending.toString('utf8', 0, end);
        this.#pending = this.#pending.subarray(end + 1);
        return line;
      }
      searched = this.#pending.length;
      if (searched > LINE_BYTES_MAX) {
        throw stpError('EMSGSIZE', `${this.peer} sent a line of over ${LINE_BYTES_MAX} bytes`);
      }
      const more = await this.connect.receive(this.fd, RECEIVE_BYTES);
      if (more.length === 0) {
        if (searched === 0) return null;
        throw stpError('ECONNRESET', `${this.peer} ended in the middle of a line`);
      }
      this.#pending = searched === 0 ? more : Buffer.concat([this.#pending, more]);
    }
  }
}
