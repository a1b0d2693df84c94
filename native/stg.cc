#include "stg.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <mutex>
#include <unordered_map>
#include <vector>
#include <unordered_set>

#include "addon.h"
#include "segment.h"

namespace stpd {

Cable::~Cable() { close(fd); }

void Cable::ring() {
  static const char bell = 1;
  if (!dead.load(std::memory_order_relaxed)) {
    (void)!send(fd, &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

uint64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000000000ull + uint64_t(now.tv_nsec);
}

uint64_t wallClockUs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return uint64_t(now.tv_sec) * 1000000ull + uint64_t(now.tv_nsec) / 1000;
}

/* Shared futex (no PRIVATE flag): the word lies in memory of two processes. A relative time-out of
 * FUTEX_WAIT runs on the monotonic clock. */
bool futexWait(uint32_t* word, uint32_t expected, uint32_t timeoutMs) {
  timespec timeout = {time_t(timeoutMs / 1000), long(timeoutMs % 1000) * 1000000};
  return syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, nullptr, 0) == 0 ||
         errno != ETIMEDOUT;
}

void futexWake(uint32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr, nullptr, 0); }

static uint32_t quotaCores() {
  FILE* file = fopen("/sys/fs/cgroup/cpu.max", "r");
  if (file == nullptr) return UINT32_MAX;
  long long quota = 0, period = 0;
  const int fields = fscanf(file, "%lld %lld", &quota, &period); /* "max 100000" has no quota */
  fclose(file);
  return fields == 2 && period > 0 ? uint32_t(quota / period) : UINT32_MAX;
}

uint32_t usableCores() {
  static const uint32_t quota = quotaCores();
  cpu_set_t set;
  const uint32_t allowed =
      sched_getaffinity(0, sizeof(set), &set) == 0 ? uint32_t(CPU_COUNT(&set)) : 1;
  const uint32_t cores = allowed < quota ? allowed : quota;
  return cores == 0 ? 1 : cores;
}

/* ---- tables of this process: STGs by number, cables by number ------------------------------- */

static std::mutex tableMutex;
static constexpr uint32_t kStgMax = 4096;
static std::atomic<StgView*> stgs[kStgMax];
static uint32_t stgCount = 0;
static std::vector<uint32_t> closedStgs;
static std::unordered_map<uint32_t, std::shared_ptr<Cable>> cables;
static uint32_t cableNext = 1;
/* Those that this thread opened and has not closed: its end closes them, however it comes. */
static thread_local std::unordered_set<uint32_t> cablesOfThread;

StgView* stgView(uint32_t id) {
  return id < kStgMax ? stgs[id].load(std::memory_order_acquire) : nullptr;
}

std::shared_ptr<Cable> cableOf(uint32_t id) {
  std::lock_guard<std::mutex> guard(tableMutex);
  auto found = cables.find(id);
  return found == cables.end() ? nullptr : found->second;
}

void cableForget(uint32_t id) {
  std::lock_guard<std::mutex> guard(tableMutex);
  cables.erase(id);
}

/* ---- page pool ------------------------------------------------------------------------------- */

/* One eighth of the pages is kept for streams that hold none. */
static uint32_t reservedPages(const StgView& stg) { return stg.pageCount / 8; }

/* A share is so many times what nobody has yet: one busy stream gets four fifths of a small pool, and
 * what n of them hold evens out, each at one in n + 1/4, however they came. */
static constexpr uint32_t kShareOfFree = 4;

/* Streams without a page look for one every few milliseconds, more where their event loop is busy, and
 * count it where there is none: so long after the last time it is believed that some still wait. */
static constexpr uint64_t kHungerNs = 100'000'000;

