/** What `--json` of a session has said: one object a line, the result last. */

// biome-ignore lint/suspicious/noExplicitAny: what a test expects of it is what it checks
export type SaidEvent = any;

export const eventsOf = (stdout: string): SaidEvent[] =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** The summary, or the error. */
export const lastEvent = (stdout: string): SaidEvent => eventsOf(stdout).at(-1);
