/**
 * The life of one connection, or of one listener, as lines: what `stpctl trace` prints.
 *
 * Control events (made, accepted, refused, closed, freed) are the director's own records: none is
 * lost unless more of them come between two readings than its ring holds, and then the trace says
 * how many. Data events come from looking at the cursors: what happened between two looks is one
 * line. A half-close, a reset and `reads no more` are words that stay once they are set, with the
 * host's own time stamp, and the director notes them again when an end lets go: so they are not
 * lost either. Pure; any thread.
 */
import { codeOfErrno } from '../errors.js';
import { MEMBER, NUMBERS, WINDOW_BYTES } from '../layout/tables.js';
import { reasonText } from '../memory/reason-text.js';
import type { EventsRead, NumberedEvent } from '../memory/register.js';
import type { Segment } from '../memory/segment.js';
import { type ConnectionSample, readConnection } from './connection.js';
import type { SocketReport } from './figures.js';
import type { StgPlace } from './places.js';

/** What is traced: a connection, or a port. */
export type TraceTarget =
  | { readonly stg: string; readonly slot: number; readonly generation: number }
  | { readonly stg: string; readonly port: number };

export interface TraceHost {
  readonly host: number;
  readonly name: string;
  readonly pid: number;
  readonly wakesSent: number;
  readonly wakesSuppressed: number;
}

/** One look at an STG for a trace: also the JSON of the control API. */
export interface TraceReading extends EventsRead {
  /** Microseconds since 1970. */
  readonly takenUs: number;
  /** Of the slot that was asked for; null where it is free. */
  readonly connection: ConnectionSample | null;
  readonly hosts: readonly TraceHost[];
}

/**
 * @param since event to go on from; undefined: the oldest that is still there
 * @param slot whose cursors are looked at; undefined: nobody's
 */
export function readTrace(
  segment: Segment,
  stg: StgPlace,
  nowUs: number,
  since?: number,
  slot?: number,
): TraceReading {
  /* Events last: what the sample misses since it was taken, the next one has. */
  const known = slot !== undefined && slot < stg.geometry.connectionCount;
  const connection = known ? (readConnection(segment, stg, slot) ?? null) : null;
  const hosts: TraceHost[] = [];
  for (const index of new Set(connection?.members ?? [])) {
    const member = stg.register.member(index);
    if (member === undefined) continue;
    const base = stg.offset + stg.geometry.members + index * MEMBER.bytes;
    hosts.push({
      host: member.host,
      name: member.name,
      pid: member.pid,
      wakesSent: segment.load(base + MEMBER.at.wakesSent),
      wakesSuppressed: segment.load(base + MEMBER.at.wakesSuppressed),
    });
  }
  const events = stg.register.events(since ?? stg.register.eventsFrom);
  return { ...events, takenUs: nowUs, connection, hosts };
}

export type TraceKind =
  | 'listening'
  | 'bound'
  | 'unbound'
  | 'queued'
  | 'refused'
  | 'opened'
  | 'joined'
  | 'accepted'
  | 'data'
  | 'full'
  | 'woken'
  | 'wakes'
  | 'fin'
  | 'reset'
  | 'reads-no-more'
  | 'closed'
  | 'host-gone'
  | 'freed'
  | 'lost';

/** One line of a trace: the JSON of `stpctl trace --json`. What does not apply is null. */
export interface TraceLine {
  /** Microseconds since 1970. */
  readonly atUs: number;
  readonly kind: TraceKind;
  /** True: found by looking at memory; false: recorded when it happened. */
  readonly sampled: boolean;
  /** `STG/SLOT.GENERATION`. */
  readonly connection: string | null;
  /** Whose doing it was: 0 the end that connected, 1 the end that accepted. */
  readonly end: 0 | 1 | null;
  readonly host: number | null;
  readonly port: number | null;
  readonly remotePort: number | null;
  /** Bytes of the direction that `end` sends: from, to (not included), and those not yet taken. */
  readonly bytesFrom: number | null;
  readonly bytesTo: number | null;
  readonly queuedBytes: number | null;
  /** Waits since the line before: of the sender for an empty page, of the receiver for a full one. */
  readonly sendWaits: number | null;
  readonly receiveWaits: number | null;
  /** What else there is to say. */
  readonly text: string;
}

