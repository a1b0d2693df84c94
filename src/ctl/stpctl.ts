#!/usr/bin/env node
/** stpctl: what is in the array, and changes to it. */
import { mainOf } from './entry.js';

await import(mainOf('stpctl'));
