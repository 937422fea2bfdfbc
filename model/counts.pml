/* Counts move by differences; a city's row comes and goes; recounts and clearing beside it.
 *
 * One city with two products. Patches bring the mappings to what is wanted, each in the lane of its product. The city
 * comes and goes in the catalog; its event looks at its row in the city's lane. Recounts run beside them. At the
 * beginning the row may be wrong, or missing. Rows are locked until the commit, and what is uncommitted is seen by nobody.
 */
#define PRODUCTS 2

bool mapped[PRODUCTS], wanted[PRODUCTS];
bool exists = true, has_row = true;         /* the city in the catalog; its row of counts */
short counted, error;                       /* what the row says; how wrong it was at the beginning */
byte lane[PRODUCTS], city_lane, recount_lane, row;   /* who holds it; the lock of the row */
byte writing;                               /* transactions that have written a cache table */
bool exclusive, has_cleared, has_recounted;
byte city_events;

#define mappings (mapped[0] + mapped[1])

/* INSERT ... ON CONFLICT DO UPDATE: after the wait for the row's lock it meets the row as it is by then. */
inline move_counts(by) {
#ifdef COUNTS_BY_A_PLAIN_INSERT
    d_step { saw_row = has_row }                     /* a CTE decides by the statement's snapshot */
#endif
    atomic { row == 0 -> row = _pid; counts = (has_row -> counted : 0); made = !has_row }
#ifdef COUNTS_BY_A_PLAIN_INSERT
    d_step {
        if
        :: saw_row && made -> has_moved = false      /* UPDATE finds nothing */
        :: !saw_row && !made -> has_moved = false    /* INSERT ... ON CONFLICT DO NOTHING */
        :: else -> has_moved = true; counts = counts + by
        fi
    }
#else
    has_moved = true; counts = counts + by
#endif
}

/* DELETE where all are zero and the city is gone, by this statement's snapshot. */
inline drop_counts() { drops = (has_moved && counts == 0 && !exists) }

inline keep_counts() {
    if
    :: has_moved -> counted = (drops -> 0 : counts); has_row = !drops
    :: else
    fi;
    row = (row == _pid -> 0 : row); counts = 0; drops = false; made = false; has_moved = false;
    counts_move_with_the_mappings = (counted - mappings == error || counted == mappings)
}

proctype patch(byte product) {
    short by, counts;
    bool drops, made, has_moved, saw_row, counts_move_with_the_mappings;
    atomic { lane[product] == 0 -> lane[product] = _pid }
    atomic { !exclusive -> writing++; by = wanted[product] - mapped[product] }
    if
    :: by != 0 -> move_counts(by); drop_counts()
    :: else
    fi;
    d_step { mapped[product] = mapped[product] + by; keep_counts(); lane[product] = 0; writing--; by = 0 }
    assert(counts_move_with_the_mappings)
}

proctype city_writer() {
    d_step { exists = !exists; city_events++ }
    if :: d_step { exists = !exists; city_events++ } :: skip fi
}

proctype city_patch() {
    short counts;
    bool drops, made, has_moved, saw_row, is_counted, counts_move_with_the_mappings;
end_take:
    do
    :: atomic { city_events > 0 -> city_events-- }
       atomic { city_lane == 0 -> city_lane = _pid }
       is_counted = (exists || has_row);
       if
       :: is_counted -> atomic { !exclusive -> writing++ } move_counts(0); drop_counts(); d_step { keep_counts(); writing-- }
          assert(counts_move_with_the_mappings)
       :: else
       fi;
       city_lane = 0
    od
}

#define miscounts mappings - (has_row -> counted : 0)
#define is_uncounted (has_row != (exists || mappings > 0) || miscounts != 0)

proctype recount() {
    short by, counts;
    bool drops, made, has_moved, saw_row, differs, counts_move_with_the_mappings;
#if !defined(RECOUNT_TWICE) && !defined(RECOUNT_BESIDE_CLEARING)
    atomic { recount_lane == 0 -> recount_lane = _pid }
#endif
    atomic { differs = is_uncounted; by = miscounts }
    if
    :: differs ->
#if !defined(RECOUNT_TWICE) && !defined(ROW_DECIDED_OUTSIDE_OF_ITS_LANE)
       atomic { city_lane == 0 -> city_lane = _pid }
#endif
#if !defined(RECOUNT_TWICE) && !defined(ROW_DECIDED_OUTSIDE_OF_ITS_LANE)
       atomic { differs = is_uncounted; by = miscounts }     /* looks again, in the lane */
#endif
       if
       :: differs ->
          atomic { !exclusive -> writing++ }
          move_counts(by); drop_counts();
          d_step { keep_counts(); writing-- }
#ifndef CLEARING
          assert(counts_move_with_the_mappings)
#endif
       :: else
       fi
    :: else
    fi;
    d_step {
        city_lane = (city_lane == _pid -> 0 : city_lane);
        recount_lane = (recount_lane == _pid -> 0 : recount_lane);
        has_recounted = true; by = 0; differs = false
    }
}

proctype clearing() {
    atomic { recount_lane == 0 -> recount_lane = _pid }
    atomic { writing == 0 && !exclusive -> exclusive = true }
    d_step { mapped[0] = false; mapped[1] = false; has_row = false; counted = 0; error = 0; has_cleared = true; exclusive = false; recount_lane = 0 }
}

init {
    bool counts_equal_mappings, rows_are_those_of_cities;
    atomic {
        if :: mapped[0] = true :: mapped[0] = false fi;
        if
        :: error = 0; counted = mappings
        :: error = 1; counted = mappings + 1
        :: error = -mappings; has_row = false
        fi;
        if :: wanted[0] = true :: wanted[0] = false fi;
        if :: wanted[1] = true :: wanted[1] = false fi
    }
    atomic {
        run patch(0); run patch(1); run city_patch(); run recount();
#ifdef CLEARING
        run clearing()
#else
        run city_writer()
#ifndef ONE_RECOUNT
        ; run recount()
#endif
#endif
    }
    timeout;
    counts_equal_mappings = (counted == mappings);
    assert(counts_equal_mappings);
    rows_are_those_of_cities = (has_row == (exists || mappings > 0) || has_cleared);
    assert(rows_are_those_of_cities)
}
