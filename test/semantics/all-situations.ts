/** Every situation, in the order of the table in docs/sockets.md. */
import type { Situation } from './situation.js';
import { connecting } from './situations/connecting.js';
import { ending } from './situations/ending.js';
import { listening } from './situations/listening.js';
import { onread } from './situations/onread.js';
import { prompt } from './situations/prompt.js';
import { streaming } from './situations/streaming.js';
import { timing } from './situations/timing.js';

export const allSituations: readonly Situation[] = [
  ...connecting,
  ...prompt,
  ...listening,
  ...streaming,
  ...onread,
  ...ending,
  ...timing,
];
