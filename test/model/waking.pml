/*
 * How a producer and a consumer of a direction wake each other: cursors, wait words, ready bits,
 * sleep words, bells. native/page_ring.cc, native/stg.cc, native/event_loop.cc, and for the death
 * of a host native/page_ring_api.cc. Each SYNC label names the line there that a step stands for.
 *
 * What is left out on purpose: the safety timer of event loops, the 50 ms slices of threads, the
 * polling before a sleep, and the spinning before a wait (both only look more often). So whoever
 * sleeps here is woken by the protocol or never, and spin reports an invalid end state.
 *
 * Shown: every wait ends; the end, a reset and a death never overtake data; a bell is only rung
 * for a loop that has said that it sleeps, once each time it says so.
 *
 * Set-ups (-D): exactly one of
 *   STREAM    party 0 produces, party 1 consumes. -DPRODUCER=THREAD|LOOP -DCONSUMER=THREAD|LOOP
 *   DUPLEX    two event loops, each produces one direction and consumes the other
 *   FAN_IN    two threads produce two streams for one event loop (-DONE_WORD: bits of one word)
 * (-DWHOLE_PAGES: a consumer thread that waits for whole pages, -DPAGE units each)
 * and for STREAM -DENDING=FIN|RESET|CLOSE|DEATH: the producer finishes, aborts or dies at any
 * moment, or the consumer closes reading early.
 * With -DLIVELY (not with DEATH or FAN_IN): that all come to their end, if all get their turns.
 * A unit of a cursor is half a page; cursors wrap at 8 and start just below.
 */
#define THREAD 1
#define LOOP 2
#define FIN 1
#define RESET 2
#define CLOSE 3
#define DEATH 4

#ifndef UNITS
#define UNITS 3
#endif
#ifndef WINDOW
#define WINDOW 2
#endif
/* Least room that a thread waits for: a page. */
#ifndef PAGE
#define PAGE 1
#endif
#define WAKE_USED (WINDOW / 2)
#define WRAP 8
#define START 7
#define DISTANCE(a, b) ((a + WRAP - b) % WRAP)

#ifdef FAN_IN
#define PARTIES 3
#define DIRECTIONS 2
#elif defined(DUPLEX)
#define PARTIES 2
#define DIRECTIONS 2
#elif ENDING == DEATH
#define PARTIES 3 /* the third is the director */
#define DIRECTIONS 1
#else
#define PARTIES 2
#define DIRECTIONS 1
#endif

#define TAIL(d) (1 + d * 6)
#define HEAD(d) (2 + d * 6)
#define OVER(d) (3 + d * 6) /* fin and reset */
#define CLOSED(d) (4 + d * 6)
#define CONSUMER_WAIT(d) (5 + d * 6)
#define PRODUCER_WAIT(d) (6 + d * 6)
/* Of an event loop; it has two words of ready bits, one bit in each summary. */
#define SLEEP(l) (1 + DIRECTIONS * 6 + l * 4)
#define SUMMARY(l) (2 + DIRECTIONS * 6 + l * 4)
#define BITS(l, w) (3 + DIRECTIONS * 6 + l * 4 + w)
#define WORDS (1 + DIRECTIONS * 6 + 2 * 4)

#include "memory.pml"

/* What progress() says where it is not a number of units. */
#define NOTHING 0
#define IS_END 20
#define IS_RESET 21
#define IS_CLOSED 22

/* Where a ready bit of stream s lies. */
#ifdef ONE_WORD
#define WORD_OF(s) 0
#define BIT_OF(s) (1 << s)
#else
#define WORD_OF(s) s
#define BIT_OF(s) 1
#endif

/* The kernel: who sleeps in a futex (one word has one sleeper), and unread bells. */
bit asleep[WORDS];
bit bell[2];
bit dead;    /* the producer was killed */
bit hungUp;  /* and its descriptors are closed */
bit known;   /* and the consumer's event loop has seen that */

