/**
 * One session on the server, from its handshake to its end: the two network connections, the
 * storage streams, and what the client says over them.
 *
 * Everything of it is on one STPConnect, which is closed with it; so its counters are the session's
 * own. Whatever breaks first, the session looks for the best reason: a stream that broke says less
 * than a client that tells why. Event loop only.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { STPConnect, Traffic } from '../connect/stp-connect.js';
import { isCoded, stpError } from '../errors.js';
import type { ClientAddress, ServerConfig } from './config.js';
import { orAborted } from './deadline.js';
import { serverHandshake } from './handshake-server.js';
import type { Trace } from './handshake-steps.js';
import { CLIENT_REASON_GRACE_MS } from './limits.js';
import { LineChannel } from './line-channel.js';
import { isConsequence } from './mover.js';
import { dropLink, type MoverLink, moverLink } from './mover-link.js';
import { type ClientSummary, type FromServer, fromClientSchema, type Request } from './protocol.js';
import { type Complaint, complaintSchema, type Progress } from './protocol-words.js';
import { reasonOf } from './reason.js';

export interface SessionOptions {
  readonly config: ServerConfig;
  /** That carries the data; NO_STG: the network does. */
  readonly stg: string;
  readonly connect: STPConnect;
  readonly client: ClientAddress;
  /** Data streams, from 1 to STREAMS_MAX. */
  readonly streams: number;
  readonly onStep: Trace;
  readonly onProgress: (progress: Progress) => void;
  readonly onComplaint: (complaint: Complaint) => void;
  readonly signal: AbortSignal;
}

/** The client's own account of a failure. */
export class ClientFailure extends Error {
  override readonly name = 'ClientFailure';
}