const blank: Omit<TraceLine, 'atUs' | 'kind' | 'text'> = {
  sampled: false,
  connection: null,
  end: null,
  host: null,
  port: null,
  remotePort: null,
  bytesFrom: null,
  bytesTo: null,
  queuedBytes: null,
  sendWaits: null,
  receiveWaits: null,
};

const EVENT_KINDS: Readonly<Record<number, TraceKind>> = {
  [NUMBERS.CONTROL_LISTENING]: 'listening',
  [NUMBERS.CONTROL_BOUND]: 'bound',
  [NUMBERS.CONTROL_UNBOUND]: 'unbound',
  [NUMBERS.CONTROL_QUEUED]: 'queued',
  [NUMBERS.CONTROL_REFUSED]: 'refused',
  [NUMBERS.CONTROL_OPENED]: 'opened',
  [NUMBERS.CONTROL_ACCEPTED]: 'accepted',
  [NUMBERS.CONTROL_CLOSED]: 'closed',
  [NUMBERS.CONTROL_HOST_GONE]: 'host-gone',
  [NUMBERS.CONTROL_FREED]: 'freed',
};

/** What is remembered of one direction between two looks. */
interface DirectionState {
  produced: number;
  sendWaits: number;
  receiveWaits: number;
  fin: boolean;
  reset: boolean;
  closed: boolean;
  full: boolean;
}

const fresh = (): DirectionState => ({
  produced: 0,
  sendWaits: 0,
  receiveWaits: 0,
  fin: false,
  reset: false,
  closed: false,
  full: false,
});

const ENDS = [0, 1] as const;
const otherEnd = (end: 0 | 1): 0 | 1 => (end === 0 ? 1 : 0);

export class Tracer {
  readonly #target: TraceTarget;
  readonly #directions = [fresh(), fresh()] as const;
  readonly #hosts: [number | null, number | null] = [null, null];
  readonly #wakes = new Map<number, TraceHost>();
  /** Of a port: its connections. */
  readonly #connections = new Set<string>();
  #known = false;
  #done = false;

  constructor(target: TraceTarget) {
    this.#target = target;
  }

  /** The connection is gone, and nothing more will come. Never of a port. */
  get done(): boolean {
    return this.#done;
  }

  /**
   * The lines of one reading, in the order of their times.
   * @param withData false: data is left for a later reading, unless something else happened
   */
  feed(reading: TraceReading, withData: boolean): TraceLine[] {
    const lines: TraceLine[] = [];
    if (reading.lost > 0) {
      const text = `${reading.lost} control events were overwritten before they were read`;
      lines.push({ ...blank, atUs: reading.takenUs, kind: 'lost', text });
    }
    const events = reading.events.filter((event) => this.#concerns(event));
    const sample = this.#sampleOf(reading);
    for (const event of events) if (event.kind === NUMBERS.CONTROL_OPENED) this.#onOpened(event);
    if (sample !== undefined && !this.#known) lines.push(this.#join(sample, reading.takenUs));
    const words = sample === undefined ? [] : this.#words(sample, reading.takenUs);
    if (sample !== undefined && (withData || words.length > 0 || events.length > 0)) {
      lines.push(...this.#data(sample, reading));
    }
    lines.push(...words);
    for (const event of events) lines.push(...this.#onEvent(event));
    return lines.sort((a, b) => a.atUs - b.atUs);
  }

  get #id(): string | null {
    const target = this.#target;
    return 'slot' in target ? `${target.stg}/${target.slot}.${target.generation}` : null;
  }

  #concerns(event: NumberedEvent): boolean {
    const target = this.#target;
    if ('slot' in target) {
      return event.connection === target.slot && event.generation === target.generation;
    }
    if (event.generation === 0) {
      const connects =
        event.kind === NUMBERS.CONTROL_QUEUED || event.kind === NUMBERS.CONTROL_REFUSED;
      return (connects ? event.remotePort : event.port) === target.port;
    }
    const id = `${event.connection}.${event.generation}`;
    const ports = [event.port, event.remotePort];
    if (event.kind === NUMBERS.CONTROL_OPENED && ports.includes(target.port)) {
      this.#connections.add(id);
    }
    const ours = this.#connections.has(id);
    if (event.kind === NUMBERS.CONTROL_FREED) this.#connections.delete(id);
    return ours;
  }

  #sampleOf({ connection }: TraceReading): ConnectionSample | undefined {
    const target = this.#target;
    if (connection === null || !('slot' in target)) return undefined;
    if (connection.slot !== target.slot || connection.generation !== target.generation) {
      return undefined;
    }
    return connection;
  }

  // --- the director's records -----------------------------------------------------------------

  #onOpened(event: NumberedEvent): void {
    this.#known = true;
    this.#hosts[0] = event.host;
    this.#hosts[1] = event.peerHost;
  }

