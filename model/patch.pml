/* The heart: writers with snapshots, capture, disorder and repetition, batches, lanes at READ COMMITTED, fan-out, rebuild.
 *
 * Two companies, two products, two cities (0: none). Each writer moves a company to a city or a product to a company, and
 * commits or rolls back. Keys 0 and 1 are products, 2 and 3 companies; each has a lane of its own, taken in that order.
 * A step is one statement: it reads what is committed then. What a patch has written is seen when it commits.
 */
#define product(n) (n)
#define company(n) (2 + (n))
#define bit(key) (1 << (key))
#ifndef REPETITIONS
#define REPETITIONS 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif

byte city_of[2] = 1, company_of[2];                 /* the catalog: of companies; of products */
byte cached[4] = 1, cached_company[2];              /* the mappings: city of each key, company of each product */
byte products_in[3], companies_in[3];               /* the counts, by city */
byte waiting[4];                                    /* events in outbox and queue, by key: in no order */
byte lane[4], row[4];                               /* who holds the key's lane; the catalog row's lock */
byte repetitions_left = REPETITIONS, deaths_left = DEATHS;

#define truth(key) (key < 2 -> city_of[company_of[key % 2]] : city_of[key - 2])

inline count(key, city, by) {
    if
    :: key < 2 -> products_in[city] = products_in[city] + by
    :: else -> companies_in[city] = companies_in[city] + by
    fi
}

inline captured(keys) {
    key = 0;
    do
    :: key < 4 -> waiting[key] = (((keys & bit(key)) && waiting[key] < 2) -> waiting[key] + 1 : waiting[key]); key++
    :: else -> break
    od;
    key = 0
}

inline products_of(the_company, keys) {
    keys = keys | ((company_of[0] == the_company || cached_company[0] == the_company) -> bit(0) : 0);
    keys = keys | ((company_of[1] == the_company || cached_company[1] == the_company) -> bit(1) : 0)
}

proctype writer(bool moves_company) {
    byte key, to, keys;
    if
    :: moves_company -> if :: key = company(0) :: key = company(1) fi; if :: to = 0 :: to = 1 :: to = 2 fi
    :: else -> if :: key = product(0) :: key = product(1) fi; if :: to = 0 :: to = 1 fi
    fi;
    atomic {                                         /* the statement: takes the row's lock, and captures */
        row[key] == 0 -> row[key] = _pid;
        keys = bit(key);
#ifdef FANOUT_IN_THE_TRIGGER
        if :: moves_company -> products_of(key - 2, keys) :: else fi
#endif
    }
    if
    :: d_step {                                      /* commit */
           if :: moves_company -> city_of[key - 2] = to :: else -> company_of[key] = to fi;
           row[key] = 0; to = 0;
           captured(keys); keys = 0
       }
    :: d_step { row[key] = 0; key = 0; to = 0; keys = 0 }
    fi
}

/* One transaction: lanes ascending, then each noun's statement, then the counts by differences. */
inline lock_lanes(keys) {
    atomic {                                         /* until a lane is held by another one */
        key = 0;
        do
        :: key < 4 ->
           if
           :: !(keys & bit(key))
           :: (keys & bit(key)) && lane[key] == 0 -> lane[key] = _pid
           fi;
           key++
        :: else -> break
        od;
        key = 0
    }
}

inline unlock() {
    key = 0;
    do :: key < 4 -> lane[key] = (lane[key] == _pid -> 0 : lane[key]); key++ :: else -> break od;
    key = 0
}

inline read(first, last) {
    key = first;
    do
    :: key <= last ->
       if
       :: keys & bit(key) ->
          wanted[key] = truth(key); found[key] = cached[key];
          if :: key < 2 -> wanted_company[key] = company_of[key] :: else fi
       :: else
       fi;
       key++
    :: else -> break
    od;
    key = 0
}

inline write_and_commit() {
    key = 0;
    do
    :: key < 4 ->
       if
       :: keys & bit(key) ->
          if
          :: wanted[key] != found[key] -> count(key, found[key], -1); count(key, wanted[key], 1); cached[key] = wanted[key]
          :: else
          fi;
          if :: key < 2 -> cached_company[key] = wanted_company[key] :: else fi
       :: else
       fi;
       wanted[key] = 0; found[key] = 0;
       if :: key < 2 -> wanted_company[key] = 0 :: else fi;
       key++
    :: else -> break
    od;
    key = 0;
    counts_equal_mappings =
        products_in[1] == (cached[0] == 1) + (cached[1] == 1) && products_in[2] == (cached[0] == 2) + (cached[1] == 2) &&
        companies_in[1] == (cached[2] == 1) + (cached[3] == 1) && companies_in[2] == (cached[2] == 2) + (cached[3] == 2)
}

