/** Works on a library until it is killed: `library-kill.test.ts` starts it. */
import { forgetSets, prune } from '../../src/library/forget.js';
import { Library } from '../../src/library/library.js';
import { repairLibrary } from '../../src/library/repair.js';
import { native } from '../../src/native.js';

const [directory, ...forgotten] = process.argv.slice(2) as [string, ...string[]];
const library = Library.open(directory, { lockFile: (fd) => native().lockFile(fd) });
// One run of everything before the signal: what follows is not the loading of code.
process.send?.('ready');
process.once('message', () => {
  repairLibrary(library, false);
  forgetSets(library, {
    judge: ({ sets }) =>
      sets.filter((s) => forgotten.includes(s.id)).map((set) => ({ set, reasons: [] })),
    dryRun: false,
  });
  prune(library, false);
  process.exit(0);
});
