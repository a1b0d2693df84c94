/** `stpctl top`: what boards, STGs, sockets, hosts and directors are doing now. */
import type { Command } from 'commander';
import { messageOf } from '../../errors.js';
import { resolveRunDirectory } from '../../run-directory.js';
import type { Figures } from '../../view/figures.js';
import { withRates } from '../../view/rates.js';
import { plainMessage } from '../command-line.js';
import { print } from '../output.js';
import { table } from '../table.js';
import { INTERVAL_SECONDS_MAX, intervalMsOf, sampleOver } from './interval.js';
import { Terminal } from './terminal.js';
import { TopScreen } from './top-screen.js';
import { addVerb, type VerbOptions } from './verb.js';
import {
  BOARD_COLUMNS,
  DIRECTOR_COLUMNS,
  HOST_COLUMNS,
  SOCKET_TOP_COLUMNS,
  STG_COLUMNS,
} from './view-columns.js';
import { openView, type ViewSource } from './view-source.js';

const INTERVAL_SECONDS_DEFAULT = 1;
/** The first rates come sooner than the rest: nobody likes an empty screen. */
const FIRST_INTERVAL_MS = 250;
const INTERVAL_MS_MIN = 100;

interface TopOptions extends VerbOptions {
  readonly once?: boolean;
  readonly interval?: string;
}

/** What `--json` prints. */
export interface TopDocument {
  readonly top: Figures & {
    /** `memory`: read by this program; `control`: told by stpd. */
    readonly source: 'memory' | 'control';
  };
}

export function topText({ top }: TopDocument): string {
  const parts = [
    ['BOARDS', table(BOARD_COLUMNS, top.boards)],
    ['STGS', table(STG_COLUMNS, top.stgs)],
    ['SOCKETS', table(SOCKET_TOP_COLUMNS, top.sockets)],
    ['HOSTS', table(HOST_COLUMNS, top.hosts)],
    ['DIRECTORS', table(DIRECTOR_COLUMNS, top.directors)],
  ];
  return parts.map(([head, text]) => `${head}\n${text}`).join('\n');
}

/** Samples again and again, and draws; ends with a key, or with a signal. */
class LiveTop {
  readonly #runDirectory: string;
  readonly #screen = new TopScreen();
  readonly #terminal: Terminal;
  #source: ViewSource | undefined;
  #last: Figures | undefined;
  #shown: Figures | undefined;
  #problem: string | undefined;
  #intervalMs: number;
  #timer: NodeJS.Timeout | undefined;
  #end: () => void = () => {};

  constructor(runDirectory: string, source: ViewSource, intervalMs: number) {
    this.#runDirectory = runDirectory;
    this.#source = source;
    this.#intervalMs = intervalMs;
    this.#terminal = new Terminal({
      onKey: (key) => this.#onKey(key),
      onResize: () => this.#draw(),
    });
  }

  async run(): Promise<void> {
    const ended = new Promise<void>((resolve) => {
      this.#end = resolve;
    });
    this.#terminal.enter();
    try {
      await this.#sample();
      this.#later(Math.min(FIRST_INTERVAL_MS, this.#intervalMs));
      await ended;
    } finally {
      clearTimeout(this.#timer);
      this.#end = () => {};
      this.#terminal.leave();
    }
  }

  #later(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#turn(), ms);
  }

  async #turn(): Promise<void> {
    if (!this.#screen.paused) await this.#sample();
    this.#later(this.#intervalMs);
  }

  /** An stpd that ends, or is started again, is no reason to leave. */
  async #sample(): Promise<void> {
    try {
      this.#source ??= await openView(this.#runDirectory);
      const now = await this.#source.figures();
      this.#shown = this.#last === undefined ? now : withRates(this.#last, now);
      this.#last = now;
      this.#problem = undefined;
    } catch (error) {
      this.#source = undefined;
      this.#last = undefined;
      this.#problem = plainMessage(error) || messageOf(error);
    }
    this.#draw();
  }

  #draw(): void {
    const status = {
      runDirectory: this.#runDirectory,
      source: this.#source?.describe() ?? 'no stpd',
      intervalMs: this.#intervalMs,
      problem: this.#problem,
    };
    this.#terminal.draw(this.#screen.frame(this.#shown, this.#terminal.size, status));
  }

  #onKey(key: string): void {
    switch (this.#screen.key(key)) {
      case 'quit':
        return this.#end();
      case 'suspend':
        return this.#terminal.suspend();
      case 'none':
        return;
      case 'faster':
        this.#setInterval(this.#intervalMs / 2);
        break;
      case 'slower':
        this.#setInterval(this.#intervalMs * 2);
        break;
      case 'pause':
        if (!this.#screen.paused) this.#later(0);
        break;
      case 'redraw':
        break;
    }
    this.#draw();
  }

  #setInterval(ms: number): void {
    this.#intervalMs = Math.min(Math.max(ms, INTERVAL_MS_MIN), INTERVAL_SECONDS_MAX * 1000);
    this.#later(this.#intervalMs);
  }
}

export function addTop(parent: Command): void {
  addVerb(parent, 'top', {
    summary: 'show live what boards, STGs, sockets, hosts and directors are doing',
    document: '{"top": {...}}',
    examples: ['stpctl top', 'stpctl top --once', 'stpctl top --interval 5 --json'],
  })
    .option('--once', 'print everything once as plain text; so it is where output is no terminal')
    .option('--interval <seconds>', `time between two looks (${INTERVAL_SECONDS_DEFAULT})`)
    .action(async (options: TopOptions) => {
      const intervalMs = intervalMsOf(options.interval, INTERVAL_SECONDS_DEFAULT);
      const runDirectory = resolveRunDirectory(options.runDir);
      const source = await openView(runDirectory);
      if (options.once === true || options.json === true || !Terminal.usable) {
        const figures = await sampleOver(source, intervalMs);
        print(options, { top: { ...figures, source: source.source } }, topText);
        return;
      }
      await new LiveTop(runDirectory, source, intervalMs).run();
    });
}