static bool othersWait(const StgView& stg) {
  const uint32_t wants = loadRelaxed(&stg.header()->page_wants);
  if (wants != stg.wantsSeen.load(std::memory_order_relaxed)) {
    stg.wantsSeen.store(wants, std::memory_order_relaxed);
    stg.wantedAtNs.store(nowNs(), std::memory_order_relaxed);
    return true;
  }
  const uint64_t at = stg.wantedAtNs.load(std::memory_order_relaxed);
  if (at == 0) return false;
  if (nowNs() - at < kHungerNs) return true;
  stg.wantedAtNs.store(0, std::memory_order_relaxed);
  return false;
}

uint32_t pageShare(const StgView& stg) {
  if (othersWait(stg)) return 1;
  /* Whatever stands there: a host that died has left it wrong by one, another may have spoiled it. */
  const int64_t claimed = int32_t(loadRelaxed(&stg.header()->pages_claimed));
  const int64_t pages = stg.pageCount, left = pages - reservedPages(stg) - claimed;
  return left <= 0 ? 0 : uint32_t(left < pages ? left : pages) * kShareOfFree;
}

/* Boards are gone round one after the other, those of all files, so that neighbours in a page list
 * lie on different boards however often the STG has grown. */
int64_t claimPage(const StgView& stg, uint32_t ownerWord, uint32_t* hint, uint32_t held,
                  uint32_t extents) {
  if (held != 0 && held >= pageShare(stg)) return -1;
  const StgExtent& last = stg.extents[extents - 1];
  const uint32_t boards = last.firstBoard + last.boardCount;
  const uint32_t start = *hint % last.endPage;
  uint32_t board = start % boards, row = start / boards;
  for (uint32_t tried = 0; tried < last.endPage; tried++) {
    const BoardPages& at = stg.boardPages[board];
    const uint32_t page = at.first + row * at.step;
    if (++board == boards) {
      board = 0;
      if (++row == stg.pagesOfBoard) row = 0;
    }
    uint32_t* word = stg.owner(page);
    /* SYNC[claim.owner] pairs with [release.owner] */
    if (loadRelaxed(word) == STP_OWNER_FREE && cas(word, STP_OWNER_FREE, ownerWord)) {
      __atomic_fetch_add(&stg.header()->pages_claimed, 1, __ATOMIC_RELAXED);
      *hint = row * boards + board;
      return page;
    }
  }
  return -1;
}

bool releasePage(const StgView& stg, uint32_t page, uint32_t ownerWord) {
  /* SYNC[release.owner] pairs with [claim.owner] */
  if (page >= stg.pageCount || !cas(stg.owner(page), ownerWord, STP_OWNER_FREE)) return false;
  __atomic_fetch_sub(&stg.header()->pages_claimed, 1, __ATOMIC_RELAXED);
  return true;
}

/* ---- waking ---------------------------------------------------------------------------------- */

/* The bit, then the summary, then the sleep word; pairs with EventLoop::beforePoll, which stores the
 * sleep word and then reads summary and bits. Either side sees the other. */
bool notifyLoop(const StgView& stg, uint32_t member, uint32_t ready, Cable* cable) {
  if (member >= stg.memberCount || ready >= stg.connectionCount * 2) return false;
  const uint32_t index = ready / 32;
  uint32_t* word = stg.bits(member) + index;
  uint32_t* above = stg.summary(member) + index / 32;
  const uint32_t bit = 1u << (ready % 32), aboveBit = 1u << (index % 32);
  /* SYNC[notify.bit] pairs with [collect.bits] */
  if ((load(word) & bit) == 0) __atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST);
  /* SYNC[notify.summary] pairs with [collect.summary] and [loop.ready] */
  if ((load(above) & aboveBit) == 0) __atomic_fetch_or(above, aboveBit, __ATOMIC_SEQ_CST);
  fence(); /* SYNC[notify.fence] pairs with [loop.sleep-fence] */
  uint32_t* sleep = &stg.member(member)->sleep;
  if (load(sleep) == 0 || swap(sleep, 0) == 0) return false; /* SYNC[notify.sleep] one bell only */
  if (cable != nullptr) cable->ring(); /* SYNC[notify.bell] pairs with [loop.sleep] */
  return true;
}

