/**
 * Where Node's headers are on this machine. Imports nothing but Node: the install step runs it first.
 */
import fs from 'node:fs';
import path from 'node:path';

/**
 * The directory that holds include/node/node.h, undefined if none does: beside the running node, or
 * where npm's `nodedir` points, or where distributions put them.
 */
export function findHeaders() {
  const candidates = [
    path.join(path.dirname(process.execPath), '..'),
    process.env.npm_config_nodedir,
    process.env.NPM_CONFIG_NODEDIR,
    '/usr',
  ];
  return candidates
    .filter((directory) => directory)
    .map((directory) => path.resolve(directory))
    .find((directory) => fs.existsSync(path.join(directory, 'include/node/node.h')));
}