/* For the assertions only. */
bit mayBeRung[2];
byte produced[DIRECTIONS];
byte comeToEnd; /* parties that have come to their end */

/* --- page_ring.cc: what can be done now ---------------------------------------------------- */

/* Producer: `now` is the room, or why there never will be any. */
inline room(me, d, own, peer, now) {
  LOAD(me, CLOSED(d), now); /* SYNC[room.closed] */
  if
  :: now != 0 -> now = IS_CLOSED
  :: else ->
    LOAD(me, HEAD(d), peer); /* SYNC[room.head] */
    assert(DISTANCE(own, peer) <= WINDOW);
    now = WINDOW - DISTANCE(own, peer)
  fi
}

/* Consumer: `now` is what can be read, or why there never will be more. */
inline available(me, d, own, peer, now, over, gone) {
#ifdef MUTANT_TAIL_BEFORE_FLAGS
  LOAD(me, TAIL(d), peer);
#endif
#ifndef MUTANT_GONE_AFTER_TAIL
  gone = known; /* SYNC[available.gone] */
#endif
  LOAD(me, OVER(d), over); /* SYNC[available.flags] */
#ifndef MUTANT_TAIL_BEFORE_FLAGS
  LOAD(me, TAIL(d), peer); /* SYNC[available.tail] */
#endif
#ifdef MUTANT_GONE_AFTER_TAIL
  gone = hungUp;
#endif
  assert(DISTANCE(peer, own) <= WINDOW);
  if
  :: peer != own -> now = DISTANCE(peer, own)
  :: peer == own && over == RESET -> now = IS_RESET
  :: peer == own && over == FIN -> now = IS_END
  :: peer == own && over == 0 && gone -> now = IS_RESET
  :: else -> now = NOTHING
  fi
}

/* --- stg.cc, page_ring.cc: waking ----------------------------------------------------------- */

inline notifyLoop(me, l, s, w) {
#ifdef MUTANT_SUMMARY_FIRST
  LOAD(me, SUMMARY(l), w);
  if
  :: (w & (1 << WORD_OF(s))) == 0 -> SET(me, SUMMARY(l), (1 << WORD_OF(s)))
  :: else
  fi;
#endif
  LOAD(me, BITS(l, WORD_OF(s)), w); /* SYNC[notify.bit] */
  if
  :: (w & BIT_OF(s)) == 0 -> SET(me, BITS(l, WORD_OF(s)), BIT_OF(s))
  :: else
  fi;
#ifndef MUTANT_SUMMARY_FIRST
  LOAD(me, SUMMARY(l), w); /* SYNC[notify.summary] */
  if
  :: (w & (1 << WORD_OF(s))) == 0 -> SET(me, SUMMARY(l), (1 << WORD_OF(s)))
  :: else
  fi;
#endif
#ifndef MUTANT_NO_NOTIFY_FENCE
  FENCE(me); /* SYNC[notify.fence] */
#endif
  LOAD(me, SLEEP(l), w);
  if
  :: w == 0
  :: else ->
#ifdef MUTANT_BELL_WITHOUT_EXCHANGE
    STORE(me, SLEEP(l), 0);
    assert(mayBeRung[l]);
#else
    atomic {
      EXCHANGE(me, SLEEP(l), 0, w); /* SYNC[notify.sleep] */
      assert(w == 0 || mayBeRung[l])
    }
#endif
    if
    :: w == 0
    :: else -> atomic { FENCE(me); bell[l] = 1 } /* SYNC[notify.bell] */
    fi
  fi;
  w = 0
}

inline wake(me, word, l, s, w) {
  EXCHANGE(me, word, 0, w); /* SYNC[wake.word] */
  if
  :: w == THREAD -> atomic { FENCE(me); asleep[word] = 0 } /* SYNC[wake.futex] */
  :: w == LOOP -> notifyLoop(me, l, s, w) /* SYNC[wake.loop] */
  :: else
  fi;
  w = 0
}

