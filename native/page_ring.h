/*
 * One end of one direction of a stream: a list of 64 pages and two wrapping byte cursors.
 *
 * Invariants
 *   - tail - head <= 4 MiB. The producer owns bytes [tail, head + limit), the consumer [head, tail).
 *   - A cursor is private to its writer (`own_`) and only published; the other's is cached (`peer_`).
 *   - A word read from shared memory is loaded once and checked; a peer that breaks the rules
 *     breaks the ring (Result::broken), never this process.
 *   - An entry of the list is written by the producer, except that a consumer may exchange the page
 *     of an entry that lies wholly between head and tail; it publishes head afterwards.
 *   - FIN and reset are read before tail, so they never overtake data.
 *
 * One thread at a time uses one PageRing. The two directions of a connection are independent.
 */
#pragma once
#include <sys/uio.h>

#include "stg.h"

namespace stpd {

/* Negative results; results >= 0 are byte counts, 0 means "nothing yet". Mirrored in
 * src/memory/page-ring.ts. */
enum Result : int64_t {
  kReset = -1,     /* the peer aborted or died: ECONNRESET */
  kClosed = -2,    /* the peer consumes no more: EPIPE */
  kEnd = -3,       /* orderly end */
  kBroken = -4,    /* the peer spoiled cursors or pages: ECONNRESET, counted */
  kNoPage = -5,    /* the pool is empty; try again later */
  kContended = -6, /* an event loop found the board taken; try again on the next turn */
  kErrno = -1000,  /* kErrno - errno: a file operation failed */
};

/* Pages of one system call between file and ring: long enough to amortise it, short enough that the
 * other side works on the first half while this one fills the second. */
constexpr uint32_t kFilePages = 8;

struct FileParts {
  iovec span[kFilePages];
  uint32_t boards[kFilePages];
  uint32_t count = 0;
};

class PageRing {
 public:
  struct Options {
    const StgView* stg;
    std::shared_ptr<Cable> cable;
    uint32_t connection, generation, end, selfMember, selfGeneration, peerMember, cursor;
    bool producer;
  };
  explicit PageRing(const Options& options);
  ~PageRing() { stg_.rings.fetch_sub(1); }
  PageRing(const PageRing&) = delete;
  PageRing& operator=(const PageRing&) = delete;

  /* Producer. `sliceMs` 0: an event loop calls, never waits; else waits that long for room. */
  int64_t write(const uint8_t* from, uint64_t bytes, uint32_t sliceMs);
  int64_t reserve(uint8_t** at, uint32_t sliceMs);
  int64_t commit(uint32_t bytes);
  int64_t fillFromFile(int fd, int64_t position, uint64_t bytes, uint32_t sliceMs);
  void finish();
  uint32_t releaseIdle();

  /* Consumer. */
  int64_t read(uint8_t* into, uint64_t bytes, uint32_t sliceMs);
  /* For event loops: reads what is there and, where that was all, arms in the same step. `armed`: a
   * ready bit will come for what comes next. */
  int64_t take(uint8_t* into, uint64_t bytes, bool* armed);
  int64_t peek(uint8_t** at, uint32_t sliceMs);
  int64_t consume(uint32_t bytes);
  int64_t drainToFile(int fd, int64_t position, uint64_t bytes, uint32_t sliceMs);
  int64_t exchange(uint32_t given);
  void closeReading(bool reset);

  /* Producer: aborts the direction. */
  void abort();

  /* Arms the wait word for the event loop. > 0 or < 0: no need to wait, 0: a ready bit will come. */
  int64_t arm();
  /* Bytes that can be read or written now, or a negative Result. */
  int64_t state();
  void setLimit(uint32_t bytes);
  void setSpin(uint32_t microseconds) { spinNs_ = int64_t(microseconds) * 1000; }
  uint32_t cursor() const { return own_; }
  const StgView& stg() const { return stg_; }
  uint32_t memberOwner() const { return memberOwner_; }

 private:
  int64_t room();
  int64_t available();
  int64_t pageAt(uint32_t cursor, bool mayClaim);
  int64_t recycle(uint32_t cursor);
  int64_t gather(uint64_t bytes, bool mayClaim, FileParts* parts);
  int64_t moved(ssize_t bytes, const FileParts& parts);
  void publish(uint32_t bytes);
  void wake(uint32_t* word);
  void tally(uint32_t stp_member::*counter);
  int64_t wait(uint32_t sliceMs, uint32_t need);
  int64_t progress() { return producer_ ? room() : available(); }
  bool peerGone();
  void copy(uint8_t* into, const uint8_t* from, uint64_t bytes, bool toShared);

  const StgView& stg_;
  stp_direction* dir_;
  std::shared_ptr<Cable> cable_;
  const bool producer_;
  const uint32_t ownerWord_, memberOwner_, identity_;
  const uint32_t selfMember_, peerMember_, peerReady_;
  uint32_t own_, peer_;
  uint32_t limit_ = STP_WINDOW_BYTES;
  uint32_t hint_;
  uint32_t pagesHeld_ = 0;
  uint32_t outstanding_ = 0; /* bytes handed out by reserve or peek */
  int64_t spinNs_ = -1; /* asked for at the first wait: an event loop never waits */
  bool broken_ = false;
};

}  // namespace stpd