/* ---- board lock ------------------------------------------------------------------------------ */

/* A holder that died or was stopped delays nobody longer than this. Stealing is harmless: stream
 * pages have one owner anyway, the lock only arbitrates the board. */
static constexpr uint64_t kStealNs = 10'000'000;
/* An event loop tries for about one 64 KiB copy, then comes back on its next turn. */
static constexpr uint64_t kLoopTryNs = 5'000;

/* What a lock word says: member + 1, thread and generation. No two holds have the same, also not of
 * two threads of one host; so a word that stands still is one hold, and whoever was stolen from
 * cannot free the lock of the next. */
static std::atomic<uint64_t> lockThreads{0};
static thread_local const uint64_t lockThread = lockThreads.fetch_add(1) & 0xffff;
static thread_local uint32_t lockGeneration = 0;

static uint64_t nextLockWord(uint32_t identity) {
  return uint64_t(identity & 0xffff) << 48 | lockThread << 32 | ++lockGeneration;
}

static uint64_t lockOf(const stp_board* board) {
  return __atomic_load_n(&board->lock, __ATOMIC_ACQUIRE);
}
static bool changeLock(stp_board* board, uint64_t expected, uint64_t word) {
  return __atomic_compare_exchange_n(&board->lock, &expected, word, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_RELAXED);
}

/* Counters under the lock. One writer at a time, but for who goes on without it or was stolen from:
 * then a count may be lost, and nothing else. */
template <typename Number>
static void count(Number* counter, uint64_t by) {
  const Number now = __atomic_load_n(counter, __ATOMIC_RELAXED);
  __atomic_store_n(counter, Number(now + by), __ATOMIC_RELAXED);
}

/* A thread waits no longer than this even where the word never stands still. */
static constexpr uint64_t kThreadWaitNs = 5 * kStealNs;

/* Since when this thread has seen a board held with one word: for each board, because an event loop
 * comes back to several in turn. */
struct Suspicion {
  uint64_t word;
  uint64_t since;
};
static thread_local std::unordered_map<stp_board*, Suspicion> suspicions;

BoardLock::BoardLock(const StgView& stg, uint32_t board, uint32_t identity, Wait wait)
    : board_(stg.board(board)), word_(nextLockWord(identity)) {
  if (changeLock(board_, 0, word_)) { /* SYNC[lock.take] pairs with [lock.release] */
    held_ = true;
    if (!suspicions.empty()) suspicions.erase(board_);
    return;
  }
  const uint64_t start = nowNs();
  Suspicion& suspicion = suspicions.try_emplace(board_, Suspicion{0, 0}).first->second;
  for (;;) {
    const uint64_t seen = lockOf(board_); /* SYNC[lock.look] */
    if (seen == 0) {
      if (changeLock(board_, 0, word_)) break;
      continue;
    }
    const uint64_t now = nowNs();
    if (suspicion.word != seen) {
      suspicion = {seen, now}; /* SYNC[lock.suspect] */
    } else if (now - suspicion.since >= kStealNs) {
      if (changeLock(board_, seen, word_)) { /* SYNC[lock.steal] from this hold and no other */
        count(&board_->steals, 1);
        break;
      }
      continue;
    }
    if (wait == Wait::loop && now - start >= kLoopTryNs) return; /* SYNC[lock.give-up] */
    /* SYNC[lock.go-on] without: it only arbitrates */
    if (now - start >= kThreadWaitNs) break;
    for (int i = 0; i < 16; i++) relax();
  }
  suspicions.erase(board_);
  held_ = true;
  count(&board_->contended, 1);
}

void BoardLock::account(uint64_t bytes) {
  count(&board_->accesses, 1);
  count(&board_->bytes, bytes);
}

BoardLock::~BoardLock() {
  /* SYNC[lock.release] fails if it was stolen: then it is not ours to free */
  if (held_) changeLock(board_, word_, 0);
}

