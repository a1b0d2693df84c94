/*
 * Pages that change hands whole: a consumer keeps a full page and gives an empty one for it; a
 * producer puts a page that its member holds into the list.
 *
 * Invariants
 *   - The ledger first: a page that stands in a list has the connection as its owner, a page that a
 *     ring holds has its member. Between the two it has one of them.
 *   - A held page goes back to the pool with the ring that holds it, at the latest; what a host
 *     leaves behind when it dies, its director finds by the owner words.
 *
 * Runs on the thread of the ring.
 */
#include <errno.h>
#include <string.h>

#include <algorithm>

#include "page_ring.h"

namespace stpd {

/* A page that the peer has mapped too, so that it can go into this connection's list. */
int64_t PageRing::claimSpare() {
  const uint32_t extents = commonExtents();
  if (spare_ >= int64_t(stg_.extents[extents - 1].endPage)) dropSpare(); /* of another stream's list */
  if (spare_ < 0) spare_ = claimPage(stg_, memberOwner_, &hint_, 1, extents);
  return spare_;
}

int64_t PageRing::claimHeld() {
  const int64_t page = claimSpare();
  if (page < 0) return kNoPage;
  spare_ = -1;
  held_.push_back(uint32_t(page));
  return page;
}

/* False for a page that this ring does not hold. */
bool PageRing::letGo(uint32_t page) {
  const auto found = std::find(held_.begin(), held_.end(), page);
  if (found == held_.end()) return false;
  *found = held_.back();
  held_.pop_back();
  return true;
}

bool PageRing::releaseHeld(uint32_t page) {
  if (!letGo(page)) return false;
  releasePage(stg_, page, memberOwner_);
  return true;
}

/* An empty page of the member: for the next exchange, or to the pool. */
void PageRing::keepSpare(uint32_t page) {
  if (spare_ < 0) spare_ = page;
  else releasePage(stg_, page, memberOwner_);
}

void PageRing::dropSpare() {
  if (spare_ >= 0) releasePage(stg_, uint32_t(spare_), memberOwner_);
  spare_ = -1;
}

/* True if no more bytes will come: what is there then is the rest. */
bool PageRing::ended() {
  return load(&dir_->fin) != 0 || load(&dir_->reset) != 0 || peerGone();
}

int64_t PageRing::takePage(uint32_t* page, bool* exchanged, uint32_t sliceMs) {
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  const uint32_t want = kPage - own_ % kPage;
  int64_t ready = available();
  if (ready >= 0 && ready < int64_t(want) && !ended()) {
    ready = wait(sliceMs, want);
    if (ready >= 0 && ready < int64_t(want) && !ended()) {
      dropSpare(); /* nothing for a whole slice: an idle stream holds no page */
      return 0;
    }
  }
  if (ready >= 0 && ready < int64_t(want)) ready = available(); /* the flags, then the tail */
  if (ready <= 0) return ready;
  if (claimSpare() < 0) return kNoPage;
  *exchanged = want == kPage && ready >= int64_t(kPage);
  const uint32_t given = uint32_t(spare_);
  if (*exchanged) {
    const int64_t taken = exchange(given);
    if (taken < 0) return taken;
    *page = uint32_t(taken);
  } else {
    const uint32_t bytes = ready < int64_t(want) ? uint32_t(ready) : want;
    const int64_t got = read(stg_.page(given), bytes, sliceMs);
    if (got <= 0) return got;
    ready = got;
    *page = given;
  }
  spare_ = -1;
  held_.push_back(*page);
  return ready < int64_t(want) ? ready : want;
}

int64_t PageRing::givePage(uint32_t page, PageRing& holder, uint32_t sliceMs) {
  if (&holder.stg_ != &stg_) return int64_t(kErrno) - EXDEV;
  if (std::find(holder.held_.begin(), holder.held_.end(), page) == holder.held_.end()) {
    return int64_t(kErrno) - EBADF;
  }
  if (outstanding_ != 0) return int64_t(kErrno) - EBUSY;
  if (broken_ || load(&dir_->closed) != 0) return room();
  if (own_ % kPage != 0) return kNotNow;
  /* The peer has not mapped the file of this page: it can only get a copy. */
  if (page >= stg_.extents[commonExtents() - 1].endPage) return kNotNow;
  const int64_t free = roomFor(kPage, sliceMs);
  if (free < int64_t(kPage)) return free < 0 ? free : 0;
  uint32_t* const entry = &dir_->pages[entryOf(own_)];
  const uint32_t listed = load(entry);
  if (listed != 0 && (listed - 1 >= stg_.pageCount ||
                      loadRelaxed(stg_.owner(listed - 1)) != ownerWord_)) {
    broken_ = true;
    return kBroken;
  }
  /* Another host of the STG has spoiled the word: the page is nobody's to give. */
  /* SYNC[give.page] pairs with [page.owner] */
  if (!cas(stg_.owner(page), memberOwner_, ownerWord_)) return int64_t(kErrno) - EBADF;
  store(entry, page + 1); /* SYNC[give.list] pairs with [page.list] */
  holder.letGo(page);
  limit_ = limitMax_;
  if (listed == 0) pagesHeld_++;
  /* SYNC[give.old] */
  else if (cas(stg_.owner(listed - 1), ownerWord_, memberOwner_)) holder.keepSpare(listed - 1);
  bypass(page, kPage);
  publish(kPage);
  return 1;
}

}  // namespace stpd
