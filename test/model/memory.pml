/*
 * Shared words as a machine with store buffers has them, for the models of this folder.
 *
 * Each party has a buffer of one store. A store becomes visible to the others when the buffer is
 * drained, at any later moment; the party itself sees it at once; a fence waits until it is drained.
 * An exchange reads memory and keeps everybody else's writes off the word from then on, but what it
 * writes goes through the buffer too: loads that follow it may be done before others see it. That is
 * weaker than x86, where an exchange is a full barrier, and as weak as ARM's. A release store and a
 * sequentially consistent store that a relaxed load follows are both plain STOREs here.
 *
 * The including model defines PARTIES (2 to 4) and WORDS.
 */
byte m[WORDS];
byte bufferWord[PARTIES];
byte bufferValue[PARTIES];
bit bufferHeld[PARTIES];

#define HELD_BY(p, w) (bufferHeld[p] && bufferWord[p] == w)
#if PARTIES == 2
#define HELD(w) (HELD_BY(0, w) || HELD_BY(1, w))
#elif PARTIES == 3
#define HELD(w) (HELD_BY(0, w) || HELD_BY(1, w) || HELD_BY(2, w))
#else
#define HELD(w) (HELD_BY(0, w) || HELD_BY(1, w) || HELD_BY(2, w) || HELD_BY(3, w))
#endif

/* Word 0 is no word: an empty buffer. */
inline STORE(party, word_, new_) {
  atomic {
    bufferWord[party] == 0;
    bufferWord[party] = word_;
    bufferValue[party] = new_
  }
}

inline LOAD(party, word_, into_) {
  d_step {
    if
    :: bufferWord[party] == word_ -> into_ = bufferValue[party]
    :: else -> into_ = m[word_]
    fi
  }
}

inline EXCHANGE(party, word_, new_, old_) {
  atomic {
    bufferWord[party] == 0 && !HELD(word_);
    old_ = m[word_];
    bufferWord[party] = word_;
    bufferValue[party] = new_;
    bufferHeld[party] = 1
  }
}

/* fetch_or */
inline SET(party, word_, bits_) {
  atomic {
    bufferWord[party] == 0 && !HELD(word_);
    bufferWord[party] = word_;
    bufferValue[party] = m[word_] | bits_;
    bufferHeld[party] = 1
  }
}

inline COMPARE_EXCHANGE(party, word_, expected_, new_, done_) {
  atomic {
    bufferWord[party] == 0 && !HELD(word_);
    if
    :: m[word_] == expected_ ->
      done_ = 1;
      bufferWord[party] = word_;
      bufferValue[party] = new_;
      bufferHeld[party] = 1
    :: else -> done_ = 0
    fi
  }
}

inline FENCE(party) { bufferWord[party] == 0 }

#define DRAIN(p) \
  :: atomic { \
    bufferWord[p] != 0 && (bufferHeld[p] || !HELD(bufferWord[p])); \
    m[bufferWord[p]] = bufferValue[p]; \
    bufferWord[p] = 0; \
    bufferValue[p] = 0; \
    bufferHeld[p] = 0 \
  }

active proctype Buffers() {
end:
  do
  DRAIN(0)
  DRAIN(1)
#if PARTIES > 2
  DRAIN(2)
#endif
#if PARTIES > 3
  DRAIN(3)
#endif
  od
}
