/*
 * A thread's event loop among sleeping and waking peers: one EventLoop a JavaScript thread.
 *
 * Sources are places where work appears: a host's ready bitmap and event ring, or a director's
 * command rings. Before libuv blocks (uv_prepare) the loop polls for a bounded, adaptive while,
 * then says in every source's sleep word that it sleeps, looks once more, and only then blocks.
 * After libuv has polled (uv_check) it clears the sleep words, collects, and calls JavaScript.
 *
 * Invariant: the sleep word is set before every poll of libuv, also where uv_backend_timeout() is 0
 * (it is 0 too while the watcher queue is not empty, and libuv may still block then).
 *
 * Cables are watched here too: a byte only wakes, end-of-file is the peer's death.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <memory>
#include <unordered_map>
#include <vector>

#include "addon.h"
#include "segment.h"
#include "stg.h"

namespace stpd {

namespace {

/* What uv_check hands to JavaScript: pairs (source, index); index kRing says "look at the ring". */
constexpr uint32_t kRing = 0xffffffff;
constexpr uint32_t kPairsMax = 2048;
/* The word behind the pairs: JavaScript has something to do before it is given more work. */
constexpr uint32_t kSoon = kPairsMax * 2;
/* And the one behind it: it has something to do in the next turn of libuv, handed out as kNextTurn. */
constexpr uint32_t kLater = kPairsMax * 2 + 1;
constexpr uint32_t kNextTurn = 0xffffffff;
/* The descriptors of the loop are looked at this often during a poll, so neighbours do not starve. */
constexpr uint64_t kBackendEveryNs = 8'000;
constexpr uint32_t kBudgetStartNs = 4'000;
/* Who finds no place among the pollers asks again for so long. */
constexpr uint64_t kEnterNs = 3'000;
/* Where polls only miss (both sides on one core, say), they are tried again once in so many short
 * sleeps: there a poll takes from the peer the very time that it waits for. */
constexpr uint32_t kRestartEveryMax = 7;
/* A bell often brings its sleeper onto the core of who rang. Who polls there would keep it from the
 * very answer that it waits for, so it lets others run, first of all after so long. */
constexpr uint64_t kYieldFirstNs = 2'000;
/* Whoever had the core meanwhile was no peer of ours: sleep, which wakes up sooner than a poll gets
 * its turn, and do not try again for so many short sleeps. */
constexpr uint64_t kLostNs = 200'000;
constexpr uint32_t kRestartLost = 63;
/* After so many answers in a row that came out of a yield, the thread looks for another core; not
 * more often than this, since it may find none that is idle. */
constexpr uint32_t kSharedHits = 32;
constexpr uint64_t kMoveEveryNs = 5'000'000;
constexpr uint64_t kCoresEveryNs = 100'000'000;
/* Whose work came within this, or within the one before, has been active lately. */
constexpr uint64_t kLatelyNs = 10'000'000;
constexpr uint64_t kSafetyMs = 1000;
/* From the publication of work to the bell; more only if who rings has no core. */
constexpr int kBellMs = 1;
/* Reads of one cable in one turn of the loop. */
constexpr int kBellReads = 16;

/* In the place of a budget. */
constexpr uint64_t kDefault = UINT64_MAX;

struct Source {
  bool used = false;
  uint32_t* sleep = nullptr;
  uint32_t* summary = nullptr; /* null for a director's source */
  uint32_t* bits = nullptr;
  uint32_t summaryWords = 0, bitWords = 0;
  uint32_t* ringTail = nullptr;
  uint32_t ringSeen = 0;
  uint32_t* pollers = nullptr;
  stp_member* member = nullptr;
  /* Of the streams that have a budget of their own: by their ready index. */
  std::unordered_map<uint32_t, uint64_t> budgetsNs;
  /* The largest budget of all its open streams; kDefault: that of the thread. */
  uint64_t mostNs = kDefault;
};

struct EventLoop;

struct CableWatch {
  EventLoop* loop;
  uint32_t id;
  std::shared_ptr<Cable> cable;
  uv_poll_t poll;
};

