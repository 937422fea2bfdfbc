/* Wide patches: a company with too many products for a batch is a row, worked off chunk by chunk.
 *
 * A writer moves the company twice. Workers request the wide patch in their transaction, before they acknowledge.
 * One drains at a time (a session lock); it may die at any step, and the next one goes on where it stood.
 */
#define PRODUCTS 2
#ifndef MOVES
#define MOVES 2
#endif
#ifndef DEATHS
#define DEATHS 2
#endif

byte truth, cached[PRODUCTS], events;      /* the company's city; each product's; events that wait */
bool is_requested;
byte generation, place;                    /* of the request; products before `place` are done */
byte flight, moves_left = MOVES, deaths_left = DEATHS;

proctype writer() {
    do
    :: atomic { moves_left > 0 -> moves_left--; truth++; events++ }
    :: moves_left == 0 -> break
    od
}

proctype worker() {
end_take:
    do
    :: atomic { events > 0 -> events-- }
#ifdef ACKNOWLEDGE_BEFORE_REQUEST
       if :: skip :: d_step { deaths_left > 0 -> deaths_left-- } goto end_take fi;
#else
       if :: skip :: d_step { deaths_left > 0 -> deaths_left--; events++ } goto end_take fi;
#endif
       d_step {
           if
           :: is_requested -> generation++
           :: else -> is_requested = true; generation = 1; place = 0
           fi;
#ifndef REQUEST_KEEPS_THE_PLACE
           place = 0
#endif
       }
       if :: skip :: d_step { deaths_left > 0 -> deaths_left--; events++ } fi  /* before the acknowledgement */
    od
}

proctype drain() {
    byte mine, after;
end_wait:
    do
    :: atomic { flight == 0 && is_requested -> flight = _pid }
       do
       :: atomic { is_requested -> mine = generation; after = place }
          do
          :: after < PRODUCTS ->
             cached[after] = truth;
             after++;
             if
             :: d_step {
#ifdef ADVANCE_WITHOUT_GENERATION
                    is_requested -> place = after
#else
                    is_requested && generation == mine -> place = after
#endif
                }
             :: !(is_requested && generation == mine)
             :: atomic { deaths_left > 0 -> deaths_left--; flight = 0; goto end_wait }
             fi
          :: else -> break
          od;
          atomic {
              if
#ifdef FINISH_WITHOUT_GENERATION
              :: is_requested -> is_requested = false
#else
              :: is_requested && generation == mine -> is_requested = false
#endif
              :: else
              fi
          }
       :: atomic { !is_requested -> flight = 0; break }
       od
    od
}

init {
    bool caches_equal_the_truth;
    atomic { run writer(); run worker(); run worker(); run drain(); run drain() }
    timeout;
    caches_equal_the_truth = (cached[0] == truth && cached[1] == truth);
    assert(caches_equal_the_truth)
}
