#!/usr/bin/env node
/** stpbackup: the backup application, both roles and what people ask of the server. */
import { runProgram } from './command-line.js';
import { stpbackupProgram } from './stpbackup/program.js';

await runProgram(stpbackupProgram(), process.argv);