struct EventLoop {
  Napi::Env env;
  Napi::FunctionReference onReady; /* (pairCount) */
  Napi::FunctionReference onCableEnd;
  Napi::Reference<Napi::Uint32Array> pairsRef;
  uint32_t* pairs = nullptr;
  uv_loop_t* loop = nullptr;
  /* Has libuv's descriptor in it: asking it costs half of asking that one; -1: none was free. */
  int glance = -1;
  uv_prepare_t prepare;
  uv_check_t check;
  uv_idle_t idle;
  uv_timer_t safety;
  std::vector<Source> sources;
  std::unordered_map<uint32_t, CableWatch*> watches;
  /* What a poll may take: now, for a stream without a budget of its own, and at most. */
  uint64_t budgetNs = 0, defaultNs = 0, budgetMaxNs = 0;
  /* The largest of who was active in this period, and in the one before. */
  uint64_t latelyNs = 0, beforeNs = 0, periodAt = 0;
  size_t ownBudgets = 0; /* streams that have one */
  uint64_t sleptAt = 0, backendAt = 0, coresSeenAt = 0;
  /* Until then an answer is on its way, and it is worth while to look for it. */
  uint64_t expectUntil = 0;
  uint32_t coresSeen = 0;
  bool sharesCore = false;
  uint32_t sharedHits = 0; /* answers in a row that came out of a yield */
  uint64_t movedAt = 0;
  /* Short sleeps until polling is tried again, and how many it will be the next time. */
  uint32_t restartIn = 0, restartEvery = 0;
  bool closing = false, armed = false, bell = false, more = false;
  /* Inside of loopWait: JavaScript called us, and its promises wait until it is done. */
  bool blocking = false;
  int openHandles = 0;
  napi_async_cleanup_hook_handle hook = nullptr;
  uint64_t safetyFirings = 0, pollHits = 0, pollMisses = 0;
  stp_director* director = nullptr; /* of a director's thread: one writer, this loop */

  explicit EventLoop(Napi::Env e) : env(e) {}
  ~EventLoop() {
    if (glance >= 0) close(glance);
  }

  bool ready() const {
    for (const Source& s : sources) {
      if (!s.used) continue;
      /* SYNC[loop.ring] pairs with [ring.tail] */
      if (s.ringTail != nullptr && load(s.ringTail) != s.ringSeen) return true;
      for (uint32_t i = 0; i < s.summaryWords; i++) {
        if (load(s.summary + i) != 0) return true; /* SYNC[loop.ready] pairs with [notify.summary] */
      }
    }
    return more;
  }

  void setSleep(uint32_t value) {
    for (Source& s : sources) {
      if (s.used && load(s.sleep) != value) swap(s.sleep, value);
    }
    fence();
  }

  uint32_t* pollers() const {
    for (const Source& s : sources) {
      if (s.used && s.pollers != nullptr) return s.pollers;
    }
    return nullptr;
  }

  /* Asked for at most every 100 ms: it costs a system call. */
  uint32_t cores(uint64_t now) {
    if (coresSeen == 0 || now - coresSeenAt > kCoresEveryNs) {
      coresSeen = usableCores();
      coresSeenAt = now;
    }
    return coresSeen;
  }

  /* A place among those who may poll at once, one less than there are cores; one more for who is
   * `expecting`. Who is just leaving makes room within a moment, so it is asked for a little while: a
   * sleep costs ten times more. */
  bool enterPoll(uint32_t* count, uint64_t now, bool expecting) {
    const int32_t most = int32_t(cores(now)) - 1;
    if (most < 1) return false;
    for (;;) {
      /* Advisory: a host that spoils it only changes who polls. */
      const int32_t others = int32_t(__atomic_fetch_add(count, 1, __ATOMIC_RELAXED));
      /* The director resets the count when a host dies: those who polled then leave it too low. */
      if (others < 0) __atomic_store_n(count, 1, __ATOMIC_RELAXED);
      if (others < most + (expecting ? 1 : 0)) return true;
      __atomic_fetch_sub(count, 1, __ATOMIC_RELAXED);
      for (int i = 0; i < 16; i++) {
        if (ready()) return false;
        relax();
      }
      if (nowNs() - now > kEnterNs) return false;
    }
  }

  /* libuv's own descriptors, looked at every kBackendEveryNs: its other users do not starve. */
  bool backendReady(uint64_t now) {
    if (now < backendAt) return false;
    backendAt = now + kBackendEveryNs;
    if (glance >= 0) {
      epoll_event event;
      return epoll_wait(glance, &event, 1, 0) > 0;
    }
    pollfd backend = {uv_backend_fd(loop), POLLIN, 0};
    return poll(&backend, 1, 0) > 0;
  }

  /* libuv's descriptor itself is never waited on here: that would take its edges away. */
  void openGlance() {
    glance = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event = {};
    event.events = EPOLLIN;
    if (glance < 0 || epoll_ctl(glance, EPOLL_CTL_ADD, uv_backend_fd(loop), &event) == 0) return;
    close(glance);
    glance = -1;
  }

  enum class Poll { found, missed, interrupted };

