/** stpbackup check-config: whether a configuration may stand, and what it refers to is there. */
import { type Command, Option } from 'commander';
import { type ConfigCheck, checkConfig } from '../../backup/config-check.js';
import { ConfigurationError } from '../../backup/config-error.js';
import { findingText } from '../../backup/config-file.js';
import { ROLES, type Role } from '../../backup/config-schema.js';
import { EXIT_USAGE, EXIT_WARNINGS } from '../command-line.js';
import { type OutputOptions, print } from '../output.js';
import { SCHEMAS, type SchemaName, schemaText } from './schemas.js';

interface Options extends OutputOptions {
  readonly config?: string;
  readonly role?: Role;
  readonly schema?: SchemaName;
}

function checkText(file: string, { role, findings }: ConfigCheck): string {
  const lines = findings.map((finding) => {
    const text = findingText(file, finding);
    return finding.severity === 'error' ? `${text}\n` : `${text} (warning)\n`;
  });
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  const warnings = findings.length - errors;
  const whose = role === null ? 'a configuration' : `the configuration of a ${role}`;
  if (errors > 0) return `${lines.join('')}${file}: cannot be used: ${errors} to mend\n`;
  if (warnings > 0) return `${lines.join('')}${file}: ${whose}, with warnings: ${warnings}\n`;
  return `${file}: ${whose}, nothing to mend\n`;
}

function check({ config, role, schema, json }: Options): void {
  if (schema !== undefined) {
    process.stdout.write(schemaText(schema));
    return;
  }
  if (config === undefined) {
    throw new ConfigurationError('name the file: --config FILE; or say --schema client or server');
  }
  const result = checkConfig(config, role);
  print({ json }, { file: config, ...result }, () => checkText(config, result));
  const errors = result.findings.some(({ severity }) => severity === 'error');
  if (errors) process.exitCode = EXIT_USAGE;
  else if (result.findings.length > 0) process.exitCode = EXIT_WARNINGS;
}

export function addCheckConfig(program: Command): void {
  program
    .command('check-config')
    .description('says what is wrong with a configuration, and with what it refers to')
    .option('--config <file>', 'the configuration, JSON')
    .addOption(new Option('--role <role>', 'whose it is, if its fields do not tell').choices(ROLES))
    .addOption(new Option('--schema <role>', 'print that JSON schema').choices(SCHEMAS))
    .option('--json', 'print one JSON object: {"file","role","findings":[...]}')
    .action(check);
}
