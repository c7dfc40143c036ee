"""Readings in, the hour's close, rating and export, on SQLite and on PostgreSQL, each in a process of its own; and what the collector
costs over containers that run.

The hour's close is the look just after a full hour: of each container the readings on both sides of it, and their records, from
decoded looks to the last commit; the spool is not in it (the collector's row has that).  What the schedule makes of it twenty minutes later
is a row of its own: the hour is added to the month's rating, however many hours are in that.
Of PostgreSQL's own processes no time is in "processor time".
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.api import Engine, Image
from tests import archives
from tests.bench import _ours
from tests.bench._report import Row, main, note
from tests.postgresql.cluster import cluster

GOAL_HOUR_S = 10.0
GOAL_EXPORT_MIB = 300.0
GOAL_COLLECTOR = 1.0
"""Percent of a core, for ``FULL_LOOKS`` containers, beyond the live sampling."""
FULL_LOOKS = 1000
STARTERS = 4
FULL_HOUR = 10_000
FULL_EXPORT = 1_000_000


def measure(quick: bool) -> list[Row]:
    containers, lines = (1000, 20_000) if quick else (FULL_HOUR, FULL_EXPORT)
    rows = _collector(100 if quick else FULL_LOOKS)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as home:
        rows += _rows("SQLite", containers, lines, {"SLIPWAY_HOME": home})
    with cluster() as made, tempfile.TemporaryDirectory(prefix="slipway-bench-") as home:
        rows += _rows("PostgreSQL", containers, lines, {"SLIPWAY_HOME": home, "SLIPWAY_TEST_DATABASE_URL": made.url()})
    return rows


def _rows(database: str, containers: int, lines: int, environment: dict[str, str]) -> list[Row]:
    note(f"{database}: {containers} containers, {lines} lines")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench._metering", str(containers), str(lines)],
        check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    found = json.loads(ran.stdout)
    full = containers == FULL_HOUR
    return [
        Row(f"{database}: a minute's look at {containers}", "s", found["minute"]),
        Row(f"{database}: the hour's close of {containers}", "s", found["hour"], goal=GOAL_HOUR_S if full else None, absolute=True),
        Row(f"{database}: of it this process's own processor time", "s", found["hour_cpu"]),
        Row(f"{database}: the rating carried on by that hour", "s", found["rated"], goal=GOAL_HOUR_S if full else None, absolute=True),
        Row(f"{database}: sums of a month of {lines} records", "s", found["page_sums"]),
        Row(f"{database}: the same, from the records alone", "s", found["page_unsummed"]),
        Row(f"{database}: their first page", "s", found["page_rows"]),
        Row(f"{database}: a day's sums made anew", "s", found["day_summed"]),
        Row(f"{database}: records stored", "1/s", found["records_a_second"]),
        Row(f"{database}: lines rated", "1/s", found["lines_a_second"]),
        Row(f"{database}: FOCUS rows exported as CSV", "1/s", found["csv_rows_a_second"]),
        Row(f"{database}: FOCUS rows exported as Parquet", "1/s", found["parquet_rows_a_second"]),
        Row(f"{database}: memory of an export of {lines}", "MiB", found["peak_mib"], goal=GOAL_EXPORT_MIB, absolute=True),
    ]  # fmt: skip


def _collector(count: int) -> list[Row]:
    """The database is SQLite.  The goal is in proportion to their number."""
    with tempfile.TemporaryDirectory() as folder, _ours.engine() as (engine, home):
        archive = archives.write(Path(folder) / "busybox.tar")
        image = engine.load(archive, reference=archives.REFERENCE)[0]
        note(f"{count} containers are started for the collector to look at")
        with ThreadPoolExecutor(STARTERS) as starters:
            list(starters.map(lambda number: _launch(engine, image, number), range(count)))
        place = {
            "SLIPWAY_HOME": str(home.root), "SLIPWAY_INSTANCE": home.instance, "SLIPWAY_SUBNETS": home.subnets,
            "SLIPWAY_UID_BASE": hex(home.uid_base),
        }  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-m", "tests.bench._collector"],
            check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **place},
        )  # fmt: skip
    found = json.loads(ran.stdout)
    share, goal = found["minutes"] + found["hours"], GOAL_COLLECTOR * count / FULL_LOOKS
    return [
        Row(f"the collector over {count} containers, beyond sampling", "% core", share, goal=goal, absolute=True),
        Row(f"of it what the looks at full hours cost, {count} containers", "% core", found["hours"]),
        Row(f"sampling {count} containers that nobody watches", "% core", found["sampling"]),
    ]  # fmt: skip


def _launch(engine: Engine, image: Image, number: int) -> None:
    id = f"d{number:05d}"
    engine.create(_ours.spec(id, image, "sleep", "100000", number=number))
    engine.start(id)


if __name__ == "__main__":
    sys.exit(main("metering", measure))
