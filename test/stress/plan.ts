/**
 * What one run of the stress test does: processes, what becomes of them, connections, and how each
 * byte is to be sent and received. All of it follows from the seed; who runs when does not, so a
 * seed replays the plan and not the interleaving.
 *
 * Streams start 1 MiB below 2^32 (docs/decisions/0006): every direction of more crosses it.
 */
import { PAGE_BYTES, WINDOW_BYTES } from '../../src/layout/tables.js';
import { Dice } from '../support/random.js';

/** Bytes of a direction until its cursors wrap. */
export const WRAP_BYTES = 1 << 20;

export const LOOP_SENDS = ['write', 'small writes', 'writev', 'records'] as const;
export const LOOP_RECEIVES = ['data', 'read', 'iterate', 'onread', 'records'] as const;
export const THREAD_SENDS = [
  'send',
  'sendv',
  'sendvFlat',
  'reserve',
  'reservePages',
  'givePage',
  'sendFile',
  'records',
] as const;
export const THREAD_RECEIVES = [
  'receive',
  'recvv',
  'recvvFlat',
  'peek',
  'peekPages',
  'takePage',
  'receiveToFile',
  'records',
] as const;
export type SendWay = (typeof LOOP_SENDS)[number] | (typeof THREAD_SENDS)[number];
export type ReceiveWay = (typeof LOOP_RECEIVES)[number] | (typeof THREAD_RECEIVES)[number];

/**
 * How an end is used: by the event loop, by a worker from the start, by the event loop until some
 * bytes were received and then by a worker, or by a worker that has attached for itself (only the
 * end that connects).
 */
export type Form = 'loop' | 'worker' | 'handed' | 'calls';

export interface DirectionPlan {
  /** Without the lengths of records. */
  readonly bytes: number;
  readonly send: SendWay;
  readonly receive: ReceiveWay;
  /** Chance of a pause between two pieces, of the sender and of the receiver. */
  readonly pause: number;
}

export interface ConnectionPlan {
  readonly id: number;
  readonly wave: number;
  /** Processes: of end 0, which connects, and of end 1. */
  readonly processes: readonly [number, number];
  readonly forms: readonly [Form, Form];
  /** Both directions at once; else the second begins when the first has ended. */
  readonly both: boolean;
  /** Of end 0 and of end 1 as senders. */
  readonly directions: readonly [DirectionPlan, DirectionPlan];
  /**
   * 'abort': that end resets after it has sent so many bytes; 'refuse': it closes after it has
   * received so many; 'terminate': the worker that has the end is ended after it has received so
   * many.
   */
  readonly breaks?: {
    readonly how: 'abort' | 'refuse' | 'terminate';
    readonly end: 0 | 1;
    readonly at: number;
  };
  readonly windowBytes: number;
}

/** What becomes of a process in the second wave. */
export type Fate = 'stays' | 'killed' | 'closes' | 'exits' | 'stopped';

export interface ProcessPlan {
  readonly index: number;
  readonly polls: boolean;
  /** Pinned to one core, where the run as a whole is not. */
  readonly pinned: boolean;
  readonly fate: Fate;
  /** It happens once so many ends of the second wave have been reported. */
  readonly afterEnds: number;
  /** 'stopped': for so long, so many times. */
  readonly stopMs: number;
  readonly stops: number;
}

export interface PlanShape {
  readonly processes: number;
  readonly connections: number;
  readonly bytesMax: number;
  /** All processes, stpd too, share one core. */
  readonly oneCore: boolean;
  /** Of each of eight boards: little makes pages scarce. */
  readonly boardBytes: number;
}

export interface Plan {
  readonly seed: number;
  readonly shape: PlanShape;
  readonly processes: readonly ProcessPlan[];
  readonly connections: readonly ConnectionPlan[];
}

/** Where off-by-one errors live: pages, the window, the wrap. */
const EDGES = [
  1,
  PAGE_BYTES - 1,
  PAGE_BYTES,
  PAGE_BYTES + 1,
  WRAP_BYTES - 1,
  WRAP_BYTES,
  WRAP_BYTES + 1,
  WINDOW_BYTES - 1,
  WINDOW_BYTES,
  WINDOW_BYTES + 1,
];
/** A file is made for each; larger ones would only make the disk work. */
const FILE_BYTES_MAX = 2 << 20;
/** Each byte of these costs a call of its own, or nearly. */
const SMALL_BYTES_MAX = 40_000;

