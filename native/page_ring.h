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

#include <vector>

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
  kNotNow = -7,    /* nothing was done: take the longer way */
  kShort = -8,     /* inside of a ring only: no page until the peer has read one of those in flight */
  kErrno = -1000,  /* kErrno - errno: a file operation failed */
};

constexpr uint32_t kPage = STP_PAGE_BYTES;

/* Which entry of the list carries the byte at a cursor. */
inline uint32_t entryOf(uint32_t cursor) { return (cursor / kPage) % STP_PAGE_LIST_ENTRIES; }

/* Pages of one system call between file and ring: long enough to amortise it, short enough that the
 * other side works on the first half while this one fills the second. */
constexpr uint32_t kFilePages = 8;

struct FileParts {
  iovec span[kFilePages];
  uint32_t boards[kFilePages];
  uint32_t count = 0;
};

/* A place in a row of buffers that are moved as one: what stands before it is done. */
struct Parts {
  const iovec* part;
  uint64_t done = 0; /* of *part */

  /* Calls `move(memory, bytes)` for the next `bytes` of the row, which has as many. */
  template <typename Move>
  void next(uint64_t bytes, Move move) {
    while (bytes > 0) {
      uint64_t n = part->iov_len - done;
      if (n > bytes) n = bytes;
      if (n > 0) move(static_cast<uint8_t*>(part->iov_base) + done, n);
      bytes -= n;
      done += n;
      if (done == part->iov_len) {
        part++;
        done = 0;
      }
    }
  }
};

/* A part of a page, in place. */
struct Span {
  uint8_t* at;
  uint32_t bytes;
};

/* What a ring has counted since this thread opened it. */
struct RingCounters {
  uint64_t wakesSent = 0;       /* bells and futex calls */
  uint64_t wakesSuppressed = 0; /* publications that needed none: the other side was awake */
  uint64_t pollHits = 0;        /* waits that ended while looking */
  uint64_t pollMisses = 0;      /* waits that looked in vain and slept */
  uint64_t waits = 0; /* of a blocking call, and of an event loop from the first arm to the bell */
  uint64_t safetyFirings = 0; /* what only the end of a slice has found: expected 0 */
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
  ~PageRing();
  PageRing(const PageRing&) = delete;
  PageRing& operator=(const PageRing&) = delete;

  /* Producer. `sliceMs` 0: an event loop calls, never waits; else waits that long for room. */
  int64_t write(const uint8_t* from, uint64_t bytes, uint32_t sliceMs);
  int64_t writeParts(const iovec* parts, uint64_t bytes, uint32_t sliceMs);
  /* True if so many bytes, a page at most, can be written now, whole and without a wait. */
  bool fits(uint64_t bytes);
  /* The pages of the next bytes, `count` at most: how many bytes they have together. */
  int64_t reserve(Span* spans, uint32_t* count, uint32_t sliceMs);
  int64_t commit(uint32_t bytes);
  int64_t fillFromFile(int fd, int64_t position, uint64_t bytes, uint32_t sliceMs);
  /* Puts a page that `holder` holds into the list, whole: 1, or kNotNow where no page starts. */
  int64_t givePage(uint32_t page, PageRing& holder, uint32_t sliceMs);
  void finish();

  /* Consumer. */
  int64_t read(uint8_t* into, uint64_t bytes, uint32_t sliceMs);
  /* For event loops: reads what is there and, where that was all, arms in the same step. `armed`: a
   * ready bit will come for what comes next. */
  int64_t take(uint8_t* into, uint64_t bytes, bool* armed);
  int64_t readParts(const iovec* parts, uint64_t bytes, uint32_t sliceMs);
  int64_t peek(Span* spans, uint32_t* count, uint32_t sliceMs);
  int64_t consume(uint32_t bytes);
  int64_t drainToFile(int fd, int64_t position, uint64_t bytes, uint32_t sliceMs);
  int64_t exchange(uint32_t given);
  /* The bytes up to the end of their page, in a page of this member: exchanged where the page is
   * whole, else copied. Their number; 0: not all there yet. */
  int64_t takePage(uint32_t* page, bool* exchanged, uint32_t sliceMs);
  void closeReading(bool reset);

  /* Either side. */
  uint32_t releaseIdle();

  /* Pages of this member that this ring has taken or claimed: they go back with it. */
  int64_t claimHeld();
  bool releaseHeld(uint32_t page);

