/**
 * A path whose two processes are Node programs under bench/paths/, spoken to over IPC.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Content, fairnessDigest, numberedDigest, streamDigest } from './content.js';
import { decodeHistogram } from './histogram.js';
import { type BenchPath, type RoundResult, withPeakRss } from './path.js';
import type {
  Address,
  FromChild,
  OpenRequest,
  RoundReport,
  RoundRequest,
  Side,
  ToChild,
} from './protocol.js';

/** A round that takes this much longer than asked is stuck. */
const ROUND_SLACK_MS = 60_000;
const OPEN_TIMEOUT_MS = 60_000;

export interface NodePathOptions {
  readonly name: string;
  /** File name under dist/bench/paths/. */
  readonly module: string;
  readonly content: Content;
  /** Both ends are threads of one process. */
  readonly threads?: true;
  /** Command put before `node`, to keep it on some CPUs; empty to leave it free. */
  readonly runner: readonly string[];
  readonly open: Omit<OpenRequest, 'op' | 'side' | 'address'>;
}

export class NodePath implements BenchPath {
  /** The receiver first; a path of threads has a sender only. */
  private readonly children: readonly PathChild[];

  constructor(private readonly options: NodePathOptions) {
    const sides: Side[] = options.threads === true ? ['sender'] : ['receiver', 'sender'];
    this.children = sides.map((side) => new PathChild(options, side));
  }

  async open(): Promise<void> {
    for (const child of this.children) child.start();
    const connected = this.children.map((c) => c.next('connected', OPEN_TIMEOUT_MS));
    const [receiver, sender] = this.children;
    if (sender === undefined) receiver?.say({ ...this.options.open, op: 'open', side: 'sender' });
    else {
      const listening = receiver?.next('listening', OPEN_TIMEOUT_MS);
      receiver?.say({ ...this.options.open, op: 'open', side: 'receiver' });
      const address = (await listening)?.address as Address;
      sender.say({ ...this.options.open, op: 'open', side: 'sender', address });
    }
    await Promise.all(connected);
  }

  /** @param paused what to look at while a round stands still, in cases that do */
  async round(request: RoundRequest, paused?: () => Promise<void>): Promise<RoundResult> {
    const limitMs = request.seconds * 1000 + ROUND_SLACK_MS;
    const standing =
      paused === undefined ? [] : this.children.map((c) => c.next('paused', limitMs));
    const report = await withPeakRss(this.pids, async () => {
      const done: Promise<RoundReport>[] = [];
      for (const child of this.children) done.push((await child.begin(request, limitMs)).done);
      // Together: if one side finds something wrong, the other waits for ever.
      const all = Promise.all(done);
      if (paused !== undefined) {
        await Promise.race([Promise.all(standing), all]);
        await paused();
        for (const child of this.children) child.say({ op: 'go-on' });
      }
      return check(this.options, request, await all);
    });
    const { histogram, ...result } = report;
    return histogram === undefined ? result : { ...result, latencies: decodeHistogram(histogram) };
  }

  get pids(): readonly number[] {
    return this.children.map((c) => c.pid);
  }

  async close(): Promise<void> {
    await Promise.all(this.children.map((c) => c.close()));
  }
}

/**
 * The sender's report, with the CPU of both; what arrived must be what was sent. The expected digest
 * is made here, so that its CPU is in nobody's round.
 */
function check(
  { name, content }: NodePathOptions,
  request: RoundRequest,
  reports: readonly RoundReport[],
): RoundReport & { digest: string } {
  const sent = reports.at(-1) as RoundReport;
  const digest = expectedDigest(request, content, sent);
  const arrived = reports.flatMap((r) => r.digest ?? []);
  const bytesDiffer = reports.some((r) => r.digest !== undefined && r.bytes !== sent.bytes);
  if (bytesDiffer || arrived.length === 0 || arrived.some((d) => d !== digest)) {
    throw new Error(
      `${name}: ${request.case}: sent ${sent.bytes} bytes with digest ${digest}, received ` +
        `${reports.map((r) => r.bytes).join(', ')} with ${arrived.join(', ')}`,
    );
  }
  const cpuSeconds = reports.reduce((sum, r) => sum + r.cpuSeconds, 0);
  return { ...sent, digest, cpuSeconds };
}