function bytesOf(dice: Dice, most: number): number {
  if (dice.chance(0.25)) return Math.min(Math.max(most, WRAP_BYTES + 1), dice.one(EDGES));
  if (dice.chance(0.2)) return dice.whole(WRAP_BYTES, Math.max(most, 2 * WRAP_BYTES));
  return dice.size(most);
}

function directionOf(dice: Dice, forms: readonly [Form, Form], shape: PlanShape): DirectionPlan {
  const [sender, receiver] = forms;
  const threads = { worker: true, handed: true, calls: false, loop: false };
  const sends: readonly SendWay[] =
    sender === 'calls' ? ['send'] : threads[sender] ? THREAD_SENDS : LOOP_SENDS;
  const receives: readonly ReceiveWay[] =
    receiver === 'calls' ? ['receive'] : threads[receiver] ? THREAD_RECEIVES : LOOP_RECEIVES;
  const mayRecord = ['worker', 'loop'];
  const records = mayRecord.includes(sender) && mayRecord.includes(receiver) && dice.chance(0.12);
  const send = records ? 'records' : dice.one(sends.filter((way) => way !== 'records'));
  const receive = records ? 'records' : dice.one(receives.filter((way) => way !== 'records'));
  let bytes = bytesOf(dice, shape.bytesMax);
  if (send === 'sendFile' || receive === 'receiveToFile') bytes = Math.min(bytes, FILE_BYTES_MAX);
  if (send === 'small writes') bytes = Math.min(bytes, SMALL_BYTES_MAX);
  return { bytes, send, receive, pause: dice.chance(0.3) ? 0.05 : 0 };
}

function connectionOf(
  dice: Dice,
  at: { id: number; wave: number; processes: readonly [number, number] },
  shape: PlanShape,
): ConnectionPlan {
  const form = (): Form => dice.one(['loop', 'loop', 'loop', 'worker', 'worker', 'handed']);
  const forms: [Form, Form] = [dice.chance(0.1) ? 'calls' : form(), form()];
  const loops = forms.every((f) => f === 'loop');
  const both = loops && dice.chance(0.6);
  const directions = [
    directionOf(dice, forms, shape),
    directionOf(dice, [forms[1], forms[0]], shape),
  ] as const;
  const plan: ConnectionPlan = {
    ...at,
    forms,
    both,
    directions,
    windowBytes: dice.one([PAGE_BYTES, 3 * PAGE_BYTES, WINDOW_BYTES, WINDOW_BYTES, WINDOW_BYTES]),
  };
  if (!dice.chance(0.2)) return plan;
  const end = dice.one([0, 1] as const);
  const how = dice.one(['abort', 'refuse', 'refuse', 'terminate'] as const);
  const received = directions[1 - end] as DirectionPlan;
  const [sends, receives] = [directions[end] as DirectionPlan, received];
  if (how === 'abort' && sends.send !== 'records' && forms[end] !== 'calls') {
    return { ...plan, breaks: { how, end, at: dice.whole(0, sends.bytes) } };
  }
  const perByte = receives.receive !== 'records' && receives.receive !== 'receiveToFile';
  if (how === 'abort' || !perByte || receives.bytes < 2) return plan;
  const isThread = forms[end] === 'worker' || forms[end] === 'handed';
  if (how === 'terminate' && !isThread) return plan;
  return { ...plan, breaks: { how, end, at: dice.whole(1, receives.bytes - 1) } };
}

const FATES: readonly Fate[] = ['killed', 'stopped', 'closes', 'exits'];

export function makePlan(seed: number, shape: PlanShape): Plan {
  const dice = new Dice(seed);
  /* At least one stays as it is, and one is killed. */
  const fates = dice.shuffle<Fate>([
    'stays',
    'killed',
    ...Array.from({ length: shape.processes - 2 }, () =>
      dice.chance(0.4) ? 'stays' : dice.one(FATES),
    ),
  ]);
  const processes = fates.map(
    (fate, index): ProcessPlan => ({
      index,
      polls: dice.chance(0.6),
      pinned: dice.chance(0.3),
      fate,
      afterEnds: dice.whole(1, Math.max(1, Math.floor(shape.connections / 3))),
      stopMs: dice.whole(30, 600),
      stops: dice.whole(1, 3),
    }),
  );
  const connections = Array.from({ length: shape.connections }, (_, id) => {
    const from = dice.whole(0, shape.processes - 1);
    /* Now and then a process connects to itself. */
    const to = dice.chance(0.1) ? from : dice.whole(0, shape.processes - 1);
    const wave = id < shape.connections / 2 ? 0 : 1;
    return connectionOf(dice, { id, wave, processes: [from, to] }, shape);
  });
  return { seed, shape, processes, connections };
}