export class ServerSession {
  readonly #options: SessionOptions;
  readonly #control: LineChannel;
  readonly #errors: LineChannel;
  readonly #streams: readonly number[];
  #onReady: () => void = () => {};
  readonly #ready = new Promise<void>((resolve) => {
    this.#onReady = resolve;
  });
  readonly #summary: Promise<ClientSummary>;
  readonly #complaints: Promise<void>;

  private constructor(
    options: SessionOptions,
    at: { control: number; errors: number; streams: readonly number[] },
  ) {
    this.#options = options;
    const { connect, client } = options;
    const peer = `client ${client.name}`;
    this.#control = new LineChannel(connect, at.control, peer);
    this.#errors = new LineChannel(connect, at.errors, peer);
    this.#streams = at.streams;
    this.#summary = this.#readControl();
    this.#summary.catch(() => {});
    this.#complaints = this.#readErrors();
    this.#complaints.catch(() => {});
  }

  /** Figs. 4 and 4A. Throws `StepError`; nothing is left open then. */
  static async open(options: SessionOptions): Promise<ServerSession> {
    const { config, stg, connect, client, streams, onStep, signal } = options;
    const made = await serverHandshake({
      connect,
      identity: config.name,
      client,
      stg,
      streams,
      trace: onStep,
      signal,
    });
    return new ServerSession(options, made);
  }

  /**
   * Gives the data streams to threads; once. A client that refuses breaks them, and that may be seen
   * before its word is here: rejects with the best reason, as `wait` does, and keeps none.
   */
  async detachAll(): Promise<MoverLink[]> {
    const links: MoverLink[] = [];
    try {
      for (const stream of this.#streams) links.push(moverLink(this.#options.connect, stream));
      return links;
    } catch (e) {
      for (const link of links) dropLink(link);
      return this.wait(Promise.reject(e));
    }
  }

  /** The same where there is one stream. */
  async detach(): Promise<MoverLink> {
    return (await this.detachAll())[0] as MoverLink;
  }

  /** Asks for the work; resolves when the client's thread has its stream. */
  async request(request: Request): Promise<void> {
    await this.#control.send(request);
    await this.wait(this.#ready);
  }

  /** The client's account of what it did; with it all its complaints are in. */
  summary(): Promise<ClientSummary> {
    return this.wait(this.#summary);
  }

  /** Waits for `work` while the client lives and nobody cancels. Rejects with the best reason. */
  async wait<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#options;
    const clientGone = this.#summary.then(() => new Promise<never>(() => {}));
    try {
      return await orAborted(signal, Promise.race([work, clientGone]));
    } catch (e) {
      throw await this.#bestReason(e);
    }
  }

  /** Tells the client that all is kept, and waits for what it runs then. */
  async committed(set: string, { after, complaints }: ClientSummary): Promise<void> {
    const { client, signal, onComplaint } = this.#options;
    if (!after) {
      await this.finish({ type: 'committed', set });
      return;
    }
    try {
      await this.#control.send({ type: 'committed', set });
      const said = await orAborted(signal, this.#control.receive(fromClientSchema));
      if (said?.type !== 'after') throw stpError('EPROTO', 'it said nothing more');
      await this.#allComplaints(complaints + said.complaints);
    } catch (e) {
      // The set stands, whatever the command does.
      const message = `client ${client.name} did not tell how its after command ended`;
      onComplaint({ path: '/', code: 'ECHILD', message: `${message}: ${reasonOf(e).message}` });
    }
    await this.#options.connect.closeAll();
  }

  /** The last word to the client; then the connections close in good order. */
  async finish(message: FromServer): Promise<void> {
    try {
      await this.#control.send(message);
    } catch {
      // The client is gone; what was agreed before stands.
    }
    await this.#options.connect.closeAll();
  }

  /** Bytes on the network connections of this session, as the wire saw them. */
  get inet(): Traffic {
    return this.#options.connect.traffic().inet;
  }

  async #bestReason(e: unknown): Promise<unknown> {
    const { signal, client } = this.#options;
    if (signal.aborted || e instanceof ClientFailure || !isConsequence(e)) return e;
    const silence = sleep(CLIENT_REASON_GRACE_MS, undefined, { ref: false });
    try {
      await Promise.race([this.#summary, silence]);
    } catch (said) {
      if (said instanceof ClientFailure) return said;
      const gone = `client ${client.name} ended the session: it was stopped or killed`;
      if (isCoded(said) && said.code === 'ECONNRESET') return stpError('ECONNRESET', gone);
    }
    return e;
  }

  async #readControl(): Promise<ClientSummary> {
    const { client, onProgress } = this.#options;
    for (;;) {
      const message = await this.#control.receive(fromClientSchema);
      if (!message) {
        throw stpError('ECONNRESET', `client ${client.name} ended its control connection`);
      }
      switch (message.type) {
        case 'ready':
          this.#onReady();
          break;
        case 'progress':
          onProgress(message);
          break;
        case 'summary':
          await this.#allComplaints(message.complaints);
          return message;
        case 'after':
          throw stpError('EPROTO', `client ${client.name} is out of order`);
        case 'failed':
          throw new ClientFailure(`client ${client.name}: ${message.reason}`);
      }
    }
  }

  #complaintCount = 0;
  #onComplaintCount: () => void = () => {};

  /** The second connection may lag behind the first. */
  async #allComplaints(due: number): Promise<void> {
    while (this.#complaintCount < due) {
      const more = new Promise<void>((resolve) => {
        this.#onComplaintCount = resolve;
      });
      await Promise.race([more, this.#complaints]);
      if (this.#complaintCount < due && this.#errorsEnded) {
        throw stpError('EPROTO', `client ${this.#options.client.name} announced more complaints`);
      }
    }
  }

  #errorsEnded = false;

  async #readErrors(): Promise<void> {
    try {
      for (;;) {
        const complaint = await this.#errors.receive(complaintSchema);
        if (!complaint) return;
        this.#complaintCount++;
        this.#options.onComplaint(complaint);
        this.#onComplaintCount();
      }
    } finally {
      this.#errorsEnded = true;
    }
  }
}
