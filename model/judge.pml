/* Judging: a product's row that differs is wrong, or late. Nobody makes a row wrong here, so none may be called wrong.
 *
 * A product, two companies, each in city 1 or in none. Writers move a company or give the product to the other one. Events
 * (0: of the product, 1 and 2: of the companies) are applied in no order, in batches, twice where a worker dies; those of a
 * company look for its products, or ask for a wide patch. Beside them somebody judges. An event is old if it was committed
 * before the judge's last instant; the pipeline has passed that when no old one waits, or is in a worker's hands.
 */
#ifndef WRITES
#define WRITES 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define WORKERS 2
#define NONE 2                                               /* the company of a product that has no row */
#define bit(event) (1 << (event))

byte city_of[2], company_of, cached, cached_company = NONE;  /* the catalog; the product's row */
byte waiting[3], waiting_old[3];                             /* events in outbox and queue */
byte hands[WORKERS], hands_old[WORKERS];                     /* those that workers have */
byte lane, wide, generation[2];                              /* who holds it; companies whose wide patches wait, as bits */
bool is_judged, is_told;                                     /* a judgement lasts; a patch has told it of the product */
byte writes_left = WRITES, deaths_left = DEATHS;

#define truth (city_of[company_of])
#define truth_company (truth -> company_of : NONE)

proctype writer() {
    do
    :: writes_left == 0 -> break
    :: d_step { writes_left > 0 -> writes_left--; city_of[0] = 1 - city_of[0]; waiting[1]++ }
    :: d_step { writes_left > 0 -> writes_left--; city_of[1] = 1 - city_of[1]; waiting[2]++ }
    :: d_step { writes_left > 0 -> writes_left--; company_of = 1 - company_of; waiting[0]++ }
    od
}

inline give_back() {
    event = 0;
    do
    :: event < 3 ->
       waiting[event] = waiting[event] + ((hands[me] & bit(event)) -> 1 : 0);
       waiting_old[event] = waiting_old[event] + ((hands_old[me] & bit(event)) -> 1 : 0);
       event++
    :: else -> break
    od;
    event = 0
}

inline look_and_tell() {                                     /* one statement, so one snapshot */
    wanted = truth; wanted_company = truth_company;
#ifdef TELLS_ONLY_WHAT_IT_CHANGES
    tells = is_judged && (wanted != cached || wanted_company != cached_company)
#else
    tells = is_judged
#endif
}

inline commit() {
    cached = wanted; cached_company = wanted_company; is_told = is_told || tells;
    lane = 0; wanted = 0; wanted_company = 0; tells = false
}

proctype worker(byte me) {
    byte event, asks, wanted, wanted_company;
    bool looks, tells;
end_take:
    do
    :: atomic {
           waiting[0] || waiting[1] || waiting[2] || waiting_old[0] || waiting_old[1] || waiting_old[2];
           do                                                /* a batch: at least one of those that wait */
           :: event < 3 ->
              if
              :: waiting[event] -> waiting[event]--; hands[me] = hands[me] | bit(event)
              :: waiting_old[event] -> waiting_old[event]--; hands_old[me] = hands_old[me] | bit(event)
              :: skip
              fi;
              event++
           :: else -> break
           od;
           event = 0
       }
       if
       :: hands[me] | hands_old[me] ->
          d_step { looks = (hands[me] | hands_old[me]) & bit(0) }
          do                                                 /* the plan, for each company of the batch */
          :: event < 2 && !((hands[me] | hands_old[me]) & bit(1 + event)) -> event++
          :: event < 2 && ((hands[me] | hands_old[me]) & bit(1 + event)) ->
             if
             :: d_step { looks = looks || company_of == event || cached_company == event }
             :: asks = asks | bit(event)
             fi;
             event++
          :: event == 2 -> event = 0; break
          od;
          if
          :: looks -> atomic { lane == 0 -> lane = 1 + me } d_step { look_and_tell() }
          :: else
          fi;
          if
          :: d_step {
                 if :: looks -> commit() :: else fi;
                 wide = wide | asks;
                 generation[0] = generation[0] + (asks & 1); generation[1] = generation[1] + (asks >> 1);
                 asks = 0; looks = false
             }
             if                                              /* acknowledged, or not */
             :: skip
             :: d_step { deaths_left > 0 -> deaths_left--; give_back() }
             fi
          :: d_step {
                 deaths_left > 0 -> deaths_left--;
                 lane = (lane == 1 + me -> 0 : lane);
                 asks = 0; looks = false; wanted = 0; wanted_company = 0; tells = false; give_back()
             }
          fi;
          d_step { hands[me] = 0; hands_old[me] = 0 }
       :: else
       fi
    od
}

proctype drain() {
    byte company, mine, wanted, wanted_company;
    bool tells;
end_wait:
    do
    :: atomic { wide & 1 -> company = 0; mine = generation[0] }
       goto work
    :: atomic { wide & 2 -> company = 1; mine = generation[1] }
work:  if
       :: atomic { (company_of == company || cached_company == company) && lane == 0 -> lane = 9 }
          d_step { look_and_tell() }
          d_step { commit() }
       :: company_of != company && cached_company != company
       fi;
       d_step {
           wide = (generation[company] == mine -> wide & ~bit(company) : wide);
           company = 0; mine = 0
       }
    od
}

inline instant() {                                           /* all that is committed, and not applied, is old */
    event = 0;
    do
    :: event < 3 -> waiting_old[event] = waiting_old[event] + waiting[event]; waiting[event] = 0; event++
    :: else -> break
    od;
    event = 0;
    hands_old[0] = hands_old[0] | hands[0]; hands[0] = 0;
    hands_old[1] = hands_old[1] | hands[1]; hands[1] = 0
}

#define none_waits (!waiting_old[0] && !waiting_old[1] && !waiting_old[2])
#ifdef HANDS_NOT_ASKED
#define has_passed none_waits
#else
#define has_passed (none_waits && !hands_old[0] && !hands_old[1])
#endif
#ifdef WIDE_PATCHES_NOT_ASKED
#define still_stands (!is_told)
#else
#define still_stands (!is_told && !wide)
#endif

proctype judge() {
    byte event;
    bool stands, late_is_not_called_wrong = true;
    is_judged = true;
#ifndef JUDGED_BESIDE_EARLIER_PATCHES
    lane == 0;                                               /* it is passed: those that had it have ended */
#endif
    d_step { stands = (truth != cached || truth_company != cached_company); instant() }
    if
    :: stands -> has_passed; d_step { stands = still_stands; instant() }
    :: else
    fi;
#ifndef WRONG_AT_ONCE
    if
    :: stands -> has_passed; d_step { stands = still_stands; instant() }
    :: else
    fi;
#endif
    late_is_not_called_wrong = !stands;
    assert(late_is_not_called_wrong);
    is_judged = false
}

init {
    bool caches_equal_the_truth;
    atomic { city_of[1] = 1; run writer(); run worker(0); run worker(1); run drain(); run judge() }
    timeout;
    caches_equal_the_truth = (cached == truth && cached_company == truth_company);
    assert(caches_equal_the_truth)
}
