/** stpbackup fs HOST:PATH... */
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { withServer } from './ask-server.js';
import { parseHostPath, runSession, type SessionVerbOptions } from './session-verb.js';

async function backUp(given: readonly string[], options: SessionVerbOptions): Promise<void> {
  const all = given.map(parseHostPath);
  const hosts = new Set(all.map(({ host }) => host));
  const [host] = hosts;
  if (hosts.size !== 1) {
    throw new ConfigurationError(`one backup has one host, not ${[...hosts].join(' and ')}`);
  }
  await runSession(options, '/v1/backup', { host, paths: all.map(({ path }) => path) });
}

export function addFs(program: Command): void {
  withServer(
    program
      .command('fs')
      .description('backs up file trees of a host into a new set')
      .argument('<host:path...>', 'host of the server configuration, and an absolute path there'),
  )
    .option('--trace', "print the handshake's steps on the server's side to stderr")
    .option('--json', 'print the summary as one JSON object')
    .action(backUp);
}