  /* Looks for work until it finds some, the budget ends, or libuv has something to do. Who is
   * `expecting` lets others run from the start: they may be those that answer. */
  Poll pollFor(uint64_t budget, bool expecting) {
    const int timeout = uv_backend_timeout(loop);
    if (timeout == 0) return Poll::interrupted;
    if (timeout > 0 && uint64_t(timeout) * 1'000'000 < budget) {
      budget = uint64_t(timeout) * 1'000'000;
    }
    uint32_t* count = pollers();
    if (count == nullptr) return Poll::interrupted;
    const uint64_t start = nowNs();
    if (!enterPoll(count, start, expecting)) return ready() ? Poll::found : Poll::missed;
    Poll outcome = Poll::missed;
    /* The peer that answered out of the last poll's yield shares this core. */
    uint64_t yieldAt = start + (sharesCore || expecting ? 0 : kYieldFirstNs);
    bool yielded = false;
    for (;;) {
      for (int i = 0; i < 8 && outcome != Poll::found; i++) {
        if (ready()) outcome = Poll::found;
        else if (!sharesCore) relax();
      }
      if (outcome == Poll::found) break;
      yielded = false;
      const uint64_t now = nowNs();
      if (now - start >= budget) break;
      if (backendReady(now)) {
        outcome = Poll::interrupted;
        break;
      }
      if (now >= yieldAt) {
        __atomic_fetch_sub(count, 1, __ATOMIC_RELAXED);
        sched_yield();
        __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
        yielded = true;
        const uint64_t back = nowNs();
        yieldAt = back + kBackendEveryNs;
        if (back - now > kLostNs && !expecting) {
          outcome = ready() ? Poll::found : Poll::missed;
          budgetNs = 0;
          restartIn = restartEvery = kRestartLost;
          break;
        }
      }
    }
    __atomic_fetch_sub(count, 1, __ATOMIC_RELAXED);
    sharesCore = yielded && outcome == Poll::found;
    if (!sharesCore) sharedHits = 0;
    else if (++sharedHits >= kSharedHits) leaveCore();
    return outcome;
  }

