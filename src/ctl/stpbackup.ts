#!/usr/bin/env node
/** stpbackup: the backup application, both roles and what people ask of the server. */
import { mainOf } from './entry.js';

await import(mainOf('stpbackup'));
