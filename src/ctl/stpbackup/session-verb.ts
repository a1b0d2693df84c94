/** What `fs` and `restore` share: HOST:PATH, the running of a session, Ctrl-C. Main thread. */
import { type Command, Option } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import type { Use } from '../../connect/stp-connect.js';
import { stpError } from '../../errors.js';
import { askSession, type ServerOptions } from './ask-server.js';
import { SessionView, type ViewOptions } from './session-view.js';

export interface SessionVerbOptions extends ServerOptions, ViewOptions {
  readonly via?: Use;
}

/** Adds what all sessions have. */
export const withSession = (command: Command): Command =>
  command
    .addOption(
      new Option('--via <way>', 'what the data goes over; array-first: the network if need be')
        .choices(['array', 'network', 'array-first'])
        .default('array'),
    )
    .option('--trace', "print the handshake's steps on the server's side to stderr")
    .option('--json', 'print the summary as one JSON object');

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
  const view = new SessionView(options);
  const interrupted = new AbortController();
  const onSignal = (): void => interrupted.abort();
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  try {
    const onEvent = view.onEvent.bind(view);
    await askSession(options, path, { ...body, via: options.via }, onEvent, interrupted.signal);
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
  throw stpError(code, message);
}
