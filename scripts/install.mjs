/**
 * npm's install step: compiles TypeScript to dist/ and the addon to build/Release/, each only if it
 * is not up to date.
 *
 *   node scripts/install.mjs            what has changed (npm ci)
 *   node scripts/install.mjs --force    everything (npm run build)
 *
 * Imports nothing but Node before it has said what the machine lacks. Prints a line a step; the
 * output of a tool only if it fails. Exit code 0, or 1 with what is wrong and what to do.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { findHeaders } from './node-headers.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const inRoot = (...parts) => path.join(root, ...parts);
const require = createRequire(inRoot('package.json'));
const force = process.argv.includes('--force');

const binary = inRoot('build/Release/stpd_native.node');
const stampFile = inRoot('build/stamp.json');
const layoutHeader = inRoot('build/generated/layout.h');
/** Where cmake works: not build/ itself, which node-gyp takes for its own. */
const cmakeDirectory = inRoot('build/cmake');
const CMAKE_MIN = [3, 15];

/** Ends the installation with a message: what is wrong, and what to do. */
class InstallError extends Error {}

const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`;

/** Runs one step; it returns what to say about itself. */
function step(name, run) {
  const start = performance.now();
  const said = run();
  process.stdout.write(`stpd install: ${name.padEnd(10)} ${said} (${seconds(start)})\n`);
}

function run(command, args, options = {}) {
  return spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 256 << 20,
    ...options,
  });
}

const outputOf = (result) =>
  `${result.stdout ?? ''}${result.stderr ?? ''}${result.error ? `${result.error}\n` : ''}`.trimEnd();

// --- what the machine has ----------------------------------------------------------------------

/** The version a tool prints, as numbers, or undefined if it cannot be run. */
function versionOf(command) {
  const result = run(command, ['--version']);
  if (result.status !== 0) return undefined;
  return /(\d+)\.(\d+)(?:\.(\d+))?/.exec(result.stdout)?.[0];
}

function nodeSupported() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  return (major === 20 && minor >= 17) || (major === 22 && minor >= 9) || major > 22;
}

function cmakeSupported(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > CMAKE_MIN[0] || (major === CMAKE_MIN[0] && minor >= CMAKE_MIN[1]);
}

const headerText = (headers, file) =>
  fs.readFileSync(path.join(headers, 'include/node', file), 'utf8');

function versionOfHeaders(headers) {
  const text = headerText(headers, 'node_version.h');
  const part = (name) => new RegExp(`#define NODE_${name}_VERSION (\\d+)`).exec(text)?.[1];
  return `${part('MAJOR')}.${part('MINOR')}.${part('PATCH')}`;
}

const HOW_TO_GET_HEADERS = [
  '  Debian, Ubuntu:  sudo apt-get install libnode-dev   (for the nodejs package of the system)',
  '  Fedora, RHEL:    sudo dnf install nodejs-devel      (for the nodejs package of the system)',
  '  otherwise use the release from nodejs.org, which brings them, or say where they are:',
  '                   npm_config_nodedir=DIR npm ci      (DIR/include/node/node.h exists)',
];

function checkMachine() {
  if (process.platform !== 'linux') {
    throw new InstallError(`stpd runs on Linux only, this is ${process.platform}`);
  }
  if (!nodeSupported()) {
    throw new InstallError(
      `Node ${process.versions.node} is not supported: use Node 20.17 or later of 20, or 22.9 or later`,
    );
  }
  const missing = [];
  const debian = [];
  const fedora = [];
  const lacks = (what, onDebian, onFedora) => {
    missing.push(`  ${what}`);
    debian.push(onDebian);
    fedora.push(onFedora);
  };

  const cmake = versionOf('cmake');
  if (cmake === undefined) {
    lacks('cmake', 'cmake', 'cmake');
  } else if (!cmakeSupported(cmake)) {
    lacks(`cmake ${CMAKE_MIN.join('.')} or later (found ${cmake})`, 'cmake', 'cmake');
  }
  const compiler = ['g++', 'clang++'].find((command) => versionOf(command) !== undefined);
  if (compiler === undefined) lacks('a C++17 compiler (g++ or clang++)', 'g++', 'gcc-c++');
  if (['ninja', 'make'].every((command) => versionOf(command) === undefined)) {
    lacks('make (or ninja)', 'make', 'make');
  }
  if (missing.length > 0) {
    throw new InstallError(
      [
        'the addon cannot be built, because this machine lacks',
        ...missing,
        'To get it:',
        `  Debian, Ubuntu:  sudo apt-get install ${debian.join(' ')}`,
        `  Fedora, RHEL:    sudo dnf install ${fedora.join(' ')}`,
      ].join('\n'),
    );
  }
  const headers = findHeaders();
  const whence = headers
    ? `headers ${versionOfHeaders(headers)} in ${path.join(headers, 'include/node')}`
    : 'no headers: cmake-js will download them';
  const said = `Node ${process.versions.node}, cmake ${cmake}, ${compiler} ${versionOf(compiler)}, ${whence}`;
  return { headers, compiler, said };
}

