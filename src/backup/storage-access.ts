/**
 * Attachments to the array, one for each STG, made when first needed and shared by the sessions.
 *
 * When stpd is gone its attachments are forgotten: streams that stand go on, the next session
 * attaches anew and learns from that what is wrong. Event loop only.
 */
import { STPConnect } from '../connect/stp-connect.js';
import { attach, type Host } from '../socket/host.js';

export class StorageAccess {
  readonly #hosts = new Map<string, Promise<Host>>();
  readonly #all = new Set<Host>();

  constructor(
    private readonly runDirectory: string | undefined,
    private readonly name: string,
    private readonly onDetached: (stg: string, reason: Error) => void,
  ) {}

  /** A layer over both mechanisms, for one session. Throws what `attach` throws. */
  async connectFor(stg: string): Promise<STPConnect> {
    return new STPConnect({ host: await this.#hostOf(stg) });
  }

  async close(): Promise<void> {
    this.#hosts.clear();
    await Promise.allSettled([...this.#all].map((host) => host.close()));
    this.#all.clear();
  }

  #hostOf(stg: string): Promise<Host> {
    const known = this.#hosts.get(stg);
    if (known) return known;
    const made = this.#attach(stg);
    this.#hosts.set(stg, made);
    made.catch(() => this.#forget(stg, made));
    return made;
  }

  #forget(stg: string, made: Promise<Host>): void {
    if (this.#hosts.get(stg) === made) this.#hosts.delete(stg);
  }

  async #attach(stg: string): Promise<Host> {
    const { runDirectory, name } = this;
    const host = await attach({ stg, name, ...(runDirectory !== undefined && { runDirectory }) });
    this.#all.add(host);
    const made = this.#hosts.get(stg);
    host.on('detached', (reason: Error) => {
      if (made) this.#forget(stg, made);
      this.onDetached(stg, reason);
    });
    return host;
  }
}
