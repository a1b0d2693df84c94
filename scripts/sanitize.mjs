/**
 * `npm run test:sanitize [-- [--tool address|thread] [AVA ARGUMENTS]]`: the addon with GCC's
 * AddressSanitizer and UndefinedBehaviorSanitizer, or with ThreadSanitizer, and the tests on it.
 *
 * Builds in a tree of its own, build/sanitize/TOOL: copies of dist/, links to all the rest, and the
 * addon where the loader of such a tree looks. So nothing of the product knows about sanitizers.
 * The runtime must be there before Node is: it is preloaded into Node and all its children. A
 * finding ends the process that has it and is written to build/sanitize/TOOL/reports, which must be
 * empty in the end, whatever the tests say. Exit code 0 or 1.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { findHeaders } from './node-headers.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const require = createRequire(path.join(root, 'package.json'));

/** What uses the addon. test/native/binary.test.ts is about the one that is given to users. */
const TESTS = [
  'dist/test/native/{install,layout}.test.js',
  'dist/test/stress/**/*.test.js',
  'dist/test/unit/connect/**/*.test.js',
  'dist/test/unit/memory/**/*.test.js',
  'dist/test/unit/native/**/*.test.js',
  'dist/test/unit/socket/**/*.test.js',
  'dist/test/unit/view/**/*.test.js',
];

/** Without any news: everything is several times slower. */
const TIMEOUT = '10m';

const TOOLS = {
  address: {
    sanitizers: 'address,undefined',
    library: 'libasan.so',
    /* Node never frees much of what it has at its end. Signals are the tests' and V8's affair. */
    options: (reports) => ({
      ASAN_OPTIONS: [
        'detect_leaks=0',
        'handle_segv=0',
        'handle_sigbus=0',
        'detect_stack_use_after_return=0',
        `log_path=${reports}/asan`,
      ].join(':'),
      UBSAN_OPTIONS: `print_stacktrace=1:log_path=${reports}/ubsan`,
    }),
  },
  thread: {
    sanitizers: 'thread',
    library: 'libtsan.so',
    options: (reports) => ({
      TSAN_OPTIONS: [
        'report_signal_unsafe=0',
        'ignore_noninstrumented_modules=1',
        `suppressions=${path.join(root, 'scripts/tsan.supp')}`,
        `log_path=${reports}/tsan`,
      ].join(':'),
    }),
  },
};

const args = process.argv.slice(2);
const at = args.indexOf('--tool');
const name = at < 0 ? 'address' : args.splice(at, 2)[1];
const tool = TOOLS[name];
if (tool === undefined) throw new Error(`--tool is address or thread, not ${name}`);
const tree = path.join(root, 'build/sanitize', name);
const inTree = (...parts) => path.join(tree, ...parts);
const reports = inTree('reports');

function run(command, commandArgs, options = {}) {
  const result = spawnSync(command, commandArgs, { cwd: root, stdio: 'inherit', ...options });
  if (result.error) throw result.error;
  return result.status === 0;
}

/** The compiler's own, so that both halves fit. */
function runtime() {
  const found = spawnSync('g++', [`-print-file-name=${tool.library}`], { encoding: 'utf8' });
  const file = (found.stdout ?? '').trim();
  if (!path.isAbsolute(file)) {
    throw new Error(`g++ has no ${tool.library}: install it (Debian: libgcc-12-dev, libasan8)`);
  }
  return fs.realpathSync(file);
}

function makeTree() {
  fs.mkdirSync(tree, { recursive: true });
  for (const old of ['dist', 'reports']) fs.rmSync(inTree(old), { recursive: true, force: true });
  fs.mkdirSync(reports);
  fs.cpSync(path.join(root, 'dist'), inTree('dist'), { recursive: true });
  const links = ['node_modules', 'package.json', 'native', 'docs', 'scripts', 'CMakeLists.txt'];
  const tests = ['src', 'test', 'workers', 'examples', 'README.md', 'ARCHITECTURE.md'];
  for (const entry of [...links, ...tests]) {
    fs.rmSync(inTree(entry), { force: true });
    fs.symlinkSync(path.join(root, entry), inTree(entry));
  }
  fs.mkdirSync(inTree('build'), { recursive: true });
  fs.rmSync(inTree('build/generated'), { force: true });
  fs.symlinkSync(path.join(root, 'build/generated'), inTree('build/generated'));
}

function build() {
  const cmakeJs = path.join(path.dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js');
  const environment = { ...process.env };
  const headers = findHeaders();
  if (headers !== undefined) environment.npm_config_nodedir = headers;
  return run(
    process.execPath,
    [
      ...[cmakeJs, 'compile', '--out', inTree('build/cmake'), '--directory', root, '--prefer-gnu'],
      `--CDNODE_EXECUTABLE=${process.execPath}`,
      `--CDSTPD_SANITIZE=${tool.sanitizers}`,
      `--CDSTPD_OUTPUT_DIR=${inTree('build/Release')}`,
    ],
    { env: environment },
  );
}

function test() {
  const environment = {
    ...process.env,
    ...tool.options(reports),
    LD_PRELOAD: runtime(),
  };
  const ava = path.join(root, 'node_modules/ava/entrypoints/cli.mjs');
  const tests = args.length > 0 ? args : TESTS;
  const options = { cwd: tree, env: environment };
  return (
    run(process.execPath, [inTree('dist/test/native/smoke.js')], options) &&
    run(process.execPath, [ava, `--timeout=${TIMEOUT}`, ...tests], options)
  );
}

if (!run(process.execPath, [path.join(root, 'scripts/install.mjs')])) process.exit(1);
makeTree();
const passed = build() && test();
const findings = fs.readdirSync(reports);
for (const finding of findings) {
  process.stdout.write(`\n--- ${finding}\n${fs.readFileSync(path.join(reports, finding), 'utf8')}`);
}
process.stdout.write(
  `\n${tool.sanitizers}: tests ${passed ? 'passed' : 'failed'}, ${findings.length} findings\n`,
);
process.exitCode = passed && findings.length === 0 ? 0 : 1;