/* Under REPEATABLE READ a row that was changed since the snapshot fails the transaction, which is tried again. */
#define is_stale(key) ((keys & bit(key)) && wanted[key] != found[key] && found[key] != cached[key])
inline is_not_serializable(yes) {
    yes = (is_stale(0) || is_stale(1) || is_stale(2) || is_stale(3))
}

inline patch(keys) {
#if defined(READ_BEFORE_LOCK) || defined(REPEATABLE_READ)
    skip;
again:
    skip;
    d_step { read(0, 3) }                            /* the snapshot is older than the lock */
    lock_lanes(keys);
#else
    lock_lanes(keys);
    if :: keys & 12 -> d_step { read(2, 3) } :: else fi;
    if :: keys & 3 -> d_step { read(0, 1) } :: else fi;
#endif
#ifdef REPEATABLE_READ
    is_not_serializable(fails);
    if :: fails -> d_step { fails = false; unlock() } goto again :: else fi;
#endif
}

proctype worker() {
    byte keys, taken, key, wanted[4], found[4], wanted_company[2];
    bool fails, counts_equal_mappings;
end_take:
    do
    :: atomic {
           waiting[0] || waiting[1] || waiting[2] || waiting[3];
           do                                        /* a batch: at least one of the keys that wait */
           :: waiting[0] && !(taken & 1) -> taken = taken | 1
           :: waiting[1] && !(taken & 2) -> taken = taken | 2
           :: waiting[2] && !(taken & 4) -> taken = taken | 4
           :: waiting[3] && !(taken & 8) -> taken = taken | 8
           :: taken -> break
           od;
           do :: key < 4 -> if :: taken & bit(key) -> waiting[key]-- :: else fi; key++ :: else -> break od;
           key = 0; keys = taken
       }
       if
       :: atomic { repetitions_left > 0 -> repetitions_left--; captured(taken) }  /* the broker gives it out twice */
       :: skip
       fi;
#ifndef FANOUT_IN_THE_TRIGGER
       if
       :: taken & 12 -> d_step {                     /* the plan: products are read before their lanes are taken */
              if :: taken & 4 -> products_of(0, keys) :: else fi;
              if :: taken & 8 -> products_of(1, keys) :: else fi
          }
       :: else
       fi;
#endif
       patch(keys);
       if
       :: d_step { write_and_commit(); unlock(); taken = 0; keys = 0 }
          assert(counts_equal_mappings)
       :: d_step {                                   /* killed: nothing was acknowledged, all of it comes again */
              deaths_left > 0 -> deaths_left--;
              unlock(); captured(taken); taken = 0; keys = 0;
              wanted[0] = 0; wanted[1] = 0; wanted[2] = 0; wanted[3] = 0;
              found[0] = 0; found[1] = 0; found[2] = 0; found[3] = 0; wanted_company[0] = 0; wanted_company[1] = 0
          }
       fi
    od
}

#ifdef REBUILD
/* The diff names keys in one snapshot; each is looked at again under its lane, a chunk a transaction. */
proctype rebuild() {
    byte keys, differing, chunk, key, wanted[4], found[4], wanted_company[2];
    bool fails, counts_equal_mappings;
    d_step {
        do
        :: key < 4 ->
           if
           :: truth(key) != cached[key] -> differing = differing | bit(key)
           :: else
           fi;
           key++
        :: else -> break
        od;
        key = 0;
#ifdef REBUILD_WRITES_ITS_DIFF
        keys = differing;
        read(0, 3);
        keys = 0
#endif
    }
    do
    :: differing ->
       chunk = (differing & 3 -> 3 : 12);
       keys = differing & chunk; differing = differing & ~chunk;
#ifdef REBUILD_WRITES_ITS_DIFF
       lock_lanes(keys);
#else
       patch(keys);
#endif
       d_step { write_and_commit(); unlock(); keys = 0; chunk = 0 }
       assert(counts_equal_mappings)
    :: !differing -> break
    od
}
#endif

init {
    byte key;
    bool caches_equal_the_truth;
    d_step {
        products_in[1] = 2; companies_in[1] = 2;
        company_of[1] = 1; cached_company[1] = 1
    }
    atomic {
        run writer(true);
#ifdef TWO_COMPANIES
        run writer(true);
#else
        run writer(false);
#endif
        run worker(); run worker()
#ifdef REBUILD
        ; run rebuild()
#endif
    }
    timeout;
    caches_equal_the_truth = (cached[0] == truth(0) && cached[1] == truth(1) && cached[2] == truth(2) && cached[3] == truth(3));
    assert(caches_equal_the_truth)
}
