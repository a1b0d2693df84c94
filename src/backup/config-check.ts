/**
 * What a configuration file refers to: whether it is there, and as it should be.
 *
 * An error keeps the role from starting; a warning keeps a part of it from working, now or by the
 * looks of it. Changes nothing, and connects to nobody. Any thread; blocks.
 */
import { accessSync, constants, readdirSync, realpathSync, type Stats, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import path from 'node:path';
import { isCoded, messageOf } from '../errors.js';
import { UNIX_PATH_BYTES_MAX } from '../limits.js';
import { ATTACH_SOCKET, resolveRunDirectory } from '../run-directory.js';
import { rootPath } from './config.js';
import {
  type ConfigText,
  examine,
  type FieldPath,
  type Finding,
  readConfigText,
  roleOf,
} from './config-file.js';
import { type ClientFields, ROLES, type Role, type ServerFields } from './config-schema.js';
import { readKeyFile } from './keys.js';
import { reasonOf } from './reason.js';

export interface ConfigCheck {
  /** Null where neither the caller nor the file says. */
  readonly role: Role | null;
  readonly findings: readonly Finding[];
}

class References {
  readonly findings: Finding[] = [];

  constructor(private readonly text: ConfigText) {}

  get file(): string {
    return this.text.file;
  }

  absolute(given: string): string {
    return path.resolve(path.dirname(path.resolve(this.text.file)), given);
  }

  error(at: FieldPath, message: string): void {
    this.#add('error', at, message);
  }

  warn(at: FieldPath, message: string): void {
    this.#add('warning', at, message);
  }

  /** What is at a path; null, and a warning, where nothing is. */
  stat(at: FieldPath, file: string, hint: string): Stats | null {
    try {
      return statSync(file);
    } catch (e) {
      const why = isCoded(e) && e.code === 'ENOENT' ? 'is not there' : reasonOf(e).message;
      this.warn(at, `${file} ${why}; ${hint}`);
      return null;
    }
  }

  #add(severity: Finding['severity'], at: FieldPath, message: string): void {
    this.findings.push({ severity, line: this.text.lineOf(at), field: at.join('.'), message });
  }
}

const mayWrite = (file: string): boolean => {
  try {
    accessSync(file, constants.W_OK);
    return true;
  } catch {
    return false;
  }
};

const user = (): string => `uid ${process.geteuid?.() ?? 0}`;

function checkKey(r: References, at: FieldPath, given: string): Buffer | null {
  try {
    return readKeyFile(r.absolute(given));
  } catch (e) {
    r.error(at, messageOf(e));
    return null;
  }
}

function checkSocket(r: References, at: FieldPath, given: string): void {
  const socket = r.absolute(given);
  const bytes = Buffer.byteLength(socket);
  if (bytes > UNIX_PATH_BYTES_MAX) {
    const rule = `a socket's path has at most ${UNIX_PATH_BYTES_MAX} bytes, ${socket} has ${bytes}`;
    r.error(at, `${rule}; choose a shorter one`);
    return;
  }
  const directory = path.dirname(socket);
  const found = r.stat(at, directory, 'make it, for the socket');
  if (found === null) return;
  if (!found.isDirectory()) r.error(at, `${directory} is not a directory`);
  else if (!mayWrite(directory)) {
    r.error(at, `${directory} may not be written by ${user()}, who could make no socket there`);
  }
  const there = statSync(socket, { throwIfNoEntry: false });
  if (there && !there.isSocket()) {
    r.error(at, `${socket} is there and is no socket; remove it, or choose another path`);
  }
}

function checkRunDirectory(r: References, given: string | undefined): void {
  const at = ['runDirectory'];
  let directory: string;
  try {
    directory = resolveRunDirectory(given === undefined ? undefined : r.absolute(given));
  } catch (e) {
    r.error(at, reasonOf(e).message);
    return;
  }
  const start = `start stpd: stpd start --run-dir ${directory}`;
  const found = r.stat(at, directory, `nobody can attach to an array there; ${start}`);
  if (found === null) return;
  if (!found.isDirectory()) r.error(at, `${directory} is not a directory`);
  else if (!statSync(path.join(directory, ATTACH_SOCKET), { throwIfNoEntry: false })) {
    r.warn(at, `no stpd serves ${directory}; ${start}`);
  }
}

/** An address that listening there would fail on. */
function checkOwnAddress(r: References, address: string): void {
  if (isIP(address) === 0 || /^(?:127\.|0\.0\.0\.0$|::1?$)/.test(address)) return;
  const own = Object.values(networkInterfaces()).flatMap(
    (list) => list?.map((i) => i.address) ?? [],
  );
  if (own.includes(address)) return;
  const known = own.join(', ') || 'none';
  r.warn(['address'], `${address} is no address of this machine now, which has: ${known}`);
}

/** The same directory twice, or one below another. */
function checkOverlap(r: References, field: string, given: readonly string[]): void {
  const real = given.map((one) => {
    try {
      return realpathSync(r.absolute(one));
    } catch {
      return r.absolute(one);
    }
  });
  real.forEach((one, i) => {
    const around = real.findIndex(
      (other, j) => (other === one && j < i) || one.startsWith(other === '/' ? '/?' : `${other}/`),
    );
    if (around === -1) return;
    const how = real[around] === one ? 'is the same as' : 'lies below';
    r.warn([field, i], `${given[i]} ${how} ${field}.${around}, ${given[around]}: leave it out`);
  });
}