void countBypass(const StgView& stg, uint32_t board, uint64_t accesses, uint64_t bytes) {
  stp_board* at = stg.board(board);
  __atomic_fetch_add(&at->bypassed, accesses, __ATOMIC_RELAXED);
  __atomic_fetch_add(&at->bypassed_bytes, bytes, __ATOMIC_RELAXED);
}

/* ---- JavaScript ------------------------------------------------------------------------------ */

static uint64_t number(const Napi::Object& from, const char* name) {
  return uint64_t(from.Get(name).ToNumber().DoubleValue());
}

/* A number nobody uses: that of a closed view without rings, or a new one. Under the table's lock. */
static int64_t freeStgNumber() {
  for (size_t i = 0; i < closedStgs.size(); i++) {
    const uint32_t id = closedStgs[i];
    StgView* old = stgs[id].load();
    if (old->rings.load() != 0) continue;
    closedStgs.erase(closedStgs.begin() + long(i));
    delete old;
    return id;
  }
  return stgCount == kStgMax ? -1 : int64_t(stgCount++);
}

/* stgClose(stg): no new rings; the number is used again once the last ring is gone. */
static void StgClose(const Napi::CallbackInfo& info) {
  const uint32_t id = info[0].ToNumber().Uint32Value();
  std::lock_guard<std::mutex> guard(tableMutex);
  if (stgView(id) == nullptr) return;
  for (uint32_t closed : closedStgs) {
    if (closed == id) return;
  }
  closedStgs.push_back(id);
}

/* Appends a file; SYNC: the counts are published last. Under the table's lock. */
static void addExtent(StgView& stg, uint8_t* connections, uint32_t connectionCount, uint8_t* memory,
                      uint32_t boardCount) {
  const uint32_t index = stg.extentCount;
  StgExtent& e = stg.extents[index];
  e.firstBoard = stg.boardCount;
  e.boardCount = boardCount;
  e.firstPage = stg.pageCount;
  e.endPage = e.firstPage + boardCount * stg.pagesOfBoard;
  e.firstConnection = stg.connectionCount;
  e.endConnection = e.firstConnection + connectionCount;
  e.connections = connections;
  e.memory = memory;
  for (uint32_t i = 0; i < boardCount; i++) {
    stg.boardPages[e.firstBoard + i] = {e.firstPage + i, boardCount};
  }
  stg.pageCount = e.endPage;
  stg.connectionCount = e.endConnection;
  stg.boardCount = e.firstBoard + boardCount;
  stg.extentCount = index + 1;
}

