/**
 * The control socket that a configuration names: all that verbs need of it which ask the running
 * server or client. Main thread.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

/** Its fields, unchecked; null for a file that is no object of JSON, or cannot be read. */
function plainFields(configFile: string): Record<string, unknown> | null {
  try {
    const fields: unknown = JSON.parse(readFileSync(configFile, 'utf8'));
    return typeof fields === 'object' ? (fields as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Null for a file that does not look like one of this role. */
function plainPath(configFile: string, role: 'client' | 'server'): string | null {
  const { control, library } = plainFields(configFile) ?? {};
  if (typeof control !== 'string' || control === '') return null;
  if ((typeof library === 'string') !== (role === 'server')) return null;
  return path.resolve(path.dirname(path.resolve(configFile)), control);
}

/** Of a client's file; null where it names none, or is no such file. */
export const clientControlPath = (configFile: string): string | null =>
  plainPath(configFile, 'client');

/**
 * Of a server's file. One that names it is not looked at any further: the server that answers there has done so, and
 * loading the schema takes as long as the answer.
 * @throws ConfigurationError, a line for each thing that is wrong
 */
export async function controlPathOf(configFile: string): Promise<string> {
  const plain = plainPath(configFile, 'server');
  if (plain !== null) return plain;
  const { loadControlPath } = await import('./config.js');
  return loadControlPath(configFile);
}
