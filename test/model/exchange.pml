/*
 * Who has a page: owner words, page list and cursors of one direction, with a consumer that keeps
 * full pages and gives empty ones for them. native/page_ring.cc, native/stg.cc, and for the clean-up
 * native/page_ring_api.cc. Each SYNC label names the line there that a step stands for.
 *
 * A page carries the number of the page of the stream that was written into it last, so a reader
 * sees whether somebody else has used its page. Cursors count pages; the list has two entries, and
 * so has the window. How sides wait for each other is waking.pml's; here they just wait. Every store
 * in question is a release and every load an acquire, and no step relies on a store being seen
 * before a later load of another word: store buffers have no part in it.
 *
 * Shown: what is written is read, and what is kept stays as it was while it is kept, although
 * another stream takes and gives back pages all the time; no ring breaks; in the end every page is
 * free, also if the consumer (-DDEATH=1) or the producer (-DDEATH=2) dies at any moment.
 * -DGIVING: the producer also puts pages of its own host into the list.
 */
#ifndef DEATH
#define DEATH 0
#endif
#ifndef PAGES
#define PAGES 3
#endif
#define ENTRIES 2
#ifndef LENGTH
#define LENGTH 4
#endif
/* Pages that the other stream takes. */
#ifndef TURNS
#define TURNS 2
#endif
#define WRAP 8
#define START 7
#define DISTANCE(a, b) ((a + WRAP - b) % WRAP)
#define ENTRY(cursor) ((cursor) % ENTRIES)

/* Owner words */
#define FREE 0
#define CONNECTION 1
#define MEMBER 2 /* the consumer's host */
#define OTHER 3
#define GIVER 4 /* the producer's host */
#define OTHERS_DATA 15

byte tail = START, head = START;
byte list[ENTRIES];   /* page + 1, or 0 */
byte pageOwner[PAGES];
byte data[PAGES];

bit dead;
bit producing = 1, consuming = 1, otherRuns = 1;

/* stg.cc: claimPage, with any page as its hint; `page` is PAGES where none is free. */
inline claim(page, ownerWord, done) {
  page = 0;
  done = 0;
  do
  :: page == PAGES -> break
  :: page < PAGES ->
#ifdef MUTANT_CLAIM_BY_STORE
    if
    :: pageOwner[page] == FREE -> pageOwner[page] = ownerWord; done = 1
    :: else
    fi;
#else
    atomic { /* SYNC[claim.owner] */
      if
      :: pageOwner[page] == FREE -> pageOwner[page] = ownerWord; done = 1
      :: else
      fi
    };
#endif
    if
    :: done -> break
    :: else -> page++
    fi
  od
}

inline compareExchange(page, expected, wanted, done) {
  d_step {
    done = (pageOwner[page] == expected);
    if
    :: done -> pageOwner[page] = wanted
    :: else
    fi
  }
}

inline releasePage(page, ownerWord, done) {
  compareExchange(page, ownerWord, FREE, done) /* SYNC[release.owner] */
}

/* page_ring.cc: pageAt, where the entry has a page. */
inline pageAt(cursor, listed) {
  listed = list[ENTRY(cursor)]; /* SYNC[page.list] */
  if
  :: listed != 0 -> assert(pageOwner[listed - 1] == CONNECTION) /* SYNC[page.owner] */
  :: else
  fi
}

/* page_ring.cc: releaseIdle. */
inline releaseIdle(own, peer, listed, i, done) {
  peer = head;
  i = DISTANCE(own, peer);
  do
  :: i == ENTRIES -> break
  :: else ->
    listed = list[ENTRY(peer + i)];
    if
    :: listed != 0 ->
      list[ENTRY(peer + i)] = 0; /* SYNC[idle.list] */
      releasePage((listed - 1), CONNECTION, done) /* SYNC[idle.owner] */
    :: else
    fi;
    i++
  od;
  listed = 0;
  done = 0;
  i = 0;
  peer = 0
}

/* page_exchange.cc: givePage. `page` is the producer's host's, and filled; what the entry had is its
 * host's from then on. */
inline givePage(own, page, listed, done) {
  listed = list[ENTRY(own)];
  compareExchange(page, GIVER, CONNECTION, done); /* SYNC[give.page] */
  assert(done);
  list[ENTRY(own)] = page + 1; /* SYNC[give.list] */
  if
  :: listed != 0 ->
    compareExchange((listed - 1), CONNECTION, GIVER, done); /* SYNC[give.old] */
    assert(done);
    releasePage((listed - 1), GIVER, done)
  :: else
  fi
}

/* page_ring.cc: recycle. No page is free: the other entry's page, if it is done with. */
inline recycle(own, listed) {
  if
  :: head == own ->
    listed = list[ENTRY(own + 1)];
    if
    :: listed != 0 ->
      list[ENTRY(own + 1)] = 0; /* SYNC[recycle.from] */
      list[ENTRY(own)] = listed /* SYNC[recycle.to] */
    :: else
    fi
  :: else -> listed = 0
  fi
}

