/**
 * Asks the running `stpbackup server` over its control socket. Main thread.
 */
import { type IncomingMessage, type RequestOptions, request } from 'node:http';
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { controlPathOf } from '../../backup/control-path.js';
import type { ServerEvent } from '../../backup/server-control.js';
import { isCoded, stpError } from '../../errors.js';
import { ownerOf } from '../../run-directory.js';
import { NotRunningError } from './not-running.js';

export interface ServerOptions {
  readonly config?: string;
  readonly control?: string;
}

/** Adds the two ways to name the server. */
export const withServer = (command: Command): Command =>
  command
    .option('--config <file>', "the server's configuration, for the path of its control socket")
    .option('--control <socket>', "the server's control socket itself");

async function controlPath(options: ServerOptions): Promise<string> {
  if (options.control !== undefined) return options.control;
  if (options.config !== undefined) return controlPathOf(options.config);
  throw new ConfigurationError("name the server: --config FILE (the server's) or --control SOCKET");
}

const noServer = (socketPath: string): NotRunningError =>
  new NotRunningError(
    `no stpbackup server answers on ${socketPath}; start it with: stpbackup server --config FILE`,
  );

function connectError(e: Error, socketPath: string): Error {
  const code = isCoded(e) ? e.code : 'EIO';
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return noServer(socketPath);
  if (code !== 'EACCES' && code !== 'EPERM') return e;
  const owner = ownerOf(socketPath);
  const who = owner === undefined ? 'the user that runs it' : `uid ${owner}`;
  return stpError(
    code,
    `the stpbackup server on ${socketPath} may be asked by ${who} and root only`,
  );
}

async function open(options: ServerOptions, path: string, body?: object): Promise<IncomingMessage> {
  const socketPath = await controlPath(options);
  // Without `servername` node:http looks whether the host is an IP address, for TLS, and compiles
  // the expression for that, which takes longer than connecting.
  const where: RequestOptions & { servername: string } = {
    socketPath,
    path,
    servername: '',
    method: body === undefined ? 'GET' : 'POST',
    headers: { host: 'stpbackup', 'content-type': 'application/json' },
  };
  return new Promise((resolve, reject) => {
    const asked = request(where);
    asked.on('response', resolve);
    asked.on('error', (e) => reject(connectError(e, socketPath)));
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function refusal(response: IncomingMessage): Promise<Error> {
  let text = '';
  for await (const chunk of response) text += String(chunk);
  try {
    const { error } = JSON.parse(text) as { error: { code: string; message: string } };
    return stpError(error.code, error.message);
  } catch {
    return stpError('EPROTO', `the server answered ${response.statusCode}: ${text.slice(0, 200)}`);
  }
}

// Not readline: its iteration never ends when the stream below is destroyed.
async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  response.setEncoding('utf8');
  for await (const chunk of response) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}

/** One document. */
export async function askServer<T>(options: ServerOptions, path: string): Promise<T> {
  const response = await open(options, path);
  if (response.statusCode !== 200) throw await refusal(response);
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return JSON.parse(text) as T;
}

/** A session: `onEvent` gets each event in turn. The signal gives the session up. */
export async function askSession(
  options: ServerOptions,
  path: string,
  body: object,
  onEvent: (event: ServerEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  const response = await open(options, path, body);
  if (response.statusCode !== 200) throw await refusal(response);
  signal.addEventListener('abort', () => response.destroy(), { once: true });
  let ended = false;
  try {
    for await (const line of linesOf(response)) {
      const event = JSON.parse(line) as ServerEvent;
      ended = event.event === 'done' || event.event === 'failed';
      onEvent(event);
    }
  } catch (e) {
    if (!signal.aborted && !(isCoded(e) && e.code === 'ECONNRESET')) throw e;
  }
  if (!ended && !signal.aborted) {
    throw stpError(
      'ECONNRESET',
      'the server ended before the session did: it was stopped or killed',
    );
  }
}