  /* The peer that answers out of our yields shares this core, each answer at the price of two
   * switches, and the kernel leaves it at that for long: its balancing counts who waits, and we wait
   * in turns. So this thread moves: it gives up the core for a moment, and is put elsewhere. */
  void leaveCore() {
    sharedHits = 0;
    const uint64_t now = nowNs();
    if (now - movedAt < kMoveEveryNs) return;
    movedAt = now;
    cpu_set_t mine, others;
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof mine, &mine) != 0) return;
    others = mine;
    CPU_CLR(here, &others);
    if (CPU_COUNT(&others) == 0) return;
    if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof mine, &mine);
  }

  /* How long from now on an answer is expected. */
  uint64_t expectedFor() {
    if (expectUntil == 0) return 0;
    const uint64_t now = nowNs();
    if (now < expectUntil) return expectUntil - now;
    return expectUntil = 0;
  }

  /* Work that was there already, or that a poll within the budget has found. */
  bool findWork() {
    if (ready()) return true;
    if (budgetMaxNs == 0) return false;
    const uint64_t expected = expectedFor();
    if (budgetNs == 0 && expected == 0) return false;
    const bool expecting = expected > budgetNs;
    const Poll outcome = pollFor(expecting ? expected : budgetNs, expecting);
    if (outcome == Poll::found) {
      pollHits++;
      tally(&stp_member::poll_hits);
    } else if (outcome == Poll::missed) {
      pollMisses++;
      tally(&stp_member::poll_misses);
    }
    if (!expecting) learn(outcome);
    return outcome == Poll::found;
  }

  /* Hits double the budget, misses halve it. */
  void learn(Poll outcome) {
    if (outcome == Poll::found) {
      restartEvery = 0;
      budgetNs = budgetNs * 2 > budgetMaxNs ? budgetMaxNs : budgetNs * 2;
    } else if (outcome == Poll::missed) {
      budgetNs = budgetNs / 2 < kBudgetStartNs ? 0 : budgetNs / 2;
      if (budgetNs != 0) return;
      restartIn = restartEvery;
      restartEvery =
          restartEvery * 2 + 1 > kRestartEveryMax ? kRestartEveryMax : restartEvery * 2 + 1;
    }
  }

  /* What JavaScript put off comes before what the array brings next: a callback of its own, since
   * ticks and microtasks of one are done before the next begins. */
  void serveSoon() {
    if (pairs[kSoon] != 0) call(onReady, 0);
  }

  /* What JavaScript put off to the next turn. Only from where that has begun, or where nothing is left
   * of this one: no immediate, timer or handle to be closed, so nobody can tell the difference. */
  void serveLater() {
    if (pairs[kLater] != 0) call(onReady, kNextTurn);
  }

  void beforePoll() {
    serveSoon();
    serveLater();
    countTurn();
    backendAt = nowNs() + kBackendEveryNs;
    /* As long as libuv has nothing to do, work is served from here: a turn of libuv, with its system
     * call, for each message would cost more than the message. */
    while (findWork() && budgetMaxNs > 0 && uv_backend_timeout(loop) != 0) {
      if (!collect()) return;
      uv_update_time(loop); /* timers count from now */
      if (uv_backend_timeout(loop) == 0 || backendReady(nowNs())) break;
      serveLater();
    }
    bool work = ready() || pairs[kLater] != 0;
    armed = false;
    if (!work) {
      /* Sleep word, full barrier, then the work words; pairs with notifyLoop and wordWake, which
       * publish work and then exchange the sleep word. */
      setSleep(1); /* SYNC[loop.sleep] SYNC[loop.sleep-fence] pairs with [notify.sleep] */
      armed = true;
      sleptAt = nowNs();
      work = ready(); /* SYNC[loop.sleep-look] */
    }
    if (work) uv_idle_start(&idle, [](uv_idle_t*) {}); /* forces a zero time-out */
  }

  void afterPoll() {
    uv_idle_stop(&idle);
    if (armed) {
      const uint64_t slept = nowNs() - sleptAt;
      const bool missed =
          slept >= kSafetyMs * 1'000'000 * 9 / 10 && !bell && ready() && !bellIsComing();
      setSleep(0); /* SYNC[loop.awake] SYNC[loop.awake-fence] */
      const bool work = ready();
      /* A sleep that a poll would have bridged makes the next poll worth while. */
      if (work && slept < budgetMaxNs && budgetNs < kBudgetStartNs && restartIn-- == 0) {
        restartIn = 0;
        budgetNs = budgetMaxNs; /* the peer may have to wake up first */
      }
      if (missed) {
        safetyFirings++;
        tally(&stp_member::safety_firings);
      }
    }
    bell = false;
    serveSoon();
    collect();
  }

  /* For display. Worker threads of the host count here too. */
  void tally(uint32_t stp_member::*counter) {
    for (Source& s : sources) {
      if (s.used && s.member != nullptr) {
        __atomic_fetch_add(&(s.member->*counter), 1, __ATOMIC_RELAXED);
      }
    }
  }

  void countTurn() {
    if (director == nullptr) return;
    director->loops++;
    director->poll_hits = uint32_t(pollHits);
    director->poll_misses = uint32_t(pollMisses);
    director->safety_firings = uint32_t(safetyFirings);
  }

  /* The safety timer has found work and no bell: somebody may be just about to ring. */
  bool bellIsComing() const {
    pollfd backend = {uv_backend_fd(loop), POLLIN, 0};
    return poll(&backend, 1, kBellMs) > 0;
  }

  /* False where the thread is ending. */
  bool collect() {
    if (!ready()) return true;
    more = false;
    if (ownBudgets != 0) age();
    uint32_t count = 0;
    for (uint32_t index = 0; index < sources.size(); index++) {
      Source& s = sources[index];
      if (!s.used) continue;
      if (s.ringTail != nullptr) {
        const uint32_t tail = load(s.ringTail); /* SYNC[collect.ring] */
        if (tail != s.ringSeen && count < kPairsMax) {
          s.ringSeen = tail;
          pairs[count * 2] = index;
          pairs[count * 2 + 1] = kRing;
          count++;
          if (ownBudgets != 0) active(s.mostNs);
        }
      }
      for (uint32_t i = 0; i < s.summaryWords; i++) {
        if (load(s.summary + i) == 0) continue;
        /* SYNC[collect.summary] before the bits below it; pairs with [notify.summary] */
        uint32_t above = swap(s.summary + i, 0);
        while (above != 0) {
          const uint32_t word = i * 32 + uint32_t(__builtin_ctz(above));
          if (count + 32 > kPairsMax) { /* the rest stays for the next turn */
            __atomic_fetch_or(s.summary + i, above, __ATOMIC_SEQ_CST);
            more = true;
            break;
          }
          above &= above - 1;
          if (word >= s.bitWords) continue;
          uint32_t set = swap(s.bits + word, 0); /* SYNC[collect.bits] */
          while (set != 0) {
            pairs[count * 2] = index;
            const uint32_t stream = word * 32 + uint32_t(__builtin_ctz(set));
            pairs[count * 2 + 1] = stream;
            count++;
            if (ownBudgets != 0) active(budgetOf(s, stream));
            set &= set - 1;
          }
        }
        if (more) break;
      }
      if (more) break;
    }
    if (count != 0 && ownBudgets != 0) settleBudget();
    return count == 0 || call(onReady, count);
  }

  // --- whose budget it is -----------------------------------------------------------------------

  uint64_t budgetOf(const Source& s, uint32_t stream) const {
    const auto own = s.budgetsNs.find(stream);
    return own == s.budgetsNs.end() ? kDefault : own->second;
  }

  /* Work has come that has this budget. */
  void active(uint64_t ns) {
    if (ns == kDefault) ns = defaultNs;
    if (ns > latelyNs) latelyNs = ns;
  }

  void age() {
    const uint64_t now = nowNs();
    if (now - periodAt <= kLatelyNs) return;
    beforeNs = now - periodAt > 2 * kLatelyNs ? 0 : latelyNs;
    latelyNs = 0;
    periodAt = now;
  }

  /* What the loop may take for a poll from now on. As long as no stream has a budget of its own, the
   * thread's; else the largest of who was active lately, and no more than any open stream has. */
  void settleBudget() {
    budgetMaxNs = defaultNs;
    if (ownBudgets != 0) {
      budgetMaxNs = latelyNs > beforeNs ? latelyNs : beforeNs;
      uint64_t mostNs = 0;
      for (const Source& s : sources) {
        if (!s.used) continue;
        const uint64_t ns = s.mostNs == kDefault ? defaultNs : s.mostNs;
        if (ns > mostNs) mostNs = ns;
      }
      if (budgetMaxNs > mostNs) budgetMaxNs = mostNs;
    }
    if (budgetNs > budgetMaxNs) budgetNs = budgetMaxNs;
  }

  /* kDefault: it has none of its own any more. */
  void setBudget(Source& s, uint32_t stream, uint64_t ns) {
    if (ownBudgets == 0) {
      latelyNs = defaultNs; /* who was active before had the thread's */
      beforeNs = 0;
      periodAt = nowNs();
    }
    ownBudgets -= s.budgetsNs.erase(stream);
    if (ns != kDefault) ownBudgets += s.budgetsNs.emplace(stream, ns).second;
  }

  /* Not the C++ wrappers: they end the process when a call fails because the thread is ending. */
  bool call(Napi::FunctionReference& function, uint32_t argument) {
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return false;
    napi_value callback, receiver, value, result, thrown;
    napi_status status = napi_generic_failure;
    if (napi_get_reference_value(env, function, &callback) == napi_ok &&
        napi_get_global(env, &receiver) == napi_ok &&
        napi_create_uint32(env, argument, &value) == napi_ok) {
      status = blocking
                   ? napi_call_function(env, receiver, callback, 1, &value, &result)
                   : napi_make_callback(env, nullptr, receiver, callback, 1, &value, &result);
      if (status == napi_pending_exception &&
          napi_get_and_clear_last_exception(env, &thrown) == napi_ok) {
        napi_fatal_exception(env, thrown);
        status = napi_ok;
      }
    }
    napi_close_handle_scope(env, scope);
    return status == napi_ok;
  }
};