inline publishTail(me, d, units, own, l, s, w) {
  own = (own + units) % WRAP;
#ifdef MUTANT_WAITER_BEFORE_CURSOR
  LOAD(me, CONSUMER_WAIT(d), w);
#endif
  atomic {
    STORE(me, TAIL(d), own); /* SYNC[publish.tail] */
    produced[d] = own
  };
#ifndef MUTANT_NO_TAIL_FENCE
  FENCE(me); /* SYNC[publish.tail-fence] */
#endif
#ifndef MUTANT_WAITER_BEFORE_CURSOR
  LOAD(me, CONSUMER_WAIT(d), w); /* SYNC[publish.consumer-wait] */
#endif
  if
  :: w != 0 -> wake(me, CONSUMER_WAIT(d), l, s, w)
  :: else
  fi;
  w = 0
}

inline publishHead(me, d, units, own, peer, l, s, w) {
  own = (own + units) % WRAP;
  STORE(me, HEAD(d), own); /* SYNC[publish.head] */
#ifndef MUTANT_NO_HEAD_FENCE
  FENCE(me); /* SYNC[publish.head-fence] */
#endif
  LOAD(me, PRODUCER_WAIT(d), w); /* SYNC[publish.producer-wait] */
  if
  :: w != 0 && DISTANCE(peer, own) <= WAKE_USED -> wake(me, PRODUCER_WAIT(d), l, s, w)
  /* looksForRoom: a guess whether the loop is awake, so either may be */
  :: w == LOOP && DISTANCE(peer, own) > WAKE_USED -> wake(me, PRODUCER_WAIT(d), l, s, w)
  :: w == LOOP && DISTANCE(peer, own) > WAKE_USED -> skip
  :: else
  fi;
  w = 0
}

/* finish and abort of the producer: after the last tail. */
inline endTail(me, d, how, l, s, w) {
  STORE(me, OVER(d), how); /* SYNC[finish.flag] SYNC[abort.flag] */
#ifndef MUTANT_NO_END_FENCE
  FENCE(me); /* SYNC[finish.fence] SYNC[abort.fence] */
#endif
  LOAD(me, CONSUMER_WAIT(d), w);
  if
  :: w != 0 -> wake(me, CONSUMER_WAIT(d), l, s, w) /* SYNC[finish.wake] SYNC[abort.wake] */
  :: else
  fi;
  w = 0
}

inline closeReading(me, d, l, s, w) {
  STORE(me, CLOSED(d), 1); /* SYNC[close.flag] */
#ifndef MUTANT_NO_CLOSE_FENCE
  FENCE(me); /* SYNC[close.fence] */
#endif
  LOAD(me, PRODUCER_WAIT(d), w);
  if
  :: w != 0 -> wake(me, PRODUCER_WAIT(d), l, s, w) /* SYNC[close.wake] */
  :: else
  fi;
  w = 0
}

/* --- page_ring.cc: waiting ------------------------------------------------------------------ */

inline futexWait(me, word) {
  atomic {
    FENCE(me); /* a system call */
    if
    :: m[word] == THREAD -> asleep[word] = 1
    :: else
    fi
  };
  asleep[word] == 0
}

inline armProducer(me, d, own, peer, now, w) {
  EXCHANGE(me, PRODUCER_WAIT(d), LOOP, w); /* SYNC[arm.word] */
#ifndef MUTANT_NO_ARM_FENCE
  FENCE(me); /* SYNC[arm.fence] */
#endif
#ifdef MUTANT_NO_ARM_LOOK
  now = NOTHING;
#else
  room(me, d, own, peer, now); /* SYNC[arm.look] */
#endif
  if
  :: now != NOTHING -> STORE(me, PRODUCER_WAIT(d), 0) /* SYNC[arm.disarm] */
  :: else
  fi;
  w = 0
}

