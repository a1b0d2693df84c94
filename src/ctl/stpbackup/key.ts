/** stpbackup key new FILE */
import type { Command } from 'commander';
import { makeKeyFile } from '../../backup/keys.js';

export function addKey(program: Command): void {
  program
    .command('key')
    .description('keys of pairs of hosts')
    .command('new')
    .description('makes a key file, mode 0600; copy it to the other host by a safe way')
    .argument('<file>', 'must not exist')
    .action((file: string) => {
      makeKeyFile(file);
      process.stdout.write(`${file}: a new key; the client and the server need the same file\n`);
    });
}