function checkClient(r: References, c: ClientFields): void {
  if (c.tls && c.keyFile !== undefined) checkKey(r, ['keyFile'], c.keyFile);
  checkRunDirectory(r, c.runDirectory);
  checkOwnAddress(r, c.address);
  const roots = c.roots.map(rootPath);
  roots.forEach((root, i) => {
    r.stat(['roots', i], r.absolute(root), 'a backup of it would fail');
  });
  // A root with commands of its own may well lie in another.
  if (c.roots.every((root) => typeof root === 'string')) checkOverlap(r, 'roots', roots);
  c.restoreRoots.forEach((root, i) => {
    const at = ['restoreRoots', i];
    const place = r.absolute(root);
    const found = r.stat(at, place, 'a restore to it would fail; make it');
    if (found === null) return;
    if (!found.isDirectory()) r.error(at, `${place} is not a directory`);
    else if (!mayWrite(place)) r.warn(at, `${place} may not be written by ${user()}`);
  });
  checkOverlap(r, 'restoreRoots', c.restoreRoots);
  if (c.control !== undefined) checkSocket(r, ['control'], c.control);
  const commands = c.before ?? c.after ?? c.roots.find((root) => typeof root !== 'string');
  if (commands !== undefined) checkOwnFile(r);
}

/** Whoever writes the file has its commands run as this user. */
function checkOwnFile(r: References): void {
  const { mode, uid } = statSync(r.file);
  const mine = process.geteuid?.() ?? 0;
  if ((mode & 0o022) !== 0) {
    r.warn([], `it has commands, and others may write it; run: chmod go-w ${r.file}`);
  }
  if (uid !== mine && uid !== 0) {
    r.warn([], `it has commands, and belongs to uid ${uid}, who has them run as ${user()}`);
  }
}

function checkLibrary(r: References, given: string): void {
  const at = ['library'];
  const library = r.absolute(given);
  const found = statSync(library, { throwIfNoEntry: false });
  if (found === undefined) {
    const parent = path.dirname(library);
    const around = r.stat(at, parent, 'the library cannot be made in it');
    if (around && !mayWrite(parent)) {
      r.error(at, `${library} is not there, and ${user()} may not make it in ${parent}`);
    }
    return;
  }
  if (!found.isDirectory()) {
    r.error(at, `${library} is not a directory`);
    return;
  }
  if (!mayWrite(library)) r.error(at, `${library} may not be written by ${user()}`);
  let names: string[] = [];
  try {
    names = readdirSync(library);
  } catch (e) {
    r.error(at, `${library} cannot be read: ${reasonOf(e).message}`);
  }
  if (names.length > 0 && !names.includes('sets')) {
    r.error(at, `${library} has something else in it; name an empty directory, or a new one`);
  }
}

function checkServer(r: References, s: ServerFields): void {
  checkRunDirectory(r, s.runDirectory);
  checkOwnAddress(r, s.address);
  checkLibrary(r, s.library);
  checkSocket(r, ['control'], s.control);
  const places = new Map<string, string>();
  const keys = new Map<string, string>();
  for (const [name, host] of Object.entries(s.hosts)) {
    const at = ['hosts', name];
    const place = `${host.address}, port ${host.wkp}`;
    const twin = places.get(place);
    if (twin !== undefined) {
      r.error(at, `has the address of hosts.${twin}, ${place}: a client has one name`);
    }
    places.set(place, name);
    if (!s.tls || host.keyFile === undefined) continue;
    const key = checkKey(r, [...at, 'keyFile'], host.keyFile)?.toString('hex');
    if (key === undefined) continue;
    const holder = keys.get(key);
    if (holder !== undefined) {
      const risk = `has the key of hosts.${holder}, so that either may pass for the other`;
      r.warn([...at, 'keyFile'], `${risk}; make one for each: stpbackup key new FILE`);
    }
    keys.set(key, name);
  }
  if (Object.keys(s.hosts).length === 0) {
    r.warn(['hosts'], 'no host is named, so nothing can be backed up');
  }
}

/**
 * All that is wrong with a file and with what it refers to. Never throws for what is in it.
 * @param role as the file's fields tell, where absent
 */
export function checkConfig(file: string, role?: Role): ConfigCheck {
  const text = readConfigText(file);
  const which = role ?? roleOf(text.value);
  if (text.value === undefined) return { role: which, findings: text.findings };
  if (which === null) {
    const message = `its fields do not tell whose it is; say so with --role ${ROLES.join(' or ')}`;
    return { role: null, findings: [{ severity: 'error', line: null, field: '', message }] };
  }
  const { fields, findings } = examine(text, which);
  if (fields === null) return { role: which, findings };
  const references = new References(text);
  if (which === 'client') checkClient(references, fields as ClientFields);
  else checkServer(references, fields as ServerFields);
  return { role: which, findings: [...findings, ...references.findings] };
}
