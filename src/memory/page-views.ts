/**
 * Views of pages, kept: making one costs as much as a native call, and a stream comes back to its
 * pages all the time. The thread that made it.
 */
import { PAGE_BYTES } from '../layout/tables.js';
import { PAGE_VIEWS_MAX } from '../limits.js';
import { viewBytes, viewOffset } from './page-ring.js';
import type { Segment } from './segment.js';

export class PageViews {
  readonly #segment: Segment;
  readonly #kept = new Map<number, Uint8Array>();

  constructor(segment: Segment) {
    this.#segment = segment;
  }

  /** @param packed offset and length, as native code packs them */
  at(packed: number): Uint8Array {
    const bytes = viewBytes(packed);
    const offset = viewOffset(packed);
    if (bytes === PAGE_BYTES) return this.page(offset);
    return this.#segment.u8.subarray(offset, offset + bytes);
  }

  /** A whole page. @param offset in the segment */
  page(offset: number): Uint8Array {
    const kept = this.#kept.get(offset);
    if (kept !== undefined) return kept;
    if (this.#kept.size === PAGE_VIEWS_MAX) this.#kept.clear();
    const view = this.#segment.u8.subarray(offset, offset + PAGE_BYTES);
    this.#kept.set(offset, view);
    return view;
  }
}
