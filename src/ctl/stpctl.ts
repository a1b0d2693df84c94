#!/usr/bin/env node
/** stpctl: what is in the array, and changes to it. */
import { runProgram } from './command-line.js';
import { stpctlProgram } from './stpctl/program.js';

await runProgram(stpctlProgram(), process.argv);
