/**
 * What happened, in order. A lane holds what one side saw; between two lanes no order is kept, since
 * the network promises none.
 */
import type { EventEmitter } from 'node:events';
import net from 'node:net';

/** Not compared: what a stream says of its listeners, and what net says of names and addresses. */
const NOISE = new Set([
  'newListener',
  'removeListener',
  'readable',
  'lookup',
  'connectionAttempt',
  'connectionAttemptFailed',
  'connectionAttemptTimeout',
]);
const WATCHDOG_MS = 40_000;

interface Last {
  readonly name: string;
  readonly event: string;
  bytes: number;
}

export class Journal {
  readonly lanes = new Map<string, string[]>();
  readonly #last = new Map<string, Last>();
  readonly #ports = new Map<number, string>();
  readonly #waiting = new Set<() => void>();
  #sealed = false;
  #ignored: RegExp | undefined;

  /** A line of a lane. */
  note(lane: string, text: string): void {
    if (this.#sealed) return;
    this.#last.delete(lane);
    this.#lane(lane).push(text);
    this.#changed();
  }

  /** Events that this situation leaves to chance, such as how often a pipe pauses. */
  ignore(events: RegExp): void {
    this.#ignored = events;
  }

  /** Every event that `emitter` emits from now on, before its listeners see it. */
  watch(lane: string, name: string, emitter: EventEmitter): void {
    const emit = emitter.emit;
    emitter.emit = (event: string | symbol, ...args: unknown[]): boolean => {
      /* What `read` returns is emitted too, to those that listen. */
      const heard =
        event !== 'data' ||
        emitter.listenerCount('data') > 0 ||
        (emitter as net.Socket).readableFlowing === true;
      if (typeof event === 'string' && !NOISE.has(event) && heard) {
        this.#event(lane, name, event, args);
      }
      return emit.call(emitter, event, ...args);
    };
  }

  #event(lane: string, name: string, event: string, args: unknown[]): void {
    if (this.#sealed) return;
    if (this.#ignored?.test(`${name}: ${event}`)) return this.#changed();
    const last = this.#last.get(lane);
    const again = last?.name === name && last.event === event;
    if (event === 'data') {
      /* How a stream is cut into chunks is nobody's promise: only its length. */
      const bytes = lengthOf(args[0]) + (again ? last.bytes : 0);
      if (again) this.#lane(lane).pop();
      this.#last.set(lane, { name, event, bytes });
      this.#lane(lane).push(`${name}: data ${bytes}`);
    } else if (!(again && event === 'drain')) {
      this.#last.set(lane, { name, event, bytes: 0 });
      this.#lane(lane).push(`${name}: ${[event, ...args.map((a) => this.show(a))].join(' ')}`);
    }
    this.#changed();
  }

  show(value: unknown): string {
    if (value instanceof Error) return this.#error(value);
    if (value instanceof net.Socket || isDuplex(value)) return 'socket';
    if (typeof value === 'object' && value !== null) {
      const { localPort, remotePort } = value as Record<string, unknown>;
      if (typeof localPort === 'number') {
        return `from ${this.port(remotePort)} to ${this.port(localPort)}`;
      }
      return JSON.stringify(value);
    }
    return String(value);
  }

  #error(error: Error): string {
    const { code, syscall, port } = error as NodeJS.ErrnoException & { port?: number };
    const parts = [error.name === 'Error' ? 'Error' : error.name, code ?? error.message];
    if (syscall !== undefined) parts.push(syscall);
    if (port !== undefined) parts.push(`port ${this.port(port)}`);
    return parts.join(' ');
  }

  /** Ports by the order in which they are first told of. */
  port(value: unknown): string {
    if (typeof value !== 'number' || value === 0) return String(value);
    const known = this.#ports.get(value);
    if (known !== undefined) return known;
    const name = `P${this.#ports.size + 1}`;
    this.#ports.set(value, name);
    return name;
  }

  /** Resolves when a line of any lane is there. */
  seen(line: string | RegExp): Promise<void> {
    const there = (): boolean =>
      [...this.lanes.values()].some((lane) =>
        lane.some((entry) => (typeof line === 'string' ? entry === line : line.test(entry))),
      );
    return this.when(`'${line}'`, there);
  }

  /** Resolves when `there` holds; it is asked again whenever something is noted. */
  when(what: string, there: () => boolean): Promise<void> {
    if (there()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!there()) return;
        clearTimeout(watchdog);
        this.#waiting.delete(look);
        resolve();
      };
      const watchdog = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(`never came: ${what}\n${this.text()}`));
      }, WATCHDOG_MS);
      this.#waiting.add(look);
    });
  }

  #changed(): void {
    for (const look of [...this.#waiting]) look();
  }

  seal(): void {
    this.#sealed = true;
  }

  #lane(name: string): string[] {
    const lane = this.lanes.get(name);
    if (lane !== undefined) return lane;
    const made: string[] = [];
    this.lanes.set(name, made);
    return made;
  }

  text(): string {
    return [...this.lanes]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, lines]) => [`[${name}]`, ...lines.map((line) => `  ${line}`)].join('\n'))
      .join('\n');
  }
}

function lengthOf(chunk: unknown): number {
  return (chunk as { length: number }).length;
}

function isDuplex(value: unknown): boolean {
  return typeof value === 'object' && value !== null && '_readableState' in value;
}
