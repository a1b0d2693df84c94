/**
 * A C program that is asked with a line and answers with a line of JSON.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const CLOSE_TIMEOUT_MS = 2000;

export class LineProcess {
  private readonly child: ChildProcess;
  private readonly waiting: {
    resolve: (line: string) => void;
    reject: (e: Error) => void;
  }[] = [];
  private readonly gone: Promise<void>;
  private end: Error | undefined;

  constructor(program: string, args: readonly string[]) {
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const { promise, resolve } = withResolvers();
    this.gone = promise;
    const fail = (message: string): void => {
      this.end = new Error(`${program}: ${message}`);
      for (const { reject } of this.waiting.splice(0)) reject(this.end);
      resolve();
    };
    this.child.once('error', (e) => fail(e.message));
    this.child.once('exit', (code, signal) => fail(`ended (${signal ?? code})`));
    this.child.stdin?.on('error', () => {}); // its exit says it
    const lines = createInterface({ input: this.child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => this.waiting.shift()?.resolve(line));
  }

  /** The next line it prints, parsed. Answers come in the order of the questions. */
  async ask<T>(question?: string): Promise<T> {
    if (this.end !== undefined) throw this.end;
    const line = await new Promise<string>((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      if (question !== undefined) this.child.stdin?.write(`${question}\n`);
    });
    return JSON.parse(line) as T;
  }

  /** The end of its input ends it, after the round it is in; a stuck one is killed. */
  async close(): Promise<void> {
    this.child.stdin?.end();
    const timer = setTimeout(() => this.child.kill('SIGKILL'), CLOSE_TIMEOUT_MS);
    await this.gone;
    clearTimeout(timer);
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((r) => {
    resolve = r;
  });
  return { promise, resolve };
}
