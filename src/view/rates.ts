/**
 * Rates: what two samples of one array make of each other. Pure; any thread.
 *
 * What was not there before has started at 0. Counters that went backwards (hosts can write theirs)
 * give a rate of 0.
 */
import type { Figures } from './figures.js';

/** @param before, after two samples of one process's clock; of another instance, no rate is known */
export function withRates(before: Figures, after: Figures): Figures {
  const intervalMs = after.takenMs - before.takenMs;
  if (before.array.instance !== after.array.instance || !(intervalMs > 0)) return after;
  const rate = (difference: number): number => Math.round((difference * 10_000) / intervalMs) / 10;
  const perSecond = (earlier = 0, now = 0): number => (now < earlier ? 0 : rate(now - earlier));
  /* Counters of 32 bits wrap. */
  const wrapping = (earlier = 0, now = 0): number => rate((now - earlier) >>> 0);

  const boards = new Map(before.boards.map((b) => [`${b.number} ${b.stg}`, b]));
  const stgs = new Map(before.stgs.map((s) => [`${s.name} ${s.generation}`, s]));
  const sockets = new Map(before.sockets.map((s) => [`${s.id} ${s.end}`, s]));
  const hosts = new Map(before.hosts.map((h) => [h.id, h]));
  const directors = new Map(before.directors.map((d) => [d.number, d]));
  const socketRows = after.sockets.map((now) => {
    const old = sockets.get(`${now.id} ${now.end}`);
    return {
      ...now,
      sendBytesPerSecond: perSecond(old?.bytesSent, now.bytesSent),
      receiveBytesPerSecond: perSecond(old?.bytesReceived, now.bytesReceived),
    };
  });
  const moved = new Map<number | null, { sent: number; received: number }>();
  for (const socket of socketRows) {
    const sum = moved.get(socket.localHost) ?? { sent: 0, received: 0 };
    sum.sent += socket.sendBytesPerSecond;
    sum.received += socket.receiveBytesPerSecond;
    moved.set(socket.localHost, sum);
  }
  return {
    ...after,
    intervalMs,
    boards: after.boards.map((now) => {
      const old = boards.get(`${now.number} ${now.stg}`);
      return {
        ...now,
        accessesPerSecond: perSecond(old?.accesses, now.accesses),
        bytesPerSecond: perSecond(old?.bytesMoved, now.bytesMoved),
        contendedPerSecond: perSecond(old?.contended, now.contended),
      };
    }),
    stgs: after.stgs.map((now) => ({
      ...now,
      bytesPerSecond: perSecond(
        stgs.get(`${now.name} ${now.generation}`)?.bytesMoved,
        now.bytesMoved,
      ),
    })),
    sockets: socketRows,
    hosts: after.hosts.map((now) => {
      const old = hosts.get(now.id);
      return {
        ...now,
        sendBytesPerSecond: moved.get(now.id)?.sent ?? 0,
        receiveBytesPerSecond: moved.get(now.id)?.received ?? 0,
        wakesSentPerSecond: wrapping(old?.wakesSent, now.wakesSent),
        wakesSuppressedPerSecond: wrapping(old?.wakesSuppressed, now.wakesSuppressed),
        pollHitsPerSecond: wrapping(old?.pollHits, now.pollHits),
        pollMissesPerSecond: wrapping(old?.pollMisses, now.pollMisses),
      };
    }),
    directors: after.directors.map((now) => {
      const old = directors.get(now.number);
      const known = old !== undefined && old.cpuMs !== null && now.cpuMs !== null;
      return {
        ...now,
        commandsPerSecond: perSecond(old?.commands, now.commands),
        loopsPerSecond: perSecond(old?.loops, now.loops),
        load: known ? Math.round(perSecond(old.cpuMs ?? 0, now.cpuMs ?? 0)) / 1000 : null,
      };
    }),
  };
}
