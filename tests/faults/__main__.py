"""Run a campaign of faults, then lose a primary: `python -m tests.faults --seed 7 --minutes 20`."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

from tests.faults import campaign, failover, faults
from tests.faults.world import World


def main() -> int:
    """0 when nothing was lost or wrong, 1 when something was, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats a schedule; one is drawn when none is given")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults come (default: 10)")
    parser.add_argument(
        "--kinds",
        default="",
        help="only kinds that begin with these words, separated by commas; no primary is lost then",
    )
    parser.add_argument(
        "--tasks", action="store_true", help="start rebuilds and replays as well; they mend what is lost"
    )
    parser.add_argument("--clients", type=int, default=3, help="who write and read over HTTP (default: 3)")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for data and logs, which stays")
    wishes = parser.parse_args()
    kinds = faults.chosen(wishes.kinds)
    if not kinds:
        parser.error(
            f"no kind begins with {wishes.kinds!r}; there are: {', '.join(fault.name for fault in faults.KINDS)}"
        )
    seed = random.SystemRandom().randrange(10**6) if wishes.seed is None else wishes.seed
    print(f"seed {seed}: {wishes.minutes:g} minutes of {len(kinds)} kinds of faults", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, World(wishes.keep or Path(scratch)) as world:
        report = campaign.run(
            world, campaign.Plan(seed, wishes.minutes, kinds, wishes.tasks, clients=wishes.clients), tell
        )
    show(report)
    codes = [] if wishes.kinds else [failover.play(failover.Plan(is_synchronous)) for is_synchronous in (True, False)]
    return 1 if report.complaints or any(codes) else 0


def tell(line: str) -> None:
    """One line about one fault, at once."""
    print(line, flush=True)


def show(report: campaign.Report) -> None:
    """Print it for a person."""
    print(f"\n{'fault':<24}{'times':>6}{'median s':>10}{'longest s':>11}")
    for kind in sorted({*report.faults, *report.recoveries}):
        times = report.recoveries.get(kind, [])
        numbers = f"{statistics.median(times):>10.1f}{max(times):>11.1f}" if times else f"{'-':>10}{'-':>11}"
        print(f"{kind:<24}{report.faults.get(kind, len(times)):>6}{numbers}")
    print(
        f"\nseed {report.seed}, {report.seconds / 60:.1f} minutes,"
        f" {report.faults.total()} faults, {report.kills} of them kills\n"
        f"feed: {report.lines:,} lines applied, its import was interrupted {report.interruptions} times\n"
        f"transactions that stayed open: {report.open_rows:,} rows committed\n"
        f"API: {dict(sorted(report.answers.items()))}, {len(report.slow_answers)} of them late"
    )
    told = f"{report.operations:,} operations, {report.fresh_reads:,} of them fresh reads"
    print(f"clients: {told}, {len(report.impossible)} reads that could not have been")
    for late in report.slow_answers:
        print(f"  {late}")
    if report.runs:
        print("runs:", ", ".join(f"{name} {number}" for name, number in sorted(report.runs.items())))
    for failure in report.failures:
        print(f"  {failure}")
    print(
        f"{report.events:,} events, {report.repeated:,} of them more than once, drained in {report.drain_seconds:.1f} s"
    )
    print(f"{report.audited:,} rows compared by the auditor, {len(report.called_wrong)} times something called wrong")
    print(f"{len(report.violations)} tables wrong, {report.lost} events lost")
    for complaint in report.complaints:
        print(f"  {complaint}")


if __name__ == "__main__":
    sys.exit(main())
