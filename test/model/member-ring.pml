/*
 * How a host and its director wake each other over the member ring: src/memory/member-ring.ts,
 * wordWake of native/stg.cc, native/event_loop.cc, and what src/socket/host.ts and
 * src/director/channel-director.ts do where a ring is full. Each SYNC label names the line there.
 *
 * The host sends commands; the director answers each with an event; both are event loops. The safety
 * timers are left out. Shown: every command is answered, however full the rings are.
 */
#define PARTIES 2
#define HOST 0
#define DIRECTOR 1
/* Entries of each ring, and commands a turn. */
#define ENTRIES 2
#define PER_TURN 1
#ifndef COMMANDS
#define COMMANDS 4
#endif
#define WRAP 8
#define DISTANCE(a, b) ((a + WRAP - b) % WRAP)

/* Ring 0: commands, which the host writes; ring 1: events. Party p writes ring p, reads 1 - p. */
#define TAIL(ring) (1 + ring * 2)
#define HEAD(ring) (2 + ring * 2)
#define SLEEP(p) (5 + p)
#define WORDS 7

#include "memory.pml"

bit bell[2];
bit mayBeRung[2];

/* stg.cc: wordWake */
inline wordWake(me, word, w) {
#ifndef MUTANT_NO_WAKE_FENCE
  FENCE(me); /* SYNC[word-wake.fence] */
#endif
  LOAD(me, SLEEP((1 - me)), w);
  if
  :: w == 0
  :: else ->
    atomic {
      EXCHANGE(me, SLEEP((1 - me)), 0, w); /* SYNC[word-wake.sleep] */
      assert(w == 0 || mayBeRung[1 - me])
    };
    if
    :: w == 0
    :: else -> atomic { FENCE(me); bell[1 - me] = 1 } /* SYNC[word-wake.bell] */
    fi
  fi;
  w = 0
}

/* member-ring.ts: writeCommand, writeEvent. The entry itself goes before the tail. */
inline writeEntry(me, own, w, written) {
  LOAD(me, HEAD(me), w); /* SYNC[ring.head] */
  if
  :: DISTANCE(own, w) == ENTRIES -> written = 0
  :: else ->
    written = 1;
    own = (own + 1) % WRAP;
    STORE(me, TAIL(me), own) /* SYNC[ring.tail] */
  fi;
  w = 0
}

/* member-ring.ts: readCommand, readEvent */
inline readEntry(me, own, w, found) {
  LOAD(me, TAIL((1 - me)), w); /* SYNC[ring.look] */
  if
  :: w == own -> found = 0
  :: else ->
    found = 1;
    own = (own + 1) % WRAP;
    STORE(me, HEAD((1 - me)), own) /* SYNC[ring.taken] */
  fi;
  w = 0
}

/* event_loop.cc: `seen` is ringSeen. `later`: JavaScript has something for the next turn, so libuv
 * does not block. */
inline turn(me, seen, later, w) {
  LOAD(me, TAIL((1 - me)), w); /* SYNC[loop.ring] */
  if
  :: w != seen -> bell[me] = 0
  :: else ->
    mayBeRung[me] = 1;
    EXCHANGE(me, SLEEP(me), 1, w);
#ifndef MUTANT_NO_SLEEP_FENCE
    FENCE(me);
#endif
#ifdef MUTANT_NO_SLEEP_LOOK
    w = seen;
#else
    LOAD(me, TAIL((1 - me)), w);
#endif
    if
    :: w != seen || later -> bell[me] = 0
    :: else -> atomic { FENCE(me); bell[me]; bell[me] = 0 }
    fi;
    LOAD(me, SLEEP(me), w);
    if
    :: w != 0 -> EXCHANGE(me, SLEEP(me), 0, w)
    :: else
    fi;
    FENCE(me);
    mayBeRung[me] = 0
  fi;
  LOAD(me, TAIL((1 - me)), seen); /* SYNC[collect.ring] */
  w = 0
}

proctype Host() {
  byte own, read, seen, w, unsent = COMMANDS, answers;
  bit done;
  do
  :: answers == COMMANDS -> break
  :: else ->
    /* host.ts: #write, #writeUnsent */
    do
    :: unsent == 0 -> break
    :: else ->
      writeEntry(HOST, own, w, done);
      if
      :: done -> unsent--
      :: else -> break
      fi
    od;
    wordWake(HOST, 0, w);
    /* #onEvents: all there are */
    do
    :: readEntry(HOST, read, w, done);
      if
      :: done -> answers++
      :: else -> break
      fi
    od;
    done = 0;
    if
    :: answers == COMMANDS -> break
    :: else
    fi;
    turn(HOST, seen, (unsent > 0), w) /* setImmediate */
  od
}

proctype Director() {
  byte own, read, seen, w, handled, overflow;
  bit done, more;
  do
  :: handled == COMMANDS && overflow == 0 -> break
  :: else ->
    /* channel-director.ts: #onCommands */
    readEntry(DIRECTOR, read, w, more);
    if
    :: more -> handled++; overflow++
    :: else
    fi;
    /* #send, #retryOverflow */
    do
    :: overflow == 0 -> break
    :: else ->
      writeEntry(DIRECTOR, own, w, done);
      if
      :: done -> overflow--
      :: else -> break
      fi
    od;
    wordWake(DIRECTOR, 0, w);
    done = 0;
    if
    :: handled == COMMANDS && overflow == 0 -> break
    :: else
    fi;
#ifdef MUTANT_DIRECTOR_FORGETS_THE_REST
    turn(DIRECTOR, seen, (overflow > 0), w)
#else
    turn(DIRECTOR, seen, (more || overflow > 0), w)
#endif
  od
}

init {
  atomic {
    run Host();
    run Director()
  }
}
