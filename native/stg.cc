#include "stg.h"

#include <errno.h>
#include <linux/futex.h>
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

/* One eighth of the pages is kept for connections that hold none. */
static uint32_t reservedPages(const StgView& stg) { return stg.pageCount / 8; }

int64_t claimPage(const StgView& stg, uint32_t ownerWord, uint32_t hint, bool first) {
  const uint32_t claimed = loadRelaxed(&stg.header()->pages_claimed);
  if (!first && claimed + reservedPages(stg) >= stg.pageCount) return -1;
  uint32_t page = hint % stg.pageCount;
  for (uint32_t tried = 0; tried < stg.pageCount; tried++) {
    uint32_t* word = stg.owner(page);
    if (loadRelaxed(word) == STP_OWNER_FREE && cas(word, STP_OWNER_FREE, ownerWord)) {
      __atomic_fetch_add(&stg.header()->pages_claimed, 1, __ATOMIC_RELAXED);
      return page;
    }
    if (++page == stg.pageCount) page = 0;
  }
  return -1;
}

bool releasePage(const StgView& stg, uint32_t page, uint32_t ownerWord) {
  if (page >= stg.pageCount || !cas(stg.owner(page), ownerWord, STP_OWNER_FREE)) return false;
  __atomic_fetch_sub(&stg.header()->pages_claimed, 1, __ATOMIC_RELAXED);
  return true;
}

/* ---- waking ---------------------------------------------------------------------------------- */

/* SYNC: the bit, then the summary, then the sleep word; pairs with EventLoop::arm, which stores the
 * sleep word and then reads summary and bits. Either side sees the other. */
bool notifyLoop(const StgView& stg, uint32_t member, uint32_t ready, Cable* cable) {
  if (member >= stg.memberCount || ready >= stg.connectionCount * 2) return false;
  const uint32_t index = ready / 32;
  uint32_t* word = stg.bits(member) + index;
  uint32_t* above = stg.summary(member) + index / 32;
  const uint32_t bit = 1u << (ready % 32), aboveBit = 1u << (index % 32);
  if ((load(word) & bit) == 0) __atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST);
  if ((load(above) & aboveBit) == 0) __atomic_fetch_or(above, aboveBit, __ATOMIC_SEQ_CST);
  fence();
  uint32_t* sleep = &stg.member(member)->sleep;
  if (load(sleep) == 0 || swap(sleep, 0) == 0) return false;
  if (cable != nullptr) cable->ring();
  return true;
}

/* ---- board lock ------------------------------------------------------------------------------ */

/* A holder that died or was stopped delays nobody longer than this. Stealing is harmless: stream
 * pages have one owner anyway, the lock only arbitrates the board. */
static constexpr uint64_t kStealNs = 10'000'000;
/* An event loop tries for about one 64 KiB copy, then comes back on its next turn. */
static constexpr uint64_t kLoopTryNs = 5'000;

static thread_local uint32_t lockGeneration = 0;

/* A thread waits no longer than this even where the word never stands still. */
static constexpr uint64_t kThreadWaitNs = 5 * kStealNs;

/* Since when this thread has seen a board held with one word: for each board, because an event loop
 * comes back to several in turn. */
struct Suspicion {
  uint32_t word;
  uint64_t since;
};
static thread_local std::unordered_map<stp_board*, Suspicion> suspicions;

BoardLock::BoardLock(const StgView& stg, uint32_t board, uint32_t identity, Wait wait)
    : board_(stg.board(board)) {
  lockGeneration = (lockGeneration + 1) & 0xffff;
  word_ = (identity << 16) | lockGeneration;
  if (cas(&board_->lock, 0, word_)) {
    held_ = true;
    if (!suspicions.empty()) suspicions.erase(board_);
    return;
  }
  const uint64_t start = nowNs();
  Suspicion& suspicion = suspicions.try_emplace(board_, Suspicion{0, 0}).first->second;
  for (;;) {
    const uint32_t seen = load(&board_->lock);
    if (seen == 0) {
      if (cas(&board_->lock, 0, word_)) break;
      continue;
    }
    const uint64_t now = nowNs();
    if (suspicion.word != seen) {
      suspicion = {seen, now};
    } else if (now - suspicion.since >= kStealNs) {
      if (cas(&board_->lock, seen, word_)) {
        board_->steals++;
        break;
      }
      continue;
    }
    if (wait == Wait::loop && now - start >= kLoopTryNs) return;
    if (now - start >= kThreadWaitNs) break; /* goes on without: it only arbitrates */
    for (int i = 0; i < 16; i++) relax();
  }
  suspicions.erase(board_);
  held_ = true;
  board_->contended++;
}

void BoardLock::account(uint64_t bytes) {
  board_->accesses++;
  board_->bytes += bytes;
}

