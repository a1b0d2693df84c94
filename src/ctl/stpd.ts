#!/usr/bin/env node
/** stpd: the daemon and its control from a terminal. */
import { mainOf } from './entry.js';

await import(mainOf('stpd'));
