"""Run a hostile campaign: `python -m tests.hostile --seed 7 --minutes 10`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.hostile import campaign
from tests.hostile.siege import Siege

FRESH_SECONDS: Final = 1.0  # p99 of good events
MEMORY: Final = 1.5  # times the usual
SHOWN: Final = 60  # complaints


def main() -> int:
    """0 when nothing broke, 1 when something did, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats a campaign; one is drawn when none is given")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it is hostile (default: 10)")
    parser.add_argument("--kinds", default="", help=f"only these, separated by commas, of {', '.join(campaign.KINDS)}")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for data and logs, which stays")
    wishes = parser.parse_args()
    kinds = tuple(kind.strip() for kind in wishes.kinds.split(",") if kind.strip()) or campaign.KINDS
    if unknown := set(kinds) - set(campaign.KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are: {', '.join(campaign.KINDS)}")
    seed = random.SystemRandom().randrange(10**6) if wishes.seed is None else wishes.seed
    print(f"seed {seed}: {wishes.minutes:g} minutes of {', '.join(kinds)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch, Siege(wishes.keep or Path(scratch)) as siege:
        report = campaign.run(siege, campaign.Plan(seed, wishes.minutes * 60, kinds=kinds))
        return show(report)


def show(report: campaign.Report) -> int:
    """Print it for a person; the exit code."""
    print("\n".join(["", f"{'sent':<48}{'times':>7}  what became of it", *report.tally.lines(), ""]))
    print("dead letters:", ", ".join(f"{queue} {number}" for queue, number in report.letters.most_common()))
    print(f"answers to those who mean well: {dict(sorted(report.answers.items()))}")
    print(f"killed: {dict(report.kills)}; started again: {dict(report.starts)}")
    print(f"from commit to cache as usual:  {report.usual_probes}")
    print(f"while it was hostile:           {report.probes}")
    print(f"  but for what was kept away:   {report.calm_probes}")
    print(f"    and {campaign.CATCHING_UP_SECONDS:g} s of catching up:    {report.later_probes}")
    for name, usual in sorted(report.usual.items()):
        most = report.most[name]
        print(
            f"memory of {name}: {usual / 2**20:.0f} MiB as usual, {most / 2**20:.0f} at most ({most / usual:.2f} times)"
        )
    print(f"{report.events:,} events, drained in {report.drain_seconds:.1f} s")
    complaints = [*report.complaints, *over_target(report)]
    print(f"{len(complaints)} complaints", *complaints[:SHOWN], sep="\n  ")
    return 1 if complaints else 0


def over_target(report: campaign.Report) -> list[str]:
    """Figures that are worse than they are to be."""
    found = [
        f"{name} takes {report.most[name] / usual:.2f} times its usual memory"
        for name, usual in report.usual.items()
        if report.most[name] > MEMORY * usual
    ]
    if report.calm_probes.p99 > FRESH_SECONDS:
        found.append(f"p99 of good events is {report.calm_probes.p99:.2f} s")
    return found


if __name__ == "__main__":
    sys.exit(main())