/* The loop of the calling thread; the environment's clean-up hook takes it apart. */
thread_local EventLoop* current = nullptr;

void onHandleClosed(EventLoop* loop) {
  if (--loop->openHandles != 0 || !loop->closing) return;
  /* Node goes on with tearing the thread down only now that libuv has let go of every handle. */
  napi_remove_async_cleanup_hook(loop->hook);
  delete loop;
}

void endWatch(CableWatch* watch) {
  watch->loop->watches.erase(watch->id);
  uv_poll_stop(&watch->poll);
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), [](uv_handle_t* handle) {
    auto* closed = static_cast<CableWatch*>(handle->data);
    EventLoop* loop = closed->loop;
    delete closed;
    onHandleClosed(loop);
  });
}

void readCable(CableWatch* watch, bool broken) {
  EventLoop* loop = watch->loop;
  loop->bell = true;
  char bytes[256];
  for (int turn = 0;; turn++) {
    if (turn == kBellReads) return; /* a peer that rings without end has its next turn later */
    const ssize_t got = recv(watch->cable->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got > 0) {
      if (size_t(got) < sizeof(bytes)) return;
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && !broken) return;
    break;
  }
  /* End-of-file or a broken socket: nobody is at the other end any more. */
  watch->cable->dead.store(true);
  const uint32_t id = watch->id;
  endWatch(watch);
  loop->call(loop->onCableEnd, id);
}