BoardLock::~BoardLock() {
  /* Fails if it was stolen: then it is not ours to free. */
  if (held_) cas(&board_->lock, word_, 0);
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
  view->boardCount = uint32_t(number(shape, "boardCount"));
  view->boardBytes = number(shape, "boardBytes");
  view->connectionCount = uint32_t(number(shape, "connectionCount"));
  view->memberCount = uint32_t(number(shape, "memberCount"));
  view->pageCount = uint32_t(number(shape, "pageCount"));
  view->boards = number(shape, "boards");
  view->members = number(shape, "members");
  view->readySummary = number(shape, "readySummary");
  view->readySummaryBytes = number(shape, "readySummaryBytes");
  view->readyBits = number(shape, "readyBits");
  view->readyBitsBytes = number(shape, "readyBitsBytes");
  view->connections = number(shape, "connections");
  view->owners = number(shape, "owners");
  view->memory = number(shape, "memory");
  const bool fits =
      view->boardCount > 0 && view->pageCount > 0 && view->pageCount <= (1u << 30) &&
      view->boards + uint64_t(view->boardCount) * sizeof(stp_board) <= view->members &&
      view->members + uint64_t(view->memberCount) * sizeof(stp_member) <= view->readySummary &&
      view->readySummary + view->memberCount * view->readySummaryBytes <= view->readyBits &&
      view->readyBits + view->memberCount * view->readyBitsBytes <= view->connections &&
      view->connections + uint64_t(view->connectionCount) * sizeof(stp_connection) <=
          view->owners &&
      view->owners + uint64_t(view->pageCount) * 4 <= view->memory &&
      view->memory + view->boardCount * view->boardBytes <= bytes &&
      uint64_t(view->pageCount) * STP_PAGE_BYTES == view->boardCount * view->boardBytes &&
      view->readyBitsBytes * 8 >= uint64_t(view->connectionCount) * 2 &&
      view->readySummaryBytes * 8 >= view->readyBitsBytes / 4;
  if (!fits) throw Napi::RangeError::New(env, "stgOpen: the geometry contradicts itself");
  std::lock_guard<std::mutex> guard(tableMutex);
  const int64_t id = freeStgNumber();
  if (id < 0) throwSystemError(env, ENFILE, "stgOpen", "too many STGs are open in this process");
  view->id = uint32_t(id);
  stgs[id].store(view.release(), std::memory_order_release);
  return Napi::Number::New(env, double(id));
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
  const int64_t page = claimPage(view(info), info[1].ToNumber().Uint32Value(),
                                 info[2].ToNumber().Uint32Value(), true);
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
  for (uint32_t page = 0; page < stg.pageCount; page++) {
    if (loadRelaxed(stg.owner(page)) == owner && releasePage(stg, page, owner)) freed++;
  }
  return Napi::Number::New(info.Env(), freed);
}

/* pagesUsed(stg, counts): pages with an owner; counts[board] if an array is given. Corrects the
 * advisory counter, so only the director may call it while hosts are attached. */
static Napi::Value PagesUsed(const Napi::CallbackInfo& info) {
  const StgView& stg = view(info);
  std::unique_ptr<uint32_t[]> boards(new uint32_t[stg.boardCount]());
  uint32_t used = 0;
  for (uint32_t page = 0; page < stg.pageCount; page++) {
    if (loadRelaxed(stg.owner(page)) != STP_OWNER_FREE) {
      used++;
      boards[stg.boardOf(page)]++;
    }
  }
  __atomic_store_n(&stg.header()->pages_claimed, used, __ATOMIC_RELAXED);
  Napi::Array counts = Napi::Array::New(info.Env(), stg.boardCount);
  for (uint32_t i = 0; i < stg.boardCount; i++) counts[i] = Napi::Number::New(info.Env(), boards[i]);
  return counts;
}

/* memberNotify(stg, member, ready, cable): used by the director for a host that is not its own. */
static Napi::Value MemberNotify(const Napi::CallbackInfo& info) {
  auto cable = cableOf(info[3].ToNumber().Uint32Value());
  return Napi::Boolean::New(
      info.Env(), notifyLoop(view(info), info[1].ToNumber().Uint32Value(),
                             info[2].ToNumber().Uint32Value(), cable.get()));
}

/* wordWake(segment, offset, cable): SYNC: after a release store to a ring's tail, clears the
 * sleeper's word and rings; pairs with EventLoop::arm. */
static Napi::Value WordWake(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  uint8_t* base = segmentBase(info[0].ToNumber().Uint32Value(), &bytes);
  const uint64_t offset = uint64_t(info[1].ToNumber().DoubleValue());
  if (base == nullptr || offset + 4 > bytes) {
    throw Napi::RangeError::New(info.Env(), "wordWake: outside the segment");
  }
  uint32_t* word = reinterpret_cast<uint32_t*>(base + offset);
  fence();
  if (load(word) == 0 || swap(word, 0) == 0) return Napi::Boolean::New(info.Env(), false);
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
  exports.Set("stgClose", Napi::Function::New(env, StgClose));
  exports.Set("cableOpen", Napi::Function::New(env, CableOpen));
  exports.Set("cableClose", Napi::Function::New(env, CableClose));
  exports.Set("cableEnd", Napi::Function::New(env, CableEnd));
  napi_add_env_cleanup_hook(env, closeCables, nullptr);
  exports.Set("pageClaim", Napi::Function::New(env, PageClaim));
  exports.Set("pageRelease", Napi::Function::New(env, PageRelease));
  exports.Set("pageSweep", Napi::Function::New(env, PageSweep));
  exports.Set("pagesUsed", Napi::Function::New(env, PagesUsed));
  exports.Set("memberNotify", Napi::Function::New(env, MemberNotify));
  exports.Set("wordWake", Napi::Function::New(env, WordWake));
  exports.Set("wallClockUs", Napi::Function::New(env, WallClockUs));
  exports.Set("usableCores", Napi::Function::New(env, UsableCores));
}

}  // namespace stpd
