/*
 * The lock of a memory board: native/stg.cc, BoardLock. Each SYNC label names the line there.
 *
 * Time is left out: wherever a thief has seen one word twice, "it stood still for 10 ms" may be
 * true, so an owner that is only slow is stolen from as well. What an owner does after it was
 * stolen from (it was stopped and goes on copying) is allowed: its page has one owner anyway.
 *
 * Shown: of those that believe to hold the lock, all but one have been stolen from; only the owner
 * frees it, never one that was stolen from, and never one that went on without it; a thief takes
 * the very hold that it has watched; an owner that died keeps nobody from coming to an end.
 *
 * Parties 0 and 1 are two threads of one host, party 2 is another host: a thread, or with -DLOOP an
 * event loop, which does not wait but comes back. -DDEATH: party 0 may die while it holds the lock.
 * -DIMPATIENT: a thread may go on without the lock, as it does after 50 ms.
 * The lock is changed by exchanges only, so store buffers have no part in it.
 */
#define PARTIES 3
#ifndef ROUNDS
#define ROUNDS 2
#endif

/* A word tells who holds, and which of its holds it is: no two holds ever have the same. */
#ifdef MUTANT_THREADS_SHARE_WORDS
#define TAG(p) (p == 2)
#else
#define TAG(p) p
#endif
#ifdef MUTANT_ONE_GENERATION
#define WORD(p, round) (1 + TAG(p) * 4)
#else
#define WORD(p, round) (1 + TAG(p) * 4 + round)
#endif

#define NOBODY 9

byte lock;

/* For the assertions only. */
byte owner = NOBODY;      /* who took the lock last, if it is not free */
byte holds[PARTIES];      /* how often each has taken it */
bit inside[PARTIES];      /* believes to hold it */
bit stolen[PARTIES];      /* was stolen from since */
bit without[PARTIES];     /* goes on without it */

#define RIGHTLY(p) (inside[p] && !stolen[p] && !without[p])

inline taken(me) {
  assert(!RIGHTLY(0) && !RIGHTLY(1) && !RIGHTLY(2));
  owner = me;
  holds[me]++;
  inside[me] = 1;
  stolen[me] = 0;
  without[me] = 0
}

inline tryFree(me, word, done) {
  atomic { /* SYNC[lock.take] */
    if
    :: lock == 0 ->
      lock = word;
      taken(me);
      done = 1
    :: else
    fi
  }
}

/* `suspect` has stood there since `since` (which hold that was: for the assertion). */
inline steal(me, word, suspect, since, done) {
#ifdef MUTANT_STEAL_WITHOUT_COMPARING
  lock == suspect;
#endif
  atomic { /* SYNC[lock.steal] */
    if
#ifdef MUTANT_STEAL_WITHOUT_COMPARING
    :: true ->
#else
    :: lock == suspect ->
#endif
      assert(owner != NOBODY && holds[owner] == since);
      stolen[owner] = 1;
      lock = word;
      taken(me);
      done = 1
    :: else
    fi
  }
}

inline suspectAnew(suspect, since, seen) {
  suspect = seen;
  since = (owner == NOBODY -> 0 : holds[owner])
}

inline unlock(me, word) {
  atomic { /* SYNC[lock.release] */
    if
#ifdef MUTANT_UNLOCK_BY_STORE
    :: true ->
#else
    :: lock == word ->
#endif
      assert(owner == me && RIGHTLY(me));
      lock = 0;
      owner = NOBODY
#ifndef MUTANT_UNLOCK_BY_STORE
    :: else -> assert(stolen[me] || without[me])
#endif
    fi;
    inside[me] = 0
  }
}

/* A thread waits; an event loop has given up in between and comes back with what it suspected. */
proctype Party(byte me) {
  byte round, word, seen, suspect, since;
  bit done;
  do
  :: round == ROUNDS -> break
  :: else ->
    word = WORD(me, round);
    done = 0;
    tryFree(me, word, done);
    do
    :: done -> break
    :: else ->
      atomic { /* SYNC[lock.look] */
        seen = lock;
        if
        :: seen != 0 && seen != suspect ->
          suspectAnew(suspect, since, seen) /* SYNC[lock.suspect] */
        :: else
        fi
      };
      if
      :: seen == 0 -> tryFree(me, word, done)
      :: else ->
        if
        :: lock != seen /* it waits until something happens there, */
#ifndef MUTANT_NO_STEALING
        :: steal(me, word, suspect, since, done) /* or 10 ms pass */
#endif
#ifdef LOOP
        :: me == 2 -> /* SYNC[lock.give-up] */
          tryFree(me, word, done) /* its next turn */
#endif
#ifdef IMPATIENT
        :: me != 2 -> /* SYNC[lock.go-on] */
          atomic {
            inside[me] = 1;
            without[me] = 1;
            done = 1
          }
#endif
        fi
      fi
    od;
    suspect = 0;
    since = 0;
#ifdef DEATH
    if
    :: me == 0 -> goto died
    :: skip
    fi;
#endif
    unlock(me, word);
    round++
  od;
died:
  skip
}

init {
  atomic {
    run Party(0);
    run Party(1);
    run Party(2)
  }
}