inline armConsumer(me, d, own, peer, now, w, over, gone) {
  EXCHANGE(me, CONSUMER_WAIT(d), LOOP, w);
#ifndef MUTANT_NO_ARM_FENCE
  FENCE(me);
#endif
#ifdef MUTANT_NO_ARM_LOOK
  now = NOTHING;
#else
  available(me, d, own, peer, now, over, gone);
#endif
  if
  :: now != NOTHING -> STORE(me, CONSUMER_WAIT(d), 0)
  :: else
  fi;
  w = 0
}

inline waitProducer(me, d, need, own, peer, now, w) {
  room(me, d, own, peer, now);
  if
  :: now >= need
  :: else ->
    EXCHANGE(me, PRODUCER_WAIT(d), THREAD, w); /* SYNC[wait.word] */
#ifndef MUTANT_NO_WAIT_FENCE
    FENCE(me); /* SYNC[wait.fence] */
#endif
#ifdef MUTANT_NO_WAIT_LOOK
    now = NOTHING;
#else
    room(me, d, own, peer, now); /* SYNC[wait.look] */
#endif
    w = 0;
#ifndef MUTANT_WAITS_FOR_ALL
    if
    :: now > 0 && now < need -> LOAD(me, CONSUMER_WAIT(d), w) /* SYNC[wait.use-some] */
    :: else
    fi;
#endif
    if
    :: now < need && w == 0 ->
      futexWait(me, PRODUCER_WAIT(d)); /* SYNC[wait.sleep] */
      room(me, d, own, peer, now)
    :: else
    fi;
    w = 0;
    STORE(me, PRODUCER_WAIT(d), 0) /* SYNC[wait.disarm] */
  fi
}

/* page_exchange.cc: ended */
inline ended(me, d, now, over) {
  LOAD(me, OVER(d), over);
  now = (over != 0 || known -> now : NOTHING)
}

/* `now` is less than `want`, but more will not come: it will do. */
inline restWillDo(me, d, want, now, over) {
  if
  :: now > NOTHING && now < want -> ended(me, d, now, over) /* SYNC[wait.rest] */
  :: now == NOTHING || now >= want
  fi
}

inline waitConsumer(me, d, want, own, peer, now, w, over, gone, l, s) {
  available(me, d, own, peer, now, over, gone);
  if
  :: now >= want
  :: else ->
#ifdef MUTANT_TELL_ROOM_EARLY
    LOAD(me, PRODUCER_WAIT(d), w);
    if
    :: w != 0 -> wake(me, PRODUCER_WAIT(d), l, s, w)
    :: else
    fi;
#endif
    EXCHANGE(me, CONSUMER_WAIT(d), THREAD, w);
#ifndef MUTANT_NO_WAIT_FENCE
    FENCE(me);
#endif
#ifdef MUTANT_NO_WAIT_LOOK
    now = NOTHING;
#else
    available(me, d, own, peer, now, over, gone);
#ifdef MUTANT_WAITS_AFTER_THE_END
    now = (now < want -> NOTHING : now);
#else
    restWillDo(me, d, want, now, over);
#endif
#endif
    w = 0;
    if
    :: now == NOTHING ->
#ifndef MUTANT_TELL_ROOM_EARLY
      LOAD(me, PRODUCER_WAIT(d), w);
      if
      :: w != 0 -> wake(me, PRODUCER_WAIT(d), l, s, w) /* SYNC[wait.tell-room] */
      :: else
      fi;
#endif
      futexWait(me, CONSUMER_WAIT(d));
      available(me, d, own, peer, now, over, gone);
      restWillDo(me, d, want, now, over)
    :: else
    fi;
    w = 0;
    STORE(me, CONSUMER_WAIT(d), 0)
  fi
}

/* --- what programs do with it --------------------------------------------------------------- */

/* As much as there is, or one unit: programs read and write any length. */
inline someOf(now) {
  if
  :: now > 1 -> now = 1
  :: skip
  fi
}

