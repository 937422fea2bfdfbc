/* From the outbox to the patch, at least once.
 *
 * Two relays, of which one leads by a session lock; the server may end a leader's session while it still publishes.
 * Relays and workers die at any step. The broker returns messages, repeats them, and gives them out in any order.
 * The log forgets what is old at any time; nothing but a replay reads it.
 */
#define EVENTS 2
#ifndef FAULTS
#define FAULTS 2
#endif

bool in_outbox[EVENTS], committed[EVENTS], patched[EVENTS], acknowledged[EVENTS];
byte ready[EVENTS];                       /* messages in the queue */
bool has_been_queued[EVENTS], in_log[EVENTS], has_been_logged[EVENTS];
byte leader, faults_left = FAULTS;        /* 0: nobody leads */

#define all(what) (what[0] && what[1])

proctype writer(byte event) {
    if
    :: d_step { committed[event] = true; in_outbox[event] = true }
    :: skip  /* rolled back: neither change nor event */
    fi
}

proctype relay(byte me) {
    byte event;
    bool is_confirmed, the_broker_has_what_is_deleted;
follow:
end_follow:
    atomic { leader == 0 -> leader = me }
end_lead:
    if
    :: leader != me -> goto follow  /* found the connection closed */
    :: atomic { leader == me && in_outbox[0] -> event = 0 }
    :: atomic { leader == me && in_outbox[1] -> event = 1 }
    fi;
#ifdef DELETE_BEFORE_CONFIRM
    in_outbox[event] = false;
#endif
    is_confirmed = false;
    if
    :: d_step {
           ready[event] < 2 -> ready[event]++;
           has_been_queued[event] = true; in_log[event] = true; has_been_logged[event] = true
       }
       if
       :: is_confirmed = true
       :: d_step { faults_left > 0 -> faults_left-- }      /* the confirm is lost */
       fi
    :: ready[event] == 2 -> is_confirmed = true            /* enough repetitions of it are under way */
    :: d_step { faults_left > 0 -> faults_left-- }         /* returned, or refused */
    :: d_step { faults_left > 0 -> faults_left--; leader = (leader == me -> 0 : leader) } goto follow  /* killed, or suspended too long */
    fi;
    if
    :: is_confirmed ->
       if
       :: d_step { leader == me ->
              the_broker_has_what_is_deleted = has_been_queued[event] && has_been_logged[event];
              in_outbox[event] = false
          }
          assert(the_broker_has_what_is_deleted)  /* in queue and log */
       :: leader != me      /* the delete fails: its connection is gone */
       :: d_step { faults_left > 0 -> faults_left--; leader = (leader == me -> 0 : leader) }
       fi
    :: else
    fi;
    goto end_lead
}

proctype worker() {
    byte event;
    bool no_event_is_acknowledged_without_its_patch;
end_take:
    do
    :: atomic {
           if
           :: ready[0] > 0 -> event = 0
           :: ready[1] > 0 -> event = 1
           fi;
           ready[event]--
       }
#ifdef ACKNOWLEDGE_BEFORE_COMMIT
       acknowledged[event] = true;
#endif
       if
       :: patched[event] = true
       :: d_step { faults_left > 0 -> faults_left-- }      /* killed: it returns to the queue, unless acknowledged */
          if
          :: d_step { !acknowledged[event] -> ready[event]++ }
          :: acknowledged[event]
          fi;
          goto end_take
       fi;
       no_event_is_acknowledged_without_its_patch = patched[event];
       assert(no_event_is_acknowledged_without_its_patch);
       if
       :: acknowledged[event] = true
       :: d_step { faults_left > 0 -> faults_left--; ready[event]++ }  /* killed before: it comes again */
       fi
    od
}

proctype retention() {
end_retention:
    do
    :: in_log[0] -> in_log[0] = false
    :: in_log[1] -> in_log[1] = false
#ifdef RETENTION_ON_THE_QUEUE
    :: d_step { ready[0] > 0 -> ready[0]-- }
#endif
    od
}

init {
    bool every_committed_event_is_patched, the_outbox_is_empty;
    atomic {
        run writer(0); run writer(1); run relay(1); run relay(2); run worker(); run worker(); run retention()
    }
    timeout;
    every_committed_event_is_patched = (!committed[0] || patched[0]) && (!committed[1] || patched[1]);
    the_outbox_is_empty = !in_outbox[0] && !in_outbox[1];
    assert(every_committed_event_is_patched);
    assert(the_outbox_is_empty)
}