/* stgOpen(segment, offset, geometry): checks once that every section lies inside the segment. */
static Napi::Value StgOpen(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const uint32_t segment = info[0].ToNumber().Uint32Value();
  const uint64_t offset = uint64_t(info[1].ToNumber().DoubleValue());
  const Napi::Object shape = info[2].As<Napi::Object>();
  uint64_t segmentBytes = 0;
  uint8_t* base = segmentBase(segment, &segmentBytes);
  auto view = std::make_unique<StgView>();
  const uint64_t bytes = number(shape, "bytes");
  if (base == nullptr || offset > segmentBytes || bytes > segmentBytes - offset) {
    throw Napi::RangeError::New(env, "stgOpen: the STG does not lie inside the segment");
  }
  view->segment = segment;
  view->base = base + offset;
  view->boardBytes = number(shape, "boardBytes");
  view->boardMax = uint32_t(number(shape, "boardMax"));
  view->memberCount = uint32_t(number(shape, "memberCount"));
  view->connectionMax = uint32_t(number(shape, "connectionMax"));
  view->boards = number(shape, "boards");
  view->members = number(shape, "members");
  view->readySummary = number(shape, "readySummary");
  view->readySummaryBytes = number(shape, "readySummaryBytes");
  view->readyBits = number(shape, "readyBits");
  view->readyBitsBytes = number(shape, "readyBitsBytes");
  view->owners = number(shape, "owners");
  view->pagesOfBoard = uint32_t(view->boardBytes / STP_PAGE_BYTES);
  const uint32_t boardCount = uint32_t(number(shape, "boardCount"));
  const uint32_t connectionCount = uint32_t(number(shape, "connectionCount"));
  const uint64_t connections = number(shape, "connections"), memory = number(shape, "memory");
  const uint64_t pageMax = uint64_t(view->boardMax) * view->pagesOfBoard;
  const bool fits =
      boardCount > 0 && boardCount <= view->boardMax && view->pagesOfBoard > 0 &&
      view->boardBytes % STP_PAGE_BYTES == 0 && pageMax <= (1u << 30) &&
      connectionCount <= view->connectionMax && view->connectionMax <= 65536 &&
      view->boards + uint64_t(view->boardMax) * sizeof(stp_board) <= view->members &&
      view->members + uint64_t(view->memberCount) * sizeof(stp_member) <= view->readySummary &&
      view->readySummary + view->memberCount * view->readySummaryBytes <= view->readyBits &&
      view->readyBits + view->memberCount * view->readyBitsBytes <= view->owners &&
      view->owners + pageMax * 4 <= connections &&
      connections + uint64_t(connectionCount) * sizeof(stp_connection) <= memory &&
      memory + boardCount * view->boardBytes <= bytes &&
      view->readyBitsBytes * 8 >= uint64_t(view->connectionMax) * 2 &&
      view->readySummaryBytes * 8 >= view->readyBitsBytes / 4;
  if (!fits) throw Napi::RangeError::New(env, "stgOpen: the geometry contradicts itself");
  view->wantsSeen = loadRelaxed(&view->header()->page_wants);
  view->boardPages = std::make_unique<BoardPages[]>(view->boardMax);
  addExtent(*view, view->base + connections, connectionCount, view->base + memory, boardCount);
  std::lock_guard<std::mutex> guard(tableMutex);
  const int64_t id = freeStgNumber();
  if (id < 0) throwSystemError(env, ENFILE, "stgOpen", "too many STGs are open in this process");
  view->id = uint32_t(id);
  stgs[id].store(view.release(), std::memory_order_release);
  return Napi::Number::New(env, double(id));
}

/* stgGrow(stg, extent): a further file, mapped already; rings of every thread may use it from now
 * on. Returns how many files the view has. */
static Napi::Value StgGrow(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Napi::Object extent = info[1].As<Napi::Object>();
  const uint64_t offset = number(extent, "offset"), bytes = number(extent, "bytes");
  const uint64_t boardCount = number(extent, "boardCount");
  const uint64_t connectionCount = number(extent, "connectionCount");
  const uint64_t connections = number(extent, "connections"), memory = number(extent, "memory");
  std::lock_guard<std::mutex> guard(tableMutex);
  StgView* stg = stgView(info[0].ToNumber().Uint32Value());
  if (stg == nullptr) throw Napi::RangeError::New(env, "stgGrow: no such STG");
  uint64_t segmentBytes = 0;
  uint8_t* base = segmentBase(stg->segment, &segmentBytes);
  const bool fits =
      base != nullptr && offset <= segmentBytes && bytes <= segmentBytes - offset &&
      stg->extentCount < STP_STG_EXTENTS_MAX && boardCount <= stg->boardMax - stg->boardCount &&
      connectionCount <= stg->connectionMax - stg->connectionCount &&
      number(extent, "firstBoard") == stg->boardCount &&
      number(extent, "firstConnection") == stg->connectionCount &&
      connections + connectionCount * sizeof(stp_connection) <= memory &&
      memory <= bytes && boardCount * stg->boardBytes <= bytes - memory;
  if (!fits) throw Napi::RangeError::New(env, "stgGrow: the file does not fit the STG");
  addExtent(*stg, base + offset + connections, uint32_t(connectionCount), base + offset + memory,
            uint32_t(boardCount));
  return Napi::Number::New(env, double(stg->extentCount));
}

