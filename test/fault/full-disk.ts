/**
 * `npm run test:enospc`: each call on the disk of a small run fails, one after the other, with ENOSPC
 * once, with ENOSPC from then on, with EIO, and by writing half: of each operation on a library, and of
 * a server that backs up.
 */
import { tryFullDisk } from './full-disk-run.js';
import { tryFullServer } from './full-disk-server.js';

for (const [mode, code] of [
  ['once', 'ENOSPC'],
  ['full', 'ENOSPC'],
  ['once', 'EIO'],
  ['short', 'ENOSPC'],
] as const) {
  const { tried, wrong } = await tryFullDisk(mode, code, 1);
  for (const line of wrong) process.stdout.write(`${mode} ${code}: ${line}\n`);
  const counts = tried.map(({ name, tried: n }) => `${name} ${n}`).join(', ');
  process.stdout.write(`${mode} ${code}: ${counts}: ${wrong.length} wrong\n`);
  const server = await tryFullServer(mode, code, 1);
  for (const line of server.wrong) process.stdout.write(`${mode} ${code}, server: ${line}\n`);
  process.stdout.write(`${mode} ${code}, server ${server.tried}: ${server.wrong.length} wrong\n`);
  if (wrong.length + server.wrong.length > 0) process.exitCode = 1;
}
