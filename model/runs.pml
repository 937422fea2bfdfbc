/* Runs for wide patches: none waits without a run, and none is queued beside one that is there.
 *
 * Whoever asks for wide patches commits that, then looks: where the ledger has no run that has not ended, one is
 * announced there and queued. A run drains (wide.pml), is ended in the ledger, and then looks itself; beside one that
 * drains it is skipped. Whoever queues a run may die, and so may a run, whose message then comes back or is lost.
 * Without deaths there is no lifeline; with them it ends in the ledger what is lost, and looks.
 */
#ifndef REQUESTS
#define REQUESTS 4
#endif
#ifndef DEATHS
#define DEATHS 2
#endif

bool is_requested, is_draining;
byte in_ledger;            /* runs that have not ended there */
byte queued;               /* messages of runs */
byte lost;                 /* runs that have not ended in the ledger, and have neither a message nor somebody who works on them */
byte requests_left = REQUESTS, deaths_left = DEATHS;

inline dies() {
    d_step { deaths_left > 0 -> deaths_left-- }
}

inline queue() {
    in_ledger++;
    if
    :: queued++
    :: dies(); lost++
    fi
}

inline look() {
    if
    :: is_requested && in_ledger == 0 -> queue()
    :: else
    fi
}

proctype requester() {
    do
    :: atomic { requests_left > 0 -> requests_left-- }
#ifdef LOOK_BEFORE_REQUEST
       if
       :: in_ledger == 0 -> is_requested = true; queue()
       :: else -> is_requested = true
       fi
#else
       is_requested = true;
       if :: look() :: dies() fi
#endif
    :: requests_left == 0 -> break
    od
}

proctype child() {
end_take:
    do
    :: atomic { queued > 0 -> queued-- }
       if
       :: atomic { !is_draining -> is_draining = true }
          do
          :: is_requested -> is_requested = false
          :: !is_requested -> break
          :: dies();
             is_draining = false;
             if :: queued++ :: lost++ fi;
             goto end_take
          od;
          is_draining = false
       :: is_draining
       fi;
#ifdef LOOK_BEFORE_END
       look();
       in_ledger--
#else
       in_ledger--;
#ifndef NO_LOOK_AFTER_END
       if :: look() :: dies() fi
#endif
#endif
    od
}

proctype lifeline() {
end_watch:
    do
    :: atomic { lost > 0 -> lost--; in_ledger-- }
       look()
    :: is_requested && in_ledger == 0 -> look()
    od
}

init {
    bool every_request_is_worked_off;
    atomic {
        run requester(); run requester(); run child(); run child();
        if :: DEATHS > 0 -> run lifeline() :: else fi
    }
    timeout;
    every_request_is_worked_off = !is_requested;
    assert(every_request_is_worked_off)
}
