"""`citycache bench [--quick] [--json] [NAMES…]`, which is also `python -m benchmarks.suite`."""

from __future__ import annotations

import json
import sys

import click


@click.command("bench", short_help="Measure how fast this machine runs all of it, beside the peers.")
@click.argument("names", nargs=-1, metavar="[NAMES]...")
@click.option("--quick", is_flag=True, help="Small and short, to see that it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as one JSON document as well.")
def bench_command(names: tuple[str, ...], quick: bool, as_json: bool) -> None:
    """Run the benchmarks NAMES, or all: throughput cost freshness fresh reads adopted writes rebuild city replay
    imports memory growth audit rest.

    Servers of their own are started for it. Needs a rabbitmq-server and the packages of requirements-dev.lock.
    Results go to benchmarks/results: a JSON file each, results.md and results.svg.
    """
    from benchmarks import report, suite

    if unknown := sorted(set(names) - set(suite.NAMES)):
        raise click.BadParameter(f"no benchmark is called {', '.join(unknown)}", param_hint="NAMES")
    tables = suite.run(names, quick)
    if as_json:
        click.echo(json.dumps([table.as_dict() for table in tables], default=str))
    click.echo(f"written to {report.RESULTS}")
    sys.exit(1 if any(table.skipped.startswith("it failed") for table in tables) else 0)