  /* Producer: aborts the direction. */
  void abort();

  /* Arms the wait word for the event loop. > 0 or < 0: no need to wait, 0: a ready bit will come. */
  int64_t arm();
  /* For who is armed: there is something, and no ready bit has said so. Either somebody is just about
   * to, or another host of the STG has spoiled a wait word. */
  bool unannounced();
  /* The caller has found a wake-up that was lost. */
  void countSafety();
  /* Bytes that can be read or written now, or a negative Result. */
  int64_t state();
  /* Consumer: the peer has reset the stream, whatever lies there to be read. */
  bool wasReset() const;
  void setLimit(uint32_t bytes);
  /* The longest look before sleep; adaptive below it, 0 never looks. */
  void setSpin(uint32_t microseconds) { spinNs_ = spinMaxNs_ = int64_t(microseconds) * 1000; }
  const RingCounters& counters() const { return counters_; }
  uint32_t cursor() const { return own_; }
  /* A view of reserve or peek is out. */
  bool busy() const { return outstanding_ != 0; }
  const StgView& stg() const { return stg_; }
  uint32_t memberOwner() const { return memberOwner_; }

 private:
  int64_t room();
  int64_t available();
  int64_t pageAt(uint32_t cursor, bool mayClaim);
  int64_t newPage(uint32_t cursor);
  bool giveWay(uint32_t cursor);
  void trim(uint32_t cursor);
  void releaseRead(uint32_t cursor, uint32_t keep);
  int64_t told(int64_t result);
  int64_t recycle(uint32_t cursor);
  uint32_t commonExtents() const;
  int64_t gather(uint64_t bytes, bool mayClaim, FileParts* parts);
  int64_t moved(ssize_t bytes, const FileParts& parts);
  void publish(uint32_t bytes);
  bool looksForRoom(uint32_t waiter) const;
  int64_t roomFor(uint64_t bytes, uint32_t sliceMs);
  int64_t span(Span* spans, uint32_t* count, uint32_t max, uint32_t bytes, bool mayClaim);
  int64_t used(uint32_t bytes);
  bool missed(const uint32_t* word) const;
  bool ended();
  bool look(uint64_t start, uint32_t need, int64_t* now);
  void learn(uint64_t start);
  bool willDo(int64_t some);
  bool letGo(uint32_t page);
  void keepSpare(uint32_t page);
  void dropSpare();
  int64_t claimSpare();
  void wake(uint32_t* word);
  void tally(uint32_t stp_member::*counter);
  void count(uint64_t* own, uint32_t which, uint32_t stp_member::*counter = nullptr);
  int64_t wait(uint32_t sliceMs, uint32_t need);
  int64_t progress() { return producer_ ? room() : available(); }
  bool peerGone();
  bool bypass(uint32_t page, uint64_t bytes);
  void settleBypass(uint32_t next);

  const StgView& stg_;
  stp_direction* dir_;
  std::shared_ptr<Cable> cable_;
  const bool producer_;
  const uint32_t ownerWord_, memberOwner_, identity_;
  const uint32_t selfMember_, peerMember_, peerReady_, selfReady_;
  uint32_t own_, peer_;
  uint32_t toldAt_; /* consumer: where its cursor was when it last told the producer of room */
  /* The window: what the socket was told (limitMax_), or less while the pool has no page for more. */
  uint32_t limit_ = STP_WINDOW_BYTES, limitMax_ = STP_WINDOW_BYTES;
  uint32_t wantsSeen_;
  bool yields_ = false; /* its last page is given back, and its caller does not know yet */
  uint32_t idleAt_ = 0; /* where the cursor was when idle pages were looked for */
  uint32_t hint_;
  uint32_t pagesHeld_ = 0;
  uint32_t outstanding_ = 0; /* bytes handed out by reserve or peek */
  int64_t spinMaxNs_ = -1; /* asked for at the first wait: an event loop never waits */
  int64_t spinNs_ = 0;     /* what looking has been worth lately */
  bool sharesCore_ = false; /* the peer ran while this side had yielded the core */
  bool broken_ = false;
  uint32_t bypassBoard_ = 0, bypassCount_ = 0;
  uint64_t bypassBytes_ = 0;
  RingCounters counters_;
  std::vector<uint32_t> held_;
  int64_t spare_ = -1; /* an empty page of this member for the next exchange */
};

}  // namespace stpd
