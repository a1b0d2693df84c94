/*
 * An STG as native code sees it: where its sections lie in this process's mapping, the page pool,
 * the board locks, and how to wake whoever waits.
 *
 * Invariant: nothing here trusts a number read from shared memory. Geometry comes from the grant
 * and is checked against the segment once, in stgOpen. Any thread.
 */
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>

#include "layout.h"

namespace stpd {

/* A doorbell: one end of the socketpair that two hosts (or a host and its director) share. The
 * descriptor is closed with the last reference, so that a bell is never rung on a reused number. */
struct Cable {
  int fd;
  std::atomic<bool> dead{false};
  explicit Cable(int descriptor) : fd(descriptor) {}
  ~Cable();
  /* One byte, never waits: a full socket means that the bell already rings. */
  void ring();
};

/* One file of an STG: boards and connection slots, numbered on from those of the files before. */
struct StgExtent {
  uint32_t firstPage, endPage, firstBoard, boardCount, firstConnection, endConnection;
  uint8_t* connections;
  uint8_t* memory;
};

/* Where the pages of a board stand among the numbers: row r has first + r * step. */
struct BoardPages {
  uint32_t first, step;
};

struct StgView {
  uint32_t id;
  /* Rings that are open on it: a closed view lives until the last of them is gone. */
  mutable std::atomic<uint32_t> rings{0};
  /* The last count of page_wants that this process has seen, and when it changed; 0: long ago. */
  mutable std::atomic<uint32_t> wantsSeen{0};
  mutable std::atomic<uint64_t> wantedAtNs{0};
  uint32_t segment;
  uint8_t* base;
  uint32_t memberCount, boardMax, connectionMax, pagesOfBoard;
  uint64_t boardBytes, boards, members, readySummary, readySummaryBytes, readyBits, readyBitsBytes;
  uint64_t owners;
  /* SYNC: written before the counts below, and never changed afterwards; pairs with their loads. */
  StgExtent extents[STP_STG_EXTENTS_MAX];
  std::unique_ptr<BoardPages[]> boardPages;
  /* What this process has mapped. They only grow. */
  std::atomic<uint32_t> pageCount{0}, connectionCount{0}, boardCount{0}, extentCount{0};

  stp_stg_header* header() const { return reinterpret_cast<stp_stg_header*>(base); }
  stp_board* board(uint32_t index) const {
    return reinterpret_cast<stp_board*>(base + boards) + index;
  }
  stp_member* member(uint32_t index) const {
    return reinterpret_cast<stp_member*>(base + members) + index;
  }
  uint32_t* summary(uint32_t member) const {
    return reinterpret_cast<uint32_t*>(base + readySummary + member * readySummaryBytes);
  }
  uint32_t* bits(uint32_t member) const {
    return reinterpret_cast<uint32_t*>(base + readyBits + member * readyBitsBytes);
  }
  uint32_t* owner(uint32_t page) const {
    return reinterpret_cast<uint32_t*>(base + owners) + page;
  }
  /* The caller has compared the number with connectionCount, or with pageCount. */
  stp_direction* direction(uint32_t connection, uint32_t end) const {
    const StgExtent* e = extents;
    while (connection >= e->endConnection) e++;
    uint8_t* at = e->connections + uint64_t(connection - e->firstConnection) * sizeof(stp_connection);
    return reinterpret_cast<stp_direction*>(at + offsetof(stp_connection, directions)) + end;
  }
  const StgExtent& extentOf(uint32_t page) const {
    const StgExtent* e = extents;
    while (page >= e->endPage) e++;
    return *e;
  }
  uint32_t boardOf(uint32_t page) const {
    const StgExtent& e = extentOf(page);
    return e.firstBoard + (page - e.firstPage) % e.boardCount;
  }
  uint8_t* page(uint32_t number) const {
    const StgExtent& e = extentOf(number);
    const uint32_t index = number - e.firstPage;
    return e.memory + (index % e.boardCount) * boardBytes +
           uint64_t(index / e.boardCount) * STP_PAGE_BYTES;
  }
};

/* nullptr for a number that stgOpen did not give. */
StgView* stgView(uint32_t id);
std::shared_ptr<Cable> cableOf(uint32_t id);
void cableForget(uint32_t id);

inline uint32_t load(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
inline uint32_t loadRelaxed(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
inline void store(uint32_t* word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
inline uint32_t swap(uint32_t* word, uint32_t value) {
  return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
}
inline bool cas(uint32_t* word, uint32_t expected, uint32_t value) {
  return __atomic_compare_exchange_n(word, &expected, value, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_RELAXED);
}
inline void fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

uint64_t nowNs();
/* Microseconds since 1970: for people, never for waits. */
uint64_t wallClockUs();
/* False when the time was over first. */
bool futexWait(uint32_t* word, uint32_t expected, uint32_t timeoutMs);
void futexWake(uint32_t* word);

/* Cores this thread may run on; 1 also where a CPU quota leaves less than two. */
uint32_t usableCores();

/* How many pages a stream may hold: one, while there are streams without any. */
uint32_t pageShare(const StgView& stg);

/* A free page of the first `extents` files for `ownerWord`, or -1. `hint`: where to search from, board
 * by board; it is moved on. `held`: how many pages the stream has already; who has none gets any that
 * is free, others up to their share. */
int64_t claimPage(const StgView& stg, uint32_t ownerWord, uint32_t* hint, uint32_t held,
                  uint32_t extents);
/* False if the page is not the owner's (any more). */
bool releasePage(const StgView& stg, uint32_t page, uint32_t ownerWord);

/* Marks bit `ready` of a member and wakes its event loop if it sleeps. True if a bell was rung. */
bool notifyLoop(const StgView& stg, uint32_t member, uint32_t ready, Cable* cable);

/* The board lock. `identity`: member index + 1. */
class BoardLock {
 public:
  enum class Wait { thread, loop };
  BoardLock(const StgView& stg, uint32_t board, uint32_t identity, Wait wait);
  ~BoardLock();
  BoardLock(const BoardLock&) = delete;
  BoardLock& operator=(const BoardLock&) = delete;
  /* May go on: has the lock, or has waited for it long enough. */
  bool held() const { return held_; }
  void account(uint64_t bytes);

 private:
  stp_board* board_;
  const uint64_t word_;
  bool held_ = false;
};

void countBypass(const StgView& stg, uint32_t board, uint64_t accesses, uint64_t bytes);

}  // namespace stpd
