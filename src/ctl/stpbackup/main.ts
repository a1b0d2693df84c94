/** stpbackup. */
const [, , verb = ''] = process.argv;
// PostgreSQL calls these once a segment: they must not load what the others need.
if (verb === 'wal-push' || verb === 'wal-fetch') {
  const { runWal } = await import('./wal.js');
  process.exitCode = await runWal(process.argv.slice(2));
} else {
  const { runProgram } = await import('../command-line.js');
  const { stpbackupProgram } = await import('./program.js');
  await runProgram(await stpbackupProgram(verb), process.argv);
}

export {};
