/* One order of locks for everybody: lanes ascending, counts by ascending city, active rows. Nobody waits for ever.
 *
 * Three patches of any two lanes and any cities each, and a recount, which has a lane below all others.
 */
#define LANES 4

byte lane[LANES + 1], city[2], active_rows;  /* who holds it; lane 0 is the recounts' */

inline take(lock) { atomic { lock == 0 -> lock = _pid } }
inline release(lock) { lock = (lock == _pid -> 0 : lock) }

inline commit() {
    d_step {
        release(lane[0]); release(lane[1]); release(lane[2]); release(lane[3]); release(lane[4]);
        release(city[0]); release(city[1]); release(active_rows)
    }
}

proctype patch(bool is_first) {
    byte first, second, cities;
    if
    :: first = 1; second = 2
    :: first = 2; second = 3
    :: first = 3; second = 4
    fi;
    if :: cities = 1 :: cities = 2 :: cities = 3 fi;
#ifdef LANES_DESCENDING
    if
    :: is_first -> take(lane[second]); take(lane[first])
    :: else -> take(lane[first]); take(lane[second])
    fi;
#else
    take(lane[first]); take(lane[second]);
#endif
#ifdef COUNTS_IN_ANY_ORDER
    if :: is_first && cities == 3 -> take(city[1]) :: else fi;
#endif
    if :: cities & 1 -> if :: city[0] == _pid :: else -> take(city[0]) fi :: else fi;
    if :: cities & 2 -> if :: city[1] == _pid :: else -> take(city[1]) fi :: else fi;
    take(active_rows);
    commit()
}

proctype recount() {
    take(lane[0]);
    take(lane[1]); take(lane[4]);
    take(city[0]); take(city[1]);
    take(active_rows);
    commit()
}

init {
    bool nobody_waits_for_ever;
    atomic { run patch(true); run patch(false); run patch(false); run recount() }
    timeout;
    nobody_waits_for_ever = (_nr_pr == 1);
    assert(nobody_waits_for_ever)
}