  #onEvent(event: NumberedEvent): TraceLine[] {
    const kind = EVENT_KINDS[event.kind];
    if (kind === undefined) return [];
    const end = event.end === 1 ? 1 : 0;
    const ofConnection = event.generation !== 0;
    const lines: TraceLine[] = [];
    if (kind === 'closed' || kind === 'host-gone') lines.push(...this.#rest(event, end));
    if (kind === 'freed' && 'slot' in this.#target) this.#done = true;
    lines.push({
      ...blank,
      atUs: event.at,
      kind,
      connection: ofConnection
        ? `${this.#target.stg}/${event.connection}.${event.generation}`
        : null,
      end: ofConnection && kind !== 'freed' ? end : null,
      host: kind === 'freed' ? null : event.host,
      port: event.port === 0 ? null : event.port,
      remotePort: event.remotePort === 0 ? null : event.remotePort,
      text: eventText(kind, event),
    });
    return lines;
  }

  /** What an end had done by the time it let go, as far as no look has found it. */
  #rest(event: NumberedEvent, end: 0 | 1): TraceLine[] {
    if (!('slot' in this.#target)) return [];
    const lines: TraceLine[] = [];
    const base = { ...blank, atUs: event.at, connection: this.#id, end, host: event.host };
    const out = this.#directions[end];
    if (event.sent > out.produced) {
      const text = 'as the director found it';
      const range = { bytesFrom: out.produced, bytesTo: event.sent };
      lines.push({ ...base, kind: 'data', ...range, text });
      out.produced = event.sent;
    }
    const has = (flag: number): boolean => (event.flags & flag) !== 0;
    if (has(NUMBERS.CONTROL_FLAG_FIN) && !out.fin) {
      out.fin = true;
      lines.push({ ...base, kind: 'fin', text: 'sends no more' });
    }
    if (has(NUMBERS.CONTROL_FLAG_RESET) && !out.reset) {
      out.reset = true;
      lines.push({ ...base, kind: 'reset', text: resetText(has(NUMBERS.CONTROL_FLAG_UNREAD)) });
    }
    return lines;
  }

  // --- what memory says -----------------------------------------------------------------------

  /** The first look at a connection whose beginning is not in the events any more. */
  #join(sample: ConnectionSample, atUs: number): TraceLine {
    this.#known = true;
    for (const end of ENDS) {
      const { bytesProduced, producerWaits, consumerWaits } = sample.directions[end];
      const state = this.#directions[end];
      state.produced = bytesProduced;
      state.sendWaits = producerWaits;
      state.receiveWaits = consumerWaits;
    }
    const [a, b] = sample.directions;
    return {
      ...blank,
      atUs,
      kind: 'joined',
      sampled: true,
      connection: this.#id,
      port: sample.ports[0],
      remotePort: sample.ports[1],
      text: `its beginning is not recorded any more; so far ${a.bytesProduced} bytes 0 -> 1, ${b.bytesProduced} bytes 1 -> 0`,
    };
  }

  /** Words that stay once they are set. The hosts' stamps count if they can be true. */
  #words(sample: ConnectionSample, nowUs: number): TraceLine[] {
    const lines: TraceLine[] = [];
    const when = (us: number): number => (us >= sample.openedAtUs && us <= nowUs ? us : nowUs);
    for (const end of ENDS) {
      const now = sample.directions[end];
      const state = this.#directions[end];
      const base = { ...blank, connection: this.#id, sampled: true };
      const by = (whose: 0 | 1) => ({ ...base, end: whose, host: this.#hosts[whose] });
      if (now.fin && !state.fin) {
        state.fin = true;
        const text = 'sends no more';
        lines.push({ ...by(end), atUs: when(now.finishedAtUs), kind: 'fin', text });
      }
      if (now.reset && !state.reset) {
        state.reset = true;
        const text = resetText(false);
        lines.push({ ...by(end), atUs: when(now.finishedAtUs), kind: 'reset', text });
      }
      if (now.closed !== 'no' && !state.closed) {
        state.closed = true;
        const aborted = now.closed === 'reset';
        const text = aborted ? 'reads no more, and aborts' : 'reads no more';
        lines.push({
          ...by(otherEnd(end)),
          atUs: when(now.closedAtUs),
          kind: 'reads-no-more',
          text,
        });
      }
    }
    return lines;
  }

  #data(sample: ConnectionSample, { takenUs, hosts }: TraceReading): TraceLine[] {
    const lines: TraceLine[] = [];
    for (const end of ENDS) {
      const now = sample.directions[end];
      const state = this.#directions[end];
      const base = {
        ...blank,
        sampled: true,
        connection: this.#id,
        end,
        host: this.#hosts[end],
        queuedBytes: now.queuedBytes,
      };
      const sendWaits = (now.producerWaits - state.sendWaits) >>> 0;
      const receiveWaits = (now.consumerWaits - state.receiveWaits) >>> 0;
      if (now.bytesProduced > state.produced) {
        /* Data does not follow its end. */
        const stamp = now.fin || now.reset ? now.finishedAtUs : takenUs;
        lines.push({
          ...base,
          atUs: stamp >= sample.openedAtUs && stamp < takenUs ? stamp : takenUs,
          kind: 'data',
          bytesFrom: state.produced,
          bytesTo: now.bytesProduced,
          sendWaits,
          receiveWaits,
          text: '',
        });
      }
      state.produced = now.bytesProduced;
      state.sendWaits = now.producerWaits;
      state.receiveWaits = now.consumerWaits;
      const full = now.producerSleeps !== 'nobody' || now.queuedBytes >= WINDOW_BYTES;
      if (full !== state.full) {
        state.full = full;
        const who = now.producerSleeps === 'nobody' ? 'its sender' : `its ${now.producerSleeps}`;
        const text = full ? `${who} waits for an empty page` : 'there is room again';
        lines.push({ ...base, atUs: takenUs, kind: full ? 'full' : 'woken', text });
      }
    }
    lines.push(...this.#wakeLines(hosts, takenUs));
    return lines;
  }

  /** Hosts wake each other for all their streams together: so these count more than this one's. */
  #wakeLines(hosts: readonly TraceHost[], atUs: number): TraceLine[] {
    const lines: TraceLine[] = [];
    for (const now of hosts) {
      const before = this.#wakes.get(now.host);
      this.#wakes.set(now.host, now);
      if (before === undefined) continue;
      const sent = (now.wakesSent - before.wakesSent) >>> 0;
      const suppressed = (now.wakesSuppressed - before.wakesSuppressed) >>> 0;
      if (sent + suppressed === 0) continue;
      lines.push({
        ...blank,
        atUs,
        kind: 'wakes',
        sampled: true,
        connection: this.#id,
        host: now.host,
        text: `${sent} peers rung, ${suppressed} were awake (all streams of the host)`,
      });
    }
    return lines;
  }
}

const resetText = (unread: boolean): string => (unread ? 'aborts, with bytes unread' : 'aborts');

function eventText(kind: TraceKind, event: NumberedEvent): string {
  switch (kind) {
    case 'opened':
      return (event.flags & NUMBERS.CONTROL_FLAG_NETWORK) !== 0
        ? `by host ${event.host}, over the network: ${reasonText(event.status)}`
        : `by host ${event.host}, to host ${event.peerHost}`;
    case 'closed':
    case 'host-gone': {
      const totals = `sent ${event.sent}, received ${event.received} bytes`;
      const unread = (event.flags & NUMBERS.CONTROL_FLAG_UNREAD) !== 0 ? ', some unread' : '';
      return kind === 'closed'
        ? `lets go: ${totals}${unread}`
        : `its host is gone: ${totals}${unread}`;
    }
    case 'refused':
      return `host ${event.host} gets ${codeOfErrno(event.status)}`;
    case 'queued':
      return `host ${event.host} waits for a place in the backlog`;
    case 'freed':
      return 'slot and pages are free';
    case 'accepted':
      return 'accepts it';
    default:
      return `by host ${event.host}`;
  }
}

const PORT_NAME = /^([A-Za-z0-9][A-Za-z0-9._-]{0,62}):([0-9]{1,5})$/;
const SLOT_NAME = /^([A-Za-z0-9][A-Za-z0-9._-]{0,62})\/([0-9]{1,5})(?:\.([0-9]{1,5}))?$/;

/** What a name of `socket list` asks for; undefined where it is none. */
export function parseTraceName(
  text: string,
): { stg: string; port?: number; slot?: number; generation?: number } | undefined {
  const port = PORT_NAME.exec(text);
  if (port !== null) return { stg: port[1] as string, port: Number(port[2]) };
  const slot = SLOT_NAME.exec(text);
  if (slot === null) return undefined;
  return {
    stg: slot[1] as string,
    slot: Number(slot[2]),
    ...(slot[3] === undefined ? {} : { generation: Number(slot[3]) }),
  };
}

/**
 * What is meant, by the sockets that are there and the events that are remembered. A port that a
 * listener holds means the listener; another one the connection that has it, or had it last.
 */
export function findTarget(
  name: { stg: string; port?: number; slot?: number; generation?: number },
  sockets: readonly SocketReport[],
  events: readonly NumberedEvent[],
): TraceTarget | undefined {
  const { stg, port, slot, generation } = name;
  const slotOf = (id: string): TraceTarget => {
    const [s, g] = (id.split('/')[1] ?? '').split('.').map(Number);
    return { stg, slot: s ?? 0, generation: g ?? 0 };
  };
  const here = sockets.filter((socket) => socket.stg === stg);
  /* Ports of the network have nothing to do with the STG's. */
  const inArray = here.filter(({ mechanism }) => mechanism === 'stp');
  if (slot !== undefined) {
    if (generation !== undefined) return { stg, slot, generation };
    const living = here.find(({ id }) => id.startsWith(`${stg}/${slot}.`));
    if (living !== undefined) return slotOf(living.id);
    const past = events.findLast((e) => e.generation !== 0 && e.connection === slot);
    return past === undefined ? undefined : { stg, slot, generation: past.generation };
  }
  if (port === undefined) return undefined;
  if (inArray.some((socket) => socket.end === null && socket.localPort === port))
    return { stg, port };
  const living = inArray.find(
    ({ end, localPort, remotePort }) => (end === 0 ? localPort : remotePort) === port,
  );
  if (living !== undefined && living.end !== null) return slotOf(living.id);
  const past = events.findLast(
    (e) =>
      (e.flags & NUMBERS.CONTROL_FLAG_NETWORK) === 0 && (e.port === port || e.remotePort === port),
  );
  if (past === undefined) return undefined;
  const byConnector =
    past.generation !== 0 && (past.end === 0 ? past.port : past.remotePort) === port;
  return byConnector ? { stg, slot: past.connection, generation: past.generation } : { stg, port };
}
