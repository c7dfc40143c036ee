"""What the collector costs over containers that run, in a process of its own: ``python -m tests.bench._collector`` prints JSON.

The process does a minute of the agent's live sampling, as for tenants that nobody watches, with the collector's look and without;
the difference in its CPU time is the collector's.  To that comes what a full hour costs more: two looks that are stored.
The database's own process is not in it.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

from runtime.api import Engine
from runtime.engines import open_engine
from runtime.home import Home
from tests.bench import _ours

if TYPE_CHECKING:
    from console.metering.observations import Observation

ROUNDS = 5
SAMPLES, LISTS = 6, 12
"""A minute of ``console.live.agent.sampling``."""
HOUR_US = 3_600_000_000
AROUND_AN_HOUR_US = (-500_000, 50_000)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    if "sqlite" in settings.DATABASES["default"]["ENGINE"]:
        Path(settings.DATABASES["default"]["NAME"]).parent.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    home = Home.from_environment()
    print(json.dumps(_figures(open_engine("native", home), home)))


def _figures(engine: Engine, home: Home) -> dict[str, float]:
    """Percents of a core."""
    from console.metering.collector import Collector

    _rows([one.id for one in engine.list()])
    collector = Collector(engine, home.state)

    def live() -> None:
        for number in range(LISTS):
            running = [one.id for one in engine.list()]
            if number % (LISTS // SAMPLES) == 0:
                engine.counters(running, live=True)

    def look() -> None:
        collector.collect()
        collector.deliver()

    def both() -> None:
        live()
        look()

    look()  # begins the epochs and opens the files
    minutes = [(_cpu_s(live), _cpu_s(both)) for _ in range(ROUNDS)]
    sampling = statistics.median(without for without, _ in minutes)
    hours = [_cpu_s(_hour(engine, home, number)) for number in range(ROUNDS)]
    return {
        "sampling": sampling / 60 * 100,
        "minutes": (statistics.median(beside for _, beside in minutes) - sampling) / 60 * 100,
        "hours": statistics.median(hours) / 3600 * 100,
    }


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _hour(engine: Engine, home: Home, number: int) -> Callable[[], None]:
    """Spooling and taking in the looks around a full hour, each a look at now that is placed there."""
    from console.metering import services
    from console.metering.collector import Collector
    from console.metering.observations import Observation, decode, encode
    from console.metering.spool import Spool

    folder = home.state / f"bench-{number}"
    Collector(engine, folder).collect()
    spool, found = Spool(folder / "spool"), list[Observation]()

    def take(some: list[dict[str, Any]]) -> None:
        services.take(one for one in map(decode, some) if isinstance(one, Observation))

    spool.drain(lambda some: found.extend(one for one in map(decode, some) if isinstance(one, Observation)))

    def work() -> None:
        for into_us in AROUND_AN_HOUR_US:
            spool.append([encode(_placed(one, number, into_us)) for one in found])
            spool.drain(take)

    return work


def _placed(one: Observation, number: int, into_us: int) -> Observation:
    """By the ``number``th full hour after it."""
    at_us = (one.at_us // HOUR_US + 1 + number) * HOUR_US + into_us
    return replace(one, at_us=at_us, ns=one.ns + (at_us - one.at_us) * 1000)


def _rows(ids: list[str]) -> None:
    from console.accounts.models import Tenant
    from console.workloads.models import Container

    tenants = {id: _ours.tenant(int(id[1:])) for id in ids}
    Tenant.objects.bulk_create(Tenant(id=name, slug=name, name=name) for name in dict.fromkeys(tenants.values()))
    Container.objects.bulk_create(
        Container(id=id, tenant_id=tenant, node="bench", name=id, image_reference="x", memory_bytes=1 << 26, cpu_millis=1000)
        for id, tenant in tenants.items()
    )  # fmt: skip


if __name__ == "__main__":
    main()