/* page_ring.cc: write, in a thread that blocks */
inline produceInThread(me, d, l, s, own, peer, left, now, w, need) {
  do
  :: left == 0 -> break
  :: else ->
    d_step {
      need = (left < PAGE -> left : PAGE);
      now = WINDOW - DISTANCE(own, peer)
    };
    if
    :: now < need -> room(me, d, own, peer, now)
    :: else
    fi;
    if
    :: now < need -> waitProducer(me, d, need, own, peer, now, w)
    :: else
    fi;
    if
    :: now == IS_CLOSED -> left = 0
    :: now == NOTHING /* the slice is over: JavaScript calls again */
    :: else ->
      now = (left < now -> left : now);
      someOf(now);
      left = left - now;
      publishTail(me, d, now, own, l, s, w)
    fi
  od
}

/* stp-socket.ts: #pump */
inline pump(me, d, l, s, own, peer, left, now, w) {
  do
  :: left == 0 -> break
  :: else ->
    now = WINDOW - DISTANCE(own, peer);
    if
    :: now == 0 -> room(me, d, own, peer, now)
    :: else
    fi;
    if
    :: now == NOTHING -> armProducer(me, d, own, peer, now, w);
      if
      :: now == NOTHING -> break
      :: else
      fi
    :: else
    fi;
    if
    :: now == IS_CLOSED -> left = 0
    :: else ->
      now = (left < now -> left : now);
      someOf(now);
      left = left - now;
      publishTail(me, d, now, own, l, s, w)
    fi
  od
}

/* What a consumer makes of `now`: reads, or finds the end. Everything published comes first. */
inline take(me, d, own, peer, now, open, l, s, w) {
  if
  :: now == IS_END || now == IS_RESET ->
    assert(own == produced[d]);
    open = 0
  :: else ->
    someOf(now);
    publishHead(me, d, now, own, peer, l, s, w)
#ifdef FAN_IN
    ;
    open = (own != (START + UNITS) % WRAP) /* which its programs know */
#endif
  fi
}

/* stp-socket.ts: #readSome */
inline readSome(me, d, l, s, own, peer, open, now, w, over, gone) {
  do
  :: !open -> break
#if ENDING == CLOSE
  :: open -> closeReading(me, d, l, s, w); open = 0
#endif
  :: open ->
    available(me, d, own, peer, now, over, gone);
    if
    :: now == NOTHING -> armConsumer(me, d, own, peer, now, w, over, gone)
    :: else
    fi;
    if
    :: now == NOTHING -> break
    :: else -> take(me, d, own, peer, now, open, l, s, w)
    fi
  od
}

/* --- event_loop.cc --------------------------------------------------------------------------- */

inline ready(me, work) { LOAD(me, SUMMARY(me), work) } /* SYNC[loop.ready] */

/* beforePoll, libuv's poll, and the part of afterPoll that takes the sleep word back. */
inline sleepUntilWoken(me, work, w) {
  ready(me, work);
  if
  :: work != 0 -> bell[me] = 0 /* a poll that does not block takes a bell that is there */
  :: else ->
#ifdef MUTANT_SLEEP_WORD_LATE
    ready(me, work);
#endif
    mayBeRung[me] = 1;
    EXCHANGE(me, SLEEP(me), 1, w); /* SYNC[loop.sleep] */
#ifndef MUTANT_NO_SLEEP_FENCE
    FENCE(me); /* SYNC[loop.sleep-fence] */
#endif
#if !defined(MUTANT_SLEEP_WORD_LATE) && !defined(MUTANT_NO_SLEEP_LOOK)
    ready(me, work); /* SYNC[loop.sleep-look] */
#endif
    if
    :: work != 0 -> bell[me] = 0
    :: else ->
      atomic {
        FENCE(me); /* a system call */
        bell[me] || (hungUp && !known);
        bell[me] = 0;
        if
        :: hungUp -> known = 1 /* onCable: its end-of-file */
        :: else
        fi
      }
    fi;
#ifndef MUTANT_NO_AWAKE
    LOAD(me, SLEEP(me), w);
    if
    :: w != 0 -> EXCHANGE(me, SLEEP(me), 0, w) /* SYNC[loop.awake] */
    :: else
    fi;
    FENCE(me); /* SYNC[loop.awake-fence] */
#endif
    mayBeRung[me] = 0
  fi;
  w = 0
}