function expectedDigest(
  { case: name, size }: RoundRequest,
  content: Content,
  { messages, greedy }: RoundReport,
): string {
  switch (name) {
    case 'stream':
    case 'message-rate':
    case 'message-rate-batch':
      return streamDigest(content, size, messages);
    case 'fairness':
      return fairnessDigest(messages, greedy?.bytes ?? 0);
    default:
      return numberedDigest(messages);
  }
}

type Said<Op extends FromChild['op']> = Extract<FromChild, { op: Op }>;

interface Wait {
  readonly op: FromChild['op'];
  readonly resolve: (message: FromChild) => void;
  readonly reject: (e: Error) => void;
}

/** One process of a path. */
export class PathChild {
  private child: ChildProcess | undefined;
  private waits: Wait[] = [];
  private end: Error | undefined;
  private exited: Promise<void> = Promise.resolve();

  constructor(
    private readonly options: Pick<NodePathOptions, 'name' | 'module' | 'runner'>,
    private readonly side: string,
  ) {}

  start(): void {
    const { module, runner } = this.options;
    const script = fileURLToPath(new URL(`../paths/${module}.js`, import.meta.url));
    const [command = process.execPath, ...args] = [
      ...runner,
      process.execPath,
      '--expose-gc',
      script,
    ];
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.child = child;
    this.exited = new Promise((resolve) => {
      child.once('error', (e) => {
        this.fail(e.message);
        resolve();
      });
      child.once('exit', (code, signal) => {
        this.fail(`ended (${signal ?? code})`);
        resolve();
      });
    });
    child.on('message', (message: FromChild) => {
      if (message.op === 'failed') return this.fail(message.message);
      const at = this.waits.findIndex((w) => w.op === message.op);
      for (const wait of at < 0 ? [] : this.waits.splice(at, 1)) wait.resolve(message);
    });
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  say(message: ToChild): void {
    this.child?.send(message, (e) => {
      if (e !== null) this.fail(e.message);
    });
  }

  /** The next message of a kind. */
  next<Op extends FromChild['op']>(op: Op, limitMs: number): Promise<Said<Op>> {
    const said = new Promise<FromChild>((resolve, reject) => {
      if (this.end !== undefined) return reject(this.end);
      const timer = setTimeout(() => this.fail(`no '${op}' in ${limitMs} ms`), limitMs);
      const settled = <T>(settle: (value: T) => void) => {
        return (value: T): void => {
          clearTimeout(timer);
          settle(value);
        };
      };
      this.waits.push({ op, resolve: settled(resolve), reject: settled(reject) });
    });
    // Whoever awaits it later still gets the rejection; until then it is no unhandled one.
    said.catch(() => {});
    return said as Promise<Said<Op>>;
  }

  /** Starts a round; resolves when the child can take messages. */
  async begin(request: RoundRequest, limitMs: number): Promise<{ done: Promise<RoundReport> }> {
    const armed = this.next('armed', limitMs);
    const done = this.next('done', limitMs).then((m) => m.report);
    done.catch(() => {});
    this.say({ op: 'round', request });
    await armed;
    return { done };
  }

  /** It sees the end of its parent's channel and exits; a stuck one is killed. */
  async close(): Promise<void> {
    const { child } = this;
    if (child === undefined) return;
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill('SIGKILL'), 2000);
    await this.exited;
    clearTimeout(timer);
  }

  private fail(message: string): void {
    this.end ??= new Error(`${this.options.name} ${this.side}: ${message}`);
    for (const wait of this.waits.splice(0)) wait.reject(this.end);
  }
}
