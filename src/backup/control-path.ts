/**
 * The control socket that a server's file names: all that `fs`, `restore` and `list` need of it. Main
 * thread.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

/** Null for a file that does not look like a server's, or cannot be read. */
function plainPath(configFile: string): string | null {
  let fields: unknown;
  try {
    fields = JSON.parse(readFileSync(configFile, 'utf8'));
  } catch {
    return null;
  }
  if (typeof fields !== 'object' || fields === null) return null;
  const { control, library } = fields as Record<string, unknown>;
  if (typeof control !== 'string' || control === '' || typeof library !== 'string') return null;
  return path.resolve(path.dirname(path.resolve(configFile)), control);
}

/**
 * A file that names it is not looked at any further: the server that answers there has done so, and
 * loading the schema takes as long as the answer.
 * @throws ConfigurationError, a line for each thing that is wrong
 */
export async function controlPathOf(configFile: string): Promise<string> {
  const plain = plainPath(configFile);
  if (plain !== null) return plain;
  const { loadControlPath } = await import('./config.js');
  return loadControlPath(configFile);
}
