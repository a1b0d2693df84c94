/** stpbackup key new FILE, stpbackup key identity FILE */
import type { Command } from 'commander';
import { ConfigurationError } from '../../backup/config-error.js';
import { makeKeyFile } from '../../backup/keys.js';
import { messageOf } from '../../errors.js';
import { makeIdentityFile, type Recipient } from '../../library/age-keys.js';

function makeIdentity(file: string): Recipient {
  try {
    return makeIdentityFile(file);
  } catch (e) {
    throw new ConfigurationError(`${file}: no identity was made: ${messageOf(e)}`);
  }
}

export function addKey(program: Command): void {
  const key = program.command('key').description('keys of pairs of hosts, and of encrypted sets');
  key
    .command('new')
    .description('makes a key file, mode 0600; copy it to the other host by a safe way')
    .argument('<file>', 'must not exist')
    .action((file: string) => {
      makeKeyFile(file);
      process.stdout.write(`${file}: a new key; the client and the server need the same file\n`);
    });
  key
    .command('identity')
    .description('makes an identity of age, mode 0600, and prints its recipient')
    .argument('<file>', 'must not exist; without it what is encrypted for it is lost')
    .action((file: string) => {
      process.stdout.write(`${makeIdentity(file).text}\n`);
    });
}
