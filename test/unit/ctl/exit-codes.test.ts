/** Every verb of every program keeps to one table of exit codes. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import type { Command } from 'commander';
import { EXIT_CODES, exitCodeOf } from '../../../src/ctl/command-line.js';
import { stpbackupProgram } from '../../../src/ctl/stpbackup/program.js';
import { stpctlProgram } from '../../../src/ctl/stpctl/program.js';
import { stpdProgram } from '../../../src/ctl/stpd/program.js';
import { runProgram } from '../../support/array.js';

const programs: Readonly<Record<string, () => Promise<Command>>> = {
  stpd: async () =>
    stpdProgram({
      script: '/nowhere',
      createArray: () => Promise.reject(new Error('nothing is started here')),
      lockFile: () => false,
    }),
  stpctl: async () => stpctlProgram(),
  stpbackup: () => stpbackupProgram(),
};

/** The words of each verb that does something. */
function verbsOf(command: Command, words: readonly string[] = []): string[][] {
  if (command.commands.length === 0) return [[...words]];
  return command.commands.flatMap((sub) => verbsOf(sub, [...words, sub.name()]));
}

/** Parses in this process: only what is refused before anything is done. */
async function codeOf(make: () => Promise<Command>, args: readonly string[]): Promise<number> {
  const program = await make();
  const hush = (command: Command): void => {
    command.exitOverride().configureOutput({ writeOut: () => {}, writeErr: () => {} });
    command.commands.forEach(hush);
  };
  hush(program);
  try {
    await program.parseAsync(['node', program.name(), ...args]);
  } catch (e) {
    return exitCodeOf(e);
  }
  return 0;
}

for (const [name, make] of Object.entries(programs)) {
  test(`${name}: each verb has 0 for --help and 2 for what it does not know`, async (t) => {
    const verbs = verbsOf(await make());
    t.true(verbs.length > 3);
    for (const verb of verbs) {
      const words = verb.join(' ');
      t.is(await codeOf(make, [...verb, '--help']), 0, `${words} --help`);
      t.is(await codeOf(make, [...verb, '--no-such-option']), 2, `${words} --no-such-option`);
      const many = Array.from({ length: 9 }, () => 'x');
      const takesAll = /\.\.\.[\])>]/.test(usageOf(await make(), verb));
      if (!takesAll) t.is(await codeOf(make, [...verb, ...many]), 2, `${words} x x x ...`);
    }
    t.is(await codeOf(make, ['no-such-verb']), 2);
    t.is(await codeOf(make, ['--version']), 0);
  });
}

function usageOf(program: Command, words: readonly string[]): string {
  let at = program;
  for (const word of words) at = at.commands.find((sub) => sub.name() === word) as Command;
  return at.usage();
}

function place(t: ExecutionContext): string {
  const base = mkdtempSync(join(tmpdir(), 'stp-exit-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  return base;
}

/** A program, its arguments with `.` for an empty directory, the code, and what stderr says. */
const cases: readonly [string, string[], number, RegExp][] = [
  ['stpd', ['status', '--run-dir', '.'], 5, /^$/],
  ['stpd', ['start', '--boards', '0'], 2, /--boards: 0 is too few/],
  ['stpd', ['check-config', '--config', './none.json'], 2, /none\.json: cannot be read/],
  ['stpctl', ['stg', 'list', '--run-dir', '.'], 5, /stpd is not running.*start it with/],
  ['stpctl', ['stg', 'create', 'a/b', '--boards', '1', '--ports', '1'], 2, /a\/b/],
  ['stpbackup', ['list', '--control', './none'], 5, /no stpbackup server answers.*start it with/],
  ['stpbackup', ['fs', 'h:/x', '--control', './none'], 5, /no stpbackup server answers/],
  ['stpbackup', ['restore', 'x', 'h:/x', '--control', './none'], 5, /no stpbackup server/],
  ['stpbackup', ['fs', 'h:x', '--control', './none'], 2, /h:x is not HOST:\/PATH/],
  ['stpbackup', ['fs', 'h:/x'], 2, /name the server: --config FILE .* or --control SOCKET/],
  ['stpbackup', ['list', '--config', './none.json'], 2, /none\.json: there is no such file/],
  ['stpbackup', ['client', '--config', './none.json'], 2, /none\.json: there is no such file/],
  ['stpbackup', ['server', '--config', './bad.json'], 2, /bad\.json:1: wkp: must be a port/],
  ['stpbackup', ['db', '--config', './none.json'], 2, /say what to back up/],
  ['stpbackup', ['ls', 'latest', '--library', './none'], 1, /none/],
  ['stpbackup', ['check', '--library', './none'], 1, /none/],
  ['stpbackup', ['check', '--share', '0', '--library', '.'], 2, /--share 0 is not a percentage/],
  ['stpbackup', ['prune', '--library', './none'], 1, /none/],
  ['stpbackup', ['forget', '--library', '.'], 2, /name sets, or give a rule/],
  ['stpbackup', ['wal-push', 'x'], 2, /Usage/],
  ['stpbackup', ['wal-fetch', 'x'], 200, /Usage/],
  [
    'stpbackup',
    ['wal-push', '--control', './none', './bad.json'],
    1,
    /no stpbackup client answers/,
  ],
];
for (const [program, args, code, said] of cases) {
  test.serial(`${program} ${args.join(' ')}: ${code}`, async (t) => {
    const base = place(t);
    const wrong = { name: 's', library: 'l', stg: 't', control: 'c', wkp: 0 };
    writeFileSync(join(base, 'bad.json'), JSON.stringify(wrong));
    const here = args.map((word) => (/^\.(\/|$)/.test(word) ? join(base, word) : word));
    const { code: ended, stderr } = await runProgram(program, here);
    t.is(ended, code, stderr);
    t.regex(stderr, said);
    t.notRegex(stderr, /\n\s+at /, 'no stack');
  });
}

test('the table in README.md is that of the programs', (t) => {
  const readme = readFileSync(
    fileURLToPath(new URL('../../../../README.md', import.meta.url)),
    'utf8',
  );
  for (const [code, meaning] of EXIT_CODES) {
    const row = `| ${code} | ${meaning} |`;
    t.true(readme.includes(row), row);
  }
});