void onCable(uv_poll_t* handle, int status, int) {
  readCable(static_cast<CableWatch*>(handle->data), status != 0);
}

void closeLoop(napi_async_cleanup_hook_handle, void* data) {
  auto* loop = static_cast<EventLoop*>(data);
  if (loop->closing) return;
  loop->closing = true;
  current = nullptr;
  auto closed = [](uv_handle_t* handle) { onHandleClosed(static_cast<EventLoop*>(handle->data)); };
  uv_close(reinterpret_cast<uv_handle_t*>(&loop->prepare), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&loop->check), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&loop->idle), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&loop->safety), closed);
  std::vector<CableWatch*> watches;
  for (auto& entry : loop->watches) watches.push_back(entry.second);
  for (CableWatch* watch : watches) endWatch(watch);
  loop->setSleep(0);
  loop->sources.clear();
  loop->onReady.Reset();
  loop->onCableEnd.Reset();
  loop->pairsRef.Reset();
}

EventLoop& loopOf(const Napi::CallbackInfo& info) {
  if (current == nullptr) throw Napi::Error::New(info.Env(), "loopOpen was not called on this thread");
  return *current;
}

/* loopOpen(onReady, onCableEnd, pairs: Uint32Array of 4098) */
void LoopOpen(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (current != nullptr) throw Napi::Error::New(env, "loopOpen: this thread has its loop already");
  auto pairs = info[2].As<Napi::Uint32Array>();
  if (pairs.ElementLength() <= kLater) throw Napi::RangeError::New(env, "loopOpen: pairs");
  auto* loop = new EventLoop(env);
  loop->onReady = Napi::Persistent(info[0].As<Napi::Function>());
  loop->onCableEnd = Napi::Persistent(info[1].As<Napi::Function>());
  loop->pairsRef = Napi::Reference<Napi::Uint32Array>::New(pairs, 1);
  loop->pairs = pairs.Data();
  if (napi_get_uv_event_loop(env, &loop->loop) != napi_ok) throw Napi::Error::New(env);
  loop->openGlance();
  uv_prepare_init(loop->loop, &loop->prepare);
  uv_check_init(loop->loop, &loop->check);
  uv_idle_init(loop->loop, &loop->idle);
  uv_timer_init(loop->loop, &loop->safety);
  loop->openHandles = 4;
  loop->prepare.data = loop->check.data = loop->idle.data = loop->safety.data = loop;
  uv_prepare_start(&loop->prepare,
                   [](uv_prepare_t* h) { static_cast<EventLoop*>(h->data)->beforePoll(); });
  uv_check_start(&loop->check, [](uv_check_t* h) { static_cast<EventLoop*>(h->data)->afterPoll(); });
  uv_unref(reinterpret_cast<uv_handle_t*>(&loop->prepare));
  uv_unref(reinterpret_cast<uv_handle_t*>(&loop->check));
  uv_unref(reinterpret_cast<uv_handle_t*>(&loop->idle));
  uv_unref(reinterpret_cast<uv_handle_t*>(&loop->safety));
  current = loop;
  napi_add_async_cleanup_hook(env, closeLoop, loop, &loop->hook);
}

/* loopSource({segment, sleep, summary?, summaryBytes?, bits?, bitsBytes?, ringTail, ringSeen,
 * pollers?}): byte offsets in the segment; returns the source's number. */
Napi::Value LoopSource(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  EventLoop& loop = loopOf(info);
  const Napi::Object from = info[0].As<Napi::Object>();
  uint64_t bytes = 0;
  uint8_t* base = segmentBase(from.Get("segment").ToNumber().Uint32Value(), &bytes);
  auto word = [&](const char* name, uint64_t span) -> uint32_t* {
    if (!from.Has(name)) return nullptr;
    const double offset = from.Get(name).ToNumber().DoubleValue();
    if (base == nullptr || !(offset >= 0) || offset + double(span) > double(bytes)) {
      throw Napi::RangeError::New(env, std::string("loopSource: ") + name);
    }
    return reinterpret_cast<uint32_t*>(base + uint64_t(offset));
  };
  auto length = [&](const char* name) -> uint64_t {
    return from.Has(name) ? uint64_t(from.Get(name).ToNumber().DoubleValue()) : 0;
  };
  Source source;
  source.used = true;
  source.sleep = word("sleep", 4);
  source.summary = word("summary", length("summaryBytes"));
  source.bits = word("bits", length("bitsBytes"));
  source.summaryWords = source.summary == nullptr ? 0 : uint32_t(length("summaryBytes") / 4);
  source.bitWords = source.bits == nullptr ? 0 : uint32_t(length("bitsBytes") / 4);
  source.ringTail = word("ringTail", 4);
  source.ringSeen = uint32_t(length("ringSeen"));
  source.pollers = word("pollers", 4);
  source.member = reinterpret_cast<stp_member*>(word("member", sizeof(stp_member)));
  if (source.sleep == nullptr) throw Napi::RangeError::New(env, "loopSource: sleep");
  uint32_t index = 0;
  while (index < loop.sources.size() && loop.sources[index].used) index++;
  if (index == loop.sources.size()) loop.sources.emplace_back();
  loop.sources[index] = source;
  return Napi::Number::New(env, index);
}

