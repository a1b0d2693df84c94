/**
 * How values are said to people, and documents printed. Foreign text (what a host calls itself) never
 * reaches a terminal with its control characters. Main thread.
 */
export { humanSize } from '../daemon/size.js';

const NOTHING = '-';

/** What is not there is a dash. */
export const orDash = (value: string | number | null): string =>
  value === null || value === '' ? NOTHING : String(value);

/** Everything but printable ASCII becomes a question mark. */
export const printable = (foreign: string): string => foreign.replace(/[^\x20-\x7e]/g, '?');

/** Whole numbers with their ranges: `0-7,12`. */
export function ranges(numbers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last !== undefined && number === last[1] + 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(',');
}

/** `3 d 4 h`, `5 min 6 s`: the two largest units. */
export function humanDuration(seconds: number): string {
  const whole = Math.floor(seconds);
  const units: [number, string][] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = units.findIndex(([count]) => count > 0);
  if (first === -1) return '0 s';
  return units
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}

export interface OutputOptions {
  readonly json?: boolean | undefined;
}

/** Prints the document itself, or what `form` makes of it. */
export function print<T>(options: OutputOptions, document: T, form: (document: T) => string): void {
  const json = options.json === true;
  process.stdout.write(json ? `${JSON.stringify(document, null, 2)}\n` : form(document));
}