/* cableOpen(fd): takes the descriptor over; the number is process-wide. */
static Napi::Value CableOpen(const Napi::CallbackInfo& info) {
  std::lock_guard<std::mutex> guard(tableMutex);
  const uint32_t id = cableNext++;
  cables[id] = std::make_shared<Cable>(info[0].ToNumber().Int32Value());
  cablesOfThread.insert(id);
  return Napi::Number::New(info.Env(), id);
}

static void CableClose(const Napi::CallbackInfo& info) {
  const uint32_t id = info[0].ToNumber().Uint32Value();
  cablesOfThread.erase(id);
  cableForget(id);
}

/* cableEnd(cable): as if the other end were gone, for every ring that uses it, in any thread. */
static void CableEnd(const Napi::CallbackInfo& info) {
  if (auto cable = cableOf(info[0].ToNumber().Uint32Value())) cable->dead.store(true);
}

/* cableDead(cable): whether nobody is at the other end any more. Asks the kernel, which knows before
 * the event loop that watches the cable does. */
static Napi::Value CableDead(const Napi::CallbackInfo& info) {
  auto cable = cableOf(info[0].ToNumber().Uint32Value());
  if (cable == nullptr) return Napi::Boolean::New(info.Env(), true);
  pollfd end = {cable->fd, POLLRDHUP, 0};
  if (poll(&end, 1, 0) == 1 && (end.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
    cable->dead.store(true);
  }
  return Napi::Boolean::New(info.Env(), cable->dead.load());
}

static void closeCables(void*) {
  for (const uint32_t id : cablesOfThread) cableForget(id);
  cablesOfThread.clear();
}

static StgView& view(const Napi::CallbackInfo& info) {
  StgView* stg = stgView(info[0].ToNumber().Uint32Value());
  if (stg == nullptr) throw Napi::RangeError::New(info.Env(), "no such STG");
  return *stg;
}

/* pageClaim(stg, ownerWord, hint): a page number or -1. */
static Napi::Value PageClaim(const Napi::CallbackInfo& info) {
  const StgView& stg = view(info);
  uint32_t hint = info[2].ToNumber().Uint32Value();
  const int64_t page =
      claimPage(stg, info[1].ToNumber().Uint32Value(), &hint, 0, stg.extentCount);
  return Napi::Number::New(info.Env(), double(page));
}

static Napi::Value PageRelease(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), releasePage(view(info), info[1].ToNumber().Uint32Value(),
                                                    info[2].ToNumber().Uint32Value()));
}

/* pageSweep(stg, ownerWord): frees every page of an owner; returns how many. */
static Napi::Value PageSweep(const Napi::CallbackInfo& info) {
  const StgView& stg = view(info);
  const uint32_t owner = info[1].ToNumber().Uint32Value();
  uint32_t freed = 0;
  const uint32_t pages = stg.pageCount;
  for (uint32_t page = 0; page < pages; page++) {
    /* SYNC[sweep.owner] nobody of this owner runs any more */
    if (loadRelaxed(stg.owner(page)) == owner && releasePage(stg, page, owner)) freed++;
  }
  return Napi::Number::New(info.Env(), freed);
}

/* pagesUsed(stg, counts): pages with an owner; counts[board] if an array is given. Corrects the
 * advisory counter, so only the director may call it while hosts are attached. */
static Napi::Value PagesUsed(const Napi::CallbackInfo& info) {
  const StgView& stg = view(info);
  const uint32_t pages = stg.pageCount, boardCount = stg.boardCount;
  std::unique_ptr<uint32_t[]> boards(new uint32_t[boardCount]());
  uint32_t used = 0;
  for (uint32_t page = 0; page < pages; page++) {
    if (loadRelaxed(stg.owner(page)) != STP_OWNER_FREE) {
      used++;
      boards[stg.boardOf(page)]++;
    }
  }
  __atomic_store_n(&stg.header()->pages_claimed, used, __ATOMIC_RELAXED);
  Napi::Array counts = Napi::Array::New(info.Env(), boardCount);
  for (uint32_t i = 0; i < boardCount; i++) counts[i] = Napi::Number::New(info.Env(), boards[i]);
  return counts;
}

