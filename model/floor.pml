/* The floor of the outbox: ids do not follow the order of commits, and still no row may be passed over.
 *
 * Writers draw a transaction number with their write and an outbox id with their capture, then commit or roll back.
 * The relay proves its floor as events/floor.py does, and claims above it.
 */
#define TRANSACTIONS 3
#ifndef RAISES
#define RAISES 3
#endif
#define NUMBERS 12

byte next_id = 1, next_number = 1, last_ended;  /* of the sequence; of transactions; the highest that has ended */
bool running[NUMBERS];
bool visible[TRANSACTIONS + 1];
byte writers_left = TRANSACTIONS, floor;

inline draw_number(number) { number = next_number; next_number++ }
inline end(number) { running[number] = false; last_ended = (number > last_ended -> number : last_ended) }

/* As the server makes a snapshot: `after` is one past the last transaction that has ENDED; running ones may be above. */
inline look_at_transactions(oldest, after) {
    after = last_ended + 1;
    oldest = 1;
    do
    :: oldest < after && !running[oldest] -> oldest++
    :: else -> break
    od
}

proctype writer() {
    byte number, id;
    bool no_row_appears_below_the_floor;
    d_step { draw_number(number); running[number] = true }
    d_step { id = next_id; next_id++ }
    if
    :: d_step { visible[id] = true; end(number); no_row_appears_below_the_floor = (id > floor); writers_left-- }
       assert(no_row_appears_below_the_floor)
    :: d_step { end(number); writers_left-- }
    fi
}

proctype relay() {
    byte last, number, oldest, after, lowest, row, raises;
    bool has_horizon, no_writers, claimed;
    do
    :: /* raise the floor */
       if
       :: has_horizon ->
          d_step {
              look_at_transactions(oldest, after);
              if
              :: oldest >= number ->
                 lowest = floor + 1;
                 do :: lowest <= last && !visible[lowest] -> lowest++ :: else -> break od;
                 floor = lowest - 1;
                 has_horizon = false
              :: else
              fi;
              oldest = 0; after = 0; lowest = 0
          }
       :: !has_horizon && raises < RAISES ->
          raises++;
#if defined(FLOOR_BY_XMAX)
          d_step { number = last_ended + 1 }
          d_step { last = next_id - 1 }
#elif defined(NUMBER_BEFORE_ID)
          d_step { draw_number(number); end(number) }
          d_step { last = next_id - 1 }
#else
          d_step { last = next_id - 1 }
          d_step { draw_number(number); end(number) }
#endif
          has_horizon = true
       :: !has_horizon
       fi;
       /* claim, publish and delete what is visible above it */
       d_step {
           no_writers = (writers_left == 0);
           claimed = false;
           row = floor + 1;
           do
           :: row <= TRANSACTIONS ->
              if
              :: visible[row] -> visible[row] = false; claimed = true
#ifdef FLOOR_BY_LAST_SEEN
                 ; floor = row
#endif
              :: else
              fi;
              row++
           :: else -> break
           od;
           row = 0
       }
       if
       :: no_writers && !claimed -> break
       :: else
       fi
    od
}

init {
    bool no_outbox_row_is_lost;
    atomic { run writer(); run writer(); run writer(); run relay() }
    timeout;
    no_outbox_row_is_lost = !(visible[1] || visible[2] || visible[3]);
    assert(no_outbox_row_is_lost)
}
