/**
 * `stpctl forward FROM TO`: programs that know nothing of the array use it.
 *
 * Everything it says goes to stderr: stdout may be an end of the stream. Main thread.
 */
import type { Command } from 'commander';
import { stpError } from '../../errors.js';
import {
  FORWARD_CONNECTIONS_DEFAULT,
  FORWARD_CONNECTIONS_MAX,
  FORWARD_GRACE_S_DEFAULT,
  FORWARD_GRACE_S_MAX,
} from '../../limits.js';
import { resolveRunDirectory } from '../../run-directory.js';
import { EXIT_FAILURE, EXIT_OK, EXIT_WARNINGS } from '../command-line.js';
import { addressText, checkPair, parseAddress } from './forward-address.js';
import { Forwarder, summaryText } from './forwarder.js';

interface ForwardVerbOptions {
  readonly runDir?: string;
  readonly maxConnections?: string;
  readonly mode?: string;
  readonly grace?: string;
  readonly verbose?: boolean;
}

const HELP = `
Addresses:
  stp:STG:PORT    a port of an STG
  tcp:HOST:PORT   HOST is a name, an IPv4 address, or an IPv6 address in brackets: tcp:[::1]:5432
  tcp:PORT        the same on 127.0.0.1
  unix:PATH       a Unix stream socket
  -  or  stdio    standard input and output: one connection, then the end

FROM is listened on (port 0: any free one), TO is connected to for each accepted connection. Ends of
either direction and resets are passed on; a Unix socket has no resets, its peer sees an end.

Exit codes:
  0  done: stopped by a signal with every stream at its end, or the one of stdio has ended
  1  failed: it could not listen or attach; or the one of stdio was reset or found no target
  2  wrong usage; nothing was tried
  3  stpd is not running
  4  stopped by a signal, and streams that went on beyond --grace were reset

Examples:
  stpctl forward stp:demo:5432 unix:/var/run/postgresql/.s.PGSQL.5432
  stpctl forward tcp:5432 stp:demo:5432
  tar c DIR | stpctl forward - stp:demo:7000
  stpctl forward stp:demo:7000 - </dev/null | tar x
`;

function wholeNumber(
  flag: string,
  typed: string | undefined,
  { without, min, max }: { without: number; min: number; max: number },
): number {
  if (typed === undefined) return without;
  if (/^[0-9]{1,9}$/.test(typed) && Number(typed) >= min && Number(typed) <= max) {
    return Number(typed);
  }
  throw stpError('EINVAL', `${flag} is '${typed}'; give a whole number from ${min} to ${max}`);
}

/** Without execute bits connect(2) needs only the right to write. */
function fileMode(typed: string | undefined, from: string): number {
  if (typed === undefined) return 0o600;
  if (from !== 'unix') {
    throw stpError('EINVAL', '--mode is for the file of a Unix socket; FROM must be unix:PATH');
  }
  if (/^0?[0-7]{3}$/.test(typed)) return Number.parseInt(typed, 8);
  throw stpError('EINVAL', `--mode is '${typed}'; give three octal digits, such as 0660`);
}

const say = (line: string): void => void process.stderr.write(`stpctl: ${line}\n`);

export function addForward(parent: Command): void {
  parent
    .command('forward <from> <to>')
    .summary('carry connections between STP, TCP, Unix sockets and stdio')
    .description('Carries connections between STP, TCP, Unix sockets and stdio.')
    .option(
      '--max-connections <n>',
      `most connections at a time; more are reset (default: ${FORWARD_CONNECTIONS_DEFAULT})`,
    )
    .option('--mode <octal>', "mode of the Unix socket's file that is made (default: 0600)")
    .option(
      '--grace <seconds>',
      'what streams have to end in after SIGINT, SIGTERM or SIGHUP ' +
        `(default: ${FORWARD_GRACE_S_DEFAULT}); a second signal ends them at once`,
    )
    .option('-v, --verbose', 'a line for each connection when it is over')
    .option('--run-dir <dir>', 'which array (default: STPD_RUN_DIR, or by user)')
    .addHelpText('after', HELP)
    .action(forward);
}

async function forward(
  fromText: string,
  toText: string,
  options: ForwardVerbOptions,
): Promise<void> {
  const from = parseAddress(fromText);
  const to = parseAddress(toText);
  checkPair(from, to);
  const maxConnections = wholeNumber('--max-connections', options.maxConnections, {
    without: FORWARD_CONNECTIONS_DEFAULT,
    min: 1,
    max: FORWARD_CONNECTIONS_MAX,
  });
  const graceS = wholeNumber('--grace', options.grace, {
    without: FORWARD_GRACE_S_DEFAULT,
    min: 0,
    max: FORWARD_GRACE_S_MAX,
  });
  /* Who read our words is gone: that is no reason to end streams. */
  process.stderr.on('error', () => {});
  const forwarder = await Forwarder.start({
    from,
    to,
    runDirectory: resolveRunDirectory(options.runDir),
    maxConnections,
    mode: fileMode(options.mode, from.kind),
    verbose: options.verbose === true,
    say,
  });
  /* Signals first: who has read the line may send one. */
  const end = endOf(forwarder, graceS);
  say(`forwarding ${addressText(forwarder.listensOn)} to ${addressText(to)}`);
  const cut = await end;
  const { summary } = forwarder;
  say(summaryText(summary));
  const one = from.kind === 'stdio' || to.kind === 'stdio';
  const failed = one && summary.reset + summary.refused > 0;
  // Stopped, and streams that had not ended by themselves were reset.
  process.exitCode = cut ? EXIT_WARNINGS : failed ? EXIT_FAILURE : EXIT_OK;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Waits for its end, by itself or by signals. True if streams were reset for it. */
async function endOf(forwarder: Forwarder, graceS: number): Promise<boolean> {
  let cut = false;
  let timer: NodeJS.Timeout | undefined;
  const reset = (): void => {
    cut = forwarder.openCount > 0;
    forwarder.reset();
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    if (timer !== undefined) return reset();
    const open = forwarder.openCount;
    if (open > 0) {
      say(
        `${signal}: no new connections; ${open} open, which ${open === 1 ? 'has' : 'have'} ` +
          `${graceS} s to end (a second signal resets at once)`,
      );
    }
    timer = setTimeout(reset, graceS * 1000);
    forwarder.stop();
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  try {
    await forwarder.over;
  } finally {
    clearTimeout(timer);
    for (const signal of SIGNALS) process.off(signal, onSignal);
  }
  return cut;
}
