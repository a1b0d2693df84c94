#include "page_ring.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "copy.h"

namespace stpd {

static constexpr uint32_t kPage = STP_PAGE_BYTES;
static constexpr uint32_t kEntries = STP_PAGE_LIST_ENTRIES;
static constexpr uint32_t kWindow = STP_WINDOW_BYTES;
static_assert((kWindow & (kWindow - 1)) == 0, "the window divides 2^32");

/* How long a blocking caller looks before it sleeps: about one wake-up from idle each way. */
static constexpr int64_t kSpinNs = 50'000;
/* A producer that waits is woken when so much is free, or when the consumer goes to sleep: waking
 * it for every page would cost more than the page. */
static constexpr uint32_t kWakeUsed = kWindow / 2;

static uint32_t entryOf(uint32_t cursor) { return (cursor / kPage) % kEntries; }
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
      own_(o.cursor),
      peer_(o.cursor),
      hint_(o.connection * 37u + o.end * 11u) {
  stg_.rings.fetch_add(1);
  if (producer_) {
    for (uint32_t i = 0; i < kEntries; i++) pagesHeld_ += loadRelaxed(&dir_->pages[i]) != 0;
  }
}

void PageRing::setLimit(uint32_t bytes) {
  limit_ = bytes < kPage ? kPage : bytes > kWindow ? kWindow : bytes;
}

bool PageRing::peerGone() { return cable_ != nullptr && cable_->dead.load(); }

/* ---- what can be done now --------------------------------------------------------------------- */

/* Producer: free bytes, or why there never will be any. */
int64_t PageRing::room() {
  if (broken_) return kBroken;
  const uint32_t closed = load(&dir_->closed);
  if (closed != 0) return closed == STP_CLOSED_RESET ? kReset : kClosed;
  const uint32_t head = load(&dir_->head); /* SYNC: acquire, pairs with the consumer's publish */
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
  const bool gone = peerGone();
  const uint32_t fin = load(&dir_->fin), reset = load(&dir_->reset);
  const uint32_t tail = load(&dir_->tail); /* SYNC: acquire, pairs with the producer's publish */
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

/* The page of the cursor's entry, checked: inside the STG and owned by this connection. */
int64_t PageRing::pageAt(uint32_t cursor, bool mayClaim) {
  const uint32_t entry = entryOf(cursor);
  const uint32_t listed = load(&dir_->pages[entry]);
  if (listed != 0) {
    const uint32_t page = listed - 1;
    if (page < stg_.pageCount && loadRelaxed(stg_.owner(page)) == ownerWord_) return page;
    broken_ = true;
    return kBroken;
  }
  if (!mayClaim) {
    broken_ = true;
    return kBroken;
  }
  const int64_t page = claimPage(stg_, ownerWord_, hint_, pagesHeld_ == 0);
  if (page < 0) return recycle(cursor);
  /* Only now, with the owner word written, may the page stand in the list. */
  hint_ = uint32_t(page) + 1;
  pagesHeld_++;
  store(&dir_->pages[entry], uint32_t(page) + 1);
  return page;
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
    store(&dir_->pages[candidate], 0);
    store(&dir_->pages[entry], listed);
    return pageAt(cursor, false);
  }
  return kNoPage;
}

/* ---- publishing and waking --------------------------------------------------------------------- */

void PageRing::wake(uint32_t* word) {
  const uint32_t waiter = swap(word, STP_WAIT_NONE);
  stp_member* self = stg_.member(selfMember_);
  if (waiter == STP_WAIT_FUTEX) {
    futexWake(word);
    __atomic_fetch_add(&self->wakes_sent, 1, __ATOMIC_RELAXED);
  } else if (waiter == STP_WAIT_LOOP) {
    const bool rung = notifyLoop(stg_, peerMember_, peerReady_, cable_.get());
    __atomic_fetch_add(rung ? &self->wakes_sent : &self->wakes_suppressed, 1, __ATOMIC_RELAXED);
  }
}

/* SYNC: the cursor, a full barrier, then the wait word; pairs with arm() and wait(), which write
 * the wait word and then read the cursor. Either side sees the other: no wake-up is lost. */
void PageRing::publish(uint32_t bytes) {
  own_ += bytes;
  if (producer_) {
    dir_->bytes_produced += bytes;
    __atomic_store_n(&dir_->tail, own_, __ATOMIC_SEQ_CST);
    fence();
    if (loadRelaxed(&dir_->consumer_wait) != STP_WAIT_NONE) wake(&dir_->consumer_wait);
  } else {
    dir_->bytes_consumed += bytes;
    __atomic_store_n(&dir_->head, own_, __ATOMIC_SEQ_CST);
    fence();
    if (loadRelaxed(&dir_->producer_wait) != STP_WAIT_NONE && peer_ - own_ <= kWakeUsed) {
      wake(&dir_->producer_wait);
    }
  }
}

/* For display; other threads of the host count there too. */
void PageRing::tally(uint32_t stp_member::*counter) {
  __atomic_fetch_add(&(stg_.member(selfMember_)->*counter), 1, __ATOMIC_RELAXED);
}

int64_t PageRing::arm() {
  uint32_t* word = producer_ ? &dir_->producer_wait : &dir_->consumer_wait;
  /* Before the consumer sleeps, the producer learns of all room that there is. */
  if (!producer_ && loadRelaxed(&dir_->producer_wait) != STP_WAIT_NONE) wake(&dir_->producer_wait);
  const bool waitsAlready = swap(word, STP_WAIT_LOOP) == STP_WAIT_LOOP;
  fence();
  const int64_t now = progress();
  if (now != 0) {
    store(word, STP_WAIT_NONE);
  } else if (!waitsAlready) {
    uint32_t* waits = producer_ ? &dir_->producer_waits : &dir_->consumer_waits;
    ++*waits;
  }
  return now;
}

/* Blocks until `need` bytes can be moved, for one slice at most. */
int64_t PageRing::wait(uint32_t sliceMs, uint32_t need) {
  const uint64_t start = nowNs();
  uint32_t* word = producer_ ? &dir_->producer_wait : &dir_->consumer_wait;
  int64_t now = progress();
  if (now < 0 || now >= int64_t(need)) return now;
  if (producer_) {
    dir_->producer_waits++;
  } else {
    dir_->consumer_waits++;
    if (loadRelaxed(&dir_->producer_wait) != STP_WAIT_NONE) wake(&dir_->producer_wait);
  }
  if (spinNs_ < 0) spinNs_ = usableCores() > 1 ? kSpinNs : 0;
  if (spinNs_ > 0) {
    for (uint32_t turn = 1;; turn++) {
      now = progress();
      if (now < 0 || now >= int64_t(need)) {
        tally(&stp_member::poll_hits);
        return now;
      }
      relax();
      if (turn % 16 == 0 && int64_t(nowNs() - start) >= spinNs_) break;
    }
    tally(&stp_member::poll_misses);
  }
  swap(word, STP_WAIT_FUTEX);
  fence();
  now = progress();
  /* A consumer that sleeps has told of its room already: use what there is. */
  const bool useSome = producer_ && now > 0 && load(&dir_->consumer_wait) != STP_WAIT_NONE;
  if (now >= 0 && now < int64_t(need) && !useSome) {
    futexWait(word, STP_WAIT_FUTEX, sliceMs);
    now = progress();
  }
  store(word, STP_WAIT_NONE);
  if (now == 0 && cable_ != nullptr) {
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

/* ---- producer ---------------------------------------------------------------------------------- */

int64_t PageRing::write(const uint8_t* from, uint64_t bytes, uint32_t sliceMs) {
  const auto how = sliceMs == 0 ? BoardLock::Wait::loop : BoardLock::Wait::thread;
  uint64_t done = 0;
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  if (broken_ || load(&dir_->closed) != 0) return room();
  while (done < bytes) {
    const uint64_t left = bytes - done;
    const uint32_t need = left < kPage ? uint32_t(left) : kPage;
    int64_t free = own_ - peer_ >= limit_ ? 0 : limit_ - (own_ - peer_);
    if (free < int64_t(need)) free = room();
    if (free < int64_t(need) && free >= 0 && sliceMs != 0) {
      if (done > 0 && free == 0) break; /* tell the caller of what is done before waiting */
      free = wait(sliceMs, need);
    }
    if (free <= 0) return done > 0 ? int64_t(done) : free;
    const uint32_t offset = own_ % kPage;
    uint64_t chunk = kPage - offset;
    if (chunk > left) chunk = left;
    if (chunk > uint64_t(free)) chunk = uint64_t(free);
    const int64_t page = pageAt(own_, true);
    if (page < 0) return done > 0 ? int64_t(done) : page;
    {
      BoardLock lock(stg_, stg_.boardOf(uint32_t(page)), identity_, how);
      if (!lock.held()) return done > 0 ? int64_t(done) : int64_t(kContended);
      copyToShared(stg_.page(uint32_t(page)) + offset, from + done, chunk);
      lock.account(chunk);
    }
    publish(uint32_t(chunk));
    done += chunk;
  }
  return int64_t(done);
}

int64_t PageRing::reserve(uint8_t** at, uint32_t sliceMs) {
  const uint32_t offset = own_ % kPage;
  const uint32_t toPageEnd = kPage - offset;
  int64_t free = own_ - peer_ >= limit_ ? 0 : limit_ - (own_ - peer_);
  if (free < int64_t(toPageEnd) || broken_ || load(&dir_->closed) != 0) free = room();
  if (free >= 0 && free < int64_t(toPageEnd) && sliceMs != 0) free = wait(sliceMs, toPageEnd);
  if (free <= 0) return free;
  const int64_t page = pageAt(own_, true);
  if (page < 0) return page;
  *at = stg_.page(uint32_t(page)) + offset;
  outstanding_ = free < int64_t(toPageEnd) ? uint32_t(free) : toPageEnd;
  return outstanding_;
}

int64_t PageRing::commit(uint32_t bytes) {
  if (bytes > outstanding_) return int64_t(kErrno) - EINVAL;
  outstanding_ = 0;
  if (bytes == 0) return 0;
  const uint32_t listed = load(&dir_->pages[entryOf(own_)]);
  if (listed != 0) countBypass(stg_, stg_.boardOf(listed - 1), bytes);
  publish(bytes);
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
    countBypass(stg_, parts.boards[i], chunk);
    left -= chunk;
  }
  publish(uint32_t(bytes));
  return bytes;
}

int64_t PageRing::fillFromFile(int fd, int64_t position, uint64_t bytes, uint32_t sliceMs) {
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  const uint32_t need = bytes < kPage ? uint32_t(bytes) : kPage;
  int64_t free = room();
  if (free >= 0 && free < int64_t(need) && sliceMs != 0) free = wait(sliceMs, need);
  if (free <= 0) return free;
  if (uint64_t(free) > bytes) free = int64_t(bytes);
  FileParts parts;
  const int64_t gathered = gather(uint64_t(free), true, &parts);
  if (gathered < 0) return gathered;
  ssize_t got;
  do {
    got = position < 0 ? readv(fd, parts.span, int(parts.count))
                       : preadv(fd, parts.span, int(parts.count), position);
  } while (got < 0 && errno == EINTR);
  return got == 0 ? int64_t(kEnd) : moved(got, parts);
}

void PageRing::finish() {
  if (dir_->finished_at == 0) dir_->finished_at = wallClockUs();
  __atomic_store_n(&dir_->fin, 1, __ATOMIC_SEQ_CST); /* after the last tail */
  fence();
  if (loadRelaxed(&dir_->consumer_wait) != STP_WAIT_NONE) wake(&dir_->consumer_wait);
}

void PageRing::abort() {
  dir_->finished_at = wallClockUs();
  __atomic_store_n(&dir_->reset, 1, __ATOMIC_SEQ_CST);
  fence();
  if (loadRelaxed(&dir_->consumer_wait) != STP_WAIT_NONE) wake(&dir_->consumer_wait);
}

/* Gives back the pages that carry no unread byte; how many are still held. */
uint32_t PageRing::releaseIdle() {
  if (pagesHeld_ == 0 || room() < 0) return 0;
  if (outstanding_ != 0) return pagesHeld_;
  const uint32_t used = own_ - peer_;
  const uint32_t first = entryOf(peer_);
  const uint32_t live = used == 0 ? 0 : ((entryOf(own_ - 1) - first) % kEntries) + 1;
  if (used > kWindow - kPage) return pagesHeld_;
  for (uint32_t i = live; i < kEntries; i++) {
    uint32_t* entry = &dir_->pages[(first + i) % kEntries];
    const uint32_t listed = load(entry);
    if (listed == 0) continue;
    store(entry, 0);
    releasePage(stg_, listed - 1, ownerWord_);
    if (pagesHeld_ > 0) pagesHeld_--;
  }
  return pagesHeld_;
}

/* ---- consumer ---------------------------------------------------------------------------------- */

int64_t PageRing::read(uint8_t* into, uint64_t bytes, uint32_t sliceMs) {
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  const auto how = sliceMs == 0 ? BoardLock::Wait::loop : BoardLock::Wait::thread;
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
    {
      BoardLock lock(stg_, stg_.boardOf(uint32_t(page)), identity_, how);
      if (!lock.held()) return done > 0 ? int64_t(done) : int64_t(kContended);
      memcpy(into + done, stg_.page(uint32_t(page)) + offset, chunk);
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

int64_t PageRing::peek(uint8_t** at, uint32_t sliceMs) {
  int64_t ready = peer_ - own_;
  const uint32_t offset = own_ % kPage;
  if (ready < int64_t(kPage - offset)) ready = available();
  if (ready == 0 && sliceMs != 0) ready = wait(sliceMs, 1);
  if (ready <= 0) return ready;
  const int64_t page = pageAt(own_, false);
  if (page < 0) return page;
  *at = stg_.page(uint32_t(page)) + offset;
  const uint32_t toPageEnd = kPage - offset;
  outstanding_ = ready < int64_t(toPageEnd) ? uint32_t(ready) : toPageEnd;
  return outstanding_;
}

int64_t PageRing::consume(uint32_t bytes) {
  if (bytes > outstanding_) return int64_t(kErrno) - EINVAL;
  outstanding_ = 0;
  if (bytes == 0) return 0;
  const uint32_t listed = load(&dir_->pages[entryOf(own_)]);
  if (listed != 0 && listed - 1 < stg_.pageCount) {
    countBypass(stg_, stg_.boardOf(listed - 1), bytes);
  }
  publish(bytes);
  return bytes;
}

int64_t PageRing::drainToFile(int fd, int64_t position, uint64_t bytes, uint32_t sliceMs) {
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  int64_t ready = available();
  if (ready == 0 && sliceMs != 0) ready = wait(sliceMs, 1);
  if (ready <= 0) return ready;
  if (uint64_t(ready) > bytes) ready = int64_t(bytes);
  FileParts parts;
  const int64_t gathered = gather(uint64_t(ready), false, &parts);
  if (gathered < 0) return gathered;
  ssize_t put;
  do {
    put = position < 0 ? writev(fd, parts.span, int(parts.count))
                       : pwritev(fd, parts.span, int(parts.count), position);
  } while (put < 0 && errno == EINTR);
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
  if (given >= stg_.pageCount || loadRelaxed(stg_.owner(given)) != memberOwner_) {
    return int64_t(kErrno) - EINVAL;
  }
  {
    BoardLock lock(stg_, stg_.boardOf(uint32_t(taken)), identity_, BoardLock::Wait::thread);
    /* The ledger first, then the list: a page in the list always has the connection as its owner. */
    if (!cas(stg_.owner(given), memberOwner_, ownerWord_)) return int64_t(kErrno) - EINVAL;
    store(&dir_->pages[entry], given + 1);
    cas(stg_.owner(uint32_t(taken)), ownerWord_, memberOwner_);
    lock.account(kPage);
  }
  publish(kPage);
  return taken;
}

void PageRing::closeReading(bool reset) {
  if (dir_->closed_at == 0) dir_->closed_at = wallClockUs();
  __atomic_store_n(&dir_->closed, reset ? STP_CLOSED_RESET : STP_CLOSED_ORDERLY, __ATOMIC_SEQ_CST);
  fence();
  if (loadRelaxed(&dir_->producer_wait) != STP_WAIT_NONE) wake(&dir_->producer_wait);
}

}  // namespace stpd
