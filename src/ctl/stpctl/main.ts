/** stpctl. */
import { runProgram } from '../command-line.js';
import { stpctlProgram } from './program.js';

await runProgram(stpctlProgram(), process.argv);