/* `called`: a bit for each stream whose handler runs. */
inline collectWord(me, word, above, set, called) {
  if
  :: (above & (1 << word)) != 0 ->
    EXCHANGE(me, BITS(me, word), 0, set); /* SYNC[collect.bits] */
    called = called | (set << word);
    set = 0
  :: else
  fi
}

inline collect(me, above, set, called) {
  called = 0;
  LOAD(me, SUMMARY(me), above);
  if
  :: above != 0 ->
#ifdef MUTANT_BITS_BEFORE_SUMMARY
    collectWord(me, 0, above, set, called);
#endif
    EXCHANGE(me, SUMMARY(me), 0, above); /* SYNC[collect.summary] */
#ifndef MUTANT_BITS_BEFORE_SUMMARY
    collectWord(me, 0, above, set, called);
#ifdef FAN_IN
    collectWord(me, 1, above, set, called);
#endif
#endif
    above = 0
  :: else
  fi
}

#ifdef LIVELY
/* Not only is nobody stuck: nobody is busy for ever either. */
ltl ends { <> (comeToEnd == 2) }
#endif

/* --- the parties ------------------------------------------------------------------------------- */

#ifdef STREAM

#define OVER_BY (ENDING == RESET -> RESET : FIN)

#if PRODUCER == THREAD
proctype Producer() {
  byte own = START, peer = START, left = UNITS, now, w, need;
#if ENDING == DEATH
  {
    produceInThread(0, 0, 1, 0, own, peer, left, now, w, need);
    false
  } unless {
    dead
  }
#else
  produceInThread(0, 0, 1, 0, own, peer, left, now, w, need);
  endTail(0, 0, OVER_BY, 1, 0, w);
  comeToEnd++
#endif
}
#else
inline producerTurns(own, peer, left, now, w, above, set, called) {
  do
  :: pump(0, 0, 1, 0, own, peer, left, now, w);
    if
    :: left == 0 -> break
    :: else
    fi;
    sleepUntilWoken(0, now, w);
    collect(0, above, set, called)
  od
}

proctype Producer() {
  byte own = START, peer = START, left = UNITS, now, w, above, set, called;
#if ENDING == DEATH
  {
    producerTurns(own, peer, left, now, w, above, set, called);
    false
  } unless {
    dead
  }
#else
  producerTurns(own, peer, left, now, w, above, set, called);
  endTail(0, 0, OVER_BY, 1, 0, w);
  comeToEnd++
#endif
}
#endif

#if CONSUMER == THREAD
/* page_ring.cc: read, and page_exchange.cc: takePage, which wants all up to the end of the page */
proctype Consumer() {
  byte own = START, peer = START, now, w, over, want;
  bit open = 1, gone;
  do
  :: !open -> break
#if ENDING == CLOSE
  :: open -> closeReading(1, 0, 0, 0, w); open = 0
#endif
  :: open ->
#ifdef WHOLE_PAGES
    want = PAGE - (own - START + WRAP) % PAGE;
#else
    want = 1;
#endif
    now = DISTANCE(peer, own);
    if
    :: now < want -> waitConsumer(1, 0, want, own, peer, now, w, over, gone, 0, 0)
    :: else
    fi;
    if
    :: now == NOTHING /* the slice is over: JavaScript calls again */
    :: else ->
#ifdef WHOLE_PAGES
      now = (now <= WINDOW && now > want -> want : now);
#endif
      take(1, 0, own, peer, now, open, 0, 0, w)
    fi
  od;
  comeToEnd++
}
#else
proctype Consumer() {
  byte own = START, peer = START, now, w, over, above, set, called;
  bit open = 1, gone;
  do
  :: readSome(1, 0, 0, 0, own, peer, open, now, w, over, gone);
    if
    :: !open -> break
    :: else
    fi;
    sleepUntilWoken(1, now, w);
    collect(1, above, set, called)
  od;
  comeToEnd++
}
#endif