/* stgPages(stg): how many there are, how many have an owner, on how many boards. Any thread. */
static Napi::Value StgPages(const Napi::CallbackInfo& info) {
  const StgView& stg = view(info);
  const uint32_t pages = stg.pageCount;
  uint32_t used = 0;
  for (uint32_t page = 0; page < pages; page++) {
    used += loadRelaxed(stg.owner(page)) != STP_OWNER_FREE;
  }
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("pages", pages);
  out.Set("used", used);
  out.Set("boards", stg.boardCount.load());
  return out;
}

/* stgWanted(stg): whether streams of it have looked for a page in vain lately. */
static Napi::Value StgWanted(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), othersWait(view(info)));
}

/* memberNotify(stg, member, ready, cable): used by the director for a host that is not its own. */
static Napi::Value MemberNotify(const Napi::CallbackInfo& info) {
  auto cable = cableOf(info[3].ToNumber().Uint32Value());
  return Napi::Boolean::New(
      info.Env(), notifyLoop(view(info), info[1].ToNumber().Uint32Value(),
                             info[2].ToNumber().Uint32Value(), cable.get()));
}

/* wordWake(segment, offset, cable): after a ring's tail was stored, clears the sleeper's word and
 * rings; pairs with EventLoop::beforePoll. */
static Napi::Value WordWake(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  uint8_t* base = segmentBase(info[0].ToNumber().Uint32Value(), &bytes);
  const uint64_t offset = uint64_t(info[1].ToNumber().DoubleValue());
  if (base == nullptr || offset + 4 > bytes) {
    throw Napi::RangeError::New(info.Env(), "wordWake: outside the segment");
  }
  uint32_t* word = reinterpret_cast<uint32_t*>(base + offset);
  fence(); /* SYNC[word-wake.fence] pairs with [loop.sleep-fence] */
  /* SYNC[word-wake.sleep] */
  if (load(word) == 0 || swap(word, 0) == 0) return Napi::Boolean::New(info.Env(), false);
  /* SYNC[word-wake.bell] */
  if (auto cable = cableOf(info[2].ToNumber().Uint32Value())) cable->ring();
  return Napi::Boolean::New(info.Env(), true);
}

static Napi::Value WallClockUs(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), double(wallClockUs()));
}

static Napi::Value UsableCores(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), usableCores());
}

void registerStg(Napi::Env env, Napi::Object exports) {
  exports.Set("stgOpen", Napi::Function::New(env, StgOpen));
  exports.Set("stgGrow", Napi::Function::New(env, StgGrow));
  exports.Set("stgClose", Napi::Function::New(env, StgClose));
  exports.Set("cableOpen", Napi::Function::New(env, CableOpen));
  exports.Set("cableClose", Napi::Function::New(env, CableClose));
  exports.Set("cableEnd", Napi::Function::New(env, CableEnd));
  exports.Set("cableDead", Napi::Function::New(env, CableDead));
  napi_add_env_cleanup_hook(env, closeCables, nullptr);
  exports.Set("pageClaim", Napi::Function::New(env, PageClaim));
  exports.Set("pageRelease", Napi::Function::New(env, PageRelease));
  exports.Set("pageSweep", Napi::Function::New(env, PageSweep));
  exports.Set("pagesUsed", Napi::Function::New(env, PagesUsed));
  exports.Set("stgWanted", Napi::Function::New(env, StgWanted));
  exports.Set("stgPages", Napi::Function::New(env, StgPages));
  exports.Set("memberNotify", Napi::Function::New(env, MemberNotify));
  exports.Set("wordWake", Napi::Function::New(env, WordWake));
  exports.Set("wallClockUs", Napi::Function::New(env, WallClockUs));
  exports.Set("usableCores", Napi::Function::New(env, UsableCores));
}

}  // namespace stpd