proctype Producer() {
  byte own = START, peer, sent, listed, i, page;
  bit done;
#ifdef MUTANT_PRODUCER_REMEMBERS
  byte remembered[ENTRIES];
#endif
#if DEATH == 2
  {
#endif
    do
    :: sent == LENGTH || (DEATH == 1 && dead) -> break
    :: sent > 0 && sent < LENGTH -> releaseIdle(own, peer, listed, i, done)
#ifdef GIVING
    :: sent < LENGTH && DISTANCE(own, head) < ENTRIES ->
      claim(page, GIVER, done);
      if
      :: done ->
        sent++;
        data[page] = sent;
        givePage(own, page, listed, done);
        own = (own + 1) % WRAP;
        tail = own
      :: else
      fi;
      page = 0;
      done = 0;
      listed = 0
#endif
    :: sent < LENGTH && DISTANCE(own, head) < ENTRIES -> /* SYNC[room.head] */
      pageAt(own, listed);
#ifdef MUTANT_PRODUCER_REMEMBERS
      listed = (listed != 0 -> remembered[ENTRY(own)] : 0);
#endif
      if
      :: listed != 0
      :: else ->
        claim(page, CONNECTION, done);
        if
        :: done ->
          listed = page + 1;
          list[ENTRY(own)] = listed /* SYNC[claim.list] */
        :: else -> recycle(own, listed)
        fi;
        page = 0;
        done = 0
      fi;
      if
      :: listed == 0 /* ENOBUFS: again later */
      :: else ->
#ifdef MUTANT_PRODUCER_REMEMBERS
        remembered[ENTRY(own)] = listed;
#endif
        sent++;
        data[listed - 1] = sent;
        own = (own + 1) % WRAP;
        tail = own /* SYNC[publish.tail] */
      fi;
      listed = 0
    od;
    producing = 0
#if DEATH == 2
    ; false
  } unless {
    dead
  }
#endif
}

/* page_ring.cc: exchange. `given` is a page of this member, `listed` the one at head. */
inline exchange(own, listed, given, done) {
  compareExchange(given, MEMBER, CONNECTION, done); /* SYNC[exchange.given] */
  assert(done);
#ifdef MUTANT_LIST_AFTER_HEAD
  head = (own + 1) % WRAP;
#endif
  list[ENTRY(own)] = given + 1; /* SYNC[exchange.list] */
  compareExchange((listed - 1), CONNECTION, MEMBER, done); /* SYNC[exchange.taken] */
  assert(done)
}

proctype Consumer() {
  byte own = START, received, listed, page, kept, keptNumber;
  bit done;
#if DEATH == 1
  {
#endif
    do
    :: received == LENGTH || (DEATH == 2 && dead && tail == own) -> break
    :: received < LENGTH && tail != own -> /* SYNC[available.tail] */
      received++;
      pageAt(own, listed);
      assert(listed != 0 && data[listed - 1] == received);
      if
      :: kept == 0 -> claim(page, MEMBER, done)
      :: done = 0
      fi;
      if
      :: done ->
        exchange(own, listed, page, done);
        kept = listed;
        keptNumber = received
      :: else
      fi;
      own = (own + 1) % WRAP;
      head = own; /* SYNC[publish.head] */
      page = 0;
      done = 0;
      listed = 0
    :: kept != 0 ->
      assert(data[kept - 1] == keptNumber);
      releasePage((kept - 1), MEMBER, done);
      assert(done);
      kept = 0;
      keptNumber = 0;
      done = 0
    od;
    if
    :: kept != 0 ->
      assert(data[kept - 1] == keptNumber);
      releasePage((kept - 1), MEMBER, done)
    :: else
    fi;
    consuming = 0
#if DEATH == 1
    ; false
  } unless {
    dead
  }
#endif
}

/* Takes a page, uses it, gives it back. */
proctype Other() {
  byte page, turns;
  bit done;
  do
  :: turns == TURNS -> break
  :: else ->
    claim(page, OTHER, done);
    if
    :: done ->
      data[page] = OTHERS_DATA;
      assert(data[page] == OTHERS_DATA);
      releasePage(page, OTHER, done);
      assert(done)
    :: else
    fi;
    page = 0;
    done = 0;
    turns++
  od;
  otherRuns = 0
}

/* The director, once both ends have let go or are dead. */
proctype Director() {
  byte i, listed;
  bit done;
#if DEATH != 0
  dead = 1;
#ifndef MUTANT_NO_MEMBER_SWEEP
  do
  :: i == PAGES -> break
  :: else -> releasePage(i, (DEATH == 1 -> MEMBER : GIVER), done); i++ /* SYNC[sweep.owner] */
  od;
#endif
#endif
  (!producing || DEATH == 2) && (!consuming || DEATH == 1);
  i = 0;
  do
  :: i == ENTRIES -> break
  :: else ->
    d_step {
      listed = list[i]; /* SYNC[connection-release.list] */
      list[i] = 0
    };
    if
    :: listed != 0 -> releasePage((listed - 1), CONNECTION, done)
    :: else
    fi;
    i++
  od;
#if DEATH != 0 && !defined(MUTANT_NO_TORN_SWEEP)
  i = 0;
  do
  :: i == PAGES -> break
  :: else -> releasePage(i, CONNECTION, done); i++
  od;
#endif
  !otherRuns;
  i = 0;
  do
  :: i == PAGES -> break
  :: else -> assert(pageOwner[i] == FREE); i++
  od
}

init {
  atomic {
    run Producer();
    run Consumer();
    run Other();
    run Director()
  }
}
