/** What `fs` and `restore` share: HOST:PATH, the running of a session, Ctrl-C. Main thread. */
import { type Command, Option } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { ABSENT_CODE } from '../../backup/reason.js';
import type { Use } from '../../connect/stp-connect.js';
import { stpError } from '../../errors.js';
import { outliveReader } from '../command-line.js';
import { askSession, type ServerOptions } from './ask-server.js';
import { NotRunningError } from './not-running.js';
import { withOutput } from './session-options.js';
import { SessionView, type ViewOptions } from './session-view.js';

export interface SessionVerbOptions extends ServerOptions, ViewOptions {
  readonly limitRate?: number;
  readonly via?: Use;
}

/** Adds what all sessions have. */
export const withSession = (command: Command): Command =>
  withOutput(command)
    .addOption(
      new Option('--via <way>', 'what the data goes over; array-first: the network if need be')
        .choices(['array', 'network', 'array-first'])
        .default('array'),
    )
    .option('--trace', "print the handshake's steps on the server's side to stderr");

export interface HostPath {
  readonly host: string;
  readonly path: string;
}

/** `HOST:PATH` with an absolute path; the first colon parts the two. */
export function parseHostPath(given: string): HostPath {
  const colon = given.indexOf(':');
  const [host, path] = [given.slice(0, colon), given.slice(colon + 1)];
  if (colon > 0 && path.startsWith('/')) return { host, path };
  throw new ConfigurationError(`${given} is not HOST:/PATH, such as web1:/srv`);
}

/** Runs a session to its end and sets the exit code. */
export async function runSession(
  options: SessionVerbOptions,
  path: string,
  body: object,
): Promise<void> {
  outliveReader();
  const view = new SessionView(options);
  try {
    await follow(view, options, path, body);
  } catch (e) {
    view.failed(e);
    throw e;
  }
}

async function follow(
  view: SessionView,
  options: SessionVerbOptions,
  path: string,
  body: object,
): Promise<void> {
  const interrupted = new AbortController();
  const onSignal = (): void => interrupted.abort();
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  try {
    const onEvent = view.onEvent.bind(view);
    const order = { ...body, via: options.via, bytesPerSecond: options.limitRate };
    await askSession(options, path, order, onEvent, interrupted.signal);
  } finally {
    view.end();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
  if (view.report) {
    process.exitCode = view.finish(view.report);
    return;
  }
  if (interrupted.signal.aborted) {
    throw stpError('ECANCELED', 'interrupted: the session was given up, and leaves no set');
  }
  const { code, message } = view.failure ?? { code: 'EIO', message: 'the server said nothing' };
  throw code === ABSENT_CODE ? new NotRunningError(message) : stpError(code, message);
}