/** The directory of an installed package. */
function packageDirectory(name) {
  try {
    return path.dirname(require.resolve(`${name}/package.json`));
  } catch {
    throw new InstallError(`the package ${name} is not installed: run npm ci in ${root}`);
  }
}

const packageVersion = (name) =>
  JSON.parse(fs.readFileSync(path.join(packageDirectory(name), 'package.json'), 'utf8')).version;

// --- TypeScript --------------------------------------------------------------------------------

const SOURCE_ROOMS = ['src', 'workers', 'bench', 'test'];

/** Files below a directory, relative to the root; none if it is not there. */
function filesBelow(directory) {
  const found = [];
  const walk = (at) => {
    for (const entry of fs.readdirSync(inRoot(at), { withFileTypes: true })) {
      const file = path.join(at, entry.name);
      if (entry.isDirectory()) walk(file);
      else found.push(file);
    }
  };
  if (fs.existsSync(inRoot(directory))) walk(directory);
  return found;
}

const typescriptSources = () =>
  SOURCE_ROOMS.flatMap(filesBelow).filter((f) => f.endsWith('.ts') && !f.endsWith('.d.ts'));

const modified = (file) => fs.statSync(inRoot(file), { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** True if an output is missing or older than its source, or than what configures them all. */
function typescriptStale() {
  const configured = Math.max(modified('tsconfig.json'), modified('package.json'));
  return typescriptSources().some((source) => {
    const compiled = modified(path.join('dist', source.replace(/\.ts$/, '.js')));
    return compiled < Math.max(modified(source), configured);
  });
}

/** A test whose source is gone would still be run. */
function pruneOutputs() {
  for (const file of SOURCE_ROOMS.flatMap((room) => filesBelow(path.join('dist', room)))) {
    const source = path.relative('dist', file).replace(/\.(d\.ts|js\.map|js)$/, '.ts');
    if (!fs.existsSync(inRoot(source))) fs.rmSync(inRoot(file));
  }
}

function compileTypescript() {
  // A package from the registry has no sources, and brings dist/.
  if (!fs.existsSync(inRoot('tsconfig.json'))) return 'dist/ as packed';
  if (!force && !typescriptStale()) return 'dist/ is up to date';
  const tsc = path.join(packageDirectory('typescript'), 'bin/tsc');
  packageDirectory('@types/node');
  pruneOutputs();
  const result = run(process.execPath, [tsc, '-p', 'tsconfig.json', '--noEmitOnError']);
  if (result.status !== 0) {
    throw new InstallError(`the TypeScript sources do not compile:\n${outputOf(result)}`);
  }
  return 'compiled to dist/';
}

/** Programs and threads, each in few files: see scripts/bundle.mjs. */
function bundle() {
  const entry = inRoot('dist/bundle/stpbackup.js');
  const changed = (file) => fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const made = changed(entry);
  const isCurrent = made >= changed(inRoot('dist/src/ctl/entry.js'));
  if (!fs.existsSync(inRoot('tsconfig.json'))) return 'dist/bundle as packed';
  if (!force && made > changed(inRoot('scripts/bundle.mjs')) && isCurrent) {
    return 'dist/bundle is up to date';
  }
  packageDirectory('esbuild');
  const result = run(process.execPath, [inRoot('scripts/bundle.mjs')]);
  if (result.status !== 0) {
    throw new InstallError(`the programs cannot be bundled:\n${outputOf(result)}`);
  }
  return 'made dist/bundle';
}

function markExecutable() {
  const { bin } = JSON.parse(fs.readFileSync(inRoot('package.json'), 'utf8'));
  for (const file of Object.values(bin ?? {})) {
    if (fs.existsSync(inRoot(file))) fs.chmodSync(inRoot(file), 0o755);
  }
}

// --- addon -------------------------------------------------------------------------------------

/** Keeps the old file, and its time, when nothing has changed: the addon need not be rebuilt. */
function writeLayoutHeader() {
  const fresh = `${layoutHeader}.new`;
  const result = run(process.execPath, [inRoot('dist/src/layout/emit.js'), 'header', fresh]);
  if (result.status !== 0) {
    throw new InstallError(`the layout header cannot be generated:\n${outputOf(result)}`);
  }
  const unchanged =
    fs.existsSync(layoutHeader) && fs.readFileSync(fresh).equals(fs.readFileSync(layoutHeader));
  if (unchanged) fs.rmSync(fresh);
  else fs.renameSync(fresh, layoutHeader);
  return `build/generated/layout.h ${unchanged ? 'is up to date' : 'written'}`;
}

/** Everything that the binary depends on, in one hash. */
function addonInputs({ headers, compiler }) {
  const hash = createHash('sha256');
  const sources = filesBelow('native').filter((file) => /\.(cc|h)$/.test(file));
  for (const file of ['CMakeLists.txt', 'build/generated/layout.h', ...sources.sort()]) {
    hash.update(`${file}\0`).update(fs.readFileSync(inRoot(file)));
  }
  const built = [process.arch, compiler, versionOf(compiler), packageVersion('node-addon-api')];
  return { sources: hash.digest('hex'), tools: [...built, headers ?? process.versions.node] };
}

function readStamp() {
  try {
    return JSON.parse(fs.readFileSync(stampFile, 'utf8'));
  } catch {
    return undefined;
  }
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function cmakeKnowsRoot() {
  try {
    const cache = fs.readFileSync(path.join(cmakeDirectory, 'CMakeCache.txt'), 'utf8');
    return cache.includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${root.replace(/\/$/, '')}\n`);
  } catch {
    return true; /* nothing there to know anything */
  }
}

function buildAddon(machine) {
  const inputs = addonInputs(machine);
  const stamp = readStamp();
  if (!force && same(stamp?.inputs, inputs) && fs.existsSync(binary)) {
    return `${path.relative(root, binary)} is up to date`;
  }
  fs.rmSync(stampFile, { force: true });
  // cmake keeps the directories it was first given, also where the whole tree was moved or copied.
  if (!same(stamp?.inputs?.tools, inputs.tools) || !cmakeKnowsRoot()) {
    fs.rmSync(cmakeDirectory, { recursive: true, force: true });
  }
  const environment = { ...process.env };
  delete environment.npm_config_nodedir;
  if (machine.headers !== undefined) environment.npm_config_nodedir = machine.headers;
  const cmakeJs = path.join(packageDirectory('cmake-js'), 'bin/cmake-js');
  const prefer = machine.compiler === 'g++' ? '--prefer-gnu' : '--prefer-clang';
  const result = run(
    process.execPath,
    [
      ...[cmakeJs, 'compile', '--out', cmakeDirectory, '--directory', root, prefer],
      `--CDNODE_EXECUTABLE=${process.execPath}`,
    ],
    { env: environment },
  );
  if (result.status !== 0 || !fs.existsSync(binary)) {
    // cmake-js tries twice; the second log is the whole story.
    const log = outputOf(result).split('trying to do a full rebuild.').at(-1).trim();
    const advice = machine.headers === undefined ? ['', ...HOW_TO_GET_HEADERS] : [];
    const why =
      machine.headers === undefined
        ? 'the addon cannot be built. Node’s headers are not on this machine; if cmake-js could not download them, see below'
        : 'the addon cannot be built';
    throw new InstallError([`${why}:`, log, ...advice].join('\n'));
  }
  fs.writeFileSync(stampFile, `${JSON.stringify({ inputs }, undefined, 2)}\n`);
  return `built ${path.relative(root, binary)}`;
}

// --- the steps ---------------------------------------------------------------------------------

try {
  let machine;
  step('machine', () => {
    machine = checkMachine();
    return machine.said;
  });
  step('typescript', compileTypescript);
  step('programs', bundle);
  markExecutable();
  step('layout', writeLayoutHeader);
  step('addon', () => buildAddon(machine));
  const gypStamp = process.argv.indexOf('--gyp-stamp');
  if (gypStamp > 0) fs.writeFileSync(process.argv[gypStamp + 1], '');
} catch (error) {
  if (!(error instanceof InstallError)) throw error;
  process.stderr.write(`stpd install: ${error.message}\n`);
  process.exitCode = 1;
}
