#include "page_ring.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "copy.h"

namespace stpd {

static constexpr uint32_t kEntries = STP_PAGE_LIST_ENTRIES;
static constexpr uint32_t kWindow = STP_WINDOW_BYTES;
static_assert((kWindow & (kWindow - 1)) == 0, "the window divides 2^32");

/* How long a blocking caller looks before it sleeps: about one wake-up from idle each way. */
static constexpr int64_t kSpinNs = 50'000;
/* A producer that waits is woken when so much is free, or when the consumer goes to sleep: waking
 * it for every page would cost more than the page. */
static constexpr uint32_t kWakeUsed = kWindow / 2;
/* An event loop that is awake looks for room: it is told of each page. To it that costs a turn and no
 * bell, and a wait for half of the window outlasts its poll, so that it would sleep, and be rung. */
static constexpr uint32_t kWakeAwake = kPage;

/* A woken thread runs after so long. */
static constexpr int64_t kWakeNs = 50'000;
/* What a producer that looks for room likes to find, and for how many turns it stays for it. */
static constexpr uint32_t kRoomyBytes = 4 * kPage;
static constexpr uint32_t kRoomyTurns = 200;
/* Far longer than from a cursor's store to the load of the wait word behind it. */
static constexpr uint32_t kMissedTurns = 2000;
/* Copies of less than this do not take the board's lock: its line would move between the cores twice,
 * which costs more than the copy. */
static constexpr uint64_t kLockBytesMin = 4096;
/* A board hears of accesses without its lock after so many, at the latest. */
static constexpr uint32_t kBypassTold = 64;
/* Turns of a spin without a pause: an answer that comes in less than a microsecond is seen at once. */
static constexpr uint32_t kEagerTurns = 128;
/* Whoever looks on the core of its peer keeps it from the very answer that it waits for, so it lets
 * others run: first of all after so long, and then every so often. */
static constexpr int64_t kYieldFirstNs = 2'000;
static constexpr int64_t kYieldEveryNs = 8'000;
/* A yield that took longer let somebody run. */
static constexpr int64_t kSwitchedNs = 1'000;
/* Whoever had the core meanwhile was no peer of ours: a sleeper is woken sooner than that. */
static constexpr int64_t kLostNs = 200'000;

static uint32_t ownerOf(uint32_t kind, uint32_t index, uint32_t generation) {
  return (kind << 30) | ((generation & 0x3fff) << 16) | (index & 0xffff);
}

PageRing::PageRing(const Options& o)
    : stg_(*o.stg),
      dir_(stg_.direction(o.connection, o.producer ? o.end : 1 - o.end)),
      cable_(o.cable),
      producer_(o.producer),
      ownerWord_(ownerOf(STP_OWNER_CONNECTION, o.connection, o.generation)),
      memberOwner_(ownerOf(STP_OWNER_MEMBER, o.selfMember, o.selfGeneration)),
      identity_(o.selfMember + 1),
      selfMember_(o.selfMember),
      peerMember_(o.peerMember),
      peerReady_(o.connection * 2 + (1 - o.end)),
      selfReady_(o.connection * 2 + o.end),
      own_(o.cursor),
      peer_(o.cursor),
      toldAt_(o.cursor),
      wantsSeen_(loadRelaxed(&stg_.header()->page_wants)),
      hint_(o.connection * 37u + o.end * 11u) {
  stg_.rings.fetch_add(1);
  if (producer_) {
    for (uint32_t i = 0; i < kEntries; i++) pagesHeld_ += loadRelaxed(&dir_->pages[i]) != 0;
  }
}

PageRing::~PageRing() {
  settleBypass(0);
  for (const uint32_t page : held_) releasePage(stg_, page, memberOwner_);
  if (spare_ >= 0) releasePage(stg_, uint32_t(spare_), memberOwner_);
  stg_.rings.fetch_sub(1);
}

void PageRing::setLimit(uint32_t bytes) {
  limit_ = limitMax_ = bytes < kPage ? kPage : bytes > kWindow ? kWindow : bytes;
}

bool PageRing::peerGone() { return cable_ != nullptr && cable_->dead.load(); }

/* ---- what can be done now --------------------------------------------------------------------- */

/* Producer: free bytes, or why there never will be any. */
int64_t PageRing::room() {
  if (broken_) return kBroken;
  const uint32_t closed = load(&dir_->closed); /* SYNC[room.closed] pairs with [close.flag] */
  if (closed != 0) return closed == STP_CLOSED_RESET ? kReset : kClosed;
  const uint32_t head = load(&dir_->head); /* SYNC[room.head] acquire, pairs with [publish.head] */
  if (own_ - head > kWindow) {
    broken_ = true;
    return kBroken;
  }
  peer_ = head;
  if (peerGone()) return kReset;
  const uint32_t used = own_ - head;
  return used >= limit_ ? 0 : limit_ - used;
}

/* Consumer: bytes to read, or why there never will be more. */
int64_t PageRing::available() {
  if (broken_) return kBroken;
  const bool gone = peerGone(); /* SYNC[available.gone] before what it sent is looked at */
  /* SYNC[available.flags] before the tail, so that they never overtake data */
  const uint32_t fin = load(&dir_->fin), reset = load(&dir_->reset);
  const uint32_t tail = load(&dir_->tail); /* SYNC[available.tail] pairs with [publish.tail] */
  if (tail - own_ > kWindow) {
    broken_ = true;
    return kBroken;
  }
  peer_ = tail;
  if (tail != own_) return tail - own_;
  if (reset != 0) return kReset;
  if (fin != 0) return kEnd;
  return gone ? int64_t(kReset) : 0;
}

int64_t PageRing::state() { return progress(); }

bool PageRing::wasReset() const { return load(&dir_->reset) != 0; }

/* The files whose pages may go into this list: those that both ends have mapped. The peer's number
 * is the director's word, published after the peer said so; a host that spoils it breaks streams of
 * its own STG, as it could anyway. */
uint32_t PageRing::commonExtents() const {
  const uint32_t mine = stg_.extentCount;
  if (mine == 1) return 1;
  const uint32_t theirs = load(&stg_.member(peerMember_)->extents);
  return theirs < 1 ? 1 : theirs < mine ? theirs : mine;
}

/* The page of the cursor's entry, checked: inside the STG and owned by this connection. */
int64_t PageRing::pageAt(uint32_t cursor, bool mayClaim) {
  const uint32_t entry = entryOf(cursor);
  /* SYNC[page.list] after the other's cursor: pairs with [claim.list] and [exchange.list] */
  const uint32_t listed = load(&dir_->pages[entry]);
  if (listed != 0) {
    const uint32_t page = listed - 1; /* SYNC[page.owner] pairs with [claim.owner], [exchange.given] */
    if (page < stg_.pageCount && loadRelaxed(stg_.owner(page)) == ownerWord_) return page;
    broken_ = true;
    return kBroken;
  }
  if (!mayClaim) {
    broken_ = true;
    return kBroken;
  }
  return newPage(cursor);
}

/* A page for an entry that has none: of the pool as far as the stream's share goes, else one of its
 * own that the peer has read. Who has neither waits: with bytes on their way for the peer to read
 * them (kShort), without a page for somebody to give one back (kNoPage). */
int64_t PageRing::newPage(uint32_t cursor) {
  if (pagesHeld_ > 0 && giveWay(cursor) && pagesHeld_ == 0) yields_ = true;
  if (yields_) return kNoPage; /* others come first */
  trim(cursor);
  const int64_t page = claimPage(stg_, ownerWord_, &hint_, pagesHeld_, commonExtents());
  if (page >= 0) {
    /* Only now, with the owner word written, may the page stand in the list. */
    pagesHeld_++;
    limit_ = limitMax_;
    store(&dir_->pages[entryOf(cursor)], uint32_t(page) + 1); /* SYNC[claim.list] pairs with [page.list] */
    return page;
  }
  if (pagesHeld_ > 0) {
    const int64_t own = recycle(cursor);
    if (own != kNoPage) {
      limit_ = limitMax_;
      return own;
    }
    if (cursor != peer_) {
      /* As if the window were as large as what is in flight: then the peer wakes this side. */
      if (cursor == own_) limit_ = own_ - peer_;
      return kShort;
    }
    pagesHeld_ = 0; /* somebody has spoiled the list: there is none */
  }
  wantsSeen_ = __atomic_add_fetch(&stg_.header()->page_wants, 1, __ATOMIC_RELAXED);
  return kNoPage;
}

/* What a caller hears of the lack of a page. kShort: nothing can be moved, as with a full window. */
int64_t PageRing::told(int64_t result) {
  if (result < 0) yields_ = false;
  return result == kShort ? 0 : result;
}

/* A stream without a page has found none since this one last looked: what the peer has read goes
 * back, and true is returned. */
bool PageRing::giveWay(uint32_t cursor) {
  const uint32_t wants = loadRelaxed(&stg_.header()->page_wants);
  if (wants == wantsSeen_) return false;
  wantsSeen_ = wants;
  if (room() >= 0) releaseRead(cursor, 0);
  return true;
}

/* A stream that holds more than its share gives back what the peer has read, but for one page. Called
 * behind each page that is full, about: else its list would stay full, and newPage would never be
 * asked. */
void PageRing::trim(uint32_t cursor) {
  if (!producer_ || pagesHeld_ <= 1) return;
  const uint32_t share = pageShare(stg_);
  if (pagesHeld_ > share && room() >= 0) releaseRead(cursor, share == 0 ? 1 : share);
}

/* Frees pages without an unread byte until `keep` are left. What lies between own_ and the cursor is
 * about to be published: it counts as unread. */
void PageRing::releaseRead(uint32_t cursor, uint32_t keep) {
  const uint32_t used = cursor - peer_;
  const uint32_t first = entryOf(peer_);
  const uint32_t live = used == 0 ? 0 : ((entryOf(cursor - 1) - first) % kEntries) + 1;
  if (used > kWindow - kPage) return;
  for (uint32_t i = live; i < kEntries && pagesHeld_ > keep; i++) {
    uint32_t* entry = &dir_->pages[(first + i) % kEntries];
    const uint32_t listed = load(entry);
    if (listed == 0) continue;
    store(entry, 0);                           /* SYNC[idle.list] */
    releasePage(stg_, listed - 1, ownerWord_); /* SYNC[idle.owner] */
    pagesHeld_--;
  }
}

/* With an empty pool a stream goes on with the pages it has: the last one it has finished with.
 * What lies between own_ and the cursor is about to be filled: it counts as in use. */
int64_t PageRing::recycle(uint32_t cursor) {
  const uint32_t entry = entryOf(cursor);
  if (room() < 0) return kNoPage; /* what the peer has read meanwhile counts; why not is told later */
  const uint32_t used = cursor - peer_;
  const uint32_t live = used == 0 ? 0 : entryOf(cursor - 1) - entryOf(peer_);
  for (uint32_t i = 1; i < kEntries; i++) {
    const uint32_t candidate = (entry + kEntries - i) % kEntries;
    if (used != 0 && (candidate - entryOf(peer_)) % kEntries <= live % kEntries) continue;
    const uint32_t listed = load(&dir_->pages[candidate]);
    if (listed == 0) continue;
    store(&dir_->pages[candidate], 0);  /* SYNC[recycle.from] */
    store(&dir_->pages[entry], listed); /* SYNC[recycle.to] */
    return pageAt(cursor, false);
  }
  return kNoPage;
}

/* ---- publishing and waking --------------------------------------------------------------------- */

/* For display; other threads of the host count there too. */
void PageRing::tally(uint32_t stp_member::*counter) {
  __atomic_fetch_add(&(stg_.member(selfMember_)->*counter), 1, __ATOMIC_RELAXED);
}

/* Here, beside the own cursor, and for the host: what happens too often for a line that all its
 * threads share is counted for the ring only. */
inline void PageRing::count(uint64_t* own, uint32_t which, uint32_t stp_member::*counter) {
  ++*own;
  ++(producer_ ? dir_->producer_counts : dir_->consumer_counts)[which];
  if (counter != nullptr) tally(counter);
}

void PageRing::wake(uint32_t* word) {
  /* SYNC[wake.word] one of several that wake gets it; pairs with [arm.word] and [wait.word] */
  const uint32_t waiter = swap(word, STP_WAIT_NONE);
  bool rung = false;
  if (waiter == STP_WAIT_FUTEX) {
    futexWake(word); /* SYNC[wake.futex] pairs with [wait.sleep] */
    rung = true;
  } else if (waiter == STP_WAIT_LOOP) {
    rung = notifyLoop(stg_, peerMember_, peerReady_, cable_.get()); /* SYNC[wake.loop] */
    if (!rung) tally(&stp_member::wakes_suppressed);
  }
  if (rung) {
    count(&counters_.wakesSent, STP_COUNT_WAKES_SENT, &stp_member::wakes_sent);
  } else {
    count(&counters_.wakesSuppressed, STP_COUNT_WAKES_SUPPRESSED);
  }
}

/* The cursor, a full barrier, then the wait word; pairs with arm() and wait(), which write the wait
 * word and then read the cursor. Either side sees the other: no wake-up is lost. The store needs no
 * barrier of its own: the payload's lines and the cursor's move at the same time. Proved, like
 * everything with a SYNC label, by the models in test/model, where the names are found again. */
void PageRing::publish(uint32_t bytes) {
  own_ += bytes;
  if (producer_) {
    dir_->bytes_produced += bytes;
    store(&dir_->tail, own_); /* SYNC[publish.tail] */
    fence();                  /* SYNC[publish.tail-fence] */
    /* SYNC[publish.consumer-wait] */
    if (loadRelaxed(&dir_->consumer_wait) != STP_WAIT_NONE) return wake(&dir_->consumer_wait);
  } else {
    dir_->bytes_consumed += bytes;
    store(&dir_->head, own_); /* SYNC[publish.head] */
    fence();                  /* SYNC[publish.head-fence] */
    /* SYNC[publish.producer-wait] */
    const uint32_t waiter = loadRelaxed(&dir_->producer_wait);
    if (waiter != STP_WAIT_NONE && (peer_ - own_ <= kWakeUsed || looksForRoom(waiter))) {
      toldAt_ = own_;
      return wake(&dir_->producer_wait);
    }
  }
  count(&counters_.wakesSuppressed, STP_COUNT_WAKES_SUPPRESSED);
}

/* Consumer: is it worth while to tell the producer of less than half of the window? A guess: where it
 * falls asleep meanwhile, it is rung. */
bool PageRing::looksForRoom(uint32_t waiter) const {
  return waiter == STP_WAIT_LOOP && own_ - toldAt_ >= kWakeAwake &&
         loadRelaxed(&stg_.member(peerMember_)->sleep) == 0;
}

int64_t PageRing::arm() {
  uint32_t* word = producer_ ? &dir_->producer_wait : &dir_->consumer_wait;
  /* SYNC[arm.word] pairs with [wake.word] */
  const bool waitsAlready = swap(word, STP_WAIT_LOOP) == STP_WAIT_LOOP;
  fence();                        /* SYNC[arm.fence] pairs with [publish.tail-fence], ... */
  const int64_t now = progress(); /* SYNC[arm.look] */
  if (now != 0) {
    store(word, STP_WAIT_NONE); /* SYNC[arm.disarm] */
  } else if (!waitsAlready) {
    uint32_t* waits = producer_ ? &dir_->producer_waits : &dir_->consumer_waits;
    ++*waits;
    counters_.waits++;
  }
  return now;
}

bool PageRing::unannounced() {
  if (selfMember_ >= stg_.memberCount || progress() == 0) return false;
  return (load(stg_.bits(selfMember_) + selfReady_ / 32) & 1u << (selfReady_ % 32)) == 0;
}

void PageRing::countSafety() {
  count(&counters_.safetyFirings, STP_COUNT_SAFETY_FIRINGS, &stp_member::safety_firings);
}

/* Looks for `need` bytes as long as it has been worth it. A producer that found the window full
 * stays a little for more than it needs: else both sides would meet at each message. */
bool PageRing::look(uint64_t start, uint32_t need, int64_t* now) {
  const uint32_t roomy = producer_ ? (limit_ / 4 < kRoomyBytes ? limit_ / 4 : kRoomyBytes) : 0;
  uint32_t enough = 0;
  /* The peer that answered out of the last look's yield shares this core. */
  int64_t yieldAt = sharesCore_ ? 0 : kYieldFirstNs;
  bool others = false;
  for (uint32_t turn = 1;; turn++) {
    *now = progress();
    if (*now < 0) return true;
    if (*now >= int64_t(need)) {
      if (enough == 0) sharesCore_ = others;
      if (*now >= int64_t(roomy) || ++enough > kRoomyTurns) return true;
      if (loadRelaxed(&dir_->consumer_wait) != STP_WAIT_NONE) return true;
    }
    others = false;
    if (turn > kEagerTurns) relax();
    if (turn % 16 != 0 && yieldAt != 0) continue;
    const int64_t looked = int64_t(nowNs() - start);
    if (looked >= spinNs_) break;
    if (looked < yieldAt) continue;
    sched_yield();
    const int64_t back = int64_t(nowNs() - start);
    if (back - looked > kLostNs) break;
    others = back - looked > kSwitchedNs;
    yieldAt = back + kYieldEveryNs;
  }
  sharesCore_ = false;
  return false;
}

/* After a sleep: would looking have been better? Then as long as allowed the next time, else less. */
void PageRing::learn(uint64_t start) {
  const int64_t slept = int64_t(nowNs() - start);
  if (slept < spinMaxNs_ + kWakeNs) spinNs_ = spinMaxNs_;
  else spinNs_ = spinNs_ / 2 < spinMaxNs_ / 8 ? 0 : spinNs_ / 2;
}

/* `some` is less than what is needed. But a consumer that sleeps waits for more than it has been
 * given: then some room has to do. And no more bytes come after the end. Behind the wait word. */
bool PageRing::willDo(int64_t some) {
  if (some == 0) return false;
  /* SYNC[wait.use-some] SYNC[wait.rest] */
  return producer_ ? load(&dir_->consumer_wait) != STP_WAIT_NONE : ended();
}

/* Blocks until `need` bytes can be moved, for one slice at most. */
int64_t PageRing::wait(uint32_t sliceMs, uint32_t need) {
  uint32_t* word = producer_ ? &dir_->producer_wait : &dir_->consumer_wait;
  int64_t now = progress();
  if (now < 0 || now >= int64_t(need)) return now;
  counters_.waits++;
  if (producer_) {
    dir_->producer_waits++;
  } else {
    dir_->consumer_waits++;
  }
  if (spinMaxNs_ < 0) spinNs_ = spinMaxNs_ = usableCores() > 1 ? kSpinNs : 0;
  const uint64_t start = nowNs();
  if (spinNs_ > 0) {
    if (look(start, need, &now)) {
      count(&counters_.pollHits, STP_COUNT_POLL_HITS, &stp_member::poll_hits);
      return now;
    }
    count(&counters_.pollMisses, STP_COUNT_POLL_MISSES, &stp_member::poll_misses);
  }
  settleBypass(0);
  swap(word, STP_WAIT_FUTEX); /* SYNC[wait.word] pairs with [wake.word] */
  fence();                    /* SYNC[wait.fence] pairs with [publish.tail-fence], ... */
  now = progress();           /* SYNC[wait.look] */
  if (now >= 0 && now < int64_t(need) && !willDo(now)) {
    /* SYNC[wait.tell-room] who waits for more than there is tells of the room that there is; after
     * the fence, so that of two that wait for more one sees the other */
    if (!producer_ && loadRelaxed(&dir_->producer_wait) != STP_WAIT_NONE) {
      wake(&dir_->producer_wait);
    }
    /* SYNC[wait.sleep] pairs with [wake.futex] */
    const bool woken = futexWait(word, STP_WAIT_FUTEX, sliceMs);
    now = progress();
    if (woken) learn(start);
    else if (now >= int64_t(need) && missed(word)) countSafety();
  }
  store(word, STP_WAIT_NONE); /* SYNC[wait.disarm] */
  if (now >= 0 && now < int64_t(need) && cable_ != nullptr) {
    /* The event loop that watches the cable may be busy, so the end of the peer is looked for here
     * as well. */
    pollfd cable = {cable_->fd, POLLRDHUP, 0};
    if (poll(&cable, 1, 0) == 1 && (cable.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
      cable_->dead.store(true);
      now = progress();
    }
  }
  return now;
}

/* The slice is over and there is work: true if nobody is on the way to wake us for it. */
bool PageRing::missed(const uint32_t* word) const {
  /* A producer is woken for half of the window only. */
  if (producer_ && own_ - peer_ > kWakeUsed) return false;
  for (uint32_t turn = 0; turn < kMissedTurns; turn++) {
    if (load(word) != STP_WAIT_FUTEX) return false;
    relax();
  }
  return true;
}

/* Counts an access without the lock; told to the board now and then, since all its hosts count there:
 * then it returns true. */
bool PageRing::bypass(uint32_t page, uint64_t bytes) {
  const uint32_t board = stg_.boardOf(page);
  const bool told = board != bypassBoard_ || bypassCount_ == kBypassTold;
  if (told) settleBypass(board);
  bypassCount_++;
  bypassBytes_ += bytes;
  return told;
}

void PageRing::settleBypass(uint32_t next) {
  if (bypassCount_ != 0) countBypass(stg_, bypassBoard_, bypassCount_, bypassBytes_);
  bypassBoard_ = next;
  bypassCount_ = 0;
  bypassBytes_ = 0;
}

/* ---- producer ---------------------------------------------------------------------------------- */

/* Room for `bytes`, or for a page if that is less: how much there is, after a wait if need be. */
int64_t PageRing::roomFor(uint64_t bytes, uint32_t sliceMs) {
  const uint32_t need = bytes < kPage ? uint32_t(bytes) : kPage;
  int64_t free = own_ - peer_ >= limit_ ? 0 : limit_ - (own_ - peer_);
  if (free < int64_t(need)) free = room();
  if (free < int64_t(need) && free >= 0 && sliceMs != 0) {
    free = wait(sliceMs, need < limit_ ? need : limit_);
  }
  return free;
}

int64_t PageRing::write(const uint8_t* from, uint64_t bytes, uint32_t sliceMs) {
  const iovec part = {const_cast<uint8_t*>(from), bytes};
  return writeParts(&part, bytes, sliceMs);
}

/* `bytes`: of all parts together. */
int64_t PageRing::writeParts(const iovec* first, uint64_t bytes, uint32_t sliceMs) {
  const auto how = sliceMs == 0 ? BoardLock::Wait::loop : BoardLock::Wait::thread;
  Parts parts{first};
  uint64_t done = 0;
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  if (broken_ || load(&dir_->closed) != 0) return room();
  while (done < bytes) {
    const uint64_t left = bytes - done;
    const int64_t free = roomFor(left, sliceMs);
    if (free <= 0) return done > 0 ? int64_t(done) : free;
    const uint32_t offset = own_ % kPage;
    uint64_t chunk = kPage - offset;
    if (chunk > left) chunk = left;
    if (chunk > uint64_t(free)) chunk = uint64_t(free);
    const int64_t page = pageAt(own_, true);
    if (page < 0) return done > 0 ? int64_t(done) : told(page);
    uint8_t* into = stg_.page(uint32_t(page)) + offset;
    const auto put = [&into](const uint8_t* from, uint64_t n) {
      copyToShared(into, from, n);
      into += n;
    };
    if (chunk < kLockBytesMin) {
      parts.next(chunk, put);
      if (bypass(uint32_t(page), chunk)) trim(own_ + uint32_t(chunk));
    } else {
      if (chunk == kPage - offset) trim(own_ + uint32_t(chunk));
      BoardLock lock(stg_, stg_.boardOf(uint32_t(page)), identity_, how);
      if (!lock.held()) return done > 0 ? int64_t(done) : int64_t(kContended);
      parts.next(chunk, put);
      lock.account(chunk);
    }
    publish(uint32_t(chunk));
    done += chunk;
  }
  return int64_t(done);
}

bool PageRing::fits(uint64_t bytes) {
  if (outstanding_ != 0 || broken_ || load(&dir_->closed) != 0 || bytes > kPage) return false;
  if (roomFor(bytes, 0) < int64_t(bytes) || pageAt(own_, true) < 0) return false;
  return own_ % kPage + bytes <= kPage || pageAt(own_ + uint32_t(bytes) - 1, true) >= 0;
}

int64_t PageRing::reserve(Span* spans, uint32_t* count, uint32_t sliceMs) {
  const uint32_t max = *count;
  *count = 0;
  if (broken_ || load(&dir_->closed) != 0) return room();
  const int64_t free = roomFor(kPage - own_ % kPage, sliceMs);
  if (free <= 0) return free;
  return told(span(spans, count, max, uint32_t(free), true));
}

/* The pages of the next `bytes` from own_ on, as far as there are pages and places for them. */
int64_t PageRing::span(Span* spans, uint32_t* count, uint32_t max, uint32_t bytes, bool mayClaim) {
  uint32_t total = 0;
  while (*count < max && total < bytes) {
    const uint32_t offset = (own_ + total) % kPage;
    const int64_t page = pageAt(own_ + total, mayClaim);
    if (page < 0) {
      if (*count == 0) return page;
      break;
    }
    uint32_t chunk = kPage - offset;
    if (chunk > bytes - total) chunk = bytes - total;
    spans[(*count)++] = {stg_.page(uint32_t(page)) + offset, chunk};
    total += chunk;
  }
  outstanding_ = total;
  return total;
}

int64_t PageRing::commit(uint32_t bytes) {
  if (bytes > outstanding_) return int64_t(kErrno) - EINVAL;
  outstanding_ = 0;
  return bytes == 0 ? 0 : used(bytes);
}

/* Bytes used in place: counts and publishes them. */
int64_t PageRing::used(uint32_t bytes) {
  for (uint32_t done = 0, chunk; done < bytes; done += chunk) {
    chunk = kPage - (own_ + done) % kPage;
    if (chunk > bytes - done) chunk = bytes - done;
    const uint32_t listed = load(&dir_->pages[entryOf(own_ + done)]);
    if (listed != 0 && listed - 1 < stg_.pageCount) bypass(listed - 1, chunk);
  }
  publish(bytes);
  if (own_ % kPage == 0) trim(own_);
  return bytes;
}

/* The pages of the next `bytes` from own_ on, as one system call takes them: 0, or why there is not
 * even one. */
int64_t PageRing::gather(uint64_t bytes, bool mayClaim, FileParts* parts) {
  uint32_t total = 0;
  while (parts->count < kFilePages && total < bytes) {
    const uint32_t cursor = own_ + total, offset = cursor % kPage;
    const int64_t page = pageAt(cursor, mayClaim);
    if (page < 0) return parts->count == 0 ? page : 0;
    uint32_t chunk = kPage - offset;
    if (chunk > bytes - total) chunk = uint32_t(bytes - total);
    parts->span[parts->count] = {stg_.page(uint32_t(page)) + offset, chunk};
    parts->boards[parts->count++] = stg_.boardOf(uint32_t(page));
    total += chunk;
  }
  return 0;
}

/* What the system call between file and pages gave: counts and publishes it. */
int64_t PageRing::moved(ssize_t bytes, const FileParts& parts) {
  if (bytes < 0) return int64_t(kErrno) - errno;
  uint32_t left = uint32_t(bytes);
  for (uint32_t i = 0; i < parts.count && left > 0; i++) {
    const uint32_t length = uint32_t(parts.span[i].iov_len);
    const uint32_t chunk = length < left ? length : left;
    countBypass(stg_, parts.boards[i], 1, chunk);
    left -= chunk;
  }
  publish(uint32_t(bytes));
  trim(own_);
  return bytes;
}

/* What is no file or disk (a pipe, a socket, a terminal) may block for ever: it is asked first, for
 * one slice. > 0: go on; 0: nothing yet; < 0: why not. `most`: bytes that surely do not block. */
static int64_t readyFor(int fd, short events, uint32_t sliceMs, uint64_t* most) {
  struct stat about;
  if (fstat(fd, &about) != 0) return int64_t(kErrno) - errno;
  if (S_ISREG(about.st_mode) || S_ISBLK(about.st_mode) || S_ISDIR(about.st_mode)) return 1;
  /* A writer of a pipe blocks until all is in, and only so much is promised to fit. */
  if (events == POLLOUT && *most > PIPE_BUF) *most = PIPE_BUF;
  pollfd look = {fd, events, 0};
  const int ready = poll(&look, 1, int(sliceMs));
  if (ready < 0 && errno != EINTR) return int64_t(kErrno) - errno;
  return ready > 0 ? 1 : 0;
}

int64_t PageRing::fillFromFile(int fd, int64_t position, uint64_t bytes, uint32_t sliceMs) {
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  /* Not what was known: as long as a pipe stays empty, nothing else hears of the peer's end. */
  int64_t free = room();
  if (free >= 0) free = roomFor(bytes, sliceMs);
  if (free <= 0) return free;
  if (bytes > uint64_t(free)) bytes = uint64_t(free);
  const int64_t ready = readyFor(fd, POLLIN, sliceMs, &bytes);
  if (ready <= 0) return ready;
  FileParts parts;
  const int64_t gathered = gather(bytes, true, &parts);
  if (gathered < 0) return told(gathered);
  ssize_t got;
  do {
    got = position < 0 ? readv(fd, parts.span, int(parts.count))
                       : preadv(fd, parts.span, int(parts.count), position);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return 0;
  return got == 0 ? int64_t(kEnd) : moved(got, parts);
}

void PageRing::finish() {
  if (dir_->finished_at == 0) dir_->finished_at = wallClockUs();
  /* SYNC[finish.flag] after the last tail; pairs with [available.flags] */
  __atomic_store_n(&dir_->fin, 1, __ATOMIC_SEQ_CST);
  fence(); /* SYNC[finish.fence] */
  /* SYNC[finish.wake] */
  if (loadRelaxed(&dir_->consumer_wait) != STP_WAIT_NONE) wake(&dir_->consumer_wait);
}

void PageRing::abort() {
  dir_->finished_at = wallClockUs();
  __atomic_store_n(&dir_->reset, 1, __ATOMIC_SEQ_CST); /* SYNC[abort.flag] as [finish.flag] */
  fence();                                             /* SYNC[abort.fence] */
  /* SYNC[abort.wake] */
  if (loadRelaxed(&dir_->consumer_wait) != STP_WAIT_NONE) wake(&dir_->consumer_wait);
}

/* Gives back the pages that carry no unread byte; how many are still held. A stream that has moved
 * since the last time keeps the page that it is writing to: it is not idle. Of a consumer it is the
 * page that it has ready for an exchange. */
uint32_t PageRing::releaseIdle() {
  settleBypass(0);
  if (!producer_) {
    dropSpare();
    return 0;
  }
  const bool moved = idleAt_ != own_;
  idleAt_ = own_;
  if (pagesHeld_ == 0 || room() < 0) return 0;
  if (outstanding_ != 0) return pagesHeld_;
  const bool inPage = own_ % kPage != 0;
  /* With the next byte counted as unread, its page stays. */
  releaseRead(moved && inPage && own_ - peer_ < limit_ ? own_ + 1 : own_, 0);
  return pagesHeld_;
}

/* ---- consumer ---------------------------------------------------------------------------------- */

int64_t PageRing::read(uint8_t* into, uint64_t bytes, uint32_t sliceMs) {
  const iovec part = {into, bytes};
  return readParts(&part, bytes, sliceMs);
}

/* `bytes`: of all parts together. Waits for the first byte only. */
int64_t PageRing::readParts(const iovec* first, uint64_t bytes, uint32_t sliceMs) {
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  const auto how = sliceMs == 0 ? BoardLock::Wait::loop : BoardLock::Wait::thread;
  Parts parts{first};
  uint64_t done = 0;
  while (done < bytes) {
    int64_t ready = peer_ - own_;
    if (ready == 0) ready = available();
    if (ready == 0 && done == 0 && sliceMs != 0) ready = wait(sliceMs, 1);
    if (ready <= 0) return done > 0 ? int64_t(done) : ready;
    const uint32_t offset = own_ % kPage;
    uint64_t chunk = kPage - offset;
    if (chunk > bytes - done) chunk = bytes - done;
    if (chunk > uint64_t(ready)) chunk = uint64_t(ready);
    const int64_t page = pageAt(own_, false);
    if (page < 0) return done > 0 ? int64_t(done) : page;
    const uint8_t* from = stg_.page(uint32_t(page)) + offset;
    const auto get = [&from](uint8_t* into, uint64_t n) {
      memcpy(into, from, n);
      from += n;
    };
    if (chunk < kLockBytesMin) {
      parts.next(chunk, get);
      bypass(uint32_t(page), chunk);
    } else {
      BoardLock lock(stg_, stg_.boardOf(uint32_t(page)), identity_, how);
      if (!lock.held()) return done > 0 ? int64_t(done) : int64_t(kContended);
      parts.next(chunk, get);
      lock.account(chunk);
    }
    publish(uint32_t(chunk));
    done += chunk;
  }
  return int64_t(done);
}

int64_t PageRing::take(uint8_t* into, uint64_t bytes, bool* armed) {
  *armed = false;
  for (;;) {
    const int64_t got = read(into, bytes, 0);
    if (got < 0 || uint64_t(got) == bytes) return got;
    const int64_t more = arm();
    if (more == 0) {
      *armed = true;
      return got;
    }
    if (got > 0 || more < 0) return got > 0 ? got : more;
  }
}

int64_t PageRing::peek(Span* spans, uint32_t* count, uint32_t sliceMs) {
  const uint32_t max = *count;
  *count = 0;
  int64_t ready = peer_ - own_;
  if (ready < int64_t(kPage - own_ % kPage) || max > 1) ready = available();
  if (ready == 0 && sliceMs != 0) ready = wait(sliceMs, 1);
  if (ready <= 0) return ready;
  return span(spans, count, max, uint32_t(ready), false);
}

int64_t PageRing::consume(uint32_t bytes) {
  if (bytes > outstanding_) return int64_t(kErrno) - EINVAL;
  outstanding_ = 0;
  return bytes == 0 ? 0 : used(bytes);
}

int64_t PageRing::drainToFile(int fd, int64_t position, uint64_t bytes, uint32_t sliceMs) {
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  int64_t ready = available();
  if (ready == 0 && sliceMs != 0) ready = wait(sliceMs, 1);
  if (ready <= 0) return ready;
  if (bytes > uint64_t(ready)) bytes = uint64_t(ready);
  ready = readyFor(fd, POLLOUT, sliceMs, &bytes);
  if (ready <= 0) return ready;
  FileParts parts;
  const int64_t gathered = gather(bytes, false, &parts);
  if (gathered < 0) return gathered;
  ssize_t put;
  do {
    put = position < 0 ? writev(fd, parts.span, int(parts.count))
                       : pwritev(fd, parts.span, int(parts.count), position);
  } while (put < 0 && errno == EINTR);
  if (put < 0 && errno == EAGAIN) return 0;
  return moved(put, parts);
}

/* Keeps the full page at head and gives an empty one of this member for it. The producer has left
 * the entry (its cursor lies beyond) and re-reads it only after acquiring the new head. */
int64_t PageRing::exchange(uint32_t given) {
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  if (own_ % kPage != 0) return int64_t(kErrno) - EINVAL;
  const int64_t ready = available();
  if (ready < 0) return ready;
  if (ready < int64_t(kPage)) return int64_t(kErrno) - EAGAIN;
  const uint32_t entry = entryOf(own_);
  const int64_t taken = pageAt(own_, false);
  if (taken < 0) return taken;
  if (given >= stg_.extents[commonExtents() - 1].endPage ||
      loadRelaxed(stg_.owner(given)) != memberOwner_) {
    return int64_t(kErrno) - EINVAL;
  }
  {
    BoardLock lock(stg_, stg_.boardOf(uint32_t(taken)), identity_, BoardLock::Wait::thread);
    /* The ledger first, then the list: a page in the list always has the connection as its owner. */
    /* SYNC[exchange.given] pairs with [page.owner] */
    if (!cas(stg_.owner(given), memberOwner_, ownerWord_)) return int64_t(kErrno) - EINVAL;
    store(&dir_->pages[entry], given + 1); /* SYNC[exchange.list] pairs with [page.list] */
    cas(stg_.owner(uint32_t(taken)), ownerWord_, memberOwner_); /* SYNC[exchange.taken] */
    lock.account(kPage);
  }
  publish(kPage);
  return taken;
}

void PageRing::closeReading(bool reset) {
  if (dir_->closed_at == 0) dir_->closed_at = wallClockUs();
  /* SYNC[close.flag] pairs with [room.closed] */
  __atomic_store_n(&dir_->closed, reset ? STP_CLOSED_RESET : STP_CLOSED_ORDERLY, __ATOMIC_SEQ_CST);
  fence(); /* SYNC[close.fence] */
  /* SYNC[close.wake] */
  if (loadRelaxed(&dir_->producer_wait) != STP_WAIT_NONE) wake(&dir_->producer_wait);
}

}  // namespace stpd