void LoopSourceEnd(const Napi::CallbackInfo& info) {
  if (current == nullptr) return;
  const uint32_t index = info[0].ToNumber().Uint32Value();
  if (index >= current->sources.size() || !current->sources[index].used) return;
  Source& source = current->sources[index];
  current->ownBudgets -= source.budgetsNs.size();
  source = Source();
  current->settleBudget();
}

/* loopDirector(segment, offset): the loop counts in the `director` record there from now on. */
void LoopDirector(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  EventLoop& loop = loopOf(info);
  uint64_t bytes = 0;
  uint8_t* base = segmentBase(info[0].ToNumber().Uint32Value(), &bytes);
  const double offset = info[1].ToNumber().DoubleValue();
  if (base == nullptr || !(offset >= 0) || offset + double(sizeof(stp_director)) > double(bytes)) {
    throw Napi::RangeError::New(env, "loopDirector: outside the segment");
  }
  loop.director = reinterpret_cast<stp_director*>(base + uint64_t(offset));
  loop.director->thread = uint32_t(syscall(SYS_gettid));
}

/* loopPolling(budgetMaxUs): for streams without a budget of their own; 0 never polls. */
void LoopPolling(const Napi::CallbackInfo& info) {
  EventLoop& loop = loopOf(info);
  loop.defaultNs = uint64_t(info[0].ToNumber().Uint32Value()) * 1000;
  loop.settleBudget();
}

/* A budget in microseconds; less than 0: the thread's. */
uint64_t budgetNsOf(const Napi::CallbackInfo& info, size_t index) {
  const int64_t us = info[index].ToNumber().Int64Value();
  return us < 0 ? kDefault : uint64_t(us) * 1000;
}

/* loopSpin(source, stream, us, mostUs): the budget of a stream, by its ready index, and the largest
 * one of the source's open streams. */
void LoopSpin(const Napi::CallbackInfo& info) {
  EventLoop& loop = loopOf(info);
  const uint32_t index = info[0].ToNumber().Uint32Value();
  if (index >= loop.sources.size() || !loop.sources[index].used) return;
  loop.setBudget(loop.sources[index], info[1].ToNumber().Uint32Value(), budgetNsOf(info, 2));
  loop.sources[index].mostNs = budgetNsOf(info, 3);
  loop.settleBudget();
}

/* loopExpect(us): for so long from now an answer is on its way: the loop looks for it before it
 * sleeps, whatever it has learned, unless it never polls. */
void LoopExpect(const Napi::CallbackInfo& info) {
  EventLoop& loop = loopOf(info);
  const uint64_t until = nowNs() + uint64_t(info[0].ToNumber().Uint32Value()) * 1000;
  if (until > loop.expectUntil) loop.expectUntil = until;
}

/* The safety timer runs while `active`. */
void LoopSafety(const Napi::CallbackInfo& info) {
  EventLoop& loop = loopOf(info);
  if (info[0].ToBoolean().Value()) {
    uv_timer_start(&loop.safety, [](uv_timer_t*) {}, kSafetyMs, kSafetyMs);
  } else {
    uv_timer_stop(&loop.safety);
  }
}

/* loopCable(cable): watches it until it ends or loopCableEnd. */
void LoopCable(const Napi::CallbackInfo& info) {
  EventLoop& loop = loopOf(info);
  const uint32_t id = info[0].ToNumber().Uint32Value();
  auto cable = cableOf(id);
  if (cable == nullptr) throw Napi::RangeError::New(info.Env(), "loopCable: no such cable");
  auto* watch = new CableWatch{&loop, id, cable, {}};
  const int failed = uv_poll_init(loop.loop, &watch->poll, cable->fd);
  if (failed != 0) {
    delete watch;
    throwSystemError(info.Env(), -failed, "uv_poll_init", "");
  }
  watch->poll.data = watch;
  loop.openHandles++;
  loop.watches[id] = watch;
  uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, onCable);
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll));
}

