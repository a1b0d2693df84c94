/**
 * Thread entry of a channel director: one endless task. The port brings the main thread's requests;
 * everything else reaches the director through its event loop.
 */
import type { MessagePort } from 'node:worker_threads';
import { ChannelDirector } from '../src/director/channel-director.js';
import type { DirectorReply, DirectorRequest, DirectorStart } from '../src/director/protocol.js';
import { isCoded, messageOf } from '../src/errors.js';
import { setPollBudget } from '../src/memory/event-loop.js';
import { Segment } from '../src/memory/segment.js';

export interface DirectorTask extends DirectorStart {
  readonly port: MessagePort;
}

/** Ends when the main thread closes the port. */
export default function run(task: DirectorTask): Promise<void> {
  const { segment, port, pollBudgetUs } = task;
  const director = new ChannelDirector(new Segment(segment), task.director, (notice) =>
    port.postMessage(notice),
  );
  setPollBudget(pollBudgetUs);
  return new Promise((resolve) => {
    port.on('message', ({ id, request }: { id: number; request: DirectorRequest }) => {
      const reply: { -readonly [K in keyof DirectorReply]: DirectorReply[K] } = { id };
      try {
        reply.result = director.handle(request);
      } catch (error) {
        if (!isCoded(error)) throw error;
        reply.error = { code: error.code, message: messageOf(error) };
      }
      port.postMessage(reply);
    });
    port.on('close', resolve);
  });
}
