/**
 * JSON of a file that people write: its value, and the line of each of its fields.
 *
 * JSON.parse gives no places, names none for some mistakes, and takes the last of two fields with one
 * name without a word. This scanner walks the text beside it: it finds the first place that breaks the
 * grammar (RFC 8259), the line of each field, and names that are there twice. Any thread.
 */

/** A place in a text; both from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface JsonProblem extends Place {
  readonly message: string;
}

export type JsonText =
  | {
      readonly value: unknown;
      /** Line of a field, or of the nearest one around it that stands in the text. */
      readonly lineOf: (path: readonly PropertyKey[]) => number;
      readonly duplicates: readonly JsonProblem[];
    }
  | { readonly problem: JsonProblem };

/** Deeper than any configuration, and far from the end of the stack. */
const DEPTH_MAX = 64;

class Broken extends Error {
  constructor(
    readonly at: number,
    readonly wanted: string,
  ) {
    super(wanted);
  }
}

const keyOf = (path: readonly PropertyKey[]): string => path.map(String).join('\0');

class Scanner {
  readonly lines = new Map<string, number>();
  readonly duplicates: JsonProblem[] = [];
  #at = 0;

  constructor(private readonly text: string) {}

  scan(): void {
    this.#value([]);
    this.#blank();
    if (this.#at < this.text.length) throw new Broken(this.#at, 'nothing more after the value');
  }

  placeOf(at: number): Place {
    const before = this.text.slice(0, at).split('\n');
    return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
  }

  #blank(): void {
    while (/[ \t\r\n]/.test(this.text[this.#at] ?? '')) this.#at++;
  }

  #take(letter: string): boolean {
    this.#blank();
    if (this.text[this.#at] !== letter) return false;
    this.#at++;
    return true;
  }

  #token(pattern: RegExp, wanted: string): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.text)?.[0];
    if (found === undefined) throw new Broken(this.#at, wanted);
    this.#at += found.length;
    return found;
  }

  #string(wanted: string): string {
    this.#blank();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what the grammar forbids
    const pattern = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
    return JSON.parse(this.#token(pattern, wanted)) as string;
  }

  #value(path: readonly PropertyKey[]): void {
    this.#blank();
    if (path.length > DEPTH_MAX) throw new Broken(this.#at, `no more than ${DEPTH_MAX} levels`);
    this.lines.set(keyOf(path), this.placeOf(this.#at).line);
    if (this.#take('{')) this.#object(path);
    else if (this.#take('[')) this.#array(path);
    else if (this.text[this.#at] === '"') this.#string('a text');
    else this.#token(/(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)/y, 'a value');
  }

  #object(path: readonly PropertyKey[]): void {
    if (this.#take('}')) return;
    const seen = new Set<string>();
    do {
      this.#blank();
      const at = this.#at;
      const name = this.#string('the name of a field, in double quotes');
      if (seen.has(name)) {
        this.duplicates.push({ ...this.placeOf(at), message: `${name} is there twice` });
      }
      seen.add(name);
      if (!this.#take(':')) throw new Broken(this.#at, `a colon after "${name}"`);
      this.#value([...path, name]);
    } while (this.#take(','));
    if (!this.#take('}')) throw new Broken(this.#at, 'a comma or a closing brace');
  }

  #array(path: readonly PropertyKey[]): void {
    if (this.#take(']')) return;
    let index = 0;
    do this.#value([...path, index++]);
    while (this.#take(','));
    if (!this.#take(']')) throw new Broken(this.#at, 'a comma or a closing bracket');
  }
}

/** Reads a text; never throws. */
export function readJson(text: string): JsonText {
  const scanner = new Scanner(text);
  try {
    scanner.scan();
    const value: unknown = JSON.parse(text);
    const lineOf = (path: readonly PropertyKey[]): number => {
      for (let length = path.length; length > 0; length--) {
        const line = scanner.lines.get(keyOf(path.slice(0, length)));
        if (line !== undefined) return line;
      }
      return scanner.lines.get('') ?? 1;
    };
    return { value, lineOf, duplicates: scanner.duplicates };
  } catch (e) {
    const at = e instanceof Broken ? e.at : 0;
    const there = text.slice(at, at + 1);
    const found = at >= text.length ? 'the end of the file' : JSON.stringify(there);
    const wanted = e instanceof Broken ? e.wanted : 'JSON';
    return { problem: { ...scanner.placeOf(at), message: `${wanted} is wanted, not ${found}` } };
  }
}