void LoopCableEnd(const Napi::CallbackInfo& info) {
  if (current == nullptr) return;
  auto found = current->watches.find(info[0].ToNumber().Uint32Value());
  if (found != current->watches.end()) endWatch(found->second);
}

/* loopWait(timeoutMs, entries: Int32Array of fd, events, revents, spinUs): one turn of the loop
 * without libuv, for a thread that blocks in JavaScript. Returns after the first of: work of its
 * sources (the callbacks have run then), an entry that is ready, the time. Works without a loop
 * too. Returns how many entries are ready. */
Napi::Value LoopWait(const Napi::CallbackInfo& info) {
  const int timeoutMs = int(wholeNumber(info, 0, "timeoutMs", 1000));
  if (!info[1].IsTypedArray()) throw Napi::TypeError::New(info.Env(), "entries: no Int32Array");
  auto entries = info[1].As<Napi::Int32Array>();
  const size_t count = entries.ElementLength() / 3;
  const uint64_t spinNs = wholeNumber(info, 2, "spinUs", 1'000'000) * 1000;
  EventLoop* loop = current;
  std::vector<pollfd> fds;
  for (size_t i = 0; i < count; i++) {
    fds.push_back({entries[i * 3], short(entries[i * 3 + 1]), 0});
  }
  std::vector<uint32_t> ids;
  if (loop != nullptr) {
    for (const auto& entry : loop->watches) {
      ids.push_back(entry.first);
      fds.push_back({entry.second->cable->fd, POLLIN | POLLRDHUP, 0});
    }
  }
  bool work = loop != nullptr && loop->ready();
  int found = 0;
  const uint64_t start = nowNs();
  for (uint64_t now = start, at = 0; !work && found == 0 && now - start < spinNs; now = nowNs()) {
    for (int i = 0; i < 8 && !work; i++) {
      work = loop != nullptr && loop->ready();
      relax();
    }
    if (now < at) continue;
    found = poll(fds.data(), nfds_t(fds.size()), 0);
    at = now + kBackendEveryNs;
  }
  if (found <= 0) {
    /* SYNC: as in beforePoll: sleep word, full barrier, then the work words. */
    if (loop != nullptr && !work) {
      loop->setSleep(1);
      work = loop->ready();
    }
    poll(fds.data(), nfds_t(fds.size()), work ? 0 : timeoutMs);
    if (loop != nullptr) loop->setSleep(0);
  }
  uint32_t ready = 0;
  for (size_t i = 0; i < count; i++) {
    entries[i * 3 + 2] = fds[i].revents;
    if (fds[i].revents != 0) ready++;
  }
  if (loop != nullptr) {
    loop->blocking = true;
    for (size_t i = 0; i < ids.size(); i++) {
      const short revents = fds[count + i].revents;
      if (revents == 0) continue;
      const auto watch = loop->watches.find(ids[i]); /* an earlier one's end may have ended it */
      if (watch != loop->watches.end()) readCable(watch->second, (revents & ~POLLIN) != 0);
    }
    loop->bell = false;
    loop->collect();
    loop->blocking = false;
  }
  return Napi::Number::New(info.Env(), ready);
}

Napi::Value LoopCounters(const Napi::CallbackInfo& info) {
  EventLoop& loop = loopOf(info);
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("safetyFirings", double(loop.safetyFirings));
  out.Set("pollHits", double(loop.pollHits));
  out.Set("pollMisses", double(loop.pollMisses));
  return out;
}

}  // namespace

void registerEventLoop(Napi::Env env, Napi::Object exports) {
  exports.Set("loopOpen", Napi::Function::New(env, LoopOpen));
  exports.Set("loopSource", Napi::Function::New(env, LoopSource));
  exports.Set("loopSourceEnd", Napi::Function::New(env, LoopSourceEnd));
  exports.Set("loopDirector", Napi::Function::New(env, LoopDirector));
  exports.Set("loopExpect", Napi::Function::New(env, LoopExpect));
  exports.Set("loopPolling", Napi::Function::New(env, LoopPolling));
  exports.Set("loopSpin", Napi::Function::New(env, LoopSpin));
  exports.Set("loopSafety", Napi::Function::New(env, LoopSafety));
  exports.Set("loopCable", Napi::Function::New(env, LoopCable));
  exports.Set("loopCableEnd", Napi::Function::New(env, LoopCableEnd));
  exports.Set("loopWait", Napi::Function::New(env, LoopWait));
  exports.Set("loopCounters", Napi::Function::New(env, LoopCounters));
}

}  // namespace stpd
