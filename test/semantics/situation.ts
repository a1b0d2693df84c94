/** A situation: a small program that is played over `node:net` and over STP. */
import type { Stage } from './stage.js';

export interface Situation {
  readonly group: string;
  readonly title: string;
  readonly play: (s: Stage) => Promise<void>;
}

/**
 * For a situation that throws where nobody catches: Node puts off the ticks of everybody else then,
 * so nothing else is played meanwhile.
 */
export function alone(play: Situation['play']): Situation['play'] {
  return Object.assign((s: Stage) => play(s), { alone: true });
}

export const isAlone = (play: Situation['play']): boolean => 'alone' in play;

/** Situations of one group, in the order of the table in docs/sockets.md. */
export function group(
  name: string,
  situations: Readonly<Record<string, Situation['play']>>,
): Situation[] {
  return Object.entries(situations).map(([title, play]) => ({ group: name, title, play }));
}
