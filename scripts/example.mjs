/**
 * `npm run example -- NAME [ARGUMENT...]`: runs a program of examples/ against an array of its own,
 * which is gone with it. With STPD_RUN_DIR set, `node examples/NAME` uses a running one instead.
 * Exit code: the program's; 2 for wrong usage.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const examples = path.join(root, 'examples');
/** Recipes, to be imported. */
const RECIPES = ['over-stp.mjs', 'in-worker.mjs'];
const STG = 'demo';

const [name = '', ...rest] = process.argv.slice(2);
const file = `${path.basename(name, '.mjs')}.mjs`;
const programs = fs.readdirSync(examples).filter((one) => !RECIPES.includes(one));
if (!programs.includes(file)) {
  console.error(`usage: npm run example -- NAME [ARGUMENT...]\n  NAME: ${programs.join(', ')}`);
  process.exit(2);
}

const base = fs.mkdtempSync(path.join(os.tmpdir(), 'stpd-example-'));
const runDirectory = path.join(base, 'run');
const ctl = (program) => path.join(root, 'dist', 'src', 'ctl', `${program}.js`);

async function run(script, args, options) {
  const child = spawn(process.execPath, [script, ...args], { stdio: 'inherit', ...options });
  const [code] = await once(child, 'exit');
  return code ?? 1;
}

const stpd = spawn(
  process.execPath,
  [ctl('stpd'), 'start', '--foreground', '--run-dir', runDirectory],
  { stdio: ['ignore', 'ignore', 'pipe'] },
);
let said = '';
stpd.stderr.on('data', (text) => {
  said += text;
});
const ended = once(stpd, 'exit');
const serves = (async () => {
  while (!/ serving/.test(said)) await new Promise((resolve) => setTimeout(resolve, 20));
  return true;
})();
try {
  if ((await Promise.race([serves, ended.then(() => false)])) !== true) {
    console.error(`stpd did not start: ${said}`);
    process.exitCode = 1;
  } else {
    const create = ['stg', 'create', STG, '--boards', '8', '--ports', '16'];
    const quiet = { stdio: ['ignore', 'ignore', 'inherit'] };
    process.exitCode =
      (await run(ctl('stpctl'), [...create, '--run-dir', runDirectory], quiet)) ||
      (await run(path.join(examples, file), rest, {
        env: { ...process.env, STPD_RUN_DIR: runDirectory, STG },
      }));
  }
} finally {
  stpd.kill('SIGTERM');
  await ended;
  fs.rmSync(base, { recursive: true, force: true });
}