#if ENDING == DEATH
/* The producer's host is killed at any moment; its descriptors close when its last thread is gone,
 * and what its stores were is seen by then. The director then aborts for it. */
proctype Director() {
  byte w;
  dead = 1;
  atomic { bufferWord[0] == 0; hungUp = 1 };
  STORE(2, OVER(0), RESET); /* SYNC[director-abort.flags] */
  FENCE(2); /* SYNC[director-abort.fence] */
  EXCHANGE(2, CONSUMER_WAIT(0), 0, w); /* SYNC[director-abort.wait] */
  /* Whatever the word said: who exchanged it may have died before it woke anybody. */
#ifdef MUTANT_ABORT_TRUSTS_THE_WORD
  if
  :: w == THREAD -> atomic { FENCE(2); asleep[CONSUMER_WAIT(0)] = 0 }
  :: else
  fi;
#else
  atomic { FENCE(2); asleep[CONSUMER_WAIT(0)] = 0 }; /* SYNC[director-abort.futex] */
#endif
#if CONSUMER == LOOP
  notifyLoop(2, 1, 0, w) /* SYNC[director-abort.notify] */
#endif
}
#endif

init {
  atomic {
    m[TAIL(0)] = START;
    m[HEAD(0)] = START;
    produced[0] = START;
    run Producer();
    run Consumer();
#if ENDING == DEATH
    run Director();
#endif
  }
}
#endif

#ifdef DUPLEX
proctype Party(byte self) {
  byte ownOut = START, peerOut = START, ownIn = START, peerIn = START;
  byte left = UNITS, now, w, over, above, set, called;
  bit open = 1, sending = 1, gone;
  do
  :: pump(self, self, (1 - self), 0, ownOut, peerOut, left, now, w);
    if
    :: left == 0 && sending -> endTail(self, self, FIN, (1 - self), 0, w); sending = 0
    :: else
    fi;
    readSome(self, (1 - self), (1 - self), 0, ownIn, peerIn, open, now, w, over, gone);
    if
    :: !open && !sending -> break
    :: else
    fi;
    sleepUntilWoken(self, now, w);
    collect(self, above, set, called)
  od;
  comeToEnd++
}

init {
  atomic {
    m[TAIL(0)] = START;
    m[HEAD(0)] = START;
    m[TAIL(1)] = START;
    m[HEAD(1)] = START;
    produced[0] = START;
    produced[1] = START;
    run Party(0);
    run Party(1)
  }
}
#endif

#ifdef FAN_IN
proctype Producer(byte self) {
  byte own = START, peer = START, left = UNITS, now, w, need;
  produceInThread(self, (self - 1), 0, (self - 1), own, peer, left, now, w, need)
}

proctype Consumer() {
  byte own[2] = START, peer[2] = START, now, w, over, above, set, called;
  bit open[2] = 1, gone;
  called = 3;
  do
  :: if
    :: called & 1 -> readSome(0, 0, 0, 0, own[0], peer[0], open[0], now, w, over, gone)
    :: else
    fi;
    if
    :: called & (BIT_OF(1) << WORD_OF(1)) ->
      readSome(0, 1, 0, 0, own[1], peer[1], open[1], now, w, over, gone)
    :: else
    fi;
    if
    :: !open[0] && !open[1] -> break
    :: else
    fi;
    sleepUntilWoken(0, now, w);
    collect(0, above, set, called)
  od
}

init {
  atomic {
    m[TAIL(0)] = START;
    m[HEAD(0)] = START;
    m[TAIL(1)] = START;
    m[HEAD(1)] = START;
    produced[0] = START;
    produced[1] = START;
    run Consumer();
    run Producer(1);
    run Producer(2)
  }
}
#endif
