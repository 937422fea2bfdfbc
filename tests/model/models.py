"""Which instances of the models are checked, and the mistakes that they must find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.model.spin import Instance

SMALL: Final = (  # seconds altogether: a part of the tests
    Instance("floor", ("RAISES=2",)),
    Instance("relay", ("FAULTS=1",)),
    Instance("patch", ("REPETITIONS=0", "DEATHS=1")),
    Instance("patch", ("REBUILD", "REPETITIONS=0", "DEATHS=0")),
    Instance("wide"),
    Instance("runs", ("REQUESTS=2", "DEATHS=1")),
    Instance("counts", ("CLEARING",)),
    Instance("judge", ("WRITES=1",)),
)
LARGE: Final = (  # minutes
    Instance("floor"),
    Instance("relay"),
    Instance("lanes"),
    Instance("patch", ("REPETITIONS=2", "DEATHS=2")),
    Instance("patch", ("TWO_COMPANIES", "REPETITIONS=2", "DEATHS=2")),
    Instance("patch", ("REBUILD",)),
    Instance("wide", ("MOVES=3", "DEATHS=3")),
    Instance("runs", ("REQUESTS=8", "DEATHS=0")),
    Instance("runs"),
    Instance("counts", ("ONE_RECOUNT",)),
    Instance("counts"),
    Instance("counts", ("CLEARING",)),
    Instance("judge"),
    Instance("judge", ("WRITES=3", "DEATHS=0")),
)


@dataclass(frozen=True)
class Mistake:
    """A way of being wrong that somebody could take for right."""

    instance: Instance
    breaks: str  # the promise that it breaks first
    meaning: str


LITTLE: Final = ("REPETITIONS=0", "DEATHS=0")
MISTAKES: Final = (
    Mistake(
        Instance("patch", (*LITTLE, "REPEATABLE_READ")),
        "caches_equal_the_truth",
        "patches at REPEATABLE READ: the snapshot is older than the lock",
    ),
    Mistake(
        Instance("patch", (*LITTLE, "READ_BEFORE_LOCK")),
        "counts_equal_mappings",
        "truth and mappings are read before the lanes are taken",
    ),
    Mistake(
        Instance("patch", (*LITTLE, "FANOUT_IN_THE_TRIGGER")),
        "caches_equal_the_truth",
        "capture names a company's products, instead of the patch",
    ),
    Mistake(
        Instance("patch", (*LITTLE, "REBUILD", "REBUILD_WRITES_ITS_DIFF")),
        "counts_equal_mappings",
        "a rebuild writes what its diff has read",
    ),
    Mistake(
        Instance("relay", ("DELETE_BEFORE_CONFIRM",)),
        "every_committed_event_is_patched",
        "outbox rows are deleted before the broker has confirmed",
    ),
    Mistake(
        Instance("relay", ("ACKNOWLEDGE_BEFORE_COMMIT",)),
        "every_committed_event_is_patched",
        "events are acknowledged before their patch is committed",
    ),
    Mistake(
        Instance("relay", ("RETENTION_ON_THE_QUEUE",)),
        "every_committed_event_is_patched",
        "retention is set for the queue as well as for the log",
    ),
    Mistake(
        Instance("floor", ("FLOOR_BY_LAST_SEEN",)),
        "no_row_appears_below_the_floor",
        "the floor is the last id that was seen",
    ),
    Mistake(
        Instance("floor", ("FLOOR_BY_XMAX",)),
        "no_row_appears_below_the_floor",
        "the floor's proof takes pg_snapshot_xmax, before it reads the sequence",
    ),
    Mistake(
        Instance("floor", ("NUMBER_BEFORE_ID",)),
        "no_row_appears_below_the_floor",
        "the floor's proof draws its number before it reads the sequence",
    ),
    Mistake(
        Instance("lanes", ("LANES_DESCENDING",)), "nobody_waits_for_ever", "one of the patches takes lanes descending"
    ),
    Mistake(
        Instance("lanes", ("COUNTS_IN_ANY_ORDER",)), "nobody_waits_for_ever", "counts are locked in the order of moves"
    ),
    Mistake(
        Instance("counts", ("RECOUNT_TWICE",)),
        "counts_move_with_the_mappings",
        "two recounts at once, each adds the difference",
    ),
    Mistake(
        Instance("counts", ("CLEARING", "RECOUNT_BESIDE_CLEARING")),
        "counts_move_with_the_mappings",
        "a recount adds a difference of before a clearing",
    ),
    Mistake(
        Instance("counts", ("ONE_RECOUNT", "ROW_DECIDED_OUTSIDE_OF_ITS_LANE")),
        "rows_are_those_of_cities",
        "a recount makes a city's row without the city's lane",
    ),
    Mistake(
        Instance("counts", ("COUNTS_BY_A_PLAIN_INSERT",)),
        "counts_move_with_the_mappings",
        "a CTE decides between UPDATE and a plain INSERT, by a snapshot older than the lock",
    ),
    *(
        Mistake(Instance("wide", (macro,)), "caches_equal_the_truth", meaning)
        for macro, meaning in (
            ("ACKNOWLEDGE_BEFORE_REQUEST", "the event is acknowledged before its wide patch is a row"),
            ("REQUEST_KEEPS_THE_PLACE", "a new request does not begin anew"),
            ("ADVANCE_WITHOUT_GENERATION", "a chunk moves the place of a later request"),
            ("FINISH_WITHOUT_GENERATION", "the end of a wide patch takes a later request along"),
        )
    ),
    *(
        Mistake(Instance("runs", ("DEATHS=0", macro)), "every_request_is_worked_off", meaning)
        for macro, meaning in (
            ("LOOK_BEFORE_REQUEST", "a batch looks for a run before it has committed what it asks for"),
            ("LOOK_BEFORE_END", "a run looks for more before the ledger says that it has ended"),
            ("NO_LOOK_AFTER_END", "a run looks no more when it has ended"),
        )
    ),
    *(
        Mistake(Instance("judge", ("DEATHS=0", macro)), "late_is_not_called_wrong", meaning)
        for macro, meaning in (
            ("JUDGED_BESIDE_EARLIER_PATCHES", "keys are judged beside patches that had begun before"),
            ("TELLS_ONLY_WHAT_IT_CHANGES", "a patch tells what it changes, not what it looks at"),
            ("WRONG_AT_ONCE", "what has stood once is wrong"),
            ("HANDS_NOT_ASKED", "the pipeline has passed while a worker holds an older event"),
            ("WIDE_PATCHES_NOT_ASKED", "a wide patch that waits is not asked for"),
        )
    ),
)
