/**
 * The other end of control-api.ts: asks a running stpd, and gives up when it does not answer.
 *
 * Nothing here waits longer than CONTROL_TIMEOUT_MS for a sign of life. A change may take longer,
 * since memory is claimed and filled: it is sent only to a daemon that has just answered. Any
 * thread.
 */
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { isCoded, messageOf, type StpError, stpError } from '../errors.js';
import { CONTROL_TIMEOUT_MS } from '../limits.js';
import { CONTROL_SOCKET, LOG_FILE, ownerOf, pidInLockFile } from '../run-directory.js';
import type {
  ArrayDocument,
  BoardsDocument,
  DeletedDocument,
  ErrorDocument,
  FiguresDocument,
  HostsDocument,
  SocketsDocument,
  StgDocument,
  StgsDocument,
  TraceDocument,
} from './reports.js';
import type { GrowBody, StgBody } from './stg-request.js';

/** Populating takes 1.2 to 3.2 s a GiB, more on a loaded machine: enough for the largest array. */
export const CHANGE_TIMEOUT_MS = 600_000;

/** No stpd serves the run directory. */
export class NotRunningError extends Error {
  override readonly name = 'NotRunningError';
  readonly code = 'ECONNREFUSED';
  constructor(readonly runDirectory: string) {
    super(
      `stpd is not running on ${runDirectory}; start it with: ` +
        `stpd start --run-dir ${runDirectory}`,
    );
  }
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

export class ControlClient {
  readonly #runDirectory: string;
  readonly #timeoutMs: number;

  /** @param timeoutMs how long a daemon may be silent */
  constructor(runDirectory: string, timeoutMs = CONTROL_TIMEOUT_MS) {
    this.#runDirectory = runDirectory;
    this.#timeoutMs = timeoutMs;
  }

  array = (): Promise<ArrayDocument> => this.#ask('GET', '/v1/array', 'array');
  boards = (): Promise<BoardsDocument> => this.#ask('GET', '/v1/boards', 'boards');
  stgs = (): Promise<StgsDocument> => this.#ask('GET', '/v1/stgs', 'stgs');
  hosts = (): Promise<HostsDocument> => this.#ask('GET', '/v1/hosts', 'hosts');
  sockets = (): Promise<SocketsDocument> => this.#ask('GET', '/v1/sockets', 'sockets');
  stg = (name: string): Promise<StgDocument> =>
    this.#ask('GET', `/v1/stgs/${encodeURIComponent(name)}`, 'stg');

  figures = (): Promise<FiguresDocument> => this.#ask('GET', '/v1/figures', 'figures');

  trace(name: string, since?: number, slot?: number): Promise<TraceDocument> {
    const query = new URLSearchParams();
    if (since !== undefined) query.set('since', String(since));
    if (slot !== undefined) query.set('slot', String(slot));
    return this.#ask('GET', `/v1/stgs/${encodeURIComponent(name)}/trace?${query}`, 'trace');
  }

  async createStg(body: StgBody): Promise<StgDocument> {
    await this.array();
    return this.#ask('POST', '/v1/stgs', 'stg', { body, timeoutMs: CHANGE_TIMEOUT_MS });
  }

  async growStg(name: string, body: GrowBody): Promise<StgDocument> {
    await this.array();
    const path = `/v1/stgs/${encodeURIComponent(name)}/grow`;
    return this.#ask('POST', path, 'stg', { body, timeoutMs: CHANGE_TIMEOUT_MS });
  }

  async deleteStg(name: string, force: boolean): Promise<DeletedDocument> {
    await this.array();
    const path = `/v1/stgs/${encodeURIComponent(name)}${force ? '?force=1' : ''}`;
    return this.#ask('DELETE', path, 'deleted', { timeoutMs: CHANGE_TIMEOUT_MS });
  }

  async #ask<T>(
    method: string,
    path: string,
    key: string,
    { body, timeoutMs = this.#timeoutMs }: { body?: StgBody | GrowBody; timeoutMs?: number } = {},
  ): Promise<T> {
    const answer = await this.#exchange(method, path, body, timeoutMs);
    let document: unknown;
    try {
      document = JSON.parse(answer.text);
    } catch {
      throw this.#notUnderstood(answer);
    }
    if (typeof document !== 'object' || document === null) throw this.#notUnderstood(answer);
    if (answer.status >= 400) {
      const { error } = document as Partial<ErrorDocument>;
      if (typeof error?.code !== 'string') throw this.#notUnderstood(answer);
      throw stpError(error.code, String(error.message));
    }
    if (!(key in document)) throw this.#notUnderstood(answer);
    return document as T;
  }

  #exchange(
    method: string,
    path: string,
    body: StgBody | GrowBody | undefined,
    timeoutMs: number,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const call = httpRequest({
        socketPath: join(this.#runDirectory, CONTROL_SOCKET),
        agent: false,
        method,
        path,
        headers: text === undefined ? {} : { 'content-type': 'application/json' },
      });
      // Where it was this process that stood still, the answer lies in the socket already: the
      // loop looks there between a timer and an immediate.
      const giveUp = (): void => void call.destroy(this.#silent(timeoutMs));
      const timer = setTimeout(() => setImmediate(giveUp), timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        reject(this.#translate(error, timeoutMs));
      };
      call.on('error', fail);
      call.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('error', fail);
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          clearTimeout(timer);
          const answer = Buffer.concat(chunks).toString('utf8');
          resolve({ status: response.statusCode ?? 0, text: answer });
        });
      });
      call.end(text);
    });
  }

  #translate(error: Error, timeoutMs: number): Error {
    const { code } = error as StpError;
    switch (code) {
      case 'ENOENT':
      case 'ENOTDIR':
      case 'ECONNREFUSED':
        return new NotRunningError(this.#runDirectory);
      case 'EAGAIN': // More callers wait than its backlog holds: it takes none.
        return this.#silent(timeoutMs);
      case 'EACCES':
      case 'EPERM': {
        const owner = ownerOf(join(this.#runDirectory, CONTROL_SOCKET));
        const who = owner === undefined ? 'the user that runs it' : `uid ${owner}`;
        return stpError(
          'EACCES',
          `stpd on ${this.#runDirectory} may be controlled by ${who} and root only`,
        );
      }
      case 'ETIMEDOUT':
        return error;
      default:
        return stpError(
          isCoded(error) ? error.code : 'EIO',
          `stpd on ${this.#runDirectory} broke off: ${messageOf(error)}; ` +
            `see ${join(this.#runDirectory, LOG_FILE)}`,
        );
    }
  }

  #silent(timeoutMs: number): Error {
    const pid = pidInLockFile(this.#runDirectory);
    const who = pid === undefined ? 'stpd' : `stpd (pid ${pid})`;
    return stpError(
      'ETIMEDOUT',
      `${who} on ${this.#runDirectory} has not answered for ${timeoutMs / 1000} s: it is stopped, ` +
        `hung, or the machine is overloaded; look at ${pid === undefined ? 'it' : `/proc/${pid}/status`} ` +
        `and ${join(this.#runDirectory, LOG_FILE)}. Established connections go on without it`,
    );
  }

  #notUnderstood(answer: Answer): Error {
    return stpError(
      'EPROTO',
      `stpd on ${this.#runDirectory} gave an answer (HTTP ${answer.status}) that is not understood: ` +
        'is it of another version?',
    );
  }
}
